"""Evaluation against a ranking written out in plain Python: masks, ties, candidates, histories and refusals."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from helpers import (
    FoldInTable,
    Table,
    make_interactions,
    random_interactions,
    reference_metrics,
    reference_ranks,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_core import budget, evaluate
from recsys_core.errors import StudyError
from recsys_core.evaluate import RankingTask, mean_ndcg, rank, rate, rmse, top_hits, top_k
from recsys_core.interactions import Features, Interactions
from recsys_core.models.base import Recommender
from recsys_core.models.baselines import Popularity
from recsys_core.models.traits import Traits
from recsys_core.splits import strong_generalization, user_holdout

few = settings(max_examples=25, deadline=None)


def halves(seed: int, n_users: int = 12, n_items: int = 15, n_rows: int = 90) -> tuple[Interactions, Interactions]:
    """Two disjoint sets of rows of all users."""
    rows = random_interactions(seed, n_users, n_items, n_rows)
    chosen = np.random.default_rng(seed).random(len(rows)) < 0.6
    return rows.take(chosen), rows.take(~chosen)


def some_scores(seed: int, n_levels: int, n_users: int = 12, n_items: int = 15) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, n_levels, (n_users, n_items)).astype(np.float32)


def items_of(rows: Interactions, user: int) -> set[int]:
    return set(rows.items[rows.users == user].tolist())


def assert_ranked(
    ranking: evaluate.Ranking, scores: np.ndarray, task: RankingTask, candidates: dict[int, set[int]]
) -> None:
    """Compare lists and metrics of every user with the definitions."""
    assert ranking.users["user"].tolist() == sorted(candidates)
    for row, user in zip(ranking.users.to_dict("records"), candidates):
        allowed, mine = candidates[user], scores[user].tolist()
        largest = max(task.cutoffs)
        best = sorted(allowed, key=lambda item: (-mine[item], item))[:largest]
        place = sorted(candidates).index(user)
        assert ranking.lists[place].tolist() == best + [-1] * (largest - len(best))
        relevant = items_of(task.test, user)
        assert row["n_relevant"] == len(relevant)
        ranks = reference_ranks(mine, relevant, allowed)
        for cutoff in task.cutoffs:
            for name, value in reference_metrics(ranks, len(relevant), cutoff).items():
                assert row[f"{name}@{cutoff}"] == pytest.approx(value, abs=1e-9), (user, name, cutoff)


@given(seed=st.integers(0, 10_000), n_levels=st.sampled_from([1, 2, 4, 1000]))
@few
def test_ranking_equals_plain_python_with_seen_items_left_out(seed: int, n_levels: int) -> None:
    train, test = halves(seed)
    scores = some_scores(seed, n_levels)
    test = test.take(np.isin(test.users, train.users))
    candidates = {int(u): set(range(15)) - items_of(train, int(u)) for u in np.unique(test.users)}
    task = RankingTask(train, test, cutoffs=(2, 5, 15))
    assert_ranked(rank(Table(table=scores).fit(train), task), scores, task, candidates)


@given(seed=st.integers(0, 10_000), n_levels=st.sampled_from([2, 1000]))
@few
def test_ranking_among_given_negatives_equals_plain_python(seed: int, n_levels: int) -> None:
    """The test item may stand among its own negatives; it is counted once."""
    generator = np.random.default_rng(seed)
    rows = [(u, int(i)) for u in range(12) for i in generator.choice(15, 4, replace=False)]
    train = make_interactions([r for n, r in enumerate(rows) if n % 4], 12, 15)
    test = make_interactions([r for n, r in enumerate(rows) if n % 4 == 0], 12, 15)
    negatives = np.array([generator.choice(15, 6, replace=False) for _ in range(12)])
    negatives[::2, 0] = test.items[::2]
    scores = some_scores(seed, n_levels)
    task = RankingTask(train, test, negatives=negatives, cutoffs=(1, 3, 10))
    candidates = {u: set(negatives[u].tolist()) | items_of(test, u) for u in range(12)}
    assert_ranked(rank(Table(table=scores).fit(train), task), scores, task, candidates)


@given(seed=st.integers(0, 10_000))
@few
def test_held_out_users_are_ranked_without_what_is_known_of_them(seed: int) -> None:
    rows = random_interactions(seed, 12, 15, 100)
    split = user_holdout(rows, fold_in=0.5, seed=seed)
    history, scores = split.test_history, some_scores(seed, 4)
    assert history is not None
    users = [int(u) for u in np.unique(split.test.users) if items_of(history, int(u))]
    task = RankingTask(split.train, split.test.take(np.isin(split.test.users, users)), history, cutoffs=(3, 15))
    candidates = {u: set(range(15)) - items_of(history, u) for u in users}
    assert_ranked(rank(FoldInTable(table=scores).fit(split.train), task), scores, task, candidates)


def test_a_model_that_cannot_fold_in_answers_with_popularity_but_lists_nothing_known() -> None:
    train = make_interactions([(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 2)], 4, 5)
    history, test = make_interactions([(3, 0)], 4, 5), make_interactions([(3, 1)], 4, 5)
    ranking = rank(Table(table=np.zeros((4, 5))).fit(train), RankingTask(train, test, history, cutoffs=(2,)))
    assert ranking.lists.tolist() == [[1, 2]]
    assert ranking.users[["known", "fallback"]].to_numpy().tolist() == [[True, True]]


def test_cold_users_are_ranked_over_the_whole_catalogue_by_the_fallback_and_marked() -> None:
    """They are evaluated after the known ones, but the rows and lists stand in the order of the codes."""
    train = make_interactions([(0, 2), (1, 2), (4, 2), (0, 1), (1, 1), (0, 0)], 5, 4)
    test = make_interactions([(2, 1), (4, 3), (3, 2)], 5, 4)
    scores = np.zeros((5, 4), np.float32)
    scores[4, 3] = 1
    ranking = rank(Table(table=scores).fit(train), RankingTask(train, test, cutoffs=(1, 2, 4)))
    assert ranking.lists.tolist() == [[2, 1, 0, 3], [2, 1, 0, 3], [3, 0, 1, -1]]
    assert ranking.users["user"].tolist() == [2, 3, 4]
    assert ranking.users["known"].tolist() == [False, False, True]
    assert ranking.users["fallback"].tolist() == [True, True, False]
    assert ranking.users["mrr@4"].tolist() == [1 / 2, 1, 1]
    assert ranking.users["popularity_bias@4"].isna().tolist() == [True, True, False]


def test_the_popularity_bias_of_held_out_users_is_measured_against_their_history() -> None:
    train = make_interactions([(0, 0), (1, 0), (2, 0), (0, 1), (1, 2)], 4, 4)
    history, test = make_interactions([(3, 0), (3, 1)], 4, 4), make_interactions([(3, 2)], 4, 4)
    users = rank(Popularity().fit(train), RankingTask(train, test, history, cutoffs=(1,))).users
    assert users["popularity_bias@1"].tolist() == pytest.approx([1 / 2 - 1], abs=1e-9)


def test_models_are_told_attributes_only_where_they_use_them_and_in_the_order_asked() -> None:
    rows = make_interactions([(0, 0), (1, 1)], 4, 3)
    rows = Interactions(
        rows.users, rows.items, rows.ratings, rows.times, 4, 3, Features(np.arange(4.0)[:, None], ("age",))
    )
    users = np.array([3, 2])

    class UsesFeatures(Table):
        traits = Traits(form="counts", uses_features=True)

    told, attributes = UsesFeatures().told_of(users, rows, None)
    assert told is not None
    assert len(told) == 0
    assert attributes is not None
    assert attributes.values.ravel().tolist() == [3, 2]
    assert Table().told_of(users, rows, None)[1] is None
    assert Table().told_of(np.array([0, 1]), rows, None) == (None, None)


def test_without_history_batches_of_known_and_cold_users_are_not_mixed() -> None:
    train = make_interactions([(0, 0), (2, 1)], 4, 3)
    test = make_interactions([(0, 1), (1, 1), (2, 2), (3, 2)], 4, 3)
    batches = [batch.tolist() for batch in RankingTask(train, test, cutoffs=(1,)).batches()]
    assert batches == [[0, 2], [1, 3]]


@pytest.mark.parametrize("cells", [1, 40, 10_000])
def test_the_size_of_a_batch_changes_nothing(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = halves(7)
    model = Table(table=some_scores(7, 3)).fit(train)
    task = RankingTask(train, test, cutoffs=(3, 15))
    whole, mean = rank(model, task), mean_ndcg(model, task)
    monkeypatch.setattr(budget, "CELLS", cells)
    parts = rank(model, task)
    assert parts.users.equals(whole.users)
    assert (parts.lists == whole.lists).all()
    assert mean_ndcg(model, task) == pytest.approx(mean, abs=1e-12)


def test_the_selection_value_is_the_ndcg_that_is_reported() -> None:
    train, test = halves(3)
    model, task = Table(table=some_scores(3, 4)).fit(train), RankingTask(train, test, cutoffs=(5, 10))
    assert mean_ndcg(model, task) == pytest.approx(rank(model, task).users["ndcg@5"].mean(), abs=1e-12)


def test_lists_are_shorter_where_fewer_items_are_left_and_precision_still_divides_by_the_cutoff() -> None:
    train = make_interactions([(0, i) for i in range(8)], 1, 10)
    test = make_interactions([(0, 9)], 1, 10)
    ranking = rank(Table(table=np.zeros((1, 10), np.float32)).fit(train), RankingTask(train, test, cutoffs=(5,)))
    assert ranking.lists.tolist() == [[8, 9, -1, -1, -1]]
    assert ranking.users["precision@5"].tolist() == [1 / 5]
    assert ranking.users["mrr@5"].tolist() == [1 / 1.5]


def test_the_mean_leaves_out_and_counts_users_without_a_value() -> None:
    train = make_interactions([(0, 0), (1, 0), (1, 1)], 3, 4)
    test = make_interactions([(0, 1), (2, 3)], 3, 4)
    ranking = rank(Popularity().fit(train), RankingTask(train, test, cutoffs=(2,)))
    summary = ranking.summary().set_index("metric")
    assert summary.loc["popularity_bias@2", ["n_users", "n_missing"]].tolist() == [1, 1]
    assert summary.loc["popularity_bias@2", "value"] == ranking.users["popularity_bias@2"][0]
    assert summary.loc["hit_ratio@2", ["value", "n_users", "n_missing"]].tolist() == [0.5, 2, 0]
    assert summary.loc["coverage@2", "value"] == len({*ranking.lists.ravel()}) / 4


def test_a_model_that_knows_the_test_rows_scores_1_and_its_opposite_0() -> None:
    train, test = halves(11, n_rows=60)
    truth = test.binary.toarray()
    names = ["hit_ratio@15", "ndcg@15", "mrr@15", "map@15", "recall@15", "recall_capped@15"]
    best = rank(FoldInTable(table=truth).fit(train), RankingTask(train, test, train, cutoffs=(15,), allow_overlap=True))
    known = best.users["known"]
    assert np.allclose(best.users.loc[known, names], 1, atol=1e-9)
    worst = rank(FoldInTable(table=1 - truth).fit(train), RankingTask(train, test, cutoffs=(1,))).users
    assert (worst.loc[worst["known"], "ndcg@1"] == 0).all()


def test_ranking_does_not_write_into_the_models_scores() -> None:
    train, test = halves(2)
    model = Table(table=some_scores(2, 9)).fit(train)
    before = model.scores_.clone()
    rank(model, RankingTask(train, test, cutoffs=(3,)))
    mean_ndcg(model, RankingTask(train, test, cutoffs=(3,)))
    assert torch.equal(model.scores_, before)


def test_popularity_counts_training_rows_and_novelty_uses_them() -> None:
    train = make_interactions([(0, 0), (1, 0), (2, 0), (0, 1), (1, 2)], 4, 4)
    test = make_interactions([(2, 1)], 4, 4)
    users = rank(Popularity().fit(train), RankingTask(train, test, cutoffs=(1,))).users
    assert users["novelty@1"].tolist() == pytest.approx([-np.log2(2 / 5)], abs=1e-9)
    assert users["popularity_bias@1"].tolist() == pytest.approx([1 / 3 - 1], abs=1e-9)


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("how", ["rank", "rate"])
def test_evaluation_refuses_a_test_row_seen_in_training(how: str, held_out: bool) -> None:
    train, test = make_interactions([(0, 0), (1, 2)], 3, 3), make_interactions([(1, 1), (1, 2)], 3, 3)
    history = make_interactions([(1, 0)], 3, 3) if held_out else None
    message = r"1 of 2 test rows were also seen in training, the first is user code 1, item code 2.*allow_overlap=True"
    model = FoldInTable(table=np.zeros((3, 3))).fit(train)
    with pytest.raises(StudyError, match=message):
        RankingTask(train, test, history, cutoffs=(1,)) if how == "rank" else rate(model, train, test, history)


@pytest.mark.parametrize("how", ["rank", "rate"])
def test_evaluation_refuses_a_test_row_that_stands_in_the_history(how: str) -> None:
    train, test = make_interactions([(0, 0)], 3, 3), make_interactions([(1, 1)], 3, 3)
    model = FoldInTable(table=np.zeros((3, 3))).fit(train)
    with pytest.raises(StudyError, match="1 of 1 test rows were also seen in the history"):
        RankingTask(train, test, test, cutoffs=(1,)) if how == "rank" else rate(model, train, test, test)


def test_a_reported_leak_can_be_measured_and_then_nothing_is_masked() -> None:
    rows = make_interactions([(0, 0), (0, 1)], 1, 3, ratings=[5, 4])
    model = Table(table=np.array([[3.0, 2, 1]])).fit(rows)
    ranking = rank(model, RankingTask(rows, rows, cutoffs=(2,), allow_overlap=True))
    assert ranking.users["ndcg@2"].tolist() == pytest.approx([1], abs=1e-9)
    assert len(rate(model, rows, rows, allow_overlap=True)) == 2


@pytest.mark.parametrize("cutoffs", [(0,), (-3, 5)])
def test_cutoffs_below_one_are_refused_by_name(cutoffs: tuple[int, ...]) -> None:
    train, test = halves(1)
    with pytest.raises(StudyError, match=r"cutoffs=.*: it must be at least 1"):
        RankingTask(train, test, cutoffs=cutoffs)


def test_a_list_that_is_longer_than_the_catalogue_holds_all_items() -> None:
    train, test = halves(1)
    users = rank(Popularity().fit(train), RankingTask(train, test, cutoffs=(15, 25))).users
    assert users["ndcg@25"].tolist() == users["ndcg@15"].tolist() and users["recall@25"].eq(1).all()


@pytest.mark.parametrize("how", ["rank", "rate"])
def test_a_test_split_without_rows_is_refused(how: str) -> None:
    train, test = make_interactions([(0, 0)], 1, 3), make_interactions([], 1, 3)
    with pytest.raises(StudyError, match="test split has no rows"):
        RankingTask(train, test, cutoffs=(1,)) if how == "rank" else rate(Table().fit(train), train, test)


@pytest.mark.parametrize("measure", [rank, mean_ndcg])
def test_nan_scores_are_refused_and_not_counted_as_misses(measure: Any) -> None:
    train, test = halves(1)
    scores = some_scores(1, 5)
    free = next(iter(set(range(15)) - items_of(train, int(test.users[0]))))
    scores[test.users[0], free] = np.nan
    with pytest.raises(StudyError, match="A score is NaN"):
        measure(Table(table=scores).fit(train), RankingTask(train, test, cutoffs=(3,)))


MEASURES: list[Any] = [rank, mean_ndcg, lambda model, task: top_k(model.score(torch.as_tensor([0])), 3)]


@pytest.mark.parametrize("measure", MEASURES)
def test_infinite_scores_are_refused_by_the_models_name_and_minus_infinity_is_allowed(measure: Any) -> None:
    train, test = halves(1)
    scores = some_scores(1, 5)
    task = RankingTask(train, test, cutoffs=(3,))
    for user in range(12):
        scores[user, sorted(set(range(15)) - items_of(train, user))[0]] = -np.inf
    measure(Table(table=scores).fit(train), task)
    scores[scores == -np.inf] = np.inf
    with pytest.raises(StudyError, match=r"A score is \+inf: (Table|the model) has diverged"):
        measure(Table(table=scores).fit(train), task)


class Askew(Table):
    """Gives scores of another shape, type or place than asked for."""

    change: ClassVar[Any]

    def _scores(self, users: torch.Tensor, history: Interactions) -> torch.Tensor:
        return type(self).change(super()._scores(users, history))


@pytest.mark.parametrize("measure", [rank, mean_ndcg])
@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda scores: scores[:, :-1], r"\(12, 14\)"),
        (lambda scores: torch.cat([scores, scores[:, :1]], dim=1), r"\(12, 16\)"),
        (lambda scores: scores[:1], r"\(1, 15\)"),
        (lambda scores: torch.cat([scores, scores[:1]]), r"\(13, 15\)"),
        (lambda scores: scores[0], r"\(15,\)"),
        (lambda scores: scores.T, r"\(15, 12\)"),
        (lambda scores: scores[None], r"\(1, 12, 15\)"),
        (lambda scores: scores.numpy(), "ndarray"),
    ],
)
def test_scores_of_another_shape_are_refused_with_both_sizes(
    measure: Any, change: Any, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Askew, "change", change, raising=False)
    rows = random_interactions(0, 12, 15, 180)
    test = np.arange(180) % 3 == 0
    model = Askew(table=some_scores(1, 5)).fit(rows.take(~test))
    task = RankingTask(rows.take(~test), rows.take(test), cutoffs=(3,))
    with pytest.raises(StudyError, match=f"Askew gives scores of shape {found} for 12 users and 15 items"):
        measure(model, task)


@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8, torch.float64, torch.float16, torch.bfloat16])
def test_the_type_of_the_scores_changes_nothing(kind: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = halves(5)
    task = RankingTask(train, test, cutoffs=(3, 15))
    expected = rank(Table(table=some_scores(5, 9)).fit(train), task)
    monkeypatch.setattr(Askew, "change", lambda scores: scores.to(kind), raising=False)
    model = Askew(table=some_scores(5, 9)).fit(train)
    assert rank(model, task).users.equals(expected.users) and (rank(model, task).lists == expected.lists).all()


def test_large_whole_scores_are_told_apart_and_complex_ones_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert top_k(torch.tensor([[2**40, 2**40 + 1, 0]]), 3).tolist() == [[1, 0, 2]]
    with pytest.raises(StudyError, match="the model gives complex scores"):
        top_k(torch.zeros(2, 3, dtype=torch.complex64), 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda stars: stars[:1], r"Crooked predicts stars of shape \(1,\) for 4 rows"),
        (lambda stars: stars[:, None], r"of shape \(4, 1\) for 4 rows"),
        (lambda stars: stars * np.nan, "A predicted rating of Crooked is not finite"),
        (lambda stars: stars / 0, "A predicted rating of Crooked is not finite"),
    ],
)
def test_predictions_that_are_not_finite_or_not_one_a_row_are_refused(change: Any, said: str) -> None:
    class Crooked(Table):
        def _ratings(self, users: torch.Tensor, items: torch.Tensor, history: Interactions) -> torch.Tensor:
            return change(super()._ratings(users, items, history))

    train = make_interactions([(0, 0), (1, 1)], 2, 4, ratings=[2, 4])
    test = make_interactions([(0, 1), (0, 2), (1, 0), (1, 3)], 2, 4)
    with pytest.raises(StudyError, match=said):
        rate(Crooked(table=np.ones((2, 4))).fit(train), train, test)


@pytest.mark.parametrize(
    ("negatives", "said"),
    [
        (np.zeros((1, 3), np.int64), "a row of item codes from 0 to 4 for each of 2 users"),
        (np.zeros(2, np.int64), "a row of item codes"),
        (np.full((2, 3), -1), "a row of item codes"),
        (np.full((2, 3), 5), "a row of item codes"),
        (np.zeros((2, 3), np.int64), "User code 1 has 2 test items; beside negatives each user needs one"),
    ],
)
def test_negatives_that_do_not_fit_the_users_are_refused(negatives: np.ndarray, said: str) -> None:
    train, test = make_interactions([(0, 0), (1, 0)], 2, 5), make_interactions([(0, 1), (1, 2), (1, 3)], 2, 5)
    with pytest.raises(StudyError, match=said):
        RankingTask(train, test, negatives=negatives, cutoffs=(1,))


@given(seed=st.integers(0, 10_000), k=st.integers(1, 9), n_levels=st.sampled_from([1, 2, 3, 50]))
@few
def test_lists_break_ties_by_item_code(seed: int, k: int, n_levels: int) -> None:
    scores = np.random.default_rng(seed).integers(0, n_levels, (5, 9)).astype(np.float32)
    scores[np.random.default_rng(seed + 1).random((5, 9)) < 0.3] = -np.inf
    scores[np.random.default_rng(seed + 2).random((5, 9)) < 0.1] = np.finfo(np.float32).max
    lists = top_k(torch.as_tensor(scores), k)
    for mine, row in zip(scores.tolist(), lists.tolist()):
        best = sorted((i for i in range(9) if mine[i] > -np.inf), key=lambda i: (-mine[i], i))[:k]
        assert row == best + [-1] * (k - len(best))


@pytest.mark.parametrize("k", [0, 4, -1])
def test_a_list_length_outside_the_catalogue_is_refused(k: int) -> None:
    with pytest.raises(StudyError, match=f"k={k}: a list can hold 1 to 3 items"):
        top_k(torch.zeros(2, 3), k)


def test_a_relevant_item_that_the_model_rules_out_is_no_hit() -> None:
    """Only one item is left: a list of two has an empty place, in which nothing stands."""
    scores = torch.tensor([[-torch.inf, 1.0, -torch.inf]])
    assert top_k(scores, 2).tolist() == [[1, -1]]
    assert len(top_hits(scores, np.array([0]), np.array([2]), 3).ranks) == 0


def test_a_large_tied_row_is_ranked_exactly_in_float32() -> None:
    scores = torch.full((1, 5000), 0.1)
    scores[0, 4000] = 0.1 + 1e-7
    assert top_hits(scores, np.array([0]), np.array([4000]), 10).ranks.tolist() == [1]
    assert top_k(scores, 3).tolist() == [[4000, 0, 1]]


def test_ratings_are_predicted_row_by_row_for_known_and_cold_users() -> None:
    train = make_interactions([(0, 0), (0, 1), (1, 1)], 3, 3, ratings=[4, 2, 5])
    test = make_interactions([(2, 1), (0, 2), (2, 0), (1, 2)], 3, 3, ratings=[3, 1, 5, 4.5])
    table = np.arange(9.0).reshape(3, 3)
    rated = rate(Table(table=table).fit(train), train, test)
    assert rated["predicted"].tolist() == [3.5, 2, 4, 5]
    assert rated["fallback"].tolist() == [True, False, True, False]
    assert rated["squared_error"].tolist() == [0.25, 1, 1, 0.25]
    assert rated["absolute_error"].tolist() == [0.5, 1, 1, 0.5]
    assert rmse(rated) == pytest.approx((2.5 / 4) ** 0.5, abs=1e-9)
    assert rated[["user", "item"]].to_numpy().tolist() == [[2, 1], [0, 2], [2, 0], [1, 2]]


def test_held_out_users_ratings_use_their_history_only_in_models_that_fold_in() -> None:
    train = make_interactions([(0, 0), (0, 1)], 3, 2, ratings=[4, 2])
    history, test = make_interactions([(1, 0)], 3, 2), make_interactions([(1, 1), (2, 1)], 3, 2, ratings=[5, 5])
    table = np.full((3, 2), 3.25)
    assert rate(FoldInTable(table=table).fit(train), train, test, history)["predicted"].tolist() == [3.25, 2]
    assert rate(Table(table=table).fit(train), train, test, history)["fallback"].all()


@pytest.mark.parametrize("variant", [0.0, 0.8])
def test_every_held_out_user_with_test_rows_is_measured(variant: float) -> None:
    rows = random_interactions(4, 60, 40, 900)
    split = user_holdout(rows, variant)
    model: Recommender = Popularity().fit(split.refit)
    ranking = rank(model, RankingTask(split.refit, split.test, split.test_history))
    assert ranking.users["user"].tolist() == np.unique(split.test.users).tolist()
    assert ranking.users["known"].all() == (variant > 0)


def test_strong_generalisation_ranks_test_users_by_their_folded_in_rows() -> None:
    split = strong_generalization(random_interactions(4, 60, 40, 1200), seed=2)
    ranking = rank(Popularity().fit(split.train), RankingTask(split.train, split.test, split.test_history))
    assert ranking.users["known"].all()
    assert not ranking.users["fallback"].any()


@dataclass(kw_only=True)
class Clock(Table):
    """Predicts the hour of the rating."""

    traits: ClassVar[Traits] = Traits(form="counts", uses_times=True, predicts_ratings=True)

    def _ratings_at(
        self, users: torch.Tensor, items: torch.Tensor, history: Interactions, times: torch.Tensor | None
    ) -> torch.Tensor:
        assert times is not None
        return times.float()


def test_every_test_row_is_predicted_at_its_own_time_and_cold_users_by_the_fallback() -> None:
    train = make_interactions([(0, 0), (1, 1)], 3, 3, ratings=[2, 4])
    test = make_interactions([(1, 0), (2, 1), (0, 2)], 3, 3, times=[7, 8, 9])
    rated = rate(Clock(table=np.zeros((3, 3))).fit(train), train, test)
    assert rated["predicted"].tolist() == [7, 4, 9]
    assert rated["fallback"].tolist() == [False, True, False]


def test_the_lists_of_many_users_are_measured_in_blocks_whose_memory_is_used_again() -> None:
    """300,000 users and 1,000 items: all scores would take 1.2 GB, what is known of the users at the end 0.1 GB."""
    code = (
        "import resource, numpy as np\n"
        "from recsys_core.evaluate import RankingTask, rank\n"
        "from recsys_core.interactions import Interactions\n"
        "from recsys_core.models.linear import EASE\n"
        "n = 300_000\n"
        "users = np.repeat(np.arange(n), 4)\n"
        "items = ((np.random.default_rng(0).integers(0, 1000, n)[:, None] + np.arange(4) * 7) % 1000).ravel()\n"
        "def rows(mask):\n"
        "    k = int(mask.sum())\n"
        "    return Interactions(users[mask], items[mask], np.ones(k, np.float32), np.zeros(k, np.int64), n, 1000)\n"
        "test = np.tile([False, False, False, True], n)\n"
        "model, task = EASE().fit(rows(~test)), RankingTask(rows(~test), rows(test), cutoffs=(10,))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "assert len(rank(model, task).users) == n\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 1.0  # GB
