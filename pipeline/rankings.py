"""Leaderboards of ranking models from the results of several chapters, and comparisons user by user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.ratings import with_settings
from pipeline.results import leaderboard
from pipeline.tuned import FOLDER, read_trials
from recsys_core.errors import StudyError
from recsys_core.statistics import holm, paired_interval, permutation_test


def of_chapters(
    read: Callable[[str], pd.DataFrame], chapters: Mapping[str, Sequence[str]], protocol: str, dataset: str
) -> pd.DataFrame:
    """Rows of all chapters under a protocol and of one data set, tuned where a model was tuned; `family` is the chapter's key."""
    frames = [read(chapter).assign(family=family) for family, names in chapters.items() for chapter in names]
    rows = pd.concat(frames, ignore_index=True).fillna({"variant": ""})
    rows = rows[(rows["protocol"] == protocol) & (rows["dataset"] == dataset)]
    return with_settings(rows, "tuned")


def board(results: pd.DataFrame, users: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """One line a model as in `results.leaderboard`, with its `family`; the best by the first metric first.

    `results` and `users` come from `of_chapters`.
    """
    lines = leaderboard(results.drop(columns="family"), users.drop(columns="family"), metrics)
    lines["family"] = lines["model"].map(results.groupby("model")["family"].first())
    return lines.sort_values(metrics[0], ascending=False, ignore_index=True)


def against(users: pd.DataFrame, metric: str, models: Sequence[str], rivals: Sequence[str]) -> pd.DataFrame:
    """Each model minus each rival over the same users: model, rival, difference, low, high (95 %, bootstrap) and p.

    p is that of the paired permutation test, Holm-adjusted over all pairs of the table. `users` hold values averaged over seeds.
    Raises StudyError for a model without per-user values, and for one that is there twice.
    """
    values = {name: _values(users, name, metric) for name in dict.fromkeys([*models, *rivals])}
    pairs = [(model, rival) for model in models for rival in rivals if model != rival]
    rows = [
        (*pair, *paired_interval(*_aligned(values, pair)), permutation_test(*_aligned(values, pair))) for pair in pairs
    ]
    table = pd.DataFrame(rows, columns=["model", "rival", "difference", "low", "high", "p"])
    return table.assign(p=holm(table["p"].to_numpy()))


def verdict(comparison: pd.Series, level: float = 0.05) -> str:
    """What a line of `against` says of its model: better, worse or undecided."""
    if comparison["p"] >= level:
        return "undecided"
    return "better" if comparison["difference"] > 0 else "worse"


def tuning_gains(root: Path, metric: str = "ndcg@10") -> pd.DataFrame:
    """What the stored searches by `metric` found, a row a model: trials, the value of the first trial, and of the best one."""
    names = sorted(path.stem for path in (root / FOLDER).glob("*.json"))
    stored = {name: read_trials(root, name) for name in names}
    rows = {
        name: {"trials": len(found["trials"]), "first": found["trials"][0]["value"], "best": found["value"]}
        for name, found in stored.items()
        if found["metric"] == metric
    }
    return pd.DataFrame.from_dict(rows, orient="index").sort_values("best", ascending=False)


def _values(users: pd.DataFrame, model: str, metric: str) -> pd.Series:
    mine = users[users["model"] == model]
    if mine.empty or mine["user"].duplicated().any():
        raise StudyError(f"{model}: {len(mine)} rows of users, where one a user is needed.")
    return mine.set_index("user")[metric].astype(float)


def _aligned(values: Mapping[str, pd.Series], pair: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    mine, theirs = values[pair[0]].align(values[pair[1]], join="inner")
    return mine.to_numpy(), theirs.to_numpy()
