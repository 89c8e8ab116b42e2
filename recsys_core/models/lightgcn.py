"""LightGCN: factors averaged over the graph of who has seen what (He, Deng, Wang, Li, Zhang & Wang 2020).

    E⁽ᵏ⁺¹⁾ = Â E⁽ᵏ⁾,      E = (E⁽⁰⁾ + … + E⁽ᴷ⁾) / (K + 1),      score(u, i) = e_u · e_i           (eqs. 7, 8 and 5)
    loss = mean over pairs of  - log σ(score(u, i) - score(u, j)) + λ/2 (|e_u⁽⁰⁾|² + |e_i⁽⁰⁾|² + |e_j⁽⁰⁾|²)        (eq. 15)

A pair is a seen item i and an unseen one j, which is drawn anew for each epoch. A is the (U + I, U + I) matrix of ones between
users and the items that they have seen, D its row sums, Â = D^(-1/2) A D^(-1/2). E⁽⁰⁾ is all that is learnt: there are no
transforms and no activation, so that a score is bilinear. A new user has no row of E⁽⁰⁾ and is not folded in. Stars are not read.

The paper's settings: 64 dimensions, three layers, Adam at .001, batches of 1,024 pairs, λ = .0001, 1,000 epochs. Its recall@20 and
NDCG@20 are .183 and .155 on Gowalla, .065 and .053 on Yelp2018. In the table of Microsoft's Recommenders on ML-100K (a random
quarter of each item's ratings held out, 15 epochs) its NDCG@10 is .420.
As in the authors' code in torch, the penalty is that of the batch's rows, where the paper writes λ |E⁽⁰⁾|², and E⁽⁰⁾ is drawn from
a normal distribution with standard deviation .1, where the paper has Xavier's. Differs from both: each seen item comes once an
epoch instead of pairs drawn at random, and the epoch is chosen on validation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from recsys_core.interactions import Interactions
from recsys_core.losses import bayesian_personalised_ranking
from recsys_core.models.neural import NeuralRecommender
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting
from recsys_core.models.sparse import torch_csr
from recsys_core.models.traits import Traits
from recsys_core.sampling import Batches, PositivesAndNegatives


def normalised_graph(train: Interactions) -> sparse.csr_matrix:
    """Return Â, (U + I, U + I) float32, users before items; a row without edges is empty."""
    seen = train.binary
    edges = sparse.bmat([[None, seen], [seen.T, None]], format="csr")
    degrees = np.concatenate([train.user_counts, train.item_counts])
    scale = sparse.diags(1 / np.sqrt(np.maximum(degrees, 1)))
    return (scale @ edges @ scale).tocsr().astype(np.float32)


class Propagation(torch.autograd.Function):
    """Â E of a symmetric sparse Â, whose gradient is Â times that of the product: torch would transpose Â in every step."""

    @staticmethod
    def forward(ctx: Any, graph: Tensor, vectors: Tensor) -> Tensor:
        """Return the (N, D) products."""
        ctx.graph = graph
        return graph @ vectors

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        """Return the gradient of the (N, D) vectors."""
        return None, ctx.graph @ gradients[0]


class GraphFactors(nn.Module):
    """Vectors of D numbers of users and, behind them, of items; `graph` follows from the training rows and is not saved."""

    graph: Tensor

    def __init__(self, train: Interactions, embedding_dim: int, embedding_std: float, n_layers: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(train.n_users + train.n_items, embedding_dim)
        self.n_users, self.n_layers = train.n_users, n_layers
        self.register_buffer("graph", torch_csr(normalised_graph(train), self.vectors.weight.device), persistent=False)
        nn.init.normal_(self.vectors.weight, std=embedding_std)

    def propagated(self) -> Tensor:
        """Return the (U + I, D) means over all layers."""
        layers = [self.vectors.weight]
        with torch.autocast(self.graph.device.type, enabled=False):  # sparse products are not made for bfloat16
            for _ in range(self.n_layers):
                layers.append(Propagation.apply(self.graph, layers[-1]))
        return torch.stack(layers).mean(dim=0)

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Return (1 + n, P) scores of items (1 + n, P) for (P,) users, and ½ (|e_u|² + Σ |e_i|²) of layer 0, their mean over P."""
        means, rows = self.propagated(), torch.cat([users[None], self.n_users + items])  # (2 + n, P)
        mine, theirs = means[rows].split([1, len(items)])
        return torch.linalg.vecdot(mine, theirs), self.vectors(rows).square().sum() / (2 * len(users))

    def score_all(self, users: Tensor) -> Tensor:
        """Return (B, I) scores of every item for (B,) users."""
        means = self.propagated()
        return means[users] @ means[self.n_users :].T


@recommender("lightgcn", title="LightGCN", family="graph")
@dataclass(kw_only=True)
class LightGCN(NeuralRecommender):
    """LightGCN; `batch_size` counts positives and negatives, so that 2,048 are the paper's 1,024 pairs."""

    traits: ClassVar[Traits] = Traits(form="bilinear", uses_ids=True, stochastic=True)

    epochs: int = setting(1000, search=400, fast=30)
    patience: int | None = setting(None, search=20)
    embedding_dim: int = setting(64, least=1, search=[32, 64, 128], fast=8, other=4)
    n_layers: int = setting(3, least=0, search=between(1, 4), other=1)
    embedding_std: float = setting(0.1, least=0, search=between(0.01, 0.3, log=True), other=0.3)
    regularisation: float = setting(1e-4, least=0, search=between(1e-6, 0.1, log=True), other=0.1)
    learning_rate: float = setting(1e-3, search=between(0.0005, 0.03, log=True))
    batch_size: int = setting(2048, search=[4096, 8192, 16384], fast=256)
    n_negatives: int = setting(1, least=1, other=2)

    def _build(self, train: Interactions) -> nn.Module:
        return GraphFactors(train, self.embedding_dim, self.embedding_std, self.n_layers)

    def _batches(self, train: Interactions, device: torch.device) -> Batches:
        return PositivesAndNegatives(train, self.batch_size, self.n_negatives, device)

    def _loss(self, module: nn.Module, *batch: Tensor) -> Tensor:
        scores, squares = module(*batch)
        return bayesian_personalised_ranking(scores) + self.regularisation * squares

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return torch.as_tensor(self.module_.score_all(users.to(self.device_)))
