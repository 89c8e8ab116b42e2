"""Histories in another order: what a study changes to see whether a model uses the order, or what ties decided.

Times become places, 0 to N - 1 in the order of time over all rows, equal times in the order of the rows; rows whose order is
changed exchange their places with one another. So no two rows are tied, and nobody has another first and last place.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import TypeVar

import numpy as np

from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions
from recsys_core.models.base import Recommender
from recsys_core.splits import Role, Split, positions

Model = TypeVar("Model", bound="Recommender")


def ties_reordered(rows: Interactions, seed: int, among: np.ndarray | None = None) -> Interactions:
    """Put the rows of a user that share a time in a random order; with `among` (N,) bool only those that it marks.

    Before a split this may change which of tied last rows is the test row; on what is known it is the null control of `shuffled`.
    """
    _, moments = np.unique(rows.times, return_inverse=True)
    return _exchanged(rows, rows.users * (moments.max(initial=0) + 1) + moments, _marked(rows, among), seed)


def shuffled(rows: Interactions, seed: int, keep_last: int = 0, among: np.ndarray | None = None) -> Interactions:
    """Put each user's rows in a random order but for the last `keep_last`; with `among` (N,) bool only those that it marks."""
    if keep_last < 0:
        raise StudyError(f"keep_last={keep_last}: it must be at least 0.")
    marked = np.flatnonzero(_marked(rows, among))
    history = rows.take(marked)
    position, count = positions(history, history.times)
    moved = np.zeros(len(rows), dtype=bool)
    moved[marked[position < count - keep_last]] = True
    return _exchanged(rows, rows.users, moved, seed)


def histories_reordered(split: Split, seed: int, keep_last: int = 0, ties_only: bool = False) -> Split:
    """The same split whose histories, all rows but the test rows, are in another order: `shuffled`, or `ties_reordered`.

    The last row of a history is its validation row where there is one, which is what the measured models know last; the models that
    are validated do not know it, so that with `keep_last=1` the last row that they know may be any. The variant says what was done,
    so that runs on different orders are told apart.
    """
    known = (split.roles & Role.TEST) == 0
    if ties_only:
        rows, done = ties_reordered(split.interactions, seed, known), f"ties reordered, seed={seed}"
    else:
        rows = shuffled(split.interactions, seed, keep_last, known)
        done = f"histories shuffled{f' but the last {keep_last}' if keep_last else ''}, seed={seed}"
    return replace(split, interactions=rows, variant=", ".join(part for part in (split.variant, done) if part))


def knowing(model: Model, rows: Interactions) -> Model:
    """The same fitted model as if `rows` were what it knows of its users, without learning anything again.

    This is how a model that was trained on one order is measured on another. Raises StudyError where `rows` are not the pairs of
    its training rows.
    """
    if not np.array_equal(rows.pair_keys, model.train_.pair_keys) or rows.n_items != model.train_.n_items:
        raise StudyError(
            "These rows are not the pairs that the model was trained on: give the same ones in another order."
        )
    other = copy(model)
    other.train_ = rows
    return other


def _marked(rows: Interactions, among: np.ndarray | None) -> np.ndarray:
    return np.ones(len(rows), dtype=bool) if among is None else among


def _exchanged(rows: Interactions, groups: np.ndarray, moved: np.ndarray, seed: int) -> Interactions:
    """Rows with places for times, of which those that are `moved` (N,) bool exchange theirs at random within `groups` (N,)."""
    places = np.empty(len(rows), dtype=np.int64)
    places[np.argsort(rows.times, kind="stable")] = np.arange(len(rows))
    chosen, keys = np.flatnonzero(moved), np.random.default_rng(seed).random(len(rows))
    before, after = (chosen[np.lexsort((key[chosen], groups[chosen]))] for key in (places, keys))
    exchanged = places.copy()
    exchanged[after] = places[before]
    return replace(rows, times=exchanged)
