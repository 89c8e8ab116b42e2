"""Neighbourhood models: the biases' estimate, corrected by how similar users or items were rated beyond theirs.

    users:  r̂_ui = b_ui + Σ_v s_uv (r_vi - b_vi) / Σ_v s_uv        the k users v most similar to u of those who rated i
    items:  r̂_ui = b_ui + Σ_j s_ij (r_uj - b_uj) / Σ_j s_ij        the k items j most similar to i of those that u rated

(Koren 2010, eq. 3) with the biases b of `Bias` and, over the n ratings in common, the shrunk Pearson correlation of what these
leave (eq. 2), of which only positive values count:

    s = (n - 1) / (n - 1 + λ) · Σ x y / √(Σ x² · Σ y²)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recsys_core.models.centred import Centred, padded_rows
from recsys_core.models.registry import recommender

BLOCK_CELLS = 4_000_000  # numbers of a block of similarities: 16 MB of float32


def similarities(left: sparse.csr_matrix, right: sparse.csr_matrix, shrinkage: float, min_support: int) -> np.ndarray:
    """Shrunk correlations (L, R) of the rows of two matrices over the columns that both store.

    They are 0 where they would be negative, and where fewer than `min_support` columns are common.
    """
    ones, others = (sparse.csr_matrix((np.ones_like(m.data), m.indices, m.indptr), m.shape) for m in (left, right))
    pairs = ((ones, others), (left, right), (left.power(2), others), (ones, right.power(2)))
    n, products, left_squares, right_squares = ((y @ x.toarray().T).T for x, y in pairs)
    correlation = products / np.sqrt(np.maximum(left_squares * right_squares, 1e-12))
    trust = np.maximum(n - 1, 0) / np.maximum(n - 1 + shrinkage, 1)
    return np.where(n >= min_support, (correlation * trust).clip(0), 0)


@dataclass(kw_only=True)
class Neighbours(Centred):
    """What the two neighbourhood models share."""

    smallest: ClassVar[dict[str, float]] = {"n_neighbours": 1, "shrinkage": 0, "min_support": 1}

    n_neighbours: int = 40
    shrinkage: float = 100.0
    min_support: int = 1

    def _similarities(self, left: sparse.csr_matrix, right: sparse.csr_matrix) -> Tensor:
        """(L, R) similarities, computed by blocks of rows."""
        step = max(1, BLOCK_CELLS // max(right.shape))
        blocks = (left[first : first + step] for first in range(0, left.shape[0], step))
        parts = [similarities(block, right, self.shrinkage, self.min_support) for block in blocks]
        return torch.from_numpy(np.concatenate(parts)).contiguous()

    def _weighted_mean(
        self, similarity: Tensor, asked: np.ndarray, known: sparse.csr_matrix, rows: np.ndarray
    ) -> Tensor:
        """(N,) means of what `known` stores in `rows` (N,), weighted by the nearest columns' similarity to `asked` (N,)."""
        means = torch.empty(len(rows))
        for positions, columns, values, present in padded_rows(known, rows):
            cells = torch.from_numpy(asked[positions, None]) * similarity.shape[1] + columns
            weights = similarity.view(-1).take(cells) * present  # (B, W)
            if weights.shape[1] > self.n_neighbours:
                weights, nearest = weights.topk(self.n_neighbours, dim=1)
                values = values.gather(1, nearest)
            means[positions] = (weights * values).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
        return means


@recommender("item_knn", title="Item neighbours", family="neighbours")
@dataclass(kw_only=True)
class ItemKNN(Neighbours):
    """Similar items, with one dense (I, I) matrix of similarities.

    With the same settings a comparable library reaches a mean RMSE of .920 on the five folds of ML-100K.
    """

    learnt: ClassVar[dict[str, type]] = {"similarity": Tensor}

    def _learn(self, residuals: sparse.csr_matrix, seed: int) -> None:
        by_item = residuals.T.tocsr()
        self.similarity = self._similarities(by_item, by_item)

    def _corrections(self, users: np.ndarray, items: np.ndarray, residuals: sparse.csr_matrix) -> Tensor:
        return self._weighted_mean(self.similarity, items, residuals, users)


@recommender("user_knn", title="User neighbours", family="neighbours")
@dataclass(kw_only=True)
class UserKNN(Neighbours):
    """Similar users; their similarities to the training users are computed when a user is asked about, and not kept."""

    def _learn(self, residuals: sparse.csr_matrix, seed: int) -> None:
        """Nothing: the training rows are the model."""

    def _corrections(self, users: np.ndarray, items: np.ndarray, residuals: sparse.csr_matrix) -> Tensor:
        others = self.bias_.residuals(self.train_)
        by_item, corrections = others.T.tocsr(), torch.empty(len(users))
        asked, position = np.unique(users, return_inverse=True)
        step = max(1, BLOCK_CELLS // others.shape[0])
        for first in range(0, len(asked), step):
            mine = np.flatnonzero((first <= position) & (position < first + step))
            similarity = self._similarities(residuals[asked[first : first + step]], others)
            corrections[mine] = self._weighted_mean(similarity, position[mine] - first, by_item, items[mine])
        return corrections
