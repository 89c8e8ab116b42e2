"""This study's own side of every comparison; settings are those of a model, its name as `model`, and how they were chosen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pipeline.study import ROOT
from pipeline.tuned import read_tuned
from recsys_core import evaluate
from recsys_core.datasets import load
from recsys_core.features import encode
from recsys_core.models import MODELS
from recsys_core.protocols import select_epochs
from recsys_core.splits import make_split


def prepare(folder: Path, fold: int, settings: dict[str, Any]) -> tuple[Callable[[], Any], Callable[[], float], int]:
    """Fit on all rows of a fold but its test rows; a number of epochs that is not given is chosen on validation before.

    That first fit also warms the process up, as one epoch does where the epochs are given.
    """
    torch.set_num_threads(1)
    name, tuned, given = settings.pop("model"), settings.pop("tuned", False), "epochs" in settings
    split = make_split("rating-5fold", encode(load("ml-100k"))[0], fold=fold)
    chosen = (read_tuned(ROOT, name) if tuned else {}) | settings | {"device": "cpu"}
    kind, rows = MODELS[name], split.refit
    model = kind(**chosen)
    if given:
        kind(**chosen | {"epochs": 1}).fit(rows)
    else:
        model = select_epochs(model, split)[1]

    def rmse() -> float:
        return float(evaluate.rmse(evaluate.rate(model, rows, split.test)))

    return lambda: model.fit(rows), rmse, getattr(model, "epochs", 1)
