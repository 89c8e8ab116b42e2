"""S2.1: user and item embeddings, joined with the attributes of both, through one hidden layer to a rating.

    rating / 5 = w · ReLU(BatchNorm(W [p_u ; q_i ; x_u ; y_i] + b)) + c

trained by mean squared error with Adam. The report states the layers, 7 epochs, F = 0 and M = 1, year and month of release. It
leaves open the sizes, batch and learning rate (chosen here as common tutorial values) and the scale of its losses: ratings divided
by 5 is the reading under which its test loss of .0414 is a possible error (RMSE 1.02 stars; with stars mapped to [0, 1], .81).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from recsys_core.errors import StudyError
from recsys_core.interactions import Features, Interactions
from recsys_core.losses import mean_squared_error
from recsys_core.models.base import Traits
from recsys_core.models.neural import NeuralRecommender
from recsys_core.sampling import Batches, Rows

STARS = 5.0


def standardised(features: Features | None, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (F,) of the feature columns over the training rows; (0,) arrays without features."""
    if features is None:
        return np.zeros(0, np.float32), np.ones(0, np.float32)
    values = features.values.astype(np.float64)
    mean = np.average(values, axis=0, weights=counts)
    deviation = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=counts))
    return mean.astype(np.float32), np.where(deviation > 1e-6, deviation, 1).astype(np.float32)


class EmbeddingNet(nn.Module):
    """(B,) users, or their vectors, and (B,) items give (B,) scaled ratings."""

    user_input: Tensor
    item_input: Tensor
    user_mean: Tensor
    user_deviation: Tensor

    def __init__(self, train: Interactions, embedding_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.user_embedding = nn.Embedding(train.n_users, embedding_dim)
        self.item_embedding = nn.Embedding(train.n_items, embedding_dim)
        for kind, features, counts in (
            ("user", train.user_features, train.user_counts),
            ("item", train.item_features, train.item_counts),
        ):
            mean, deviation = standardised(features, counts)
            values = np.zeros((len(counts), 0), np.float32) if features is None else features.values
            self.register_buffer(f"{kind}_mean", torch.from_numpy(mean))
            self.register_buffer(f"{kind}_deviation", torch.from_numpy(deviation))
            self.register_buffer(f"{kind}_input", torch.from_numpy((values - mean) / deviation))
        n_inputs = 2 * embedding_dim + self.user_input.shape[1] + self.item_input.shape[1]
        self.hidden = nn.Linear(n_inputs, hidden_dim)
        self.norm = nn.BatchNorm1d(hidden_dim)
        self.output = nn.Linear(hidden_dim, 1)

    def user_vectors(self, users: Tensor) -> Tensor:
        """Return (B, D + F) embeddings joined with attributes."""
        return torch.cat([self.user_embedding(users), self.user_input[users]], dim=-1)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return (B,) scaled ratings of (B,) pairs."""
        return self.join(self.user_vectors(users), items)

    def join(self, user_vectors: Tensor, items: Tensor) -> Tensor:
        """Return (B,) scaled ratings of (B, D + F) user vectors for (B,) items."""
        item_vectors = torch.cat([self.item_embedding(items), self.item_input[items]], dim=-1)
        hidden = self.hidden(torch.cat([user_vectors, item_vectors], dim=-1))  # (B, H)
        return self.output(torch.relu(self.norm(hidden))).squeeze(-1)  # (B,)


@dataclass(kw_only=True)
class EmbeddingRecommender(NeuralRecommender):
    """S2's recommender. A user without history is scored by the mean user embedding and their attributes, if these are given."""

    traits: ClassVar[Traits] = Traits(uses_ids=True, uses_features=True, stochastic=True, predicts_ratings=True)

    epochs: int = 7
    batch_size: int = 1024
    learning_rate: float = 3e-3
    embedding_dim: int = 32
    hidden_dim: int = 64

    def _build(self, train: Interactions) -> nn.Module:
        return EmbeddingNet(train, self.embedding_dim, self.hidden_dim)

    def _batches(self, train: Interactions, device: torch.device) -> Batches:
        columns = (train.users, train.items, train.ratings / np.float32(STARS))
        return Rows(self.batch_size, *(torch.as_tensor(column, device=device) for column in columns))

    @staticmethod
    def _loss(module: nn.Module, *batch: Tensor) -> Tensor:
        users, items, targets = batch
        return mean_squared_error(module(users, items), targets)

    @property
    def _net(self) -> EmbeddingNet:
        assert isinstance(self.module_, EmbeddingNet)
        return self.module_

    def _all_items(self, user_vectors: Tensor) -> Tensor:
        """(B, I) stars of every item for (B, D) user vectors."""
        items = torch.arange(self.train_.n_items, device=user_vectors.device)
        rows = [self._net.join(vector.expand(len(items), -1), items) for vector in user_vectors]
        return STARS * torch.stack(rows)

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return self._all_items(self._net.user_vectors(users.to(self.device_)))

    def _ratings(self, users: Tensor, items: Tensor, history: Interactions) -> Tensor:
        return self._stars(self._net.user_vectors(users.to(self.device_)), items)

    def _stars(self, user_vectors: Tensor, items: Tensor) -> Tensor:
        scale = self.train_.ratings.min(), self.train_.ratings.max()
        return (STARS * self._net.join(user_vectors, items.to(self.device_))).clamp(*map(float, scale))

    def _new_users(self, features: Features) -> Tensor:
        expected = None if self.train_.user_features is None else self.train_.user_features.columns
        if features.columns != expected:
            raise StudyError(f"User features must have the columns of training, {expected}; got {features.columns}.")
        net = self._net
        values = (torch.as_tensor(features.values, device=self.device_) - net.user_mean) / net.user_deviation
        trained = torch.as_tensor(self.train_.user_counts > 0, device=self.device_)
        embedding = net.user_embedding.weight[trained].mean(dim=0).expand(len(values), -1)
        return torch.cat([embedding, values], dim=-1)

    def _cold_scores(self, users: Tensor, features: Features | None) -> Tensor:
        if features is None:
            return super()._cold_scores(users, features)
        return self._all_items(self._new_users(features))

    def _cold_ratings(self, users: Tensor, items: Tensor, features: Features | None) -> Tensor:
        if features is None:
            return super()._cold_ratings(users, items, features)
        return self._stars(self._new_users(features), items)
