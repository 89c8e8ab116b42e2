"""A tower for the user and one for the film: S0's regressor and joint embedding, and the DSSM that report S3 names.

S0.1 TwoTowerRegressor, on attributes without ids

    rating = head([tower_u(x_u) ; tower_i(y_i)])        tower(x) = ReLU(BatchNorm(W x + b))

trained by mean squared error in stars with Adam. Stated: hidden_dim 512, user_dim 25, item_dim 20, learning rate 1e-4, weight
decay 1e-6, 25 epochs; validation loss 1.21 on held-out users. It knows a user by gender (2), occupation (21) and age only.
The 25th user column is not stated; it is taken to be the zip code, which is all that is left of the user table, as a number. Open
too are the batch size and the head, a single linear layer here: it adds what the user gives to what the film gives, so that all
users get the films in one order. Hidden layers in the head (`head_layers`) let the two meet.

S0.2 JointEmbedding, on attributes without ids
    u = P_u tower(x_u)      v = P_i tower(y_i)      tower(x) = (Dropout ReLU BatchNorm Linear)²(x)
    logit = head([u ; v])   loss = BCE(logit, rating >= 4) + γ (1 - cos(u, v) where liked, max(0, cos(u, v)) where not)

Stated: user_dim 25, item_dim 403, embedding_dim, hidden_dim and joint_dim 512, dropout .2, γ 1e-4, learning rate 1e-3, weight decay
1e-6, 7 epochs, the best by validation accuracy; accuracy .64 on held-out users. Open, and chosen here: 403 is 19 genres and 384
more, the width of the common small sentence encoders, so that the rest is taken to be the film's title; here it is a multi-hot of
the 384 most frequent words of the titles, years among them (the study's `recsys_core.titles`; it works without, too). The shape of
the alignment loss is that of a cosine embedding loss, the head is one linear layer, the batch 1,024 rows. The report does not say
what it ranks by: the head, which is what its loss trains, or the cosine in the joint space, which vector search needs
(`by_cosine`).

DSSM
    s(u, i) = cos(f([p_u ; x_u]), g([q_i ; y_i])) / τ
    loss = -log softmax_j (s(u, j) - log q_j) at the row's own item, over the items j of the batch

The towers, their cosine and its smoothing (1/τ) are those of Huang, He, Gao, Deng, Acero & Heck (2013), eq. 3 to 6; negatives from
the batch, corrected by log q, the probability of meeting item j there, those of Yi et al. (2019), eq. 5 and 6. Differs from both:
inputs are an embedding of the id and the attributes instead of letter trigrams or a history; q is the share of the training rows
instead of an estimate from a stream. A share `id_dropout` of the ids is hidden in training, so that attributes can answer for a new
user and for a film that nobody has rated. No paper has figures on ML-100K; it should rank well above popularity.
Sizes, temperature and rates are this study's choice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_core.interactions import Interactions
from recsys_core.losses import cosine_alignment, in_batch_softmax
from recsys_core.models.attributes import (
    AttributeNet,
    Attributes,
    MeanEmbedding,
    RatingNetwork,
    VectorNetwork,
    perceptron,
)
from recsys_core.models.base import Traits
from recsys_core.models.registry import recommender
from recsys_core.train import Validation

LIKED = 4.0  # stars


def tower(n_inputs: int, hidden_dim: int) -> nn.Sequential:
    """One layer, as the report has it."""
    return nn.Sequential(nn.Linear(n_inputs, hidden_dim), nn.BatchNorm1d(hidden_dim), nn.ReLU())


class TwoTowerNet(AttributeNet):
    """(B, H) outputs of a tower on each side, concatenated, through the head; `build` makes a tower for so many inputs."""

    def __init__(
        self,
        users: Attributes,
        items: Attributes,
        build: Callable[[int], nn.Module],
        width: int,
        head_layers: tuple[int, ...],
        dropout: float = 0.0,
    ) -> None:
        super().__init__(users, items)
        self.user_tower, self.item_tower = (build(side.table.shape[1]) for side in (users, items))
        self.head = perceptron(2 * width, (*head_layers, 1), dropout)

    def user_vectors(self, users: Tensor, inputs: Tensor) -> Tensor:
        """Return (B, H) from the attributes alone."""
        return self.user_tower(inputs)

    def item_vectors(self, items: Tensor) -> Tensor:
        """Return (B, H) from the attributes alone."""
        return self.item_tower(self.items.table.index_select(0, items))

    def join(self, user_vectors: Tensor, item_vectors: Tensor) -> Tensor:
        """Return (B,) stars, or logits of "liked"."""
        return self.head(torch.cat([user_vectors, item_vectors], dim=-1)).squeeze(-1)


@recommender("two_tower_regressor", title="Two-tower regressor", family="network for stars")
@dataclass(kw_only=True)
class TwoTowerRegressor(RatingNetwork):
    """S0's regressor; users with the same attributes get the same answer.

    Flags stay 0/1, age, zip number and year are standardised. Raises StudyError for training rows without attributes.
    """

    traits: ClassVar[Traits] = Traits(personalised=False, uses_features=True, stochastic=True, predicts_ratings=True)
    unread: ClassVar[tuple[str, ...]] = ("month",)
    numbers: ClassVar[tuple[str, ...] | None] = ("age", "zip", "year")

    epochs: int = 25
    batch_size: int = 256
    learning_rate: float = 1e-4
    weight_decay: float = 1e-6
    hidden_dim: int = 512
    head_layers: tuple[int, ...] = ()

    def _build(self, train: Interactions) -> nn.Module:
        build = partial(tower, hidden_dim=self.hidden_dim)
        return TwoTowerNet(*self._sides(train), build, self.hidden_dim, self.head_layers)


@recommender("joint_embedding", title="Joint embedding", family="two towers")
@dataclass(kw_only=True)
class JointEmbedding(VectorNetwork):
    """S0's classifier; users with the same attributes get the same answer. Its best epoch has the highest validation accuracy.

    Flags stay 0/1, age and zip number are standardised. Raises StudyError for training rows without attributes.
    """

    traits: ClassVar[Traits] = Traits(personalised=False, uses_features=True, stochastic=True, learns_from_stars=True)
    title_words: ClassVar[int] = 384  # with 19 genres the 403 columns that report S0 states
    unread: ClassVar[tuple[str, ...]] = ("month", "year")
    numbers: ClassVar[tuple[str, ...] | None] = ("age", "zip")

    epochs: int = 7
    batch_size: int = 1024
    weight_decay: float = 1e-6
    hidden_dim: int = 512
    embedding_dim: int = 512
    joint_dim: int = 512
    head_layers: tuple[int, ...] = ()
    dropout: float = 0.2
    gamma: float = 1e-4
    by_cosine: bool = False

    def _tower(self, n_inputs: int) -> nn.Module:
        """Two layers, and a projection into the joint space."""
        return nn.Sequential(
            *tower(n_inputs, self.hidden_dim),
            nn.Dropout(self.dropout),
            *tower(self.hidden_dim, self.embedding_dim),
            nn.Dropout(self.dropout),
            nn.Linear(self.embedding_dim, self.joint_dim),
        )

    def _build(self, train: Interactions) -> nn.Module:
        return TwoTowerNet(*self._sides(train), self._tower, self.joint_dim, self.head_layers, self.dropout)

    def _loss(self, module: nn.Module, *batch: Tensor) -> Tensor:
        assert isinstance(module, TwoTowerNet)
        users, items, stars = batch
        liked = (stars >= LIKED).float()
        vectors = module.user_vectors(users, module.users.table[users]), module.item_vectors(items)
        loss = F.binary_cross_entropy_with_logits(module.join(*vectors), liked)
        return loss + self.gamma * cosine_alignment(*vectors, liked)

    @torch.inference_mode()
    def logits(self, rows: Interactions) -> Tensor:
        """Return the (N,) logits of "liked" for the pairs of these rows; users of the catalogue need no training rows."""
        return self.module_(*(torch.as_tensor(codes, device=self.device_) for codes in (rows.users, rows.items))).cpu()

    def _judge(self, train: Interactions, rows: Interactions, history: Interactions | None) -> Validation:
        liked = torch.as_tensor(rows.ratings >= LIKED)
        return Validation("accuracy", lambda: float(((self.logits(rows) > 0) == liked).float().mean()), True)

    def _all_items(self, user_vectors: Tensor) -> Tensor:
        if not self.by_cosine:
            return super()._all_items(user_vectors)
        return F.normalize(user_vectors, dim=1) @ self.item_vectors().T


class DSSMNet(AttributeNet):
    """On each side an embedding of the id and the attributes through a perceptron to a vector of length 1."""

    log_q: Tensor

    def __init__(self, train: Interactions, users: Attributes, items: Attributes, model: "DSSM") -> None:
        super().__init__(users, items)
        self.temperature = model.temperature
        widths, sides = (*model.layers, model.embedding_dim), (users, items)
        counts = (train.user_counts, train.item_counts)
        self.embeddings = nn.ModuleList(MeanEmbedding(rows, model.embedding_dim, model.id_dropout) for rows in counts)
        self.towers = nn.ModuleList(
            perceptron(model.embedding_dim + side.table.shape[1], widths, model.dropout) for side in sides
        )
        log_q = np.log(np.maximum(train.item_counts, 1) / len(train)) * model.log_q
        self.register_buffer("log_q", torch.as_tensor(log_q, dtype=torch.float32), persistent=False)

    def user_vectors(self, users: Tensor, inputs: Tensor) -> Tensor:
        """Return (B, D) of length 1."""
        return F.normalize(self.towers[0](torch.cat([self.embeddings[0](users), inputs], dim=-1)), dim=-1)

    def item_vectors(self, items: Tensor) -> Tensor:
        """Return (B, D) of length 1."""
        inputs = self.items.table.index_select(0, items)
        return F.normalize(self.towers[1](torch.cat([self.embeddings[1](items), inputs], dim=-1)), dim=-1)


@recommender("dssm", title="DSSM", family="two towers")
@dataclass(kw_only=True)
class DSSM(VectorNetwork):
    """The two-tower retrieval model; ranks by the cosine. `log_q` is the share of the correction that is applied, 1 the paper's.

    `batch_size` counts rows, each of which has all others' items as negatives. Flags stay 0/1, age and year are standardised.
    """

    traits: ClassVar[Traits] = Traits(uses_ids=True, uses_features=True, stochastic=True)
    unread: ClassVar[tuple[str, ...]] = ("month", "zip")
    numbers: ClassVar[tuple[str, ...] | None] = ("age", "year")
    smallest: ClassVar[dict[str, float]] = {"temperature": 0.001}

    epochs: int = 10
    batch_size: int = 512
    learning_rate: float = 0.01
    embedding_dim: int = 32
    layers: tuple[int, ...] = ()
    dropout: float = 0.0
    id_dropout: float = 0.1
    temperature: float = 0.2
    log_q: float = 1.0

    def _build(self, train: Interactions) -> nn.Module:
        return DSSMNet(train, *self._sides(train), self)

    @staticmethod
    def _loss(module: nn.Module, *batch: Tensor) -> Tensor:
        assert isinstance(module, DSSMNet)
        users, items, _ = batch
        scaled = module.user_vectors(users, module.users.table[users]) / module.temperature
        return in_batch_softmax(scaled, module.item_vectors(items), items, module.log_q[items])

    def _all_items(self, user_vectors: Tensor) -> Tensor:
        return user_vectors @ self._every_item().T
