"""Components, power and simulated coverage of differences over crossed users and splits."""

from __future__ import annotations

from dataclasses import asdict, astuple

import numpy as np
import pandas as pd
import pytest
from crossed_draws import COMPONENTS, SHAPE, drawn
from scipy import stats

from pipeline.chapters.crossed import Difference, Terms, detectable, expected_difference
from pipeline.chapters.crossed_components import (
    Components,
    needed,
    needed_table,
    power,
    power_table,
    variance_components,
)
from pipeline.chapters.crossed_simulation import (
    COLUMNS,
    PROCEDURES,
    draws,
    means_of_splits,
    nested_bootstrap,
    simulate,
    simulate_worlds,
    users_and_splits,
    users_on_one_split,
    worlds,
)
from recsys_core.errors import StudyError
from recsys_core.statistics import bootstrap_interval, percentile_interval


def test_components_are_found_again_in_what_was_drawn_with_them() -> None:
    truth = Components(user=0.10, split=0.05, interaction=0.13, seed=0.04, noise=0.06)
    generator, size = np.random.default_rng(0), (300, 60, 3)
    d = truth.user * generator.normal(size=(300, 1, 1)) + truth.split * generator.normal(size=(1, 60, 1))
    d = d + truth.interaction * generator.normal(size=(300, 60, 1)) + truth.seed * generator.normal(size=(1, 60, 3))
    d = d + truth.noise * generator.normal(size=size)
    assert astuple(variance_components(d)) == pytest.approx(astuple(truth), rel=0.12)
    of_means = variance_components(d.mean(axis=2))
    assert astuple(of_means) == pytest.approx(astuple(truth.of_means(3)), rel=0.12)
    assert (of_means.seed, of_means.noise) == (0, 0)
    stored = pd.DataFrame([asdict(of_means)], index=["EASE"])
    assert Components(**stored.loc["EASE"]) == of_means
    holes = d.copy()
    holes[generator.random(size[:2]) < 0.1] = np.nan
    holes[:, ::2, 2] = np.nan
    assert astuple(variance_components(holes)) == pytest.approx(astuple(truth), rel=0.15)


def test_components_of_two_users_splits_and_seeds_are_computed_by_hand() -> None:
    d = np.array([[[0.0, 4.0], [0.0, 2.0]], [[2.0, 2.0], [8.0, 14.0]]])
    d[:, 1] += 20  # means over seeds: 2, 21 and 2, 31
    between = 2 * (1 + 1) + 2 * (2**2 + 2**2)  # seeds' means 1, 3 and 24, 28
    within = 4 * 1 + 4 * 1  # what is left: ±1 in every cell
    noise = within / 2
    seed = (between - 2 * noise) / 4
    interaction = 25 - noise / 2  # mean square of the interaction: what is left is ±2.5
    user = (2 * np.var([11.5, 16.5], ddof=1) - 25) / 2
    found = variance_components(d)
    assert np.square([found.user, found.interaction, found.seed, found.noise]) == pytest.approx(
        [max(user, 0), interaction, seed, noise]
    )
    assert found.split**2 == pytest.approx((2 * np.var([2, 26], ddof=1) - 25) / 2 - seed / 2)


def test_a_user_who_was_measured_with_one_seed_alone_is_named_as_an_error() -> None:
    d = np.random.default_rng(0).random((5, 4, 3))
    d[2, 1, 0] = np.nan
    with pytest.raises(StudyError, match="one seed of a split"):
        variance_components(d)


@pytest.mark.parametrize("terms", [COMPONENTS.terms(943, 5, 3), Components(0.03, 0.015, 0.13).terms(943, 5)])
def test_the_detectable_difference_is_found_four_times_in_five(terms: Terms) -> None:
    size, se = detectable(terms), np.sqrt(terms.variance)
    critical = stats.t.ppf(0.975, terms.df)
    exact = stats.nct.sf(critical, terms.df, size / se) + stats.nct.cdf(-critical, terms.df, size / se)
    assert exact == pytest.approx(0.8, abs=0.01)
    assert power(terms, size) == pytest.approx(exact)
    assert power(terms, -size) == pytest.approx(exact)
    assert power(terms, 0.0) == pytest.approx(0.05)
    assert Difference(0.0, terms).detectable == size


def test_expected_terms_are_the_means_of_measured_ones_and_the_variance_that_of_estimates() -> None:
    truth = Components(user=0.10, split=0.02, interaction=0.13, seed=0.03)
    found = [expected_difference(d) for d in drawn(60, components=truth, n_draws=3_000)]
    expected = truth.terms(60, 5, 3)
    measured = np.mean([astuple(each.terms) for each in found], axis=0)
    assert measured == pytest.approx(astuple(expected), rel=0.04)
    uncut = measured[0] + measured[1] - measured[2]
    assert np.var([each.estimate for each in found]) == pytest.approx(uncut, rel=0.08)
    assert expected.variance == pytest.approx(0.1**2 / 60 + (0.02**2 + 0.03**2 / 3) / 5 + 0.13**2 / 300)


def test_more_power_takes_more_users_splits_or_seeds() -> None:
    table = power_table(COMPONENTS, [0.005, 0.01], n_users=(943, 6040), n_splits=(5, 10), n_seeds=(1, 3))
    assert len(table) == 16
    line = table[(table["users"] == 943) & (table["splits"] == 5) & (table["seeds"] == 3)].iloc[1]
    assert line["se"] ** 2 == pytest.approx(COMPONENTS.terms(943, 5, 3).variance)
    assert line["power"] == pytest.approx(power(COMPONENTS.terms(943, 5, 3), 0.01))
    for what in ("users", "splits", "seeds"):
        others = [name for name in ("users", "splits", "seeds", "difference") if name != what]
        assert table.sort_values(what).groupby(others)["power"].is_monotonic_increasing.all()


def test_what_is_needed_is_the_least_that_will_do() -> None:
    n_users = needed(COMPONENTS, 0.01, "n_users")
    assert n_users is not None
    assert detectable(COMPONENTS.terms(n_users, 5, 3)) <= 0.01 < detectable(COMPONENTS.terms(n_users - 1, 5, 3))
    assert needed(COMPONENTS, 1.0, "n_users") == needed(COMPONENTS, 1.0, "n_splits") == 2
    assert needed(COMPONENTS, 1.0, "n_seeds") == 1
    table = needed_table(COMPONENTS, [0.005, 0.01])
    assert table.loc[0.01, "users"] == n_users
    assert table.loc[0.005].isna().all()  # neither splits nor seeds make up for too few users, nor users for few splits
    with pytest.raises(StudyError, match="n_films"):
        needed(COMPONENTS, 0.01, "n_films")
    with pytest.raises(StudyError, match="n_splits=1"):
        COMPONENTS.terms(943, 1)


def test_draws_have_the_components_and_the_skew_that_they_are_asked_for() -> None:
    d = drawn(400, 40, Components(0.1, 0.05, 0.13, 0.04, 0.05))[0]
    found, expected = variance_components(d), Components(0.1, 0.05, 0.13, 0.04, 0.05).of_means(3)
    assert astuple(found) == pytest.approx(astuple(expected), rel=0.2)
    assert stats.skew(drawn(4_000, 2, Components(0.1, 0.0, 0.0))[0].mean(axis=1)) > 2
    blocks = list(draws(COMPONENTS, SHAPE, 260, n_users=4, n_splits=2))
    assert [len(block) for block in blocks] == [250, 10]
    with pytest.raises(StudyError, match="two different values"):
        next(draws(COMPONENTS, np.ones(9), 1))


def test_worlds_differ_from_what_was_measured_in_one_respect() -> None:
    found = worlds(COMPONENTS)
    assert found.pop("as measured") == COMPONENTS
    assert (found["no split effect"].split, found["no split effect"].seed) == (0, 0)
    stable = found["stable user effects"]
    assert stable.user > COMPONENTS.user
    assert np.hypot(stable.user, stable.interaction) == pytest.approx(np.hypot(0.10, 0.13))
    assert found["split effect"] == Components(0.10, 0.005, 0.13, 0.004)
    assert found["seed sd 0.015"] == Components(0.10, 0.002, 0.13, 0.015)


def test_rivals_are_what_they_are_called() -> None:
    d, generator = drawn(300, n_draws=2, components=Components(0.1, 0.02, 0.13)), np.random.default_rng(0)
    for place, of_one in enumerate(users_on_one_split(d, generator)):
        assert of_one[0] == pytest.approx(bootstrap_interval(d[place, :, 0]))
        assert of_one[1] == pytest.approx(bootstrap_interval(d[place, :, 0], level=0.9))
    peer = stats.ttest_1samp(d[0].mean(axis=0), 0)
    assert tuple(means_of_splits(d, generator)[0, 0]) == pytest.approx(peer.confidence_interval(0.95))
    assert tuple(users_and_splits(d, generator)[1, 1]) == expected_difference(d[1]).interval(0.9)
    resampled = [
        np.mean([generator.choice(d[0, :, s], 300).mean() for s in generator.integers(0, 5, 5)]) for _ in range(3_000)
    ]
    low, high = percentile_interval(np.array(resampled))
    assert nested_bootstrap(d, generator)[0, 0] == pytest.approx([low, high], abs=0.1 * (high - low))


@pytest.mark.parametrize("world", ["no split effect", "stable user effects", "split effect", "seed sd 0.015"])
def test_crossed_intervals_cover_the_truth_95_times_in_100(world: str) -> None:
    """To three Monte Carlo errors of 800 draws; with 200 users, splits' and seeds' deviations are as large beside users' part."""
    found = worlds(COMPONENTS, split=0.011, seed=0.033)
    components = found.get(world) or found["seed sd 0.033"]
    line = simulate(
        components, SHAPE, n_users=200, n_draws=800, procedures={"users and splits crossed": users_and_splits}
    ).iloc[0]
    assert 0.927 <= line["coverage"] <= 0.973
    assert line["type I"] == pytest.approx(1 - line["coverage"])
    assert line["strict type I"] <= 0.025
    assert line["tail error"] <= 0.073


def test_rivals_fall_short_in_the_worlds_that_they_overlook() -> None:
    table = simulate_worlds(worlds(Components(0.1, 0.002, 0.13, 0.004), split=0.005), SHAPE, n_draws=120)
    assert list(table) == ["world", *COLUMNS]
    assert len(table) == 5 * len(PROCEDURES)
    coverage = table.pivot_table("coverage", "world", "procedure")
    assert (coverage["users and splits crossed"] > 0.88).all()
    assert coverage.loc["seed sd 0.015", "users on one split"] < 0.85
    assert coverage.loc["stable user effects", ["nested bootstrap", "t over means of splits"]].max() < 0.85


def test_the_equivalence_test_is_seldom_wrong_at_a_margin_that_it_can_pass() -> None:
    line = simulate(
        Components(0.02, 0.001, 0.04), SHAPE, 200, n_draws=600, margin=0.012, procedures={"x": users_and_splits}
    ).iloc[0]
    assert 0.02 <= line["equivalence error"] <= line["tail error"] <= 0.077
    assert line["called equivalent"] > 0.9
