"""Errors of groups of rows and of new users."""

import numpy as np
import pandas as pd
import pytest

from pipeline.chapters.error_groups import (
    group_means,
    group_rmse,
    group_tests,
    out_of_fold,
    rate_new_users,
    regression,
    rmse_differences,
)
from recsys_core.evaluate import rate
from recsys_core.interactions import Interactions
from recsys_core.models.baselines import Bias
from recsys_core.protocols import make_split
from recsys_core.splits import positions
from recsys_core.statistics import rmse_interval


@pytest.fixture
def rated() -> pd.DataFrame:
    """Two models' errors on 2,000 rows of 40 users; the second model's are half as large; odd users' twice as large."""
    generator = np.random.default_rng(0)
    users = generator.integers(0, 40, 2000)
    error = generator.normal(0, 1, 2000) * (1 + users % 2)
    table = pd.DataFrame(
        {"user": users, "item": np.arange(2000), "odd": users % 2, "group": generator.integers(0, 3, 2000)}
    )
    return pd.concat([table.assign(model=m, squared_error=(f * error) ** 2) for m, f in (("A", 1.0), ("B", 0.5))])


def rows_of(n_users: int = 12, n_items: int = 15, seed: int = 0) -> Interactions:
    generator = np.random.default_rng(seed)
    users, items = np.nonzero(generator.random((n_users, n_items)) < 0.8)
    order = generator.permutation(len(users))
    stars = generator.integers(1, 6, len(users)).astype(np.float32)
    return Interactions(users[order], items[order], stars, generator.integers(0, 50, len(users)), n_users, n_items)


def test_rmse_of_a_group_is_that_of_its_rows_and_its_interval_is_the_cluster_bootstrap(rated) -> None:
    table = group_rmse(rated, ["model", "group"])
    mine = rated[(rated["model"] == "A") & (rated["group"] == 2)]
    assert table.loc[("A", 2), "rmse"] == pytest.approx(mine["squared_error"].mean() ** 0.5)
    assert table.loc[("A", 2), ["users", "ratings"]].tolist() == [mine["user"].nunique(), len(mine)]
    by_user = mine.groupby("user")["squared_error"].agg(["sum", "size"])
    assert len(by_user) == 40  # all users have rows there, so that both draw from the same ones
    assert table.loc[("A", 2), ["low", "high"]].tolist() == pytest.approx(rmse_interval(*by_user.to_numpy(float).T))


def test_an_empty_category_is_a_group_without_a_value_or_a_warning(rated, recwarn) -> None:
    rated["group"] = pd.Categorical(rated["group"], [0, 1, 2, 3])
    table = group_means(rated, ["model", "group"], "squared_error")
    assert table.loc[("A", 3), "ratings"] == 0 and np.isnan(table.loc[("A", 3), "estimate"])
    assert not recwarn.list


def test_groups_of_users_with_other_errors_differ_and_groups_at_random_do_not(rated) -> None:
    assert (group_tests(rated, "odd", 500) < 0.05).all()
    rated["at_random"] = np.random.default_rng(1).permutation(40)[rated["user"]] % 2
    assert (group_tests(rated, "at_random", 500) > 0.05).all()


def test_regression_equals_least_squares_and_its_interval_holds_the_truth() -> None:
    generator = np.random.default_rng(0)
    table = pd.DataFrame({"user": generator.integers(0, 50, 3000), "x": generator.normal(size=3000)})
    table["y"] = 2 + 3 * table["x"] + generator.normal(size=50)[table["user"]]
    found = regression(table, ["x"], "y")
    assert found["estimate"].tolist() == pytest.approx(np.polyfit(table["x"], table["y"], 1)[::-1].tolist())
    assert (found["low"] < [2.3, 3]).all() and (found["high"] > [1.8, 3]).all()


def test_differences_of_rmse_are_paired(rated) -> None:
    line = rmse_differences(rated, "A").loc["B"]
    rmse = group_rmse(rated, ["model"])["rmse"]
    assert line["estimate"] == pytest.approx(rmse["B"] - rmse["A"])
    assert line["low"] < line["estimate"] < line["high"] < 0


def test_predictions_out_of_fold_are_those_of_models_fitted_on_the_other_rows() -> None:
    splits = [make_split("rating-5fold", rows_of(), fold=fold) for fold in (1, 2)]
    table = out_of_fold(lambda _, split: Bias().fit(split.refit), ["Bias"], splits)
    second = rate(Bias().fit(splits[1].refit), splits[1].refit, splits[1].test)
    assert table["fold"].unique().tolist() == ["fold=1", "fold=2"]
    assert table[table["fold"] == "fold=2"]["predicted"].tolist() == second["predicted"].tolist()
    assert table["support"].tolist() == [split.refit.item_counts[i] for split in splits for i in split.test.items]


def test_a_new_user_is_predicted_from_exactly_the_first_ratings() -> None:
    split = make_split("user-holdout", rows_of())
    bias, position = Bias().fit(split.refit), positions(split.test, split.test.times)[0]
    table = rate_new_users(bias, split.refit, split.test, 3, first=4)
    known = split.test.take(position < 3)
    assert table["position"].min() == 4 and len(table) == (position >= 4).sum()
    assert (
        table["predicted"].tolist()
        == rate(bias, split.refit, split.test.take(position >= 4), known)["predicted"].tolist()
    )
