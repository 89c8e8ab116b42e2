"""LibRecommender (Huang 2017): two towers that learn by the softmax over the batch, corrected for popularity; a round is a seed."""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # before TensorFlow is imported

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from libreco.algorithms import TwoTower
from libreco.data import DatasetPure

REQUIREMENTS = [
    "LibRecommender==1.5.2",
    "tensorflow-cpu==2.15.1",  # the last with the layers that it uses
    "torch==2.13.0",
    "numpy==1.26.4",
    "pandas==2.3.3",
    "scipy==1.13.1",
    "scikit-learn==1.5.2",
    "gensim==4.3.3",
]
CASES = {
    "DSSM from ids, 32 numbers, a hidden layer of 64, 10 epochs": {
        "theirs": {
            "embed_size": 32,
            "hidden_units": [64, 32],
            "temperature": 0.2,
            "lr": 0.005,
            "batch_size": 512,
            "n_epochs": 10,
            "rows": "picks.tsv",
        },
        "ours": {
            "the same": {
                "model": "dssm",
                "embedding_dim": 32,
                "layers": [64],
                "id_dropout": 0.0,
                "temperature": 0.2,
                "learning_rate": 0.005,
                "batch_size": 512,
                "epochs": 10,
                "rows": "picks.tsv",
            },
        },
    },
}
SAME = {"norm_embed": True, "use_correction": True, "remove_accidental_hits": True, "use_bn": False, "epsilon": 1e-8}


def prepare(
    folder: Path, fold: int, settings: dict[str, Any]
) -> tuple[Callable[[], Any], Callable[[], dict[str, str]], int]:
    """Users and films by their ids alone, as the file has no attributes."""
    rows = pd.read_csv(folder / settings.pop("rows"), sep="\t").assign(label=1)
    known, asked = (rows[rows["is_test"] == part] for part in (0, 1))
    train, info = DatasetPure.build_trainset(known[["user", "item", "label"]])
    model = TwoTower("ranking", info, loss_type="softmax", seed=fold - 1, **SAME, **settings)

    def judge() -> dict[str, str]:
        users = np.unique(asked["user"])
        inner = [info.user2id[user] for user in users]
        own = np.array([info.id2item[place] for place in range(info.n_items)])
        scores = np.full((len(users), rows["item"].max() + 1), -np.inf)
        scores[:, own] = model.user_embeds_np[inner] @ model.item_embeds_np[: info.n_items].T
        np.save(folder / "scores.npy", scores)
        return {"scores": "scores.npy"}

    return lambda: model.fit(train, neg_sampling=True, verbose=0), judge, settings["n_epochs"]
