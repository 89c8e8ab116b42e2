"""Whether intervals hold what they promise: data are drawn with measured components, and the truth is known.

    simulate_worlds(worlds(variance_components(d)), shape=np.nanmean(d, axis=1))

Users' effects are resampled from the differences of real users, so that they are as skewed; all other effects are normal. Beside
`crossed.expected_difference` stand what else is in use, see `PROCEDURES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import special

from pipeline.chapters.crossed import LEVEL, MARGIN, expected_difference
from pipeline.chapters.crossed_components import Components
from recsys_core.errors import StudyError, at_least
from recsys_core.statistics import percentile_interval, resampled_sums

STRICT = 0.005  # what Holm's method asks of the smallest p of ten
LEVELS = (
    1 - LEVEL,
    1 - 2 * LEVEL,
    1 - STRICT,
)  # of the interval, of that which the equivalence test reads, of the strict one
AT_ONCE = 250  # draws in memory
N_RESAMPLES = 1_000  # of the nested bootstrap
STABLE_SHARE = 0.75  # of a user's variance on a split, what is the user's for good in the world of stable users
COLUMNS = ["procedure", "coverage", "type I", "strict type I", "equivalence error", "tail error", "called equivalent"]
COLUMNS += ["width", "draws"]
Procedure = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def worlds(measured: Components, split: float = 0.005, seed: float = 0.015) -> dict[str, Components]:
    """The measured components as they are, and four worlds that differ from them in one respect.

    Neither splits nor seeds have an effect of their own; users differ in the same way on every split (three quarters of the
    variance of users and interaction together); splits have a deviation of `split`; seeds one of `seed`.
    """
    total = measured.user**2 + measured.interaction**2
    stable = {"user": float(np.sqrt(STABLE_SHARE * total)), "interaction": float(np.sqrt((1 - STABLE_SHARE) * total))}
    return {
        "as measured": measured,
        "no split effect": replace(measured, split=0.0, seed=0.0),
        "stable user effects": replace(measured, **stable),
        "split effect": replace(measured, split=split),
        f"seed sd {seed:g}": replace(measured, seed=seed),
    }


def draws(
    components: Components,
    shape: np.ndarray,
    n_draws: int,
    n_users: int = 943,
    n_splits: int = 5,
    n_seeds: int = 3,
    seed: int = 0,
) -> Iterator[np.ndarray]:
    """Differences d_us, means over seeds, of a truth of 0: blocks (B, U, S) with `n_draws` draws altogether.

    Users' effects are drawn with replacement from `shape` (V,), brought to mean 0 and the deviation of the component. Raises
    StudyError for a shape without two different values.
    """
    values = np.asarray(shape, float)
    values = values[~np.isnan(values)]
    if values.size < 2 or not values.std() > 0:
        raise StudyError("The shape of users' effects needs two different values: give the means of real users.")
    effects = (values - values.mean()) / values.std() * components.user
    generator, means = np.random.default_rng(seed), components.of_means(n_seeds)
    for start in range(0, n_draws, AT_ONCE):
        size = min(AT_ONCE, n_draws - start)
        d = generator.normal(0, means.interaction, (size, n_users, n_splits))
        d += generator.choice(effects, (size, n_users, 1))
        d += generator.normal(0, means.split, (size, 1, n_splits))
        yield d


def users_and_splits(d: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Intervals of `crossed.expected_difference`."""
    return np.array([[found.interval(level) for level in LEVELS] for found in map(expected_difference, d)])


def all_cells_taken_off(d: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The same with the third variance that Cameron, Gelbach & Miller take off: of all cells, with users' and splits' effects."""
    rows = []
    for block in d:
        found = expected_difference(block)
        terms = replace(found.terms, interaction=float(block.var(ddof=1)) / block.size)
        rows.append([replace(found, terms=terms).interval(level) for level in LEVELS])
    return np.array(rows)


def users_on_one_split(d: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Percentile bootstrap over the users of the first split, as `statistics.bootstrap_interval` has it."""
    sums = resampled_sums(np.ascontiguousarray(d[:, :, 0].T))  # (n_resamples, B)
    return _percentiles(sums / d.shape[1])


def nested_bootstrap(d: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Percentile bootstrap that draws splits, and users anew within each drawn split.

    The mean of U users drawn from one split is drawn from its normal limit, with that split's mean and its variance over users / U.
    """
    n_draws, n_users, n_splits = d.shape
    drawn = generator.integers(0, n_splits, (N_RESAMPLES, n_draws, n_splits))
    means, errors = (
        np.take_along_axis(each[None], drawn, axis=2) for each in (d.mean(axis=1), d.std(axis=1) / np.sqrt(n_users))
    )
    return _percentiles((means + errors * generator.normal(size=drawn.shape)).mean(axis=2))


def means_of_splits(d: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Student's t over the means of the splits, as if these were independent of each other."""
    means = d.mean(axis=1)  # (B, S)
    n_splits = means.shape[1]
    error = means.std(axis=1, ddof=1) / np.sqrt(n_splits)
    reach = special.stdtrit(n_splits - 1, (1 + np.array(LEVELS)) / 2)
    ends = np.stack([-reach, reach], axis=1)  # (3 levels, 2)
    return means.mean(axis=1)[:, None, None] + error[:, None, None] * ends


def _percentiles(resampled: np.ndarray) -> np.ndarray:
    """Intervals (B, 3 levels, 2) of resampled means (n_resamples, B)."""
    return np.stack([percentile_interval(resampled, level).T for level in LEVELS], axis=1)


# Name → intervals (B, 3 levels, low and high) of (B, U, S) differences.
PROCEDURES: dict[str, Procedure] = {
    "users and splits crossed": users_and_splits,
    "crossed, all cells taken off": all_cells_taken_off,
    "users on one split": users_on_one_split,
    "nested bootstrap": nested_bootstrap,
    "t over means of splits": means_of_splits,
}


def simulate(
    components: Components,
    shape: np.ndarray,
    n_users: int = 943,
    n_splits: int = 5,
    n_seeds: int = 3,
    n_draws: int = 3_000,
    margin: float = MARGIN,
    seed: int = 0,
    procedures: Mapping[str, Procedure] = PROCEDURES,
) -> pd.DataFrame:
    """How often each procedure is right in one world, see `draws`: a line a procedure, columns `COLUMNS`.

    The columns, each a share of the draws but the last two:
        coverage: the 95 % interval has the truth in it.
        type I: of a true difference of 0, the 95 % interval leaves 0 out. No procedure changes when all differences are shifted, so
            that this is 1 - coverage.
        strict type I: the same of the 99.5 % interval, which should be .005.
        equivalence error: of a true difference that is the margin, the 90 % interval lies within the margins.
        tail error: the larger share of 90 % intervals that lie above or below the truth: the equivalence error at a margin so wide
            that the test could pass. With narrow margins the 90 % interval hardly ever fits in, so that the error is smaller.
        called equivalent: of a true difference of 0, the 90 % interval lies within the margins.
        width: mean length of the 95 % interval.
        draws: their number; the Monte Carlo error of a share p is √(p (1 - p) / draws).
    """
    at_least("n_draws", n_draws, 1)
    generator = np.random.default_rng([seed, 1])
    found: dict[str, list[np.ndarray]] = {name: [] for name in procedures}
    for block in draws(components, shape, n_draws, n_users, n_splits, n_seeds, seed):
        for name, procedure in procedures.items():
            found[name].append(procedure(block, generator))
    lines = [(name, *_shares(np.concatenate(each), margin), n_draws) for name, each in found.items()]
    return pd.DataFrame(lines, columns=COLUMNS)


def _shares(intervals: np.ndarray, margin: float) -> list[float]:
    """The columns between name and number of draws, from intervals (n_draws, 3 levels, 2) of a truth of 0."""
    low, low_90, low_strict = intervals[:, :, 0].T
    high, high_90, high_strict = intervals[:, :, 1].T
    out, strict = (low > 0) | (high < 0), (low_strict > 0) | (high_strict < 0)
    at_margin = (low_90 + margin > -margin) & (high_90 + margin < margin)
    tail = max((low_90 > 0).mean(), (high_90 < 0).mean())
    at_zero = (low_90 > -margin) & (high_90 < margin)
    shares = [1 - out.mean(), out.mean(), strict.mean(), at_margin.mean(), tail, at_zero.mean(), (high - low).mean()]
    return [float(share) for share in shares]


def simulate_worlds(
    components: Mapping[str, Components], shape: np.ndarray, n_draws: int = 3_000, seed: int = 0, n_seeds: int = 3
) -> pd.DataFrame:
    """`simulate` for each world at ML-100K's size and five splits, under its name in the column `world`."""
    tables = [
        simulate(each, shape, n_seeds=n_seeds, n_draws=n_draws, seed=seed).assign(world=name)
        for name, each in components.items()
    ]
    return pd.concat(tables, ignore_index=True)[["world", *COLUMNS]]
