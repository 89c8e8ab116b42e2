"""What all neural recommenders share: a module, batches, a loss, the loop, and a validation metric that picks the epoch."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from recsys_core.interactions import Interactions
from recsys_core.models.base import FitTask, Recommender, fingerprint
from recsys_core.models.settings import between, setting
from recsys_core.sampling import Batches, Rows
from recsys_core.train import Schedule, Validation, resolve_device, seeded, train


@dataclass(kw_only=True)
class NeuralRecommender(Recommender):
    """A recommender that is trained by the loop, to the epoch that is best by the judge that `fit` was given.

    Ranking whole catalogues after every epoch can cost more than the training: at most `validation_users` users are asked
    for it, evenly spaced over the user codes. After each epoch the learning rate is multiplied by `decay`.
    """

    chooses: ClassVar[bool] = True

    epochs: int = setting(20, least=1, search=60, other=3)
    batch_size: int = setting(2048, least=1, other=300)
    learning_rate: float = setting(1e-3, above=0, other=0.003)
    decay: float = setting(1.0, above=0, wide=between(0.7, 1.0), other=0.1)
    weight_decay: float = setting(0.0, least=0, other=0.1)
    patience: int | None = setting(None, least=1, search=3)
    device: str = "auto"
    precision: str = setting("auto", among=("auto", "float32", "bfloat16"), other="bfloat16")
    validation_users: int = setting(1000, least=1)

    @abstractmethod
    def _build(self, train: Interactions) -> nn.Module:
        """The untrained module for this catalogue."""

    def _batches(self, train: Interactions, device: torch.device) -> Batches:
        """The training batches, with their data on the device: (B,) users, items and ratings, unless a model needs others."""
        columns = (train.users, train.items, train.ratings)
        return Rows(self.batch_size, *(torch.as_tensor(column, device=device) for column in columns))

    @abstractmethod
    def _loss(self, module: nn.Module, *batch: Tensor) -> Tensor:
        """The loss of one batch, a scalar."""

    def _fit(self, task: FitTask) -> None:
        device = resolve_device(self.device)
        with seeded(task.seed, device) as generator:
            self.module_: Any = self._build(task.train).to(device)
            self.history_ = train(
                self.module_,
                self._batches(task.train, device),
                self._loss,
                self._schedule(task),
                generator,
                self._validation(task),
                task.checkpoint,
                title=f"{type(self).__name__}, seed {task.seed}",
                identity=self._identity(task),
            )

    def _schedule(self, task: FitTask) -> Schedule:
        epochs = self.epochs if task.stop_after is None else min(self.epochs, task.stop_after)
        return Schedule(epochs, self.learning_rate, self.weight_decay, self.patience, self.precision, self.decay)

    def _identity(self, task: FitTask) -> str:
        """Fingerprint of the training rows and of all settings but how long and where to train."""
        settings = {k: v for k, v in self.hyperparameters.items() if k not in ("epochs", "patience", "device")}
        return f"settings {fingerprint(settings)[:12]}, rows {task.train.sha256[:12]}"

    def _validation(self, task: FitTask) -> Validation | None:
        if task.validation is None:
            return None
        users = np.unique(task.validation.users)
        sample = users[np.linspace(0, len(users) - 1, min(len(users), self.validation_users)).astype(np.int64)]
        rows = task.validation.take(np.isin(task.validation.users, sample))
        return self._own_validation(rows) or task.judged(self, rows)

    def _own_validation(self, rows: Interactions) -> Validation | None:
        """What is measured on these validation rows after each epoch where a model's paper has a measure of its own."""
        return None

    @property
    def chaotic(self) -> bool:
        """Training is: it makes what differs in the seventh digit differ in the second."""
        return True

    @property
    def device_(self) -> torch.device:
        """Where the module lives."""
        return next(self.module_.parameters()).device

    @property
    def chosen(self) -> dict[str, Any]:
        """The best epoch, at which to stop."""
        assert self.history_ is not None
        return {"epochs": self.history_.best_epoch, "patience": None} if self.history_.best_epoch else {}

    def _state(self) -> dict[str, Tensor]:
        return self.module_.state_dict()

    @property
    def n_parameters(self) -> int:
        """Trainable parameters of the module."""
        return sum(parameter.numel() for parameter in self.module_.parameters() if parameter.requires_grad)

    def _restore(self, state: dict[str, Tensor]) -> None:
        with seeded(0, torch.device("cpu")):
            self.module_ = self._build(self.train_)
        self.module_.load_state_dict(state)
        self.module_.to(resolve_device(self.device)).eval()
