"""The rules for verdicts, one by one, against cases that can be judged by eye."""

import numpy as np
import pandas as pd
import pytest

from pipeline.chapters.comparisons import Comparison, compare
from pipeline.chapters.crossed import MARGIN
from pipeline.chapters.verdicts import (
    NOT_TESTABLE_HERE,
    denied,
    margin_of,
    of_all,
    of_draws,
    of_fact,
    of_interval,
    of_number,
    of_pair,
    of_runs,
    rules,
)
from recsys_core.errors import StudyError

CONFIRMED, REFUTED, OPEN = of_interval(1, 2, 0.1), of_interval(-2, -1, 0.1), of_interval(-1, 1, 0.1)


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.001, 0.02, "confirmed"),
        (0.001, 0.002, "confirmed"),  # however small: the interval is on the claimed side
        (-0.02, -0.001, "refuted"),
        (-0.004, 0.004, "refuted"),  # equivalent
        (-0.005, 0.004, "undecided"),
        (-0.004, 0.006, "undecided"),
        (0.0, 0.01, "undecided"),
    ],
)
def test_a_comparison_is_judged_by_its_interval_and_the_margin(low: float, high: float, word: str) -> None:
    verdict = of_interval(low, high, 0.005)
    assert verdict.word == word and verdict.kinds == {"comparison"}


def test_two_are_equivalent_by_the_90_percent_interval_where_it_is_known() -> None:
    assert of_interval(-0.006, 0.004, 0.005).word == "undecided"
    assert of_interval(-0.006, 0.004, 0.005, inner=(-0.0049, 0.003)).word == "refuted"


def test_an_interval_counts_as_reaching_0_where_the_adjusted_p_is_not_below_5_percent() -> None:
    assert of_interval(0.001, 0.02, 0.005, p=0.049).word == "confirmed"
    assert of_interval(0.001, 0.02, 0.005, p=0.05).word == "undecided"
    assert of_interval(-0.02, -0.001, 0.005, p=0.2).word == "undecided"


@pytest.mark.parametrize("ends", [(np.nan, 1.0, 0.1), (0.1, np.inf, 0.1), (0.1, 0.2, 0.1, (np.nan, 0.2))])
def test_a_comparison_without_an_interval_is_refused(ends: tuple) -> None:
    with pytest.raises(StudyError, match="judged by the interval of its difference, and there is none"):
        of_interval(*ends)


@pytest.mark.parametrize(("low", "high", "margin"), [(2.0, 1.0, 0.1), (0.0, 1.0, 0.0), (0.0, 1.0, np.nan)])
def test_an_interval_the_wrong_way_round_and_a_missing_margin_are_refused(
    low: float, high: float, margin: float
) -> None:
    with pytest.raises(StudyError, match=r"needs an interval, not .*, and a margin above 0, not"):
        of_interval(low, high, margin)


def lines(metric: str, low: float, high: float, p: float, inner: tuple[float, float] | None) -> Comparison:
    line = {"model": "A", "rival": "B", "difference": 0.0, "low": low, "high": high, "p": p, "verdict": ""}
    known = None if inner is None else pd.DataFrame([inner], columns=["low", "high"])
    return Comparison(pd.DataFrame([line]), metric, 60, inner=known)


def test_a_pair_is_judged_by_adjusted_p_and_by_the_margin_of_its_metric() -> None:
    assert of_pair(lines("ndcg@10", 0.01, 0.02, 0.01, None), "A", "B").word == "confirmed"
    assert of_pair(lines("ndcg@10", 0.01, 0.02, 0.06, None), "A", "B").word == "undecided"
    assert of_pair(lines("ndcg@10", -0.006, 0.002, 0.3, (-0.004, 0.001)), "A", "B").word == "refuted"
    assert of_pair(lines("ndcg@10", -0.006, 0.002, 0.3, None), "A", "B").word == "undecided"
    assert of_pair(lines("ndcg@10", -0.02, 0.002, 0.3, None), "A", "B", margin=0.03).word == "refuted"
    assert margin_of("ndcg@10") == margin_of("auc") == MARGIN < margin_of("rmse") == margin_of("squared_error")
    with pytest.raises(StudyError, match="A was not compared with C"):
        of_pair(lines("ndcg@10", 0.01, 0.02, 0.01, None), "A", "C")


def test_of_errors_less_is_better() -> None:
    assert of_pair(lines("rmse", -0.04, -0.02, 0.01, (-0.03, -0.025)), "A", "B").word == "confirmed"
    assert of_pair(lines("rmse", 0.02, 0.04, 0.01, (0.025, 0.03)), "A", "B").word == "refuted"
    assert of_pair(lines("rmse", -0.02, 0.004, 0.3, (-0.009, 0.002)), "A", "B").word == "refuted"
    assert of_pair(lines("rmse", -0.02, 0.004, 0.3, (-0.011, 0.002)), "A", "B").word == "undecided"


def test_a_comparison_of_users_brings_its_90_percent_interval_inside_of_the_95_percent_one() -> None:
    values = np.random.default_rng(0).normal(0, 0.02, 200)
    labels = {"protocol": "random-80-10-10", "variant": "", "settings": "tuned"}
    tables = [
        pd.DataFrame({"user": np.arange(200), "ndcg@10": each}).assign(model=name, **labels)
        for name, each in {"A": 0.3 + values, "B": np.full(200, 0.3), "C": 0.2 + values}.items()
    ]
    found = compare(pd.concat(tables), "ndcg@10", [("A", "C"), ("A", "B")])
    least, most = found.of("A").inner_interval("A", "B")
    line = found.line("A", "B")
    assert line["low"] < least < line["difference"] < most < line["high"]
    assert of_pair(found, "A", "B").word == "refuted" and of_pair(found, "A", "C").word == "confirmed"


def test_the_lines_of_one_model_keep_their_own_90_percent_intervals() -> None:
    rows = [{"model": name, "rival": "Z", "difference": 0.0, "low": -1.0, "high": 1.0, "p": 1.0} for name in "ABC"]
    inner = pd.DataFrame({"low": [-0.1, -0.2, -0.3], "high": [0.1, 0.2, 0.3]})
    found = Comparison(pd.DataFrame(rows).assign(verdict=""), "ndcg@10", 60, inner=inner)
    assert [found.of(name).inner_interval(name, "Z") for name in "CB"] == [(-0.3, 0.3), (-0.2, 0.2)]
    with pytest.raises(StudyError, match="B was not compared with Z"):
        found.of("A").inner_interval("B", "Z")


def test_runs_are_judged_by_the_t_interval_of_their_differences_adjusted_for_how_many_are_compared() -> None:
    gains = [0.010, 0.012, 0.014]  # mean .012, standard error .00115: t is 4.30 with 2 df, 10.9 for the 5th of four
    assert of_runs(gains, 0.005).word == "confirmed" and of_runs(gains, 0.005, n_compared=10).word == "undecided"
    assert of_runs([-gain for gain in gains], 0.005).word == "refuted"
    assert of_runs([0.001, -0.001, 0.0, 0.001], 0.005).word == "refuted"
    for runs, said in (([0.1], "1 run:"), ([], "0 runs:")):
        with pytest.raises(StudyError, match=said):
            of_runs(runs, 0.005)


def test_draws_are_judged_by_their_quantiles_adjusted_for_how_many_are_compared() -> None:
    draws = np.linspace(-0.02, 0.98, 1001)  # 2 % are below 0
    assert of_draws(draws, 0.005).word == "confirmed" and of_draws(draws, 0.005, n_compared=2).word == "undecided"
    assert of_draws(-draws, 0.005).word == "refuted" and of_draws(draws / 1000 - 0.0005, 0.005).word == "refuted"
    with pytest.raises(StudyError, match="there is none"):
        of_draws(np.full(9, np.nan), 0.005)


def test_numbers_and_facts_are_confirmed_or_what_their_kind_calls_it() -> None:
    assert [of_number(near).word for near in (True, False)] == ["confirmed", "not reproducible"]
    assert [of_fact(holds).word for holds in (True, False)] == ["confirmed", "refuted"]
    assert [of_fact(False, otherwise=against).word for against in (True, False)] == ["refuted", "undecided"]


@pytest.mark.parametrize(
    ("parts", "word"),
    [
        ([CONFIRMED, CONFIRMED], "confirmed"),
        ([CONFIRMED, REFUTED], "partly"),
        ([CONFIRMED, OPEN], "partly"),
        ([of_fact(True), NOT_TESTABLE_HERE], "partly"),
        ([REFUTED, OPEN], "refuted"),
        ([OPEN, of_number(False)], "undecided"),
        ([of_number(False), NOT_TESTABLE_HERE], "not reproducible"),
        ([NOT_TESTABLE_HERE], "not testable here"),
        ([of_all([CONFIRMED, REFUTED]), REFUTED], "partly"),
    ],
)
def test_a_claim_with_several_conjuncts_is_partly_confirmed_where_only_some_are(parts: list, word: str) -> None:
    assert of_all(parts).word == word


def test_conjuncts_keep_their_kinds_and_there_has_to_be_one() -> None:
    assert of_all([CONFIRMED, of_fact(True)]).kinds == {"comparison", "fact"}
    with pytest.raises(StudyError, match="needs at least one that was judged"):
        of_all([])


def test_what_denies_a_claim_confirms_its_opposite_and_the_undecided_stays_so() -> None:
    assert [denied(each).word for each in (CONFIRMED, REFUTED, OPEN)] == ["refuted", "confirmed", "undecided"]


def test_the_rules_to_read_have_a_line_for_each_kind_and_name_margins_and_tolerance() -> None:
    said = rules().data
    assert all(f"| {kind} |" in said for kind in ("comparison", "number", "fact")) and said.count("\n") == 6
    assert all(part in said for part in ("0.005", "0.01 stars²", "5%", "undecided", "not reproducible", "not testable"))
