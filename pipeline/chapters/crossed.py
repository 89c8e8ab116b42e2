"""Two models compared over users and splits, which are crossed: the same users are tested on every split.

    expected_difference(differences(users, "EASE", "NeuMF", "ndcg@10")).interval()

What is estimated is the difference that is expected for a random user, a random split and random seeds. With d_us the difference
of user u on split s, its mean over seeds, the estimate is d, the mean over the N cells that are measured, of U users and S splits.
With e_us = d_us - d and ê_us = what is left of d_us when users' and splits' effects, fitted by least squares, are taken out,

    V_user        = U/(U - 1) Σ_u (Σ_s e_us)² / N²
    V_split       = S/(S - 1) Σ_s (Σ_u e_us)² / N²
    V_interaction = Σ_us ê_us² / (f N),  f = N - U - S + 1;  without holes = U/(U - 1) S/(S - 1) Σ_us ê_us² / N²
    V             = V_user + max(V_split - V_interaction, 0)
    df            = V² / (V_user²/(U - 1) + V_split²/(S - 1) + V_interaction²/f), at least 4, or S - 1 with fewer than five splits

V_user and V_split are the two clustered variances of Cameron, Gelbach & Miller 2011 (Journal of Business & Economic Statistics
29(2), section 2) for a mean, each with its factor G/(G - 1) of G clusters; what both contain counts twice and is taken off once.
Without holes

    E V_user = σ²_user/U + σ²_us/(US),    E V_split = σ²_split/S + σ²_us/(US),    E V_interaction = σ²_us/(US),

so that V without the cut at 0 is unbiased for the variance of d: it is then (MS_user + MS_split - MS_user×split)/N of the two-way
table with random effects (Cornfield & Tukey 1956, Annals of Mathematical Statistics 27(4)), the variance that Owen 2007 (Annals of
Applied Statistics 1(2)) writes for means of crossed effects. Cameron, Gelbach & Miller take off N/(N - 1) Σ_us e_us²/N², in which
users' and splits' effects are left: too much by about (σ²_user + σ²_split)/(US), which vanishes beside V with many clusters on both
sides, but with five splits is up to a fifth of it. df is that of Satterthwaite 1946 (Biometrics Bulletin 2(6)), with all three
terms also where the cut is made: that no effect of splits was seen does not say that five splits would show one.

Holes (users without test rows on a split) leave a little of the users' effects in V_split, so that V is then on the safe side.

What `crossed_simulation` shows: with five splits 95 % intervals hold what they promise, while p-values far below 5 %, as Holm's
method asks for, are up to twice too small where splits or seeds differ more than users; three splits are too few there.

What no formula mends: the splits share most of their training rows. What they all have in common beyond the users' effects is part
of the data set and is not in V (Bengio & Grandvalet 2004, Journal of Machine Learning Research 5).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from recsys_core.errors import StudyError
from recsys_core.statistics import holm

MARGIN = 0.005  # of NDCG@10: what is nearer to 0 is called equivalent
LEVEL, POWER = 0.05, 0.8
LEAST_DF = 4
COLUMNS = ["difference", "low", "high", "se", "df", "p", "p adjusted", "equivalence p", "equivalent"]
COLUMNS += ["smallest margin", "detectable", "users", "splits"]


@dataclass(frozen=True)
class Terms:
    """The three parts of a mean's variance over crossed users and splits, in the squared unit of the differences.

    Attributes:
        user, split, interaction: V_user, V_split and V_interaction.
        n_users, n_splits, n_cells: U, S and N.
    """

    user: float
    split: float
    interaction: float
    n_users: int
    n_splits: int
    n_cells: int

    @property
    def residual_df(self) -> int:
        """f, the degrees of freedom of the interaction."""
        return self.n_cells - self.n_users - self.n_splits + 1

    @property
    def variance(self) -> float:
        """V of the mean."""
        return self.user + max(self.split - self.interaction, 0.0)

    @property
    def df(self) -> float:
        """Satterthwaite's degrees of freedom of V."""
        least = min(LEAST_DF, self.n_splits - 1)
        spread = self.user**2 / (self.n_users - 1) + self.split**2 / (self.n_splits - 1)
        spread += self.interaction**2 / self.residual_df
        return max(self.variance**2 / spread, least) if spread else float(least)


@dataclass(frozen=True)
class Difference:
    """An expected difference and what it is known by; everything is in the unit of the differences."""

    estimate: float
    terms: Terms

    @property
    def se(self) -> float:
        """The standard error √V."""
        return float(np.sqrt(self.terms.variance))

    def interval(self, level: float = 1 - LEVEL) -> tuple[float, float]:
        """Low and high end of the t interval."""
        reach = _t(self.terms.df, (1 + level) / 2) * self.se
        return self.estimate - reach, self.estimate + reach

    @property
    def p(self) -> float:
        """Two-sided p-value of no difference: below 5 % where the 95 % interval leaves 0 out."""
        return 2 * self._beyond(abs(self.estimate))

    def equivalence_p(self, margin: float = MARGIN) -> float:
        """p-value of the two one-sided tests (Schuirmann 1987) of a difference of `margin` or more, to either side."""
        return max(self._beyond(margin - self.estimate), self._beyond(margin + self.estimate))

    def equivalent(self, margin: float = MARGIN) -> bool:
        """Whether the 90 % interval lies within ± `margin`: the two one-sided tests at 5 % each."""
        return self.smallest_margin < margin

    @property
    def smallest_margin(self) -> float:
        """The margin above which `equivalent` is true."""
        return max(map(abs, self.interval(1 - 2 * LEVEL)))

    @property
    def detectable(self) -> float:
        """The difference that such a study finds with probability .8 in a two-sided test at 5 %, see `detectable`."""
        return detectable(self.terms)

    def _beyond(self, distance: float) -> float:
        """Probability that an estimate lies further than `distance` above the truth."""
        if self.se == 0:
            return 0.5 * (1 - float(np.sign(distance)))
        return float(special.stdtr(self.terms.df, -distance / self.se))


def _t(df: float, probability: float) -> float:
    """Quantile of Student's t."""
    return float(special.stdtrit(df, probability))


def detectable(terms: Terms, power: float = POWER) -> float:
    """The difference that a two-sided test at 5 % finds with a probability of `power`: (t_df(.975) + t_df(power)) √V.

    Bloom 1995, Evaluation Review 19(5). By the noncentral t the probability is .79 to .80 for power .8 and 4 df or more.
    """
    return (_t(terms.df, 1 - LEVEL / 2) + _t(terms.df, power)) * float(np.sqrt(terms.variance))


def expected_difference(d: np.ndarray) -> Difference:
    """The expected difference of (U, S) or (U, S, R) differences over users, splits and seeds; NaN where a user has no test rows.

    Every user and split that is measured weighs the same; the mean over seeds is taken first. Raises StudyError for another shape,
    values that are infinite, fewer than two users or splits, and where no user is on two splits.
    """
    means = over_seeds(d)
    present = ~np.isnan(means)
    n_cells, (n_users, n_splits) = int(present.sum()), means.shape
    estimate = means[present].mean()
    off = np.where(present, means - estimate, 0.0)  # (U, S)
    user, split = (
        n / (n - 1) * float((off.sum(axis=axis) ** 2).sum()) / n_cells**2 for n, axis in ((n_users, 1), (n_splits, 0))
    )
    interaction = residual_squares(off, present) / (n_cells - n_users - n_splits + 1) / n_cells
    return Difference(float(estimate), Terms(user, split, interaction, n_users, n_splits, n_cells))


def over_seeds(d: np.ndarray) -> np.ndarray:
    """Means over the seeds of (U, S) or (U, S, R) differences, without users and splits that were never measured: (U, S).

    Raises StudyError as `expected_difference` does.
    """
    cells = np.asarray(d, float)
    if cells.ndim not in (2, 3):
        raise StudyError(f"Differences have shape {cells.shape}: users × splits or users × splits × seeds is needed.")
    if np.isinf(cells).any():
        raise StudyError("Some differences are infinite: leave a user without test rows as NaN.")
    cells = cells if cells.ndim == 3 else cells[:, :, None]
    counts = (~np.isnan(cells)).sum(axis=2)
    means = np.where(counts > 0, np.nansum(cells, axis=2) / np.maximum(counts, 1), np.nan)
    means = means[(counts > 0).any(axis=1)][:, (counts > 0).any(axis=0)]
    for n, what in zip(means.shape, ("user", "split")):
        if n < 2:
            raise StudyError(
                f"{n} {what}{'' if n == 1 else 's'} with test rows: two or more are needed to know how {what}s differ."
            )
    return means


def residual_squares(off: np.ndarray, present: np.ndarray) -> float:
    """Sum of squares that additive effects of users and splits leave of (U, S) values, which are 0 where not `present`.

    Least squares, with users' effects eliminated from the normal equations, so that S equations are solved. Raises StudyError where
    nothing can be left, and where the users of some splits are on no other.
    """
    n_rows = present.sum(axis=1, keepdims=True)  # (U, 1)
    shares = present / n_rows
    equations = np.diag(present.sum(axis=0)) - present.T @ shares  # (S, S)
    within = np.where(present, off - off.sum(axis=1, keepdims=True) / n_rows, 0.0)
    effects, _, rank, _ = np.linalg.lstsq(equations, within.sum(axis=0), rcond=1e-10)
    n_users, n_splits = off.shape
    if rank < n_splits - 1 or present.sum() < n_users + n_splits:
        raise StudyError("Too few users have test rows on several splits: users and splits cannot be told apart.")
    return float((np.where(present, within - effects + shares @ effects[:, None], 0.0) ** 2).sum())


def differences(
    users: pd.DataFrame, model: str, rival: str, metric: str, split: str = "variant", seed: str = "seed"
) -> np.ndarray:
    """Model minus rival, (U, S, R), of rows with the columns model, user, `metric`, `split` and, if there is one, `seed`.

    Users and splits are in ascending order. A model that was run with one seed alone is the same beside every seed of the other.
    Raises StudyError for several rows of one user, split and seed, for models that were not run on the same splits, and where both
    have several seeds, but not the same.
    """
    mine, theirs = (_by_seed(users, name, metric, split, seed) for name in (model, rival))
    if set(mine.index.unique(1)) != set(theirs.index.unique(1)):
        raise StudyError(f"{model} and {rival} were not run on the same splits and cannot be paired.")
    if mine.shape[1] > 1 and theirs.shape[1] > 1 and not mine.columns.equals(theirs.columns):
        raise StudyError(f"{model} and {rival} were run with other seeds: pair their means over seeds instead.")
    cells = mine.index.union(theirs.index)
    one, other = (each.reindex(cells).to_numpy() for each in (mine, theirs))
    return _crossed(pd.DataFrame(one - other, index=cells))


def values(users: pd.DataFrame, model: str, metric: str, split: str = "variant", seed: str = "seed") -> np.ndarray:
    """A model's own values, (U, S, R), of rows as for `differences`. Raises StudyError for several of a user, split and seed."""
    return _crossed(_by_seed(users, model, metric, split, seed))


def _crossed(table: pd.DataFrame) -> np.ndarray:
    """(U, S, R) of a table with a row for each user and split, a column a seed."""
    rows = table.set_axis(range(table.shape[1]), axis=1).unstack(level=1)  # noqa: PD010
    return np.ascontiguousarray(rows.to_numpy().reshape(len(rows), table.shape[1], -1).transpose(0, 2, 1))


def _by_seed(users: pd.DataFrame, model: str, metric: str, split: str, seed: str) -> pd.DataFrame:
    """A model's values: a row a user and split, a column a seed."""
    rows = users[users["model"] == model]
    rows = rows if seed in rows else rows.assign(**{seed: 0})
    if rows.empty or rows.duplicated(["user", split, seed]).any():
        raise StudyError(f"{model}: {len(rows)} rows of users, where one a user, split and seed is needed.")
    return rows.astype({metric: float}).pivot_table(metric, ["user", split], seed)


def compare_family(pairs: Mapping[str, np.ndarray], margin: float = MARGIN) -> pd.DataFrame:
    """A line for each comparison of a family that was fixed beforehand, given as differences under its name; see `COLUMNS`.

    `low` and `high` are the 95 % interval of that comparison alone, `p adjusted` is Holm's over the family, and `equivalent` and
    `equivalence p` are those at the margin. Raises StudyError as `expected_difference` does.
    """
    lines = {name: _line(expected_difference(d), margin) for name, d in pairs.items()}
    table = pd.DataFrame.from_dict(lines, orient="index", columns=[name for name in COLUMNS if name != "p adjusted"])
    table["p adjusted"] = holm(table["p"].to_numpy(float))
    return table[COLUMNS]


def _line(found: Difference, margin: float) -> list[float | bool | int]:
    """The columns of `COLUMNS` but the adjusted p."""
    numbers = [found.estimate, *found.interval(), found.se, found.terms.df, found.p, found.equivalence_p(margin)]
    verdict = [found.equivalent(margin), found.smallest_margin, found.detectable]
    return [*numbers, *verdict, found.terms.n_users, found.terms.n_splits]
