"""Factorisation machines and the networks made of them: FM, DeepFM and DLRM for ratings, over the same fields.

A field is an id or a group of attribute columns: user, gender, occupation, age; item, genres (their mean), year. Field f of a row
has a weight w_f and a vector v_f (D,): a lookup for ids, the sum of value × column vector over the columns of an attribute.

    FM      (Rendle 2010, eq. 1)                rating = w_0 + Σ_f w_f + Σ_{f<g} v_f · v_g
    DeepFM  (Guo et al. 2017, eq. 1 to 4)       rating = FM + MLP([v_1 … v_F])                       the same v_f
    DLRM    (Naumov et al. 2019, section 2.1)   rating = MLP([z ; v_f · v_g for all f < g])          z = MLP(numbers)

DLRM has no w_f, and age and year are not fields but its numbers: z is one more vector among the v_f. All are trained on squared
error in stars with Adam, where the papers on DeepFM and DLRM predict clicks; w_0 starts at the training mean. An id without
training rows has the mean vector of the others. Expected on the five folds of ML-100K: about .92 to .94, near the biased matrix
factorisation (.934) that FM is with user and item ids alone.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from recsys_core.interactions import Features, Interactions
from recsys_core.models.attribute_networks import AttributeNet, RatingNetwork
from recsys_core.models.attributes import Attributes
from recsys_core.models.layers import MLP, MeanEmbedding
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting
from recsys_core.models.traits import Traits


def pairwise_sum(vectors: Tensor) -> Tensor:
    """Sum (B,) of the dot products of all pairs among (B, F, D) vectors, in time linear in F (Rendle 2010, lemma 3.1)."""
    return 0.5 * (vectors.sum(dim=1).square().sum(dim=1) - vectors.square().sum(dim=(1, 2)))


class Fields(nn.Module):
    """The fields of one side; `groups` are prefixes of attribute columns, each group one field."""

    members: Tensor

    def __init__(self, side: Attributes, counts: np.ndarray, groups: tuple[str, ...], width: int, std: float) -> None:
        super().__init__()
        columns = [side.positions(group) for group in groups]
        members = torch.zeros(sum(map(bool, columns)), len(side.columns), 1)
        for row, places in enumerate(filter(None, columns)):
            members[row, places] = 1
        self.register_buffer("members", members, persistent=False)  # (G, A, 1)
        self.ids = MeanEmbedding(counts, width)
        self.columns = nn.Parameter(torch.empty(len(side.columns), width))
        nn.init.normal_(self.ids.weight, std=std)
        nn.init.normal_(self.columns, std=std)

    def forward(self, codes: Tensor, inputs: Tensor) -> Tensor:
        """Return the (B, (1 + G) · W) vectors of (B,) ids and (B, A) inputs."""
        blocks = (self.members * self.columns).transpose(0, 1).flatten(1)  # (A, G · W): a column fills its group's part
        return torch.cat([self.ids(codes), inputs @ blocks], dim=1)


class FieldNet(AttributeNet):
    """The fields of both sides, one after another, as (B, F, W) vectors."""

    groups: ClassVar[tuple[str, ...]] = ("gender", "occupation_", "age", "genre_", "year")

    def __init__(self, train: Interactions, sides: tuple[Attributes, Attributes], width: int, std: float) -> None:
        super().__init__(*sides)
        self.user_fields = Fields(self.users, train.user_counts, self.groups, width, std)
        self.item_fields = Fields(self.items, train.item_counts, self.groups, width, std)
        self.n_fields = 2 + len(self.user_fields.members) + len(self.item_fields.members)
        self.bias = nn.Parameter(torch.tensor(float(train.ratings.mean())))

    def user_vectors(self, users: Tensor, inputs: Tensor) -> Tensor:
        """Return the user's fields, (B, F_u · W)."""
        return self.user_fields(users, inputs)

    def item_vectors(self, items: Tensor) -> Tensor:
        """Return the item's fields, (B, F_i · W)."""
        return self.item_fields(items, self.items.table.index_select(0, items))

    def fields(self, user_vectors: Tensor, item_vectors: Tensor) -> Tensor:
        """Return (B, F, W) vectors of all fields."""
        return torch.cat([user_vectors, item_vectors], dim=1).unflatten(1, (self.n_fields, -1))


class DeepFMNet(FieldNet):
    """Weights (the first of the W numbers of a field), dot products of the other D, and an MLP on the same D."""

    def __init__(
        self,
        train: Interactions,
        sides: tuple[Attributes, Attributes],
        width: int,
        std: float,
        layers: tuple[int, ...] | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(train, sides, width, std)
        n_inputs = self.n_fields * (width - 1)
        self.deep = None if layers is None else MLP(n_inputs, (*layers, 1), dropout)

    def join(self, user_vectors: Tensor, item_vectors: Tensor) -> Tensor:
        """Return (B,) stars; without layers, those of the factorisation machine."""
        fields = self.fields(user_vectors, item_vectors)
        weights, vectors = fields.split([1, fields.shape[2] - 1], dim=2)  # (B, F, 1), (B, F, D)
        vectors = vectors.contiguous()  # read three times
        stars = self.bias + weights.sum(dim=(1, 2)) + pairwise_sum(vectors)
        return stars if self.deep is None else stars + self.deep(vectors.flatten(1)).squeeze(1)


class DLRMNet(FieldNet):
    """Numbers through the bottom MLP, dot products of all pairs of vectors, both through the top MLP."""

    groups: ClassVar[tuple[str, ...]] = ("gender", "occupation_", "genre_")
    lower: Tensor

    def __init__(
        self,
        train: Interactions,
        sides: tuple[Attributes, Attributes],
        width: int,
        std: float,
        bottom_layers: tuple[int, ...],
        top_layers: tuple[int, ...],
    ) -> None:
        super().__init__(train, sides, width, std)
        self.ages, self.years = self.users.positions("age"), self.items.positions("year")
        self.bottom = MLP(len(self.ages) + len(self.years), (*bottom_layers, width))
        self.register_buffer("lower", torch.tril_indices(1 + self.n_fields, 1 + self.n_fields, -1), persistent=False)
        self.top = MLP(width + self.lower.shape[1], (*top_layers, 1))

    def user_vectors(self, users: Tensor, inputs: Tensor) -> Tensor:
        """Return the user's age and fields."""
        return torch.cat([inputs[:, self.ages], super().user_vectors(users, inputs)], dim=1)

    def item_vectors(self, items: Tensor) -> Tensor:
        """Return the item's year and fields."""
        return torch.cat([self.items.table.index_select(0, items)[:, self.years], super().item_vectors(items)], dim=1)

    def numbers_and_fields(self, user_vectors: Tensor, item_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return z (B, D), and the (B, 1 + F, D) vectors whose products are taken: z and those of all fields."""
        ages, user_fields = user_vectors.tensor_split([len(self.ages)], dim=1)
        years, item_fields = item_vectors.tensor_split([len(self.years)], dim=1)
        dense = self.bottom(torch.cat([ages, years], dim=1))  # (B, D)
        return dense, torch.cat([dense[:, None], self.fields(user_fields, item_fields)], dim=1)

    def join(self, user_vectors: Tensor, item_vectors: Tensor) -> Tensor:
        """Return (B,) stars."""
        dense, vectors = self.numbers_and_fields(user_vectors, item_vectors)
        dots = torch.bmm(vectors, vectors.transpose(1, 2))[:, self.lower[0], self.lower[1]]  # (B, (1 + F) F / 2)
        return self.bias + self.top(torch.cat([dense, dots], dim=1)).squeeze(1)


@recommender("fm", title="FM", family="factorisation machines")
@dataclass(kw_only=True)
class FM(RatingNetwork):
    """Factorisation machine. A user without history is answered from the mean user's vector and the attributes.

    The paper leaves dimension, learning rate and regularisation to the data.
    """

    traits: ClassVar[Traits] = Traits(
        form="bilinear", uses_ids=True, uses_features=True, stochastic=True, predicts_ratings=True
    )
    unread: ClassVar[tuple[str, ...]] = ("zip", "month")
    numbers: ClassVar[tuple[str, ...] | None] = ("age", "year")

    epochs: int = setting(20, fast=12)
    embedding_dim: int = setting(10, least=1, search=[5, 10, 20, 40], other=4)
    embedding_std: float = setting(0.01, least=0, search=between(0.01, 0.1, log=True), fast=0.1, other=0.5)
    learning_rate: float = setting(1e-3, search=between(0.0003, 0.01, log=True), fast=0.02)
    weight_decay: float = setting(0.0, search=between(1e-7, 1e-3, log=True))
    batch_size: int = setting(2048, search=[512, 1024, 2048, 4096], fast=256)

    def _item_attributes(self, features: Features) -> Features:
        """Genre flags divided by their number in a film: their field is the mean of the genres' vectors."""
        is_genre = [column.startswith("genre_") for column in features.columns]
        n_genres = np.maximum(features.select("genre_").sum(axis=1, keepdims=True), 1)
        means = np.where(is_genre, features.values / n_genres, features.values)
        return super()._item_attributes(Features(means, features.columns))

    def _build(self, train: Interactions) -> nn.Module:
        return DeepFMNet(train, self._sides(train), 1 + self.embedding_dim, self.embedding_std)


@recommender("deepfm", title="DeepFM", family="factorisation machines")
@dataclass(kw_only=True)
class DeepFM(FM):
    """Factorisation machine and MLP with shared vectors.

    The paper's layers (400, 400, 400) with dropout .5 are for millions of clicks; on 100,000 ratings small ones do as well.
    """

    traits: ClassVar[Traits] = replace(FM.traits, form="non-linear")

    epochs: int = setting(20, fast=8)
    embedding_std: float = setting(0.01, fast=0.01)
    learning_rate: float = setting(1e-3, fast=0.01)
    batch_size: int = setting(2048, fast=128)
    layers: tuple[int, ...] = setting(
        (64, 32), least=1, search=[[32], [64, 32], [128, 64], [128, 128, 128]], fast=(32,), other=(16,)
    )
    dropout: float = setting(0.0, least=0, below=1, search=between(0.0, 0.5), other=0.5)

    @property
    def own_traits(self) -> Traits:
        """Bilinear without hidden layers."""
        return replace(self.traits, form="non-linear" if self.layers else "bilinear")

    def _build(self, train: Interactions) -> nn.Module:
        parts = train, self._sides(train), 1 + self.embedding_dim, self.embedding_std
        return DeepFMNet(*parts, self.layers, self.dropout)


@recommender("dlrm", title="DLRM", family="factorisation machines")
@dataclass(kw_only=True)
class DLRM(FM):
    """Deep learning recommendation model."""

    traits: ClassVar[Traits] = replace(FM.traits, form="non-linear")

    learning_rate: float = setting(1e-3, fast=0.005)
    batch_size: int = setting(2048, fast=128)
    bottom_layers: tuple[int, ...] = setting((64,), least=1, search=[[32], [64], [64, 32]], other=(8,))
    top_layers: tuple[int, ...] = setting((64, 32), least=1, search=[[32], [64, 32], [128, 64]], other=(8,))

    @property
    def own_traits(self) -> Traits:
        """Bilinear without hidden layers."""
        return replace(self.traits, form="non-linear" if self.bottom_layers or self.top_layers else "bilinear")

    def _build(self, train: Interactions) -> nn.Module:
        parts = train, self._sides(train), self.embedding_dim, self.embedding_std
        return DLRMNet(*parts, self.bottom_layers, self.top_layers)

    @torch.no_grad()
    def interacting_vectors(self, users: Tensor, items: Tensor) -> Tensor:
        """Return (N, 1 + F, D) vectors of (N,) pairs of the catalogue: z, the user's fields, the item's fields."""
        item_vectors = self.module_.item_vectors(items.to(self.device_))
        return self.module_.numbers_and_fields(self.encode_users(users), item_vectors)[1]
