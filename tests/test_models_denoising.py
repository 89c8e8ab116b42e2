"""The closed forms are the least of what they are said to minimise, found by descent, and of errors under all possible dropouts."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from boards import rows_of

from recsys_core.interactions import Interactions
from recsys_core.models.denoising import DLAE, EDLAE, RDLAE, DenoisingAutoencoder
from recsys_core.models.linear import EASE

N_ITEMS = 10
CASES = [(0.5, 0.5), (3.0, 0.2), (0.1, 0.0)]  # regularisation and dropout
BOUNDS = {DLAE: np.inf, EDLAE: 0.0, RDLAE: 0.35}


def random_rows(n_users: int = 30, n_items: int = N_ITEMS) -> Interactions:
    """Random rows; items differ in popularity, and nobody has seen the last one."""
    liked = np.append(np.linspace(0.2, 0.8, n_items - 1), 0)
    users, items = (np.random.default_rng(0).random((n_users, n_items)) < liked).nonzero()
    return rows_of(users, items, np.ones(len(users)), n_users, n_items)


def cells(train: Interactions) -> np.ndarray:
    return train.binary.toarray().astype(np.float64)


def by_descent(seen: np.ndarray, regularisation: float, dropout: float, bound: float) -> np.ndarray:
    """The least of ‖X - X B‖² + ‖Λ^½ B‖² where no number on the diagonal of B is above a bound, by projected gradients."""
    x = torch.from_numpy(seen)
    ridge = regularisation + dropout / (1 - dropout) * x.square().sum(dim=0)
    step = 0.5 / (torch.linalg.matrix_norm(x, 2) ** 2 + ridge.max())
    weights = torch.zeros(x.shape[1], x.shape[1], dtype=torch.float64, requires_grad=True)
    for _ in range(3000):
        error = (x - x @ weights).square().sum() + (ridge[:, None] * weights.square()).sum()
        (slope,) = torch.autograd.grad(error, weights)
        with torch.no_grad():
            weights -= step * slope
            weights.diagonal().clamp_(max=bound)
    return weights.detach().numpy()


@pytest.mark.parametrize("kind", BOUNDS)
@pytest.mark.parametrize(("regularisation", "dropout"), CASES)
def test_the_closed_form_is_where_descent_ends(
    kind: type[DenoisingAutoencoder], regularisation: float, dropout: float
) -> None:
    train = random_rows()
    settings = {"largest_self_weight": BOUNDS[RDLAE]} if kind is RDLAE else {}
    model = kind(regularisation=regularisation, dropout=dropout, **settings).fit(train)
    expected = by_descent(cells(train), regularisation, dropout, BOUNDS[kind])
    np.testing.assert_allclose(model.weights, expected, atol=1e-5)
    np.testing.assert_allclose(model.score(torch.arange(30)), cells(train) @ expected, atol=1e-4)


@pytest.mark.parametrize(("regularisation", "dropout"), CASES)
def test_the_bound_of_the_relaxed_model_holds_some_items_and_not_all(regularisation: float, dropout: float) -> None:
    diagonal = RDLAE(regularisation=regularisation, dropout=dropout, largest_self_weight=0.35).fit(random_rows())
    free = DLAE(regularisation=regularisation, dropout=dropout).fit(random_rows()).weights.diagonal()
    held = np.isclose(diagonal.weights.diagonal(), 0.35)
    assert diagonal.weights.diagonal().max() <= 0.35 + 1e-6
    assert held.sum() == (free > 0.35).sum() >= 1 and not held.all()


def under_dropout(
    seen: np.ndarray, regularisation: float, dropout: float, emphasised: bool
) -> tuple[np.ndarray, np.ndarray]:
    """For each item j the sums over users and all patterns of dropout, by their probability, of x̃ᵀx̃ (I, I, I) and x̃ᵀx_j (I, I).

    If `emphasised`, over those patterns alone in which j is dropped. The ridge counts as often as the error does.
    """
    n_items = seen.shape[1]
    inputs, targets = np.zeros((n_items, n_items, n_items)), np.zeros((n_items, n_items))
    for kept in product([0, 1], repeat=n_items):
        chance = np.prod(np.where(kept, 1 - dropout, dropout))
        noisy = seen * kept / (1 - dropout)
        for item in range(n_items):
            if not (emphasised and kept[item]):
                inputs[item] += chance * (noisy.T @ noisy + regularisation * np.eye(n_items))
                targets[item] += chance * noisy.T @ seen[:, item]
    return inputs, targets


@pytest.mark.parametrize("kind", [DLAE, EDLAE])
@pytest.mark.parametrize(("regularisation", "dropout"), [(0.5, 0.5), (3.0, 0.2)])
def test_the_closed_form_is_the_least_expected_error_over_all_patterns_of_dropout(
    kind: type[DenoisingAutoencoder], regularisation: float, dropout: float
) -> None:
    train = random_rows(8, 5)
    inputs, targets = under_dropout(cells(train), regularisation, dropout, emphasised=kind is EDLAE)
    expected = np.column_stack([np.linalg.solve(inputs[item], targets[item]) for item in range(5)])
    model = kind(regularisation=regularisation, dropout=dropout).fit(train)
    np.testing.assert_allclose(model.weights, expected, atol=1e-6)


def test_the_relaxed_model_lies_between_the_other_two_and_ease_is_the_emphasised_one_without_dropout() -> None:
    train, settings = random_rows(), {"regularisation": 2.0, "dropout": 0.3}
    ends = {bound: RDLAE(largest_self_weight=bound, **settings).fit(train).weights for bound in (0.0, 1.0)}
    np.testing.assert_array_equal(ends[0.0], EDLAE(**settings).fit(train).weights)
    np.testing.assert_array_equal(ends[1.0], DLAE(**settings).fit(train).weights)
    assert np.abs(ends[0.0] - ends[1.0]).max() > 0.05
    emphasised = EDLAE(regularisation=2.0, dropout=0.0).fit(train).weights
    np.testing.assert_allclose(emphasised, EASE(regularisation=2.0).fit(train).weights, atol=1e-6)
