"""RecTools (MTS, 2023): SASRec with the softmax over the catalogue, trained by PyTorch Lightning; a round is a seed."""

import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Trainer, seed_everything
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.item_net import IdEmbeddingsItemNet
from rectools.models.nn.transformers.lightning import TransformerLightningModule

REQUIREMENTS = [
    "rectools==0.19.0",
    "torch==2.13.0",
    "pytorch-lightning==2.5.2",
    "numpy==1.26.4",  # the last that it allows beside torch
    "pandas==2.3.3",
    "scipy==1.17.1",
]
CASES = {
    "SASRec, D 64, 2 blocks, 50 films, batch 128": {
        "theirs": {"epochs": 3, "rows": "histories.tsv"},
        "ours": {"the same": {"model": "sasrec", "epochs": 3, "rows": "histories.tsv"}},
        "measures": ["epoch", "memory"],
    },
    "SASRec, D 64, 2 blocks, 50 films, batch 128, 2 threads": {
        "theirs": {"epochs": 3, "rows": "histories.tsv"},
        "ours": {"the same": {"model": "sasrec", "epochs": 3, "rows": "histories.tsv"}},
        "measures": ["epoch", "memory"],
        "goal": {"epoch": 2},
        "threads": 2,
    },
    "SASRec, 30 epochs": {
        "theirs": {"epochs": 30, "rows": "histories.tsv"},
        "ours": {"the same": {"model": "sasrec", "epochs": 30, "rows": "histories.tsv"}},
        "changed": {"both with this study's embeddings": {"embeddings": "ours"}},
    },
}
SIZES = {"n_factors": 64, "n_blocks": 2, "n_heads": 1, "session_max_len": 50, "dropout_rate": 0.2}
N_LISTED = 10


class OurEmbeddings(TransformerLightningModule):
    """Embeddings begin as the study's do, layers as torch has them; RecTools begins all with Xavier's normal numbers."""

    def on_train_start(self) -> None:
        """Draw them; called by the trainer."""
        for name, numbers in self.torch_model.named_parameters():
            if "item_model" in name or "pos_emb" in name:
                torch.nn.init.normal_(numbers.data, std=0.02)


def prepare(
    folder: Path, fold: int, settings: dict[str, Any]
) -> tuple[Callable[[], Any], Callable[[], dict[str, Any]], int]:
    """Films by their ids alone; one epoch of another model warms up. Times are places in the file, which is in order."""
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    rows = pd.read_csv(folder / settings.pop("rows"), sep="\t").rename(columns={"user": "user_id", "item": "item_id"})
    rows["datetime"] = pd.Timestamp(0) + pd.to_timedelta(np.arange(len(rows)), unit="s")
    known, asked = (rows[rows["is_test"] == part].assign(weight=1.0) for part in (0, 1))
    train, options = Dataset.construct(known), {}
    if settings.get("embeddings") == "ours":  # and scaled by the root of D where they come in, as in the paper
        options = {"lightning_module_type": OurEmbeddings, "pos_encoding_kwargs": {"use_scale_factor": True}}

    def model(n_epochs: int) -> SASRecModel:
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        return SASRecModel(
            **SIZES | options,
            loss="softmax",
            batch_size=128,
            lr=1e-3,
            item_net_block_types=(IdEmbeddingsItemNet,),
            get_trainer_func=lambda: Trainer(accelerator="cpu", max_epochs=n_epochs, deterministic=True, **quiet),
        )

    model(1).fit(train)
    seed_everything(fold - 1)
    trained = model(settings["epochs"])

    def judge() -> dict[str, Any]:
        asked_users = np.unique(asked["user_id"])
        lists = trained.recommend(asked_users, train, k=N_LISTED, filter_viewed=True)
        ordered = lists.sort_values(["user_id", "rank"])["item_id"].to_numpy()
        return {"lists": ordered.reshape(len(asked_users), N_LISTED).tolist()}

    return lambda: trained.fit(train), judge, settings["epochs"]
