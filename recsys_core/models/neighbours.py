"""Neighbourhood models, for stars and for rankings: how similar rows have been, and what the nearest of them say.

    stars       users   r̂_ui = b_ui + Σ_v s_uv (r_vi - b_vi) / Σ_v s_uv      the k users v most similar to u of those who rated i
                items   r̂_ui = b_ui + Σ_j s_ij (r_uj - b_uj) / Σ_j s_ij      the k items j most similar to i of those that u rated
    rankings    users   score(u, i) = Σ_v s_uv      the users v who have seen i, of the k users most similar to u
                items   score(u, i) = Σ_j s_ij      the items j that u has seen, of the k items most similar to i

What is similar and what is averaged differ. For stars (Koren 2010, eq. 3) a mean corrects the biases b of `Bias`, and s is the
shrunk Pearson correlation of what these leave, over the n ratings in common (eq. 2), of which only positive values count:

    s = (n - 1) / (n - 1 + λ) · Σ x y / √(Σ x² · Σ y²)

For rankings, whatever the stars, a sum does without biases, and s is the shrunk cosine of two binary rows that have n_a and n_b
ones, n_ab of them in common:

    s = n_ab / (√(n_a n_b) + λ)

Without shrinkage (λ = 0) this is the cosine of Deshpande & Karypis 2004, who keep k neighbours in the same way; λ keeps rows with
few ones from being near to each other by chance. There all rows that are as similar as the k-th are kept.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recsys_core.budget import rows_at_once
from recsys_core.interactions import Interactions
from recsys_core.models.base import FitTask, Recommender
from recsys_core.models.centred import Centred
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting
from recsys_core.models.sparse import padded_rows
from recsys_core.models.traits import Traits


def correlations(left: sparse.csr_matrix, right: sparse.csr_matrix, shrinkage: float, min_support: int) -> np.ndarray:
    """Shrunk correlations (L, R) of the rows of two matrices over the columns that both store.

    They are 0 where they would be negative, and where fewer than `min_support` columns are common.
    """
    ones, others = (sparse.csr_matrix((np.ones_like(m.data), m.indices, m.indptr), m.shape) for m in (left, right))
    pairs = ((ones, others), (left, right), (left.power(2), others), (ones, right.power(2)))
    n, products, left_squares, right_squares = ((y @ x.toarray().T).T for x, y in pairs)
    correlation = products / np.sqrt(np.maximum(left_squares * right_squares, 1e-12))
    trust = np.maximum(n - 1, 0) / np.maximum(n - 1 + shrinkage, 1)
    return np.where(n >= min_support, (correlation * trust).clip(0), 0)


def cosines(left: sparse.csr_matrix, right: sparse.csr_matrix, shrinkage: float) -> np.ndarray:
    """Shrunk cosines (L, R) of the binary rows of two matrices."""
    norms = np.sqrt(np.diff(left.indptr)[:, None] * np.diff(right.indptr).astype(np.float64))
    return np.asarray((left @ right.T).toarray() / np.maximum(norms + shrinkage, 1e-9))


def nearest(similarity: np.ndarray, k: int) -> sparse.csr_matrix:
    """Keep of each row of (L, R) similarities the k largest, and what equals the k-th."""
    k = min(k, similarity.shape[1])
    least = np.partition(similarity, -k, axis=1)[:, [-k]]
    return sparse.csr_matrix(np.where(similarity >= least, similarity, 0).astype(np.float32))


def blocks(left: sparse.csr_matrix, right: sparse.csr_matrix) -> Iterator[tuple[int, sparse.csr_matrix]]:
    """Yield blocks of rows of `left` with the number of their first row, so that similarities to all of `right` fit."""
    step = rows_at_once(max(right.shape))
    for first in range(0, left.shape[0], step):
        yield first, left[first : first + step]


@dataclass(kw_only=True)
class Neighbours(Recommender):
    """What all neighbourhood models share: so many neighbours, and similarities that are shrunk by λ, the `shrinkage`."""

    n_neighbours: int
    shrinkage: float

    @abstractmethod
    def _similarities(self, left: sparse.csr_matrix, right: sparse.csr_matrix) -> np.ndarray:
        """(L, R) similarities of the rows of two matrices."""

    @property
    def n_parameters(self) -> int | None:
        """None: the training rows are the model."""
        return None


@dataclass(kw_only=True)
class RatingNeighbours(Neighbours, Centred):
    """What the two models for stars share: correlations of residuals, and weighted means of the nearest."""

    traits: ClassVar[Traits] = Traits(form="linear", folds_in=True, predicts_ratings=True)

    n_neighbours: int = setting(40, least=1, search=between(10, 300, log=True), other=5)
    shrinkage: float = setting(100.0, least=0, search=between(1.0, 1000.0, log=True), other=10.0)
    min_support: int = setting(1, least=1, search=between(1, 10))

    def _similarities(self, left: sparse.csr_matrix, right: sparse.csr_matrix) -> np.ndarray:
        return correlations(left, right, self.shrinkage, self.min_support)

    def _weighted_mean(
        self, similarity: Tensor, asked: np.ndarray, known: sparse.csr_matrix, rows: np.ndarray
    ) -> Tensor:
        """(N,) means of what `known` stores in `rows` (N,), weighted by the nearest columns' similarity to `asked` (N,)."""
        means = torch.empty(len(rows))
        for positions, columns, values, present in padded_rows(known, rows):
            cells = torch.from_numpy(asked[positions, None]) * similarity.shape[1] + columns
            weights = similarity.view(-1).take(cells) * present  # (B, W)
            if weights.shape[1] > self.n_neighbours:
                weights, nearest_ones = weights.topk(self.n_neighbours, dim=1)
                values = values.gather(1, nearest_ones)
            means[positions] = (weights * values).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
        return means


@recommender("item_knn", title="Item neighbours", family="neighbours")
@dataclass(kw_only=True)
class ItemKNN(RatingNeighbours):
    """Similar items, with one dense (I, I) matrix of similarities.

    With the same settings a comparable library reaches a mean RMSE of .920 on the five folds of ML-100K.
    """

    learnt: ClassVar[dict[str, type]] = {"similarity": Tensor}

    min_support: int = setting(1, other=12)

    def _learn(self, residuals: sparse.csr_matrix, seed: int) -> None:
        by_item = residuals.T.tocsr()
        parts = [self._similarities(block, by_item) for _, block in blocks(by_item, by_item)]
        self.similarity = torch.from_numpy(np.concatenate(parts)).contiguous()

    def _corrections(self, users: np.ndarray, items: np.ndarray, residuals: sparse.csr_matrix) -> Tensor:
        return self._weighted_mean(self.similarity, items, residuals, users)


@recommender("user_knn", title="User neighbours", family="neighbours")
@dataclass(kw_only=True)
class UserKNN(RatingNeighbours):
    """Similar users; their similarities to the training users are computed when a user is asked about, and not kept."""

    min_support: int = setting(1, other=30)

    def _learn(self, residuals: sparse.csr_matrix, seed: int) -> None:
        """Nothing: the training rows are the model."""

    def _corrections(self, users: np.ndarray, items: np.ndarray, residuals: sparse.csr_matrix) -> Tensor:
        others = self.bias_.residuals(self.train_)
        by_item, corrections = others.T.tocsr(), torch.empty(len(users))
        asked, position = np.unique(users, return_inverse=True)
        for first, block in blocks(residuals[asked], others):
            mine = np.flatnonzero((first <= position) & (position < first + block.shape[0]))
            similarity = torch.from_numpy(self._similarities(block, others)).contiguous()
            corrections[mine] = self._weighted_mean(similarity, position[mine] - first, by_item, items[mine])
        return corrections


@dataclass(kw_only=True)
class RankingNeighbours(Neighbours):
    """What the two models for rankings share: cosines of what was seen, and sums over the nearest.

    The defaults are those of a comparable library.
    """

    traits: ClassVar[Traits] = Traits(form="linear", folds_in=True)

    n_neighbours: int = setting(100, least=1, search=between(5, 500, log=True), fast=20, other=5)
    shrinkage: float = setting(
        0.0, least=0, search=between(0.1, 1000.0, log=True), wide=between(0.001, 1000.0, log=True), other=10.0
    )

    def _fit(self, task: FitTask) -> None:
        self._restore({})

    def _restore(self, state: dict[str, Tensor]) -> None:
        """Compute what is kept from the training rows, which are the model."""

    def _similarities(self, left: sparse.csr_matrix, right: sparse.csr_matrix) -> np.ndarray:
        return cosines(left, right, self.shrinkage)


@recommender("implicit_item_knn", title="Item kNN", family="neighbours")
@dataclass(kw_only=True)
class ImplicitItemKNN(RankingNeighbours):
    """Similar items; no item is its own neighbour. On a random 80/10/10 split of ML-100K RecBole's reaches NDCG@10 .283."""

    traits: ClassVar[Traits] = Traits(form="linear", folds_in=True, adds_up=True)

    def _restore(self, state: dict[str, Tensor]) -> None:
        by_item, kept = self.train_.binary.T.tocsr(), []
        for first, block in blocks(by_item, by_item):
            similarity, own = self._similarities(block, by_item), np.arange(block.shape[0])
            similarity[own, first + own] = 0
            kept.append(nearest(similarity, self.n_neighbours))
        self.similarity = sparse.vstack(kept, "csr")  # (I, I)

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return torch.from_numpy((history.binary[users.cpu().numpy()] @ self.similarity.T).toarray())


@recommender("implicit_user_knn", title="User kNN", family="neighbours")
@dataclass(kw_only=True)
class ImplicitUserKNN(RankingNeighbours):
    """Similar training users, looked for when a user is asked about.

    A training user is among the nearest to themself, which adds to the scores of items alone that they have seen.
    """

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        asked, trained = history.binary[users.cpu().numpy()], self.train_.binary
        kept = [nearest(self._similarities(block, trained), self.n_neighbours) for _, block in blocks(asked, trained)]
        return torch.from_numpy((sparse.vstack(kept, "csr") @ trained).toarray())
