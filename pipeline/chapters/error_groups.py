"""Errors of groups of ratings, of new users and of rare films, with intervals over users."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from recsys_core.evaluate import rate
from recsys_core.interactions import Interactions
from recsys_core.models.base import Recommender
from recsys_core.splits import Split, positions
from recsys_core.statistics import holm, percentile_interval, resampled_sums


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
    with np.errstate(invalid="ignore"):  # a draw, or a category, without rows
        draws = resampled_sums(sums.to_numpy(float)) / resampled_sums(counts.to_numpy(float))
    ends = percentile_interval(draws)
    table = pd.DataFrame({"estimate": sums.sum() / counts.sum(), "low": ends[0], "high": ends[1]})
    table = table.pow(0.5) if root else table
    return table.assign(users=(counts > 0).sum(), ratings=counts.sum())


def rmse_draws(users: pd.DataFrame, seed: int = 0) -> np.ndarray:
    """RMSE in stars over users drawn with replacement, (n_resamples,); `users` has their sums `squared_error` and their `n_rows`.

    Two groups of users need two seeds, since nobody is in both.
    """
    squared, n_rows = resampled_sums(users[["squared_error", "n_rows"]].to_numpy(float), seed).T
    return np.asarray(np.sqrt(squared / n_rows))


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
    drawn = np.vstack([sums.sum(axis=0), resampled_sums(sums)])  # the first draw is everybody once
    equations = drawn.reshape(len(drawn), inputs.shape[1], inputs.shape[1] + 1)
    coefficients = np.linalg.solve(equations[..., :-1], equations[..., -1:])[..., 0]
    low, high = percentile_interval(coefficients[1:])
    return pd.DataFrame({"estimate": coefficients[0], "low": low, "high": high}, ["intercept", *columns])


def rmse_differences(rated: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """RMSE of each model less that of `baseline` on the same rows: estimate, low, high (95 %, bootstrap over users)."""
    sums = _user_sums(rated, ["model"], "squared_error")
    n_rows = rated[rated["model"] == baseline].groupby("user").size().reindex(sums.index).to_numpy(float)
    values = np.column_stack([sums.to_numpy(float), n_rows])  # (U, models + 1)
    drawn = np.vstack([values.sum(axis=0), resampled_sums(values)])  # the first draw is everybody once
    errors = pd.DataFrame(np.sqrt(drawn[:, :-1] / drawn[:, -1:]), columns=sums.columns)
    differences = errors.drop(columns=baseline).sub(errors[baseline], axis=0)
    low, high = percentile_interval(differences.to_numpy()[1:])
    return pd.DataFrame({"estimate": differences.iloc[0], "low": low, "high": high})


def rate_new_users(
    model: Recommender, train: Interactions, rows: Interactions, n_known: int, first: int = 0
) -> pd.DataFrame:
    """Predict the rows of users unknown to training, from each one's row `first` in time on, knowing their first `n_known`.

    Columns: user, item, position, actual, predicted, squared_error. A model that cannot fold in is told the attributes only.
    """
    position, _ = positions(rows, rows.times)
    known, asked = rows.take(position < n_known), position >= first
    if not model.own_traits.folds_in:
        known = rows.take(np.empty(0, np.int64))
    rated = rate(model, train, rows.take(asked), known).assign(position=position[asked])
    return rated[["user", "item", "position", "actual", "predicted", "squared_error"]]
