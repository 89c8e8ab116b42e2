"""EASE equals the paper's formula, written with dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from boards import rows_of
from scipy import optimize

from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions
from recsys_core.models import MODELS
from recsys_core.models.linear import EASE, inverse_by_users, regularised_inverse


def random_rows() -> Interactions:
    dense = np.random.default_rng(0).random((30, 12)) < 0.3
    dense[np.arange(30), np.arange(30) % 12] = True  # nobody is without rows
    users, items = dense.nonzero()
    return rows_of(users, items, np.ones(len(users)), 30, 12)


def dense_weights(interactions: np.ndarray, regularisation: float) -> np.ndarray:
    """Steck 2019, equations 7 and 8."""
    inverse = np.linalg.inv(interactions.T @ interactions + regularisation * np.eye(interactions.shape[1]))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def test_ease_equals_the_dense_inverse() -> None:
    train = random_rows()
    dense = train.binary.toarray().astype(np.float64)
    for regularisation in (0.5, 20.0):
        model = EASE(regularisation=regularisation).fit(train)
        expected = dense_weights(dense, regularisation)
        np.testing.assert_allclose(model.weights, expected, atol=1e-6)
        np.testing.assert_allclose(model.score(torch.arange(30)), dense @ expected, atol=1e-5)
        assert model.n_parameters == 12 * 12


def test_ease_is_ridge_regression_of_each_item_on_all_others() -> None:
    """The closed form solves the problem that the paper states (equation 2), found here column by column."""
    train = random_rows()
    dense, model = train.binary.toarray().astype(np.float64), EASE(regularisation=3.0).fit(train)
    for item in (0, 5):
        others = np.delete(dense, item, axis=1)
        stacked = np.vstack([others, np.sqrt(3.0) * np.eye(11)])
        solution = optimize.lsq_linear(stacked, np.r_[dense[:, item], np.zeros(11)]).x
        np.testing.assert_allclose(np.delete(model.weights[:, item], item), solution, atol=1e-6)


@pytest.mark.parametrize("ridge", [0.5, 200.0, np.linspace(0.1, 40.0, 12)])
def test_the_inverse_is_the_same_from_a_table_of_users(ridge: float | np.ndarray) -> None:
    many = random_rows().binary
    few = many[:5]
    for interactions, way in ((many, inverse_by_users), (few, inverse_by_users), (few, regularised_inverse)):
        dense = interactions.toarray().astype(np.float64)
        expected = np.linalg.inv(dense.T @ dense + ridge * np.eye(12))
        np.testing.assert_allclose(way(interactions, ridge), expected, rtol=1e-10, atol=1e-13)


def test_ease_does_not_read_the_ratings_nor_repeated_rows() -> None:
    train = random_rows()
    rated = rows_of(train.users, train.items, np.arange(len(train)) % 5 + 1, 30, 12)
    users = torch.arange(30)
    assert torch.equal(EASE().fit(rated).score(users), EASE().fit(train).score(users))


@pytest.mark.parametrize("name", ["ease", "dlae", "slim"])
def test_more_items_than_memory_has_room_for_are_refused_before_anything_is_computed(name: str) -> None:
    many = rows_of(np.zeros(2, np.int64), np.array([0, 9_999_999]), np.ones(2), 1, 10_000_000)
    with pytest.raises(
        StudyError, match=r"10,000,000 items have 100,000,000,000,000 pairs, .* takes 3,725,290.3 GiB .*iALS"
    ):
        MODELS[name]().fit(many)
