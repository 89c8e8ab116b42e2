"""Nested prefixes of new users' histories, on worlds small enough to count by hand."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import FoldInTable, Table, make_interactions, random_interactions
from torch import Tensor

from pipeline.chapters import new_users
from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions
from recsys_core.models.baselines import Popularity
from recsys_core.models.traits import Traits
from recsys_core.protocols import make_split
from recsys_core.splits import Role, Split, positions

KNOWN = [0, 1, 2, 3]


def world(n_first: int = 3, least_test: int = 2) -> Split:
    return new_users.knowing_first(make_split("user-holdout", random_interactions(0, 60, 40, 700)), n_first, least_test)


@dataclass(kw_only=True)
class LastSeen(FoldInTable):
    """Scores the films right after the last one known highest; without a history, popularity."""

    traits: ClassVar[Traits] = Traits(form="counts", folds_in=True)

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        last = [history.items[history.users == user][-1] for user in users.tolist()]
        return -((torch.arange(history.n_items) - torch.tensor(last)[:, None] - 1) % history.n_items).float()


def test_each_user_with_enough_rows_has_the_first_as_history_and_all_later_ones_as_targets() -> None:
    split, rows = world(), random_interactions(0, 60, 40, 700)
    position, _ = positions(rows, rows.times)
    held_out = make_split("user-holdout", rows)
    for of, target, history in (
        (held_out.test, Role.TEST, Role.TEST_HISTORY),
        (held_out.validation, Role.VALIDATION, Role.VALIDATION_HISTORY),
    ):
        enough = np.unique(of.users)[of.user_counts[np.unique(of.users)] >= 5]
        assert set(split.rows(target).users) == set(enough) and len(enough) > 0
        for user in enough:
            mine = rows.users == user
            assert ((split.roles[mine] == history) == (position[mine] < 3)).all()
            assert ((split.roles[mine] == target) == (position[mine] >= 3)).all()
    assert (split.train.pair_keys == held_out.train.pair_keys).all()


def test_of_users_with_too_few_rows_those_of_validation_train_in_the_refit_and_those_of_test_are_left_out() -> None:
    split, held_out = world(n_first=8, least_test=4), world(1, 1)
    few = {
        role: [u for u in np.unique(held_out.rows(role).users) if held_out.interactions.user_counts[u] < 12]
        for role in (Role.VALIDATION, Role.TEST)
    }
    assert few[Role.VALIDATION] and few[Role.TEST]
    assert (split.refit.user_counts[few[Role.VALIDATION]] == split.interactions.user_counts[few[Role.VALIDATION]]).all()
    assert not split.train.user_counts[few[Role.VALIDATION]].any()
    for role in Role:
        assert not split.rows(role).user_counts[few[Role.TEST]].any()


def test_a_split_of_known_users_numbers_below_one_and_too_many_rows_are_refused() -> None:
    rows = random_interactions(0, 60, 40, 700)
    with pytest.raises(StudyError, match="a split by users; this is loo-full"):
        new_users.knowing_first(make_split("loo-full", rows), 3, 2)
    with pytest.raises(StudyError, match="n_first=0"):
        new_users.knowing_first(make_split("user-holdout", rows), 0, 2)
    with pytest.raises(StudyError, match="No held-out user has the 41 rows"):
        new_users.knowing_first(make_split("user-holdout", rows), 40, 1)


def test_prefixes_are_nested_and_in_the_order_of_time_with_ties_in_that_of_the_rows() -> None:
    history = make_interactions([(0, 5), (0, 3), (0, 4), (1, 2)], 2, 6, times=[7, 7, 1, 0])
    found = [new_users.first_rows(history, n).items.tolist() for n in KNOWN]
    assert found == [[], [4, 2], [5, 4, 2], [5, 3, 4, 2]]


def test_withheld_rows_are_no_candidates_whatever_is_known() -> None:
    # User 1 is new: films 0 and 1 are the first two, 2 is tested. Scores put the withheld ones first.
    train = make_interactions([(0, film) for film in range(6)], 2, 6)
    history = make_interactions([(1, 0), (1, 1)], 2, 6)
    test = make_interactions([(1, 2)], 2, 6)
    model = FoldInTable(table=np.array([[0.0] * 6, [9, 8, 7, 6, 5, 4]])).fit(train)
    ranked = new_users.rank_new_users(model, train, history, test, [0, 1, 2], cutoff=1)
    assert ranked["known"].tolist() == [0, 1, 2] and ranked["fallback"].tolist() == [True, False, False]
    assert ranked.loc[1:, ["ndcg@1", "recall@1", "hit_ratio@1"]].to_numpy().tolist() == [[1.0] * 3] * 2
    assert ranked.loc[0, "hit_ratio@1"] == 0  # popularity ties films 2 to 5, half of the three others before it


def test_what_is_known_reaches_the_model_and_no_more() -> None:
    train = make_interactions([(0, film) for film in range(8)], 2, 8)
    history = make_interactions([(1, 0), (1, 3)], 2, 8)
    test = make_interactions([(1, 1), (1, 6)], 2, 8)
    model = LastSeen(table=np.zeros((2, 8))).fit(train)
    ranked = new_users.rank_new_users(model, train, history, test, [1, 2], cutoff=1).set_index("known")
    assert ranked["hit_ratio@1"].tolist() == [1.0, 0.0]  # after film 0 comes 1, after film 3 comes 4


def test_a_model_that_cannot_fold_in_says_the_same_whatever_is_known() -> None:
    split = world()
    model = Table(table=np.random.default_rng(0).random((60, 40))).fit(split.refit)
    ranked = new_users.rank_new_users(model, split.refit, split.test_history, split.test, KNOWN)
    same = ranked.pivot_table(index="user", columns="known", values="ndcg@10")
    assert same.nunique(axis=1).eq(1).all() and ranked["fallback"].all()


def test_without_a_history_a_model_that_folds_in_is_popularity() -> None:
    split = world()
    counted, model = Popularity().fit(split.refit), LastSeen(table=np.zeros((60, 40))).fit(split.refit)
    nothing, all_known = (
        new_users.rank_new_users(each, split.refit, split.test_history, split.test, [0, 3]) for each in (counted, model)
    )
    metrics = ["user", "ndcg@10", "recall@10", "hit_ratio@10"]
    known = [each[each["known"] == 0][metrics].reset_index(drop=True) for each in (nothing, all_known)]
    pd.testing.assert_frame_equal(*known)
    assert not nothing[nothing["known"] == 3][metrics].equals(all_known[all_known["known"] == 3][metrics])


def test_seeds_are_averaged_user_by_user() -> None:
    parts = [
        pd.DataFrame({"known": [0, 1], "user": 4, "fallback": False, "ndcg@10": values})
        for values in ([1.0, 0.5], [0.0, 0.5])
    ]
    assert new_users.mean_over_seeds(parts)["ndcg@10"].tolist() == [0.5, 0.5]


MEANS = pd.DataFrame(
    {0: [4.0, 3.0, 0.0], 1: [3.0, 3.5, 1.0], 5: [3.0, 3.6, 2.0], 20: [3.0, 3.4, 9.0]},
    index=["first", "second", "third"],
)


@pytest.mark.parametrize(
    "most, rule",
    [
        (0, {0: "second"}),  # 13.5 against 13 and 12
        (1, {0: "second", 20: "third"}),
        (2, {0: "first", 1: "second", 20: "third"}),
        (3, {0: "first", 1: "second", 20: "third"}),
    ],
)
def test_the_rule_is_the_best_of_all_with_so_many_switches(most: int, rule: dict[int, str]) -> None:
    assert new_users.best_rule(MEANS, most) == rule


def test_the_rule_equals_a_search_through_every_assignment() -> None:
    means = pd.DataFrame(np.random.default_rng(3).random((3, 5)), index=list("012"), columns=[*KNOWN, 7])

    def switches(models: tuple[int, ...]) -> int:
        return sum(a != b for a, b in pairwise(models))

    for most in range(4):
        every = [each for each in product(range(3), repeat=5) if switches(each) <= most]
        best = max(every, key=lambda models: sum(means.iloc[m, place] for place, m in enumerate(models)))
        rule = new_users.best_rule(means, most)
        assert [new_users.asked(rule, known) for known in means.columns] == [str(m) for m in best]


def test_the_rows_by_a_rule_are_those_of_the_models_that_it_asks() -> None:
    users = pd.DataFrame(
        [(m, k, u) for m in ("a", "b") for k in KNOWN for u in (7, 8)], columns=["model", "known", "user"]
    )
    found = new_users.by_rule(users, {0: "a", 2: "b"})
    assert found.groupby("known")["model"].agg(list).to_dict() == {
        0: ["a"] * 2,
        1: ["a"] * 2,
        2: ["b"] * 2,
        3: ["b"] * 2,
    }


@pytest.mark.parametrize(
    "better, start", [([False, True, True], 5), ([True, False, True], 20), ([True] * 3, 1), ([True, True, False], None)]
)
def test_what_holds_from_a_number_on_holds_at_every_later_one(better: list[bool], start: int | None) -> None:
    assert new_users.held_from(pd.Series(better, index=[1, 5, 20])) == start


def test_rows_of_active_users_are_all_of_theirs_and_nobody_is_refused() -> None:
    rows = make_interactions([(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)], 3, 4)
    assert new_users.of_active_users(rows, 2).users.tolist() == [1, 1, 2, 2, 2]
    assert len(new_users.of_active_users(rows, 0)) == 6
    with pytest.raises(StudyError, match="least=4: no user has so many rows, the most are 3"):
        new_users.of_active_users(rows, 4)


def test_popularity_among_some_is_measured_by_the_novelty_of_all() -> None:
    split = world()
    some = Popularity().fit(new_users.of_active_users(split.refit, 14))
    ranked = new_users.rank_new_users(some, split.refit, split.test_history, split.test, [0, 1])
    by_own = new_users.rank_new_users(some, some.train_, split.test_history, split.test, [0, 1])
    assert ranked["ndcg@10"].equals(by_own["ndcg@10"]) and (ranked["novelty@10"] != by_own["novelty@10"]).all()


def test_one_list_for_all_is_told_from_one_for_each() -> None:
    split = world()
    n_users = len(np.unique(split.test_history.users))
    alone = FoldInTable(table=np.random.default_rng(0).random((60, 40))).fit(split.refit)
    assert new_users.n_different_lists(Popularity().fit(split.refit), split.test_history) == 1
    assert new_users.n_different_lists(alone, split.test_history) == n_users > 1
