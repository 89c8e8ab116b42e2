"""Surprise (N. Hug, 2020): matrix factorisation by stochastic gradient descent, one rating at a time, compiled with Cython."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from surprise import SVD, Dataset, Reader, SVDpp, accuracy

REQUIREMENTS = ["scikit-surprise==1.1.5"]
CASES = {
    "SVD, 50 factors, 60 epochs": {
        "theirs": {"algorithm": "SVD", "n_factors": 50, "n_epochs": 60, "reg_all": 0.08},
        "ours": {"stated": {"model": "svd"}, "tuned": {"model": "svd", "tuned": True}},
        "measures": ["fit", "epoch", "rmse"],
        "goal": {"fit": 1},
    },
    "SVD++, 20 factors, 30 epochs": {
        "theirs": {"algorithm": "SVD++", "n_factors": 20, "n_epochs": 30, "reg_all": 0.08},
        "ours": {"stated": {"model": "svd_plus_plus"}, "tuned": {"model": "svd_plus_plus", "tuned": True}},
        "measures": ["fit", "epoch", "rmse"],
        "goal": {"fit": 5},
    },
}


def prepare(folder: Path, fold: int, settings: dict[str, Any]) -> tuple[Callable[[], Any], Callable[[], float], int]:
    """Surprise draws from the global random state of NumPy."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    kind = {"SVD": SVD, "SVD++": SVDpp}[settings.pop("algorithm")]
    reader = Reader(line_format="user item rating", sep="\t", skip_lines=1)
    folds = [(str(folder / f"fold-{fold}.train.tsv"), str(folder / f"fold-{fold}.test.tsv"))]
    data = Dataset.load_from_folds(folds, reader)
    (train_rows, test_rows) = (data.read_ratings(file) for file in folds[0])
    train, test = data.construct_trainset(train_rows), data.construct_testset(test_rows)
    model = kind(random_state=0, **settings)
    return lambda: model.fit(train), lambda: accuracy.rmse(model.test(test), verbose=False), settings["n_epochs"]
