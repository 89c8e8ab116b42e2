"""Leaderboards of rating models: errors over the five canonical folds, comparisons user by user, ranks beside other models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipeline.chapters.results import leaderboard
from recsys_core.errors import StudyError
from recsys_core.statistics import holm, paired_interval, permutation_test, rmse_interval

if TYPE_CHECKING:  # loading it takes two seconds, and chapters that train nothing read leaderboards
    from pipeline.chapters.experiment import Experiments


BOARD = ["model", "mae", "rmse", "rmse sd", "settings", "parameters", "rmse low", "rmse high", "p"]


def rating_board(
    results: pd.DataFrame, users: pd.DataFrame, baseline: str = "Bias", protocol: str = "rating-5fold"
) -> pd.DataFrame:
    """One line a model and settings under a protocol of folds, the best first.

    Columns: model, settings, parameters, rmse and mae (stars, mean over folds), `rmse sd` (over folds), `rmse low` and `rmse high`
    (95 %, bootstrap over users with all their rows), `p` (paired permutation test of users' mean squared errors against the
    baseline, Holm-adjusted over the table; NaN for the baseline itself and where it is not part of the rows). A model that is
    there with stated and with tuned settings is called "<model> (stated)" in the former. What was run on fewer folds than others
    or on parts of folds is left out; of no rows there is no line.
    """
    results, users = (_named(frame[_is_fold(frame, protocol)]) for frame in (results, users))
    results = results[_complete(results)]
    rows = results[results["metric"].isin(["rmse", "mae"])]
    if rows.empty:
        return pd.DataFrame(columns=BOARD)
    folds = rows.pivot_table(index=["model", "variant"], columns="metric", values="value").groupby("model")
    board = folds.mean().assign(**{"rmse sd": folds["rmse"].std()})
    board[["settings", "parameters"]] = rows.groupby("model")[["settings", "parameters"]].first()
    users = users[users["model"].isin(board.index)]
    errors = users.groupby(["model", "user"])[["squared_error", "n_rows"]].sum()
    spans = {model: rmse_interval(*errors.loc[model].to_numpy(float).T) for model in board.index}
    board[["rmse low", "rmse high"]] = pd.DataFrame(spans, index=["low", "high"]).T
    board["p"] = _against(errors["squared_error"] / errors["n_rows"], baseline)
    return board.sort_values("rmse").reset_index()


def with_settings(rows: pd.DataFrame, settings: str) -> pd.DataFrame:
    """Rows of results or of per-user values with these settings; models without any such row keep all of theirs."""
    mine = rows["settings"] == settings
    return rows[mine | ~rows["model"].isin(rows.loc[mine, "model"])]


def user_errors(users: pd.DataFrame, model: str, folds: str = r"fold=\d", protocol: str = "rating-5fold") -> pd.Series:
    """Mean squared error of each user (the index) over the test rows of all folds, or of those whose variant matches `folds`.

    `users` are per-user values of one kind of settings. Raises StudyError where there are none of the model, or several of a fold.
    """
    mine = users[(users["model"] == model) & (users["protocol"] == protocol)]
    mine = mine[mine["variant"].astype(str).str.fullmatch(folds)]
    if mine.empty or mine.duplicated(["variant", "user"]).any():
        raise StudyError(f"{model}: {len(mine)} rows of users for {folds}, where one a user and fold is needed.")
    sums = mine.groupby("user")[["squared_error", "n_rows"]].sum()
    return (sums["squared_error"] / sums["n_rows"]).astype(float)


def compared(users: pd.DataFrame, model: str, other: str, folds: str = r"fold=\d") -> pd.Series:
    """Mean squared error of a user under `model` minus that under `other`: difference, low, high (95 %, bootstrap) and p.

    p is that of the paired permutation test. See `user_errors`.
    """
    mine, theirs = (user_errors(users, name, folds).to_numpy() for name in (model, other))
    values = [*paired_interval(mine, theirs), permutation_test(mine, theirs)]
    return pd.Series(values, index=["difference", "low", "high", "p"])


def in_words(comparison: pd.Series, level: float = 0.05) -> str:
    """What `compared` found, to be said between the names of the two models."""
    if comparison["p"] >= level:
        return "not to be told from"
    return "better than" if comparison["difference"] < 0 else "worse than"


def _is_fold(rows: pd.DataFrame, protocol: str) -> pd.Series:
    return (rows["protocol"] == protocol) & rows["variant"].astype(str).str.fullmatch(r"fold=\d")


def _complete(rows: pd.DataFrame) -> pd.Series:
    """Rows of models that were run on as many folds as any."""
    counts = rows.groupby("model")["variant"].transform("nunique")
    return counts == counts.max()


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
