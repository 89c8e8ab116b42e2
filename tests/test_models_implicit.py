"""Ranking models on what was seen equal dense references: implicit neighbours, iALS, and the losses of the factorisations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from boards import rows_of

from recsys_core import losses
from recsys_core.interactions import Interactions
from recsys_core.models import BPRMF, IALS, ImplicitItemKNN, ImplicitUserKNN, LogLossMF, centred, implicit_neighbours
from recsys_core.models import implicit_factorization as factorization
from recsys_core.models.implicit_neighbours import ImplicitNeighbours
from recsys_core.sampling import PositivesAndNegatives

N_USERS, N_ITEMS = 30, 16
UNSEEN_ITEM = N_ITEMS - 1


def random_rows(seed: int = 0, n_users: int = N_USERS) -> Interactions:
    """Random rows; nobody has seen the last item, and everybody has seen another number of items."""
    users, items = (np.random.default_rng(seed).random((n_users, N_ITEMS - 1)) < 0.4).nonzero()
    return rows_of(users, items, np.ones(len(users)), n_users, N_ITEMS)


def dense(rows: Interactions) -> np.ndarray:
    return np.asarray(rows.binary.toarray(), np.float64)


def nearest(left: np.ndarray, right: np.ndarray, k: int, shrinkage: float, themselves: bool) -> np.ndarray:
    """Shrunk cosines of binary rows, of which each row keeps the k largest and what equals the smallest of these."""
    similarity = np.zeros((len(left), len(right)))
    for a, one in enumerate(left):
        for b, other in enumerate(right):
            if one.any() and other.any() and not (themselves and a == b):
                similarity[a, b] = (one @ other) / (np.linalg.norm(one) * np.linalg.norm(other) + shrinkage)
        kept = similarity[a] >= sorted(similarity[a])[-k] - 1e-12
        similarity[a] = np.where(kept, similarity[a], 0)
    return similarity


@pytest.mark.parametrize("kind", [ImplicitItemKNN, ImplicitUserKNN])
@pytest.mark.parametrize("settings", [(5, 0.0), (5, 3.0), (100, 3.0)])
@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("block_cells", [implicit_neighbours.BLOCK_CELLS, 40])
def test_scores_of_implicit_neighbours_equal_a_dense_reference(
    kind: type[ImplicitNeighbours],
    settings: tuple[int, float],
    new: bool,
    block_cells: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(implicit_neighbours, "BLOCK_CELLS", block_cells)
    k, shrinkage = settings
    train = random_rows()
    history = random_rows(1, 7) if new else train
    seen, theirs = dense(train), dense(history)
    if kind is ImplicitItemKNN:
        expected = theirs @ nearest(seen.T, seen.T, min(k, N_ITEMS), shrinkage, themselves=True).T
    else:
        expected = nearest(theirs, seen, min(k, N_USERS), shrinkage, themselves=False) @ seen
    model = kind(n_neighbours=k, shrinkage=shrinkage).fit(train)
    scores = model.score(torch.arange(len(theirs)), history if new else None)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
    assert (scores[:, UNSEEN_ITEM] == 0).all()


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
@pytest.mark.parametrize("at_once", [factorization.AT_ONCE, 50])
def test_ials_equals_a_dense_reference_in_training_and_fold_in(
    exponent: float, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factorization, "AT_ONCE", at_once)
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
    users = model._solve(train.binary, np.arange(N_USERS), items).requires_grad_()
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
        for rectangle in centred.padded_rows(*arguments):  # type: ignore[arg-type]
            sizes.append(rectangle[1].shape)
            yield rectangle

    monkeypatch.setattr(factorization, "AT_ONCE", 1000)
    monkeypatch.setattr(factorization, "padded_rows", noted)
    IALS(embedding_dim=8, n_iterations=1, device="cpu").fit(random_rows())
    assert all(n_rows == 1 or n_rows * max(width, 8) * 8 <= 1000 for n_rows, width in sizes)
    assert any(n_rows > 1 for n_rows, _ in sizes)


def test_the_pairwise_loss_is_the_mean_over_pairs_written_out() -> None:
    scores = torch.tensor([[1.0, -2.0], [0.5, 0.0], [3.0, 0.0]])
    leads = [1.0 - 0.5, -2.0 - 0.0, 1.0 - 3.0, -2.0 - 0.0]
    expected = np.mean([-np.log(1 / (1 + np.exp(-lead))) for lead in leads])
    assert float(losses.bayesian_personalised_ranking(scores)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", [BPRMF, LogLossMF])
def test_the_loss_is_that_of_the_scores_with_the_squares_of_what_gives_them(kind: type[LogLossMF]) -> None:
    model = kind(epochs=1, embedding_dim=3, regularisation=0.3, device="cpu").fit(random_rows())
    users, items = torch.tensor([3, 8]), torch.tensor([[1, 2], [0, 9], [4, 4]])
    tables = {name: table.detach() for name, table in model.module_.named_parameters()}
    mine, theirs = tables["users.weight"][users, :-1], tables["items.weight"][items]
    scores = torch.tensor([[float(mine[p] @ theirs[m, p, :-1] + theirs[m, p, -1]) for p in range(2)] for m in range(3)])
    squares = mine.square().sum(dim=1).mean() + theirs.square().sum(dim=2).mean()
    plain = losses.binary_cross_entropy if kind is LogLossMF else losses.bayesian_personalised_ranking
    loss = model._loss(model.module_, users, items)
    constant = 0.3  # the gradient of the 1 that meets the bias is 0
    assert float(loss.detach()) == pytest.approx(float(plain(scores) + 0.3 * squares) + constant, rel=1e-5)
    lead = model.score(users)[:, 0] - model.score(users)[:, 9]
    expected = mine @ (tables["items.weight"][0, :-1] - tables["items.weight"][9, :-1])
    expected += tables["items.weight"][0, -1] - tables["items.weight"][9, -1]
    torch.testing.assert_close(lead, expected, rtol=1e-4, atol=1e-5)


def test_without_regularisation_weights_shrink_less() -> None:
    free, held = (
        LogLossMF(epochs=5, embedding_dim=4, learning_rate=0.05, regularisation=weight, device="cpu").fit(random_rows())
        for weight in (0.0, 0.5)
    )
    assert held.module_.items.weight.norm() < free.module_.items.weight.norm()


def test_negatives_of_an_item_nobody_has_seen_lower_its_score() -> None:
    train = random_rows()
    model = LogLossMF(epochs=20, batch_size=128, embedding_dim=4, learning_rate=0.05, device="cpu").fit(train)
    scores = model.score(torch.arange(N_USERS)).mean(dim=0)
    assert scores[UNSEEN_ITEM] == scores.min()
    drawn = PositivesAndNegatives(train, 4096, 8, torch.device("cpu")).draw(torch.Generator().manual_seed(0))
    assert (drawn == UNSEEN_ITEM).any()
