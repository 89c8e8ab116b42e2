"""Cornac (Salah, Truong & Lauw 2020): matrix factorisation and BPR compiled with Cython, NeuMF with torch, EASE with NumPy.

BPR has the rows and the settings of Microsoft Recommenders' table of ML-100K, which runs Cornac's. Its plain descent, pair by pair,
and Adam on batches do not need the same pull towards zero, so that ours stands there with three.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cornac.data import Dataset
from cornac.models import BPR, EASE, MF, NeuMF

REQUIREMENTS = ["cornac==3.0.1", "torch==2.13.0"]
CASES = {
    "MF, 10 factors, 25 epochs": {
        "theirs": {"k": 10, "max_iter": 25},
        "ours": {"stated": {"model": "svd", "embedding_dim": 10}},
        "measures": ["epoch", "rmse"],
    },
    "NeuMF-8, 4 negatives": {
        "theirs": {"model": "NeuMF", "num_epochs": 2, "batch_size": 256},
        "ours": {
            "the same": {
                "model": "neumf",
                "embedding_dim": 32,  # Cornac counts both embeddings as the first layer, of 64
                "layers": [32, 16, 8],
                "batch_size": 1280,  # samples; Cornac counts the positives
                "epochs": 2,
            },
            "stated": {"model": "neumf", "epochs": 5},
            "batch 8,192": {"model": "neumf", "batch_size": 8192, "epochs": 5},
        },
        "measures": ["epoch"],
        "goal": {"epoch": 10},
    },
    "EASE, ML-1M's shape": {
        "theirs": {"model": "EASE", "lamb": 500, "posB": False, "rows": "ml-1m.npy"},
        "ours": {"the same": {"model": "ease", "rows": "ml-1m.npy"}},
        "measures": ["fit"],
        "goal": {"fit": 1},
    },
    "BPR, 200 factors": {
        "theirs": {
            "model": "BPR",
            "k": 200,
            "max_iter": 200,
            "learning_rate": 0.01,
            "lambda_reg": 0.001,
            "rows": "by-item.tsv",
        },
        "ours": {
            "the same pull": {
                "model": "bpr_mf",
                "embedding_dim": 200,
                "regularisation": 0.0005,  # Cornac's is of half the square
                "epochs": 40,
                "rows": "by-item.tsv",
            },
            "stated": {"model": "bpr_mf", "embedding_dim": 200, "epochs": 40, "rows": "by-item.tsv"},
            "tuned": {
                "model": "bpr_mf",
                "tuned": True,
                "embedding_dim": 200,
                "epochs": 40,
                "patience": None,
                "rows": "by-item.tsv",
            },
        },
    },
}
NETWORK = {"num_factors": 8, "layers": (64, 32, 16, 8), "num_neg": 4, "backend": "pytorch", "seed": 0, "verbose": False}


def prepare(
    folder: Path, fold: int, settings: dict[str, Any]
) -> tuple[Callable[[], Any], Callable[[], Any] | None, int]:
    """One thread; ratings of users or films without training rows are the mean."""
    torch.set_num_threads(1)
    name, file = settings.pop("model", "MF"), settings.pop("rows", "")
    if name == "BPR":
        return prepare_scores(folder, file, fold - 1, settings)
    if file:
        pairs = zip(*np.load(folder / file).astype(str))
        train = Dataset.from_uir([(user, item, 1.0) for user, item in pairs], seed=0)
        assert train.matrix.nnz  # kept once it is made
        ease = EASE(**settings, verbose=False)
        return lambda: ease.fit(train), None, 1
    train_rows, test_rows = (
        np.loadtxt(folder / f"fold-{fold}.{part}.tsv", delimiter="\t", skiprows=1) for part in ("train", "test")
    )
    train = Dataset.from_uir([(f"{u:.0f}", f"{i:.0f}", r) for u, i, r in train_rows], seed=0)
    if name == "NeuMF":
        NeuMF(**settings | {"num_epochs": 1}, **NETWORK).fit(train)  # warms up
        network = NeuMF(**settings, **NETWORK)
        return lambda: network.fit(train), None, settings["num_epochs"]
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


def prepare_scores(
    folder: Path, file: str, seed: int, settings: dict[str, Any]
) -> tuple[Callable[[], Any], Callable[[], dict[str, str]], int]:
    """BPR on the known rows of a file; scores for each of its test users."""
    rows = np.loadtxt(folder / file, dtype=int, delimiter="\t", skiprows=1)
    asked, known = np.unique(rows[rows[:, 2] == 1, 0]), rows[rows[:, 2] == 0]
    train = Dataset.from_uir([(user, item, 1.0) for user, item, _ in known.tolist()], seed=seed)
    model = BPR(**settings, num_threads=1, seed=seed)

    def judge() -> dict[str, str]:
        scores = np.full((len(asked), rows[:, 1].max() + 1), -np.inf)
        for place, user in enumerate(asked.tolist()):
            scores[place, list(train.iid_map)] = model.score(train.uid_map[user])
        np.save(folder / "scores.npy", scores)
        return {"scores": "scores.npy"}

    return lambda: model.fit(train), judge, settings["max_iter"]
