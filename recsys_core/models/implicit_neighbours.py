"""Neighbourhood models for ranking: what the nearest items or users have in common with a user, whatever the stars.

    items:  score(u, i) = Σ_j s_ij        over the items j that u has seen, of the k items most similar to i
    users:  score(u, i) = Σ_v s_uv        over the users v who have seen i, of the k users most similar to u

with the shrunk cosine of two binary rows that have n_a and n_b ones, n_ab of them in common, s_ab = n_ab / (√(n_a n_b) + λ).
Without shrinkage (λ = 0) this is the cosine of Deshpande & Karypis 2004, who keep k neighbours in the same way; λ keeps rows with
few ones from being near to each other by chance. All rows that are as similar as the k-th are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recsys_core.interactions import Interactions
from recsys_core.models.base import FitTask, Recommender, Traits
from recsys_core.models.neighbours import BLOCK_CELLS
from recsys_core.models.registry import recommender


@dataclass(kw_only=True)
class ImplicitNeighbours(Recommender):
    """What the two neighbourhood models share. The defaults are those of a comparable library."""

    traits: ClassVar[Traits] = Traits(folds_in=True)
    smallest: ClassVar[dict[str, float]] = {"n_neighbours": 1, "shrinkage": 0}

    n_neighbours: int = 100
    shrinkage: float = 0.0

    def _fit(self, task: FitTask) -> None:
        self._restore({})

    def _restore(self, state: dict[str, Tensor]) -> None:
        """Compute what is kept from the training rows, which are the model."""

    @property
    def n_parameters(self) -> int:
        """Training rows."""
        return len(self.train_)

    def _nearest(
        self, left: sparse.csr_matrix, right: sparse.csr_matrix, themselves: bool = False
    ) -> sparse.csr_matrix:
        """(L, R) similarities of the k rows of `right` nearest to each row of `left`; `themselves`: both are the same rows."""
        blocks, step, sizes = [], max(1, BLOCK_CELLS // right.shape[0]), np.diff(right.indptr).astype(np.float64)
        for first in range(0, left.shape[0], step):
            block = left[first : first + step]
            norms = np.sqrt(np.diff(block.indptr)[:, None] * sizes)
            similarity = (block @ right.T).toarray() / np.maximum(norms + self.shrinkage, 1e-9)
            if themselves:
                similarity[np.arange(block.shape[0]), first + np.arange(block.shape[0])] = 0
            k = min(self.n_neighbours, right.shape[0])
            least = np.partition(similarity, -k, axis=1)[:, [-k]]
            blocks.append(sparse.csr_matrix(np.where(similarity >= least, similarity, 0).astype(np.float32)))
        return sparse.vstack(blocks, "csr")


@recommender("implicit_item_knn", title="Item kNN", family="neighbours")
@dataclass(kw_only=True)
class ImplicitItemKNN(ImplicitNeighbours):
    """Similar items; no item is its own neighbour. On a random 80/10/10 split of ML-100K RecBole's reaches NDCG@10 .283."""

    def _restore(self, state: dict[str, Tensor]) -> None:
        by_item = self.train_.binary.T.tocsr()
        self.similarity = self._nearest(by_item, by_item, themselves=True)

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return torch.from_numpy((history.binary[users.cpu().numpy()] @ self.similarity.T).toarray())


@recommender("implicit_user_knn", title="User kNN", family="neighbours")
@dataclass(kw_only=True)
class ImplicitUserKNN(ImplicitNeighbours):
    """Similar training users, looked for when a user is asked about.

    A training user is among the nearest to themself, which adds to the scores of items alone that they have seen.
    """

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        nearest = self._nearest(history.binary[users.cpu().numpy()], self.train_.binary)
        return torch.from_numpy((nearest @ self.train_.binary).toarray())
