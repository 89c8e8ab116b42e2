"""Sparse linear methods: an elastic net for each item, solved by coordinate descent for all items at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_core.models.base import FitTask
from recsys_core.models.linear import LinearRecommender, gram_matrix
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting

TOLERANCE = 1e-5  # the sweep that moves none of an item's weights by more is its last
MOST_SWEEPS = 500
ROWS_AT_ONCE = 32  # whose products with all weights are one multiplication of matrices


@recommender("slim", title="SLIM", family="linear")
@dataclass(kw_only=True)
class SLIM(LinearRecommender):
    """Sparse linear methods (Ning & Karypis 2011): scores = X W, no weight is below 0 and the diagonal of W is held at 0.

        least    ½ ‖X - X W‖² + ½ β ‖W‖² + λ ‖W‖₁    where W ≥ 0, W_ii = 0          (norms over all cells; the paper's scaling)

    X is the (U, I) matrix of ones at the training pairs. β is `l2_regularisation`, which compares with EASE's λ, and λ here is
    `l1_regularisation`, which makes most weights 0. Neither is divided by the number of users, as it is in scikit-learn, whose
    `ElasticNet` is the same with alpha = (λ + β) / U and l1_ratio = λ / (λ + β). There is one minimum; its weights are found to
    1e-4. Holds W as one dense (I, I) matrix, `weights`; the time of a sweep grows with I³.

    On the NCF paper's ML-1M files HR@10 is .7161 and NDCG@10 .4470 (Ferrari Dacrema et al. 2019: λ = .4 and β = 527 in this
    scaling, with the 682 largest weights of an item kept; here all are). The defaults lie between these and RecBole's, which are
    λ = 3.8 and β = 185 for the 943 users of ML-100K.
    """

    l1_regularisation: float = setting(1.0, least=0, search=between(0.001, 30.0, log=True), fast=0.1, other=10.0)
    # above 0, or an item without rows would be divided by 0
    l2_regularisation: float = setting(300.0, least=1e-9, search=between(1.0, 5000.0, log=True), fast=1.0, other=20.0)

    def _fit(self, task: FitTask) -> None:
        gram = gram_matrix(task.train.binary).astype(np.float32)  # XᵀX (I, I)
        weights, moving = np.zeros_like(gram), np.arange(len(gram))  # W (I, I), and the J items still moving
        for _ in range(MOST_SWEEPS):
            before = weights[:, moving]
            weights[:, moving] = sweep(gram, before, moving, self.l1_regularisation, self.l2_regularisation)
            moving = moving[np.abs(weights[:, moving] - before).max(axis=0) > TOLERANCE]
            if not len(moving):
                break
        self.weights = weights


def sweep(gram: np.ndarray, weights: np.ndarray, items: np.ndarray, l1: float, l2: float) -> np.ndarray:
    """The (I, J) weights of (J,) items after a round of coordinate descent over the rows, from those before; G is `gram` (I, I).

    Row after row, W_kj becomes the best there is while the others stay: max(0, G_kj - Σ_l≠k G_kl W_lj - λ) / (G_kk + β).
    """
    weights = weights.copy()
    for first in range(0, len(gram), ROWS_AT_ONCE):
        block = slice(first, first + ROWS_AT_ONCE)
        left, among = gram[block, items] - gram[block] @ weights, gram[block, block]  # G - G W (B, J), and (B, B)
        for row, k in enumerate(range(len(gram))[block]):
            best = np.maximum(left[row] + gram[k, k] * weights[k] - l1, 0) / (gram[k, k] + l2)  # (J,)
            best[items == k] = 0
            left[row + 1 :] -= np.outer(among[row + 1 :, row], best - weights[k])
            weights[k] = best
    return weights
