"""This study's own side of every comparison; settings are those of a model, its name as `model`, and how they were chosen."""

import os
from collections.abc import Callable
from dataclasses import replace
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
from recsys_core.models.sequences import SequenceRecommender
from recsys_core.protocols import make_split

HISTORIES = "histories.tsv"


def prepare(
    folder: Path, fold: int, settings: dict[str, Any]
) -> tuple[Callable[[], Any], Callable[[], Any] | None, int]:
    """Fit on all rows of a fold but its test rows, or on the rows of the file named as `rows`: of histories, on those known.

    A number of epochs that is not given is chosen on validation before. That first fit also warms the process up, as one epoch or
    iteration does in all other cases.
    """
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    name, tuned, file = settings.pop("model"), settings.pop("tuned", False), settings.pop("rows", "")
    if file == HISTORIES:
        model = MODELS[name](**settings | {"device": "cpu"})
        assert isinstance(model, SequenceRecommender)
        return prepare_sequences(model, fold - 1)
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


def prepare_sequences(model: SequenceRecommender, seed: int) -> tuple[Callable[[], Any], Callable[[], Any], int]:
    """Fit on the known rows of `loo-full`; each test user's values with the whole catalogue ranked. A first epoch warms up."""
    split = make_split("loo-full", encode(load("ml-100k"))[0])
    replace(model, epochs=1).fit(split.refit)

    def judge() -> dict[str, list[float]]:
        users = evaluate.rank(model, evaluate.RankingTask(split.refit, split.test, cutoffs=(10,))).users
        users = users.sort_values("user")
        return {measure: users[f"{measure}@10"].tolist() for measure in ("hit_ratio", "ndcg")}

    return lambda: model.fit(split.refit, seed=seed), judge, model.epochs


def read_rows(file: Path) -> Interactions:
    """Read rows that `write_rows` wrote."""
    users, items = np.load(file)
    ones = np.ones(len(users), np.float32)
    return Interactions(users, items, ones, np.arange(len(users)), int(users.max()) + 1, int(items.max()) + 1)
