"""Bootstrap intervals against scipy and normal theory."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import recsys_core.statistics
from recsys_core.statistics import (
    bootstrap_interval,
    bootstrap_means,
    holm,
    paired_interval,
    percentile_interval,
    permutation_test,
    resampled_sums,
    rmse_interval,
)


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    """Skewed values of 300 users."""
    return np.random.default_rng(8).beta(0.4, 2.0, 300)


def test_the_interval_agrees_with_scipys_percentile_bootstrap(values: np.ndarray) -> None:
    peer = stats.bootstrap((values,), np.mean, n_resamples=9999, method="percentile", rng=np.random.default_rng(1))
    width = peer.confidence_interval.high - peer.confidence_interval.low
    low, high = bootstrap_interval(values)
    assert low == pytest.approx(peer.confidence_interval.low, abs=0.06 * width)
    assert high == pytest.approx(peer.confidence_interval.high, abs=0.06 * width)


def test_the_resampled_means_have_the_standard_error_of_normal_theory(values: np.ndarray) -> None:
    means = bootstrap_means(values, n_resamples=4000)
    assert means.mean() == pytest.approx(values.mean(), abs=4 * means.std() / 4000**0.5)
    assert means.std() == pytest.approx(values.std() / 300**0.5, rel=0.05)
    low, high = bootstrap_interval(values, level=0.8)
    assert high - low == pytest.approx(2 * stats.norm.ppf(0.9) * values.std() / 300**0.5, rel=0.08)


def test_resampling_a_few_users_gives_every_multiset_its_probability() -> None:
    """Of two users (0 and 1) the mean is 0, 1/2 or 1 with probability 1/4, 1/2, 1/4."""
    means = bootstrap_means(np.array([0.0, 1.0]), n_resamples=4000)
    assert set(means) == {0, 0.5, 1}
    observed = [(means == mean).sum() for mean in (0, 0.5, 1)]
    assert stats.chisquare(observed, [1000, 2000, 1000]).pvalue > 1e-4


def test_all_sums_are_over_the_same_drawn_users(values: np.ndarray) -> None:
    both = resampled_sums(np.column_stack([values, np.ones(300)]))
    np.testing.assert_allclose(both[:, 0] / 300, bootstrap_means(values))
    assert (both[:, 1] == 300).all()


def test_drawing_in_blocks_draws_the_same_users(values: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = resampled_sums(values)
    monkeypatch.setattr(recsys_core.statistics, "MOST_COUNTS", 300 * 7)
    np.testing.assert_allclose(resampled_sums(values), at_once)


def test_draws_without_a_value_are_no_part_of_an_interval() -> None:
    draws = np.column_stack([[1.0, 2.0, np.nan, 3.0], np.full(4, np.nan)])
    assert percentile_interval(draws, 0.5)[:, 0].tolist() == [1.5, 2.5]
    assert np.isnan(percentile_interval(draws)[:, 1]).all()


def test_a_95_percent_interval_covers_the_true_mean_about_95_times_in_100() -> None:
    generator = np.random.default_rng(4)
    intervals = [bootstrap_interval(generator.normal(3, 1, 40), seed=seed) for seed in range(120)]
    assert 0.86 <= np.mean([low <= 3 <= high for low, high in intervals]) <= 0.99


def test_users_without_a_value_are_left_out(values: np.ndarray) -> None:
    holes = np.insert(values, [0, 7, 300], np.nan)
    assert bootstrap_interval(holes) == bootstrap_interval(values)


def test_no_values_give_nan_and_one_value_no_width() -> None:
    assert np.isnan(bootstrap_interval(np.full(3, np.nan))).all()
    assert np.isnan(bootstrap_interval(np.empty(0))).all()
    assert bootstrap_interval(np.array([0.25])) == (0.25, 0.25)


def test_the_seed_decides_the_resamples(values: np.ndarray) -> None:
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_a_higher_level_gives_a_wider_interval(values: np.ndarray) -> None:
    narrow, wide = bootstrap_interval(values, level=0.5), bootstrap_interval(values, level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_the_order_of_the_users_hardly_matters(values: np.ndarray) -> None:
    assert bootstrap_interval(values[::-1]) == pytest.approx(bootstrap_interval(values), abs=0.003)


def test_pairing_removes_what_the_users_have_in_common(values: np.ndarray) -> None:
    difference, low, high = paired_interval(values + 0.01, values)
    assert [difference, low, high] == pytest.approx([0.01] * 3, abs=1e-12)


def test_a_paired_difference_has_the_sign_of_a_minus_b_and_the_interval_of_the_differences(values: np.ndarray) -> None:
    other = np.random.default_rng(2).beta(0.4, 2.0, 300) + 0.2
    difference, low, high = paired_interval(values, other)
    assert difference == pytest.approx(values.mean() - other.mean(), abs=1e-12)
    assert (low, high) == bootstrap_interval(values - other)
    assert low < difference < high < 0


def test_a_pair_counts_only_where_both_have_a_value() -> None:
    a, b = np.array([1.0, np.nan, 3.0, 5.0]), np.array([0.0, 1.0, np.nan, 2.0])
    difference, low, high = paired_interval(a, b)
    assert difference == 2
    assert (low, high) == bootstrap_interval(np.array([1.0, 3.0]))


def test_the_permutation_test_agrees_with_scipy() -> None:
    generator = np.random.default_rng(3)
    a = generator.normal(0.1, 1, 60)
    b = generator.normal(0, 1, 60)
    reference = stats.permutation_test(
        (a, b), lambda x, y: (x - y).mean(), permutation_type="samples", n_resamples=20_000, random_state=0
    )
    assert permutation_test(a, b) == pytest.approx(reference.pvalue, abs=0.02)
    assert permutation_test(a, a + 1) == pytest.approx(1 / 10_001)
    assert permutation_test(a, a) == 1


def test_holm_equals_a_hand_computed_table() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])


def test_the_rmse_interval_resamples_users_with_all_their_rows() -> None:
    squared, rows = np.full(50, 8.0), np.full(50, 2.0)
    assert rmse_interval(squared, rows) == (2, 2)
    generator = np.random.default_rng(0)
    errors = generator.normal(0, 1, (400, 10)) * generator.lognormal(0, 0.5, (400, 1))
    low, high = rmse_interval((errors**2).sum(axis=1), np.full(400, 10.0))
    assert low < np.sqrt((errors**2).mean()) < high
