"""Writes the explorer as one file for a browser: it opens from disk, needs no network, and computes its lists itself."""

from __future__ import annotations

import base64
import json
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

from recsys_core.app.explain import PARAGRAPHS, names_at_hand
from recsys_core.app.explorer.facts import shared_facts
from recsys_core.app.explorer.tables import Folded, Table
from recsys_core.app.explorer.weights import learn, most_watched
from recsys_core.app.recommend import titles_of
from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.features import encode
from recsys_core.files import atomic_path
from recsys_core.interactions import Interactions, Vocabulary
from recsys_core.releases.sources import FILM_SOURCES, RELEASES

LARGEST_BYTES = 8_000_000
MOST_RATINGS_SHOWN = 100_000  # of histories in a page
MOST_SCATTERED = 3_000  # films for whose map there is time to keep neighbours together
LEAST_SCATTERED = 100
Packed: TypeAlias = dict[str, str]


def write_explorer(data: MovieLens, path: Path) -> None:
    """Write a page of less than `LARGEST_BYTES` bytes with films and models of a data set, fitted on all of its ratings.

    Of a published release it holds no user's history; of one's own data it holds those of the first users, `MOST_RATINGS_SHOWN`
    ratings in all. Raises StudyError for data without anything to compare and where the file cannot be written.
    """
    text = page_of(payload(data))
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StudyError(f"{path} cannot be written ({error.strerror or error}): name another place.") from None


def page_of(content: dict[str, Any]) -> str:
    """The page as text: template, style and script of this folder around the content."""
    files = resources.files(__package__)
    parts = {
        suffix: files.joinpath(f"explorer.{suffix}").read_text(encoding="utf-8") for suffix in ("html", "css", "js")
    }
    page = parts["html"].replace("/*STYLE*/", parts["css"]).replace("/*SCRIPT*/", parts["js"])
    return page.replace("/*PAYLOAD*/", as_script(content))


def as_script(content: dict[str, Any]) -> str:
    """JSON that can stand in a script element whatever the texts in it are: it holds no `<`, `>` and `&`."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.translate({ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"})


def payload(data: MovieLens) -> dict[str, Any]:
    """What a page holds, JSON-friendly: films, how well they are known, where they stand on the map, models, facts, histories."""
    all_rows, vocabulary = encode(data)
    rows, codes = most_watched(all_rows)
    if rows.n_items < 2:
        raise StudyError(f"{data.name} has {rows.n_items} film: nothing can be recommended beside it.")
    weights = learn(rows).quantised()
    facts, sources = _facts(data, codes)
    own = data.name not in RELEASES
    x, y = film_map(weights.vectors.vectors)
    return {
        "name": data.name,
        "about": _about(data, rows, all_rows.n_items),
        "films": {
            "titles": [str(title) for title in titles_of(data, vocabulary, codes)],
            "genres": _genres(data, vocabulary, codes),
            "raters": packed(rows.item_counts.astype(np.uint32)),
            "known": packed(weights.known),
            "x": packed(x),
            "y": packed(y),
        },
        "models": [_packed_table(model) for model in weights.models],
        "facts": facts,
        "users": _histories(rows, vocabulary) if own else None,
        "sources": [_permission(own), *sources],
    }


def packed(values: np.ndarray) -> Packed:
    """An array as its type and base64 of its bytes, the lowest byte of a number first."""
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return {"type": values.dtype.name, "base64": base64.b64encode(little.tobytes()).decode()}


def _packed_table(table: Table) -> dict[str, Any]:
    names = ("values", "scales", *(("everywhere", "ridge") if isinstance(table, Folded) else ("starts", "columns")))
    arrays = {name: getattr(table, name) for name in names}
    return {
        "name": table.name,
        "title": table.title,
        **{name: packed(array) for name, array in arrays.items() if array is not None},
    }


def film_map(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (I,) and (I,) from 0 to 65535 of films with (I, D) vectors: those with audiences alike stand near each other.

    By t-SNE of cosines (van der Maaten & Hinton 2008); by two principal components where the films are few, or too many for it.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    directions = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    if np.ptp(directions, axis=0).max() < 1e-6:  # films of one audience: there is nothing to spread
        places = np.zeros((len(vectors), 2))
    elif LEAST_SCATTERED <= len(vectors) <= MOST_SCATTERED:
        places = TSNE(init="pca", random_state=0, max_iter=500).fit_transform(directions)  # of length 1: near is alike
    else:
        places = PCA(2, random_state=0).fit_transform(directions)
    low, high = places.min(axis=0), places.max(axis=0)
    scaled = (places - low) / np.maximum(high - low, 1e-12) * 65535
    return scaled[:, 0].round().astype(np.uint16), scaled[:, 1].round().astype(np.uint16)


def _genres(data: MovieLens, vocabulary: Vocabulary, codes: np.ndarray) -> list[str]:
    """Genres of each film, "Action|Drama", empty where nothing is known."""
    if data.movies is None:
        return [""] * len(codes)
    found = data.movies.set_index("item_id")["genres"].reindex(vocabulary.item_ids[codes])
    return [str(genres) for genres in found.fillna("")]


def _facts(data: MovieLens, codes: np.ndarray) -> tuple[list[dict[str, Any]], list[str]]:
    """A table for each kind of facts that two films of the page share, and what their sources ask to be named for."""
    names = names_at_hand(data)
    facts = shared_facts(data, codes, names)
    if facts is None:
        return [], []
    tables = [_packed_facts(kind, flags, facts.labels[kind]) for kind, flags in facts.flags.items()]
    attributions = [FILM_SOURCES["film-graph"].attribution] if "director" in facts.flags else []
    return tables, [*attributions, *([PARAGRAPHS.attribution] if names else [])]


def _packed_facts(kind: str, flags: sparse.csr_matrix, labels: list[str]) -> dict[str, Any]:
    integer = np.uint16 if len(labels) < 2**16 else np.uint32
    columns = {"starts": packed(flags.indptr.astype(np.uint32)), "codes": packed(flags.indices.astype(integer))}
    return {"kind": kind, "labels": labels, **columns}


def _histories(rows: Interactions, vocabulary: Vocabulary) -> dict[str, Any]:
    """The histories of the first users, in the order of time, that together have no more than `MOST_RATINGS_SHOWN` ratings."""
    ends = np.cumsum(rows.user_counts)
    n_users = int(np.searchsorted(ends, MOST_RATINGS_SHOWN, side="right"))
    shown = rows.by_time[: ends[n_users - 1] if n_users else 0]
    return {
        "ids": [str(user) for user in vocabulary.user_ids[:n_users]],
        "starts": packed(np.r_[0, ends[:n_users]].astype(np.uint32)),
        "films": packed(rows.items[shown].astype(np.uint16)),
        "stars": packed(rows.ratings[shown]),
    }


def _about(data: MovieLens, rows: Interactions, n_films: int) -> str:
    films = f"{n_films:,} films" if n_films == rows.n_items else f"the {rows.n_items:,} most rated of {n_films:,} films"
    fitted = f"Models fitted on {len(rows):,} ratings of {films} by {rows.n_users:,} people ({data.name})."
    return f"{fitted} Rate some films and see what each model makes of it; all is computed in this page, and nothing leaves it."


def _permission(own: bool) -> str:
    if own:
        return "Histories of people of the data are in this file: pass it on only where you would pass on the data."
    return (
        "Films and models come from MovieLens (Harper & Konstan 2015), which GroupLens does not allow to be passed on: keep this "
        "file to yourself. It holds no user's history."
    )
