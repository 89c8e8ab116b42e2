"""Rating models that start from the biases and learn from what these leave."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recsys_core.interactions import Interactions
from recsys_core.models.base import FitTask, Recommender, Traits
from recsys_core.models.baselines import Bias

CELLS = 1_000_000  # padded numbers held at once


def padded_rows(matrix: sparse.csr_matrix, rows: np.ndarray) -> Iterator[tuple[np.ndarray, Tensor, Tensor, Tensor]]:
    """Yield rows of a sparse matrix as rectangles, so that many of them are computed with at once.

    Rows of similar length come together and are padded to a power of two, at most twice their length. Yields positions in `rows`
    (B,), and (B, W) column codes, values and marks of what is no padding (its column and value are 0).
    """
    starts, lengths = matrix.indptr[rows].astype(np.int64), np.diff(matrix.indptr)[rows]
    widths = 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64)
    for width in np.unique(widths):
        group, step = np.flatnonzero(widths == width), max(1, CELLS // width)
        for positions in np.split(group, range(step, len(group), step)):
            present = np.arange(width) < lengths[positions, None]
            cells = np.where(present, starts[positions, None] + np.arange(width), 0)
            columns = np.where(present, matrix.indices[cells], 0).astype(np.int64)
            values = np.where(present, matrix.data[cells], 0)
            yield positions, torch.from_numpy(columns), torch.from_numpy(values), torch.from_numpy(present)


class Centred(Recommender):
    """Adds a correction to the estimate of `Bias`, learnt from the residuals; both are computed from the user's history.

    The biases have their own default regularisation. Stars are clipped to the scale of the training rows, scores are not.
    """

    traits: ClassVar[Traits] = Traits(folds_in=True, predicts_ratings=True)

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
    def n_parameters(self) -> int:
        """The biases and what is stored besides."""
        return self.bias_.n_parameters + super().n_parameters
