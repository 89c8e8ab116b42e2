"""Cornac (Salah, Truong & Lauw 2020): biased matrix factorisation by stochastic gradient descent, compiled with Cython."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cornac.data import Dataset
from cornac.models import MF

REQUIREMENTS = ["cornac==3.0.1"]
CASES = {
    "MF, 10 factors, 25 epochs": {
        "theirs": {"k": 10, "max_iter": 25},
        "ours": {"stated": {"model": "svd", "embedding_dim": 10}},
        "measures": ["epoch", "rmse"],
        "goal": {},
    },
}


def prepare(folder: Path, fold: int, settings: dict[str, Any]) -> tuple[Callable[[], Any], Callable[[], float], int]:
    """One thread; ratings of users or films without training rows are the mean."""
    train_rows, test_rows = (
        np.loadtxt(folder / f"fold-{fold}.{part}.tsv", delimiter="\t", skiprows=1) for part in ("train", "test")
    )
    train = Dataset.from_uir([(f"{u:.0f}", f"{i:.0f}", r) for u, i, r in train_rows], seed=0)
    model = MF(num_threads=1, seed=0, **settings)

    def rmse() -> float:
        unknown_user, unknown_item = train.num_users, train.num_items
        codes = [
            (train.uid_map.get(f"{u:.0f}", unknown_user), train.iid_map.get(f"{i:.0f}", unknown_item))
            for u, i, _ in test_rows
        ]
        stars = np.array([model.rate(user, item) for user, item in codes])
        return float(np.sqrt(np.mean((stars - test_rows[:, 2]) ** 2)))

    return lambda: model.fit(train), rmse, settings["max_iter"]
