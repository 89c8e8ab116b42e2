"""JointEmbedding of report S0, two neural models on ML-100K: is a film liked, from attributes, without ids.

    u = P_u tower(x_u)      v = P_i tower(y_i)      tower(x) = (Dropout ReLU BatchNorm Linear)²(x)
    logit = head([u ; v])   loss = BCE(logit, rating >= 4) + γ (1 - cos(u, v) where liked, max(0, cos(u, v)) where not)

Stated: user_dim 25, item_dim 403, embedding_dim, hidden_dim and joint_dim 512, dropout .2, γ 1e-4, learning rate 1e-3, weight decay
1e-6, 7 epochs, the best by validation accuracy; accuracy .64 on held-out users. Open, and chosen here: the 25th user column is the
zip code as a number; 403 is 19 genres and 384 more, the width of the common small sentence encoders, so that the rest is taken to
be the film's title; here it is a multi-hot of the 384 most frequent words of the titles, years among them (the study's
`recsys_core.content`; it works without, too). The shape of the alignment loss is that of a cosine embedding loss, the head is one
linear layer, the batch 1,024 rows. The report does not say what it ranks by: the head, which is what its loss trains, or the cosine
in the joint space, which vector search needs (`by_cosine`).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions
from recsys_core.losses import cosine_alignment
from recsys_core.models.attribute_networks import VectorNetwork
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting
from recsys_core.models.traits import Traits
from recsys_core.models.two_tower import TwoTowerNet, tower_layer
from recsys_core.train import Validation

LIKED = 4.0  # stars


@recommender("joint_embedding", title="Joint embedding", family="two towers")
@dataclass(kw_only=True)
class JointEmbedding(VectorNetwork):
    """S0's classifier; users with the same attributes get the same answer. Its best epoch has the highest validation accuracy.

    Flags stay 0/1, age and zip number are standardised. Raises StudyError for training rows without attributes.
    """

    traits: ClassVar[Traits] = Traits(
        form="non-linear", personalised=False, uses_features=True, stochastic=True, learns_from_stars=True
    )
    title_words: ClassVar[int] = 384  # with 19 genres the 403 columns that report S0 states
    unread: ClassVar[tuple[str, ...]] = ("month", "year")
    numbers: ClassVar[tuple[str, ...] | None] = ("age", "zip")

    epochs: int = setting(7, search=60, fast=3)
    patience: int | None = setting(None, search=5)
    hidden_dim: int = setting(512, least=1, search=[64, 128], fast=32, other=8)
    embedding_dim: int = setting(512, least=1, search=[32, 64, 128], fast=32, other=8)
    joint_dim: int = setting(512, least=1, search=[16, 32, 64], fast=16, other=8)
    head_layers: tuple[int, ...] = setting((), least=1, search=[[], [32]], other=(8,))
    dropout: float = setting(0.2, least=0, below=1, search=between(0.0, 0.5), other=0.5)
    gamma: float = setting(1e-4, least=0, search=between(1e-4, 10.0, log=True), other=0.5)
    by_cosine: bool = setting(False, search=[False, True], other=True)
    learning_rate: float = setting(1e-3, search=between(0.0003, 0.01, log=True), fast=0.01)
    weight_decay: float = setting(1e-6, search=between(1e-7, 1e-3, log=True))
    batch_size: int = setting(1024, search=[1024, 2048, 4096], fast=64)

    def _tower(self, n_inputs: int) -> nn.Module:
        """Two layers, and a projection into the joint space."""
        return nn.Sequential(
            *tower_layer(n_inputs, self.hidden_dim),
            nn.Dropout(self.dropout),
            *tower_layer(self.hidden_dim, self.embedding_dim),
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

    @torch.no_grad()
    def head_weights(self) -> tuple[Tensor, Tensor]:
        """Return (D,) weights of a user's and of a film's vector in a linear head, which adds up what the two give.

        Raises StudyError for a head with hidden layers, which has no such weights.
        """
        if self.head_layers:
            raise StudyError(f"head_layers={self.head_layers}: only a linear head weighs the vectors themselves.")
        of_user, of_film = self.module_.head[-1].weight[0].chunk(2)
        return of_user, of_film

    def _own_validation(self, rows: Interactions) -> Validation:
        """The share of rows that are told rightly to be liked or not."""
        liked = torch.as_tensor(rows.ratings >= LIKED)
        return Validation("accuracy", lambda: float(((self.logits(rows) > 0) == liked).float().mean()), True)

    @torch.no_grad()
    def score_encoded(self, user_vectors: Tensor) -> Tensor:
        """Return (B, I) logits of "liked", or with `by_cosine` the cosines with all films, for (B, D) vectors of users."""
        if not self.by_cosine:
            return super().score_encoded(user_vectors)
        return F.normalize(user_vectors, dim=1) @ self.item_vectors().T
