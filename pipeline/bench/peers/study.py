"""This study's own side of every comparison; settings are those of a model, its name as `model`, and how they were chosen."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.bench.peers.rows import LENGTH, read_parts, read_rows
from pipeline.chapters.fits import selected, with_chosen
from pipeline.chapters.study import ROOT
from pipeline.chapters.tuned import read_tuned
from recsys_core import evaluate
from recsys_core.datasets import load
from recsys_core.features import encode
from recsys_core.models import MODELS
from recsys_core.models.base import Recommender
from recsys_core.models.neural import NeuralRecommender
from recsys_core.protocols import make_split


def prepare(
    folder: Path, fold: int, settings: dict[str, Any]
) -> tuple[Callable[[], Any], Callable[[], Any] | None, int]:
    """Fit on all rows of a fold but its test rows, or on the known rows of the file named as `rows`.

    A number of epochs that is not given is chosen on validation before. That first fit also warms the process up, as one epoch or
    iteration does in all other cases.
    """
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    name, tuned, file = settings.pop("model"), settings.pop("tuned", False), settings.pop("rows", "")
    kind = MODELS[name]
    chosen = (read_tuned(ROOT, name) if tuned else {}) | settings
    if hasattr(kind, "device"):
        chosen["device"] = "cpu"
    if file.endswith(".tsv"):
        return prepare_lists(kind(**chosen), folder / file, fold - 1)
    split = make_split("rating-5fold", encode(load("ml-100k"))[0], fold=fold)
    rows = read_rows(folder / file) if file else split.refit
    passes = next((field for field in ("epochs", "n_iterations") if hasattr(kind, field)), "")
    model = kind(**chosen)
    if file or passes in settings:
        kind(**chosen | ({passes: 1} if passes else {})).fit(rows)
    else:
        model = with_chosen(model, selected(model, split, 0))

    def rmse() -> float:
        return float(evaluate.rmse(evaluate.rate(model, rows, split.test)))

    return lambda: model.fit(rows), rmse if kind.traits.predicts_ratings else None, getattr(model, passes, 1)


def prepare_lists(
    model: Recommender, file: Path, seed: int
) -> tuple[Callable[[], Any], Callable[[], dict[str, Any]], int]:
    """Fit on the known rows of a file; ten films for each test user, of all that are not known. A first epoch warms up."""
    known, test = read_parts(file)
    epochs = getattr(model, "epochs", 1)
    if isinstance(model, NeuralRecommender):
        replace(model, epochs=1).fit(known)

    def judge() -> dict[str, Any]:
        ranking = evaluate.rank(model, evaluate.RankingTask(known, test, cutoffs=(LENGTH,)))
        return {"lists": ranking.lists[np.argsort(ranking.users["user"])].tolist()}

    return lambda: model.fit(known, seed=seed), judge, epochs
