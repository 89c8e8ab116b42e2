"""The leaderboard of rating prediction against errors computed by hand."""

import numpy as np
import pandas as pd
import pytest

from pipeline.ratings import rating_board

N_USERS = 30


def tables(errors: dict[str, list[float]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Results and per-user errors of models that are off by the same number of stars in every row of a fold."""
    rows, users = [], []
    for model, folds in errors.items():
        for fold, error in enumerate(folds, start=1):
            labels = {"protocol": "rating-5fold", "variant": f"fold={fold}", "model": model, "settings": "stated"}
            rows += [labels | {"metric": name, "value": error, "parameters": 7} for name in ("rmse", "mae")]
            users += [labels | {"user": u, "squared_error": 2 * error**2, "n_rows": 2.0} for u in range(N_USERS)]
    other = {
        "protocol": "random-80-10-10",
        "variant": "",
        "model": "Bias",
        "settings": "stated",
        "metric": "rmse",
        "value": 9.0,
        "parameters": 7,
    }
    return pd.DataFrame([*rows, other]), pd.DataFrame(users)


def test_errors_are_means_over_folds_with_their_spread_and_an_interval_over_users() -> None:
    board = rating_board(*tables({"Bias": [1.0, 1.0], "SVD": [0.8, 0.9]})).set_index("model")
    assert board.index.tolist() == ["SVD", "Bias"]
    assert board.loc["SVD", "rmse"] == pytest.approx(0.85) and board.loc["SVD", "rmse sd"] == pytest.approx(0.0707107)
    pooled = np.sqrt((0.8**2 + 0.9**2) / 2)  # all users are alike: the interval is a point
    assert board.loc["SVD", ["rmse low", "rmse high"]].tolist() == pytest.approx([pooled, pooled])
    assert board.loc["SVD", "parameters"] == 7


def test_a_better_model_is_told_from_the_baseline_and_an_equal_one_is_not() -> None:
    board = rating_board(*tables({"Bias": [1.0], "SVD": [0.8], "Same": [1.0]})).set_index("model")
    assert board.loc["SVD", "p"] < 0.01 and board.loc["Same", "p"] == 1.0
    assert np.isnan(board.loc["Bias", "p"])


def test_without_the_baseline_there_are_no_p_values() -> None:
    assert rating_board(*tables({"SVD": [0.8]}))["p"].isna().all()


def test_stated_and_tuned_settings_of_a_model_are_two_lines() -> None:
    (results, users), tuned = tables({"Bias": [1.0], "SVD": [0.9]}), tables({"SVD": [0.8]})
    both = [pd.concat([one, other.assign(settings="tuned")]) for one, other in zip((results, users), tuned)]
    lines = rating_board(*both).set_index("model")
    assert lines.index.tolist() == ["SVD", "SVD (stated)", "Bias"]
    assert lines["settings"].tolist() == ["tuned", "stated", "stated"]
