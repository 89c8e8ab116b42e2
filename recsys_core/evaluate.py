"""Asks a model for lists or stars and measures them: what a user has seen is masked, ranked and cut here, and only here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor

from recsys_core import metrics
from recsys_core.budget import rows_at_once
from recsys_core.errors import StudyError, at_least
from recsys_core.interactions import Interactions
from recsys_core.metrics import Hits

if TYPE_CHECKING:
    from recsys_core.models.base import Recommender

CUTOFFS = (10, 25)


@dataclass(frozen=True)
class Ranking:
    """A model's rankings for B users.

    `users` has one row per user: `user` code, `known` (has a history), `fallback`, `n_relevant` and a column per metric@cutoff.
    `lists` is (B, K) item codes, -1 for an empty place; `n_items` is the size of the catalogue.
    """

    users: pd.DataFrame
    lists: np.ndarray
    n_items: int

    def of(self, mask: np.ndarray) -> Ranking:
        """The same rankings for a part of the users; `mask` is (B,) bool."""
        return Ranking(self.users[mask].reset_index(drop=True), self.lists[mask], self.n_items)

    def summary(self) -> pd.DataFrame:
        """One row per metric: `value` (mean over users), `n_users` counted and `n_missing` without a value."""
        values = self.users.filter(like="@")
        table = pd.DataFrame({"value": values.mean(), "n_users": values.count(), "n_missing": values.isna().sum()})
        for cutoff in sorted({int(column.split("@")[1]) for column in values.columns.astype(str)}):
            top = self.lists[:, :cutoff]
            table.loc[f"coverage@{cutoff}"] = [metrics.coverage(top, self.n_items), len(top), 0]
            table.loc[f"exposure_gini@{cutoff}"] = [metrics.exposure_gini(top, self.n_items), len(top), 0]
        table["n_fallback"] = int(self.users["fallback"].sum())
        return table.rename_axis("metric").reset_index().astype({"n_users": int, "n_missing": int})


def _checked(scores: Tensor, name: str, size: tuple[int, int] | None = None) -> Tensor:
    """(B, I) scores as numbers with a fraction; StudyError names the model and the sizes where they are of another shape."""
    found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
    if isinstance(found, str) or len(found) != 2 or found != (size or found):
        wanted = (
            "a row for each user and a column for each item" if size is None else f"{size[0]} users and {size[1]} items"
        )
        raise StudyError(
            f"{name} gives scores of shape {found} for {wanted}: its score() must return one of each pair."
        )
    if scores.is_complex():
        raise StudyError(f"{name} gives complex scores, which have no order: its score() must return real numbers.")
    if scores.dtype in (torch.float16, torch.bfloat16):  # which numpy and some sorts lack
        return scores.float()
    return scores if scores.is_floating_point() else scores.double()


def _best(scores: Tensor, k: int, name: str) -> tuple[Tensor, Tensor]:
    """Values and items (B, k) of the best scores; `topk` puts NaN first and then +inf, so that looking at these finds every one."""
    values, items = scores.topk(k, dim=1)
    if not (values[:, :1] < torch.inf).all():
        found = "NaN" if values.isnan().any() else "+inf"
        raise StudyError(f"A score is {found}: {name} has diverged or was given features that are not finite.")
    return values, items


def top_k(scores: Tensor, k: int, name: str = "the model") -> Tensor:
    """Return the (B, k) best items of (B, I) scores; ties by item code, lowest first; -1 where only -inf is left.

    Raises StudyError for k outside the catalogue and for scores, of the model of this name, that are NaN, +inf or no matrix.
    """
    scores = _checked(scores, name)
    n_items = scores.shape[1]
    if not 1 <= k <= n_items:
        raise StudyError(f"k={k}: a list can hold 1 to {n_items} items, the size of the catalogue.")
    values, items = _best(scores, min(k + 1, n_items), name)
    tied = ((values[:, :-1] == values[:, 1:]) & ~values[:, :-1].isneginf()).any(dim=1).nonzero().squeeze(1)
    if len(tied):  # only a stable sort orders equal scores by item
        items[tied] = scores[tied].sort(dim=1, descending=True, stable=True).indices[:, : items.shape[1]]
    return items.masked_fill(values.isneginf(), -1)[:, :k]


def _pairs(matrix: sparse.csr_matrix, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row (position in `users`) and item of every non-zero of the users' rows."""
    rows = matrix[users]
    return np.repeat(np.arange(len(users)), np.diff(rows.indptr)), rows.indices.astype(np.int64)


def _compare(scores: Tensor, rows: Tensor, values: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Count, for each value, the scores of its row that are above it and that equal it."""
    above, tied = [], []
    step = rows_at_once(scores.shape[1], scores.device)
    for row, value in zip(rows.split(step), values.split(step)):
        theirs = scores[row]
        above.append((theirs > value[:, None]).sum(1))
        tied.append((theirs == value[:, None]).sum(1))
    return torch.cat(above).cpu().numpy(), torch.cat(tied).cpu().numpy()


def top_hits(scores: Tensor, rows: np.ndarray, items: np.ndarray, cutoff: int, name: str = "the model") -> Hits:
    """Find which relevant (row, item) pairs reach the first `cutoff` of (B, I) scores, and at which rank.

    Only relevant items at or above the user's `cutoff`-th best score are compared with the whole row, which is what makes
    exact ranks cheap. Relevant items with equal scores follow one another; irrelevant ones of the same score count half. What
    scores -inf is in no list and never a hit. Raises StudyError for scores as `top_k` does.
    """
    scores = _checked(scores, name)
    n_relevant = np.bincount(rows, minlength=scores.shape[0])
    threshold = _best(scores, min(cutoff, scores.shape[1]), name)[0][:, -1]
    row, item = (torch.as_tensor(codes, device=scores.device) for codes in (rows, items))
    values = scores[row, item]
    near = ((values >= threshold[row]) & ~values.isneginf()).nonzero().squeeze(1)
    if not len(near):
        return Hits(np.empty(0, np.int64), np.empty(0), n_relevant)
    above, tied = _compare(scores, row[near], values[near])
    row_, value_ = row[near].cpu().numpy(), values[near].cpu().numpy()
    order = np.lexsort((-value_, row_))
    row_, value_, above, tied = row_[order], value_[order], above[order], tied[order]
    new_run = np.r_[True, (row_[1:] != row_[:-1]) | (value_[1:] != value_[:-1])]
    run = np.cumsum(new_run) - 1
    place_in_run = np.arange(len(row_)) - np.flatnonzero(new_run)[run]
    irrelevant_tied = tied - np.bincount(run)[run]
    return Hits(row_, 1 + above + place_in_run + irrelevant_tied / 2, n_relevant)


def _check_rows(train: Interactions, history: Interactions | None, test: Interactions, allow_overlap: bool) -> None:
    """Refuse a test split without rows and, unless allowed, one that shares a pair with the training or history rows."""
    if not len(test):
        raise StudyError("The test split has no rows: nothing can be measured.")
    for where, known in (("training", train), ("the history", history)):
        if allow_overlap or known is None:
            continue
        shared = np.intersect1d(known.pair_keys, test.pair_keys)
        if shared.size:
            user, item = divmod(int(shared[0]), known.n_items)
            seen = f"{shared.size} of {len(test)} test rows were also seen in {where}"
            first = f"the first is user code {user}, item code {item}"
            raise StudyError(f"{seen}, {first}: split again, or pass allow_overlap=True to measure a reported leak.")


@dataclass(frozen=True)
class RankingTask:
    """What is ranked for whom.

    `train` holds the rows that the model was fitted on, `test` the relevant ones, `history` what is known of held-out users
    (None: the test users' training rows). `negatives` (U, n) restricts each user's candidates to the test item and these, `among`
    (I,) bool all users' to a part of the items. `users` are ranked whether or not they have a relevant row (None: those of `test`).
    """

    train: Interactions
    test: Interactions
    history: Interactions | None = None
    negatives: np.ndarray | None = None
    cutoffs: tuple[int, ...] = CUTOFFS
    allow_overlap: bool = False
    users: np.ndarray | None = None
    among: np.ndarray | None = None

    def __post_init__(self) -> None:
        at_least("cutoffs", self.cutoffs, 1)
        _check_rows(self.train, self.history, self.test, self.allow_overlap)
        if self.negatives is not None:
            self._check_negatives(self.negatives)

    def _check_negatives(self, negatives: np.ndarray) -> None:
        """Refuse negatives that are not a row of item codes for each user, and users with another number of test items than one."""
        n_users, n_items = self.test.n_users, self.test.n_items
        if negatives.ndim != 2 or len(negatives) != n_users or not ((negatives >= 0) & (negatives < n_items)).all():
            raise StudyError(
                f"The negatives must be a row of item codes from 0 to {n_items - 1} for each of {n_users} users."
            )
        counts = self.test.user_counts[self.asked]
        if (counts != 1).any():
            user, count = self.asked[counts != 1][0], counts[counts != 1][0]
            raise StudyError(
                f"User code {user} has {count} test items; beside negatives each user needs one: pass no negatives."
            )

    @property
    def asked(self) -> np.ndarray:
        """The users who are ranked, in ascending order."""
        return np.unique(self.test.users if self.users is None else self.users)

    @property
    def seen(self) -> Interactions:
        """What is known of the test users."""
        return self.train if self.history is None else self.history

    def batches(self) -> Iterator[np.ndarray]:
        """Yield users in batches: first those with a history, then those without, never mixed."""
        users = self.asked
        known = self.seen.user_counts[users] > 0
        size = rows_at_once(self.test.n_items)
        for group in (users[known], users[~known]):
            yield from np.split(group, range(size, len(group), size)) if len(group) else ()

    def candidates(self, scores: Tensor, users: np.ndarray) -> Tensor:
        """Set everything that must not be recommended to -inf, in place where possible."""
        if self.negatives is not None:
            listed = np.concatenate([self.negatives[users], self.test.binary[users].indices[:, None]], axis=1)
            columns = torch.as_tensor(listed, device=scores.device)
            return torch.full_like(scores, -torch.inf).scatter_(1, columns, scores.gather(1, columns))
        if self.among is not None:
            scores[:, torch.as_tensor(~self.among, device=scores.device)] = -torch.inf
        if not self.allow_overlap:
            rows, items = (torch.as_tensor(a, device=scores.device) for a in _pairs(self.seen.binary, users))
            scores[rows, items] = -torch.inf
        return scores


def _scored(model: Recommender, task: RankingTask, cutoff: int) -> Iterator[tuple[dict[str, np.ndarray], Tensor, Hits]]:
    """Yield, for every batch, what is known of its users, their scores (B, I) of candidates (others -inf), and their hits."""
    name = type(model).__name__
    for users in task.batches():
        told, attributes = model.told_of(users, task.seen, task.history)
        codes = torch.as_tensor(users)
        with torch.inference_mode():
            scores = _checked(model.score(codes, told, attributes), name, (len(users), task.test.n_items))
            scores = task.candidates(scores.clone(), users)
            hits = top_hits(scores, *_pairs(task.test.binary, users), cutoff, name)
        known, fallback = task.seen.user_counts[users] > 0, model.fallback(codes, told, attributes).cpu().numpy()
        yield {"user": users, "known": known, "fallback": fallback, "n_relevant": hits.n_relevant}, scores, hits


def rank(model: Recommender, task: RankingTask) -> Ranking:
    """Rank every candidate for every test user and measure; metrics as columns `metric@cutoff`.

    Raises StudyError where test rows were seen in training (unless allowed), for cut-offs below 1 and for scores that
    are NaN, +inf or of another shape than the users and items.
    """
    parts, lists = [], []  # a table for each batch would scatter memory that the next one cannot use
    largest = min(max(task.cutoffs), task.test.n_items)  # a longer list holds all items
    for known, scores, hits in _scored(model, task, largest):
        best = top_k(scores, largest, type(model).__name__).cpu().numpy()
        parts.append(known | _measure(task, known["user"], hits, best))
        lists.append(best)
    table = pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
    order = np.argsort(table["user"].to_numpy(), kind="stable")
    return Ranking(table.iloc[order].reset_index(drop=True), np.concatenate(lists)[order], task.test.n_items)


def mean_ndcg(model: Recommender, task: RankingTask) -> float:
    """Mean NDCG at the task's first cut-off, and nothing else: what model selection looks at after every epoch."""
    cutoff = task.cutoffs[0]
    gains = [metrics.ndcg(hits, cutoff) for _, _, hits in _scored(model, task, cutoff)]
    return float(np.nanmean(np.concatenate(gains)))


def _measure(task: RankingTask, users: np.ndarray, hits: Hits, lists: np.ndarray) -> dict[str, np.ndarray]:
    counts = task.train.item_counts
    seen = task.seen.binary[users]
    with np.errstate(invalid="ignore"):
        profile = np.asarray(seen @ counts.astype(np.float64)).ravel() / np.diff(seen.indptr)
    values = {}
    for cutoff in task.cutoffs:
        top = lists[:, :cutoff]
        for name, metric in metrics.RANKING_METRICS.items():
            values[f"{name}@{cutoff}"] = metric(hits, cutoff)
        values[f"novelty@{cutoff}"] = metrics.novelty(top, counts, task.train.n_users)
        values[f"popularity_bias@{cutoff}"] = metrics.popularity_bias(top, counts, profile)
        if task.train.item_features is not None:
            values[f"diversity@{cutoff}"] = metrics.diversity(top, task.train.item_features.select("genre_"))
    return values


def rate(
    model: Recommender,
    train: Interactions,
    test: Interactions,
    history: Interactions | None = None,
    allow_overlap: bool = False,
) -> pd.DataFrame:
    """Predict every test row at its time: columns user, item, actual, predicted (stars), squared_error, absolute_error, fallback.

    Raises StudyError without test rows, where one was seen in training, for models that do not predict ratings, and for predictions
    that are not finite or not one a row.
    """
    seen = train if history is None else history
    _check_rows(train, history, test, allow_overlap)
    rows = [torch.as_tensor(column) for column in (test.users, test.items, test.times)]
    known = torch.as_tensor(seen.user_counts[test.users] > 0)
    predicted, fallback = torch.empty(len(test)), torch.zeros(len(test), dtype=torch.bool)
    for group in (known, ~known):
        if group.any():
            users, items, times = (column[group] for column in rows)
            told, attributes = model.told_of(users.numpy(), seen, history)
            with torch.inference_mode():
                predicted[group] = _stars(model.predict(users, items, told, attributes, times), len(users), model)
            fallback[group] = model.fallback(users, told, attributes).cpu()
    actual, estimate = test.ratings.astype(np.float64), predicted.double().numpy()
    table = pd.DataFrame({"user": test.users, "item": test.items, "actual": actual, "predicted": estimate})
    errors = {"squared_error": (estimate - actual) ** 2, "absolute_error": np.abs(estimate - actual)}
    return table.assign(**errors, fallback=fallback.numpy())


def _stars(predicted: Tensor, n_rows: int, model: Recommender) -> Tensor:
    """(N,) predicted stars; StudyError where there are more or fewer, and where one is not finite."""
    if tuple(predicted.shape) != (n_rows,):
        raise StudyError(f"{type(model).__name__} predicts stars of shape {tuple(predicted.shape)} for {n_rows} rows.")
    if not predicted.isfinite().all():
        raise StudyError(f"A predicted rating of {type(model).__name__} is not finite: the model has diverged.")
    return predicted.float().cpu()


def rmse(rated: pd.DataFrame) -> float:
    """Root mean squared error over the rows that `rate` returned, in stars."""
    return float(np.sqrt(rated["squared_error"].mean()))
