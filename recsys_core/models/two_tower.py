"""S0.1 TwoTowerRegressor: a tower on the user's attributes, one on the film's, and a regression head on both vectors.

    rating = head([tower_u(x_u) ; tower_i(y_i)])        tower(x) = ReLU(BatchNorm(W x + b))

trained by mean squared error in stars with Adam. Stated: hidden_dim 512, user_dim 25, item_dim 20, learning rate 1e-4, weight
decay 1e-6, 25 epochs; validation loss 1.21 on held-out users. No ids: it knows a user by gender (2), occupation (21) and age only.
The 25th user column is not stated; it is taken to be the zip code, which is all that is left of the user table, as a number. Open
too are the batch size and the head, a single linear layer here: it adds what the user gives to what the film gives, so that all
users get the films in one order. Hidden layers in the head (`head_layers`) let the two meet.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from recsys_core.interactions import Interactions
from recsys_core.models.attributes import AttributeNet, Attributes, RatingNetwork, perceptron
from recsys_core.models.base import Traits


def tower(n_inputs: int, hidden_dim: int) -> nn.Sequential:
    """One layer, as the report has it."""
    return nn.Sequential(nn.Linear(n_inputs, hidden_dim), nn.BatchNorm1d(hidden_dim), nn.ReLU())


class TwoTowerNet(AttributeNet):
    """(B, H) tower outputs of both sides, concatenated, through the head."""

    def __init__(self, users: Attributes, items: Attributes, hidden_dim: int, head_layers: tuple[int, ...]) -> None:
        super().__init__(users, items)
        self.user_tower = tower(users.table.shape[1], hidden_dim)
        self.item_tower = tower(items.table.shape[1], hidden_dim)
        self.head = perceptron(2 * hidden_dim, (*head_layers, 1))

    def user_vectors(self, users: Tensor, inputs: Tensor) -> Tensor:
        """Return (B, H) from the attributes alone."""
        return self.user_tower(inputs)

    def item_vectors(self, items: Tensor) -> Tensor:
        """Return (B, H) from the attributes alone."""
        return self.item_tower(self.items.table.index_select(0, items))

    def join(self, user_vectors: Tensor, item_vectors: Tensor) -> Tensor:
        """Return (B,) stars."""
        return self.head(torch.cat([user_vectors, item_vectors], dim=-1)).squeeze(-1)


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
        return TwoTowerNet(*self._sides(train), self.hidden_dim, self.head_layers)
