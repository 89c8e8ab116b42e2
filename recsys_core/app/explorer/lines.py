"""Lists of several models side by side, and of each line what speaks for it, as tables and as HTML in which titles are text."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd

from recsys_core.app.explain import Facts
from recsys_core.app.explorer.lists import Weights, reasons, recommend
from recsys_core.app.recommend import LIKED
from recsys_core.errors import StudyError, refuse_unknown


@dataclass(frozen=True)
class Line:
    """A film of a list: its code and title, what speaks for it, which other lists have it, and whether it was watched later."""

    film: int
    title: str
    by_people: str
    by_content: str
    others: tuple[str, ...]
    watched: bool


@dataclass(frozen=True)
class Catalogue:
    """(I,) titles of films, and the facts that these share, if any are known."""

    titles: np.ndarray
    facts: Facts | None = None


def side_by_side(
    weights: Weights,
    catalogue: Catalogue,
    stars: Mapping[int, float],
    chosen: Sequence[str] | None = None,
    k: int = 10,
    popularity: float = 0.0,
    diversity: float = 0.0,
    later: Collection[int] = (),
) -> dict[str, list[Line]]:
    """The k films that each model recommends to somebody who gave `stars` to films, by the model's title.

    `chosen` are titles of models, None for all; films in `later` are marked as watched. Raises StudyError as `recommend` does, and
    for a model that is not known.
    """
    titles = [model.title for model in weights.models]
    chosen = titles if chosen is None else list(chosen)
    refuse_unknown("chosen", chosen, titles)
    found = dict(zip(titles, recommend(weights, list(stars), k, popularity=popularity, diversity=diversity)))
    liked = np.array(
        sorted((film for film, given in stars.items() if given >= LIKED), key=lambda film: -stars[film]), int
    )
    lists = {}
    for model in weights.models:
        if model.title in chosen:
            items = found[model.title]
            films, parts = reasons(model, list(stars), items)
            people = [_by_people(catalogue, stars, int(film), part) for film, part in zip(films, parts)]
            others = [tuple(name for name in chosen if name != model.title and item in found[name]) for item in items]
            lists[model.title] = [
                Line(item, str(catalogue.titles[item]), said, _by_content(catalogue, liked, item), where, item in later)
                for item, said, where in zip(items.tolist(), people, others)
            ]
    return lists


def _by_people(catalogue: Catalogue, stars: Mapping[int, float], film: int, part: float) -> str:
    return f"{catalogue.titles[film]}, rated {stars[film]:g}, adds {part:.3f}" if part > 0 else "no film speaks for it"


def _by_content(catalogue: Catalogue, liked: np.ndarray, item: int) -> str:
    found = catalogue.facts.closest(item, liked) if catalogue.facts is not None and len(liked) else None
    if found is None:
        return ""
    kind, label, film = found
    return f"same {kind}{f' ({label})' if label else ''} as {catalogue.titles[film]}"


def codes_of(catalogue: Catalogue, stars: Mapping[str, float], n_known: int = 3) -> dict[int, float]:
    """Codes of films by their titles, the first of those with one title.

    Raises StudyError where the data have fewer than `n_known` of them.
    """
    places = {str(title): code for code, title in reversed(list(enumerate(catalogue.titles)))}
    found = {places[title]: given for title, given in stars.items() if title in places}
    if len(found) < n_known:
        missing = ", ".join(title for title in stars if title not in places)
        raise StudyError(f"The data have no films called {missing}: name at least {n_known} of theirs.")
    return found


def as_table(lists: Mapping[str, list[Line]]) -> pd.DataFrame:
    """Titles by rank and model; ● for a film that is on all lists, ✓ for one that was watched later."""
    marked = {model: [f"{line.title}{_marks(line, len(lists))}" for line in lines] for model, lines in lists.items()}
    longest = max(map(len, marked.values()))
    rank = pd.RangeIndex(1, longest + 1, name="rank")
    return pd.DataFrame({model: [*titles, *[""] * (longest - len(titles))] for model, titles in marked.items()}, rank)


def as_reasons(lines: Sequence[Line]) -> pd.DataFrame:
    """A model's list with what speaks for each film: columns title, by people, by content."""
    told = {"title": [line.title for line in lines], "by people": [line.by_people for line in lines]}
    told["by content"] = [line.by_content for line in lines]
    return pd.DataFrame(told, pd.RangeIndex(1, len(lines) + 1, name="rank"))


def as_html(lists: Mapping[str, list[Line]]) -> str:
    """The lists as columns of a table, each line with its reasons."""
    heads = "".join(f"<th style='text-align:left'>{escape(model)}</th>" for model in lists)
    longest = max(map(len, lists.values()), default=0)
    rows = [[lines[place] if place < len(lines) else None for lines in lists.values()] for place in range(longest)]
    body = "".join(
        f"<tr><td>{rank}</td>{''.join(_cell(line, len(lists)) for line in row)}</tr>"
        for rank, row in enumerate(rows, 1)
    )
    return f"<table><thead><tr><th></th>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _cell(line: Line | None, n_lists: int) -> str:
    if line is None:
        return "<td></td>"
    told = "<br>".join(escape(text) for text in (line.by_people, line.by_content) if text)
    title = escape(f"{line.title}{_marks(line, n_lists)}")
    return f"<td style='text-align:left;vertical-align:top'><b>{title}</b><br><small>{told}</small></td>"


def _marks(line: Line, n_lists: int) -> str:
    in_all = n_lists > 1 and len(line.others) == n_lists - 1
    return f"{' ●' if in_all else ''}{' ✓' if line.watched else ''}"
