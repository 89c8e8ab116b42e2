"""ALS solves its least squares exactly, as a dense implementation with loops does."""

from __future__ import annotations

import numpy as np
import torch
from boards import PLAYERS, SIZE, fitted, rows_of

from recsys_core.interactions import Interactions
from recsys_core.models.als import ALS


def random_rows(n_users: int = 15, n_items: int = 9, share: float = 0.5) -> Interactions:
    generator = np.random.default_rng(0)
    users, items = (generator.random((n_users, n_items)) < share).nonzero()
    return rows_of(users, items, generator.integers(1, 6, len(users)), n_users, n_items)


def dense_als(model: ALS, train: Interactions, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Zhou et al.'s algorithm with loops and a dense matrix; returns what is added to the biases' estimate and the item factors."""
    residuals, mask = model.bias_.residuals(train).toarray().astype(np.float64), train.binary.toarray() > 0
    items = torch.randn(train.n_items, model.embedding_dim, generator=generator).numpy() / model.embedding_dim**0.5

    def solve(factors: np.ndarray, values: np.ndarray, known: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(values), model.embedding_dim))
        for row, (value, present) in enumerate(zip(values, known)):
            mine, n = factors[present], present.sum()
            if n:
                ridge = model.regularisation * n * np.eye(model.embedding_dim)
                rows[row] = np.linalg.inv(mine.T @ mine + ridge) @ mine.T @ value[present]
        return rows

    for _ in range(model.n_iterations):
        items = solve(solve(items, residuals, mask), residuals.T, mask.T)
    return solve(items, residuals, mask) @ items.T, items


def test_als_equals_a_dense_implementation_with_loops() -> None:
    train = random_rows(30, 20, 0.3)
    model = ALS(embedding_dim=3, n_iterations=4, device="cpu").fit(train, seed=7)
    corrections, items = dense_als(model, train, torch.Generator().manual_seed(7))
    np.testing.assert_allclose(model.items, items, atol=1e-4)
    users = torch.from_numpy(np.flatnonzero(train.user_counts))
    expected = model.bias_.score(users).numpy() + corrections[users]
    np.testing.assert_allclose(model.score(users), expected, atol=1e-4)


def test_als_gives_an_item_without_ratings_the_estimate_of_the_biases() -> None:
    model, unseen = fitted("als"), torch.tensor([SIZE])
    assert model.predict(PLAYERS[:1], unseen) == model.bias_.predict(PLAYERS[:1], unseen)  # type: ignore[attr-defined]


def test_als_lowers_its_objective_with_every_iteration() -> None:
    train, objectives = random_rows(40, 30), []
    for n_iterations in (1, 2, 4, 8):
        model = ALS(embedding_dim=5, n_iterations=n_iterations, device="cpu").fit(train)
        residuals = model.bias_.residuals(train)
        users = model.user_vectors(torch.arange(train.n_users))
        error = residuals.toarray() - (users @ model.items.T).numpy()
        penalty = (
            train.user_counts @ users.square().sum(1).numpy() + train.item_counts @ model.items.square().sum(1).numpy()
        )
        objectives.append((error[train.binary.toarray() > 0] ** 2).sum() + model.regularisation * penalty)
    assert objectives == sorted(objectives, reverse=True)
