"""RecBole (Zhao et al. 2021): only the time of an epoch is compared.

DeepFM learns likes (4 stars and more) at its own defaults, NeuMF and Mult-VAE all pairs.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

REQUIREMENTS = [
    "recbole==1.2.1",
    "torch==2.13.0",
    "numpy==1.26.4",  # with NumPy 2, pandas 3 or a later SciPy it stops with an error
    "pandas==2.3.3",
    "scipy==1.13.1",
    "setuptools<81",
]
EPOCHS = 3
CASES = {
    "DeepFM, 10 factors, layers 128-128-128, batch 2,048": {
        "theirs": {"model": "DeepFM", "embedding_size": 10, "mlp_hidden_size": [128, 128, 128], "dropout_prob": 0.2},
        "ours": {
            "the same": {
                "model": "deepfm",
                "embedding_dim": 10,
                "layers": [128, 128, 128],
                "dropout": 0.2,
                "batch_size": 2048,
                "epochs": 3,
            },
            "stated": {"model": "deepfm", "epochs": 3},
        },
        "measures": ["epoch"],
        "goal": {"epoch": 5},
    },
    "NeuMF-8, 4 negatives, batch 2,048": {
        "theirs": {
            "model": "NeuMF",
            "mf_embedding_size": 8,
            "mlp_embedding_size": 32,
            "mlp_hidden_size": [32, 16, 8],
            "dropout_prob": 0.0,
            "train_neg_sample_args": {"distribution": "uniform", "sample_num": 4},
        },
        "ours": {
            "the same": {
                "model": "neumf",
                "embedding_dim": 32,
                "layers": [32, 16, 8],
                "batch_size": 2048,
                "epochs": 3,
            },
            "stated": {"model": "neumf", "epochs": 5},
            "batch 8,192": {"model": "neumf", "batch_size": 8192, "epochs": 5},
        },
        "measures": ["epoch"],
        "goal": {"epoch": 5},
    },
    "Mult-VAE, 600 and 64, batch 2,048": {
        "theirs": {"model": "MultiVAE", "mlp_hidden_size": [600], "latent_dimension": 128, "epochs": 30},
        "ours": {
            "the same": {
                "model": "mult_vae",
                "hidden_layers": [600],
                "latent_dim": 64,  # RecBole's 128 are 64 means and 64 variances
                "batch_size": 2048,
                "epochs": 30,
            },
        },
        "measures": ["epoch"],
        "goal": {"epoch": 1},
    },
}
LIKES = {
    "load_col": None,
    "threshold": {"rating": 4},
    "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "none", "mode": "labeled"},
    "metrics": ["AUC", "LogLoss"],
    "valid_metric": "AUC",
}
PAIRS = {
    "load_col": {"inter": ["user_id", "item_id"]},
    "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "none", "mode": "full"},
}


def prepare(folder: Path, fold: int, settings: dict[str, Any]) -> tuple[Callable[[], Any], None, int]:
    """Write RecBole's files; it splits the rows itself, 80,000 of them to train on. The first epoch warms up."""
    files = folder / f"recbole-{fold}"
    files.mkdir(exist_ok=True)
    ratings = [(folder / f"fold-{fold}.{part}.tsv").read_text().splitlines()[1:] for part in ("train", "test")]
    header = "user_id:token\titem_id:token\trating:float"
    (files / f"{files.name}.inter").write_text("\n".join([header, *ratings[0], *ratings[1]]) + "\n")
    columns = {
        "user": "user_id:token\tage:token\tgender:token\toccupation:token",
        "item": "item_id:token\tyear:token\tgenres:token_seq",
    }
    for name, first in columns.items():
        rows = (folder / f"{name}s.tsv").read_text().splitlines()[1:]
        (files / f"{files.name}.{name}").write_text("\n".join([first, *rows]) + "\n")
    options = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
        "train_neg_sample_args": None,
        "train_batch_size": 2048,
    }
    name, n_epochs = settings.pop("model"), settings.pop("epochs", EPOCHS)
    options |= LIKES if name == "DeepFM" else PAIRS
    config = Config(model=name, dataset=files.name, config_dict=options | settings)
    init_seed(config["seed"], config["reproducibility"])
    train = data_preparation(config, create_dataset(config))[0]
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, get_model(name)(config, train.dataset))
    trainer._train_epoch(train, 0)
    shutil.rmtree(files)

    def fit() -> None:
        for epoch in range(1, n_epochs + 1):
            trainer._train_epoch(train, epoch)

    return fit, None, n_epochs
