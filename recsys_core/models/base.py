"""The contract that every recommender keeps, from popularity to the sequential models."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import torch
from torch import Tensor

from recsys_core.budget import rows_at_once
from recsys_core.errors import StudyError
from recsys_core.interactions import Features, Interactions
from recsys_core.models import registry, settings, storage
from recsys_core.models.traits import Traits
from recsys_core.train import History, Validation

N_SEEDS = 2**32  # those from 0 on, which generators of numpy and of torch take alike


# What is measured of a model on validation rows, given training rows, validation rows, and what is known of users new to training.
Judge: TypeAlias = Callable[["Recommender", Interactions, Interactions, Interactions | None], Validation]


@dataclass(frozen=True)
class FitTask:
    """What one call of `fit` was given."""

    train: Interactions
    validation: Interactions | None
    seed: int
    validation_history: Interactions | None
    checkpoint: Path | None
    stop_after: int | None = None
    judge: Judge | None = None

    def judged(self, model: "Recommender", rows: Interactions) -> Validation:
        """What the judge measures of a model on validation rows; StudyError where nobody judges."""
        if self.judge is None:
            raise StudyError("fit() has validation rows and nothing that judges by them: pass judge=judging.judge.")
        return self.judge(model, self.train, rows, self.validation_history)


def fingerprint(values: dict[str, Any]) -> str:
    """SHA-256 of JSON-friendly values, independent of the order of the keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=list).encode()).hexdigest()


class Recommender(ABC):
    """A recommender: hyperparameters are the fields of its dataclass, `fit` learns, `score` ranks, `predict` gives stars.

    A model implements `_fit`, `_scores` (and `_ratings` if it predicts ratings) and names what it has `learnt`; what a user may be
    and what is answered without a history is decided here, once. `registry.recommender` gives it its name, the title under which
    results show it, and its family.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    family: ClassVar[str] = ""
    traits: ClassVar[Traits]
    chooses: ClassVar[bool] = False  # whether validation rows choose something in `fit`, see `chosen`
    title_words: ClassVar[int] = 0  # words of film titles that a search of it adds to what is known of items
    beginning: ClassVar[int] = 1  # epochs (sweeps of a sampler) that show how training begins
    learnt: ClassVar[dict[str, type]] = {}  # attributes that are saved: Tensor, np.ndarray or float
    train_: Interactions
    history_: History | None = None

    def __post_init__(self) -> None:
        """Refuse hyperparameters that their settings do not allow; lists, which is what files hold, become tuples."""
        settings.check(self)

    def fit(
        self,
        train: Interactions,
        validation: Interactions | None = None,
        seed: int = 0,
        validation_history: Interactions | None = None,
        checkpoint: Path | None = None,
        stop_after: int | None = None,
        judge: Judge | None = None,
    ) -> Self:
        """Learn from training rows; `validation` rows choose what some models leave open, such as the best epoch (see `chosen`).

        `judge(model, train, validation, validation_history)` says by which measure; `judging.judge` is the study's.
        `validation_history` is what is known of validation users who are not in training. Models that iterate keep their state in
        `checkpoint` and continue from it, and leave their training curve in `history_`. `stop_after` ends training after so many
        epochs (sweeps of a sampler) whatever the settings say, to look at how it begins. Returns itself. Raises StudyError for an
        empty training set, a seed outside 0 to 2³² - 1, and validation rows to choose by without a judge.
        """
        if not len(train):
            raise StudyError("The training set has no rows: nothing can be learnt from it.")
        if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not 0 <= seed < N_SEEDS:
            raise StudyError(f"seed={seed!r}: it must be a whole number from 0 to {N_SEEDS - 1}.")
        self.train_ = train
        self._fit(FitTask(train, validation, seed, validation_history, checkpoint, stop_after, judge))
        return self

    @torch.no_grad()
    def score(self, users: Tensor, history: Interactions | None = None, features: Features | None = None) -> Tensor:
        """Return (B, I) scores over the whole catalogue for (B,) user codes; higher is better.

        `history` holds what is known of these users (None: their training rows), `features` their attributes, one row a user. A
        user with an empty history is answered from the features by models that use them, else with the fallback (popularity).
        Raises StudyError for users unknown to training without a history, and for a history given to a model that cannot use it.
        """
        known = self._known(users, history)
        past = self.train_ if history is None else history
        if known.all():
            return self._scores(users, past)
        scores = self._cold_scores(users, features).clone()
        if known.any():
            scores[known] = self._scores(users[known], past).to(scores.device)
        return scores

    @torch.no_grad()
    def predict(
        self,
        users: Tensor,
        items: Tensor,
        history: Interactions | None = None,
        features: Features | None = None,
        times: Tensor | None = None,
    ) -> Tensor:
        """Return (N,) ratings in stars for (N,) pairs; `history` and `features` (a row a pair) as for `score`.

        `times` (N,) are when the ratings are given, in the unit of training; None is a time unknown, and models without
        `uses_times` ignore them. The fallback is the item's mean rating. Raises StudyError for models that do not predict ratings.
        """
        if not self.own_traits.predicts_ratings:
            raise StudyError(f"{type(self).__name__} ranks items and does not predict ratings: use score().")
        if not self.train_.explicit:
            fitted = f"{type(self).__name__} was fitted on {self.train_.no_opinions}"
            raise StudyError(f"{fitted}: rank with score(), or choose a model that ranks, one of {_ranking_models()}.")
        known = self._known(users, history)
        past = self.train_ if history is None else history
        if known.all():
            return self._ratings_at(users, items, past, times)
        ratings = self._cold_ratings(users, items, features).clone()
        if known.any():
            when = None if times is None else times[known]
            ratings[known] = self._ratings_at(users[known], items[known], past, when).to(ratings.device)
        return ratings

    @property
    def own_traits(self) -> Traits:
        """What this model can do: the traits of its class, unless they hang on its settings."""
        return type(self).traits

    @property
    def chaotic(self) -> bool:
        """Whether the rounding of another processor grows until other figures come out."""
        return False

    @property
    def rates(self) -> bool:
        """Whether `predict` gives stars: the model does, and its training ratings are opinions."""
        return self.own_traits.predicts_ratings and self.train_.explicit

    def fallback(self, users: Tensor, history: Interactions | None = None, features: Features | None = None) -> Tensor:
        """Mark (B,) the users whose answer is the fallback: no history, and no attributes that the model could use."""
        answered = self.own_traits.uses_features and features is not None
        return torch.zeros(len(users), dtype=torch.bool) if answered else ~self._known(users, history)

    def told_of(
        self, users: np.ndarray, seen: Interactions, history: Interactions | None
    ) -> tuple[Interactions | None, Features | None]:
        """What to pass as history and features when (B,) users are asked about whom `seen` knows, all of them or none.

        `history` is `seen` for held-out users, None for those of training, who need nothing where they have rows. A model that
        cannot fold in is told nothing of held-out users but that their history is empty, and answers with its fallback.
        """
        if history is None and seen.user_counts[users].all():
            return None, None
        told = seen if history is not None and self.own_traits.folds_in else seen.take(np.empty(0, np.int64))
        attributes = seen.user_features if self.own_traits.uses_features else None
        return told, None if attributes is None else attributes.take(users)

    def _known(self, users: Tensor, history: Interactions | None) -> Tensor:
        """Mark the users with a history; check that the users and the history may be asked about."""
        codes = users.cpu().numpy()
        past = self.train_ if history is None else history
        outside = codes[(codes < 0) | (codes >= past.n_users)]
        if outside.size:
            raise StudyError(f"User code {outside[0]} is outside the catalogue: allowed are 0 to {past.n_users - 1}.")
        if past.n_items != self.train_.n_items:
            sizes = f"The history's catalogue has {past.n_items} items, the model's {self.train_.n_items}"
            raise StudyError(f"{sizes}: encode both with one vocabulary.")
        known = past.user_counts[codes] > 0
        if history is None and not known.all():
            raise StudyError(f"User code {codes[~known][0]} has no training rows: pass history=, it may be empty.")
        if history is not None and known.any() and not self.own_traits.folds_in:
            problem = f"{type(self).__name__} cannot use the history of a user it was not trained on"
            raise StudyError(f"{problem}: pass an empty one, None for training users, or choose a model that folds in.")
        return torch.as_tensor(known, device=users.device)

    def _check_columns(self, features: Features) -> None:
        """Refuse attributes of new users that are not those of training."""
        expected = None if self.train_.user_features is None else self.train_.user_features.columns
        if features.columns != expected:
            raise StudyError(f"User features must have the columns of training, {expected}; got {features.columns}.")

    def _cold_scores(self, users: Tensor, features: Features | None) -> Tensor:
        """Scores of users without history: item popularity unless a model knows better."""
        counts = torch.as_tensor(self.train_.item_counts, dtype=torch.float32, device=users.device)
        return counts.expand(len(users), -1)

    def _cold_ratings(self, users: Tensor, items: Tensor, features: Features | None) -> Tensor:
        """Ratings for users without history: the item's training mean, the global mean for items never rated."""
        total = np.bincount(self.train_.items, weights=self.train_.ratings, minlength=self.train_.n_items)
        counts = self.train_.item_counts
        means = np.where(counts > 0, total / np.maximum(counts, 1), self.train_.ratings.mean())
        return torch.as_tensor(means, dtype=torch.float32)[items.cpu()].to(users.device)

    @abstractmethod
    def _fit(self, task: FitTask) -> None:
        """Learn from the task's rows."""

    @abstractmethod
    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        """(B, I) scores of users who all have rows in `history`."""

    def _ratings(self, users: Tensor, items: Tensor, history: Interactions) -> Tensor:
        """(N,) ratings in stars: the pairs' scores, clipped to the scale of training, unless a model has a shorter way."""
        asked, position = users.cpu().unique(return_inverse=True)
        stars, step = torch.empty(len(users)), rows_at_once(history.n_items)
        for first in range(0, len(asked), step):
            mine = position // step == first // step
            scores = self._scores(asked[first : first + step], history).cpu()
            stars[mine] = scores[position[mine] - first, items.cpu()[mine]]
        return self._clipped(stars).to(users.device)

    def _clipped(self, stars: Tensor) -> Tensor:
        """Stars within the scale of the training rows."""
        return stars.clamp(float(self.train_.ratings.min()), float(self.train_.ratings.max()))

    def _ratings_at(self, users: Tensor, items: Tensor, history: Interactions, times: Tensor | None) -> Tensor:
        """(N,) ratings in stars, given at (N,) `times`: those of any time, unless a model knows better."""
        return self._ratings(users, items, history)

    def _state(self) -> dict[str, Tensor]:
        """What was learnt, by name."""
        values = {name: getattr(self, name) for name in self.learnt}
        return {name: torch.as_tensor(v if isinstance(v, Tensor) else np.asarray(v)) for name, v in values.items()}

    def _restore(self, state: dict[str, Tensor]) -> None:
        """Set what `_state` gave, with `train_` already in place."""
        for name, kind in self.learnt.items():
            setattr(self, name, _from_tensor(state[name], kind))

    @property
    def n_parameters(self) -> int | None:
        """Learnt numbers; None where the training rows are the model."""
        return sum(tensor.numel() for tensor in self._state().values())

    @property
    def chosen(self) -> dict[str, Any]:
        """Settings that the validation rows of `fit` chose, to refit with on more rows; none for most models."""
        return {}

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """The fields of the model's dataclass."""
        return asdict(self)  # type: ignore[call-overload]

    def save(self, path: Path) -> None:
        """Write the model to `path`, see `storage`; StudyError where that fails, and then nothing is left of it."""
        storage.save(self, path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a model that `save` wrote; its scores equal the saved model's bit for bit.

        Raises StudyError for a missing, damaged or foreign file, another format version and another kind of model.
        """
        return storage.load(cls, path)


def _ranking_models() -> str:
    return ", ".join(registry.names_with(predicts_ratings=False))


def _from_tensor(saved: Tensor, kind: type) -> Tensor | np.ndarray | float:
    """What was saved as a tensor, as the `kind` that a model holds: a tensor, an array or a number."""
    if kind is float:
        return float(saved)
    return saved.detach() if kind is Tensor else saved.numpy()
