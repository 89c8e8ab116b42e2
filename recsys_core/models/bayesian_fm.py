"""Bayesian factorisation machine, learnt by Gibbs sampling (Freudenthaler, Schmidt-Thieme & Rendle 2011; Rendle 2012, libFM).

    r_ui = μ + b_u + b_i + p_u · q_i + ε,   ε ~ N(0, 1/α)
    (b_u, p_u) = Σ_blocks x_u W_block,      (b_i, q_i) = Σ_blocks x_i W_block

Every variable of the design (a user's id, each film of their history, an occupation, a genre, …) has a weight and a vector, one
row (1 + D) of its block's W. Each column of each block has its own normal prior whose mean and precision are sampled, too, with
the hyperpriors of libFM. Predicted stars are means over the samples.

Differs from libFM: variables of one side do not interact with each other (user × user products depend on the user alone, which
b_u covers), so that r is linear in everything that belongs to users, given everything that belongs to items. Hence a whole block,
weights and vectors together, is drawn at once, and from one summary per user.
The time of a rating is not used, as a prediction is asked for without one.

Rendle, Zhang & Koren (2019) reach RMSE .7633 with ids alone and .7563 with histories on ML-10M; on fold u3 of ML-100K the library
myFM reaches .896 with ids and .881 with history, attributes and the day of the rating.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor

from recsys_core.errors import StudyError, choose
from recsys_core.interactions import Features, Interactions
from recsys_core.models.base import FitTask, Recommender, Traits
from recsys_core.progress import Progress

TOLERANCE = 0.01  # of the conjugate gradients, relative; 0.001 gave the same RMSE on validation in twice the time
BIN_WIDTHS = {"age": 5, "gender": 1, "year": 3}  # years; numbers become one-hot
FLAGS = ("occupation_", "genre_")

Design: TypeAlias = sparse.csr_matrix
Designs: TypeAlias = tuple[list[Design], list[Design]]  # of the users, (U, J) each, and of the items, (I, J)


def unit_rows(design: Design) -> Design:
    """Scale the rows to length 1, so that n films of a history count 1/√n each, as in SVD++ (Koren 2008)."""
    lengths = np.sqrt(design.multiply(design).sum(axis=1).A1)
    return sparse.csr_matrix(sparse.diags(1 / np.maximum(lengths, 1e-9)) @ design)


def _one_hot(values: np.ndarray) -> Design:
    codes = np.unique(values, return_inverse=True)[1]
    return sparse.csr_matrix((np.ones(len(codes)), (np.arange(len(codes)), codes)))


def _implicit(train: Interactions) -> Designs:
    pairs = train.binary.astype(np.float64)
    return [pairs], [pairs.T.tocsr()]


def _attributes_of(features: Features | None) -> list[Design]:
    if features is None:
        return []
    numbers = [(name, width) for name, width in BIN_WIDTHS.items() if name in features.columns]
    flags = [features.select(prefix).astype(np.float64) for prefix in FLAGS]
    return [_one_hot(features.select(name)[:, 0] // width) for name, width in numbers] + [
        sparse.csr_matrix(table) for table in flags if table.any()
    ]


def _attributes(train: Interactions) -> Designs:
    return _attributes_of(train.user_features), _attributes_of(train.item_features)


FEATURES: dict[str, Callable[[Interactions], Designs]] = {
    "implicit": _implicit,
    "attributes": _attributes,
}


def solve(
    multiply: Callable[[np.ndarray], np.ndarray], target: np.ndarray, diagonal: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Solve multiply(x) = target, all (J, K), by conjugate gradients preconditioned with the map's diagonal."""
    shape = (target.size, target.size)
    operator = LinearOperator(shape, matvec=lambda x: multiply(x.reshape(target.shape)).ravel(), dtype=np.float64)
    inverse = LinearOperator(shape, matvec=lambda x: x / diagonal.ravel(), dtype=np.float64)
    return cg(operator, target.ravel(), start.ravel(), rtol=TOLERANCE, M=inverse)[0].reshape(target.shape)


@dataclass(frozen=True)
class Evidence:
    """What the ratings say of the vectors (M, K) of a side, K = 1 + D, given the other side: a normal likelihood for each.

    `precision` is (M, K, K), `moment` (M, K) its product with the likelihood's mean; `draw_noise` draws (M, K) from
    N(0, precision).
    """

    precision: np.ndarray
    moment: np.ndarray
    draw_noise: Callable[[], np.ndarray]

    def times(self, vectors: np.ndarray) -> np.ndarray:
        """Return (M, K) products of the precisions with (M, K) vectors."""
        return np.matmul(self.precision, vectors[:, :, None])[:, :, 0]


class Block:
    """J variables with one prior: `design` (M, J) says who has which, `weights` are (J, K)."""

    def __init__(self, design: Design, width: int, generator: np.random.Generator) -> None:
        self.design, self.transposed = design, design.T.tocsr()
        self.squared = self.transposed.multiply(self.transposed).tocsr()
        self.weights = generator.normal(0, 0.1, (design.shape[1], width))

    def draw_prior(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw mean and precision (K,) of the prior given the weights; N(0, 1/λ) and Γ(½, ½) are theirs."""
        n_variables = len(self.weights)
        mean = self.weights.sum(axis=0) / (n_variables + 1)
        rate = (1 + ((self.weights - mean) ** 2).sum(axis=0) + mean**2) / 2
        precision = generator.gamma((n_variables + 1) / 2, 1 / rate)
        return generator.normal(mean, 1 / np.sqrt((n_variables + 1) * precision)), precision

    def draw(self, evidence: Evidence, others: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draw all weights, given the (M, K) sum of the other blocks, and return the (M, K) part of this block.

        The posterior's mean and a draw around it are one linear system with a perturbed right-hand side (Papandreou & Yuille
        2010; Simm et al. 2017, Macau): no matrix of size J × J exists.
        """
        mean, prior = self.draw_prior(generator)
        target = self.transposed @ (evidence.moment - evidence.times(others) + evidence.draw_noise())
        target += prior * mean + np.sqrt(prior) * generator.standard_normal(self.weights.shape)
        diagonal = self.squared @ np.einsum("mkk->mk", evidence.precision) + prior
        self.weights = solve(
            lambda weights: self.transposed @ evidence.times(self.design @ weights) + prior * weights,
            target,
            diagonal,
            self.weights,
        )
        return self.design @ self.weights


class Side:
    """The users, or the items: their blocks and the sum of these, `vectors` (M, K) of bias and factors."""

    def __init__(self, residuals: Design, designs: list[Design], width: int, generator: np.random.Generator) -> None:
        self.residuals = residuals  # (M, O) ratings less their mean, for O items or users on the other side
        ids = sparse.identity(residuals.shape[0], format="csr")
        self.blocks = [Block(design, width, generator) for design in [ids, *map(unit_rows, designs)]]
        self.vectors = np.sum([block.design @ block.weights for block in self.blocks], axis=0)

    def _pairs(self, values: np.ndarray) -> Design:
        """The (M, O) matrix of these values at the rated pairs."""
        pattern = self.residuals
        return sparse.csr_matrix((values, pattern.indices, pattern.indptr), shape=pattern.shape)

    def evidence(self, other: np.ndarray, alpha: float, generator: np.random.Generator) -> Evidence:
        """Summarise the ratings, of precision `alpha` each, for the vectors (O, K) of the other side."""
        facing = np.column_stack([np.ones(len(other)), other[:, 1:]])  # (O, K): a bias is met by 1, factors by factors
        products = (facing[:, :, None] * facing[:, None, :]).reshape(len(facing), -1)  # (O, K²)
        n_rated, width = self.residuals.nnz, facing.shape[1]
        rated = self._pairs(np.ones(n_rated))
        return Evidence(
            alpha * (rated @ products).reshape(-1, width, width),
            alpha * (self.residuals @ facing - rated @ (facing * other[:, :1])),
            lambda: np.sqrt(alpha) * (self._pairs(generator.standard_normal(n_rated)) @ facing),
        )

    def sweep(self, other: np.ndarray, alpha: float, generator: np.random.Generator) -> None:
        """Draw every block once, given the vectors of the other side."""
        evidence = self.evidence(other, alpha, generator)
        for block in self.blocks:
            others = self.vectors - block.design @ block.weights
            self.vectors = others + block.draw(evidence, others, generator)


@dataclass(kw_only=True)
class BayesianFM(Recommender):
    """Ids and, by `features`, "implicit" (a user's films, an item's users), "attributes" (age, gender, occupation, year, genres).
    The first `n_burn_in` sweeps are thrown away, the next `n_samples` averaged and kept.
    """

    traits: ClassVar[Traits] = Traits(uses_ids=True, stochastic=True, predicts_ratings=True)

    embedding_dim: int = 8
    features: tuple[str, ...] = ("implicit", "attributes")
    n_burn_in: int = 20
    n_samples: int = 100

    def __post_init__(self) -> None:
        self.features = tuple(self.features)
        choose("features", self.features, FEATURES)
        for name, least in (("embedding_dim", 0), ("n_burn_in", 0), ("n_samples", 1)):
            if getattr(self, name) < least:
                raise StudyError(f"{name}={getattr(self, name)}: it must be at least {least}.")

    def _fit(self, task: FitTask) -> None:
        train, generator = task.train, np.random.default_rng(task.seed)
        self.mean = float(train.ratings.astype(np.float64).mean())
        residuals = train.stars.astype(np.float64)
        residuals.data -= self.mean
        designs = [FEATURES[name](train) for name in self.features]
        users, items = (
            Side(matrix, [design for pair in designs for design in pair[side]], 1 + self.embedding_dim, generator)
            for side, matrix in enumerate((residuals, residuals.T.tocsr()))
        )
        self._sample(train, users, items, generator)

    def _sample(self, train: Interactions, users: Side, items: Side, generator: np.random.Generator) -> None:
        alpha, kept = 1.0, []
        n_sweeps = self.n_burn_in + self.n_samples
        with Progress("BayesianFM", n_sweeps) as progress:
            for sweep in range(1, n_sweeps + 1):
                users.sweep(items.vectors, alpha, generator)
                items.sweep(users.vectors, alpha, generator)
                squares = _squared_errors(train, self.mean, users.vectors, items.vectors)
                alpha = generator.gamma((1 + len(train)) / 2, 2 / (1 + squares))
                progress.update(sweep, {"noise": alpha**-0.5})
                if sweep > self.n_burn_in:
                    kept.append((users.vectors.astype(np.float32), items.vectors.astype(np.float32)))
            progress.finish(f"{self.n_samples} samples kept, noise {alpha**-0.5:.4f} stars")
        self.users, self.items = (_joined(list(samples)) for samples in zip(*kept))

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        mine = self.users[users.cpu()]
        return self.mean + mine[:, :1] + self.items[:, 0] + mine[:, 1:] @ self.items[:, 1:].T

    def _state(self) -> dict[str, Tensor]:
        return {"users": self.users, "items": self.items, "mean": torch.tensor([self.mean], dtype=torch.float64)}

    def _restore(self, state: dict[str, Tensor]) -> None:
        self.users, self.items, self.mean = state["users"], state["items"], float(state["mean"])

    @property
    def n_parameters(self) -> int:
        """Numbers in the vectors of one sample, and the mean."""
        return 1 + (self.train_.n_users + self.train_.n_items) * (1 + self.embedding_dim)


def _squared_errors(train: Interactions, mean: float, users: np.ndarray, items: np.ndarray) -> float:
    """Sum over the training rows, for one sample of the vectors."""
    mine, theirs = users[train.users], items[train.items]
    predicted = mean + mine[:, 0] + theirs[:, 0] + np.einsum("nd,nd->n", mine[:, 1:], theirs[:, 1:])
    return float(((train.ratings - predicted) ** 2).sum())


def _joined(samples: list[np.ndarray]) -> Tensor:
    """S samples (M, 1 + D) as (M, 1 + S D): the mean bias, and factors whose dot product is the mean of the samples' products."""
    stacked = np.stack(samples, axis=1)  # (M, S, 1 + D)
    factors = stacked[:, :, 1:].reshape(len(stacked), -1) / len(samples) ** 0.5
    return torch.from_numpy(np.column_stack([stacked[:, :, 0].mean(axis=1), factors]))
