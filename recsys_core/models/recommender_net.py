"""RecommenderNet of report S1, a network on ML-100K with a menu: who one is and what a film is, through three layers to stars.

    x = [zip_u ; occupation_u ; a age_u + b ; G gender_u + g ; year_i ; genres_i]        embeddings and maps of one size e
    rating = low + (high - low) σ(w · ReLU(BN(W_2 dropout(ReLU(BN(W_1 x))))) + c)

trained by mean squared error in stars with Adam. Stated: the layers (128 and 64), dropout .2 after the first, 200 epochs; RMSE .787
measured on rows it was trained on. Open: e, learning rate and batch size (chosen here). No ids. Differs: age is standardised, and a
zip code or year that no training row has (the report has none: it trains on all rows) stands for the mean of the others.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from recsys_core.interactions import Interactions
from recsys_core.models.attribute_networks import AttributeNet, RatingNetwork
from recsys_core.models.attributes import Attributes
from recsys_core.models.layers import MeanEmbedding
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting
from recsys_core.models.traits import Traits


def _labels(side: Attributes, column: str) -> Tensor:
    """(N,) values of a column that holds labels; 0 without it."""
    return side.table[:, side.positions(column)].sum(dim=1)


class DemographicNet(AttributeNet):
    """(B, 4e) user and (B, e + G) item vectors, joined by the layers of the report."""

    years: Tensor

    def __init__(self, train: Interactions, sides: tuple[Attributes, Attributes], size: int, dropout: float) -> None:
        super().__init__(*sides)
        users, items = sides
        zips = _labels(users, "zip").long().numpy()
        years = torch.unique(_labels(items, "year"), return_inverse=True)[1]
        self.register_buffer("years", years, persistent=False)  # (I,) codes
        self.zip_embedding = MeanEmbedding(np.bincount(zips, train.user_counts), size)
        self.year_embedding = MeanEmbedding(np.bincount(years.numpy(), train.item_counts), size)
        self.occupation_embedding = nn.Parameter(torch.randn(len(users.positions("occupation_")), size))
        self.age = nn.Linear(len(users.positions("age")), size)
        self.gender = nn.Linear(len(users.positions("gender")), size)
        self.layers = nn.Sequential(
            nn.Linear(5 * size + len(items.positions("genre_")), 128),
            nn.BatchNorm1d(128),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(128, 64),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Linear(64, 1),
        )
        self.low, self.high = float(train.ratings.min()), float(train.ratings.max())

    def user_vectors(self, users: Tensor, inputs: Tensor) -> Tensor:
        """Return (B, 4e) from the attributes alone."""
        age, gender, occupation, zips = (
            inputs[:, self.users.positions(name)] for name in ("age", "gender", "occupation_", "zip")
        )
        zip_vectors = self.zip_embedding(zips.sum(dim=1).long())
        return torch.cat([zip_vectors, occupation @ self.occupation_embedding, self.age(age), self.gender(gender)], 1)

    def item_vectors(self, items: Tensor) -> Tensor:
        """Return (B, e + G) from the attributes alone."""
        genres = self.items.table[:, self.items.positions("genre_")]
        return torch.cat([self.year_embedding(self.years[items]), genres[items]], dim=1)

    def join(self, user_vectors: Tensor, item_vectors: Tensor) -> Tensor:
        """Return (B,) stars within the scale."""
        logits = self.layers(torch.cat([user_vectors, item_vectors], dim=1)).squeeze(1)
        return self.low + (self.high - self.low) * torch.sigmoid(logits)


@recommender("recommender_net", title="RecommenderNet", family="network for stars")
@dataclass(kw_only=True)
class RecommenderNet(RatingNetwork):
    """S1's network; users with the same attributes get the same answer.

    Raises StudyError for training rows without user and item attributes.
    """

    traits: ClassVar[Traits] = Traits(
        form="non-linear", personalised=False, uses_features=True, stochastic=True, predicts_ratings=True
    )
    numbers: ClassVar[tuple[str, ...] | None] = ("age",)

    epochs: int = setting(200, search=30, fast=5)
    embedding_dim: int = setting(16, least=1, search=[4, 8, 16, 32], other=4)
    dropout: float = setting(0.2, least=0, below=1, search=between(0.0, 0.5), other=0.5)
    learning_rate: float = setting(1e-3, search=between(0.0003, 0.01, log=True))
    weight_decay: float = setting(0.0, search=between(1e-7, 1e-3, log=True))
    batch_size: int = setting(2048, search=[512, 1024, 2048, 4096], fast=256)

    def _build(self, train: Interactions) -> nn.Module:
        return DemographicNet(train, self._sides(train), self.embedding_dim, self.dropout)
