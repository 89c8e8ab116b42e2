"""Factorised personalised Markov chain: FPMC (Rendle, Freudenthaler & Schmidt-Thieme 2010).

    score(i | u, j) = v_u · v_i  +  w_j · w'_i              (eq. 8 of a basket that is one item; j is the last one of user u)

a matrix factorisation of users and items beside one of the transitions j → i. Learnt with the softmax over the catalogue of every
transition, as the other sequence models are, so that what differs from them is the model and not the loss. The paper learns S-BPR,
one drawn item against each that followed, by plain gradient descent; the softmax is no dearer here: 2 D numbers of 1,682 items.
Half of the score is the user's own, so that only users of training are answered, with the last item of their training rows.

On ML-1M a comparison with the catalogue ranked has HR@10 .230 and NDCG@10 .120 (LRURec's, with the softmax).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from recsys_core.interactions import Interactions
from recsys_core.models.neural import NeuralRecommender
from recsys_core.models.registry import recommender
from recsys_core.models.sequences import full_softmax, last_items, transitions
from recsys_core.models.settings import between, setting
from recsys_core.models.traits import Traits
from recsys_core.sampling import Batches, Rows


class FPMCNet(nn.Module):
    """Vectors of users, of items as the last one, and, in one table, of items as the next one for a user and after an item."""

    def __init__(self, n_users: int, n_items: int, embedding_dim: int, embedding_std: float) -> None:
        super().__init__()
        sizes = ((n_users, embedding_dim), (n_items, embedding_dim), (n_items, 2 * embedding_dim))
        self.users, self.last, self.following = (nn.Embedding(*size) for size in sizes)
        for table in (self.users, self.last, self.following):
            nn.init.normal_(table.weight, std=embedding_std)

    def forward(self, items: Tensor) -> Tensor:
        """Return the vectors w (…, D) of last items (…), which is all that hangs on the history."""
        return torch.as_tensor(self.last(items))

    def sides(self, users: Tensor, items: Tensor) -> Tensor:
        """Return [v_u ; w_j] (B, 2 D) of users (B,) and their last items (B,)."""
        return torch.cat([self.users(users), self(items)], dim=1)


@recommender("fpmc", title="FPMC", family="sequential")
@dataclass(kw_only=True)
class FPMC(NeuralRecommender):
    """FPMC with the full softmax; `batch_size` counts transitions, all of every history, and D is `embedding_dim`."""

    traits: ClassVar[Traits] = Traits(form="bilinear", sequential=True, uses_ids=True, stochastic=True)

    epochs: int = setting(30, search=60)
    patience: int | None = setting(None, search=5)
    batch_size: int = setting(1024, search=[512, 1024, 2048], fast=100)
    learning_rate: float = setting(1e-3, search=between(0.0005, 0.01, log=True), fast=0.02)
    weight_decay: float = setting(0.0, search=between(1e-7, 1e-4, log=True))
    embedding_dim: int = setting(32, least=1, search=[16, 32, 64], fast=8, other=4)
    embedding_std: float = setting(0.1, least=0, search=between(0.01, 0.3, log=True), other=0.5)

    def _build(self, train: Interactions) -> FPMCNet:
        return FPMCNet(train.n_users, train.n_items, self.embedding_dim, self.embedding_std)

    def _batches(self, train: Interactions, device: torch.device) -> Batches:
        return Rows(self.batch_size, *(torch.as_tensor(column, device=device) for column in transitions(train)))

    def _loss(self, module: Any, *batch: Tensor) -> Tensor:
        users, before, after = batch
        return full_softmax(module.sides(users, before), module.following.weight, after)

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        last = torch.as_tensor(last_items(history, users.cpu().numpy(), 1)[:, 0], device=self.device_)
        sides = self.module_.sides(users.to(self.device_), last)
        return torch.as_tensor(sides @ self.module_.following.weight.T)
