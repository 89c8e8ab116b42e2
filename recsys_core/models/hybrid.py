"""The weighted hybrid (Burke 2002): stars of several models, added up with weights that validation rows choose.

    r̂_ui = μ + Σ_m w_m (r̂_ui^m - μ),   w = argmin_{w ≥ 0} Σ_validation (r_ui - r̂_ui)²

As in the blends of the Netflix Prize (Töscher, Jahrer & Bell 2009) the members learn from the training rows and the weights from
validation rows; then the members learn again from both, and the weights stay. They need not add up to 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor

from recsys_core import evaluate, models
from recsys_core.errors import StudyError, choose
from recsys_core.interactions import Interactions
from recsys_core.models.base import FitTask, Recommender, Traits


@dataclass(kw_only=True)
class WeightedHybrid(Recommender):
    """`members` are names of `MODELS` that predict ratings, with their settings; `weights` None are chosen on validation rows.

    Scores are the same weighted stars. Fitted without validation rows and without weights, all members count the same.
    """

    traits: ClassVar[Traits] = Traits(uses_ids=True, uses_times=True, stochastic=True, predicts_ratings=True)

    chooses: ClassVar[bool] = True

    members: dict[str, dict[str, Any]] = field(default_factory=lambda: {"bayesian_fm": {}, "item_autorec": {}})
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        ratings = [name for name, kind in models.MODELS.items() if kind.traits.predicts_ratings]
        choose("members", list(self.members), ratings)
        self.weights = None if self.weights is None else tuple(self.weights)
        if self.weights is not None and (len(self.weights) != len(self.members) or min(self.weights) < 0):
            raise StudyError(f"weights={self.weights}: give one of 0 or more to each of {', '.join(self.members)}.")

    def _build(self) -> dict[str, Recommender]:
        return {name: models.MODELS[name](**settings) for name, settings in self.members.items()}

    def _fit(self, task: FitTask) -> None:
        train, validation, seed, history = task.train, task.validation, task.seed, task.validation_history
        self.mean, self.members_ = float(train.ratings.mean()), self._build()
        for member in self.members_.values():
            member.fit(train, validation, seed, history)
        weights = np.full(len(self.members), 1 / len(self.members)) if self.weights is None else self.weights
        if self.weights is None and validation is not None:
            rated = [evaluate.rate(member, train, validation, history) for member in self.members_.values()]
            deviations = np.column_stack([table["predicted"] - self.mean for table in rated])
            weights = nnls(deviations, validation.ratings - self.mean)[0]
        self.weights_ = torch.tensor(weights, dtype=torch.float64)

    @property
    def chosen(self) -> dict[str, Any]:
        """The weights, and what validation rows chose for the members."""
        members = {name: settings | self.members_[name].chosen for name, settings in self.members.items()}
        return {"members": members, "weights": tuple(self.weights_.tolist())}

    def _blend(self, stars: list[Tensor]) -> Tensor:
        """Add up the members' stars, all of one shape."""
        deviations = torch.stack([each.cpu().double() - self.mean for each in stars], dim=-1)
        return (self.mean + deviations @ self.weights_).float()

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return self._blend([member.score(users) for member in self.members_.values()])

    def _ratings_at(self, users: Tensor, items: Tensor, history: Interactions, times: Tensor | None) -> Tensor:
        stars = self._blend([member.predict(users, items, times=times) for member in self.members_.values()])
        return stars.clamp(float(self.train_.ratings.min()), float(self.train_.ratings.max()))

    def _state(self) -> dict[str, Tensor]:
        nested = {f"{name}.{key}": t for name, model in self.members_.items() for key, t in model._state().items()}
        return nested | {"weights": self.weights_}

    def _restore(self, state: dict[str, Tensor]) -> None:
        self.mean, self.members_, self.weights_ = float(self.train_.ratings.mean()), self._build(), state["weights"]
        for name, member in self.members_.items():
            start, member.train_ = f"{name}.", self.train_
            member._restore({key.removeprefix(start): t for key, t in state.items() if key.startswith(start)})

    @property
    def n_parameters(self) -> int:
        """Those of the members, and the weights."""
        return len(self.members) + sum(member.n_parameters for member in self.members_.values())
