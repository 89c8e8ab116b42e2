"""Neural collaborative filtering with an MLP (He, Liao, Zhang, Nie, Hu & Chua 2017); see `pairs` for how it is trained.

    score(u, i) = w · φ(W_L … φ(W_1 [p_u ; q_i] + b_1) … + b_L) + b                             (eq. 10, φ = ReLU)

On the paper's ML-1M files the MLP of 3 layers and 8 factors reaches HR@10 .671 and NDCG@10 .399. Report S4, a Word document of a
student project, trains MLPs of 3, 4 and 6 hidden layers.
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
from recsys_core.models.pairs import PairNet, PairRecommender
from recsys_core.models.registry import recommender
from recsys_core.models.settings import setting
from recsys_core.models.traits import Traits

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu_, "tanh": torch.tanh, "sigmoid": torch.sigmoid}

# The three MLPs of S4 by their number of hidden layers; the widths of the third are worked out from its parameter table.
SIZES: dict[int, dict[str, Any]] = {
    3: {"embedding_dim": 8, "layers": (32, 16, 8)},
    4: {"embedding_dim": 16, "layers": (64, 32, 16, 8)},
    6: {"embedding_dim": 16, "layers": (96, 84, 72, 64, 32, 16)},
}


def layer_parameters(embedding_dim: int, layers: tuple[int, ...]) -> list[int]:
    """Weights and biases of each layer of the MLP, from the first hidden layer to the output."""
    widths = (2 * embedding_dim, *layers, 1)
    return [n_in * n_out + n_out for n_in, n_out in pairwise(widths)]


class Tower(PairNet):
    """The MLP. Its first layer is linear in [p_u ; q_i], so that its user half is computed once for all items of a user."""

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
        super().__init__(n_users, n_items, embedding_dim, (2 * embedding_dim, *layers, 1), embedding_std)
        self.activation = ACTIVATIONS[activation]

    def halves(self, user_vectors: Tensor, item_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The first layer before φ: its user half with the bias (H, P), its item half (H, N), of (D, P) and (D, N) vectors."""
        first = self.linear[0]
        user_weight, item_weight = first.weight.chunk(2, dim=1)
        return torch.addmm(first.bias[:, None], user_weight, user_vectors), item_weight @ item_vectors

    def join(self, user_half: Tensor, item_half: Tensor) -> Tensor:
        """Add up the (H, …) halves and climb the layers above to (…) logits."""
        hidden = item_half + user_half  # always before φ: W_1 x_0 + b_1 here
        shape = hidden.shape[1:]
        for layer in self.linear[1:]:
            hidden = self.activation(hidden).flatten(1)  # a view changed in place costs the backward pass copies
            hidden = torch.addmm(layer.bias[:, None], layer.weight, hidden)  # (next H, pairs)
        return hidden.view(shape)


@recommender("ncf", title="NCF", family="perceptron")
@dataclass(kw_only=True)
class NCF(PairRecommender):
    """The MLP of NCF; 3, 4 and 6 hidden layers are `NCF(**SIZES[3])` and so on.

    S4 states ReLU, 4 negatives and 20 epochs; its 3,496 steps over 7 M samples give batches of 2,048.
    """

    traits: ClassVar[Traits] = Traits(form="non-linear", uses_ids=True, stochastic=True)

    embedding_dim: int = setting(8, search=[8, 16, 32])
    layers: tuple[int, ...] = setting(
        (32, 16, 8), least=1, search=[[16, 8], [32, 16, 8], [64, 32, 16], [64, 32, 16, 8]], other=(32, 8)
    )
    activation: str = setting("relu", among=ACTIVATIONS, other="tanh")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.layers:
            raise StudyError("layers=(): give the width of at least one hidden layer.")

    def _build(self, train: Interactions) -> nn.Module:
        return Tower(train.n_users, train.n_items, self.embedding_dim, self.layers, self.activation, self.embedding_std)
