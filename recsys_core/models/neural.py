"""What all neural recommenders share: a module, batches, a loss, the loop, and a validation metric that picks the epoch."""

import hashlib
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from recsys_core import evaluate
from recsys_core.errors import StudyError, at_least
from recsys_core.interactions import Interactions
from recsys_core.models.base import FitTask, Recommender, fingerprint
from recsys_core.sampling import Batches, Rows
from recsys_core.train import Schedule, Validation, resolve_device, seeded, train

# Names that have one meaning in all networks, where they have them.
COUNTS = (
    "batch_size",
    "embedding_dim",
    "hidden_dim",
    "joint_dim",
    "latent_dim",
    "n_annealing_steps",
    "n_negatives",
    "validation_users",
)
STRENGTHS = ("dropout", "embedding_std", "regularisation", "id_dropout", "beta", "gamma", "log_q", "positive_weight")


@dataclass(kw_only=True)
class NeuralRecommender(Recommender):
    """A recommender that is trained by the loop; ranking models are validated by NDCG@10, rating models by RMSE.

    Ranking whole catalogues after every epoch can cost more than the training: at most `validation_users` users are asked
    for it, evenly spaced over the user codes.
    """

    chooses: ClassVar[bool] = True
    chaotic: ClassVar[bool] = True
    smallest: ClassVar[dict[str, float]] = dict.fromkeys(COUNTS, 1.0) | dict.fromkeys(STRENGTHS, 0.0)

    epochs: int = 20
    batch_size: int = 2048
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    patience: int | None = None
    device: str = "auto"
    precision: str = "auto"
    validation_users: int = 1000

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, **{name: 1 for name in self.hyperparameters if name.endswith("layers")})
        for name in ("dropout", "id_dropout"):
            if (share := getattr(self, name, 0)) >= 1:
                raise StudyError(f"{name}={share}: it must be below 1.")

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
        epochs = self.epochs if task.stop_after is None else min(self.epochs, task.stop_after)
        schedule = Schedule(epochs, self.learning_rate, self.weight_decay, self.patience, self.precision)
        device = resolve_device(self.device)
        with seeded(task.seed, device) as generator:
            self.module_: Any = self._build(task.train).to(device)
            self.history_ = train(
                self.module_,
                self._batches(task.train, device),
                self._loss,
                schedule,
                generator,
                self._validation(task),
                task.checkpoint,
                title=f"{type(self).__name__}, seed {task.seed}",
                identity=self._identity(task),
            )

    def _identity(self, task: FitTask) -> str:
        """Fingerprint of the training rows and of all settings but how long and where to train."""
        settings = {k: v for k, v in self.hyperparameters.items() if k not in ("epochs", "patience", "device")}
        rows = hashlib.sha256(task.train.users.tobytes() + task.train.items.tobytes() + task.train.ratings.tobytes())
        return f"settings {fingerprint(settings)[:12]}, rows {rows.hexdigest()[:12]}"

    def _validation(self, task: FitTask) -> Validation | None:
        if task.validation is None:
            return None
        users = np.unique(task.validation.users)
        sample = users[np.linspace(0, len(users) - 1, min(len(users), self.validation_users)).astype(np.int64)]
        return self._judge(
            task.train, task.validation.take(np.isin(task.validation.users, sample)), task.validation_history
        )

    def _judge(self, train: Interactions, rows: Interactions, history: Interactions | None) -> Validation:
        """What is measured on these validation rows after each epoch."""
        if self.rates:
            return Validation("rmse", lambda: evaluate.rmse(evaluate.rate(self, train, rows, history)), False)
        ranking = evaluate.RankingTask(train, rows, history, cutoffs=(10,))
        return Validation("ndcg@10", lambda: evaluate.mean_ndcg(self, ranking), True)

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
        return sum(parameter.numel() for parameter in self.module_.parameters())

    def _restore(self, state: dict[str, Tensor]) -> None:
        with seeded(0, torch.device("cpu")):
            self.module_ = self._build(self.train_)
        self.module_.load_state_dict(state)
        self.module_.to(resolve_device(self.device)).eval()
