"""DSSM, the two-tower model of retrieval, which report S3 (a survey of recommenders) names.

    s(u, i) = cos(f([p_u ; x_u]), g([q_i ; y_i])) / τ
    loss = -log softmax_j (s(u, j) - log q_j) at the row's own item, over the items j of the batch

The towers, their cosine and its smoothing (1/τ) are those of Huang, He, Gao, Deng, Acero & Heck (2013), eq. 3 to 6; negatives from
the batch, corrected by log q, the probability of meeting item j there, those of Yi et al. (2019), eq. 5 and 6. Differs from both:
inputs are an embedding of the id and the attributes instead of letter trigrams or a history; q is the share of the training rows
instead of an estimate from a stream. A share `id_dropout` of the ids is hidden in training, so that attributes can answer for a new
user and for a film that nobody has rated. All weights begin as Glorot & Bengio (2010) have them; embeddings of variance 1, as torch
begins them, cost .05 NDCG@10. No paper has figures on ML-100K; LibRecommender's two towers are the same within .01 NDCG@10.
Sizes, temperature and rates are this study's choice.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_core.interactions import Interactions
from recsys_core.losses import in_batch_softmax
from recsys_core.models.attribute_networks import AttributeNet, VectorNetwork
from recsys_core.models.attributes import Attributes
from recsys_core.models.layers import MLP, MeanEmbedding
from recsys_core.models.registry import recommender, searched_as
from recsys_core.models.settings import between, setting
from recsys_core.models.traits import Traits

HIDDEN = [[64], [128], [256], [256, 128]]  # with ReLU between two learnt maps


class DSSMNet(AttributeNet):
    """On each side an embedding of the id and the attributes through an MLP to a vector of length 1."""

    log_q: Tensor

    def __init__(self, train: Interactions, users: Attributes, items: Attributes, model: "DSSM") -> None:
        super().__init__(users, items)
        self.temperature = model.temperature
        widths, sides = (*model.layers, model.embedding_dim), (users, items)
        counts = (train.user_counts, train.item_counts)
        self.embeddings = nn.ModuleList(MeanEmbedding(rows, model.embedding_dim, model.id_dropout) for rows in counts)
        self.towers = nn.ModuleList(
            MLP(model.embedding_dim + side.table.shape[1], widths, model.dropout) for side in sides
        )
        # nn.Embedding begins with vectors √D long, which Adam's steps, all of one length, hardly turn
        for weights in self.parameters():
            nn.init.xavier_uniform_(weights) if weights.dim() > 1 else nn.init.zeros_(weights)
        log_q = np.log(np.maximum(train.item_counts, 1) / len(train)) * model.log_q
        self.register_buffer("log_q", torch.as_tensor(log_q, dtype=torch.float32), persistent=False)

    def user_vectors(self, users: Tensor, inputs: Tensor) -> Tensor:
        """Return (B, D) of length 1."""
        return F.normalize(self.towers[0](torch.cat([self.embeddings[0](users), inputs], dim=-1)), dim=-1)

    def item_vectors(self, items: Tensor) -> Tensor:
        """Return (B, D) of length 1."""
        inputs = self.items.table.index_select(0, items)
        return F.normalize(self.towers[1](torch.cat([self.embeddings[1](items), inputs], dim=-1)), dim=-1)


@searched_as("dssm_hidden", title="DSSM, hidden layer", wide={"layers": HIDDEN}, is_narrow=False)
@searched_as("dssm_bilinear", title="DSSM, no hidden layer", wide={"layers": ()}, is_narrow=False)
@recommender("dssm", title="DSSM", family="two towers")
@dataclass(kw_only=True)
class DSSM(VectorNetwork):
    """The two-tower retrieval model; ranks by the cosine. `log_q` is the share of the correction that is applied, 1 the paper's.

    `batch_size` counts rows, each of which has all others' items as negatives. Flags stay 0/1, age and year are standardised.
    """

    traits: ClassVar[Traits] = Traits(form="bilinear", uses_ids=True, uses_features=True, stochastic=True)
    unread: ClassVar[tuple[str, ...]] = ("month", "zip")
    numbers: ClassVar[tuple[str, ...] | None] = ("age", "year")

    epochs: int = setting(10, search=60, fast=6)
    patience: int | None = setting(None, search=5)
    embedding_dim: int = setting(32, least=1, search=[16, 32, 64], wide=[16, 32, 64, 128, 256], fast=16, other=8)
    layers: tuple[int, ...] = setting((), least=1, search=[[], [64]], wide=[[], *HIDDEN], fast=(32,), other=(8,))
    dropout: float = setting(0.0, least=0, below=1, search=between(0.0, 0.5), other=0.5)
    id_dropout: float = setting(0.1, least=0, below=1, search=between(0.0, 0.3), other=0.5)
    temperature: float = setting(0.2, least=0.001, search=between(0.05, 0.5, log=True), fast=0.1, other=0.5)
    log_q: float = setting(1.0, least=0, search=between(0.0, 1.0), wide=between(0.0, 1.5), other=0.0)
    learning_rate: float = setting(0.01, search=between(0.002, 0.03, log=True))
    weight_decay: float = setting(0.0, search=between(1e-8, 1e-4, log=True))
    batch_size: int = setting(512, search=[256, 512, 1024], wide=[256, 512, 1024, 2048, 4096], fast=32)

    @property
    def own_traits(self) -> Traits:
        """Bilinear without hidden layers."""
        return replace(self.traits, form="non-linear" if self.layers else "bilinear")

    def _build(self, train: Interactions) -> nn.Module:
        return DSSMNet(train, *self._sides(train), self)

    @staticmethod
    def _loss(module: nn.Module, *batch: Tensor) -> Tensor:
        assert isinstance(module, DSSMNet)
        users, items, _ = batch
        scaled = module.user_vectors(users, module.users.table[users]) / module.temperature
        return in_batch_softmax(scaled, module.item_vectors(items), items, module.log_q[items])

    @torch.no_grad()
    def score_encoded(self, user_vectors: Tensor) -> Tensor:
        """Return (B, I) cosines of (B, D) user vectors of length 1 with all films."""
        return user_vectors @ self.encode_items().T
