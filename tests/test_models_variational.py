"""Mult-VAE and Mult-DAE compute what their paper says, anneal by training steps and rank without noise."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from boards import PLAYERS, board, build, fitted, rows_of
from torch import nn

from recsys_core.losses import gaussian_divergence
from recsys_core.models import MODELS
from recsys_core.models.variational import MultDAE, MultVAE, SeenNet

SEEN = torch.tensor([[1.0, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0]])


def net(n_parts: int, dropout: float = 0.0) -> SeenNet:
    torch.manual_seed(0)
    return SeenNet(6, (5, 4, 3), n_parts, dropout)


def weights(module: nn.Module) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weight and bias of each linear layer, in double precision."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    return [(layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()) for layer in layers]


def climb(inputs: np.ndarray, layers: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """An MLP with tanh between its layers, in numpy."""
    for weight, bias in layers[:-1]:
        inputs = np.tanh(inputs @ weight.T + bias)
    weight, bias = layers[-1]
    return inputs @ weight.T + bias


def dense_scores(module: SeenNet, seen: np.ndarray) -> np.ndarray:
    code = climb(seen / np.linalg.norm(seen, axis=1, keepdims=True), weights(module.encoder))
    return climb(code[:, : code.shape[1] // module.n_parts], weights(module.decoder))


@pytest.mark.parametrize("n_parts", [1, 2])
def test_scores_are_those_of_the_formula_at_the_mean_of_z(n_parts: int) -> None:
    module = net(n_parts, dropout=0.5).eval()
    np.testing.assert_allclose(module(SEEN).detach(), dense_scores(module, SEEN.numpy()), rtol=1e-5, atol=1e-6)


def test_the_encoder_and_the_decoder_mirror_each_other() -> None:
    shapes = [layer[0].shape for layer in weights(net(2))]
    assert shapes == [(5, 6), (4, 5), (6, 4), (4, 3), (5, 4), (6, 5)]  # a code of two vectors of 3


@pytest.mark.parametrize("name", ["mult_vae", "mult_dae"])
def test_any_history_is_folded_in(name: str) -> None:
    model: Any = fitted(name)
    history = rows_of(np.array([0, 0]), np.array([3, 9]), np.array([5, 2]), 1, 51)
    expected = dense_scores(model.module_, history.binary.toarray())
    np.testing.assert_allclose(model.score(torch.tensor([0]), history), expected, rtol=1e-4, atol=1e-4)


def test_dropout_in_training_keeps_the_expected_input() -> None:
    module, seen = net(1, dropout=0.25).train(), torch.ones(2000, 6)
    module.encoder = nn.Identity()  # type: ignore[assignment]
    torch.manual_seed(0)
    (dropped,) = module.encode(seen)
    ratios = (dropped / nn.functional.normalize(seen)).unique()
    torch.testing.assert_close(ratios, torch.tensor([0.0, 4 / 3]))
    assert (dropped > 0).float().mean().item() == pytest.approx(0.75, abs=0.02)
    torch.testing.assert_close(module.eval().encode(seen)[0], nn.functional.normalize(seen))


def test_the_loss_of_mult_dae_is_the_negative_log_likelihood() -> None:
    module, chosen = net(1), torch.distributions.Categorical(logits=net(1)(SEEN))
    expected = -torch.stack([chosen.log_prob(torch.tensor([item] * 2)) for item in range(6)], dim=1).mul(SEEN).sum() / 2
    torch.testing.assert_close(MultDAE()._loss(module, SEEN), expected)


def test_the_loss_of_mult_vae_is_the_bound_of_equation_7() -> None:
    module, model = net(2), MultVAE(beta=0.3, n_annealing_steps=1)
    mean, log_variance = module.encode(SEEN)
    latent = torch.distributions.Normal(mean, (log_variance / 2).exp())
    divergence = torch.distributions.kl_divergence(latent, torch.distributions.Normal(0.0, 1.0)).sum(dim=1)
    torch.manual_seed(5)
    scores = module.decoder(mean + torch.randn(mean.shape) * latent.scale)
    likelihood = (SEEN * torch.distributions.Categorical(logits=scores).logits).sum(dim=1)
    torch.manual_seed(5)
    torch.testing.assert_close(model._loss(module, SEEN), (0.3 * divergence - likelihood).mean())


def test_beta_grows_by_equal_steps_until_it_is_reached() -> None:
    module, model, seen = net(2).double(), MultVAE(beta=0.6, n_annealing_steps=3), SEEN.double()
    divergence = gaussian_divergence(*module.encode(seen)).mean().item()
    betas = []
    for _ in range(5):
        pair: list[float] = []
        for each, trained in ((model, module), (MultVAE(beta=0.0), deepcopy(module))):
            torch.manual_seed(5)
            pair.append(each._loss(trained, seen).item())
        betas.append((pair[0] - pair[1]) / divergence)
    assert betas == pytest.approx([0.2, 0.4, 0.6, 0.6, 0.6])


def test_the_steps_are_kept_with_the_weights() -> None:
    model: Any = fitted("mult_vae")
    assert int(model.module_.steps) == 30 * 5  # epochs, batches of 10 of the 50 players
    assert "steps" in model._state()
    assert model.n_parameters == sum(weight.size + bias.size for weight, bias in weights(model.module_))


def test_training_draws_latent_vectors_and_ranking_does_not() -> None:
    model: Any = fitted("mult_vae")
    module, seen = deepcopy(model.module_), torch.as_tensor(board(False).binary[:5].toarray())
    assert len({model._loss(module, seen).item() for _ in range(3)}) == 3
    assert torch.equal(model.score(PLAYERS), model.score(PLAYERS))


@pytest.mark.parametrize("likelihood", ["gaussian", "logistic"])
@pytest.mark.parametrize("name", ["mult_vae", "mult_dae"])
def test_every_likelihood_learns_the_checkerboard(name: str, likelihood: str) -> None:
    scores = build(name, likelihood=likelihood).fit(board(False)).score(PLAYERS).clone()
    scores[board(False).users, board(False).items] = -torch.inf
    assert (scores.argmax(dim=1) == PLAYERS).float().mean() >= 0.9


def test_both_are_registered_and_differ_in_the_latent_distribution_alone() -> None:
    assert MODELS["mult_vae"] is MultVAE and MODELS["mult_dae"] is MultDAE
    assert MultVAE().hyperparameters.keys() - MultDAE().hyperparameters.keys() == {"beta", "n_annealing_steps"}
