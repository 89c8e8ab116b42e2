"""The net of both models of report S0 on ML-100K: a tower for the user, one for the film, and a head that joins what they give."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from recsys_core.models.attribute_networks import AttributeNet
from recsys_core.models.attributes import Attributes
from recsys_core.models.layers import MLP


def tower_layer(n_inputs: int, hidden_dim: int) -> nn.Sequential:
    """One layer of a tower, as report S0 has it: (B, n_inputs) to (B, hidden_dim)."""
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
        self.head = MLP(2 * width, (*head_layers, 1), dropout)

    def user_vectors(self, users: Tensor, inputs: Tensor) -> Tensor:
        """Return (B, H) from the attributes alone."""
        return self.user_tower(inputs)

    def item_vectors(self, items: Tensor) -> Tensor:
        """Return (B, H) from the attributes alone."""
        return self.item_tower(self.items.table.index_select(0, items))

    def join(self, user_vectors: Tensor, item_vectors: Tensor) -> Tensor:
        """Return (B,) stars, or logits of "liked"."""
        return self.head(torch.cat([user_vectors, item_vectors], dim=-1)).squeeze(-1)
