"""Films like a film: its title found as people type it, and the films nearest to it by what they are or by who watched them."""

import re
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import normalize

from recsys_core.app.explain import alone
from recsys_core.app.recommend import titles_of
from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.interactions import Vocabulary
from recsys_core.models import MODELS, Recommender
from recsys_core.retrieval import VectorIndex

NEAR_ENOUGH = 0.8  # of 1, the likeness of two titles at which one is taken for the other
CLEARLY = 0.05  # by which it must be more like it than any other title


def more_like_this(
    model: Recommender, data: MovieLens, vocabulary: Vocabulary, title: str, k: int = 10
) -> pd.DataFrame:
    """The k films most like the film of this title (see `find_film`), without itself; columns item_id, title, similarity.

    By the model's own similarity where it has one, else by the cosine of its item vectors. A model that is linear in the history
    lists what it would for somebody who has watched this film alone, and what that adds to the scores. Fewer than k where nothing
    more has anything in common with it. The index is the rank. Raises StudyError for a title that is not found, a film of which the
    model knows nothing, a model that compares no films, and k below 1 or above the number of other films.
    """
    require_likeness(type(model))
    item, n_others = find_film(data, vocabulary, title), len(vocabulary.item_ids) - 1
    if not 1 <= k <= n_others:
        raise StudyError(f"k={k}: there are 1 to {n_others} other films to list.")
    items, values = _nearest(model, item, k)
    if not len(items):
        known = "watched by nobody" if model.own_traits.adds_up else "a film without content"
        raise StudyError(f"{titles_of(data, vocabulary, np.array([item]))[0]} is {known}: no other is like it.")
    codes = items.cpu().numpy()
    table = pd.DataFrame({"item_id": vocabulary.item_ids[codes], "title": titles_of(data, vocabulary, codes)})
    table["similarity"] = values.cpu().double().numpy().round(4)
    return table.set_index(pd.Index(np.arange(1, len(codes) + 1), name="rank"))


def _nearest(model: Recommender, item: int, k: int) -> tuple[Tensor, Tensor]:
    """At most k other items, best first, and their similarity; none for an item of which the model knows nothing."""
    if model.own_traits.adds_up:
        added = alone(model, np.array([item]))[0]
        values, items = added.index_fill(0, torch.tensor([item]), -torch.inf).sort(descending=True, stable=True)
        kept = (values > 0).nonzero().ravel()[:k]
        return items[kept], values[kept]
    vectors = model.item_vectors()  # type: ignore[attr-defined]
    index: Any = model if hasattr(model, "similar") else VectorIndex(normalize(vectors.float(), dim=1))
    items, values = index.similar(item, k)
    related = vectors[items] @ vectors[item] != 0
    return items[related], values[related]


def require_likeness(kind: type[Recommender]) -> None:
    """Refuse, with a StudyError, a model that compares no films."""
    if not _compares(kind):
        having = ", ".join(name for name, other in MODELS.items() if _compares(other))
        raise StudyError(
            f"{kind.__name__} does not compare films: choose a model that compares films, one of {having}."
        )


def _compares(kind: type[Recommender]) -> bool:
    return hasattr(kind, "item_vectors") or kind.traits.adds_up


def find_film(data: MovieLens, vocabulary: Vocabulary, title: str) -> int:
    """The code of the film of this title, with its year or without, in any case; "The X" and "X, The" are the same.

    Where no film has it, it stands for the one film whose title holds all its words, or else for the one spelt most nearly so. A
    film that has two ids, with one title and year, is the one with more ratings. Raises StudyError for an empty title and for data
    without titles, where several films have the title (it names them), and where none is meant clearly (it names the closest).
    """
    require_titles(data)
    asked, year = _parts(title)
    if not asked:
        raise StudyError('The title is empty: give one, such as --like "Toy Story".')
    titles = [str(each) for each in titles_of(data, vocabulary, np.arange(len(vocabulary.item_ids)))]
    known = [_parts(each) for each in titles]
    eligible = [code for code, (_, when) in enumerate(known) if year in ("", when)]
    same = _once([code for code in eligible if known[code][0] == asked], titles, data, vocabulary)
    if len(same) > 1:
        raise StudyError(
            f"{len(same)} films have the title {title!r}: {_listed(titles, same)}. Give one with its year."
        )
    holding = [code for code in eligible if set(asked.split()) <= set(known[code][0].split())]
    likeness = [SequenceMatcher(None, asked, words).ratio() for words, _ in known]
    near = [code for code in eligible if likeness[code] >= NEAR_ENOUGH]
    nearest = [code for code in near if likeness[code] > max(likeness[each] for each in near) - CLEARLY]
    found = _once(same or holding or nearest, titles, data, vocabulary)
    if len(found) == 1:
        return found[0]
    closest = sorted(found or range(len(known)), key=lambda code: -likeness[code])[:5]
    raise StudyError(f"No film has the title {title!r}. The closest are: {_listed(titles, closest)}.")


def require_titles(data: MovieLens) -> None:
    """Refuse, with a StudyError, data without titles of films."""
    if data.movies is None:
        raise StudyError(f"{data.name} has no film titles: choose a data set with a movie table.")


def film_title(data: MovieLens, vocabulary: Vocabulary, title: str) -> str:
    """The whole title of the film that a title means; raises StudyError as `find_film` does."""
    return str(titles_of(data, vocabulary, np.array([find_film(data, vocabulary, title)]))[0])


def _once(codes: list[int], titles: list[str], data: MovieLens, vocabulary: Vocabulary) -> list[int]:
    """The codes without those of films that are there under another id with the same title and more ratings."""
    if len({titles[code] for code in codes}) == len(codes):
        return codes
    counts = data.ratings["item_id"].value_counts().reindex(vocabulary.item_ids, fill_value=0).to_numpy()
    best = sorted(codes, key=lambda code: (-counts[code], code))
    return sorted({titles[code]: code for code in reversed(best)}.values())


def _listed(titles: list[str], codes: list[int]) -> str:
    return "; ".join(titles[code] for code in codes)


def _parts(title: str) -> tuple[str, str]:
    """A title's words in small letters, its article in front, and its year or an empty text."""
    found = re.fullmatch(r"(.*?)\s*(?:\((\d{4})\))?\s*", title.strip().casefold(), re.DOTALL)
    assert found is not None
    words = re.sub(r"^(.*), (the|a|an|la|le|les|das|der|die|il|el)$", r"\2 \1", found[1])
    return " ".join(re.findall(r"\w+", words)), found[2] or ""
