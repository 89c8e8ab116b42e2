"""Comparisons user by user, against differences computed by hand and the statistics that they are made of."""

import numpy as np
import pandas as pd
import pytest

from pipeline.chapters.comparisons import (
    BETTER,
    UNDECIDED,
    WORSE,
    Comparison,
    compare,
    each_with,
    named,
    user_errors,
    with_settings,
)
from recsys_core.errors import StudyError
from recsys_core.statistics import holm, paired_interval, permutation_test


def ranked(model: str, values: np.ndarray, settings: str = "tuned", protocol: str = "random-80-10-10") -> pd.DataFrame:
    labels = {"protocol": protocol, "variant": "", "dataset": "ml-100k", "model": model, "settings": settings}
    return pd.DataFrame({"user": np.arange(len(values)), "ndcg@10": values}).assign(**labels)


def rated(model: str, error: float, settings: str = "tuned") -> pd.DataFrame:
    """Two folds of twenty users, off by `error` stars in both of their rows, and a thinned fold where they are off by more."""
    folds = [
        pd.DataFrame({"user": np.arange(20), "variant": fold, "squared_error": 2 * off**2, "n_rows": 2.0})
        for fold, off in (("fold=1", error), ("fold=2", error), ("fold=1, share=0.1", error + 1))
    ]
    labels = {"protocol": "rating-5fold", "dataset": "ml-100k", "model": model, "settings": settings}
    return pd.concat(folds, ignore_index=True).assign(**labels)


@pytest.fixture
def users() -> pd.DataFrame:
    """Values of 60 users: EASE above iALS, iALS like BPR, Popularity below all."""
    generator = np.random.default_rng(0)
    base = generator.beta(1, 3, 60)
    values = {"EASE": base + 0.1, "iALS": base, "BPR": base + generator.normal(0, 0.01, 60), "Popularity": base - 0.1}
    return pd.concat([ranked(model, each) for model, each in values.items()])


PAIRS = each_with(["iALS"], ["EASE", "BPR", "Popularity"])


def test_each_model_is_paired_with_each_rival_but_itself() -> None:
    assert each_with(["a", "b"], ["b", "c"]) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_lines_hold_the_paired_difference_its_interval_and_p_adjusted_over_all_pairs(users: pd.DataFrame) -> None:
    table = compare(users, "ndcg@10", PAIRS).table()
    values = {model: rows["ndcg@10"].to_numpy() for model, rows in users.groupby("model")}
    expected = [paired_interval(values["iALS"], values[rival]) for _, rival in PAIRS]
    np.testing.assert_array_equal(table[["difference", "low", "high"]], expected)
    p = [permutation_test(values["iALS"], values[rival]) for _, rival in PAIRS]
    np.testing.assert_array_equal(table["p"], holm(np.array(p)))
    assert table["verdict"].tolist() == [WORSE, UNDECIDED, BETTER]


def test_an_order_of_rows_is_no_part_of_a_comparison(users: pd.DataFrame) -> None:
    shuffled = users.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(compare(shuffled, "ndcg@10", PAIRS).table(), compare(users, "ndcg@10", PAIRS).table())


def test_of_errors_less_is_better_and_parts_of_folds_do_not_count() -> None:
    both = pd.concat([rated("SVD", 0.5), rated("Bias", 1.0)])
    for metric in ("rmse", "squared_error"):
        line = compare(both, metric, [("SVD", "Bias")]).line("SVD", "Bias")
        assert line[["difference", "low", "high"]].tolist() == pytest.approx([-0.75] * 3)
        assert line["verdict"] == BETTER
    assert compare(both, "rmse", [("Bias", "SVD")]).line("Bias", "SVD")["verdict"] == WORSE


def test_a_user_s_error_is_the_mean_over_the_rows_of_all_folds() -> None:
    mine = rated("SVD", 0.5).query("variant != 'fold=1, share=0.1'")
    mine.loc[mine["variant"] == "fold=2", ["squared_error", "n_rows"]] = [7.5, 8.0]
    assert user_errors(mine, "SVD").tolist() == pytest.approx([0.8] * 20)  # (0.5 + 7.5) / (2 + 8)


def test_protocol_settings_and_variant_say_which_rows_count(users: pd.DataFrame) -> None:
    others = [ranked("iALS", np.zeros(60), "stated"), ranked("EASE", np.ones(60), protocol="loo-full")]
    more, pair = pd.concat([users, *others]), [("iALS", "EASE")]
    with pytest.raises(StudyError, match="iALS: 120 rows of users"):
        compare(more, "ndcg@10", pair)
    found = compare(more, "ndcg@10", pair, protocol="random-80-10-10", settings="tuned")
    pd.testing.assert_frame_equal(found.table(), compare(users, "ndcg@10", pair).table())
    both = pd.concat([rated("SVD", 0.5), rated("Bias", 1.0)])
    thinned = compare(both, "rmse", [("SVD", "Bias")], variant="fold=1, share=0.1")
    assert thinned.numbers("SVD", "Bias")["difference"] == pytest.approx(1.5**2 - 2**2)


def test_settings_that_a_model_was_not_run_with_leave_all_its_rows() -> None:
    both = pd.concat([rated("SVD", 0.9, "stated"), rated("SVD", 0.8), rated("Bias", 1.0, "stated")])
    kept = with_settings(both, "tuned")
    assert kept.groupby("model")["settings"].unique().str.join("").to_dict() == {"Bias": "stated", "SVD": "tuned"}
    assert with_settings(both, None) is both


def test_models_without_rows_with_two_runs_and_with_other_users_are_refused(users: pd.DataFrame) -> None:
    with pytest.raises(StudyError, match="NCF: 0 rows of users, where one a user"):
        compare(users, "ndcg@10", [("NCF", "EASE")])
    with pytest.raises(StudyError, match="NCF: 0 rows of users, where one a user and fold"):
        compare(rated("SVD", 0.5), "rmse", [("NCF", "SVD")])
    with pytest.raises(StudyError, match="SVD: 80 rows of users"):
        compare(pd.concat([rated("SVD", 0.5), rated("SVD", 0.4, "stated")]), "rmse", [("SVD", "Bias")])
    with pytest.raises(StudyError, match="NCF and EASE were measured on different users"):
        compare(pd.concat([users, ranked("NCF", np.ones(9))]), "ndcg@10", [("NCF", "EASE")])


def test_rivals_that_are_not_there_can_be_left_out(users: pd.DataFrame) -> None:
    found = compare(users, "ndcg@10", [("iALS", "NCF"), ("iALS", "EASE")], only_present=True)
    assert found.table()["rival"].tolist() == ["EASE"]
    nothing = compare(users, "ndcg@10", [("iALS", "NCF")], only_present=True)
    assert nothing.table().columns.tolist() == found.table().columns.tolist() and nothing.table().empty
    assert nothing.sentence() == "There is nothing to compare with in this run."
    assert nothing.in_words() == "not compared with other models in this run"
    assert found.in_words() == found.phrases()[0]


def lines(*rows: tuple[str, str, str]) -> Comparison:
    table = pd.DataFrame(rows, columns=["model", "rival", "verdict"])
    return Comparison(table.assign(difference=0.01, low=-0.005, high=0.02, p=0.03), "ndcg@10", 60)


def test_a_sentence_says_each_pair_with_its_numbers() -> None:
    said = lines(("DSSM", "EASE", WORSE), ("DSSM", "iALS", UNDECIDED), ("NCF", "EASE", BETTER)).sentence(2)
    numbers = "(+0.01, -0.01 to +0.02, p = 0.0300)"
    assert said == (
        f"DSSM is worse than EASE {numbers} and statistically indistinguishable from iALS {numbers}; "
        f"NCF is better than EASE {numbers}. In brackets: the difference in NDCG@10 with its 95 % interval, not "
        "adjusted, and p of the paired permutation test over 60 users, adjusted by Holm's method for 3 comparisons."
    )


def test_a_sentence_on_one_pair_adjusts_nothing() -> None:
    assert "adjusted" not in lines(("DSSM", "EASE", WORSE)).sentence()


def test_the_headline_counts_who_beats_whom() -> None:
    found = lines(
        ("NCF", "EASE", BETTER), ("NCF", "iALS", BETTER), ("DSSM", "EASE", WORSE), ("DSSM", "iALS", UNDECIDED)
    )
    assert found.headline(["EASE", "iALS"]) == (
        "NCF beats both EASE and iALS. Of the 2, 1 are better than EASE, 0 statistically indistinguishable from it and "
        "1 worse; 1 are better than iALS, 1 statistically indistinguishable from it and 0 worse."
    )
    assert "for 4 comparisons" in found.of("DSSM").sentence()  # over which its p-values were adjusted
    assert found.of("DSSM").headline(["EASE", "iALS"]).startswith("None of 1 models beats both EASE and iALS.")
    assert (found.count(BETTER), found.of("DSSM").count(BETTER)) == (2, 0)


def test_a_pair_that_was_not_compared_is_named() -> None:
    with pytest.raises(StudyError, match="DSSM was not compared with BPR"):
        lines(("DSSM", "EASE", WORSE)).line("DSSM", "BPR")


@pytest.mark.parametrize(
    "metric, name",
    [
        ("ndcg@10", "NDCG@10"),
        ("hit_ratio@25", "HR@25"),
        ("recall@10", "recall@10"),
        ("rmse", "a user's mean squared error"),
    ],
)
def test_metrics_are_named_as_the_field_writes_them(metric: str, name: str) -> None:
    assert named(metric) == name
