"""What makes differences between two models vary, measured, and what a study of another size could tell apart.

    measured = variance_components(d)
    power_table(measured, [0.003, 0.005], n_splits=(5, 10))

A user's difference with one seed on one split is taken as

    d_usr = μ + user_u + split_s + interaction_us + seed_sr + noise_usr,

all effects independent with mean 0. Seeds belong to their split: seed 0 on one split has nothing to do with seed 0 on another.
The components are those of the analysis of variance with random effects, from mean squares (Searle, Casella & McCulloch 1992,
Variance Components, chapter 4). With holes (users without test rows on a split) those of users and splits are near, not exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy import special

from pipeline.chapters.crossed import LEVEL, Terms, detectable, expected_difference
from recsys_core.errors import StudyError, at_least, refuse_unknown

MOST = {"n_users": 10_000_000, "n_splits": 1_000, "n_seeds": 1_000}  # beyond these nothing is searched


@dataclass(frozen=True)
class Components:
    """Standard deviations of the effects, in the unit of the differences: `Components(**table.loc[name])` of a stored frame.

    Attributes:
        user: between users, the same on every split.
        split: between splits, the same for every user.
        interaction: of a user on a split. Where only means over seeds are known, the seeds' part is in it and in `split`.
        seed: between seeds on a split, the same for every user.
        noise: of a user with a seed on a split.
    """

    user: float
    split: float
    interaction: float
    seed: float = 0.0
    noise: float = 0.0

    def of_means(self, n_seeds: int) -> Components:
        """The components of means over so many seeds, in which `split` and `interaction` hold what the seeds leave."""
        split, interaction = (
            float(np.hypot(of_one, of_seeds / np.sqrt(n_seeds)))
            for of_one, of_seeds in ((self.split, self.seed), (self.interaction, self.noise))
        )
        return Components(self.user, split, interaction)

    def terms(self, n_users: int, n_splits: int, n_seeds: int = 1) -> Terms:
        """What V_user, V_split and V_interaction of such a study are expected to be. Raises StudyError for fewer than 2 × 2 × 1."""
        for name, value, least in (("n_users", n_users, 2), ("n_splits", n_splits, 2), ("n_seeds", n_seeds, 1)):
            at_least(name, value, least)
        means = self.of_means(n_seeds)
        shared = means.interaction**2 / (n_users * n_splits)
        user, split = means.user**2 / n_users + shared, means.split**2 / n_splits + shared
        return Terms(user, split, shared, n_users, n_splits, n_users * n_splits)


def variance_components(d: np.ndarray) -> Components:
    """The components of (U, S) or (U, S, R) differences, NaN where a user has no test rows; those below 0 are 0.

    (U, S) values are taken as means over seeds: `seed` and `noise` are then 0, and what seeds do is in `split` and `interaction`.
    Splits may have different numbers of seeds (the others all NaN). Raises StudyError as `expected_difference` does, and for a
    user who has test rows with one seed of a split but not with another.
    """
    terms = expected_difference(d).terms
    cells = np.asarray(d, float)
    splits = [_measured(split) for split in np.moveaxis(cells if cells.ndim == 3 else cells[:, :, None], 1, 0)]
    splits = [split for split in splits if split.size]
    seed, noise = _seed_variances(splits)
    share = float(np.mean([1 / split.shape[1] for split in splits]))
    squares = {
        "user": terms.n_users * (terms.user - terms.interaction),
        "split": terms.n_splits * (terms.split - terms.interaction) - seed * share,
        "interaction": terms.interaction * terms.n_cells - noise * share,
        "seed": seed,
        "noise": noise,
    }
    return Components(**{name: float(np.sqrt(max(square, 0.0))) for name, square in squares.items()})


def _measured(split: np.ndarray) -> np.ndarray:
    """The users and seeds of one split (U, R) that were measured."""
    present = ~np.isnan(split)
    kept = split[present.any(axis=1)][:, present.any(axis=0)]
    if np.isnan(kept).any():
        raise StudyError("A user has test rows with one seed of a split, but not with another.")
    return kept


def _seed_variances(splits: Sequence[np.ndarray]) -> tuple[float, float]:
    """Variances (seed, noise) from each split's (U, R) differences; 0 where no split has two seeds."""
    between, within, df, scale, noise_df = 0.0, 0.0, 0, 0, 0
    for split in splits:
        n_users, n_seeds = split.shape
        of_seeds = split.mean(axis=0) - split.mean()
        left = split - split.mean(axis=1, keepdims=True) - of_seeds
        between, within = between + n_users * float((of_seeds**2).sum()), within + float((left**2).sum())
        df, scale = df + n_seeds - 1, scale + n_users * (n_seeds - 1)
        noise_df += (n_users - 1) * (n_seeds - 1)
    if not noise_df:
        return 0.0, 0.0
    noise = within / noise_df
    return max((between - df * noise) / scale, 0.0), noise


def power(terms: Terms, difference: float) -> float:
    """Probability that a two-sided test at 5 % finds a true difference: that of a noncentral t with these terms' df."""
    se, critical = float(np.sqrt(terms.variance)), float(special.stdtrit(terms.df, 1 - LEVEL / 2))
    if se == 0:
        return float(difference != 0)
    lies_low, lies_high = special.nctdtr(terms.df, abs(difference) / se, [-critical, critical])
    return float(lies_low + 1 - lies_high)


def power_table(
    components: Components,
    sizes: Sequence[float],
    n_users: Sequence[int] = (943,),
    n_splits: Sequence[int] = (5,),
    n_seeds: Sequence[int] = (3,),
) -> pd.DataFrame:
    """A line for each design and true difference: users, splits, seeds, se, df, detectable, difference, power.

    `detectable` is the difference that is found with probability .8. Numbers of users other than the data set's are thought
    experiments: the models would learn from more rows, too.
    """
    rows = []
    for design in product(n_users, n_splits, n_seeds):
        terms = components.terms(*design)
        known = (*design, float(np.sqrt(terms.variance)), terms.df, detectable(terms))
        rows += [(*known, size, power(terms, size)) for size in sizes]
    return pd.DataFrame(rows, columns=["users", "splits", "seeds", "se", "df", "detectable", "difference", "power"])


def needed(
    components: Components, difference: float, what: str, n_users: int = 943, n_splits: int = 5, n_seeds: int = 3
) -> int | None:
    """How many users, splits or seeds, the other two given, it takes to find a difference with probability .8.

    `what` is "n_users", "n_splits" or "n_seeds"; None where `MOST` of them would not do. Raises StudyError for another name.
    """
    refuse_unknown("what", what, MOST)
    design = {"n_users": n_users, "n_splits": n_splits, "n_seeds": n_seeds}

    def enough(number: int) -> bool:
        return detectable(components.terms(**design | {what: number})) <= difference

    number = 1 if what == "n_seeds" else 2
    fails = number - 1
    while not enough(number):  # doubled: far above what is needed, more users can mean fewer df and a little less power
        if number == MOST[what]:
            return None
        fails, number = number, min(2 * number, MOST[what])
    while number - fails > 1:
        middle = (fails + number) // 2
        fails, number = (fails, middle) if enough(middle) else (middle, number)
    return number


def needed_table(
    components: Components, sizes: Sequence[float], n_users: int = 943, n_splits: int = 5, n_seeds: int = 3
) -> pd.DataFrame:
    """A line a difference: how many users, or splits, or seeds it takes to find it, the other two as given; <NA> see `needed`."""
    rows = [[needed(components, size, what, n_users, n_splits, n_seeds) for what in MOST] for size in sizes]
    table = pd.DataFrame(rows, columns=["users", "splits", "seeds"], index=pd.Index(sizes, name="difference"))
    return table.astype("Int64")
