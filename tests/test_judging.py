"""What validation looks at is the error of stars or the quality of lists, and test rows are measured as their protocol says."""

import pytest
from helpers import make_interactions, random_interactions

from recsys_core import evaluate
from recsys_core.errors import StudyError
from recsys_core.judging import judge, judge_by, measure
from recsys_core.models.base import Recommender
from recsys_core.models.baselines import Bias, Popularity
from recsys_core.protocols import make_split


@pytest.mark.parametrize(("model", "metric"), [(Bias(), "rmse"), (Popularity(), "ndcg@10")])
def test_models_that_rate_are_judged_by_their_error_and_others_by_their_lists(model: Recommender, metric: str) -> None:
    split = make_split("random-80-10-10", random_interactions(3, 40, 60, 800))
    judged = judge(model.fit(split.train), split.train, split.validation, None)
    assert (judged.metric, judged.higher_is_better) == (metric, metric != "rmse")
    if metric == "rmse":
        expected = evaluate.rmse(evaluate.rate(model, split.train, split.validation))
    else:
        task = evaluate.RankingTask(split.train, split.validation, cutoffs=(10,))
        expected = evaluate.rank(model, task).users["ndcg@10"].mean()
    assert judged.measure() == pytest.approx(expected)


def test_a_model_that_rates_can_be_judged_by_its_lists_at_another_cutoff() -> None:
    split = make_split("random-80-10-10", random_interactions(3, 40, 60, 800))
    model = Bias().fit(split.train)
    judged = judge_by("ndcg@5", model, split.train, split.validation, None)
    task = evaluate.RankingTask(split.train, split.validation, cutoffs=(5,))
    assert judged.metric == "ndcg@5" and judged.higher_is_better
    assert judged.measure() == pytest.approx(evaluate.rank(model, task).users["ndcg@5"].mean())


def test_held_out_users_are_judged_by_what_is_known_of_them() -> None:
    split = make_split("user-holdout", random_interactions(3, 40, 60, 800), fold_in=0.5)
    model = Popularity().fit(split.train)
    with_history = judge(model, split.train, split.validation, split.validation_history).measure()
    without = judge(model, split.train, split.validation, None).measure()
    assert with_history > without  # what is folded in is no candidate any more


def test_a_model_that_has_learnt_from_test_rows_is_not_measured() -> None:
    split = make_split("random-80-10-10", random_interactions(3, 40, 60, 800))
    with pytest.raises(StudyError, match="test rows were also seen in training"):
        measure(Popularity().fit(split.interactions), split)


def test_known_and_cold_users_are_told_apart_where_the_protocol_says_so() -> None:
    pairs = [(user, item) for item in range(30) for user in (item % 4, (item + 1) % 4)] + [(4, 0), (4, 1)]
    rows = make_interactions(pairs, 5, 30, times=list(range(62)))
    for name, groups in (("temporal", {"all users", "known users", "cold users"}), ("random-80-10-10", {""})):
        split = make_split(name, rows)
        assert set(measure(Popularity().fit(split.refit), split)[0]["variant"]) == groups, name
