"""Lists from small tables: the best films for a history, moved by how well known they are and by how alike they are.

With both sliders at 0 a list holds the k films with the highest scores. Else they are chosen from the `POOL` films with the highest
scores. With popularity w and diversity d from the sliders,

    a_i = score_i / max |score| - w known_i            known_i = raters of i / raters of the film with most

and the next film of a list is the one with the highest (1 - d) a_i - d max_j cos(q_i, q_j) over the films j that are on the list
already (0 where none is alike; Carbonell & Goldstein 1998). Ties go to the lower code, so to the lower id. `explorer.js` computes
the same, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recsys_core.app.explorer.tables import Folded, Table
from recsys_core.errors import StudyError

POOL = 100  # films from which a list is chosen where a slider is moved


@dataclass(frozen=True)
class Weights:
    """Tables of several models over one catalogue, and (I,) how well known each film is, from 0 to 1."""

    models: tuple[Table, ...]
    known: np.ndarray

    @property
    def vectors(self) -> Folded:
        """The model whose vectors say which films are alike."""
        return next(model for model in self.models if isinstance(model, Folded))

    def quantised(self) -> Weights:
        """The same with int8 values, which is what a page holds."""
        return Weights(tuple(model.quantised() for model in self.models), self.known)


def recommend(
    weights: Weights,
    history: Sequence[int] | np.ndarray,
    k: int = 10,
    seen: Sequence[int] | np.ndarray = (),
    popularity: float = 0.0,
    diversity: float = 0.0,
) -> list[np.ndarray]:
    """For each model the codes of the k best films, best first, for somebody who has watched the films of `history`.

    Films of the history and those `seen` are on no list. `popularity` is from -1 (well known films) to 1 (others), `diversity`
    from 0 to 1. Raises StudyError for an empty history and for values outside of these.
    """
    watched, hidden = np.unique(np.asarray(history, np.int64)), np.asarray(seen, np.int64)
    if not len(watched):
        raise StudyError("The history is empty: rate at least one film.")
    if not (-1 <= popularity <= 1 and 0 <= diversity <= 1):
        raise StudyError(f"popularity={popularity} and diversity={diversity}: give -1 to 1 and 0 to 1.")
    left = np.ones(len(weights.known), bool)
    left[watched] = left[hidden] = False
    return [
        _listed(weights, model.scores(watched), np.flatnonzero(left), k, popularity, diversity)
        for model in weights.models
    ]


def _listed(
    weights: Weights, scores: np.ndarray, left: np.ndarray, k: int, popularity: float, diversity: float
) -> np.ndarray:
    """The (K,) films of a list, of those that are left."""
    if popularity == 0 and diversity == 0:
        return best(scores, left, k)
    pool = best(scores, left, max(POOL, k))
    moved = scores / (np.abs(scores[pool]).max(initial=0) or 1.0) - popularity * weights.known
    return best(moved, pool, k) if diversity == 0 else _varied(weights.vectors, moved, pool, k, diversity)


def _varied(vectors: Folded, moved: np.ndarray, pool: np.ndarray, k: int, diversity: float) -> np.ndarray:
    """The (K,) films of a pool that are chosen one after the other, each for its score and for being unlike those before it."""
    closest, chosen = np.zeros(len(moved)), np.empty(0, np.int64)
    while len(chosen) < min(k, len(pool)):
        worth = (1 - diversity) * moved - diversity * closest
        film = best(worth, np.setdiff1d(pool, chosen), 1)
        closest, chosen = np.maximum(closest, vectors.likeness(int(film[0]))), np.append(chosen, film)
    return chosen


def best(scores: np.ndarray, among: np.ndarray, k: int) -> np.ndarray:
    """The k of these films with the highest of (I,) scores, ties by code."""
    return among[np.lexsort((among, -scores[among]))][:k]


def similar(model: Table, item: int, k: int = 10) -> np.ndarray:
    """The at most k films that are most like a film by a model, of those that are like it at all."""
    likeness = model.likeness(item)
    others = np.flatnonzero(likeness > 0)
    return best(likeness, others[others != item], k)


def reasons(model: Table, history: Sequence[int] | np.ndarray, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of (K,) films the film of the history that adds most to its score, ties by code, and what it adds."""
    watched = np.unique(np.asarray(history, np.int64))
    parts = model.parts(watched, items)
    return watched[parts.argmax(axis=0)], parts.max(axis=0)
