"""Autoencoders over the rating vectors of items or of users: AutoRec (Sedhain, Menon, Sanner & Xie 2015).

    h(r) = W σ(V r + m) + b,      min Σ_n ‖r_n - h(r_n)‖²_observed + λ/2 (‖W‖² + ‖V‖²)        (eqs. 1 and 2)

r_n holds an item's (I-AutoRec) or a user's (U-AutoRec) stars, 0 where there is none. Differs from the paper: Adam on batches of
vectors instead of RProp, the epoch chosen on validation, and b starts at the mean rating instead of filling in 3 stars at the end:
that is what is predicted for outputs never observed. On 90 % of ML-1M the paper has RMSE .831 (I-AutoRec) and .874 (U-AutoRec).
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from scipy import sparse
from torch import Tensor, nn

from recsys_core.budget import rows_at_once
from recsys_core.interactions import Interactions
from recsys_core.models.neural import NeuralRecommender
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting
from recsys_core.models.traits import Traits
from recsys_core.sampling import Batches, Vectors


class AutoRecNet(nn.Module):
    """(B, W) rating vectors give (B, W) reconstructions, over H hidden units."""

    def __init__(self, n_vectors: int, width: int, hidden_dim: int, regularisation: float, mean: float) -> None:
        super().__init__()
        self.encoder = nn.Linear(width, hidden_dim)
        self.decoder = nn.Linear(hidden_dim, width)
        self.penalty = regularisation / 2 / n_vectors  # the loss of a batch is a mean over vectors, the paper's a sum
        nn.init.constant_(self.decoder.bias, mean)

    def encode(self, vectors: Tensor) -> Tensor:
        """Return (B, H) hidden units."""
        return torch.sigmoid(self.encoder(vectors))

    def forward(self, vectors: Tensor) -> Tensor:
        """Return (B, W) stars."""
        return self.decoder(self.encode(vectors))


@dataclass(kw_only=True)
class AutoRec(NeuralRecommender):
    """What I-AutoRec and U-AutoRec share. The paper states 500 hidden units and searches λ between .001 and 1000; λ and the batch
    were chosen on the validation rows of ML-100K's fold u1.
    """

    epochs: int = setting(60, fast=40)
    hidden_dim: int = setting(500, least=1, search=[100, 200, 500], fast=30, other=20)
    learning_rate: float = setting(1e-3, search=between(0.0003, 0.005, log=True), fast=0.01)
    regularisation: float = setting(150.0, least=0, search=between(10.0, 500.0, log=True), other=1.0)
    batch_size: int = setting(256, search=[64, 128, 256], fast=10)

    @staticmethod
    @abstractmethod
    def _vectors(rows: Interactions) -> sparse.csr_matrix:
        """The (N, W) rating vectors that are reconstructed."""

    def _build(self, train: Interactions) -> nn.Module:
        n_vectors, width = self._vectors(train).shape
        return AutoRecNet(n_vectors, width, self.hidden_dim, self.regularisation, float(train.ratings.mean()))

    def _batches(self, train: Interactions, device: torch.device) -> Batches:
        return Vectors(self._vectors(train), self.batch_size, device)

    @staticmethod
    def _loss(module: Any, *batch: Tensor) -> Tensor:
        (vectors,) = batch
        errors = (module(vectors) - vectors)[vectors > 0]
        weights = module.encoder.weight.square().sum() + module.decoder.weight.square().sum()
        return errors.square().sum() / len(vectors) + module.penalty * weights

    @torch.no_grad()
    def hidden_units(self, rows: Interactions) -> Tensor:
        """Return the (N, H) hidden units of every item of these rows, or of every user, whichever the model reconstructs."""
        return self._encoded(self._vectors(rows))

    def _encoded(self, vectors: sparse.csr_matrix) -> Tensor:
        """(N, H) hidden units of sparse vectors."""
        n_vectors, width = vectors.shape
        step = rows_at_once(width, self.device_)
        chunks = (vectors[first : first + step].toarray() for first in range(0, n_vectors, step))
        return torch.cat([self.module_.encode(torch.as_tensor(chunk, device=self.device_)) for chunk in chunks])


@recommender("item_autorec", title="I-AutoRec", family="autoencoder")
@dataclass(kw_only=True)
class ItemAutoRec(AutoRec):
    """I-AutoRec: reconstructs items from the stars that training users gave them, so that new users cannot be folded in."""

    traits: ClassVar[Traits] = Traits(form="non-linear", uses_ids=True, stochastic=True, predicts_ratings=True)

    @staticmethod
    def _vectors(rows: Interactions) -> sparse.csr_matrix:
        return rows.stars.T.tocsr()

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        decoder, users = self.module_.decoder, users.to(self.device_)
        hidden = self._encoded(self._vectors(self.train_))  # (I, H)
        return decoder.weight[users] @ hidden.T + decoder.bias[users, None]


@recommender("user_autorec", title="U-AutoRec", family="autoencoder")
@dataclass(kw_only=True)
class UserAutoRec(AutoRec):
    """U-AutoRec: reconstructs users from the stars that they gave; a history is all that it needs of a new user."""

    traits: ClassVar[Traits] = Traits(form="non-linear", stochastic=True, folds_in=True, predicts_ratings=True)

    @staticmethod
    def _vectors(rows: Interactions) -> sparse.csr_matrix:
        return rows.stars

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return self.module_.decoder(self._encoded(history.stars[users.cpu().numpy()]))
