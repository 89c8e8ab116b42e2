"""What films are beside the tables of a release: a knowledge graph and Wikipedia's paragraphs, joined to ids of films.

The graph lies beside ML-100K's ratings, but its films have ML-1M's ids; `film_pairs.csv`, made by `pipeline.bench.pair_films`,
leads from one to the other. Titles join by name and year, ± 1 year, and never by likeness.
"""

import re
import unicodedata
from collections import Counter
from pathlib import Path

import pandas as pd

from recsys_core.errors import StudyError
from recsys_core.releases.cache import read_tables
from recsys_core.releases.sources import FILM_SOURCES, RELEASES

PAIRS = Path(__file__).with_name("film_pairs.csv")
OWN_IDS = ("ncf-ml-1m", "sasrec-ml-1m")  # benchmarks that number films anew
# What points past the ratings: awards are given after a film is seen, and sequels are made of what was liked.
PAST_THE_RATINGS = ("award_nomination", "award_won", "sequel", "prequel")
ARTICLES = "the|a|an|le|la|les|l'|il|lo|i|der|die|das|den|det|el|los|las|un|une|o"
_BRACKETS = re.compile(r"\(([^)]*)\)")
_NO_NAME = re.compile(r"[0-9]{4}([-–][0-9]{0,4})?|V|TV|I+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'“])")
_HINDSIGHT = re.compile(
    r"acclaim|award|classic|oscar|nominat|box[ -]office|gross|critic|review|success|\bcult\b|greatest|best film|film registry"
    r"|golden globe|rotten tomatoes|\bwon\b|\bflop|prais|recei[vp]|regarded|considered|preserved|million|\brating"
    r"|sequel|prequel|followed by|franchise|remake|remade|spin-?off|trilogy|instal+ment|re-?release|home video|\bdvd\b",
    re.IGNORECASE,
)
_NAME = r"(?:(?:[A-Z][\w'’-]+|[A-Z]\.|Jr\.|de|del|di|van|von)(?: |\b|(?<=\.)))+"
_DIRECTED = re.compile(rf"directed(?:, [^.]*?)? by ({_NAME})")


def title_keys(title: str) -> list[str]:
    """Return what a title is known by: its name, and each name in brackets, in small letters and digits alone.

    Accents and signs go, "&" is "and", and an article after a comma goes to the front. "Boot, Das (Boat, The) (1981)" → dasboot,
    theboat.
    """
    names = [_BRACKETS.sub("", title), *(name for name in _BRACKETS.findall(title) if not _NO_NAME.fullmatch(name))]
    return list(dict.fromkeys(key for name in names if (key := _key(name))))


def _key(name: str) -> str:
    text = unicodedata.normalize("NFKD", re.sub(r"^\s*a\.?k\.?a\.?\s", "", name)).lower().strip().replace("&", " and ")
    if moved := re.fullmatch(rf"(.*), ({ARTICLES})", text):
        text = f"{moved[2]} {moved[1]}"
    return "".join(letter for letter in text if letter.isalnum())


def matched(films: pd.DataFrame, others: pd.DataFrame) -> pd.Series:
    """Return item_id of `films` → row label of the film in `others` (both with title and year) that has a name in common.

    The years differ by one at most; of several the nearest counts, then the first. Films without one, or without a year, are left
    out.
    """
    known: dict[str, list[tuple[int, int]]] = {}
    dated = others[others["year"].notna()]
    for place, (title, year) in enumerate(zip(dated["title"], dated["year"])):
        for key in title_keys(title):
            known.setdefault(key, []).append((int(year), place))
    found = {}
    for item, title, year in films.loc[films["year"].notna(), ["item_id", "title", "year"]].itertuples(index=False):
        near = [(abs(at - int(year)), place) for key in title_keys(title) for at, place in known.get(key, [])]
        if near and min(near)[0] <= 1:
            found[item] = dated.index[min(near)[1]]
    return pd.Series(found, dtype=others.index.dtype)


def film_pairs() -> pd.Series:
    """Return ML-100K's id → ML-1M's id of the same film, where ML-1M has it."""
    return pd.read_csv(PAIRS, index_col="ml_100k")["ml_1m"]


def graph_ids(name: str, item_ids: pd.Index) -> pd.Series:
    """Return item id → its id in the graph, for the data set of this name.

    Raises StudyError where its ids are not MovieLens's.
    """
    if name not in RELEASES or name in OWN_IDS:
        raise StudyError(f"The film graph is joined by MovieLens's ids of films, and those of {name} are others.")
    pairs = film_pairs() if name == "ml-100k" else pd.Series(item_ids, item_ids)
    return pairs[pairs.index.isin(item_ids)]


def film_triples(ids: pd.Series) -> pd.DataFrame:
    """Return item_id, relation, entity: what the graph says of films, given item id → id in the graph (see `graph_ids`).

    Each fact once, from the film's side, and none that points past the ratings.
    Raises StudyError where no source has the graph, or it is another version.
    """
    tables, _ = read_tables("film-graph", FILM_SOURCES["film-graph"])
    facts = tables["triples"]
    facts = facts[facts["relation"].str.startswith("film.film.")]
    facts = facts.assign(relation=facts["relation"].str.removeprefix("film.film."))
    facts = facts[~facts["relation"].isin(PAST_THE_RATINGS)]
    films = pd.DataFrame({"item_id": ids.index, "graph_id": ids.to_numpy()})
    films = films.merge(tables["nodes"], left_on="graph_id", right_on="item_id", suffixes=("", "_there"))
    joined = films.merge(facts, left_on="entity", right_on="head")
    return joined[["item_id", "relation", "tail"]].rename(columns={"tail": "entity"})


def genre_lifts(triples: pd.DataFrame, genre: pd.Series, least_share: float = 0.5) -> pd.Series:
    """Return by how much more often films of a genre have each of the graph's genres than other films do, highest first.

    `genre` (item_id → bool) holds the films that count. A graph's genre that fewer than `least_share` of the genre's films have is
    left out, and one that no other film has counts as if one had it. Genres of the graph have no names: the first is the one meant.
    """
    rows = triples[(triples["relation"] == "genre") & triples["item_id"].isin(genre.index)]
    of_genre, told = rows["item_id"].map(genre).to_numpy(bool), genre[rows["item_id"].unique()]
    counts = pd.DataFrame({side: rows["entity"][of_genre == side].value_counts() for side in (True, False)}).fillna(0)
    lifts = counts[True] / told.sum() / (counts[False].clip(lower=1) / (~told).sum())
    return lifts[counts[True] >= least_share * told.sum()].sort_values(ascending=False, kind="stable")


def paragraphs(movies: pd.DataFrame) -> pd.DataFrame:
    """Return item_id, title, cast ("Name|Name"), genres, href, extract of the films of a movie table that Wikipedia's list has.

    Who shows an extract names its source, `FILM_SOURCES["wikipedia-movies"].attribution`, and the article, `href`.
    Raises StudyError where no source has the files, or one is another version.
    """
    listed = read_tables("wikipedia-movies", FILM_SOURCES["wikipedia-movies"])[0]["films"]
    listed = listed[listed["extract"].notna()]
    found = matched(movies, listed)
    told = listed.loc[found.to_numpy()]
    told = told.assign(cast=told["cast"].fillna(""), genres=told["genres"].fillna(""), item_id=found.index)
    return told[["item_id", "title", "cast", "genres", "href", "extract"]].reset_index(drop=True)


def without_hindsight(extract: str) -> str:
    """Return a paragraph without its sentences on reception, awards, money and sequels, written after the ratings."""
    return " ".join(sentence for sentence in _SENTENCE_END.split(extract) if not _HINDSIGHT.search(sentence))


def entity_names(triples: pd.DataFrame, told: pd.DataFrame) -> dict[str, str]:
    """Return names of the graph's directors and actors, which it has none for, as `paragraphs` of their films give them.

    A name is the one that more than half of the person's films with names have, and no other person of the relation: those who
    play beside a star have the star's name in as many films as the star. An actor of one film has none, nor has what begins in
    small letters ("voices of").
    """
    extracts, casts = told.set_index("item_id")["extract"], told.set_index("item_id")["cast"]
    directors = extracts.map(lambda text: [name.strip() for name in _DIRECTED.findall(text)[:1]])
    named: dict[str, str] = {}
    for relation, people, least in (("actor", casts.str.split("|"), 2), ("directed_by", directors, 1)):
        rows = triples[(triples["relation"] == relation) & triples["item_id"].isin(people.index)]
        found = {}
        for entity, items in rows.groupby("entity")["item_id"]:
            told_of = [{name for name in people[item] if name[:1].isupper()} for item in items]
            ranked = Counter(name for names in told_of for name in names).most_common(2)
            first = [name for name, count in ranked if count >= least and 2 * count > sum(map(bool, told_of))]
            if len(first) == 1:
                found[str(entity)] = first[0]
        bearers = Counter(found.values())
        named |= {entity: name for entity, name in found.items() if bearers[name] == 1}
    return named
