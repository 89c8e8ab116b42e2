"""Leaderboards of rating models against errors computed by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipeline.chapters.ratings import compared, in_words, ranking_board, rating_board, user_errors, with_settings
from recsys_core.errors import StudyError


def folds(model: str, settings: str, error: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two folds of three users each, everyone off by `error` stars in both of their rows."""
    labels = {"protocol": "rating-5fold", "model": model, "settings": settings}
    rows = [(f"fold={fold}", metric, error) for fold in (1, 2) for metric in ("rmse", "mae")]
    results = pd.DataFrame(rows, columns=["variant", "metric", "value"]).assign(parameters=7, **labels)
    users = pd.DataFrame({"user": np.tile(np.arange(3), 2), "variant": np.repeat(["fold=1", "fold=2"], 3)})
    return results, users.assign(squared_error=2 * error**2, n_rows=2.0, **labels)


def board(*models: tuple[str, str, float]) -> pd.DataFrame:
    results, users = zip(*(folds(*model) for model in models))
    return rating_board(pd.concat(results), pd.concat(users)).set_index("model")


def test_a_line_holds_means_over_folds_and_an_interval_over_users() -> None:
    line = board(("Bias", "stated", 1.0), ("SVD", "stated", 0.5)).loc["SVD"]
    assert line[["rmse", "mae", "rmse sd", "rmse low", "rmse high"]].tolist() == pytest.approx([0.5, 0.5, 0, 0.5, 0.5])
    assert line["parameters"] == 7


def test_stated_and_tuned_settings_of_a_model_are_two_lines() -> None:
    lines = board(("Bias", "stated", 1.0), ("SVD", "stated", 0.9), ("SVD", "tuned", 0.8))
    assert lines.index.tolist() == ["SVD", "SVD (stated)", "Bias"]
    assert lines["settings"].tolist() == ["tuned", "stated", "stated"]


def test_other_protocols_stay_outside() -> None:
    results, users = folds("SVD", "stated", 0.9)
    other = results.assign(protocol="user-holdout", value=9.0)
    assert rating_board(pd.concat([results, other]), users)["rmse"].tolist() == pytest.approx([0.9])


def test_models_of_fewer_folds_and_parts_of_folds_are_left_out() -> None:
    everywhere, once, part = folds("Bias", "stated", 1.0), folds("SVD", "stated", 0.9), folds("FM", "stated", 0.8)
    results = pd.concat(
        [everywhere[0], once[0].query("variant == 'fold=1'"), part[0].assign(variant="fold=1, share=0.1")]
    )
    assert rating_board(results, pd.concat([everywhere[1], once[1], part[1]]))["model"].tolist() == ["Bias"]


def test_a_board_of_no_rows_has_the_columns_of_any_and_no_line() -> None:
    nothing = rating_board(*(frame.iloc[:0] for frame in folds("SVD", "stated", 0.9)))
    assert nothing.empty and set(nothing) == set(board(("SVD", "stated", 0.9)).reset_index())


def test_the_baseline_has_no_p_value_and_others_have() -> None:
    lines = board(("Bias", "stated", 1.0), ("SVD", "stated", 0.5))
    assert np.isnan(lines.loc["Bias", "p"]) and 0 <= lines.loc["SVD", "p"] <= 1


def test_settings_that_a_model_was_not_run_with_leave_all_its_rows() -> None:
    both = pd.concat([folds("SVD", "stated", 0.9)[1], folds("SVD", "tuned", 0.8)[1], folds("Bias", "stated", 1.0)[1]])
    kept = with_settings(both, "tuned")
    assert kept.groupby(["model", "settings"]).size().to_dict() == {("Bias", "stated"): 6, ("SVD", "tuned"): 6}


def test_errors_of_users_are_means_over_the_rows_of_all_folds() -> None:
    users = folds("SVD", "tuned", 0.5)[1]
    users.loc[users["variant"] == "fold=2", ["squared_error", "n_rows"]] = [
        7.5,
        8.0,
    ]  # with 2 rows of squared error .25
    assert user_errors(users, "SVD").tolist() == pytest.approx([0.8] * 3)
    assert user_errors(users, "SVD", "fold=1").tolist() == pytest.approx([0.25] * 3)


@pytest.mark.parametrize("model, settings", [("SVD", "tuned"), ("FM", "stated")])
def test_users_of_no_or_of_two_runs_of_a_model_are_refused(model: str, settings: str) -> None:
    users = pd.concat([folds("SVD", "stated", 0.5)[1], folds("SVD", settings, 0.4)[1]])
    with pytest.raises(StudyError, match=model):
        user_errors(users, model)


def test_models_are_compared_user_by_user() -> None:
    users = pd.concat([folds("SVD", "stated", 0.5)[1], folds("Bias", "stated", 1.0)[1]])
    found = compared(users, "SVD", "Bias")
    assert found[["difference", "low", "high"]].tolist() == pytest.approx([-0.75] * 3)
    assert found["p"] == pytest.approx(0.25, abs=0.02)  # 2 of the 8 assignments of signs to three users are as far


@pytest.mark.parametrize(
    "difference, p, words",
    [(-1.0, 0.01, "better than"), (1.0, 0.01, "worse than"), (-1.0, 0.05, "not to be told from")],
)
def test_the_words_for_a_comparison_follow_its_p_value_and_sign(difference: float, p: float, words: str) -> None:
    assert in_words(pd.Series({"difference": difference, "p": p})) == words


class Study:
    """As much of Experiments as a board needs: one model that was ranked, beside notebooks that hold others."""

    def __init__(self, results: pd.DataFrame, users: pd.DataFrame, elsewhere: pd.DataFrame, dataset: str) -> None:
        self.results, self.users = results, users
        self.data = SimpleNamespace(name=dataset)
        self.notebook = SimpleNamespace(read_results=lambda name: elsewhere, read_users=lambda name: elsewhere.iloc[:0])


def ranked(model: str, value: float, dataset: str = "ml-100k") -> pd.DataFrame:
    labels = {"protocol": "random-80-10-10", "dataset": dataset, "model": model, "settings": "stated", "seed": 0}
    return pd.DataFrame({"variant": [None], "metric": "ndcg@10", "value": value, "parameters": 7} | labels)


def test_rating_models_are_ranked_beside_those_of_the_baseline_chapters_on_the_same_data() -> None:
    theirs = pd.concat([ranked("Popularity", 0.2), ranked("EASE", 0.3, "ml-1m"), ranked("Item neighbours", 0.4)])
    mine = ranked("SVD", 0.1)
    study = Study(mine, mine.iloc[:0], theirs, "ml-100k")
    lines = ranking_board(study, ["ndcg@10"])
    assert lines[["model", "ndcg@10"]].to_numpy().tolist() == [["Popularity", 0.2], ["SVD", 0.1]]
