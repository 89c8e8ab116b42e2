"""The contract that every recommender keeps, from popularity to the sequential models."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass
from inspect import isabstract
from pathlib import Path
from textwrap import shorten
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from recsys_core.errors import StudyError, at_least
from recsys_core.interactions import Features, Interactions
from recsys_core.models import storage
from recsys_core.train import History

FORMAT_VERSION = 3
MOST_SEEDS = 2**32  # that every generator takes
USERS_AT_ONCE = 1024  # whose scores are held while ratings are read off them
TAKEN_UP: dict[type, Callable[[Tensor], Any]] = {Tensor: Tensor.detach, np.ndarray: Tensor.numpy, float: float}


@dataclass(frozen=True)
class Traits:
    """What a model can do; the contract suite checks what the traits promise.

    `folds_in`: scores a user from a history it was not trained on. `uses_features`: answers for a user without history from their
    attributes. `uses_times`: a rating depends on when it is given. `stochastic`: another seed gives another model.
    `sequential`: the order of the history matters.
    """

    personalised: bool = True
    uses_ids: bool = False
    uses_features: bool = False
    uses_times: bool = False
    sequential: bool = False
    stochastic: bool = False
    folds_in: bool = False
    predicts_ratings: bool = False


@dataclass(frozen=True)
class FitTask:
    """What one call of `fit` was given."""

    train: Interactions
    validation: Interactions | None
    seed: int
    validation_history: Interactions | None
    checkpoint: Path | None
    stop_after: int | None = None


def fingerprint(settings: dict[str, Any]) -> str:
    """SHA-256 of JSON-friendly settings, independent of the order of the keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=list).encode()).hexdigest()


class Recommender(ABC):
    """A recommender: hyperparameters are the fields of its dataclass, `fit` learns, `score` ranks, `predict` gives stars.

    A model implements `_fit`, `_scores` (and `_ratings` if it predicts ratings) and names what it has `learnt`; what a user may be
    and what is answered without a history is decided here, once.
    """

    traits: ClassVar[Traits]
    chooses: ClassVar[bool] = False  # whether validation rows choose something in `fit`, see `chosen`
    chaotic: ClassVar[bool] = False  # whether the rounding of another processor grows until other figures come out
    beginning: ClassVar[int] = 1  # epochs (sweeps of a sampler) that show how training begins
    # The least values of hyperparameters, beside those that the parents of a model state.
    smallest: ClassVar[dict[str, float]] = {}
    unbounded: ClassVar[tuple[str, ...]] = ()  # hyperparameters that may be infinite
    learnt: ClassVar[dict[str, type]] = {}  # attributes that are saved: Tensor, np.ndarray or float
    train_: Interactions
    history_: History | None = None

    def __post_init__(self) -> None:
        """Refuse hyperparameters that are too small or not finite; lists, which is what files hold, become tuples."""
        for name, value in self.hyperparameters.items():
            if isinstance(value, list):
                setattr(self, name, tuple(value))
            allowed = name in self.unbounded and value == np.inf
            if isinstance(value, float) and not (np.isfinite(value) or allowed):
                raise StudyError(f"{name}={value}: it must be a finite number.")
        for kind in type(self).__mro__:
            at_least(self, **vars(kind).get("smallest", {}))

    def fit(
        self,
        train: Interactions,
        validation: Interactions | None = None,
        seed: int = 0,
        validation_history: Interactions | None = None,
        checkpoint: Path | None = None,
        stop_after: int | None = None,
    ) -> Self:
        """Learn from training rows; `validation` rows choose the best epoch of models that iterate.

        `validation_history` is what is known of validation users who are not in training. Models that iterate keep their state in
        `checkpoint` and continue from it, and leave their training curve in `history_`. `stop_after` ends training after so many
        epochs (sweeps of a sampler) whatever the settings say, to look at how it begins. Returns itself. Raises StudyError for an
        empty training set and for a seed that some generator does not take.
        """
        if not len(train):
            raise StudyError("The training set has no rows: nothing can be learnt from it.")
        if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not 0 <= seed < MOST_SEEDS:
            raise StudyError(f"seed={seed!r}: it must be a whole number from 0 to {MOST_SEEDS - 1}.")
        self.train_ = train
        self._fit(FitTask(train, validation, seed, validation_history, checkpoint, stop_after))
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
        if not self.traits.predicts_ratings:
            raise StudyError(f"{type(self).__name__} ranks items and does not predict ratings: use score().")
        if not self.train_.explicit:
            fitted = f"{type(self).__name__} was fitted on {self.train_.no_opinions}"
            raise StudyError(f"{fitted}: rank with score(), or choose a model that ranks, such as ease or ncf.")
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
    def rates(self) -> bool:
        """Whether `predict` gives stars: the model does, and its training ratings are opinions."""
        return self.traits.predicts_ratings and self.train_.explicit

    def fallback(self, users: Tensor, history: Interactions | None = None, features: Features | None = None) -> Tensor:
        """Mark (B,) the users whose answer is the fallback: no history, and no attributes that the model could use."""
        answered = self.traits.uses_features and features is not None
        return torch.zeros(len(users), dtype=torch.bool) if answered else ~self._known(users, history)

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
        if history is not None and known.any() and not self.traits.folds_in:
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
        stars = torch.empty(len(users))
        for first in range(0, len(asked), USERS_AT_ONCE):
            mine = position // USERS_AT_ONCE == first // USERS_AT_ONCE
            scores = self._scores(asked[first : first + USERS_AT_ONCE], history).cpu()
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
        """Take up what `_state` gave, with `train_` already in place."""
        for name, kind in self.learnt.items():
            setattr(self, name, TAKEN_UP[kind](state[name]))

    @property
    def n_parameters(self) -> int:
        """Learnt numbers."""
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
        rows, columns = storage.rows_of(self.train_)
        arrays = {f"train.{name}": array for name, array in rows.items()}
        arrays |= {f"model.{name}": tensor.detach().cpu().numpy() for name, tensor in self._state().items()}
        header = {
            "format_version": FORMAT_VERSION,
            "model": type(self).__name__,
            "hyperparameters": self.hyperparameters,
            "n_users": self.train_.n_users,
            "n_items": self.train_.n_items,
            "columns": columns,
        }
        storage.write(path, header, arrays)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a model that `save` wrote; its scores equal the saved model's bit for bit.

        Raises StudyError for a missing, damaged or foreign file, another format version and another kind of model.
        """
        header, arrays = storage.read(path, FORMAT_VERSION)
        found = {kind.__name__: kind for kind in _subclasses(Recommender)}.get(str(header.get("model")))
        if found is None or isabstract(found):
            raise StudyError(
                f"{path} holds a model {header.get('model')!r}, which is unknown here: save one with .save(path)."
            )
        if not issubclass(found, cls):
            raise StudyError(f"{path} holds a {found.__name__}, not a {cls.__name__}: load it with its own class.")
        try:
            return found._from_file(header, arrays)
        except Exception as error:  # whatever a model trips over in a file that somebody else has made
            why = shorten(str(error), 300).rstrip(".")
            raise StudyError(
                f"{path} holds a {found.__name__} that cannot be used ({why}): delete it, fit the model and save it again."
            ) from error

    @classmethod
    def _from_file(cls, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Self:
        """The model that a file holds, once it has answered for two users; any error means that the file is no such model."""
        storage.check_header(header)
        storage.check_hyperparameters(cls, header["hyperparameters"])
        model = cls(**header["hyperparameters"])
        parts = {
            part: {name.removeprefix(part): array for name, array in arrays.items() if name.startswith(part)}
            for part in ("train.", "model.")
        }
        model.train_ = storage.train_rows(header, parts["train."])
        state = {name: torch.from_numpy(array) for name, array in parts["model."].items()}
        if strange := [name for name, tensor in state.items() if tensor.is_complex()]:
            raise ValueError(f"its {strange[0]} holds complex numbers")
        model._restore(state)
        saved = {name: tensor.shape for name, tensor in model._state().items()}
        if len(saved) + len(parts["train."]) != len(arrays) or saved != {name: t.shape for name, t in state.items()}:
            raise ValueError(f"its arrays are {', '.join(sorted(arrays))}")
        asked = torch.as_tensor([model.train_.users.min(), model.train_.users.max()])
        if (shape := tuple(model.score(asked).shape)) != (2, model.train_.n_items):
            raise ValueError(f"its scores of two users have the shape {shape}")
        return model


def _subclasses(kind: type) -> list[type]:
    direct: list[type] = kind.__subclasses__()
    return direct + [child for parent in direct for child in _subclasses(parent)]
