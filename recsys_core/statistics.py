"""Intervals and paired comparisons over users."""

import warnings
from functools import lru_cache

import numpy as np

N_RESAMPLES = 2_000
MOST_COUNTS = 20_000_000  # 160 MB of counts that are kept, so that what a table compares is drawn once


@lru_cache(maxsize=2)
def drawn_users(n_users: int, seed: int = 0, n_resamples: int = N_RESAMPLES) -> np.ndarray:
    """How often each user comes up when as many are drawn with replacement: (n_resamples, U), multinomial counts."""
    return np.random.default_rng(seed).multinomial(n_users, np.full(n_users, 1 / n_users), n_resamples).astype(float)


def resampled_sums(values: np.ndarray, seed: int = 0, n_resamples: int = N_RESAMPLES) -> np.ndarray:
    """Sums of each user's `values` (U,) or (U, K) over users drawn with replacement: (n_resamples,) or (n_resamples, K).

    Means, RMSE, their differences and regressions are all made of such sums. A seed draws the same users, whatever is summed.
    """
    n_users = len(values)
    at_once = max(1, MOST_COUNTS // max(1, n_users))
    if at_once >= n_resamples:
        return np.asarray(drawn_users(n_users, seed, n_resamples) @ values)
    generator, equal = np.random.default_rng(seed), np.full(n_users, 1 / n_users)
    sizes = [min(at_once, n_resamples - start) for start in range(0, n_resamples, at_once)]
    return np.concatenate([generator.multinomial(n_users, equal, size) @ values for size in sizes])


def percentile_interval(draws: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Low and high end (2, …) of a statistic's draws (n_resamples, …); NaN draws (of a group without rows) are left out."""
    tail = (1 - level) / 2
    with warnings.catch_warnings(category=RuntimeWarning, action="ignore"):  # draws that are all NaN have no interval
        return np.asarray(np.nanquantile(draws, [tail, 1 - tail], axis=0))


def bootstrap_means(values: np.ndarray, seed: int = 0, n_resamples: int = N_RESAMPLES) -> np.ndarray:
    """Means of `values` (B,) over users drawn with replacement, (n_resamples,); NaN users are left out."""
    values = values[~np.isnan(values)]
    if not values.size:
        return np.full(n_resamples, np.nan)
    return resampled_sums(values, seed, n_resamples) / len(values)


def _ends(draws: np.ndarray, level: float) -> tuple[float, float]:
    low, high = percentile_interval(draws, level)
    return float(low), float(high)


def bootstrap_interval(values: np.ndarray, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over users (Efron & Tibshirani 1993, chapter 13)."""
    return _ends(bootstrap_means(values, seed), level)


def rmse_interval(squared: np.ndarray, n_rows: np.ndarray, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of RMSE over users, who bring all their rows: a cluster bootstrap.

    `squared` (B,) is each user's sum of squared errors, `n_rows` (B,) their number of rows. The same seed draws the same users.
    """
    draws = bootstrap_means(squared.astype(np.float64), seed) / bootstrap_means(n_rows.astype(np.float64), seed)
    return _ends(np.sqrt(draws), level)


def paired_interval(a: np.ndarray, b: np.ndarray, level: float = 0.95, seed: int = 0) -> tuple[float, float, float]:
    """Mean difference a - b over the same users, with its percentile bootstrap interval: (difference, low, high)."""
    difference = a - b
    return float(np.nanmean(difference)), *bootstrap_interval(difference, level, seed)


def permutation_test(a: np.ndarray, b: np.ndarray, seed: int = 0, n_resamples: int = 10_000) -> float:
    """Two-sided p-value of the paired permutation test of mean(a) = mean(b) over the same users.

    Under the null hypothesis each user's difference could as well have the other sign (Fisher 1935, section 21); p counts the sign
    assignments with a mean at least as far from 0, the observed one included, so that it is never 0. NaN users are left out.
    """
    difference = (a - b)[~np.isnan(a - b)]
    generator, observed, as_far = np.random.default_rng(seed), abs(difference.sum()), 1
    for size in np.full(10, n_resamples // 10):
        signs = generator.integers(0, 2, (size, len(difference)), dtype=np.int8) * 2.0 - 1
        as_far += int((np.abs(signs @ difference) >= observed - 1e-12).sum())
    return as_far / (10 * (n_resamples // 10) + 1)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Adjust (M,) p-values of one table for M comparisons (Holm 1979): sorted p times M, M - 1, …, never falling, at most 1."""
    order = np.argsort(p_values, kind="stable")
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * np.asarray(p_values)[order]))
    return adjusted
