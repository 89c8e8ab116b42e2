"""Autoencoders of what users have seen: Mult-VAE, Mult-DAE, plain autoencoder (Liang, Krishnan, Hoffman & Jebara 2018).

    scores = g(z),    z = f(dropout(x / |x|)) for Mult-DAE,    z ~ N(μ, σ²) with [μ ; log σ²] = f(dropout(x / |x|)) for Mult-VAE
    loss = - log p(x | scores)  [+ β KL(N(μ, σ²) ‖ N(0, 1)) for Mult-VAE: eq. 7]

x is a user's row of ones, log p one of three likelihoods (eqs. 2, 3 and 4, see `losses`); f and g are MLPs with tanh that
mirror each other. A user is ranked with z = μ and without dropout, so that any history can be folded in.

The paper's sizes and rates: one hidden layer of 600, 200 latent dimensions, dropout .5, batches of 500, Adam at .001; β grows by
1 / 200,000 a step up to .2; Mult-DAE has an L2 penalty of .01 / 500, whose gradient is Adam's `weight_decay` of 4e-5.
Differs from the paper: biases start at 0, and Mult-DAE's penalty includes them. On the paper's ML-20M split NDCG@100 is .426
(Mult-VAE) and .419 (Mult-DAE).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from recsys_core.interactions import Interactions
from recsys_core.losses import LIKELIHOODS, gaussian_divergence
from recsys_core.models.layers import MLP
from recsys_core.models.neural import NeuralRecommender
from recsys_core.models.registry import recommender, searched_as
from recsys_core.models.settings import between, setting
from recsys_core.models.traits import Traits
from recsys_core.sampling import Batches, Vectors

WEIGHTS = between(1.0, 30.0, log=True)  # of an observed 1, for the likelihoods that have such a weight
WIDE_WEIGHTS = {"positive_weight": between(0.3, 30.0, log=True)}
HIDDEN = [[100], [200], [400], [600]]  # tanh between two learnt maps


class SeenNet(nn.Module):
    """(B, I) rows of ones give (B, I) scores, over layers that end in D latent numbers.

    A code holds `n_parts` vectors of D numbers: z alone, or μ and log σ².
    """

    def __init__(self, n_items: int, layers: tuple[int, ...], n_parts: int, dropout: float) -> None:
        super().__init__()
        self.encoder = MLP(n_items, (*layers[:-1], layers[-1] * n_parts), activation=nn.Tanh)
        self.decoder = MLP(layers[-1], (*layers[-2::-1], n_items), activation=nn.Tanh)
        self.dropout = dropout
        self.n_parts = n_parts
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))  # trained so far, for annealing
        for weights in self.parameters():
            nn.init.xavier_uniform_(weights) if weights.dim() > 1 else nn.init.zeros_(weights)

    def encode(self, seen: Tensor) -> tuple[Tensor, ...]:
        """Return the (B, D) parts of the code."""
        inputs = nn.functional.normalize(seen)
        if self.training and self.dropout:  # dropout, in half the time of torch's own on a processor
            inputs *= (torch.rand_like(seen) >= self.dropout) / (1 - self.dropout)
        return self.encoder(inputs).chunk(self.n_parts, dim=1)

    def forward(self, seen: Tensor) -> Tensor:
        """Return (B, I) scores, of Mult-VAE those at the mean of z."""
        return self.decoder(self.encode(seen)[0])


@searched_as("plain_autoencoder", title="Autoencoder", dropout=0.0)
@searched_as("mult_dae_hidden", title="Mult-DAE, hidden layer", wide={"hidden_layers": HIDDEN}, is_narrow=False)
@recommender("mult_dae", title="Mult-DAE", family="autoencoder")
@dataclass(kw_only=True)
class MultDAE(NeuralRecommender):
    """Mult-DAE; with `dropout=0` a plain autoencoder. An observed 1 counts `positive_weight` times (c₁ of eq. 3, where c₀ = 1)."""

    traits: ClassVar[Traits] = Traits(form="non-linear", stochastic=True, folds_in=True)
    n_parts: ClassVar[int] = 1

    epochs: int = setting(100, fast=30)
    patience: int | None = setting(None, search=5)
    hidden_layers: tuple[int, ...] = setting(
        (600,), least=1, search=[[], [100], [200]], wide=[[], *HIDDEN], fast=(20,), other=(10, 10)
    )
    latent_dim: int = setting(200, least=1, search=[32, 64, 128], wide=[32, 64, 128, 200, 256], fast=10, other=5)
    dropout: float = setting(0.5, least=0, below=1, search=between(0.1, 0.8), wide=between(0.1, 0.9), other=0.2)
    learning_rate: float = setting(
        1e-3, search=between(0.001, 0.02, log=True), wide=between(0.0003, 0.05, log=True), fast=0.01
    )
    batch_size: int = setting(500, search=[100, 200, 500], wide=[50, 100, 200, 500], fast=10)
    weight_decay: float = setting(4e-5, search=between(1e-6, 1e-3, log=True), wide=between(1e-6, 1e-2, log=True))
    likelihood: str = setting("multinomial", among=LIKELIHOODS, other="logistic")
    positive_weight: float = setting(1.0, least=0, other=2.0)

    @property
    def own_traits(self) -> Traits:
        """Linear without hidden layers."""
        return replace(self.traits, form="non-linear" if self.hidden_layers else "linear")

    def _build(self, train: Interactions) -> nn.Module:
        return SeenNet(train.n_items, (*self.hidden_layers, self.latent_dim), self.n_parts, self.dropout)

    def _batches(self, train: Interactions, device: torch.device) -> Batches:
        return Vectors(train.binary, self.batch_size, device)

    def _loss(self, module: nn.Module, *batch: Tensor) -> Tensor:
        return -LIKELIHOODS[self.likelihood](module(*batch), batch[0], self.positive_weight).mean()

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return self.module_(torch.as_tensor(history.binary[users.cpu().numpy()].toarray(), device=self.device_))


@searched_as(
    "mult_vae_logistic", title="Mult-VAE (logistic)", likelihood="logistic", positive_weight=WEIGHTS, wide=WIDE_WEIGHTS
)
@searched_as(
    "mult_vae_gaussian", title="Mult-VAE (Gaussian)", likelihood="gaussian", positive_weight=WEIGHTS, wide=WIDE_WEIGHTS
)
@searched_as(
    "mult_vae_gaussian_hidden",
    title="Mult-VAE (Gaussian), hidden layer",
    likelihood="gaussian",
    positive_weight=WEIGHTS,
    wide=WIDE_WEIGHTS | {"hidden_layers": HIDDEN},
    is_narrow=False,
)
@searched_as(
    "mult_vae_gaussian_linear",
    title="Mult-VAE (Gaussian), no hidden layer",
    likelihood="gaussian",
    positive_weight=WEIGHTS,
    wide=WIDE_WEIGHTS | {"hidden_layers": ()},
    is_narrow=False,
)
@searched_as("mult_vae_hidden", title="Mult-VAE, hidden layer", wide={"hidden_layers": HIDDEN}, is_narrow=False)
@recommender("mult_vae", title="Mult-VAE", family="autoencoder")
@dataclass(kw_only=True)
class MultVAE(MultDAE):
    """Mult-VAE; the weight of the divergence grows linearly to `beta` over the first `n_annealing_steps` batches."""

    n_parts: ClassVar[int] = 2

    epochs: int = setting(200)
    weight_decay: float = setting(0.0, search=None, wide=None)
    beta: float = setting(
        0.2, least=0, search=between(0.01, 1.0, log=True), wide=between(0.001, 3.0, log=True), other=0.5
    )
    n_annealing_steps: int = setting(
        40_000, least=1, search=between(10, 1000, log=True), wide=between(10, 10_000, log=True), other=5
    )

    def _loss(self, module: Any, *batch: Tensor) -> Tensor:
        mean, log_variance = module.encode(*batch)
        module.steps += 1
        beta = self.beta * (module.steps / self.n_annealing_steps).clamp(max=1)
        scores = module.decoder(mean + torch.randn_like(mean) * (log_variance / 2).exp())
        log_likelihood = LIKELIHOODS[self.likelihood](scores, batch[0], self.positive_weight)
        return (beta * gaussian_divergence(mean, log_variance) - log_likelihood).mean()
