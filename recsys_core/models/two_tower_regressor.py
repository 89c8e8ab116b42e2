"""TwoTowerRegressor of report S0, two neural models on ML-100K: stars from attributes, without ids.

    rating = head([tower_u(x_u) ; tower_i(y_i)])        tower(x) = ReLU(BatchNorm(W x + b))

trained by mean squared error in stars with Adam. Stated: hidden_dim 512, user_dim 25, item_dim 20, learning rate 1e-4, weight
decay 1e-6, 25 epochs; validation loss 1.21 on held-out users. It knows a user by gender (2), occupation (21) and age only.
The 25th user column is not stated; it is taken to be the zip code, which is all that is left of the user table, as a number. Open
too are the batch size and the head, a single linear layer here: it adds what the user gives to what the film gives, so that all
users get the films in one order. Hidden layers in the head (`head_layers`) let the two meet.
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from torch import nn

from recsys_core.interactions import Interactions
from recsys_core.models.attribute_networks import RatingNetwork
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting
from recsys_core.models.traits import Traits
from recsys_core.models.two_tower import TwoTowerNet, tower_layer


@recommender("two_tower_regressor", title="Two-tower regressor", family="network for stars")
@dataclass(kw_only=True)
class TwoTowerRegressor(RatingNetwork):
    """S0's regressor of stars; users with the same attributes get the same answer.

    Flags stay 0/1, age, zip number and year are standardised. Raises StudyError for training rows without attributes.
    """

    traits: ClassVar[Traits] = Traits(
        form="non-linear", personalised=False, uses_features=True, stochastic=True, predicts_ratings=True
    )
    unread: ClassVar[tuple[str, ...]] = ("month",)
    numbers: ClassVar[tuple[str, ...] | None] = ("age", "zip", "year")

    epochs: int = setting(25, search=30, fast=5)
    hidden_dim: int = setting(512, least=1, search=[64, 128, 256, 512], other=16)
    head_layers: tuple[int, ...] = setting((), least=1, search=[[], [64], [128, 64]], other=(8,))
    learning_rate: float = setting(1e-4, search=between(0.0001, 0.01, log=True), fast=0.005)
    weight_decay: float = setting(1e-6, search=between(1e-7, 1e-3, log=True))
    batch_size: int = setting(256, search=[256, 1024, 4096])

    def _build(self, train: Interactions) -> nn.Module:
        build = partial(tower_layer, hidden_dim=self.hidden_dim)
        return TwoTowerNet(*self._sides(train), build, self.hidden_dim, self.head_layers)
