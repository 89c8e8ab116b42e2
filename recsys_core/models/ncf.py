"""Neural collaborative filtering: a multi-layer perceptron on a user and an item embedding (He, Liao, Zhang, Nie, Hu & Chua 2017).

    score(u, i) = w · φ(W_L … φ(W_1 [p_u ; q_i] + b_1) … + b_L) + b          (eq. 10, φ = ReLU)

trained with the log loss (eq. 7) on every observed pair and, each epoch anew, `n_negatives` unseen items per pair, by Adam.
Differs from the paper: towers and sizes are those of the seed report S4, without pre-training; the epoch is chosen on validation.
The paper's tower of 3 layers and 8 factors reaches HR@10 .671 and NDCG@10 .399 on its ML-1M files.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions
from recsys_core.losses import binary_cross_entropy
from recsys_core.models.base import Traits
from recsys_core.models.neural import NeuralRecommender
from recsys_core.sampling import Batches, PositivesAndNegatives

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}

# The three towers of S4 by their number of hidden layers; the widths of the third are worked out from its parameter table.
SIZES: dict[int, dict[str, Any]] = {
    3: {"embedding_dim": 8, "layers": (32, 16, 8)},
    4: {"embedding_dim": 16, "layers": (64, 32, 16, 8)},
    6: {"embedding_dim": 16, "layers": (96, 84, 72, 64, 32, 16)},
}

HIDDEN_CELLS = 1_000_000  # hidden units held at once while scoring everything: 4 MB stay in the processor's cache


class Tower(nn.Module):
    """Embeddings and perceptron; (B,) users and (B, M) items give (B, M) logits."""

    def __init__(
        self,
        n_users: int,
        n_items: int,
        embedding_dim: int,
        layers: tuple[int, ...],
        activation: str,
        embedding_std: float,
    ) -> None:
        super().__init__()
        self.user_embedding = nn.Embedding(n_users, embedding_dim)
        self.item_embedding = nn.Embedding(n_items, embedding_dim)
        self.first = nn.Linear(2 * embedding_dim, layers[0])
        steps: list[nn.Module] = [ACTIVATIONS[activation]()]
        for n_in, n_out in pairwise(layers):
            steps += [nn.Linear(n_in, n_out), ACTIVATIONS[activation]()]
        self.rest = nn.Sequential(*steps, nn.Linear(layers[-1], 1))
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=embedding_std)
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def halves(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """The first layer is linear in [p_u ; q_i]: return its user half (with bias) and its item half, (…, H) each."""
        user_weight, item_weight = self.first.weight.split(self.user_embedding.embedding_dim, dim=1)
        user_half = nn.functional.linear(self.user_embedding(users), user_weight, self.first.bias)
        return user_half, nn.functional.linear(self.item_embedding(items), item_weight)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the (B, M) logits of M items for each of B users."""
        user_half, item_half = self.halves(users, items)  # (B, H), (B, M, H)
        return self.rest(user_half[:, None, :] + item_half).squeeze(-1)  # (B, M)

    def score_all(self, users: Tensor) -> Tensor:
        """Return the (B, I) logits of every item, with the first layer computed once per user and once per item."""
        items = torch.arange(self.item_embedding.num_embeddings, device=users.device)
        user_half, item_half = self.halves(users, items)  # (B, H), (I, H)
        step = max(1, HIDDEN_CELLS // item_half.numel())
        return torch.cat([self.rest(part[:, None, :] + item_half).squeeze(-1) for part in user_half.split(step)])


@dataclass(kw_only=True)
class NCF(NeuralRecommender):
    """The perceptron of NCF; 3, 4 and 6 hidden layers are `NCF(**SIZES[3])` and so on.

    `batch_size` counts samples, positives and negatives. S4 states ReLU, 4 negatives and 20 epochs; its 3,496 steps over
    7 M samples give batches of 2,048.
    """

    traits: ClassVar[Traits] = Traits(uses_ids=True, stochastic=True)

    embedding_dim: int = 8
    layers: tuple[int, ...] = (32, 16, 8)
    activation: str = "relu"
    n_negatives: int = 4
    embedding_std: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self.layers = tuple(self.layers)
        if not self.layers or min(self.layers) < 1:
            raise StudyError(f"layers={self.layers}: give the width, at least 1, of each hidden layer.")
        if self.embedding_std < 0:
            raise StudyError(f"embedding_std={self.embedding_std}: it must be 0 or more.")
        if self.activation not in ACTIVATIONS:
            raise StudyError(f"activation={self.activation!r}: allowed are {', '.join(ACTIVATIONS)}.")

    def _build(self, train: Interactions) -> nn.Module:
        return Tower(train.n_users, train.n_items, self.embedding_dim, self.layers, self.activation, self.embedding_std)

    def _batches(self, train: Interactions, device: torch.device) -> Batches:
        return PositivesAndNegatives(train, self.batch_size, self.n_negatives, device)

    @staticmethod
    def _loss(module: nn.Module, *batch: Tensor) -> Tensor:
        users, items = batch
        return binary_cross_entropy(module(users, items))

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        assert isinstance(self.module_, Tower)
        return self.module_.score_all(users.to(self.device_))
