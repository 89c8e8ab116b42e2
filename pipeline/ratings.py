"""Leaderboards of rating models: errors over the five canonical folds, and how they rank beside models made for ranking."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from pipeline.experiment import Experiments
from pipeline.results import leaderboard
from recsys_core.statistics import holm, permutation_test, rmse_interval


def rating_board(results: pd.DataFrame, users: pd.DataFrame, baseline: str = "Bias") -> pd.DataFrame:
    """One line a model and settings under `rating-5fold`, the best first.

    Columns: model, settings, parameters, rmse and mae (stars, mean over folds), `rmse sd` (over folds), `rmse low` and `rmse high`
    (95 %, bootstrap over users with all their rows), `p` (paired permutation test of users' mean squared errors against the
    baseline, Holm-adjusted over the table; NaN for the baseline itself and where it is not part of the rows). A model that is
    there with stated and with tuned settings is called "<model> (stated)" in the former.
    """
    results, users = (_named(frame[frame["protocol"] == "rating-5fold"]) for frame in (results, users))
    rows = results[results["metric"].isin(["rmse", "mae"])]
    folds = rows.pivot_table(index=["model", "variant"], columns="metric", values="value").groupby("model")
    board = folds.mean().assign(**{"rmse sd": folds["rmse"].std()})
    board[["settings", "parameters"]] = rows.groupby("model")[["settings", "parameters"]].first()
    errors = users.groupby(["model", "user"])[["squared_error", "n_rows"]].sum()
    spans = {model: rmse_interval(*errors.loc[model].to_numpy(float).T) for model in board.index}
    board[["rmse low", "rmse high"]] = pd.DataFrame(spans, index=["low", "high"]).T
    board["p"] = _against(errors["squared_error"] / errors["n_rows"], baseline)
    return board.sort_values("rmse").reset_index()


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose `model` says "(stated)" where the same model is there with tuned settings, too."""
    both = rows["model"].isin(rows.loc[rows["settings"] == "tuned", "model"]) & (rows["settings"] == "stated")
    return rows.assign(model=rows["model"].where(~both, rows["model"] + " (stated)"))


def _against(errors: pd.Series, baseline: str) -> pd.Series:
    """Holm-adjusted p-values of the models, whose users' errors have the index (model, user)."""
    models = [model for model in errors.index.unique("model") if model != baseline]
    if baseline not in errors.index.unique("model") or not models:
        return pd.Series(dtype=float)
    reference = errors.loc[baseline].sort_index().to_numpy()
    p = [permutation_test(errors.loc[model].sort_index().to_numpy(), reference) for model in models]
    return pd.Series(holm(np.array(p)), index=models)


RANKED_ELSEWHERE = {"10_baselines": ("Popularity", "Bias"), "13_linear": ("EASE",)}


def ranking_board(study: Experiments, metrics: Sequence[str], protocol: str = "random-80-10-10") -> pd.DataFrame:
    """What was run under a ranking protocol beside Popularity, Bias and EASE of their own chapters, the best first.

    Columns as in `results.leaderboard`; sorted by the first metric, of which more is better. Only rows of the same data.
    """

    def beside(mine: pd.DataFrame, read: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
        frames = [mine] + [frame[frame["model"].isin(names)] for frame, names in chapters(read)]
        together = pd.concat(frames, ignore_index=True)
        return together[(together["protocol"] == protocol) & (together["dataset"] == study.data.name)]

    def chapters(read: Callable[[str], pd.DataFrame]) -> list[tuple[pd.DataFrame, tuple[str, ...]]]:
        return [(read(chapter), names) for chapter, names in RANKED_ELSEWHERE.items()]

    results = beside(study.results, study.notebook.read_results).fillna({"variant": ""})
    users = beside(study.users, study.notebook.read_users)
    return leaderboard(results, users, metrics).sort_values(metrics[0], ascending=False, ignore_index=True)
