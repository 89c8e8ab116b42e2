"""Popularity counts; biases equal their formulas and the least-squares problem behind them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from boards import rows_of

from recsys_core.interactions import Interactions
from recsys_core.models.baselines import MEANS, Bias, Popularity


def small() -> Interactions:
    return rows_of(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 2, 0]), np.array([5, 3, 4, 1, 2]), 4, 4)


def test_popularity_is_the_number_of_training_rows() -> None:
    model = Popularity().fit(small())
    assert model.score(torch.tensor([2, 0])).tolist() == [[3, 1, 1, 0]] * 2
    assert model.n_parameters == 4


def test_one_pass_of_bias_equals_the_hand_computed_values() -> None:
    model = Bias(item_regularisation=1, user_regularisation=2, n_passes=1).fit(small())
    item_bias = np.array([2 / 4, 0, -2 / 2, 0])  # the mean is 3; sums of residuals 2 + 1 - 1, 0, -2
    user_bias = np.array([(5 - 3 - 0.5 + 0) / 4, (4 - 3 - 0.5 + 1 - 3 + 1) / 4, (2 - 3 - 0.5) / 3])
    expected = 3 + user_bias[:, None] + item_bias
    np.testing.assert_allclose(model.score(torch.arange(3)), expected, atol=1e-6)
    stars = model.predict(torch.tensor([0, 2]), torch.tensor([3, 1]))
    np.testing.assert_allclose(stars, [3 + user_bias[0], 3 + user_bias[2]], atol=1e-6)
    assert model.n_parameters == 1 + 4 + 4


def test_many_passes_of_bias_solve_the_regularised_least_squares_problem() -> None:
    """Minimise Σ (r - μ - b_u - b_i)² + λ_item Σ b_i² + λ_user Σ b_u² in one dense solve."""
    generator = np.random.default_rng(0)
    users, items = (generator.random((15, 9)) < 0.5).nonzero()
    train = rows_of(users, items, generator.integers(1, 6, len(users)), 15, 9)
    design = np.zeros((len(users), 15 + 9))
    design[np.arange(len(users)), users] = design[np.arange(len(users)), 15 + items] = 1
    ridge = np.diag(np.r_[np.full(15, 3.0), np.full(9, 2.0)])
    residual = train.ratings - train.ratings.mean()
    solution = np.linalg.solve(design.T @ design + ridge, design.T @ residual)
    model = Bias(item_regularisation=2, user_regularisation=3, n_passes=100).fit(train)
    np.testing.assert_allclose(model.item_bias, solution[15:], atol=1e-6)
    expected = train.ratings.mean() + solution[:15, None] + solution[15:]
    np.testing.assert_allclose(model.score(torch.arange(15)), expected, atol=1e-5)


def test_predicted_stars_are_clipped_to_the_scale_of_training_and_scores_are_not() -> None:
    train = rows_of(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([5, 4, 5, 1]), 2, 2)
    model = Bias(item_regularisation=0, user_regularisation=0).fit(train)
    assert model.score(torch.tensor([0]))[0, 0] > 5
    assert model.predict(torch.tensor([0]), torch.tensor([0])) == 5


def test_a_new_user_has_the_bias_of_their_history_and_none_without_one() -> None:
    model = Bias(item_regularisation=1, user_regularisation=2, n_passes=1).fit(small())
    history = rows_of(np.array([0]), np.array([1]), np.array([5]), 2, 4)
    known, unknown = model.predict(torch.tensor([0, 1]), torch.tensor([3, 3]), history).tolist()
    assert known == pytest.approx(3 + 2 / 3)
    assert unknown == pytest.approx(3)


def test_without_regularisation_items_and_users_without_rows_have_no_bias() -> None:
    model = Bias(item_regularisation=0, user_regularisation=0).fit(small())
    assert model.item_bias[3] == 0
    assert model.score(torch.arange(3)).isfinite().all()


def test_user_item_and_global_means_are_settings_of_bias() -> None:
    train, users = small(), torch.arange(3)
    seen = train.binary.toarray()[:3] > 0
    stars = np.where(seen, train.stars.toarray()[:3], np.nan)
    item_means = np.array([(5 + 4 + 2) / 3, 3, 1, 3])  # an item without rows has the global mean
    expected = {"global": np.full((3, 4), 3), "user": np.tile(np.nanmean(stars, axis=1), (4, 1)).T}
    expected["item"] = np.tile(item_means, (3, 1))
    n_parameters = {"global": 1, "user": 1 + 4, "item": 1 + 4}
    for name, settings in MEANS.items():
        model = Bias(**settings).fit(train)
        np.testing.assert_allclose(model.score(users), expected[name], atol=1e-6)
        assert model.n_parameters == n_parameters[name]
