"""Histories in another order: what a study changes to see whether a model uses the order, or what ties decided.

Times become places, 0 to N - 1 in the order of time over all rows, equal times in the order of the rows; rows whose order is
changed exchange their places with one another. So no two rows are tied, and nobody has another first and last place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any, TypeVar

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.chapters import plots
from pipeline.chapters.comparisons import Comparison, compare
from recsys_core import evaluate
from recsys_core.errors import StudyError, refuse_unknown
from recsys_core.interactions import Interactions
from recsys_core.models.base import Recommender
from recsys_core.protocols import make_split
from recsys_core.splits import Role, Split, positions

Model = TypeVar("Model", bound="Recommender")
ORDERS = ("true", "ties reordered", "shuffled, last kept", "shuffled")
ARROW = " → "  # from the order that was learnt to the one that is read


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


def tied_last_as_test(rows: Interactions) -> Split:
    """`loo-full` whose test rows are all rows of a user's latest time: a test set with several right answers.

    None of them is known to a model, and a user counts as a hit where any is in the list. The row before them is the validation
    row. A user with fewer than two rows before that time has the roles that `loo-full` gives.
    """
    split = make_split("loo-full", rows)
    latest = np.zeros(rows.n_users, dtype=rows.times.dtype)
    np.maximum.at(latest, rows.users, rows.times)
    tied = rows.times == latest[rows.users]
    n_before = rows.user_counts - np.bincount(rows.users[tied], minlength=rows.n_users)
    whole = (n_before >= 2)[rows.users]
    before = np.flatnonzero(whole & ~tied)
    position, count = positions(rows.take(before), rows.times[before])
    roles = split.roles.copy()
    roles[whole] = np.where(tied, Role.TEST, Role.TRAIN)[whole]
    roles[before[position == count - 1]] = Role.VALIDATION
    return replace(split, roles=roles, variant="all films of the latest time")


def histories_by_order(split: Split, seed: int, orders: Sequence[str] = ORDERS) -> dict[str, Interactions]:
    """What the measured models know, all rows but the test rows, in each of these orders of `ORDERS`."""
    refuse_unknown("orders", orders, ORDERS)
    kinds: dict[str, dict[str, Any]] = {"ties reordered": {"ties_only": True}, "shuffled, last kept": {"keep_last": 1}}
    changed = {order: histories_reordered(split, seed, **kinds.get(order, {})) for order in orders if order != "true"}
    return {order: changed.get(order, split).refit for order in orders}


def users_by_order(
    model: Recommender, learnt: str, histories: Mapping[str, Interactions], task: evaluate.RankingTask
) -> pd.DataFrame:
    """Per-user values of a model that learnt from the order `learnt`, reading each of the histories; `model` is "learnt → read"."""
    ranked = {order: evaluate.rank(knowing(model, rows), task).users for order, rows in histories.items()}
    return pd.concat([users.assign(model=f"{learnt}{ARROW}{order}") for order, users in ranked.items()])


def reading_every_order(
    model: Recommender, learnt: str, split: Split, seed: int, read: Sequence[str], metrics: Sequence[str]
) -> pd.DataFrame:
    """Per-user values on the test rows of a model that learnt from the order `learnt`, reading each of these orders.

    Columns: user, variant ("learnt → read") and the metrics.
    """
    task = evaluate.RankingTask(split.refit, split.test, cutoffs=(10,))
    users = users_by_order(model, learnt, histories_by_order(split, seed, read), task)
    return users.rename(columns={"model": "variant"})[["user", "variant", *metrics]].round(5).reset_index(drop=True)


def grid(values: pd.Series) -> pd.DataFrame:
    """Values by "learnt → read" as a table: a row for each order that was learnt, a column for each that was read."""
    cells = pd.DataFrame([str(name).split(ARROW) for name in values.index], columns=["trained on", "tested on"])
    learnt, read = ([order for order in ORDERS if order in set(cells[column])] for column in cells)
    table = cells.assign(value=values.to_numpy()).pivot_table("value", "trained on", "tested on")
    return table.loc[learnt, read]


def compared_orders(users: pd.DataFrame, metric: str) -> Comparison:
    """Compare true histories in training and at the test with every other order, from per-user values of variants "learnt → read".

    With each order in both places, and with true ones learnt and the other read.
    """
    rows = users[users["variant"].astype(str).str.contains(ARROW)]
    learnt = rows["variant"].str.split(ARROW).str[0]
    names = [order for order in ORDERS[1:] if order in set(learnt)]
    read = [order for order in ORDERS[1:] if order in set(rows["variant"].str.split(ARROW).str[1])]
    pairs = [("true → true", f"{order}{ARROW}{order}") for order in names]
    pairs += [("true → true", f"true{ARROW}{order}") for order in read]
    return compare(rows.assign(model=rows["variant"], variant=""), metric, pairs)


def grid_figure(grids: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Tables of `grid` as maps of one scale, one above the other, each under its model's name."""
    height = 1.0 + sum(0.9 + 0.45 * len(table) for table in grids.values())
    figure, axes = plt.subplots(len(grids), 1, figsize=(plots.WIDTH_INCHES, height), squeeze=False, sharex=True)
    highest = max(float(table.to_numpy().max()) for table in grids.values())
    for (name, table), part in zip(grids.items(), axes[:, 0]):
        part.imshow(table, cmap="Blues", vmin=0, vmax=2 * highest, aspect="auto")
        for place, value in np.ndenumerate(table.to_numpy()):
            part.text(*place[::-1], f"{value:.3f}", ha="center", va="center")
        part.set_xticks(range(table.shape[1]), [str(order).replace(" ", "\n", 1) for order in table.columns])
        part.set_yticks(range(table.shape[0]), table.index)
        part.set(ylabel=f"{name}\ntrained on")
        part.grid(visible=False)
    axes[-1, 0].set_xlabel("Tested on")
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return figure


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
