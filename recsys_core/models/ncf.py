"""Neural collaborative filtering: a multi-layer perceptron on a user and an item embedding (He, Liao, Zhang, Nie, Hu & Chua 2017).

    score(u, i) = w · φ(W_L … φ(W_1 [p_u ; q_i] + b_1) … + b_L) + b          (eq. 10, φ = ReLU)

trained with the log loss (eq. 7) on every observed pair and, each epoch anew, `n_negatives` unseen items per pair, by Adam.
Differs from the paper: towers and sizes are those of report S4, without pre-training; the epoch is chosen on validation.
The paper's tower of 3 layers and 8 factors reaches HR@10 .671 and NDCG@10 .399 on its ML-1M files.
"""

from __future__ import annotations

from collections.abc import Callable
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

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu_, "tanh": torch.tanh, "sigmoid": torch.sigmoid}

# The three towers of S4 by their number of hidden layers; the widths of the third are worked out from its parameter table.
SIZES: dict[int, dict[str, Any]] = {
    3: {"embedding_dim": 8, "layers": (32, 16, 8)},
    4: {"embedding_dim": 16, "layers": (64, 32, 16, 8)},
    6: {"embedding_dim": 16, "layers": (96, 84, 72, 64, 32, 16)},
}


def layer_parameters(embedding_dim: int, layers: tuple[int, ...]) -> list[int]:
    """Weights and biases of each layer of a tower, from the first hidden layer to the output."""
    widths = (2 * embedding_dim, *layers, 1)
    return [n_in * n_out + n_out for n_in, n_out in pairwise(widths)]


HIDDEN_CELLS = 1_000_000  # hidden units held at once while scoring everything: 4 MB stay in the processor's cache


class Tower(nn.Module):
    """Embeddings and perceptron; (P,) users and (M, P) items give (M, P) logits.

    Everything is kept features first, (D, rows): layers this narrow are several times faster so on a CPU, the gradient of the
    lookup above all. The first layer is linear in [p_u ; q_i], so that its user half is computed once for all M items.
    """

    activation: Callable[[Tensor], Tensor]

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
        self.user_embedding = nn.Parameter(torch.empty(embedding_dim, n_users))
        self.item_embedding = nn.Parameter(torch.empty(embedding_dim, n_items))
        widths = (2 * embedding_dim, *layers, 1)
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(widths))
        self.activation = ACTIVATIONS[activation]
        for embedding in (self.user_embedding, self.item_embedding):
            nn.init.normal_(embedding, std=embedding_std)
        for layer in self.linear:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def linear(self) -> list[nn.Linear]:
        """The layers, from the embeddings to the logit."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    def halves(self, user_vectors: Tensor, item_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The first layer's user half with its bias (H, …) and its item half (H, …), for (D, …) vectors."""
        first = self.linear[0]
        user_weight, item_weight = first.weight.chunk(2, dim=1)
        return torch.addmm(first.bias[:, None], user_weight, user_vectors), item_weight @ item_vectors

    def climb(self, hidden: Tensor) -> Tensor:
        """(N,) logits of (H, N) outputs of the first layer, before its activation."""
        for layer in self.linear[1:]:
            hidden = torch.addmm(layer.bias[:, None], layer.weight, self.activation(hidden))
        return hidden.squeeze(0)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the (M, P) logits of M items for each of P users."""
        user_half, item_half = self.halves(
            self.user_embedding.index_select(1, users), self.item_embedding.index_select(1, items.flatten())
        )
        hidden = item_half.view(-1, *items.shape) + user_half[:, None]  # (H, M, P)
        return self.climb(hidden.flatten(1)).view(items.shape)

    def score_all(self, users: Tensor) -> Tensor:
        """Return the (B, I) logits of every item; the first layer is computed once per user and once per item."""
        user_half, item_half = self.halves(self.user_embedding.index_select(1, users), self.item_embedding)
        step = max(1, HIDDEN_CELLS // item_half.numel())
        logits = []
        for part in user_half.split(step, dim=1):
            hidden = part[:, :, None] + item_half[:, None]  # (H, b, I)
            logits.append(self.climb(hidden.flatten(1)).view(hidden.shape[1:]))
        return torch.cat(logits)


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
        if not self.layers:
            raise StudyError("layers=(): give the width of at least one hidden layer.")
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
