"""Leaderboards of rating models: errors over the five canonical folds, comparisons user by user, ranks beside other models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from pipeline.chapters.boards import rating_board as rating_board
from pipeline.chapters.comparisons import with_settings as with_settings
from pipeline.chapters.results import leaderboard
from recsys_core.errors import StudyError
from recsys_core.statistics import paired_interval, permutation_test

if TYPE_CHECKING:  # loading it takes two seconds, and chapters that train nothing read leaderboards
    from pipeline.chapters.experiment import Experiments


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
