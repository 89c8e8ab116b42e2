"""Matrix factorisation for ratings by gradient descent: SVD and SVD++.

    SVD     r̂_ui = μ + b_u + b_i + p_u · q_i                                       Koren, Bell & Volinsky 2009, eq. 4
    SVD++   r̂_ui = μ + b_u + b_i + q_i · (p_u + |N(u)|^-½ Σ_{j ∈ N(u)} y_j)        Koren 2008, eq. 15

Both minimise, over the observed ratings, the squared error and λ times the squares of all that predicts a rating:

    Σ_(u,i) (r_ui - r̂_ui)² + λ (b_u² + b_i² + |p_u|² + |q_i|² [+ Σ_{j ∈ N(u)} |y_j|²])

with N(u) the items that u rated. They differ from the papers in being trained by Adam on batches, with settings and the epoch
chosen on validation rows.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, embedding_bag, pad

from recsys_core.interactions import Interactions
from recsys_core.models.neural import NeuralRecommender
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting
from recsys_core.models.traits import Traits


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

    traits: ClassVar[Traits] = Traits(form="bilinear", uses_ids=True, stochastic=True, predicts_ratings=True)

    epochs: int = setting(10, fast=20)
    embedding_dim: int = setting(50, least=1, search=[20, 50, 100], other=8)
    learning_rate: float = setting(0.01, search=between(0.001, 0.02, log=True), fast=0.02)
    regularisation: float = setting(0.08, least=0, search=between(0.02, 0.3, log=True), other=0.2)
    batch_size: int = setting(2048, search=[512, 1024, 2048, 4096], fast=256)
    embedding_std: float = setting(0.005, least=0, other=0.3)

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

    epochs: int = setting(15)
    embedding_dim: int = setting(20, search=[10, 20, 40])
    learning_rate: float = setting(0.005, search=between(0.002, 0.02, log=True))
    batch_size: int = setting(1024, search=[1024, 2048, 4096])

    def _build(self, train: Interactions) -> nn.Module:
        return ImplicitFactors(train, self.embedding_dim, self.embedding_std, self.regularisation)
