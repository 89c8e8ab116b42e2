"""EmbeddingRecommender of report S2, a network on cleaned ML-100K: embeddings and attributes of both through one hidden layer.

    rating / 5 = w · ReLU(BatchNorm(W [p_u ; q_i ; x_u ; y_i] + b)) + c

trained by mean squared error with Adam. The report states the layers, 7 epochs, F = 0 and M = 1, year and month of release. It
leaves open the sizes, batch and learning rate (chosen here as common tutorial values) and the scale of its losses: ratings divided
by 5 is the reading under which its test loss of .0414 is a possible error (RMSE 1.02 stars; with stars mapped to [0, 1], .81).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from recsys_core.interactions import Features, Interactions
from recsys_core.models.attribute_networks import AttributeNet, RatingNetwork
from recsys_core.models.attributes import Attributes
from recsys_core.models.layers import MeanEmbedding
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting
from recsys_core.models.traits import Traits

STARS = 5.0


class EmbeddingNet(AttributeNet):
    """Embeddings of both codes and all attributes, standardised, through one hidden layer."""

    def __init__(
        self, train: Interactions, users: Attributes, items: Attributes, embedding_dim: int, hidden_dim: int
    ) -> None:
        super().__init__(users, items)
        self.user_embedding = MeanEmbedding(train.user_counts, embedding_dim)
        self.item_embedding = nn.Embedding(train.n_items, embedding_dim)
        n_inputs = 2 * embedding_dim + self.users.table.shape[1] + self.items.table.shape[1]
        self.hidden = nn.Linear(n_inputs, hidden_dim)
        self.norm = nn.BatchNorm1d(hidden_dim)
        self.output = nn.Linear(hidden_dim, 1)

    def user_vectors(self, users: Tensor, inputs: Tensor) -> Tensor:
        """Return (B, D + F) embeddings, the mean one without a code, joined with attributes."""
        return torch.cat([self.user_embedding(users), inputs], dim=-1)

    def item_vectors(self, items: Tensor) -> Tensor:
        """Return (B, D + F) embeddings joined with attributes."""
        return torch.cat([self.item_embedding(items), self.items.table.index_select(0, items)], dim=-1)

    def join(self, user_vectors: Tensor, item_vectors: Tensor) -> Tensor:
        """Return (B,) scaled ratings of (B, D + F) vectors."""
        hidden = self.hidden(torch.cat([user_vectors, item_vectors], dim=-1))  # (B, H)
        return self.output(torch.relu(self.norm(hidden))).squeeze(-1)  # (B,)


@recommender("embedding_recommender", title="Embedding recommender", family="network for stars")
@dataclass(kw_only=True)
class EmbeddingRecommender(RatingNetwork):
    """S2's recommender. A user without history is scored by the mean user embedding and their attributes, if these are given."""

    traits: ClassVar[Traits] = Traits(
        form="non-linear", uses_ids=True, uses_features=True, stochastic=True, predicts_ratings=True
    )
    scale: ClassVar[float] = STARS

    epochs: int = setting(7, search=30, fast=12)
    embedding_dim: int = setting(32, least=1, search=[8, 16, 32, 64], other=8)
    hidden_dim: int = setting(64, least=1, search=[32, 64, 128], other=16)
    learning_rate: float = setting(3e-3, search=between(0.0003, 0.01, log=True), fast=0.01)
    weight_decay: float = setting(0.0, search=between(1e-7, 1e-3, log=True))
    batch_size: int = setting(1024, search=[512, 1024, 2048, 4096], fast=256)

    def _user_attributes(self, features: Features) -> Features:
        return features.without("zip")

    def _build(self, train: Interactions) -> nn.Module:
        return EmbeddingNet(train, *self._sides(train), self.embedding_dim, self.hidden_dim)
