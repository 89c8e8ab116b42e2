"""What models of neural collaborative filtering share: a logit for a pair of user and item (He, Liao, Zhang, Nie, Hu & Chua 2017).

All are trained with the log loss (eq. 7) on every observed pair and, each epoch anew, `n_negatives` unseen items per pair, by
Adam; what they rank by is the logit. They differ from the paper in that the epoch is chosen on validation rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from recsys_core.budget import rows_at_once
from recsys_core.interactions import Interactions
from recsys_core.losses import binary_cross_entropy
from recsys_core.models.neural import NeuralRecommender
from recsys_core.models.settings import between, setting
from recsys_core.sampling import Batches, PositivesAndNegatives


class PairNet(nn.Module, ABC):
    """Embeddings and layers; (P,) users and (M, P) items give (M, P) logits.

    A logit joins a user's side with an item's, each computed once however many pairs it is part of. Everything is kept features
    first, (D, rows): layers this narrow are several times faster so on a CPU, the gradient of the lookup above all.
    """

    def __init__(
        self, n_users: int, n_items: int, embedding_dim: int, widths: tuple[int, ...], embedding_std: float
    ) -> None:
        super().__init__()
        self.user_embedding = nn.Parameter(torch.empty(embedding_dim, n_users))
        self.item_embedding = nn.Parameter(torch.empty(embedding_dim, n_items))
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(widths))
        for embedding in (self.user_embedding, self.item_embedding):
            nn.init.normal_(embedding, std=embedding_std)
        for layer in self.linear:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def linear(self) -> list[nn.Linear]:
        """The layers, from the embeddings to the logit."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    @abstractmethod
    def halves(self, user_vectors: Tensor, item_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The users' sides (H, …) and the items' (H, …) of (D, …) vectors."""

    @abstractmethod
    def join(self, user_half: Tensor, item_half: Tensor) -> Tensor:
        """(…) logits of (H, …) sides that are broadcast against each other."""

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the (M, P) logits of M items for each of P users."""
        user_half, item_half = self.halves(
            self.user_embedding.index_select(1, users), self.item_embedding.index_select(1, items.flatten())
        )
        return self.join(user_half[:, None], item_half.view(-1, *items.shape))

    def score_all(self, users: Tensor) -> Tensor:
        """Return the (B, I) logits of every item."""
        user_half, item_half = self.halves(self.user_embedding.index_select(1, users), self.item_embedding)
        step = rows_at_once(item_half.numel(), users.device, in_cache=True)
        return torch.cat([self.join(part[:, :, None], item_half[:, None]) for part in user_half.split(step, dim=1)])


@dataclass(kw_only=True)
class PairRecommender(NeuralRecommender):
    """A recommender whose module scores pairs. `batch_size` counts samples, positives and negatives."""

    epochs: int = setting(20, fast=14)
    patience: int | None = setting(None, search=5)
    validation_users: int = setting(1000, search=300, wide=1000)
    embedding_dim: int = setting(8, least=1, search=[8, 16, 32, 64], wide=[8, 16, 32, 64, 128, 256], other=4)
    embedding_std: float = setting(
        0.01, least=0, search=between(0.01, 0.3, log=True), wide=between(0.001, 0.3, log=True), fast=0.1, other=0.5
    )
    n_negatives: int = setting(4, least=1, search=between(2, 8), wide=between(2, 16), other=2)
    learning_rate: float = setting(
        1e-3, search=between(0.0005, 0.02, log=True), wide=between(0.0003, 0.05, log=True), fast=0.02
    )
    weight_decay: float = setting(0.0, search=between(1e-7, 1e-4, log=True), wide=between(1e-8, 1e-3, log=True))
    batch_size: int = setting(2048, search=[2048, 4096, 8192], wide=[1024, 2048, 4096, 8192, 16384], fast=512)

    def _batches(self, train: Interactions, device: torch.device) -> Batches:
        return PositivesAndNegatives(train, self.batch_size, self.n_negatives, device)

    @staticmethod
    def _loss(module: nn.Module, *batch: Tensor) -> Tensor:
        users, items = batch
        return binary_cross_entropy(module(users, items))

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return self.module_.score_all(users.to(self.device_))
