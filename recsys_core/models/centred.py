"""Rating models that start from the biases and learn from what these leave."""

from abc import abstractmethod

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recsys_core.interactions import Interactions
from recsys_core.models.base import FitTask, Recommender
from recsys_core.models.baselines import Bias


class Centred(Recommender):
    """Adds a correction to the estimate of `Bias`, learnt from the residuals; both are computed from the user's history.

    The biases have their own default regularisation. Stars are clipped to the scale of the training rows, scores are not.
    """

    def _fit(self, task: FitTask) -> None:
        self.bias_ = Bias().fit(task.train)
        self._learn(self.bias_.residuals(task.train), task.seed)

    @abstractmethod
    def _learn(self, residuals: sparse.csr_matrix, seed: int) -> None:
        """Learn from the (U, I) residuals of the training rows."""

    @abstractmethod
    def _corrections(self, users: np.ndarray, items: np.ndarray, residuals: sparse.csr_matrix) -> Tensor:
        """(N,) stars to add for (N,) pairs, whose users are known by the rows of `residuals`."""

    def _estimates(self, users: np.ndarray, items: np.ndarray, history: Interactions) -> Tensor:
        """(N,) stars of (N,) pairs, not clipped."""
        corrections = self._corrections(users, items, self.bias_.residuals(history))
        return torch.as_tensor(self.bias_.baseline(users, items, history), dtype=torch.float32) + corrections

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        codes, n_items = users.cpu().numpy(), history.n_items
        pairs = codes.repeat(n_items), np.tile(np.arange(n_items), len(codes))
        return self._estimates(*pairs, history).view(len(codes), n_items)

    def _ratings(self, users: Tensor, items: Tensor, history: Interactions) -> Tensor:
        stars = self._estimates(users.cpu().numpy(), items.cpu().numpy(), history)
        return stars.clamp(self.bias_.low, self.bias_.high)

    def _restore(self, state: dict[str, Tensor]) -> None:
        super()._restore(state)
        self.bias_ = Bias().fit(self.train_)

    @property
    def n_parameters(self) -> int | None:
        """The biases and what is stored besides."""
        return self.bias_.n_parameters + sum(tensor.numel() for tensor in self._state().values())
