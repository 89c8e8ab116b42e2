"""Linear item-item models: a score is a sum of weights over what a user has seen. EASE's weights have a closed form."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy import linalg, sparse
from torch import Tensor

from recsys_core.interactions import Interactions
from recsys_core.models.base import FitTask, Recommender
from recsys_core.models.memory import check_pairs_fit
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting
from recsys_core.models.traits import Traits


def gram_matrix(interactions: sparse.csr_matrix) -> np.ndarray:
    """XᵀX, an (I, I) matrix: how many users have seen both of two items, for (U, I) interactions X of ones.

    Raises StudyError where tables of that size do not fit in memory.
    """
    check_pairs_fit(interactions.shape[1])
    interactions = interactions.astype(np.float64)  # X (U, I)
    return (interactions.T @ interactions).toarray()


def regularised_inverse(interactions: sparse.csr_matrix, ridge: float | np.ndarray) -> np.ndarray:
    """(XᵀX + R)⁻¹, an (I, I) matrix, for (U, I) interactions X of ones and a diagonal R above 0, one number or (I,) of them."""
    if 2 * interactions.shape[0] < interactions.shape[1]:
        return inverse_by_users(interactions, ridge)
    total = gram_matrix(interactions)
    total[np.diag_indices_from(total)] += ridge  # XᵀX + R (I, I)
    factor, _ = linalg.cho_factor(total, overwrite_a=True, check_finite=False)
    upper, _ = linalg.lapack.dpotri(factor)  # the inverse's upper triangle
    return np.triu(upper) + np.triu(upper, 1).T


def inverse_by_users(interactions: sparse.csr_matrix, ridge: float | np.ndarray) -> np.ndarray:
    """The same from a (U, U) matrix, which is less work where users are few: the identity of Woodbury (1950).

        (XᵀX + R)⁻¹ = R⁻¹ - ZᵀZ,   Z = L⁻¹ X R⁻¹,   L Lᵀ = I + X R⁻¹ Xᵀ

    Raises StudyError where tables of all pairs of items do not fit in memory.
    """
    check_pairs_fit(interactions.shape[1])
    shrunk = np.broadcast_to(1.0 / ridge, interactions.shape[1:])  # of R⁻¹ (I,)
    by_user = interactions.astype(np.float64).multiply(shrunk).tocsr()  # X R⁻¹ (U, I)
    between_users = (by_user @ interactions.T).toarray()
    between_users[np.diag_indices_from(between_users)] += 1
    factor = linalg.cholesky(between_users, lower=True, check_finite=False)  # L (U, U)
    explained = linalg.solve_triangular(factor, by_user.toarray(), lower=True, check_finite=False)  # Z (U, I)
    upper = linalg.blas.dsyrk(-1.0, explained, trans=1)  # of -ZᵀZ
    upper[np.diag_indices_from(upper)] += shrunk
    return np.triu(upper) + np.triu(upper, 1).T


class LinearRecommender(Recommender):
    """What linear models share: scores = X B, with B held as one dense (I, I) matrix, `weights`.

    X is the (U, I) matrix of ones at the pairs of the history; ratings are not read.
    """

    traits: ClassVar[Traits] = Traits(form="linear", folds_in=True, adds_up=True)
    learnt: ClassVar[dict[str, type]] = {"weights": np.ndarray}
    weights: np.ndarray

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return torch.from_numpy(history.binary[users.cpu().numpy()] @ self.weights)


@recommender("ease", title="EASE", family="linear")
@dataclass(kw_only=True)
class EASE(LinearRecommender):
    """Embarrassingly shallow autoencoder (Steck 2019): scores = X B with the diagonal of B held at 0.

        P = (XᵀX + λI)⁻¹,   B_ij = -P_ij / P_jj,   B_ii = 0          (eqs. 7 and 8)

    X is the (U, I) matrix of ones at the training pairs, ratings are not read. On the NCF paper's ML-1M files it reaches HR@10
    .7192 and NDCG@10 .4494 (Ferrari Dacrema et al. 2021). Holds B as one dense (I, I) matrix, `weights`.
    """

    # above 0, or the inverse may not exist
    regularisation: float = setting(500.0, least=1e-9, search=between(10.0, 5000.0, log=True), fast=1.0, other=200.0)

    def _fit(self, task: FitTask) -> None:
        inverse = regularised_inverse(task.train.binary, self.regularisation)  # P (I, I)
        weights = inverse / -np.diag(inverse)  # column j by -P_jj
        np.fill_diagonal(weights, 0)
        self.weights = weights.astype(np.float32)
