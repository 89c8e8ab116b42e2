"""New users whose ratings come in one after the other: nested prefixes of a history against one fixed test set a user.

What may be known of a user are their first rows in time, rows of one time in the order of the file; all later rows are the test
set, whatever is known. The first rows are no candidates even where they are not known, so that every prefix ranks the same films.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations, pairwise

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recsys_core.errors import StudyError
from recsys_core.evaluate import RankingTask, rank, top_k
from recsys_core.interactions import Interactions
from recsys_core.models.base import Recommender
from recsys_core.splits import Role, Split, positions


def knowing_first(split: Split, n_first: int, least_test: int) -> Split:
    """The same users held out, with their first `n_first` rows as history and all later rows as targets.

    Users with fewer than `n_first` + `least_test` rows have no targets: those of validation train in the refit, those of test are
    left out. Raises StudyError for a split that holds no users out, for numbers below 1, and where no user has enough rows.
    """
    if not split.held_out or n_first < 1 or least_test < 1:
        raise StudyError(
            f"n_first={n_first}, least_test={least_test}: give 1 or more, and a split by users; this is {split.protocol}."
        )
    position, count = positions(split.interactions, split.interactions.times)
    enough, roles = count >= n_first + least_test, split.roles.copy()
    pairs = ((Role.TEST, Role.TEST_HISTORY, 0), (Role.VALIDATION, Role.VALIDATION_HISTORY, Role.VALIDATION_HISTORY))
    for target, history, otherwise in pairs:
        mine = (roles & (target | history)) > 0
        roles[mine] = np.where(enough, np.where(position < n_first, history, target), otherwise)[mine]
        if not (roles & target).any():
            raise StudyError(f"No held-out user has the {n_first + least_test} rows that this needs: ask for fewer.")
    return replace(split, roles=roles, variant=f"first {n_first} known, at least {least_test} tested")


def first_rows(history: Interactions, n_known: int) -> Interactions:
    """The first `n_known` rows in time of each user."""
    return history.take(positions(history, history.times)[0] < n_known)


@dataclass(frozen=True, kw_only=True)
class PrefixTask(RankingTask):
    """A ranking task in which a user's `withheld` rows are no candidates, known or not."""

    withheld: Interactions

    def candidates(self, scores: Tensor, users: np.ndarray) -> Tensor:
        """Set everything that must not be recommended to -inf, in place where possible."""
        scores = super().candidates(scores, users)
        rows, items = self.withheld.binary[users].nonzero()
        scores[torch.as_tensor(rows, dtype=torch.long), torch.as_tensor(items, dtype=torch.long)] = -torch.inf
        return scores


def of_active_users(rows: Interactions, least: int) -> Interactions:
    """The rows of users who have at least so many of them; StudyError where nobody has."""
    active = rows.take(rows.user_counts[rows.users] >= least)
    if not len(active):
        raise StudyError(f"least={least}: no user has so many rows, the most are {rows.user_counts.max()}.")
    return active


def rank_new_users(
    model: Recommender,
    train: Interactions,
    history: Interactions,
    test: Interactions,
    known: Sequence[int],
    cutoff: int = 10,
) -> pd.DataFrame:
    """How a fitted model ranks for users unknown to its training, knowing their first rows: one row per number known and user.

    Columns: known, user, fallback, ndcg@K, recall@K, hit_ratio@K, novelty@K (bits). A model that cannot fold in is told attributes
    alone and says the same whatever is known; without history and attributes the answer is the model's fallback. Novelty counts
    the rows of `train`.
    """
    metrics = [f"{name}@{cutoff}" for name in ("ndcg", "recall", "hit_ratio", "novelty")]
    parts: list[pd.DataFrame] = []
    for n_known in known:
        if parts and not model.own_traits.folds_in:
            parts.append(parts[0].assign(known=n_known))
            continue
        told = first_rows(history, n_known)
        task = PrefixTask(train, test, told, cutoffs=(cutoff,), withheld=history)
        parts.append(rank(model, task).users.assign(known=n_known))
    return pd.concat(parts, ignore_index=True)[["known", "user", "fallback", *metrics]]


def n_different_lists(model: Recommender, history: Interactions, k: int = 10) -> int:
    """How many different lists of k items the users of a history get, nothing left out: 1 if what they rated changes nothing."""
    scores = model.score(torch.as_tensor(np.unique(history.users)), history)
    return len(top_k(scores, k, type(model).__name__).unique(dim=0))


def mean_over_seeds(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of `rank_new_users` of one model and several seeds as one, each value the mean."""
    return pd.concat(parts).groupby(["known", "user", "fallback"], sort=False).mean().reset_index()


def best_rule(means: pd.DataFrame, most_switches: int = 2) -> dict[int, str]:
    """Which model to ask from which number of known rows on, with the best sum over all numbers of known rows.

    `means` has a row a model and a column a number known, ascending; the first number is the first key. Of equally good rules
    the one with the fewest switches is taken, of equally good models the first.
    """
    numbers, rules = means.columns.to_numpy(int), []
    for cuts in chain.from_iterable(combinations(numbers.tolist()[1:], n) for n in range(most_switches + 1)):
        starts = [int(numbers[0]), *cuts]
        parts = [(numbers >= start) & (numbers < end) for start, end in pairwise([*starts, np.inf])]
        sums = [means.loc[:, part].sum(axis=1) for part in parts]
        rules.append(
            (sum(each.max() for each in sums), {start: str(each.idxmax()) for start, each in zip(starts, sums)})
        )
    return max(rules, key=lambda rule: round(rule[0], 9))[1]


def asked(rule: dict[int, str], n_known: int) -> str:
    """The model that a rule asks about a user of whom so many rows are known."""
    return rule[max(start for start in rule if start <= n_known)]


def by_rule(users: pd.DataFrame, rule: dict[int, str]) -> pd.DataFrame:
    """The rows of the models that the rule asks; `users` are those of `rank_new_users` with a column model."""
    return users[users["model"] == [asked(rule, n_known) for n_known in users["known"]]]


def held_from(better: pd.Series) -> int | None:
    """The smallest number known from which on all values are True; `better` is bool by number, ascending; None if there is none."""
    held = np.flip(np.logical_and.accumulate(np.flip(better.to_numpy(bool))))
    return next((int(number) for number, holds in zip(better.index, held) if holds), None)
