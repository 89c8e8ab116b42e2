"""AutoRec computes what its paper's formulas say, on items and on users, and learns from observed ratings only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from boards import PLAYERS, board, fitted, rows_of
from scipy.special import expit

from recsys_core import budget
from recsys_core.interactions import Interactions
from recsys_core.models.autoencoders import AutoRecNet, ItemAutoRec, UserAutoRec
from recsys_core.sampling import Vectors


def reconstruction(module: AutoRecNet, vectors: np.ndarray) -> np.ndarray:
    """Equation 1 in numpy."""
    v, m, w, b = (p.detach().double().numpy() for p in (*module.encoder.parameters(), *module.decoder.parameters()))
    return expit(vectors @ v.T + m) @ w.T + b


def small() -> Interactions:
    return rows_of(np.array([0, 0, 1, 1, 2]), np.array([0, 1, 0, 2, 0]), np.array([5, 3, 4, 1, 2]), 4, 5)


def net(width: int, n_vectors: int = 3) -> AutoRecNet:
    torch.manual_seed(0)
    return AutoRecNet(n_vectors, width, 7, 6.0, 3.5)


def test_the_loss_of_all_vectors_is_the_objective_of_the_paper_per_vector() -> None:
    module, stars = net(5), small().stars.toarray()[:3]
    errors = np.where(stars > 0, reconstruction(module, stars) - stars, 0)
    weights = sum(float(layer.weight.detach().square().sum()) for layer in (module.encoder, module.decoder))
    objective = (errors**2).sum() + 6.0 / 2 * weights
    assert UserAutoRec._loss(module, torch.as_tensor(stars)).item() * 3 == pytest.approx(objective, rel=1e-5)


def test_outputs_that_were_not_observed_have_no_gradient_but_the_penalty() -> None:
    module = net(5)
    UserAutoRec._loss(module, torch.as_tensor(small().stars.toarray()[:3])).backward()
    assert module.decoder.bias.grad is not None and module.decoder.weight.grad is not None
    assert module.decoder.bias.grad[3:].tolist() == [0, 0]  # items without ratings
    torch.testing.assert_close(module.decoder.weight.grad[3:], 2 * module.penalty * module.decoder.weight[3:])


def test_outputs_start_at_the_mean_rating() -> None:
    model = UserAutoRec(hidden_dim=3, device="cpu")
    assert model._build(small()).decoder.bias.tolist() == [3] * 5  # type: ignore[union-attr,operator]


def test_batches_hold_every_vector_with_a_rating_once_in_another_order_each_epoch() -> None:
    batches, generator = Vectors(board(True).stars, 8, torch.device("cpu")), torch.Generator().manual_seed(0)
    first, second = (torch.cat([vectors for (vectors,) in batches.epoch(generator)]) for _ in range(2))
    assert not torch.equal(first, second)
    expected = board(True).stars.toarray()[:50]  # the last user has none
    for epoch in (first, second):
        np.testing.assert_array_equal(np.unique(epoch.numpy(), axis=0), np.unique(expected, axis=0))
        assert len(epoch) == 50


@pytest.mark.parametrize("chunk", [7, 10**6])
def test_i_autorec_reconstructs_items_in_chunks_of_any_size(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "CELLS", 51 * chunk)
    model = fitted("item_autorec")
    assert isinstance(model, ItemAutoRec)
    expected = reconstruction(model.module_, board(True).stars.toarray().T).T[:50]
    np.testing.assert_allclose(model.score(PLAYERS), expected, rtol=1e-4, atol=1e-4)


def test_hidden_units_are_those_of_every_item_or_of_every_user() -> None:
    for name, stars in (("item_autorec", board(True).stars.T), ("user_autorec", board(True).stars)):
        model = fitted(name)
        assert isinstance(model, ItemAutoRec | UserAutoRec)
        v, m = (parameter.detach().numpy() for parameter in model.module_.encoder.parameters())
        np.testing.assert_allclose(
            model.hidden_units(board(True)), expit(stars.toarray() @ v.T + m), rtol=1e-4, atol=1e-5
        )


def test_u_autorec_reconstructs_users_from_any_history() -> None:
    model = fitted("user_autorec")
    assert isinstance(model, UserAutoRec)
    history = rows_of(np.array([0, 0]), np.array([3, 9]), np.array([5, 2]), 1, 51)
    expected = reconstruction(model.module_, history.stars.toarray())
    np.testing.assert_allclose(model.score(torch.tensor([0]), history), expected, rtol=1e-4, atol=1e-4)
