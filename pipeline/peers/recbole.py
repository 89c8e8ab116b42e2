"""RecBole (Zhao et al. 2021): DeepFM on likes (4 stars and more), at its own defaults; only the time of an epoch is compared."""

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
        "load_col": None,
        "threshold": {"rating": 4},
        "train_neg_sample_args": None,
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "none", "mode": "labeled"},
        "metrics": ["AUC", "LogLoss"],
        "valid_metric": "AUC",
        "train_batch_size": 2048,
    }
    name = settings.pop("model")
    config = Config(model=name, dataset=files.name, config_dict=options | settings)
    init_seed(config["seed"], config["reproducibility"])
    train = data_preparation(config, create_dataset(config))[0]
    trainer = get_trainer(config["MODEL_TYPE"], name)(config, get_model(name)(config, train.dataset))
    trainer._train_epoch(train, 0)
    shutil.rmtree(files)

    def fit() -> None:
        for epoch in range(1, EPOCHS + 1):
            trainer._train_epoch(train, epoch)

    return fit, None, EPOCHS
