"use strict";
// The tables of tables.py and lists.py under the same names, and the page around them. Titles and ids are data: they reach the page as
// text alone (`textContent`). All sums go in the order of the Python functions, so that lists agree with theirs to the last bit.

const LIST = 10, POOL = 100, FOUND = 12, ON_GRID = 12, ALIKE = 5, LIKED = 4, LEAST_SPEAKING = 3;
const TYPES = {int8: Int8Array, uint16: Uint16Array, uint32: Uint32Array, float32: Float32Array, float64: Float64Array};

/* Data */

function unpack(packed) {
  const text = atob(packed.base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new TYPES[packed.type](bytes.buffer);
}

const unpackAll = (object) =>
  Object.fromEntries(Object.entries(object).map(([name, value]) => [name, value && value.base64 !== undefined ? unpack(value) : value]));

const payload = JSON.parse(document.getElementById("payload").textContent);
const films = unpackAll(payload.films);
const nFilms = films.titles.length;
const models = payload.models.map((each) => (each.ridge ? folded(unpackAll(each)) : summed(unpackAll(each))));
const vectors = models.find((model) => model.ridge);
const facts = payload.facts.map(unpackAll);
const users = payload.users && unpackAll(payload.users);

/* Scores, as in tables.py */

function summed(model) {
  model.addRow = (item, total) => {
    const {values, scales, starts, columns} = model, scale = scales[item];
    if (!starts) for (let i = 0, at = item * nFilms; i < nFilms; i++) total[i] += values[at + i] * scale;
    else for (let at = starts[item]; at < starts[item + 1]; at++) total[columns[at]] += values[at] * scale;
  };
  model.row = (item) => { const row = new Float64Array(nFilms); model.addRow(item, row); return row; };
  model.scores = (history) => { const total = new Float64Array(nFilms); history.forEach((item) => model.addRow(item, total)); return total; };
  model.parts = (history, items) => history.map((item) => { const row = model.row(item); return items.map((i) => row[i]); });
  model.likeness = model.row;
  return model;
}

function folded(model) {
  const {values, scales, everywhere, ridge} = model, size = Math.sqrt(everywhere.length);
  const q = Array.from({length: nFilms}, (_, i) => Float64Array.from({length: size}, (_, d) => values[i * size + d] * scales[i]));
  const lengths = q.map((vector) => Math.sqrt(dot(vector, vector)));
  const factor = (history) => {
    const matrix = Array.from({length: size}, (_, d) => everywhere.slice(d * size, (d + 1) * size));
    for (const item of history) for (let d = 0; d < size; d++) for (let e = 0; e < size; e++) matrix[d][e] += q[item][d] * q[item][e];
    for (let d = 0; d < size; d++) matrix[d][d] += ridge[history.length];
    return cholesky(matrix);
  };
  model.scores = (history) => {
    const target = new Float64Array(size);
    for (const item of history) for (let d = 0; d < size; d++) target[d] += q[item][d];
    const p = solve(factor(history), target);
    return Float64Array.from(q, (vector) => dot(vector, p));
  };
  model.parts = (history, items) => {
    const lower = factor(history), solved = items.map((item) => solve(lower, q[item]));
    return history.map((item) => solved.map((x) => dot(q[item], x)));
  };
  model.likeness = (item) => Float64Array.from(q, (vector, i) => (lengths[i] * lengths[item] > 0 ? dot(vector, q[item]) / (lengths[i] * lengths[item]) : 0));
  return model;
}

function dot(left, right) {
  let total = 0;
  for (let d = 0; d < left.length; d++) total += left[d] * right[d];
  return total;
}

function cholesky(a) {
  for (let k = 0; k < a.length; k++) {
    a[k][k] = Math.sqrt(a[k][k]);
    for (let i = k + 1; i < a.length; i++) a[i][k] /= a[k][k];
    for (let i = k + 1; i < a.length; i++) for (let j = k + 1; j <= i; j++) a[i][j] -= a[i][k] * a[j][k];
  }
  return a;
}

function solve(lower, target) {
  const x = Float64Array.from(target), size = x.length;
  for (let k = 0; k < size; k++) {
    x[k] /= lower[k][k];
    for (let i = k + 1; i < size; i++) x[i] -= lower[i][k] * x[k];
  }
  for (let k = size - 1; k >= 0; k--) {
    x[k] /= lower[k][k];
    for (let i = 0; i < k; i++) x[i] -= lower[k][i] * x[k];
  }
  return x;
}

/* Lists, as in lists.py */

const best = (scores, among, k) => among.slice().sort((i, j) => scores[j] - scores[i] || i - j).slice(0, k);

function recommend(history, seen, popularity, diversity) {
  const hidden = new Set([...history, ...seen]), left = allFilms.filter((item) => !hidden.has(item));
  return models.map((model) => listed(model.scores(history), left, popularity, diversity));
}

function listed(scores, left, popularity, diversity) {
  if (!popularity && !diversity) return best(scores, left, LIST);
  const pool = best(scores, left, POOL), largest = pool.reduce((most, item) => Math.max(most, Math.abs(scores[item])), 0) || 1;
  const moved = scores.map((score, item) => score / largest - popularity * films.known[item]);
  return diversity ? varied(moved, pool, diversity) : best(moved, pool, LIST);
}

function varied(moved, pool, diversity) {
  const closest = new Float64Array(nFilms), chosen = [];
  while (chosen.length < Math.min(LIST, pool.length)) {
    const worth = moved.map((value, item) => (1 - diversity) * value - diversity * closest[item]);
    const [film] = best(worth, pool.filter((item) => !chosen.includes(item)), 1);
    vectors.likeness(film).forEach((value, item) => { closest[item] = Math.max(closest[item], value); });
    chosen.push(film);
  }
  return chosen;
}

function similar(model, item, k) {
  const likeness = model.likeness(item);
  return best(likeness, allFilms.filter((other) => other !== item && likeness[other] > 0), k);
}

function reasons(model, history, items) {
  const parts = model.parts(history, items);
  return items.map((_, place) => {
    const column = parts.map((row) => row[place]), part = Math.max(...column);
    return {film: history[column.indexOf(part)], part, score: column.reduce((sum, each) => sum + each, 0)};
  });
}

/* What films have in common, as in app/explain.py */

for (const kind of facts) {
  kind.counts = new Uint32Array(kind.labels.length);
  kind.codes.forEach((code) => kind.counts[code]++);
  kind.of = (item) => kind.codes.subarray(kind.starts[item], kind.starts[item + 1]);
}

/** For each kind of facts the first liked film that has each of them. */
function firstLiked(stars) {
  const liked = [...stars].reverse().filter(([, given]) => given >= LIKED).sort((a, b) => b[1] - a[1]).map(([item]) => item);
  return facts.map((kind) => {
    const first = new Map();
    for (const item of liked) for (const code of kind.of(item)) if (!first.has(code)) first.set(code, item);
    return first;
  });
}

function inCommon(item, liked) {
  for (const [place, kind] of facts.entries()) {
    const shared = [...kind.of(item)].filter((code) => liked[place].has(code));
    if (!shared.length) continue;
    shared.sort((a, b) => !kind.labels[a] - !kind.labels[b] || kind.counts[a] - kind.counts[b] || a - b);
    const [code] = shared, label = kind.labels[code] && ` (${kind.labels[code]})`;
    return `Same ${kind.kind}${label} as ${films.titles[liked[place].get(code)]}.`;
  }
  return "";
}

/* What somebody has chosen */

const allFilms = Array.from({length: nFilms}, (_, item) => item);
const byRaters = best(films.known, allFilms, nFilms);
const state = {stars: new Map(), heldBack: new Set(), film: null, lists: [], firstOnGrid: 0, hovered: null, zoom: 1};
const at = (id) => document.getElementById(id);

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const titleButton = (item) => element("button", {type: "button", className: "title", textContent: films.titles[item], onclick: () => choose(item)});

/** Everything that hangs on ratings and settings, computed and drawn; how long it took is kept for whoever asks. */
function update() {
  const started = performance.now();
  const speaking = [...state.stars].filter(([, given]) => !at("only-liked").checked || given >= LEAST_SPEAKING);
  const history = speaking.map(([item]) => item).sort((i, j) => i - j);
  state.lists = history.length ? recommend(history, [...state.stars.keys()], at("popularity").value / 10, at("diversity").value / 10) : [];
  at("popularity-value").textContent = `p = ${(at("popularity").value / 10).toFixed(1)}`;
  at("diversity-value").textContent = `d = ${(at("diversity").value / 10).toFixed(1)}`;
  showStars();
  showRatings();
  showLists(history);
  drawMap();
  document.documentElement.dataset.updateMs = performance.now() - started;
}

function rate(item, given) {
  state.stars.delete(item);
  if (given) state.stars.set(item, given);
  update();
}

/* Ratings */

function starGroup(item, place) {
  const group = element("fieldset", {className: "stars"});
  group.dataset.item = item;
  group.append(element("legend", {className: "hidden", textContent: `Stars for ${films.titles[item]}`}));
  for (let given = 1; given <= 5; given++) {
    const input = element("input", {type: "radio", name: `${place}-${item}`, value: given, onchange: () => rate(item, given)});
    group.append(element("label", {}, input, element("span", {className: "hidden", textContent: `${given} of 5`}), element("span", {textContent: "★", ariaHidden: "true"})));
  }
  return group;
}

function showStars() {
  for (const group of document.querySelectorAll(".stars")) {
    const given = state.stars.get(Number(group.dataset.item)) ?? 0;
    for (const label of group.querySelectorAll("label")) {
      const value = Number(label.firstChild.value);
      label.classList.toggle("on", value <= given);
      label.firstChild.checked = value === Math.ceil(given);
    }
  }
}

function showGrid() {
  const shown = byRaters.slice(state.firstOnGrid, state.firstOnGrid + ON_GRID);
  at("grid").replaceChildren(...shown.map((item) => element("li", {}, titleButton(item), starGroup(item, "grid"))));
  at("more").hidden = nFilms <= ON_GRID;
}

function moreOnGrid() {
  const next = state.firstOnGrid + ON_GRID;
  state.firstOnGrid = next < Math.min(nFilms, 20 * ON_GRID) ? next : 0;
  showGrid();
  showStars();
}

function showRatings() {
  const rows = [...state.stars].reverse().map(([item, given]) => {
    const remove = element("button", {type: "button", className: "remove", textContent: "×", onclick: () => { rate(item, 0); at("search").focus(); }});
    remove.setAttribute("aria-label", `Remove the rating of ${films.titles[item]}`);
    return element("li", {}, titleButton(item), element("span", {className: "given", textContent: `${Number(given.toFixed(1))} ★`}), remove);
  });
  at("ratings").replaceChildren(...rows);
  at("no-ratings").hidden = rows.length > 0;
  at("clear").hidden = !rows.length;
}

function clearRatings() {
  state.stars.clear();
  state.heldBack.clear();
  at("user").value = at("held-back").textContent = "";
  update();
  at("search").focus();
}

/* Search */

const folds = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
const searched = films.titles.map(folds);

function find(text) {
  const words = folds(text).split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  const whole = folds(text).trim();
  const found = words.length ? byRaters.filter((item) => words.every((word) => searched[item].includes(word))) : [];
  return found.sort((i, j) => searched[j].startsWith(whole) - searched[i].startsWith(whole)).slice(0, FOUND);
}

function showResults() {
  const text = at("search").value, found = find(text);
  const rows = found.map((item, place) => {
    const row = element("li", {id: `result-${place}`, role: "option", textContent: films.titles[item], onclick: () => pick(item)});
    row.dataset.item = item;
    row.setAttribute("aria-selected", "false");
    return row;
  });
  if (text.trim() && !found.length) rows.push(element("li", {className: "none", textContent: "No film has these words in its title."}));
  at("results").replaceChildren(...rows);
  openResults(rows.length > 0);
}

function openResults(open) {
  at("results").hidden = !open;
  at("search").setAttribute("aria-expanded", String(open));
  at("search").removeAttribute("aria-activedescendant");
}

function moveInResults(step) {
  const rows = [...at("results").querySelectorAll("[role=option]")];
  if (!rows.length) return;
  const current = rows.findIndex((row) => row.getAttribute("aria-selected") === "true");
  const next = (current < 0 && step < 0 ? rows.length - 1 : current + step + rows.length) % rows.length;
  rows.forEach((row, place) => row.setAttribute("aria-selected", String(place === next)));
  rows[next].scrollIntoView({block: "nearest"});
  at("search").setAttribute("aria-activedescendant", rows[next].id);
}

function pick(item) {
  at("search").value = "";
  openResults(false);
  choose(item);
  at("film-stars").querySelector("input:checked, input").focus();
}

function searchKey(event) {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    if (at("results").hidden) showResults();
    moveInResults(event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Enter") {
    const row = at("results").querySelector("[aria-selected=true]") ?? at("results").querySelector("[role=option]");
    if (row && !at("results").hidden) pick(Number(row.dataset.item));
  } else if (event.key === "Escape") openResults(false);
  else return;
  event.preventDefault();
}

/* The chosen film */

function choose(item) {
  state.film = item;
  at("film").hidden = false;
  at("film-title").textContent = films.titles[item];
  at("film-facts").textContent = [films.genres[item].replaceAll("|", ", "), `${films.raters[item].toLocaleString("en")} ratings`].filter(Boolean).join(" · ");
  at("film-stars").replaceChildren(starGroup(item, "film"));
  at("alike").replaceChildren(...models.map((model) => {
    const rows = similar(model, item, ALIKE).map((other) => element("li", {}, titleButton(other)));
    return element("div", {}, element("strong", {textContent: model.title}), element("ol", {}, ...(rows.length ? rows : [element("li", {textContent: "none"})])));
  }));
  at("neighbours-heading").textContent = `Most like ${films.titles[item]} by ${vectors.title}`;
  at("neighbours").replaceChildren(...similar(vectors, item, LIST).map((other) => element("li", {}, titleButton(other))));
  showStars();
  drawMap();
}

/* Lists side by side */

const shown = () => models.map((_, place) => place).filter((place) => at(`model-${place}`).checked);

function showModels() {
  for (const [place, model] of models.entries()) {
    const input = element("input", {type: "checkbox", id: `model-${place}`, checked: true, onchange: update});
    at("models").append(element("label", {}, input, ` ${model.title}`));
  }
}

function showLists(history) {
  const places = history.length ? shown() : [], liked = firstLiked(state.stars);
  at("columns").replaceChildren(...places.map((place) => column(place, places, history, liked)));
  at("shared").textContent = sharedSentence(places);
}

function column(place, places, history, liked) {
  const list = state.lists[place], why = reasons(models[place], history, list);
  const rows = list.map((item, rank) => {
    const others = places.filter((other) => other !== place && state.lists[other].includes(item));
    const row = element("li", {}, element("span", {className: "rank", textContent: rank + 1}), titleButton(item), marks(item, others, places));
    row.dataset.item = item;
    row.append(element("p", {className: "why", textContent: because(why[rank])}));
    const common = inCommon(item, liked);
    if (common) row.append(element("p", {textContent: common}));
    return row;
  });
  const made = element("div", {}, element("h3", {textContent: models[place].title}), element("ol", {}, ...rows));
  made.dataset.model = models[place].name;
  return made;
}

function marks(item, others, places) {
  const made = element("p", {className: "marks"});
  if (state.heldBack.has(item)) made.append(element("span", {className: "mark watched", textContent: "✓ watched"}));
  const all = places.length > 1 && others.length === places.length - 1;
  if (all) made.append(element("span", {className: "mark all", textContent: places.length === 2 ? "in both" : "in all"}));
  else for (const other of others) made.append(element("span", {className: "mark", textContent: `also ${models[other].title}`}));
  return made;
}

function because({film, part, score}) {
  if (part <= 0) return "None of your films speaks for it.";
  const stars = Number(state.stars.get(film).toFixed(1));
  return `Most from ${films.titles[film]}, which you gave ${stars} (${part.toFixed(3)} of ${score.toFixed(3)}).`;
}

function sharedSentence(places) {
  if (!state.lists.length) return state.stars.size ? "No film speaks: give one 3 stars or more." : "Rate a film, and the lists stand here.";
  if (places.length < 2) return places.length ? "" : "No model is chosen.";
  const inAll = state.lists[places[0]].filter((item) => places.every((place) => state.lists[place].includes(item)));
  const alone = places.map((place) => {
    const own = state.lists[place].filter((item) => places.every((other) => other === place || !state.lists[other].includes(item)));
    return `${models[place].title} alone has ${own.length}`;
  });
  const back = state.heldBack.size ? ` Of the ${state.heldBack.size} films held back, ${heldBackFound(places)}.` : "";
  return `${inAll.length} of ${LIST} films are in ${places.length === 2 ? "both" : "all"} lists; ${alone.join(", ")}.${back}`;
}

const heldBackFound = (places) =>
  places.map((place) => `${models[place].title} finds ${state.lists[place].filter((item) => state.heldBack.has(item)).length}`).join(", ");

/* Somebody of one's own data */

function showUsers() {
  if (!users) return;
  at("user-choice").hidden = false;
  at("user").append(element("option", {value: "", textContent: "nobody: rate films yourself"}));
  users.ids.forEach((id, place) => at("user").append(element("option", {value: place, textContent: id})));
}

function takeUser() {
  const place = at("user").value, from = users.starts[place], to = users.starts[Number(place) + 1];
  const history = place === "" ? [] : Array.from({length: to - from}, (_, i) => [users.films[from + i], users.stars[from + i]]);
  const nKept = history.length - Math.floor(history.length / 5);
  state.stars = new Map(history.slice(0, nKept));
  state.heldBack = new Set(history.slice(nKept).map(([item]) => item));
  at("held-back").textContent = history.length ? "The last fifth of the history is held back, and marked ✓ where a list has it. The models were fitted on it, too: that flatters them." : "";
  update();
}

/* Map */

const FARTHEST = 1, CLOSEST = 16;

/** Where a film stands in pixels: closer, the chosen film is the middle of the map. */
function positions(width, height) {
  const {film, zoom} = state, middle = zoom === FARTHEST || film === null ? [32767.5, 32767.5] : [films.x[film], films.y[film]];
  const scaled = (value, centre, size) => size / 2 + ((value - centre) / 65535) * zoom * (size - 28);
  return (item) => [scaled(films.x[item], middle[0], width), scaled(films.y[item], middle[1], height)];
}

function zoomTo(zoom) {
  state.zoom = Math.min(CLOSEST, Math.max(FARTHEST, zoom));
  if (state.zoom > FARTHEST && state.film === null) choose(byRaters[0]);
  at("closer").disabled = state.zoom === CLOSEST;
  at("farther").disabled = state.zoom === FARTHEST;
  drawMap();
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function drawMap() {
  const canvas = at("map"), width = canvas.clientWidth, height = canvas.clientHeight, ratio = devicePixelRatio || 1;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d"), place = positions(width, height);
  pen.scale(ratio, ratio);
  const disc = (item, radius, fill) => { pen.beginPath(); pen.arc(...place(item), radius, 0, 7); pen[fill ? "fill" : "stroke"](); };
  pen.fillStyle = colour("dot");
  for (const item of allFilms) disc(item, (1 + 3 * Math.sqrt(films.known[item])) * state.zoom ** 0.25, true);
  pen.fillStyle = colour("star");
  for (const item of state.stars.keys()) disc(item, 5, true);
  pen.strokeStyle = colour("accent");
  pen.lineWidth = 2;
  for (const item of new Set(shown().flatMap((each) => state.lists[each] ?? []))) disc(item, 6, false);
  if (state.film !== null) drawNeighbours(pen, place, disc);
  for (const item of new Set([state.film, state.hovered])) if (item !== null) drawTitle(pen, place(item), films.titles[item], width);
  canvas.setAttribute("aria-label", `Map of ${nFilms} films${state.film === null ? "" : `; ${films.titles[state.film]} is chosen`}`);
}

function drawNeighbours(pen, place, disc) {
  pen.strokeStyle = pen.fillStyle = colour("near");
  pen.lineWidth = 1;
  for (const other of similar(vectors, state.film, LIST)) {
    pen.beginPath();
    pen.moveTo(...place(state.film));
    pen.lineTo(...place(other));
    pen.stroke();
    disc(other, 4, true);
  }
  disc(state.film, 7, true);
}

function drawTitle(pen, [x, y], title, width) {
  pen.font = "13px system-ui, sans-serif";
  const wide = Math.min(pen.measureText(title).width, width - 16), left = Math.max(4, Math.min(x + 9, width - wide - 8));
  pen.fillStyle = colour("card");
  pen.fillRect(left - 3, y - 24, wide + 6, 18);
  pen.fillStyle = colour("text");
  pen.fillText(title, left, y - 10, wide);
}

function nearestOnMap(x, y, among = allFilms) {
  const place = positions(at("map").clientWidth, at("map").clientHeight);
  const far = Float64Array.from(allFilms, (item) => -Math.hypot(place(item)[0] - x, place(item)[1] - y));
  return best(far, among, 1)[0];
}

function moveOnMap(event) {
  if ("+-".includes(event.key)) return zoomTo(event.key === "+" ? 2 * state.zoom : state.zoom / 2);
  const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[event.key];
  if (!step) return;
  event.preventDefault();
  const place = positions(at("map").clientWidth, at("map").clientHeight);
  if (state.film === null) return choose(byRaters[0]);
  const [x, y] = place(state.film);
  const ahead = allFilms.filter((item) => {
    const [right, down] = [place(item)[0] - x, place(item)[1] - y], along = right * step[0] + down * step[1];
    return along > 0 && along >= Math.abs(right * step[1] + down * step[0]);
  });
  if (ahead.length) choose(nearestOnMap(x, y, ahead));
}

function hover(event) {
  const found = event.type === "pointerleave" ? null : nearestOnMap(event.offsetX, event.offsetY);
  if (found !== state.hovered) { state.hovered = found; requestAnimationFrame(drawMap); }
}

/* Beginning */

function listen() {
  at("search").addEventListener("input", showResults);
  at("search").addEventListener("keydown", searchKey);
  document.addEventListener("pointerdown", (event) => { if (!event.target.closest(".search")) openResults(false); });
  at("search").addEventListener("blur", () => setTimeout(() => { if (!at("results").matches(":hover")) openResults(false); }, 0));
  for (const id of ["popularity", "diversity"]) at(id).addEventListener("input", update);
  at("only-liked").addEventListener("change", update);
  at("user").addEventListener("change", takeUser);
  at("more").addEventListener("click", moreOnGrid);
  at("clear").addEventListener("click", clearRatings);
  at("map").addEventListener("pointermove", hover);
  at("map").addEventListener("pointerleave", hover);
  at("map").addEventListener("click", (event) => choose(nearestOnMap(event.offsetX, event.offsetY)));
  at("map").addEventListener("keydown", moveOnMap);
  at("closer").addEventListener("click", () => zoomTo(2 * state.zoom));
  at("farther").addEventListener("click", () => zoomTo(state.zoom / 2));
  new ResizeObserver(drawMap).observe(at("map"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
}

document.title = `Film explorer: ${payload.name}`;
at("about").textContent = payload.about;
at("sources").append(...payload.sources.map((text) => element("p", {textContent: text})));
showUsers();
showModels();
showGrid();
listen();
update();
document.documentElement.dataset.readyMs = performance.now();
