"""Differences over users and splits with invented components and skewed users."""

from __future__ import annotations

import numpy as np

from pipeline.chapters.crossed_components import Components
from pipeline.chapters.crossed_simulation import draws

COMPONENTS = Components(user=0.10, split=0.002, interaction=0.13, seed=0.004)
SHAPE = np.random.default_rng(5).gamma(0.5, 1, 400)  # skewness 2.8


def drawn(
    n_users: int, n_splits: int = 5, components: Components = COMPONENTS, seed: int = 0, n_draws: int = 1
) -> np.ndarray:
    return np.concatenate(list(draws(components, SHAPE, n_draws, n_users, n_splits, 3, seed)))
