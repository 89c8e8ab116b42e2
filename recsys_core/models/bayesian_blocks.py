"""Blocks of variables that a Gibbs sampler draws: linear designs, their normal priors, and what ratings say of them.

Ratings are linear in everything that belongs to users, given everything that belongs to items, and the other way round. Hence a
whole block, weights and vectors together, is drawn at once, and from one summary per user or item.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg

TOLERANCE = 0.01  # of the conjugate gradients, relative; 0.001 gave the same RMSE on validation in twice the time

Design: TypeAlias = sparse.csr_matrix  # (M, J) who has which of J variables


def unit_rows(design: Design) -> Design:
    """Scale the rows to length 1, so that n films of a history count 1/√n each, as in SVD++ (Koren 2008)."""
    lengths = np.sqrt(design.multiply(design).sum(axis=1).A1)
    return sparse.csr_matrix(sparse.diags(1 / np.maximum(lengths, 1e-9)) @ design)


def products(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return the (M, K) products of (M, K, K) matrices with (M, K) vectors."""
    return np.matmul(matrices, vectors[:, :, None])[:, :, 0]


def solve(
    multiply: Callable[[np.ndarray], np.ndarray], target: np.ndarray, diagonal: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Solve multiply(x) = target, all (J, K), by conjugate gradients preconditioned with the map's (J, K, K) diagonal blocks.

    Where every row of a design has a single variable, the blocks are the whole map and one step solves.
    """
    shape, inverses = (target.size, target.size), np.linalg.inv(diagonal)
    operator, inverse = (
        LinearOperator(shape, matvec=lambda x, f=f: f(x.reshape(target.shape)).ravel(), dtype=np.float64)
        for f in (multiply, lambda x: products(inverses, x))
    )
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


class Block:
    """J variables with one prior: `design` (G, J) says which group has which, `groups` (M,) who is in which group.

    `weights` are (J, K).
    """

    def __init__(self, design: Design, groups: np.ndarray, width: int, generator: np.random.Generator) -> None:
        self.design, self.transposed, self.groups = design, design.T.tocsr(), groups
        self.squared = self.transposed.multiply(self.transposed).tocsr()
        self.pool = sparse.identity(design.shape[0], format="csr")[groups].T.tocsr()  # (G, M)
        self.weights = generator.normal(0, 0.1, (design.shape[1], width))

    @property
    def part(self) -> np.ndarray:
        """What the block adds to the (M, K) vectors."""
        return (self.design @ self.weights)[self.groups]

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
        precision = (self.pool @ evidence.precision.reshape(len(others), -1)).reshape(-1, len(prior), len(prior))
        pull = self.pool @ (evidence.moment - products(evidence.precision, others) + evidence.draw_noise())
        noise = np.sqrt(prior) * generator.standard_normal(self.weights.shape)
        diagonal = (self.squared @ precision.reshape(len(precision), -1)).reshape(-1, len(prior), len(prior))
        self.weights = solve(
            lambda weights: self.transposed @ products(precision, self.design @ weights) + prior * weights,
            self.transposed @ pull + prior * mean + noise,
            diagonal + np.diag(prior),
            self.weights,
        )
        return self.part


class Side:
    """The users, or their sessions, or the items: their blocks and the sum of these, `vectors` (M, K) of bias and factors.

    `designs` are those of groups, such as the users of sessions; `groups` (M,) says who is in which.
    """

    def __init__(
        self,
        residuals: Design,
        designs: list[Design],
        groups: np.ndarray,
        width: int,
        generator: np.random.Generator,
    ) -> None:
        self.residuals = residuals  # (M, O) ratings less their mean, for O items or sessions on the other side
        ids = Block(sparse.identity(len(groups), format="csr"), np.arange(len(groups)), width, generator)
        self.blocks = [ids, *(Block(unit_rows(design), groups, width, generator) for design in designs)]
        self.vectors = np.sum([block.part for block in self.blocks], axis=0)

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
            others = self.vectors - block.part
            self.vectors = others + block.draw(evidence, others, generator)
