"""A user as the mean of the films that they have seen, in the space of a network that has vectors for films.

    score(u, i) = cos(Σ_{j seen by u} v_j, v_i)

v are the `item_vectors`, of length 1, of a network such as DSSM or the joint embedding of report S0. The network knows its own
users alone; their mean answers for any history. A study of whether vectors that a network has learnt are worth searching: no paper
has figures.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_core.errors import StudyError, refuse_unknown
from recsys_core.interactions import Interactions
from recsys_core.models.attribute_networks import VectorNetwork
from recsys_core.models.base import FitTask, Recommender
from recsys_core.models.registry import MODELS, recommender
from recsys_core.models.settings import setting
from recsys_core.models.traits import Traits


@recommender("vector_profile", title="Vector profile", family="two towers")
@dataclass(kw_only=True)
class VectorProfile(Recommender):
    """Ranks by the cosine with the mean vector of the films in the user's history, so that any history can be folded in.

    `network` is an unfitted VectorNetwork, or the name and the settings of one, and is fitted on the same rows. Raises StudyError
    for the name of any other model.
    """

    traits: ClassVar[Traits] = Traits(form="linear", stochastic=True, folds_in=True)
    learnt: ClassVar[dict[str, type]] = {"vectors_": Tensor}

    network: VectorNetwork | dict[str, dict[str, Any]] = setting(
        {"dssm": {}},
        fast={"dssm": {"epochs": 6, "batch_size": 32, "embedding_dim": 16, "layers": (32,), "device": "cpu"}},
        other={"dssm": {"epochs": 2, "embedding_dim": 8, "device": "cpu"}},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.network, dict):
            self.network = named_network(self.network)

    @property
    def own_traits(self) -> Traits:
        """Linear in the history, unless the films' vectors come out of hidden layers."""
        assert isinstance(self.network, VectorNetwork)
        return replace(self.traits, form="non-linear" if self.network.own_traits.form == "non-linear" else "linear")

    @property
    def chaotic(self) -> bool:
        """Training the network is."""
        return True

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The network by its name and settings, which is what a file can hold."""
        assert isinstance(self.network, VectorNetwork)
        return {"network": {self.network.name: self.network.hyperparameters}}

    def _fit(self, task: FitTask) -> None:
        network = copy(self.network)
        assert isinstance(network, VectorNetwork)
        network.fit(task.train, seed=task.seed, stop_after=task.stop_after)
        self.vectors_, self.history_ = network.item_vectors().cpu(), network.history_

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        profile = torch.as_tensor(history.binary[users.cpu().numpy()] @ self.vectors_.numpy())
        return F.normalize(profile, dim=1) @ self.vectors_.T


def named_network(named: dict[str, dict[str, Any]]) -> VectorNetwork:
    """The unfitted network that its name and settings say; StudyError for a model without vectors to search."""
    networks = {name: kind for name, kind in MODELS.items() if issubclass(kind, VectorNetwork)}
    refuse_unknown("network", list(named), networks)
    if len(named) != 1:
        raise StudyError(f"network={named!r}: name one network and its settings.")
    name, settings = next(iter(named.items()))
    return networks[name](**settings)
