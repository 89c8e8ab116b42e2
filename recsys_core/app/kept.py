"""Fitted models kept for the next time, below the folder of the data: asked again, the command line answers at once."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions
from recsys_core.models.base import Recommender, fingerprint
from recsys_core.releases import sources

FOLDER = sources.DATA / "cache" / "models"


def code_sha256() -> str:
    """SHA-256 of the module's source: a model that other code has fitted may be another model."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def place(model: Recommender, data: MovieLens, split: str) -> Path:
    """Where this model, unfitted or fitted, of this data and split is kept by this code."""
    identity: dict[str, Any] = {"data": data.sha256, "split": split, "settings": model.hyperparameters}
    name = f"{type(model).__name__}-{fingerprint(identity)[:16]}.safetensors"
    return FOLDER / code_sha256()[:16] / name


def take(path: Path, model: Recommender, train: Interactions) -> Recommender | None:
    """Return the kept model of these settings and training rows; None where it is missing, damaged or another one."""
    try:
        kept = type(model).load(path)
    except StudyError:
        return None
    return kept if kept.hyperparameters == model.hyperparameters and same_rows(kept.train_, train) else None


def keep(path: Path, model: Recommender) -> None:
    """Save a fitted model at its place, and remove what other code has kept; StudyError where it cannot be written."""
    model.save(path)
    for folder in FOLDER.iterdir():
        if folder != path.parent:
            shutil.rmtree(folder, ignore_errors=True)


def same_rows(one: Interactions, other: Interactions) -> bool:
    """Whether two sets of training rows hold the same ratings over the same catalogue."""
    same = (one.n_users, one.n_items) == (other.n_users, other.n_items)
    return same and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("pair_keys", "ratings"))
