"""Intervals and paired comparisons over users."""

from __future__ import annotations

import numpy as np

N_RESAMPLES = 2_000


def bootstrap_means(values: np.ndarray, seed: int = 0, n_resamples: int = N_RESAMPLES) -> np.ndarray:
    """Means of `values` (B,) over users drawn with replacement, (n_resamples,); NaN users are left out.

    A draw of B users with replacement is a vector of multinomial counts, so that a resample is one dot product.
    """
    values = values[~np.isnan(values)]
    if not values.size:
        return np.full(n_resamples, np.nan)
    generator, equal = np.random.default_rng(seed), np.full(len(values), 1 / len(values))
    draws = (generator.multinomial(len(values), equal) @ values for _ in range(n_resamples))
    return np.fromiter(draws, np.float64, n_resamples) / len(values)


def bootstrap_interval(values: np.ndarray, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over users (Efron & Tibshirani 1993, chapter 13)."""
    tail = (1 - level) / 2
    low, high = np.quantile(bootstrap_means(values, seed), [tail, 1 - tail])
    return float(low), float(high)


def paired_interval(a: np.ndarray, b: np.ndarray, level: float = 0.95, seed: int = 0) -> tuple[float, float, float]:
    """Mean difference a - b over the same users, with its percentile bootstrap interval: (difference, low, high)."""
    difference = a - b
    return float(np.nanmean(difference)), *bootstrap_interval(difference, level, seed)
