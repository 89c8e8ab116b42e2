"""Matrix factorisation for ratings by alternating least squares (Zhou, Wilkinson, Schreiber & Pan 2008).

    r̂_ui = μ + b_u + b_i + p_u · q_i

The biases come first; then users and items are solved for in turn.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recsys_core.interactions import Interactions
from recsys_core.models.centred import Centred
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting
from recsys_core.models.sparse import padded_rows
from recsys_core.models.traits import Traits
from recsys_core.train import resolve_device


@recommender("als", title="ALS", family="factorisation")
@dataclass(kw_only=True)
class ALS(Centred):
    """Explicit feedback factorised by alternating least squares, weighted-λ regularised (ALS-WR), on the residuals of `Bias`.

        p_u = (Σ_i q_i q_iᵀ + λ n_u I)⁻¹ Σ_i (r_ui - b_ui) q_i          over the n_u items that u rated; likewise q_i

    Differs from the paper: biases come first (so the item factors need no column of means), and there is a fixed number of
    iterations. Users are solved for when they are asked about, so that a history is folded in exactly.
    """

    traits: ClassVar[Traits] = Traits(form="bilinear", stochastic=True, folds_in=True, predicts_ratings=True)
    learnt: ClassVar[dict[str, type]] = {"items": Tensor}

    embedding_dim: int = setting(20, least=1, search=[5, 10, 20, 40], other=3)
    regularisation: float = setting(0.15, least=1e-9, search=between(0.03, 0.5, log=True), other=0.5)
    n_iterations: int = setting(10, least=1, search=between(5, 20), other=2)
    device: str = "auto"

    def _learn(self, residuals: sparse.csr_matrix, seed: int) -> None:
        by_item, generator = residuals.T.tocsr(), torch.Generator().manual_seed(seed)
        items = torch.randn(by_item.shape[0], self.embedding_dim, generator=generator) / self.embedding_dim**0.5
        self.items = items.to(resolve_device(self.device))
        for _ in range(self.n_iterations):
            users = self._solve(residuals, np.arange(residuals.shape[0]), self.items)
            self.items = self._solve(by_item, np.arange(by_item.shape[0]), users)

    def _solve(self, residuals: sparse.csr_matrix, rows: np.ndarray, factors: Tensor) -> Tensor:
        """(B, D) least-squares vectors of rows of `residuals`, given those of its columns; 0 where a row is empty."""
        solution = factors.new_zeros(len(rows), self.embedding_dim)
        for positions, columns, values, present in padded_rows(residuals, rows, self.embedding_dim, factors.device):
            known = present.to(factors)[:, :, None]
            vectors = factors[columns.to(factors.device)] * known  # (B, W, D)
            gram = vectors.mT @ vectors
            ridge = self.regularisation * known.sum(dim=1).clamp(min=1)  # (B, 1)
            gram.diagonal(dim1=1, dim2=2).add_(ridge)
            targets = vectors.mT @ values.to(factors)[:, :, None]
            solution[torch.from_numpy(positions)] = torch.linalg.solve(gram, targets).squeeze(2)
        return solution

    def item_vectors(self) -> Tensor:
        """Return the (I, D) vectors of all items."""
        return self.items

    def user_vectors(self, users: Tensor, history: Interactions | None = None) -> Tensor:
        """Return (B, D) vectors of (B,) users, solved for from their rows in `history` (None: in training); 0 without rows."""
        residuals = self.bias_.residuals(self.train_ if history is None else history)
        return self._solve(residuals, users.cpu().numpy(), self.items)

    def _corrections(self, users: np.ndarray, items: np.ndarray, residuals: sparse.csr_matrix) -> Tensor:
        asked, position = np.unique(users, return_inverse=True)
        vectors = self._solve(residuals, asked, self.items)
        return torch.linalg.vecdot(vectors[position], self.items[items]).cpu()

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        products = self.user_vectors(users, history) @ self.items.T
        return self.bias_._scores(users, history) + products.cpu()

    @property
    def device_(self) -> torch.device:
        """Where the factors live."""
        return self.items.device

    def _restore(self, state: dict[str, Tensor]) -> None:
        super()._restore(state)
        self.items = self.items.to(resolve_device(self.device))
