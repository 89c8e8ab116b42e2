"""RecVAE computes what its paper says, and moves its encoder and its decoder in turn."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from boards import PLAYERS, SIZE, board, build, fitted, rows_of
from scipy import sparse
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily, Normal

from recsys_core.models.recvae import Alternating, DenseEncoder, RecVAE, RecVAENet
from recsys_core.optimiser import Adam

SEEN = torch.tensor([[1.0, 0, 1, 0, 1, 0], [0, 1, 0, 0, 0, 0]])
INPUTS = SEEN / SEEN.sum(dim=1, keepdim=True).sqrt()
LATENT = torch.tensor([[0.3, -1.0, 4.0], [0.0, 150.0, -2.0]])
ENCODER, DECODER = torch.tensor(True), torch.tensor(False)


def net() -> RecVAENet:
    """A net of 6 items, 5 hidden units and 3 latent dimensions whose encoder has moved on from the prior's."""
    torch.manual_seed(0)
    module = RecVAENet(6, 5, 3)
    for parameter in module.encoder.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return module


def arrays(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().double().numpy() for name, value in module.state_dict().items()}


def dense_code(encoder: DenseEncoder, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and logarithm of the variance, in numpy, the five layers written out."""
    w = arrays(encoder)

    def layer(k: int, below: np.ndarray, *earlier: np.ndarray) -> np.ndarray:
        total = below @ w[f"layers.{k}.weight"].T + w[f"layers.{k}.bias"] + sum(earlier)
        swish = total / (1 + np.exp(-total))
        centred = swish - swish.mean(axis=1, keepdims=True)
        return (
            w[f"norms.{k}.weight"] * centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 0.1)
            + w[f"norms.{k}.bias"]
        )

    h1 = layer(0, inputs)
    h2 = layer(1, h1, h1)
    h3 = layer(2, h2, h1, h2)
    h4 = layer(3, h3, h1, h2, h3)
    h5 = layer(4, h4, h1, h2, h3, h4)
    code = h5 @ w["code.weight"].T + w["code.bias"]
    return code[:, : code.shape[1] // 2], code[:, code.shape[1] // 2 :]


def dense_scores(module: RecVAENet, seen: np.ndarray) -> np.ndarray:
    mean, _ = dense_code(module.encoder, seen / np.linalg.norm(seen, axis=1, keepdims=True))
    return mean @ arrays(module.decoder)["weight"].T + arrays(module.decoder)["bias"]


def posterior(encoder: DenseEncoder, inputs: Tensor) -> Normal:
    mean, log_variance = encoder(inputs)
    return Normal(mean, log_variance.exp().sqrt())


def composite(old: DenseEncoder, inputs: Tensor) -> MixtureSameFamily:
    """The prior of users with these inputs, from torch's own mixture."""
    with torch.no_grad():
        q = posterior(old, inputs)
    zero, one = torch.zeros_like(q.mean), torch.ones_like(q.mean)
    parts = Normal(torch.stack([zero, q.mean, zero], dim=2), torch.stack([one, q.stddev, one * np.exp(5.0)], dim=2))
    return MixtureSameFamily(Categorical(torch.tensor([3 / 20, 3 / 4, 1 / 10]).expand(*q.mean.shape, 3)), parts)


def plain_loss(module: RecVAENet, seen: Tensor, inputs: Tensor, gamma: float, prior: Distribution) -> Tensor:
    """The bound with the noise that torch draws next."""
    q = posterior(module.encoder, inputs)
    latent = q.mean + torch.randn(q.mean.shape) * q.stddev
    log_likelihood = (seen * Categorical(logits=module.decoder(latent)).logits).sum(dim=1)
    divergence = (q.log_prob(latent) - prior.log_prob(latent)).sum(dim=1)
    return (gamma * seen.sum(dim=1) * divergence - log_likelihood).mean()


def test_scores_are_those_of_the_formula_at_the_mean_of_z() -> None:
    module = net().eval()
    for found, expected in zip(module.encoder(INPUTS), dense_code(module.encoder, INPUTS.numpy())):
        np.testing.assert_allclose(found.detach(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(module(SEEN).detach(), dense_scores(module, SEEN.numpy()), rtol=1e-4, atol=1e-5)


def test_any_history_is_folded_in() -> None:
    model: Any = fitted("recvae")
    history = rows_of(np.array([0, 0]), np.array([3, 9]), np.array([5, 2]), 1, 51)
    expected = dense_scores(model.module_, history.binary.toarray())
    np.testing.assert_allclose(model.score(torch.tensor([0]), history), expected, rtol=1e-4, atol=1e-4)


def test_the_prior_is_a_mixture_of_three_normal_distributions() -> None:
    module = net()
    torch.testing.assert_close(module.log_prior(LATENT, SEEN), composite(module.old, INPUTS).log_prob(LATENT))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_the_loss_of_the_encoder_is_the_bound_whose_divergence_grows_with_the_items_seen(dropout: float) -> None:
    module, model = net(), RecVAE(gamma=0.7, dropout=dropout)
    torch.manual_seed(5)
    expected = plain_loss(module, SEEN, F.dropout(INPUTS, dropout), 0.7, composite(module.old, INPUTS))
    torch.manual_seed(5)
    torch.testing.assert_close(model._loss(module, SEEN, ENCODER), expected)


def test_the_loss_of_the_decoder_is_the_negative_log_likelihood_without_dropout() -> None:
    module = net()
    torch.manual_seed(5)
    expected = plain_loss(module, SEEN, INPUTS, 0.0, composite(module.old, INPUTS))
    torch.manual_seed(5)
    torch.testing.assert_close(RecVAE(dropout=0.9)._loss(module, SEEN, DECODER), expected)


@pytest.mark.parametrize(("turn", "moved"), [(ENCODER, "encoder"), (DECODER, "decoder")])
def test_a_step_moves_the_part_whose_turn_it_is_and_leaves_the_other_and_its_moments_alone(
    turn: Tensor, moved: str
) -> None:
    module, model = net(), RecVAE(gamma=0.7)
    optimiser = Adam(module.parameters(), 0.01, weight_decay=0.1)
    for each in (ENCODER, DECODER):  # so that both have moments that a step could change
        model._loss(module, SEEN, each).backward()
        optimiser.step()
    before, moments = deepcopy(module.state_dict()), deepcopy(optimiser.moments)
    model._loss(module, SEEN, turn).backward()
    optimiser.step()
    for name, value in module.state_dict().items():  # the prior's encoder was the encoder already
        assert torch.equal(value, before[name]) != name.startswith(moved), name
    for (name, _), old, new in zip(module.named_parameters(), moments, optimiser.moments):
        assert all(map(torch.equal, old, new)) != name.startswith(moved), name


def test_after_a_step_of_the_decoder_the_encoder_of_the_prior_is_the_encoder() -> None:
    module = net()
    RecVAE()._loss(module, SEEN, DECODER)
    ours, theirs = module.encoder.state_dict(), module.old.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not any(parameter.requires_grad for parameter in module.old.parameters())


def test_an_epoch_has_passes_for_the_encoder_and_then_one_for_the_decoder() -> None:
    matrix = sparse.csr_matrix(np.diag(np.arange(1, 8, dtype=np.float32)))
    found = list(Alternating(matrix, 3, torch.device("cpu"), 2).epoch(torch.Generator().manual_seed(0)))
    assert [bool(turn) for _, turn in found] == [True] * 6 + [False] * 3
    orders = [torch.cat([rows for rows, _ in found[start : start + 3]]).sum(dim=1).tolist() for start in (0, 3, 6)]
    assert len(set(map(tuple, orders))) == 3
    assert [sorted(order) for order in orders] == [[1, 2, 3, 4, 5, 6, 7]] * 3


def plain_training(model: RecVAE, n_epochs: int) -> RecVAENet:
    """The net after epochs of a loop written out, with an Adam of torch's own for each part and the full bound in every step."""
    seen = torch.as_tensor(board(False).binary.toarray())[:SIZE]
    torch.manual_seed(0)
    module, generator = RecVAENet(SIZE + 1, model.hidden_dim, model.latent_dim), torch.Generator().manual_seed(0)
    parts = (module.encoder, module.decoder)
    encoder, decoder = (torch.optim.Adam(part.parameters(), model.learning_rate) for part in parts)
    old = deepcopy(module.encoder)
    passes = [(encoder, model.dropout)] * model.n_encoder_epochs + [(decoder, 0.0)]
    for optimiser, dropout in passes * n_epochs:
        if optimiser is decoder:
            old = deepcopy(module.encoder)
        for users in torch.randperm(SIZE, generator=generator).split(model.batch_size):
            inputs = F.normalize(seen[users])
            noisy = F.dropout(inputs, dropout) if dropout else inputs
            module.zero_grad()
            plain_loss(module, seen[users], noisy, model.gamma, composite(old, inputs)).backward()
            optimiser.step()
    return module


def test_training_is_that_of_a_plain_loop_with_an_optimiser_for_each_part() -> None:
    model: Any = build("recvae", epochs=3, gamma=0.02, batch_size=20, n_encoder_epochs=2)
    with torch.random.fork_rng():
        plain = plain_training(model, 3)
    trained = model.fit(board(False)).module_
    for part in ("encoder", "decoder"):
        for (name, found), expected in zip(
            getattr(trained, part).named_parameters(), getattr(plain, part).parameters()
        ):
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4, msg=f"{part}.{name}")


def test_the_encoder_of_the_prior_is_kept_with_the_weights_and_not_counted() -> None:
    model: Any = fitted("recvae")
    assert {name.split(".")[0] for name in model._state()} == {"encoder", "old", "decoder"}
    parts = (model.module_.encoder, model.module_.decoder)
    assert model.n_parameters == sum(parameter.numel() for part in parts for parameter in part.parameters())


def test_training_draws_latent_vectors_and_ranking_does_not() -> None:
    model: Any = fitted("recvae")
    module, seen = deepcopy(model.module_), torch.as_tensor(board(False).binary[:5].toarray())
    for turn in (ENCODER, DECODER):
        assert len({model._loss(module, seen, turn).item() for _ in range(3)}) == 3
    assert torch.equal(model.score(PLAYERS), model.score(PLAYERS))
