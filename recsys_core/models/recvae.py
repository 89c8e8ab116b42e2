"""RecVAE: Mult-VAE with another encoder, prior, weight of the divergence and order of updates (Shenbin et al. 2020, section 3).

    z ~ q(z | x) = N(μ, σ²) with [μ ; log σ²] = f(dropout(x / |x|)),      scores = W z + b
    loss = γ n Σ_d (log q(z_d | x) - log p(z_d | x)) - log p(x | scores)
    p(z_d | x) = 3/20 N(0, 1) + 3/4 q_old(z_d | x) + 1/10 N(0, e¹⁰)

x is a user's row of ones, n their number, log p(x | scores) multinomial; f is an MLP whose every layer adds what all layers before
it gave. An epoch first moves f alone, in `n_encoder_epochs` passes over the users with dropout; then q_old, the encoder of the
prior, becomes what f is; then W and b alone are moved, in one pass without dropout. A user is ranked with z = μ and no dropout, so
that any history can be folded in.

The paper's sizes and rates: five hidden layers of 600, 200 latent dimensions, dropout .5, batches of 500, Adam at .0005, three
passes for the encoder, γ = .005 on ML-20M. There, on the split of Liang et al. 2018, it has NDCG@100 .442 and recall@20 .414.
As in the authors' code, the prior mixes the densities of each latent dimension, where the paper mixes those of whole vectors.
Differs from that code: the first q_old is the untrained f itself instead of another one, and the epoch is chosen on validation.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn

from recsys_core.interactions import Interactions
from recsys_core.losses import multinomial
from recsys_core.models.neural import NeuralRecommender
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting
from recsys_core.models.traits import Traits
from recsys_core.sampling import Batches, Vectors

N_LAYERS = 5  # of the encoder
NORM_EPSILON = 0.1  # that the authors' layer norm adds to a variance
STANDARD, OLD, WIDE = 3 / 20, 3 / 4, 1 / 10  # weights of the three parts of the prior
WIDE_LOG_VARIANCE = 10.0


def log_normal(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the log density of N(mean, variance) at each number of x, all of one shape."""
    return -(log_variance + math.log(2 * math.pi) + (x - mean).square() * (-log_variance).exp()) / 2


class DenseEncoder(nn.Module):
    """(B, I) inputs give (B, D) means and (B, D) logarithms of variances, over layers h_k of H units.

    h_k = norm(swish(V_k h_{k-1} + c_k + h_1 + … + h_{k-1})), where h_0 are the inputs.
    """

    def __init__(self, n_items: int, hidden_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(hidden_dim if k else n_items, hidden_dim) for k in range(N_LAYERS))
        self.norms = nn.ModuleList(nn.LayerNorm(hidden_dim, eps=NORM_EPSILON) for _ in range(N_LAYERS))
        self.code = nn.Linear(hidden_dim, 2 * latent_dim)

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the (B, D) means and the (B, D) logarithms of variances."""
        hidden, before = inputs, inputs.new_zeros(())
        for layer, norm in zip(self.layers, self.norms):
            hidden = norm(F.silu(layer(hidden) + before))  # (B, H)
            before = before + hidden
        return self.code(hidden).chunk(2, dim=1)


class RecVAENet(nn.Module):
    """(B, I) rows of ones give (B, I) scores; the prior's encoder, which no gradient moves, is kept with the weights."""

    def __init__(self, n_items: int, hidden_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.encoder = DenseEncoder(n_items, hidden_dim, latent_dim)
        self.old = deepcopy(self.encoder).requires_grad_(False)
        self.decoder = nn.Linear(latent_dim, n_items)

    def forward(self, seen: Tensor) -> Tensor:
        """Return (B, I) scores at the mean of z."""
        return self.decoder(self.encoder(F.normalize(seen))[0])

    def log_prior(self, latent: Tensor, seen: Tensor) -> Tensor:
        """Return the (B, D) log densities of z under the prior of the users with these rows."""
        zero = torch.zeros_like(latent)
        parts = [
            log_normal(latent, zero, zero) + math.log(STANDARD),
            log_normal(latent, *self.old(F.normalize(seen))) + math.log(OLD),
            log_normal(latent, zero, zero + WIDE_LOG_VARIANCE) + math.log(WIDE),
        ]
        return torch.stack(parts).logsumexp(dim=0)


class Alternating(Vectors):
    """Batches of several passes over the rows for the encoder and of one for the decoder, in each epoch.

    A batch is a (B, W) tensor of rows, and whether it is the encoder's turn: () bool, on the processor, where it is asked.
    """

    def __init__(self, matrix: sparse.csr_matrix, batch_size: int, device: torch.device, n_encoder_epochs: int) -> None:
        super().__init__(matrix, batch_size, device)
        self.n_encoder_epochs = n_encoder_epochs

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield every row once in each pass, in an order of its own."""
        for number in range(self.n_encoder_epochs + 1):
            for (rows,) in super().epoch(generator):
                yield rows, torch.tensor(number < self.n_encoder_epochs)


@recommender("recvae", title="RecVAE", family="autoencoder")
@dataclass(kw_only=True)
class RecVAE(NeuralRecommender):
    """RecVAE; the divergence of a user with n items weighs `gamma` n.

    What a step must not move has no gradient in it, and then Adam leaves it and its moments alone: that is all that alternating
    takes. The training loss of an epoch is the mean over the steps of both kinds, those of the decoder without the divergence.
    """

    traits: ClassVar[Traits] = Traits(form="non-linear", stochastic=True, folds_in=True)

    epochs: int = setting(50, search=100, fast=20)
    patience: int | None = setting(None, search=10)
    hidden_dim: int = setting(600, least=1, search=[100, 200, 400, 600], fast=20, other=10)
    latent_dim: int = setting(200, least=1, search=[32, 64, 128, 200, 256], fast=10, other=5)
    dropout: float = setting(0.5, least=0, below=1, search=between(0.1, 0.8), other=0.2)
    gamma: float = setting(0.005, least=0, search=between(0.0005, 0.1, log=True))
    n_encoder_epochs: int = setting(3, least=1, other=1)
    learning_rate: float = setting(5e-4, search=between(0.0002, 0.01, log=True), fast=0.01)
    batch_size: int = setting(500, search=[50, 100, 200, 500], fast=10)

    def _build(self, train: Interactions) -> nn.Module:
        return RecVAENet(train.n_items, self.hidden_dim, self.latent_dim)

    def _batches(self, train: Interactions, device: torch.device) -> Batches:
        return Alternating(train.binary, self.batch_size, device, self.n_encoder_epochs)

    def _loss(self, module: nn.Module, *batch: Tensor) -> Tensor:
        seen, for_encoder = batch
        return self._encoder_loss(module, seen) if for_encoder else self._decoder_loss(module, seen)

    def _encoder_loss(self, module: Any, seen: Tensor) -> Tensor:
        """The bound with the user's own weight of the divergence, estimated at one z; the decoder's weights have no gradient."""
        mean, log_variance = module.encoder(F.dropout(F.normalize(seen), self.dropout))
        latent = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        scores = F.linear(latent, module.decoder.weight.detach(), module.decoder.bias.detach())
        divergence = (log_normal(latent, mean, log_variance) - module.log_prior(latent, seen)).sum(dim=1)
        return (self.gamma * seen.sum(dim=1) * divergence - multinomial(scores, seen)).mean()

    @staticmethod
    def _decoder_loss(module: Any, seen: Tensor) -> Tensor:
        """The negative log likelihood at one z; the encoder has no gradient, and is the prior's from now on."""
        module.old.load_state_dict(module.encoder.state_dict())  # the same in every step of a pass
        with torch.no_grad():
            mean, log_variance = module.encoder(F.normalize(seen))
            latent = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return -multinomial(module.decoder(latent), seen).mean()

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return self.module_(torch.as_tensor(history.binary[users.cpu().numpy()].toarray(), device=self.device_))
