"""Differences over crossed users and splits: against loops over clusters, dummy variables and hand-computed tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple

import numpy as np
import pandas as pd
import pytest
from crossed_draws import drawn
from scipy import stats

from pipeline.chapters.crossed import (
    Difference,
    Terms,
    compare_family,
    differences,
    expected_difference,
    over_seeds,
)
from pipeline.chapters.crossed_components import Components
from recsys_core.errors import StudyError
from recsys_core.statistics import holm


def with_holes(d: np.ndarray, share: float = 0.15) -> np.ndarray:
    """The same differences, some of them missing, and one user who was never measured."""
    holes = np.random.default_rng(1).random(d.shape) < share
    return np.vstack([np.where(holes, np.nan, d), np.full((1, d.shape[1]), np.nan)])


def clustered(d: np.ndarray, same: Callable[[tuple[int, int], tuple[int, int]], bool], n_clusters: int) -> float:
    """Variance of the mean of the cells of `d` by a loop over all pairs of cells that are in one cluster."""
    cells = [(u, s) for u in range(d.shape[0]) for s in range(d.shape[1]) if not np.isnan(d[u, s])]
    mean = np.mean([d[cell] for cell in cells])
    total = sum((d[one] - mean) * (d[other] - mean) for one in cells for other in cells if same(one, other))
    return float(total) / len(cells) ** 2 * n_clusters / (n_clusters - 1)


def dummies(d: np.ndarray) -> float:
    """Mean square left by a regression of the cells on a dummy variable for each user and each split, over the number of cells."""
    users, splits = np.nonzero(~np.isnan(d))
    design = np.hstack([users[:, None] == np.unique(users), splits[:, None] == np.unique(splits)]).astype(float)
    values = d[users, splits]
    fitted = design @ np.linalg.lstsq(design, values, rcond=None)[0]
    df = len(values) - np.linalg.matrix_rank(design)
    return float(((values - fitted) ** 2).sum() / df / len(values))


@pytest.mark.parametrize("holes", [False, True])
def test_the_three_terms_equal_loops_over_clusters_and_a_regression_on_dummies(holes: bool) -> None:
    d = with_holes(drawn(12)[0]) if holes else drawn(12)[0]
    terms = expected_difference(d).terms
    by_user = clustered(d, lambda one, other: one[0] == other[0], 12)
    by_split = clustered(d, lambda one, other: one[1] == other[1], 5)
    assert [terms.user, terms.split, terms.interaction] == pytest.approx([by_user, by_split, dummies(d)])
    assert terms.variance == pytest.approx(by_user + max(by_split - dummies(d), 0))
    assert (terms.n_users, terms.n_splits, terms.n_cells) == (12, 5, (~np.isnan(d)).sum())


def test_two_users_on_two_splits_are_computed_by_hand() -> None:
    found = expected_difference(np.array([[0.0, 2.0], [4.0, 10.0]]))
    assert found.estimate == 4
    assert astuple(found.terms) == pytest.approx((9, 4, 1, 2, 2, 4))  # users' means 1 and 7, splits' 2 and 6, left ±1
    assert found.terms.variance == pytest.approx(12)
    assert found.terms.df == pytest.approx(144 / (81 + 16 + 1))
    reach = stats.t.ppf(0.975, 144 / 98) * np.sqrt(12)
    assert found.interval() == pytest.approx((4 - reach, 4 + reach))
    assert found.p == pytest.approx(2 * stats.t.sf(4 / np.sqrt(12), 144 / 98))


def test_without_holes_the_variance_is_that_of_the_mean_squares() -> None:
    d = drawn(30, components=Components(0.1, 0.2, 0.1))[0]
    of_users, of_splits = d.mean(axis=1), d.mean(axis=0)
    left = d - of_users[:, None] - of_splits + d.mean()
    squares = [5 * of_users.var(ddof=1), 30 * of_splits.var(ddof=1), (left**2).sum() / (29 * 4)]
    assert expected_difference(d).terms.variance == pytest.approx((squares[0] + squares[1] - squares[2]) / 150)


def test_splits_that_differ_less_than_chance_add_nothing_but_their_degrees_of_freedom_count() -> None:
    terms = Terms(user=4.0, split=1.0, interaction=2.0, n_users=101, n_splits=5, n_cells=505)
    assert terms.variance == 4
    assert terms.df == pytest.approx(16 / (16 / 100 + 1 / 4 + 4 / 400))


def test_the_degrees_of_freedom_have_a_floor_of_4_or_one_less_than_the_splits() -> None:
    for n_splits, least in ((5, 4), (8, 4), (3, 2)):
        terms = Terms(0.01, 1.0, 0.9, 101, n_splits, 101 * n_splits)
        assert terms.df == least
    assert Terms(1.0, 0.0, 0.0, 101, 5, 505).df == pytest.approx(100)


def test_the_order_of_users_and_splits_is_no_part_of_a_difference() -> None:
    d, generator = with_holes(drawn(40)[0]), np.random.default_rng(2)
    shuffled = generator.permutation(generator.permutation(d, axis=0), axis=1)
    one, other = expected_difference(d), expected_difference(shuffled)
    assert [one.estimate, *astuple(one.terms)] == pytest.approx([other.estimate, *astuple(other.terms)], rel=1e-10)


def test_a_shift_moves_the_interval_and_a_factor_stretches_it() -> None:
    d = with_holes(drawn(40)[0])
    low, high = expected_difference(d).interval()
    assert expected_difference(d + 1).interval() == pytest.approx((low + 1, high + 1))
    assert expected_difference(-3 * d).interval() == pytest.approx((-3 * high, -3 * low))


def test_users_and_splits_that_were_never_measured_do_not_count() -> None:
    d = drawn(20)[0]
    more = np.full((22, 7), np.nan)
    more[1:21, 1:6] = d
    assert astuple(expected_difference(more)) == astuple(expected_difference(d))


def test_a_difference_is_the_mean_over_the_seeds_that_were_run() -> None:
    seeds = np.random.default_rng(3).normal(size=(10, 4, 3))
    seeds[:, 2, 2] = np.nan
    seeds[5, 1] = np.nan
    means = over_seeds(seeds)
    np.testing.assert_allclose(means[:, [0, 3]], seeds[:, [0, 3]].mean(axis=2))
    np.testing.assert_allclose(means[:, 2], seeds[:, 2, :2].mean(axis=1))
    assert np.argwhere(np.isnan(means)).tolist() == [[5, 1]]
    assert astuple(expected_difference(seeds)) == astuple(expected_difference(means))


@pytest.mark.parametrize(
    ("d", "message"),
    [
        (np.zeros((9, 1)), "1 split with test rows"),
        (np.column_stack([np.zeros(9), np.full(9, np.nan)]), "1 split with test rows"),
        (np.zeros((1, 5)), "1 user with test rows"),
        (np.full((3, 3), np.nan), "0 users with test rows"),
        (np.zeros(9), "users × splits"),
        (np.array([[0.0, np.inf], [1.0, 2.0]]), "infinite"),
        (np.where(np.eye(4, dtype=bool), 1.0, np.nan), "cannot be told apart"),
        (np.where(np.kron(np.eye(2), np.ones((3, 2))), 1.0, np.nan), "cannot be told apart"),
    ],
)
def test_what_cannot_be_known_is_refused(d: np.ndarray, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        expected_difference(d)


def test_p_is_below_5_percent_where_the_interval_leaves_0_out() -> None:
    d = drawn(40)[0]
    low, _ = expected_difference(d).interval()
    assert expected_difference(d - low - 1e-9).p > 0.05 > expected_difference(d - low + 1e-9).p
    assert expected_difference(d - low).p == pytest.approx(0.05)


def test_models_are_equivalent_where_the_90_percent_interval_lies_within_the_margin() -> None:
    found = expected_difference(drawn(200)[0])
    low, high = found.interval(0.9)
    edge = max(-low, high)
    assert found.smallest_margin == edge
    assert found.equivalent(edge * 1.001)
    assert not found.equivalent(edge * 0.999)
    t = np.array([edge - found.estimate, edge + found.estimate]) / found.se
    assert found.equivalence_p(edge) == pytest.approx(stats.t.sf(t, found.terms.df).max())
    assert found.equivalence_p(edge) == pytest.approx(0.05)


def test_a_model_is_equivalent_to_itself() -> None:
    same = expected_difference(np.zeros((8, 5)))
    assert (same.interval(), same.p, same.equivalent(), same.smallest_margin) == ((0.0, 0.0), 1, True, 0)
    other = Difference(0.25, same.terms)
    assert (other.p, other.equivalent(), other.equivalence_p(0.5), other.equivalence_p(0.1)) == (0, False, 0, 1)


def test_a_family_has_raw_and_adjusted_p() -> None:
    pairs = {name: drawn(60, seed=seed)[0] + shift for seed, (name, shift) in enumerate([("a", 0.1), ("b", 0.03)])}
    table = compare_family(pairs, margin=0.05)
    for name, d in pairs.items():
        found, line = expected_difference(d), table.loc[name]
        assert tuple(line[["low", "high"]]) == found.interval()
        assert tuple(line[["difference", "se", "df", "p"]]) == (found.estimate, found.se, found.terms.df, found.p)
        assert line["equivalent"] == found.equivalent(0.05)
        assert line["equivalence p"] == found.equivalence_p(0.05)
        assert (line["smallest margin"], line["detectable"]) == (found.smallest_margin, found.detectable)
        assert (line["users"], line["splits"]) == (60, 5)
    np.testing.assert_array_equal(table["p adjusted"], holm(table["p"].to_numpy()))
    assert compare_family({}).empty


def long(model: str, values: np.ndarray) -> pd.DataFrame:
    """Rows of a model from values (U, S, R), NaN for no row; splits are called b, c, …"""
    cells = np.argwhere(~np.isnan(values))
    labels = {"user": cells[:, 0], "variant": [chr(98 + s) for s in cells[:, 1]], "seed": cells[:, 2]}
    rows = pd.DataFrame({"model": model, **labels, "ndcg@10": values[tuple(cells.T)]})
    return rows.sample(frac=1, random_state=0)


def test_differences_are_paired_by_user_split_and_seed() -> None:
    generator = np.random.default_rng(0)
    mine, theirs, once = generator.random((6, 3, 2)), generator.random((6, 3, 2)), generator.random((6, 3, 1))
    mine[4, 1], once[2, 0], once[2, 1] = np.nan, np.nan, np.nan
    users = pd.concat([long("mine", mine), long("theirs", theirs), long("once", once)])
    np.testing.assert_array_equal(differences(users, "mine", "theirs", "ndcg@10"), mine - theirs)
    np.testing.assert_array_equal(differences(users, "mine", "once", "ndcg@10"), mine - once)
    np.testing.assert_array_equal(differences(users, "once", "mine", "ndcg@10"), once - mine)
    np.testing.assert_array_equal(
        differences(users[users["seed"] == 0].drop(columns="seed"), "once", "mine", "ndcg@10"), once - mine[:, :, :1]
    )


def test_what_cannot_be_paired_is_refused() -> None:
    values = np.random.default_rng(0).random((6, 3, 2))
    mine, fewer = long("mine", values), long("fewer", values[:, :2])
    others = long("others", values).assign(seed=lambda rows: rows["seed"] + 7)
    users = pd.concat([mine, fewer, others])
    for rows, rival, message in (
        (users, "fewer", "same splits"),
        (users, "others", "other seeds"),
        (users, "nobody", "0 rows"),
        (pd.concat([mine, mine]), "mine", "one a user, split and seed"),
    ):
        with pytest.raises(StudyError, match=message):
            differences(rows, "mine", rival, "ndcg@10")
