"""Linear denoising autoencoders in closed form: the weights to which training with dropout converges.

Each entry of a user's row x of ones is dropped with probability p, and what is left counts 1 / (1 - p); from this x̃ the whole row
is to be restored, as x̃ B. Its squared error, summed over users and in expectation over what is dropped, with an L2 penalty of λ, is

    ‖X - X B‖² + ‖Λ^½ B‖²,    Λ = λI + p / (1 - p) · diag(XᵀX)

so that dropout is a ridge that grows with an item's popularity (Steck 2020). With C = (XᵀX + Λ)⁻¹ it is least at

    DLAE     B = I - C Λ                                     without a constraint
    EDLAE    B = I - C · diag(1 / C_jj)                      where B_jj = 0 (Steck 2020, main theorem)
    RDLAE    B = I - C · diag(max(Λ_jj, (1 - ξ) / C_jj))     where B_jj ≤ ξ (Moon, Kim & Lee 2023)

EDLAE's constraint is what "emphasised" denoising comes to: the error counts at the dropped entries alone, and none is restored from
itself. That error is p times the one above, so that λ here is a p-th of a penalty beside it. The three are one formula, ξ being ∞,
0 or a setting; from ξ = 1 on RDLAE is DLAE, and EASE is EDLAE without dropout.

Differs from the papers: λ is above 0, or items without rows would have no inverse; and RDLAE's authors set the diagonal to 0 in the
end, which changes no score of an item that the user has not seen. On ML-20M they chose λ = 1000 and p = .3 for DLAE, 400 and .3 for
EDLAE, 1000, .2 and ξ = .6 for RDLAE; no published figure is known to us for ML-100K or ML-1M. λ is EASE's here; with it no B_jj
comes near .6 on ML-100K, which has few users, so that ξ is smaller.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_core.models.base import FitTask
from recsys_core.models.linear import LinearRecommender, regularised_inverse
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting


@dataclass(kw_only=True)
class DenoisingAutoencoder(LinearRecommender):
    """What the three share: λ is `regularisation`, p is `dropout`, ξ is the `largest_self_weight`."""

    regularisation: float = setting(500.0, least=1e-9, search=between(1.0, 5000.0, log=True), fast=1.0, other=200.0)
    dropout: float = setting(0.3, least=0, below=1, search=between(0.0, 0.95), other=0.6)

    def _weights(self, task: FitTask, largest_self_weight: float) -> np.ndarray:
        """B (I, I)."""
        counts = np.bincount(task.train.binary.indices, minlength=task.train.binary.shape[1])  # of diag(XᵀX) (I,)
        ridge = self.regularisation + self.dropout / (1 - self.dropout) * counts  # Λ (I,)
        inverse = regularised_inverse(task.train.binary, ridge)  # C (I, I)
        held = np.maximum(ridge, (1 - largest_self_weight) / np.diag(inverse))  # Λ_jj and what the bound adds (I,)
        weights = inverse * -held  # column j by -held_j
        weights[np.diag_indices_from(weights)] += 1
        return weights.astype(np.float32)


@recommender("dlae", title="DLAE", family="linear")
@dataclass(kw_only=True)
class DLAE(DenoisingAutoencoder):
    """Denoising linear autoencoder, in which an item may be restored from itself as far as the ridge lets it."""

    def _fit(self, task: FitTask) -> None:
        self.weights = self._weights(task, np.inf)


@recommender("edlae", title="EDLAE", family="linear")
@dataclass(kw_only=True)
class EDLAE(DenoisingAutoencoder):
    """Emphasised denoising linear autoencoder: no item is restored from itself."""

    def _fit(self, task: FitTask) -> None:
        self.weights = self._weights(task, 0.0)


@recommender("rdlae", title="RDLAE", family="linear")
@dataclass(kw_only=True)
class RDLAE(DenoisingAutoencoder):
    """Relaxed denoising linear autoencoder: an item adds at most `largest_self_weight` (ξ) to its own score."""

    largest_self_weight: float = setting(0.2, least=0, search=between(0.01, 1.0, log=True), other=0.0)

    def _fit(self, task: FitTask) -> None:
        self.weights = self._weights(task, self.largest_self_weight)
