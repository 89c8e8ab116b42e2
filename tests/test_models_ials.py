"""iALS equals a dense reference, minimises its objective, and is approached by conjugate gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from boards import rows_of

from recsys_core import budget
from recsys_core.interactions import Interactions
from recsys_core.models import ials, sparse
from recsys_core.models.ials import IALS

N_USERS, N_ITEMS = 30, 16
UNSEEN_ITEM = N_ITEMS - 1


def random_rows(seed: int = 0, n_users: int = N_USERS) -> Interactions:
    """Random rows; nobody has seen the last item, and everybody has seen another number of items."""
    users, items = (np.random.default_rng(seed).random((n_users, N_ITEMS - 1)) < 0.4).nonzero()
    return rows_of(users, items, np.ones(len(users)), n_users, N_ITEMS)


def dense(rows: Interactions) -> np.ndarray:
    return np.asarray(rows.binary.toarray(), np.float64)


def dense_vectors(model: IALS, seen: np.ndarray, facing: np.ndarray) -> np.ndarray:
    """The solutions of iALS, user by user, as written in its docstring."""
    alpha, solutions = model.unobserved_weight, []
    for row in seen:
        mine = facing[row > 0]
        ridge = model.regularisation * (len(mine) + alpha * len(facing)) ** model.regularisation_exponent
        gram = mine.T @ mine + alpha * facing.T @ facing + ridge * np.eye(facing.shape[1])
        solutions.append(np.linalg.solve(gram, mine.sum(axis=0)))
    return np.array(solutions)


@pytest.mark.parametrize("exponent", [1.0, 0.5])
@pytest.mark.parametrize("at_once", [budget.CACHED_CELLS, 50])
def test_ials_equals_a_dense_reference_in_training_and_fold_in(
    exponent: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "CACHED_CELLS", at_once)
    train = random_rows()
    model = IALS(embedding_dim=3, regularisation=0.02, regularisation_exponent=exponent, n_iterations=4, device="cpu")
    model.fit(train, seed=5)
    generator = torch.Generator().manual_seed(5)
    torch.randn(N_USERS, 3, generator=generator)
    items = 0.1 / 3**0.5 * torch.randn(N_ITEMS, 3, generator=generator).double().numpy()
    for _ in range(4):
        users = dense_vectors(model, dense(train), items)
        items = dense_vectors(model, dense(train).T, users)
    np.testing.assert_allclose(model.items, items, rtol=1e-3, atol=1e-4)
    new = random_rows(1, 5)
    expected = dense_vectors(model, dense(new), items) @ items.T
    np.testing.assert_allclose(model.score(torch.arange(5), new), expected, rtol=1e-3, atol=1e-4)
    assert (model.score(torch.arange(5), new)[:, UNSEEN_ITEM] == 0).all()


def test_ials_minimises_its_objective_over_the_users() -> None:
    train, model = random_rows(), IALS(embedding_dim=3, unobserved_weight=0.2, regularisation=0.05, device="cpu")
    items = torch.as_tensor(model.fit(train).items)
    seen, counts = torch.from_numpy(dense(train)).float(), torch.from_numpy(train.user_counts).float()
    users = model.user_vectors(torch.arange(N_USERS)).requires_grad_()
    scores = users @ items.T
    penalty = (counts + 0.2 * N_ITEMS) * users.square().sum(dim=1)
    loss = (seen * (1 - scores) ** 2).sum() + 0.2 * scores.square().sum() + 0.05 * penalty.sum()
    loss.backward()
    assert users.grad is not None
    assert users.grad.abs().max() < 1e-4


def test_conjugate_gradients_reach_the_exact_solution_in_as_many_steps_as_there_are_factors() -> None:
    train = random_rows()
    exact, near, far = (
        IALS(embedding_dim=4, regularisation=0.05, n_conjugate_steps=steps, device="cpu").fit(train)
        for steps in (0, 4, 1)
    )
    torch.testing.assert_close(near.items, exact.items, rtol=1e-3, atol=1e-3)
    assert (near.items[UNSEEN_ITEM] == 0).all()
    assert (far.items - exact.items).abs().max() > 10 * (near.items - exact.items).abs().max()


def test_systems_solved_at_once_are_bounded_whatever_the_lengths_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def noted(*arguments: object) -> object:
        for rectangle in sparse.padded_rows(*arguments):  # type: ignore[arg-type]
            sizes.append(rectangle[1].shape)
            yield rectangle

    monkeypatch.setattr(budget, "CACHED_CELLS", 1000)
    monkeypatch.setattr(ials, "padded_rows", noted)
    IALS(embedding_dim=8, n_iterations=1, device="cpu").fit(random_rows())
    assert all(n_rows == 1 or n_rows * max(width, 8) * 8 <= 1000 for n_rows, width in sizes)
    assert any(n_rows > 1 for n_rows, _ in sizes)
