"""Comparisons of rating models against errors computed by hand."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipeline.chapters.ratings import compared, in_words, ranking_board, user_errors
from recsys_core.errors import StudyError


def folds(model: str, settings: str, error: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two folds of three users each, everyone off by `error` stars in both of their rows."""
    labels = {"protocol": "rating-5fold", "model": model, "settings": settings}
    rows = [(f"fold={fold}", metric, error) for fold in (1, 2) for metric in ("rmse", "mae")]
    results = pd.DataFrame(rows, columns=["variant", "metric", "value"]).assign(parameters=7, **labels)
    users = pd.DataFrame({"user": np.tile(np.arange(3), 2), "variant": np.repeat(["fold=1", "fold=2"], 3)})
    return results, users.assign(squared_error=2 * error**2, n_rows=2.0, **labels)


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
