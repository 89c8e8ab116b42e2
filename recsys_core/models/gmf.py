"""Generalised matrix factorisation (He, Liao, Zhang, Nie, Hu & Chua 2017); see `pairs` for how it is trained.

    score(u, i) = w · (p_u ∘ q_i) + b                                                           (eq. 9)

It is the matrix factorisation of the paper, whose factors may count differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from recsys_core.interactions import Interactions
from recsys_core.models.pairs import PairNet, PairRecommender
from recsys_core.models.registry import recommender
from recsys_core.models.traits import Traits


class Product(PairNet):
    """GMF: the weighted sum of the products of two embeddings."""

    def __init__(self, n_users: int, n_items: int, embedding_dim: int, embedding_std: float) -> None:
        super().__init__(n_users, n_items, embedding_dim, (embedding_dim, 1), embedding_std)

    def halves(self, user_vectors: Tensor, item_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors themselves."""
        return user_vectors, item_vectors

    def join(self, user_half: Tensor, item_half: Tensor) -> Tensor:
        """Multiply factor by factor, and add up with the weights."""
        products, output = user_half * item_half, self.linear[0]
        return torch.addmm(output.bias[:, None], output.weight, products.flatten(1)).view(products.shape[1:])

    def score_all(self, users: Tensor) -> Tensor:
        """Return the (B, I) logits of every item, one matrix product."""
        output = self.linear[0]
        weighted = self.user_embedding.index_select(1, users) * output.weight.T
        return torch.addmm(output.bias, weighted.T, self.item_embedding)


@recommender("gmf", title="GMF", family="perceptron")
@dataclass(kw_only=True)
class GMF(PairRecommender):
    """Generalised matrix factorisation; the paper's main comparison has 8 to 64 factors."""

    traits: ClassVar[Traits] = Traits(form="bilinear", uses_ids=True, stochastic=True)

    def _build(self, train: Interactions) -> PairNet:
        return Product(train.n_users, train.n_items, self.embedding_dim, self.embedding_std)
