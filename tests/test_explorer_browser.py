"""The explorer in a browser: its lists are Python's to the last film, by mouse or keyboard, on a small screen, off line."""

import shutil

import numpy as np
import pytest

from recsys_core.app.explorer import page as explorer_page
from recsys_core.app.explorer.lists import reasons, recommend, similar
from recsys_core.app.explorer.page import write_explorer
from tests.explorer_data import EVIL, invented_films, payload_of, unpacked, weights_of

try:
    from playwright.sync_api import sync_playwright
except ImportError:  # an environment without the extra `test`
    sync_playwright = None

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on the PATH"),
    pytest.mark.skipif(sync_playwright is None, reason="playwright is not installed"),
]
FIVE = {0: 5, 1: 4, 2: 2, 4: 3, 7: 5}  # films on the first grid → stars
READY_MS, CLICK_MS = 2000, 100


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A page of as many films, users and ratings as ML-100K has, and what it computes with."""
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explorer_page, "MOST_SCATTERED", 0)  # the map of principal components takes no time
        write_explorer(invented_films(n_users=943, n_items=1700, n_each=106), path)
    content = payload_of(path.read_text(encoding="utf-8"))
    return path, content, weights_of(content)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser, written):
    """Opens the page in a window of its own; afterwards nothing has been asked of the network and no error was logged."""
    contexts, requests, errors = [], [], []

    def open_page(**settings):
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | settings))
        page = contexts[-1].new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text))
        page.goto(written[0].as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert set(requests) == {written[0].as_uri()} and not errors


@pytest.fixture
def rated(opened, written):
    """The page with five films rated, and the codes of these."""
    page = opened()
    return page, rate_five(page)


def rate_five(page):
    films = []
    for place, stars in FIVE.items():
        group = page.locator("#grid .stars").nth(place)
        group.locator("label").nth(stars - 1).click()
        films.append(int(group.get_attribute("data-item")))
    return films


def lists_of(page):
    """Codes of the films of each list that is shown, from what stands in the page."""
    columns = page.locator("#columns > div").all()
    return {
        column.get_attribute("data-model"): [int(row.get_attribute("data-item")) for row in column.locator("li").all()]
        for column in columns
    }


def set_slider(page, name, value):
    page.locator(f"#{name}").evaluate(
        "(each, value) => { each.value = value; each.dispatchEvent(new Event('input')); }", value
    )


@pytest.mark.parametrize(("popularity", "diversity"), [(0, 0), (3, 0), (-10, 0), (0, 4), (7, 10), (-2, 5)])
def test_ten_recommendations_of_each_model_are_those_of_python(rated, written, popularity, diversity):
    page, films = rated
    set_slider(page, "popularity", popularity)
    set_slider(page, "diversity", diversity)
    expected = recommend(written[2], films, 10, popularity=popularity / 10, diversity=diversity / 10)
    assert lists_of(page) == {model.name: each.tolist() for model, each in zip(written[2].models, expected)}
    assert len(set(map(len, expected))) == 1 and len(expected[0]) == 10 and len(expected) == 3


def test_films_under_3_stars_can_be_made_to_speak_for_nothing_and_stay_off_the_lists(rated, written):
    page, films = rated
    page.get_by_label("Let films under 3 stars speak for nothing").check()
    speaking = [film for film, stars in zip(films, FIVE.values()) if stars >= 3]
    expected = recommend(written[2], speaking, 10, seen=films)
    assert list(lists_of(page).values()) == [each.tolist() for each in expected]


def test_each_line_names_the_film_that_adds_most_and_how_much(rated, written):
    page, films = rated
    titles, stars = written[1]["films"]["titles"], dict(zip(films, FIVE.values()))
    for place, (model, listed) in enumerate(zip(written[2].models, recommend(written[2], films, 10))):
        why = page.locator("#columns > div").nth(place).locator(".why").all_inner_texts()
        scores, (films_that_add, parts) = model.scores(np.sort(films)), reasons(model, films, listed)
        assert len(why) == 10
        for text, film, item, part in zip(why, films_that_add, listed, parts):
            assert text == f"Most from {titles[film]}, which you gave {stars[film]} ({part:.3f} of {scores[item]:.3f})."


def test_films_on_all_lists_and_on_two_are_marked(rated):
    page, _ = rated
    lists = lists_of(page)
    for name, listed in lists.items():
        rows = page.locator(f"[data-model={name}] li").all()
        for row, film in zip(rows, listed):
            others = [other for other, films in lists.items() if other != name and film in films]
            marks = row.locator(".mark").all_inner_texts()
            assert marks == ["in all"] if len(others) == 2 else len(marks) == len(others)
    in_all = set.intersection(*map(set, lists.values()))
    assert page.locator("#shared").inner_text().startswith(f"{len(in_all)} of 10 films are in all lists")


def test_a_model_that_is_not_chosen_has_no_list(rated, written):
    page, _ = rated
    page.get_by_label(written[2].models[1].title).uncheck()
    assert list(lists_of(page)) == [written[2].models[0].name, written[2].models[2].name]
    assert "are in both lists" in page.locator("#shared").inner_text()


def test_a_title_that_is_a_script_shows_as_text_wherever_it_stands(opened, written):
    page = opened()
    page.fill("#search", "evil script")
    assert page.locator("#results li").all_inner_texts() == [EVIL]
    page.press("#search", "Enter")
    page.locator("#film-stars label").nth(4).click()
    for place in ("#film-title", "#ratings .title", "#grid .title >> nth=0", "#neighbours-heading"):
        assert EVIL in page.locator(place).text_content()
    assert EVIL in page.locator(".why").first.text_content()
    assert page.evaluate("window.hacked") is None and page.locator("img").count() == 0


def test_the_keyboard_alone_finds_rates_and_removes_films_and_moves_the_sliders(opened, written):
    page = opened()
    tab_to(page, "search")
    page.keyboard.type("film 12")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    second = page.locator("#results [aria-selected=true]").inner_text()
    page.keyboard.press("Enter")
    assert page.locator("#film-title").inner_text() == second
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    item = written[1]["films"]["titles"].index(second)
    assert page.locator("#ratings .given").all_inner_texts() == ["3 ★"]
    assert list(lists_of(page).values()) == [each.tolist() for each in recommend(written[2], [item], 10)]
    tab_to(page, "popularity")
    page.keyboard.press("ArrowRight")
    expected = recommend(written[2], [item], 10, popularity=0.1)
    assert list(lists_of(page).values()) == [each.tolist() for each in expected]
    tab_to(page, "map")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#film-title").inner_text() != second
    page.locator("#clear").focus()
    page.keyboard.press("Enter")
    assert page.locator("#columns li").count() == 0 and page.evaluate("document.activeElement.id") == "search"


def tab_to(page, name):
    """Press Tab until the element of this id has the focus; what has it is seen to have it each time."""
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == name:
            return
    raise AssertionError(f"Tab does not reach {name}")


def test_more_like_this_and_the_map_say_what_python_says(opened, written):
    page = opened()
    page.locator("#grid .title").nth(3).click()
    titles, item = written[1]["films"]["titles"], int(page.locator("#grid .stars").nth(3).get_attribute("data-item"))
    for place, model in enumerate(written[2].models):
        found = page.locator("#alike > div").nth(place).locator("li").all_inner_texts()
        assert found == [titles[other] for other in similar(model, item, 5)]
    near = page.locator("#neighbours li").all_inner_texts()
    assert near == [titles[other] for other in similar(written[2].vectors, item, 10)]


def test_neighbours_of_the_chosen_film_light_up_on_the_map(opened):
    page = opened()
    picture = "document.getElementById('map').toDataURL()"
    before = page.evaluate(picture)
    page.locator("#map").click(position={"x": 200, "y": 200})
    chosen = page.locator("#film-title").inner_text()
    near = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--near').trim()")
    assert page.evaluate(picture) != before and chosen in page.locator("#map").get_attribute("aria-label")
    assert near in colours_on_map(page) and not page.locator("#closer").is_disabled()
    seen = page.evaluate(picture)
    page.locator("#closer").click()
    assert page.evaluate(picture) != seen
    page.locator("#farther").click()
    assert page.locator("#farther").is_disabled()


def colours_on_map(page):
    """All colours on the map, as #rrggbb."""
    return page.evaluate(
        """() => { const map = document.getElementById('map');
        const {data} = map.getContext('2d').getImageData(0, 0, map.width, map.height), found = new Set();
        for (let i = 0; i < data.length; i += 4) if (data[i + 3] === 255)
            found.add('#' + [0, 1, 2].map((c) => data[i + c].toString(16).padStart(2, '0')).join(''));
        return [...found]; }"""
    )


def test_a_history_of_own_data_is_taken_and_its_last_fifth_is_held_back(opened, written):
    page, users = opened(), written[1]["users"]
    page.locator("#user").select_option(label="3")
    n_kept = 106 - 106 // 5
    assert page.locator("#ratings li").count() == n_kept and len(users["ids"]) == 943
    lists, found = lists_of(page), page.locator("#shared").inner_text()
    marked = page.locator("li:has(.mark.watched)").evaluate_all("rows => rows.map((row) => Number(row.dataset.item))")
    latest = explorer_films_of(written[1], 2)[n_kept:]
    assert marked == [film for listed in lists.values() for film in listed if film in latest]
    assert "Of the 21 films held back" in found


def explorer_films_of(content, user):
    """Codes of the films of a user's history in a page."""
    starts, films = unpacked(content["users"]["starts"]), unpacked(content["users"]["films"])
    return films[starts[user] : starts[user + 1]].tolist()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_at_390_pixels_nothing_is_wider_than_the_screen(opened, scheme):
    page = opened(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    rate_five(page)
    page.locator("#columns .title").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert (
        page.evaluate(
            "[...document.querySelectorAll('main *')].filter((each) => each.getBoundingClientRect().right > 390).length"
        )
        == 0
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(opened, scheme):
    page = opened(color_scheme=scheme)
    names = ("page", "card", "text", "quiet", "accent", "star", "near")
    shown = {
        name: page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{name}').trim()")
        for name in names
    }
    assert luminance(shown["page"]) > 0.8 if scheme == "light" else luminance(shown["page"]) < 0.05
    for name in names[2:]:
        for behind in ("page", "card"):
            light, dark = sorted((luminance(shown[name]), luminance(shown[behind])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, behind)  # WCAG 2, level AA


def luminance(colour):
    """Relative luminance of #rgb or #rrggbb (WCAG 2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = np.array([int(digits[place : place + 2], 16) for place in (0, 2, 4)]) / 255
    return np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def test_every_control_has_a_name(rated):
    page, _ = rated
    page.locator("#columns .title").first.click()
    controls = page.locator("button:visible, input:visible, select:visible, canvas").all()
    assert len(controls) > 60
    snapshot = page.locator("body").aria_snapshot()
    assert "- button\n" not in snapshot and "- slider\n" not in snapshot and "- radio\n" not in snapshot
    assert 'slider "Less well-known films"' in snapshot and "Stars for" in snapshot


def test_the_page_is_ready_in_2_s_and_a_click_answered_in_100_ms(opened):
    page = opened()
    ready = [float(page.evaluate("document.documentElement.dataset.readyMs"))]
    for _ in range(2):
        page.reload()
        ready.append(float(page.evaluate("document.documentElement.dataset.readyMs")))
    assert min(ready) < READY_MS
    click = """() => { const started = performance.now(); document.querySelectorAll('#grid input')[%d].click();
        document.body.offsetHeight; return performance.now() - started; }"""  # with the layout of what has changed
    taken = [page.evaluate(click % (5 * film + 3)) for film in range(10)]
    assert page.locator("#columns li").count() == 30
    assert np.median(taken) < CLICK_MS
