"""Matrix factorisation for ratings: by gradient descent (SVD, SVD++) and by alternating least squares.

    SVD     r̂_ui = μ + b_u + b_i + p_u · q_i                                       Koren, Bell & Volinsky 2009, eq. 4
    SVD++   r̂_ui = μ + b_u + b_i + q_i · (p_u + |N(u)|^-½ Σ_{j ∈ N(u)} y_j)        Koren 2008, eq. 15
    ALS     r̂_ui = μ + b_u + b_i + p_u · q_i, biases first, then exact solves      Zhou, Wilkinson, Schreiber & Pan 2008

SVD and SVD++ minimise, over the observed ratings, the squared error and λ times the squares of all that predicts a rating:

    Σ_(u,i) (r_ui - r̂_ui)² + λ (b_u² + b_i² + |p_u|² + |q_i|² [+ Σ_{j ∈ N(u)} |y_j|²])

with N(u) the items that u rated. They differ from the papers in being trained by Adam on batches, with settings and the epoch
chosen on validation rows.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn
from torch.nn.functional import embedding, embedding_bag, pad

from recsys_core.interactions import Interactions
from recsys_core.models.base import Traits
from recsys_core.models.centred import Centred, padded_rows
from recsys_core.models.neural import NeuralRecommender
from recsys_core.models.registry import recommender
from recsys_core.train import resolve_device


class Objective(torch.autograd.Function):
    """Σ (r̂ - r)² + λ Σ (|own|² + |item|²) with its gradient written out, in a third of the passes that torch's own takes."""

    @staticmethod
    def forward(ctx: Any, module: Any, users: Tensor, own: Tensor, items: Tensor, stars: Tensor) -> Tensor:
        """Return a scalar for (B, D + 1) vectors of users, the part of them that is `own`, and items, and for (B,) stars."""
        errors, ctx.penalty = module(users, items) - stars, module.regularisation
        ctx.save_for_backward(users, own, items, errors)
        squares = torch.dot(own.flatten(), own.flatten()) + torch.dot(items.flatten(), items.flatten())
        return torch.dot(errors, errors) + ctx.penalty * squares

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor, Tensor, None]:
        """Return 2 (r̂ - r) (q, 1), 2 λ own and 2 (r̂ - r) (p, 1) + 2 λ (q, b_i)."""
        users, own, items, errors = ctx.saved_tensors
        scale = 2 * float(gradients[0])
        slope = (errors * scale)[:, None]
        for_users, for_items = items * slope, users * slope
        for_users[:, -1:] = for_items[:, -1:] = slope
        return None, for_users, own * (scale * ctx.penalty), for_items.add_(items, alpha=scale * ctx.penalty), None


class Factors(nn.Module):
    """Vectors of D factors, in whose last column, the D + 1st, is the bias."""

    mean: Tensor

    def __init__(self, train: Interactions, embedding_dim: int, embedding_std: float, regularisation: float) -> None:
        super().__init__()
        self.users = nn.Embedding(train.n_users, embedding_dim + 1)
        self.items = nn.Embedding(train.n_items, embedding_dim + 1)
        self.register_buffer("mean", torch.tensor(train.ratings.mean()))
        self.regularisation = regularisation
        for table in (self.users.weight, self.items.weight):
            nn.init.normal_(table, std=embedding_std)
            nn.init.zeros_(table[:, -1])

    def user_vectors(self, users: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        """Return (B, D + 1) vectors of (B,) users, the part of these that is their own, and squares to regularise beside it."""
        vectors = self.users(users)
        return vectors, vectors, 0

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return (B,) stars of (B, D + 1) user and item vectors."""
        products = torch.linalg.vecdot(users[:, :-1], items[:, :-1])
        return self.mean + users[:, -1] + items[:, -1] + products

    def score_all(self, users: Tensor) -> Tensor:
        """Return (B, I) stars of every item for (B, D + 1) user vectors."""
        items = self.items.weight
        return self.mean + users[:, -1:] + items[:, -1] + users[:, :-1] @ items[:, :-1].T


@recommender("svd", title="SVD", family="factorisation")
@dataclass(kw_only=True)
class SVD(NeuralRecommender):
    """Biased matrix factorisation. With 50 factors it should reach a mean RMSE of .914 on the five folds of ML-100K."""

    traits: ClassVar[Traits] = Traits(uses_ids=True, stochastic=True, predicts_ratings=True)

    epochs: int = 10
    learning_rate: float = 0.01
    embedding_dim: int = 50
    regularisation: float = 0.08
    embedding_std: float = 0.005

    def _build(self, train: Interactions) -> nn.Module:
        return Factors(train, self.embedding_dim, self.embedding_std, self.regularisation)

    @staticmethod
    def _loss(module: Any, *batch: Tensor) -> Tensor:
        (users, own, squares), items = module.user_vectors(batch[0]), module.items(batch[1])
        objective = Objective.apply(module, users, own, items, batch[2]) + module.regularisation * squares
        return objective / len(items)

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return self.module_.score_all(self.module_.user_vectors(users.to(self.device_))[0])

    def _ratings(self, users: Tensor, items: Tensor, history: Interactions) -> Tensor:
        vectors = self.module_.user_vectors(users.to(self.device_))[0]
        return self._clipped(self.module_(vectors, self.module_.items(items.to(self.device_))))


class Sums(torch.autograd.Function):
    """Sums of vectors over the rows of a constant matrix of ones, given with its transpose: the gradient is such a sum, too.

    This takes far less time than torch's own gradient. Each matrix is its column numbers and where in them the rows begin.
    """

    @staticmethod
    def forward(ctx: Any, columns: Tensor, starts: Tensor, rows: Tensor, row_starts: Tensor, values: Tensor) -> Tensor:
        """Return (U, D) sums of (I, D) values."""
        ctx.transposed = rows, row_starts
        return embedding_bag(columns, values, starts, mode="sum", include_last_offset=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the (I, D) gradient of the values."""
        rows, starts = ctx.transposed
        return *[None] * 4, embedding_bag(rows, gradients[0], starts, mode="sum", include_last_offset=True)


class ImplicitFactors(Factors):
    """Factors with a second vector y_j per item, for having been rated at all."""

    scale: Tensor

    def __init__(self, train: Interactions, embedding_dim: int, embedding_std: float, regularisation: float) -> None:
        super().__init__(train, embedding_dim, embedding_std, regularisation)
        self.rated = nn.Embedding(train.n_items, embedding_dim)
        nn.init.normal_(self.rated.weight, std=embedding_std)
        scale = torch.from_numpy(train.user_counts).clamp(min=1).float().rsqrt()[:, None]
        self.register_buffer("scale", scale, persistent=False)  # (U, 1)
        for name, matrix in (("rated_by", train.binary), ("raters_of", train.binary.T.tocsr())):
            self.register_buffer(name, torch.from_numpy(matrix.indices), persistent=False)
            self.register_buffer(f"{name}_starts", torch.from_numpy(matrix.indptr), persistent=False)

    def user_vectors(self, users: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        """As above, with |N(u)|^-½ Σ y_j added to the factors, and Σ |y_j|² as the squares."""
        vectors = self.users(users)
        rated = self.rated.weight
        summands = torch.cat([rated, rated.square().sum(dim=1, keepdim=True)], dim=1)
        pairs = self.rated_by, self.rated_by_starts, self.raters_of, self.raters_of_starts
        sums = Sums.apply(*pairs, summands)  # (U, D + 1): a batch has most of the users
        sums = embedding(users, sums)  # (B, D + 1)
        implicit = pad(sums[:, :-1] * self.scale[users], (0, 1))
        return vectors + implicit, vectors, sums[:, -1].sum()


@recommender("svd_plus_plus", title="SVD++", family="factorisation")
@dataclass(kw_only=True)
class SVDPlusPlus(SVD):
    """Matrix factorisation that also knows which items a user rated, whatever the stars.

    With 20 factors it should reach a mean RMSE of .917 on the five folds of ML-100K. The sums of y are computed anew for all
    users at every step, which takes the time of two products with the (U, I) sparse matrix: on large data choose large batches.
    """

    epochs: int = 15
    batch_size: int = 1024
    learning_rate: float = 0.005
    embedding_dim: int = 20

    def _build(self, train: Interactions) -> nn.Module:
        return ImplicitFactors(train, self.embedding_dim, self.embedding_std, self.regularisation)


@recommender("als", title="ALS", family="factorisation")
@dataclass(kw_only=True)
class ALS(Centred):
    """Explicit feedback factorised by alternating least squares, weighted-λ regularised (ALS-WR), on the residuals of `Bias`.

        p_u = (Σ_i q_i q_iᵀ + λ n_u I)⁻¹ Σ_i (r_ui - b_ui) q_i          over the n_u items that u rated; likewise q_i

    Differs from the paper: biases come first (so the item factors need no column of means), and there is a fixed number of
    iterations. Users are solved for when they are asked about, so that a history is folded in exactly.
    """

    traits: ClassVar[Traits] = Traits(stochastic=True, folds_in=True, predicts_ratings=True)
    smallest: ClassVar[dict[str, float]] = {"embedding_dim": 1, "n_iterations": 1, "regularisation": 1e-9}
    learnt: ClassVar[dict[str, type]] = {"items": Tensor}

    embedding_dim: int = 20
    regularisation: float = 0.15
    n_iterations: int = 10
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
        for positions, columns, values, present in padded_rows(residuals, rows):
            known = present.to(factors)[:, :, None]
            vectors = factors[columns.to(factors.device)] * known  # (B, W, D)
            gram = vectors.mT @ vectors
            ridge = self.regularisation * known.sum(dim=1).clamp(min=1)  # (B, 1)
            gram.diagonal(dim1=1, dim2=2).add_(ridge)
            targets = vectors.mT @ values.to(factors)[:, :, None]
            solution[torch.from_numpy(positions)] = torch.linalg.solve(gram, targets).squeeze(2)
        return solution

    def _corrections(self, users: np.ndarray, items: np.ndarray, residuals: sparse.csr_matrix) -> Tensor:
        asked, position = np.unique(users, return_inverse=True)
        vectors = self._solve(residuals, asked, self.items)
        return torch.linalg.vecdot(vectors[position], self.items[items]).cpu()

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        vectors = self._solve(self.bias_.residuals(history), users.cpu().numpy(), self.items)
        return self.bias_._scores(users, history) + (vectors @ self.items.T).cpu()

    @property
    def device_(self) -> torch.device:
        """Where the factors live."""
        return self.items.device

    def _restore(self, state: dict[str, Tensor]) -> None:
        super()._restore(state)
        self.items = self.items.to(resolve_device(self.device))
