"""Small worlds in which it is known what a recommender should answer, and models fitted on them."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any

import numpy as np
import torch

from recsys_core.interactions import Features, Interactions
from recsys_core.models import MODELS, Recommender
from recsys_core.models.neural import NeuralRecommender

SIZE = 50
NEW_USER = NEW_ITEM = SIZE  # the catalogue's last user and item have no rows
PLAYERS = torch.arange(SIZE)

# What a model needs to learn a board of 50 × 50 in a second; every model runs without an entry, too.
SETTINGS: dict[str, dict[str, Any]] = {
    "ease": {"regularisation": 1.0},
    "embedding_recommender": {"epochs": 12, "batch_size": 256, "learning_rate": 0.01},
    "two_tower_regressor": {"epochs": 5, "learning_rate": 0.005},
    "recommender_net": {"epochs": 5, "batch_size": 256},
    "fm": {"epochs": 12, "batch_size": 256, "learning_rate": 0.02, "embedding_std": 0.1},
    "deepfm": {"epochs": 8, "batch_size": 128, "learning_rate": 0.01, "layers": (32,)},
    "dlrm": {"epochs": 12, "batch_size": 128, "learning_rate": 0.005, "embedding_std": 0.1},
    "ncf": {"epochs": 14, "batch_size": 512, "learning_rate": 0.02, "embedding_std": 0.1},
    "gmf": {"epochs": 14, "batch_size": 512, "learning_rate": 0.02, "embedding_std": 0.1},
    "neumf": {"epochs": 14, "batch_size": 512, "learning_rate": 0.02, "embedding_std": 0.1},
    "diverse_ncf": {"epochs": 14, "batch_size": 512, "learning_rate": 0.02, "embedding_std": 0.1},
    "svd": {"epochs": 20, "batch_size": 256, "learning_rate": 0.02},
    "svd_plus_plus": {"epochs": 20, "batch_size": 256, "learning_rate": 0.02},
    "item_autorec": {"epochs": 40, "batch_size": 10, "learning_rate": 0.01, "hidden_dim": 30},
    "user_autorec": {"epochs": 40, "batch_size": 10, "learning_rate": 0.01, "hidden_dim": 30},
    "bayesian_fm": {"n_burn_in": 5, "n_samples": 10, "session_s": 100},
    "weighted_hybrid": {
        "members": {"bayesian_fm": {"n_burn_in": 5, "n_samples": 10, "session_s": 100}, "svd": {"epochs": 3}}
    },
    "segment_popularity": {"n_segments": 5},
    "mult_vae": {"epochs": 30, "batch_size": 10, "learning_rate": 0.01, "hidden_layers": (20,), "latent_dim": 10},
    "mult_dae": {"epochs": 30, "batch_size": 10, "learning_rate": 0.01, "hidden_layers": (20,), "latent_dim": 10},
    "ials": {"embedding_dim": 8, "regularisation": 0.05},
    "bpr_mf": {"epochs": 30, "batch_size": 256, "learning_rate": 0.02, "embedding_dim": 8},
    "log_loss_mf": {"epochs": 30, "batch_size": 1024, "learning_rate": 0.01, "embedding_dim": 8},
    "implicit_item_knn": {"n_neighbours": 20},
    "implicit_user_knn": {"n_neighbours": 20},
    "weighted_ranking_hybrid": {"members": {"ease": {"regularisation": 1.0}, "implicit_user_knn": {}}},
    "switching_hybrid": {"members": {"demographic_popularity": {}, "ease": {"regularisation": 1.0}}},
    "joint_embedding": {
        "epochs": 3,
        "batch_size": 64,
        "learning_rate": 0.01,
        "hidden_dim": 32,
        "embedding_dim": 32,
        "joint_dim": 16,
    },
    "dssm": {"epochs": 6, "batch_size": 32, "embedding_dim": 16, "layers": (32,), "temperature": 0.1},
}
TOLD_STARS = {"joint_embedding"}  # ranks only, and yet learns from what is not liked
SEES_GENRES_ONLY = {
    "segment_popularity"
}  # tells items apart by their genres alone, so its board has one that says something


def rows_of(
    users: np.ndarray, items: np.ndarray, ratings: np.ndarray, n_users: int, n_items: int, **features: Features
) -> Interactions:
    """Rows in time order."""
    return Interactions(
        users.astype(np.int64),
        items.astype(np.int64),
        ratings.astype(np.float32),
        np.arange(len(users)),
        n_users,
        n_items,
        **features,
    )


def attributes(telling: bool = False) -> dict[str, Features]:
    """Attributes that say nothing about the board but differ for everybody; if `telling`, genre a is an item's colour."""
    generator = np.random.default_rng(3)
    ages = np.column_stack([generator.integers(18, 70, SIZE + 1), generator.integers(0, 2, SIZE + 1)])
    genres = generator.integers(0, 2, (SIZE + 1, 3))
    if telling:
        genres[:, 0] = np.arange(SIZE + 1) % 2
    return {
        "user_features": Features(ages.astype(np.float32), ("age", "gender")),
        "item_features": Features(genres.astype(np.float32), ("genre_a", "genre_b", "genre_c")),
    }


@cache
def board(rated: bool, telling: bool = False) -> Interactions:
    """A checkerboard without its diagonal: all cells with 5 and 1 stars, or only the liked ones (equal parity)."""
    users, items = np.divmod(np.arange(SIZE * SIZE), SIZE)
    liked = (users + items) % 2 == 0
    kept = (users != items) & (liked | rated)
    ratings = np.where(liked, 5, 1)
    return rows_of(users[kept], items[kept], ratings[kept], SIZE + 1, SIZE + 1, **attributes(telling))


def board_of(name: str) -> Interactions:
    """The board that model `name` learns from."""
    return board(MODELS[name].traits.predicts_ratings or name in TOLD_STARS, name in SEES_GENRES_ONLY)


def is_neural(name: str) -> bool:
    """Whether the training loop trains model `name`."""
    return issubclass(MODELS[name], NeuralRecommender)


def has_device(name: str) -> bool:
    """Whether model `name` computes where it is told to."""
    return "device" in {field.name for field in fields(MODELS[name])}  # type: ignore[arg-type]


def build(name: str, device: str = "cpu", **changes: Any) -> Recommender:
    """An unfitted model with the fast settings of the board."""
    place = {"device": device} if has_device(name) else {}
    return MODELS[name](**{**SETTINGS.get(name, {}), **place, **changes})


@cache
def fitted(name: str, device: str = "cpu", seed: int = 0) -> Recommender:
    """A model fitted on its board; shared by the tests, so not to be changed."""
    return build(name, device).fit(board_of(name), seed=seed)
