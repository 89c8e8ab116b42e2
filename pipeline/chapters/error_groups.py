"""Errors of groups of ratings, of new users and of rare films, with intervals over users, and the tables of such a chapter."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd

from pipeline.chapters.notebook import Notebook
from pipeline.chapters.results import DETERMINISTIC_TOLERANCE, long_format
from recsys_core.errors import StudyError
from recsys_core.evaluate import rate
from recsys_core.interactions import Interactions
from recsys_core.models.base import Recommender
from recsys_core.splits import Split, positions
from recsys_core.statistics import N_RESAMPLES, holm


def out_of_fold(
    fitted: Callable[[str, Split], Recommender], models: Iterable[str], splits: Sequence[Split]
) -> pd.DataFrame:
    """Every test row of the splits, predicted by the models that `fitted(name, split)` gives, learnt from the split's other rows.

    Columns: model, fold (the split's variant), user, item, support (training ratings of the film), actual, predicted (stars),
    squared_error.
    """
    parts = []
    for name in models:
        for split in splits:
            rated = rate(fitted(name, split), split.refit, split.test)
            rated = rated.assign(model=name, fold=split.variant, support=split.refit.item_counts[rated["item"]])
            parts.append(rated)
    columns = ["model", "fold", "user", "item", "support", "actual", "predicted", "squared_error"]
    return pd.concat(parts, ignore_index=True)[columns]


@lru_cache(maxsize=2)
def draw_users(n_users: int, seed: int = 0) -> np.ndarray:
    """How often each of the users comes up when as many are drawn with replacement: (N_RESAMPLES, U)."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(n_users, np.full(n_users, 1 / n_users), N_RESAMPLES).astype(np.float64)


def interval(draws: np.ndarray, level: float = 0.95) -> np.ndarray:
    """Low and high end (2, …) of a statistic's bootstrap draws (N_RESAMPLES, …); draws without the group (NaN) are left out."""
    tail = (1 - level) / 2
    with warnings.catch_warnings(category=RuntimeWarning, action="ignore"):  # a group without rows has no interval
        return np.asarray(np.nanquantile(draws, [tail, 1 - tail], axis=0))


def _user_sums(rated: pd.DataFrame, by: list[str], column: str) -> pd.DataFrame:
    """Users × groups: sum of `column` over a user's rows in each group, 0 where there is none; empty categories are groups."""
    sums = rated.groupby([*by, "user"], observed=False)[column].sum().reset_index()
    return sums.pivot_table(index="user", columns=by, values=column, fill_value=0.0, observed=False)


def group_means(rated: pd.DataFrame, by: list[str], column: str, root: bool = False) -> pd.DataFrame:
    """Mean of `column` over the rows of each group, with an interval by bootstrap over users, who bring all their rows.

    Columns: estimate, low, high (95 %), users, ratings. `root` takes the root of the first three: RMSE of squared errors. Users are
    drawn once for all groups, so that a group's interval does not depend on which others there are.
    """
    rated = rated.assign(n_rows=1.0)
    sums, counts = _user_sums(rated, by, column), _user_sums(rated, by, "n_rows")
    drawn = draw_users(len(sums))
    with np.errstate(invalid="ignore"):  # a draw, or a category, without rows
        draws = (drawn @ sums.to_numpy(float)) / (drawn @ counts.to_numpy(float))
    ends = interval(draws)
    table = pd.DataFrame({"estimate": sums.sum() / counts.sum(), "low": ends[0], "high": ends[1]})
    table = table.pow(0.5) if root else table
    return table.assign(users=(counts > 0).sum(), ratings=counts.sum())


def group_rmse(rated: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """RMSE of each group of rows of `out_of_fold`, columns as of `group_means` with `rmse` for the estimate."""
    return group_means(rated, by, "squared_error", root=True).rename(columns={"estimate": "rmse"})


def group_tests(rated: pd.DataFrame, group: str, n_resamples: int = 2_000, seed: int = 0) -> pd.Series:
    """Holm-adjusted p-values over all models and groups: does a group of users have another error than all other users?

    Each user is in one group. The statistic is the mean squared error of the group's rows less that of the others' rows, and
    under the null hypothesis users could as well have changed their groups: a permutation test with users as the units.
    """
    errors, counts = _user_sums(rated, ["model"], "squared_error"), rated[rated["model"] == rated["model"].iloc[0]]
    n_rows = counts.groupby("user").size().reindex(errors.index).to_numpy(float)
    groups = rated.groupby("user")[group].first().reindex(errors.index)
    member = pd.get_dummies(groups).astype(float)
    values = np.column_stack([errors.to_numpy(), n_rows])  # (U, models + 1)
    total = values.sum(axis=0)

    def difference(shuffled: np.ndarray) -> np.ndarray:
        inside = member.to_numpy().T @ shuffled  # (groups, models + 1)
        outside = total - inside
        with np.errstate(invalid="ignore"):  # a category without users
            return np.abs(inside[:, :-1] / inside[:, -1:] - outside[:, :-1] / outside[:, -1:])

    generator, observed = np.random.default_rng(seed), difference(values)
    as_far = np.zeros(observed.shape)
    for _ in range(n_resamples):
        as_far += difference(generator.permutation(values)) >= observed - 1e-12
    p = (1 + as_far.T) / (1 + n_resamples)  # (models, groups)
    names = pd.MultiIndex.from_product([errors.columns, member.columns], names=["model", group])
    return pd.Series(holm(p.ravel()), index=names)


def regression(rated: pd.DataFrame, columns: list[str], target: str) -> pd.DataFrame:
    """Least squares of `target` on `columns` over the rows: each coefficient's estimate, low, high (95 %, bootstrap over users)."""
    inputs = np.column_stack([np.ones(len(rated)), rated[columns].to_numpy(float)])
    terms = [inputs[:, i] * column for i in range(inputs.shape[1]) for column in (*inputs.T, rated[target].to_numpy())]
    users = np.unique(rated["user"], return_inverse=True)[1]
    sums = np.column_stack([np.bincount(users, term) for term in terms])  # (U, K * (K + 1))
    drawn = np.vstack([np.ones(len(sums)), draw_users(len(sums))]) @ sums  # the first draw is everybody once
    equations = drawn.reshape(len(drawn), inputs.shape[1], inputs.shape[1] + 1)
    coefficients = np.linalg.solve(equations[..., :-1], equations[..., -1:])[..., 0]
    low, high = interval(coefficients[1:])
    return pd.DataFrame({"estimate": coefficients[0], "low": low, "high": high}, ["intercept", *columns])


def rmse_differences(rated: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """RMSE of each model less that of `baseline` on the same rows: estimate, low, high (95 %, bootstrap over users)."""
    sums = _user_sums(rated, ["model"], "squared_error")
    n_rows = rated[rated["model"] == baseline].groupby("user").size().reindex(sums.index).to_numpy(float)
    drawn = np.vstack([np.ones(len(sums)), draw_users(len(sums))])  # the first draw is everybody once
    errors = pd.DataFrame(np.sqrt((drawn @ sums.to_numpy(float)) / (drawn @ n_rows)[:, None]), columns=sums.columns)
    differences = errors.drop(columns=baseline).sub(errors[baseline], axis=0)
    low, high = interval(differences.to_numpy()[1:])
    return pd.DataFrame({"estimate": differences.iloc[0], "low": low, "high": high})


def rate_new_users(
    model: Recommender, train: Interactions, rows: Interactions, n_known: int, first: int = 0
) -> pd.DataFrame:
    """Predict the rows of users unknown to training, from each one's row `first` in time on, knowing their first `n_known`.

    Columns: user, item, position, actual, predicted, squared_error. A model that cannot fold in is told the attributes only.
    """
    position, _ = positions(rows, rows.times)
    known, asked = rows.take(position < n_known), position >= first
    if not model.traits.folds_in:
        known = rows.take(np.empty(0, np.int64))
    rated = rate(model, train, rows.take(asked), known).assign(position=position[asked])
    return rated[["user", "item", "position", "actual", "predicted", "squared_error"]]


def add_own_mean(rated: pd.DataFrame, n_known: int, weight: float, first: int) -> pd.DataFrame:
    """A hybrid made by hand: a prior's stars plus the user's mean residual over their first `n_known` rows, shrunk.

        b_u = Σ (r_ui - prior_ui) / (weight + n_known)

    `rated` holds the prior's predictions of all rows, as of `rate_new_users`; returned are those from row `first` on.
    """
    history, asked = rated[rated["position"] < n_known], rated[rated["position"] >= first]
    residuals = (history["actual"] - history["predicted"]).groupby(history["user"]).sum()
    own = asked["user"].map(residuals).fillna(0.0) / (weight + n_known)
    predicted = (asked["predicted"] + own).clip(rated["actual"].min(), rated["actual"].max())
    return asked.assign(predicted=predicted, squared_error=(predicted - asked["actual"]) ** 2)


def attribute_effects(
    residuals: np.ndarray, codes: np.ndarray, features: np.ndarray, weight: float, ridge: float
) -> np.ndarray:
    """(M,) mean residuals of users or films, each shrunk towards what its attributes make one expect.

        e_m = (Σ residuals + weight x_m β) / (weight + n_m)

    `codes` (N,) says whose the residuals (N,) are, `features` is (M, F). β is a ridge regression of mean residuals on standardised
    attributes, each user or film weighted by n / (n + weight). Without a residual, e is the expectation.
    """
    spread = features.std(axis=0)
    inputs = np.column_stack(
        [np.ones(len(features)), (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)]
    )
    counts = np.bincount(codes, minlength=len(features))
    total = np.bincount(codes, residuals, len(features))
    trust = counts / (counts + weight)
    penalty = ridge * np.diag(np.r_[0.0, np.ones(features.shape[1])])
    target = (inputs.T * trust) @ (total / np.maximum(counts, 1))
    expected = inputs @ np.linalg.solve((inputs.T * trust) @ inputs + penalty, target)
    return np.asarray((total + weight * expected) / (weight + counts))


def _names(index: pd.Index) -> list[str]:
    return [" | ".join(map(str, row)) if isinstance(row, tuple) else str(row) for row in index]


class Tables:
    """The tables of one notebook's results, a row per name (or per model and group) and a column per measure.

    Tables that networks are in come from `Notebook.keep`; rows of models without chance are computed anew beside them and have to
    be the same.
    """

    def __init__(self, notebook: Notebook) -> None:
        self.notebook = notebook
        self.tables: dict[str, pd.DataFrame] = {}
        self.compared = 0

    def keep(
        self,
        name: str,
        table: pd.DataFrame | Callable[[], pd.DataFrame],
        within: float | None = None,
        exact: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Put a table into the results file and return it: the kept one, if `table` is a function that makes it.

        `within` see `Notebook.keep`. `exact` has some of the table's rows, computed now. Raises StudyError where the kept table
        has other values there.
        """
        if callable(table):
            table = pd.DataFrame(self.notebook.keep(name, table, within))
        if exact is not None:
            self._confirm(name, table, exact)
        self.tables[name] = table.set_axis(_names(table.index), axis=0)
        return table

    def _confirm(self, name: str, kept: pd.DataFrame, fresh: pd.DataFrame) -> None:
        stored, now = (each.set_axis(_names(each.index), axis=0) for each in (kept, fresh))
        self.compared += len(now)
        for row in now.index:
            old, new = stored.loc[row, now.columns].to_numpy(float), now.loc[row].to_numpy(float)
            if not np.allclose(old, new, rtol=0, atol=DETERMINISTIC_TOLERANCE, equal_nan=True):
                raise StudyError(
                    f"{self.notebook.name}, {name}, {row}: {new.tolist()} now, {old.tolist()} kept: the kept table is stale "
                    f"(run `make store NOTEBOOK={self.notebook.name}`), or the code has changed what it computes."
                )

    def save(self) -> None:
        """Write the notebook's results."""
        self.notebook.save_results(long_format({}, self.tables))
