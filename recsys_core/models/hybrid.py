"""Hybrids of several models: weighted and switching (Burke 2002), for stars and for rankings.

    WeightedHybrid           r̂_ui = μ + Σ_m w_m (r̂_ui^m - μ),      w = argmin_{w ≥ 0} Σ_validation (r_ui - r̂_ui)²
    WeightedRankingHybrid    score(u, i) = (1 - w) z_ui^1 + w z_ui^2,   z the comparable scores of two members
    SwitchingHybrid          score(u, i) = score^1(u, i) if fewer than n items of u are known, else score^2(u, i)

As in the blends of the Netflix Prize (Töscher, Jahrer & Bell 2009) the members learn from the training rows and what is chosen, w
or n, from validation rows; then the members learn again from both, and the choice stays. The weights of stars need not add up
to 1; for rankings the choice is that of a few values at which validation NDCG@10 is highest, the first of equal ones.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recsys_core.errors import StudyError, refuse_unknown
from recsys_core.interactions import Features, Interactions
from recsys_core.models.base import FitTask, Recommender
from recsys_core.models.registry import MODELS, recommender
from recsys_core.models.settings import setting
from recsys_core.models.traits import FORMS, Form, Traits


@dataclass(kw_only=True)
class Hybrid(Recommender):
    """What hybrids share: `members` are names of `MODELS` with their settings, and one setting is chosen if it is None."""

    chooses: ClassVar[bool] = True
    choice: ClassVar[str]  # the name of the setting that is chosen

    members: dict[str, dict[str, Any]]

    @property
    def chaotic(self) -> bool:
        """Whether a member is."""
        return any(member.chaotic for member in self._build().values())

    @property
    def form(self) -> Form:
        """The last of the members' forms, from counts to non-linear."""
        return max((member.own_traits.form for member in self._build().values()), key=FORMS.index)

    def _build(self) -> dict[str, Recommender]:
        return {name: MODELS[name](**settings) for name, settings in self.members.items()}

    def _fit(self, task: FitTask) -> None:
        self.members_ = self._build()
        for member in self.members_.values():
            member.fit(
                task.train,
                task.validation,
                task.seed,
                task.validation_history,
                stop_after=task.stop_after,
                judge=task.judge,
            )
        stated = getattr(self, self.choice)
        self.choice_ = torch.as_tensor(np.asarray(self._choose(task) if stated is None else stated))

    @abstractmethod
    def _choose(self, task: FitTask) -> np.ndarray | float:
        """Return what the validation rows choose, or its default without such rows; the members are fitted."""

    @property
    def chosen(self) -> dict[str, Any]:
        """The choice, and what validation rows chose for the members."""
        members = {name: settings | self.members_[name].chosen for name, settings in self.members.items()}
        return {"members": members, self.choice: self.choice_.tolist()}

    def _state(self) -> dict[str, Tensor]:
        nested = {f"{name}.{key}": t for name, model in self.members_.items() for key, t in model._state().items()}
        return nested | {"choice": self.choice_}

    def _restore(self, state: dict[str, Tensor]) -> None:
        self.members_, self.choice_ = self._build(), state["choice"]
        for name, member in self.members_.items():
            start, member.train_ = f"{name}.", self.train_
            member._restore({key.removeprefix(start): t for key, t in state.items() if key.startswith(start)})

    @property
    def n_parameters(self) -> int | None:
        """Those of the members, and what was chosen; None where the training rows are one of the members."""
        counts = [member.n_parameters for member in self.members_.values()]
        known = [count for count in counts if count is not None]
        return self.choice_.numel() + sum(known) if len(known) == len(counts) else None


@recommender("weighted_hybrid", title="Weighted hybrid for stars", family="hybrid")
@dataclass(kw_only=True)
class WeightedHybrid(Hybrid):
    """Stars of `members` that predict ratings; `weights` None are chosen on validation rows.

    Scores are the same weighted stars. Fitted without validation rows and without weights, all members count the same.
    """

    traits: ClassVar[Traits] = Traits(
        form="non-linear", uses_ids=True, uses_times=True, stochastic=True, predicts_ratings=True
    )
    choice: ClassVar[str] = "weights"

    members: dict[str, dict[str, Any]] = setting(
        {"bayesian_fm": {}, "item_autorec": {}},
        fast={"bayesian_fm": {"n_burn_in": 5, "n_samples": 10, "session_s": 100}, "svd": {"epochs": 3}},
        other={"als": {}, "bias": {}},
    )
    weights: tuple[float, ...] | None = setting(None, least=0, other=(0.2, 0.7))

    def __post_init__(self) -> None:
        ratings = [name for name, kind in MODELS.items() if kind.traits.predicts_ratings]
        refuse_unknown("members", list(self.members), ratings)
        super().__post_init__()
        if self.weights is not None and len(self.weights) != len(self.members):
            raise StudyError(f"weights={self.weights}: give one of 0 or more to each of {', '.join(self.members)}.")

    @property
    def own_traits(self) -> Traits:
        """The form is that of these members."""
        return replace(self.traits, form=self.form)

    def _choose(self, task: FitTask) -> np.ndarray:
        from scipy.optimize import nnls  # loaded where weights are chosen, not wherever models are

        if task.validation is None:
            return np.full(len(self.members), 1 / len(self.members))
        stars = np.column_stack([_stars(member, task, task.validation) for member in self.members_.values()])
        mean = float(task.train.ratings.mean())
        return np.asarray(nnls(stars - mean, task.validation.ratings - mean)[0])

    def _blend(self, stars: list[Tensor]) -> Tensor:
        """Add up the members' stars, all of one shape."""
        mean = float(self.train_.ratings.mean())
        deviations = torch.stack([each.cpu().double() - mean for each in stars], dim=-1)
        return (mean + deviations @ self.choice_).float()

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return self._blend([member.score(users) for member in self.members_.values()])

    def _ratings_at(self, users: Tensor, items: Tensor, history: Interactions, times: Tensor | None) -> Tensor:
        stars = self._blend([member.predict(users, items, times=times) for member in self.members_.values()])
        return stars.clamp(float(self.train_.ratings.min()), float(self.train_.ratings.max()))


def _stars(member: Recommender, task: FitTask, rows: Interactions) -> np.ndarray:
    """(N,) stars of validation rows at their times, of users with a history and of those without one."""
    seen = task.train if task.validation_history is None else task.validation_history
    codes, items, times = (torch.as_tensor(column) for column in (rows.users, rows.items, rows.times))
    known, stars = torch.as_tensor(seen.user_counts[rows.users] > 0), torch.empty(len(rows))
    for group in (known, ~known):
        if group.any():
            users = codes[group]
            told, attributes = member.told_of(users.numpy(), seen, task.validation_history)
            stars[group] = member.predict(users, items[group], told, attributes, times[group]).cpu()
    return stars.double().numpy()


@dataclass(kw_only=True)
class RankingHybrid(Hybrid):
    """What the two hybrids for rankings share: two members, any of `MODELS`.

    `tried_` holds what validation measured (NDCG@10 in the study) for every value tried for what is chosen.
    """

    values: ClassVar[tuple[float, ...]]  # the first of them without validation rows
    must_fold_in: ClassVar[slice]  # the members without whom the hybrid does not

    def __post_init__(self) -> None:
        refuse_unknown("members", list(self.members), MODELS)
        super().__post_init__()
        if len(self.members) != 2:
            raise StudyError(f"members={list(self.members)}: name two different models.")
        if not 0 <= (getattr(self, self.choice) or 0) <= max(self.values):
            raise StudyError(f"{self.choice}={getattr(self, self.choice)}: allowed are 0 to {max(self.values)}.")

    @property
    def own_traits(self) -> Traits:
        """What the hybrid can do with these members."""
        kinds = [member.own_traits for member in self._build().values()]
        return Traits(
            form=self.form,
            stochastic=any(kind.stochastic for kind in kinds),
            folds_in=all(kind.folds_in for kind in kinds[self.must_fold_in]),
            uses_features=self.traits.uses_features and any(kind.uses_features for kind in kinds),
        )

    def _choose(self, task: FitTask) -> float:
        if task.validation is None:
            return self.values[0]
        validation = task.judged(self, task.validation)
        self.tried_: dict[float, float] = {}
        for value in self.values:
            self.choice_ = torch.tensor(value)
            self.tried_[value] = validation.measure()
        return max(self.tried_, key=self.tried_.__getitem__)


@recommender("weighted_ranking_hybrid", title="Weighted hybrid", family="hybrid")
@dataclass(kw_only=True)
class WeightedRankingHybrid(RankingHybrid):
    """Adds up the scores of two members, made comparable, with the `weight` of the second.

    A member's score is comparable as what it lies above the mean of the user's scores, in units of their standard deviation, both
    over what the user has not seen.
    """

    traits: ClassVar[Traits] = Traits(form="linear", folds_in=True)
    choice: ClassVar[str] = "weight"
    values: ClassVar[tuple[float, ...]] = (0.5, 0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0)
    must_fold_in: ClassVar[slice] = slice(None)

    members: dict[str, dict[str, Any]] = setting(
        {"ease": {}, "implicit_user_knn": {}},
        fast={"ease": {"regularisation": 1.0}, "implicit_user_knn": {}},
        other={"ease": {}, "implicit_item_knn": {}},
    )
    weight: float | None = setting(None, least=0, other=0.9)

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        told = None if history is self.train_ else history
        unseen = torch.from_numpy(history.binary[users.cpu().numpy()].toarray() == 0)
        first, second = (_standard(m.score(users, told).cpu().double(), unseen) for m in self.members_.values())
        return torch.lerp(first, second, float(self.choice_)).float()


def _standard(scores: Tensor, counted: Tensor) -> Tensor:
    """(B, I) scores less their row's mean and in units of its standard deviation, over those that are `counted`."""
    n = counted.sum(dim=1, keepdim=True).clamp(min=1)
    centred = scores - (scores * counted).sum(dim=1, keepdim=True) / n
    return centred / ((centred * counted).square().sum(dim=1, keepdim=True) / n).sqrt().clamp(min=1e-9)


@recommender("switching_hybrid", title="Switching hybrid", family="hybrid")
@dataclass(kw_only=True)
class SwitchingHybrid(RankingHybrid):
    """Asks the first member about users of whom fewer than `least_known` items are known, the second about all others.

    About held-out users with any history, a first member that cannot fold in is not asked.
    """

    traits: ClassVar[Traits] = Traits(form="linear", uses_features=True, folds_in=True)
    choice: ClassVar[str] = "least_known"
    values: ClassVar[tuple[float, ...]] = (1, 0, 10, 20, 30, 50, 100, 200, 500)
    must_fold_in: ClassVar[slice] = slice(1, None)

    members: dict[str, dict[str, Any]] = setting(
        {"demographic_popularity": {}, "ease": {}},
        fast={"demographic_popularity": {}, "ease": {"regularisation": 1.0}},
        other={"popularity": {}, "ease": {}},
    )
    least_known: int | None = setting(None, least=0, other=25)

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        told = None if history is self.train_ else history
        first, second = self.members_.values()
        few = torch.as_tensor(history.user_counts)[users.cpu()] < self.choice_
        if told is not None and not first.own_traits.folds_in:
            few[:] = False
        scores = torch.empty(len(users), history.n_items)
        for member, mine in ((first, few), (second, ~few)):
            if mine.any():
                scores[mine] = member.score(users[mine], told).float().cpu()
        return scores

    def _cold_scores(self, users: Tensor, features: Features | None) -> Tensor:
        first, second = self.members_.values()
        return (second if self.choice_ == 0 else first)._cold_scores(users, features)
