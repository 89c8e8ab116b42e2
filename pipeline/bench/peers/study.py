"""This study's own side of every comparison; settings are those of a model, its name as `model`, and how they were chosen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.chapters.fits import selected, with_chosen
from pipeline.chapters.study import ROOT
from pipeline.chapters.tuned import read_tuned
from recsys_core import evaluate
from recsys_core.datasets import load
from recsys_core.features import encode
from recsys_core.interactions import Interactions
from recsys_core.models import MODELS
from recsys_core.protocols import make_split


def prepare(
    folder: Path, fold: int, settings: dict[str, Any]
) -> tuple[Callable[[], Any], Callable[[], float] | None, int]:
    """Fit on all rows of a fold but its test rows, or on the rows of the file named as `rows`.

    A number of epochs that is not given is chosen on validation before. That first fit also warms the process up, as one epoch or
    iteration does in all other cases.
    """
    torch.set_num_threads(1)
    name, tuned, file = settings.pop("model"), settings.pop("tuned", False), settings.pop("rows", "")
    split = make_split("rating-5fold", encode(load("ml-100k"))[0], fold=fold)
    kind, rows = MODELS[name], read_rows(folder / file) if file else split.refit
    passes = next((field for field in ("epochs", "n_iterations") if hasattr(kind, field)), "")
    chosen = (read_tuned(ROOT, name) if tuned else {}) | settings
    if hasattr(kind, "device"):
        chosen["device"] = "cpu"
    model = kind(**chosen)
    if file or passes in settings:
        kind(**chosen | ({passes: 1} if passes else {})).fit(rows)
    else:
        model = with_chosen(model, selected(model, split, 0))

    def rmse() -> float:
        return float(evaluate.rmse(evaluate.rate(model, rows, split.test)))

    return lambda: model.fit(rows), rmse if kind.traits.predicts_ratings else None, getattr(model, passes, 1)


def read_rows(file: Path) -> Interactions:
    """Read rows that `write_rows` wrote."""
    users, items = np.load(file)
    ones = np.ones(len(users), np.float32)
    return Interactions(users, items, ones, np.arange(len(users)), int(users.max()) + 1, int(items.max()) + 1)
