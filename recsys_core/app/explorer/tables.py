"""What models score with, as small tables, and the scores in an order of operations that a browser repeats bit for bit.

Every number is a float64, every sum goes over films in ascending order of their codes and over factors from the first on, and no
function is used of which the last bit is not given by IEEE 754 (so there are no logarithms and no powers, these come as tables).
`explorer.js` has the same functions under the same names.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeAlias

import numpy as np

STEPS = 127  # of an int8 on either side of 0


@dataclass(frozen=True)
class Summed:
    """A model whose score is a sum over the history: score(i) = Σ_j scale_j value_ji over its films j.

    `values` is (I, I), or, with `starts` (I + 1,) and `columns` (N,), the N stored ones of such a matrix, row after row;
    `scales` is (I,), what one step of a row is worth.
    """

    name: str
    title: str
    values: np.ndarray
    scales: np.ndarray
    starts: np.ndarray | None = None
    columns: np.ndarray | None = None

    def row(self, item: int) -> np.ndarray:
        """(I,) scores for somebody who has watched this film alone."""
        if self.starts is None or self.columns is None:
            return self.values[item].astype(np.float64) * self.scales[item]
        row, stored = np.zeros(len(self.scales)), slice(self.starts[item], self.starts[item + 1])
        row[self.columns[stored]] = self.values[stored].astype(np.float64) * self.scales[item]
        return row

    def scores(self, history: np.ndarray) -> np.ndarray:
        """(I,) scores for (H,) films in ascending order."""
        total = np.zeros(len(self.scales))
        for item in history:
            total += self.row(item)
        return total

    def parts(self, history: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(H, K) what each film of the history adds to the scores of (K,) films."""
        return np.array([self.row(item)[items] for item in history]).reshape(len(history), len(items))

    def likeness(self, item: int) -> np.ndarray:
        """(I,) how alike all films are to this one: what it adds to their scores."""
        return self.row(item)

    def quantised(self) -> Summed:
        """The same with int8 values and a scale a row, the largest size in it by 127."""
        starts = np.arange(len(self.scales) + 1) * len(self.scales) if self.starts is None else self.starts
        rows = np.repeat(np.arange(len(self.scales)), np.diff(starts))
        flat, largest = self.values.ravel() * self.scales[rows], np.zeros(len(self.scales))
        np.maximum.at(largest, rows, np.abs(flat))
        scales = _steps(largest)
        return replace(self, values=_rounded(flat / scales[rows]).reshape(self.values.shape), scales=scales)


@dataclass(frozen=True)
class Folded:
    """A model that solves for the vector of a history of n films, p = (E + Σ_j q_j q_jᵀ + r_n 1)⁻¹ Σ_j q_j; score(i) = p · q_i.

    `values` (I, D) times `scales` (I,) are the vectors q, `everywhere` (D, D) is E and `ridge` (I + 1,) holds r_n for n = 0 to I.
    """

    name: str
    title: str
    values: np.ndarray
    scales: np.ndarray
    everywhere: np.ndarray
    ridge: np.ndarray

    @cached_property
    def vectors(self) -> np.ndarray:
        """(I, D) vectors of the films."""
        return self.values.astype(np.float64) * self.scales[:, None]

    @cached_property
    def lengths(self) -> np.ndarray:
        """(I,) lengths of the vectors."""
        return np.sqrt(_dot(self.vectors * self.vectors, np.ones(self.vectors.shape[1])))

    def factor(self, history: np.ndarray) -> np.ndarray:
        """(D, D) lower triangular L with L Lᵀ = E + Σ_j q_j q_jᵀ + r_n 1."""
        matrix = self.everywhere.copy()
        for item in history:
            matrix += np.outer(self.vectors[item], self.vectors[item])
        matrix[np.diag_indices_from(matrix)] += self.ridge[len(history)]
        return cholesky(matrix)

    def scores(self, history: np.ndarray) -> np.ndarray:
        """(I,) scores for (H,) films in ascending order."""
        target = np.zeros(self.vectors.shape[1])
        for item in history:
            target += self.vectors[item]
        return _dot(self.vectors, solve(self.factor(history), target))

    def parts(self, history: np.ndarray, items: np.ndarray) -> np.ndarray:
        """(H, K) what each film of the history adds to the scores of (K,) films: q_jᵀ (…)⁻¹ q_i (Hu et al. 2008, section 5)."""
        lower, watched = self.factor(history), self.vectors[history]
        added = [_dot(watched, solve(lower, self.vectors[item])) for item in items]
        return np.array(added).reshape(len(items), len(history)).T

    def likeness(self, item: int) -> np.ndarray:
        """(I,) cosines of the vectors of all films and of this one; 0 for a film that nobody has watched."""
        products, lengths = _dot(self.vectors, self.vectors[item]), self.lengths * self.lengths[item]
        return np.divide(products, lengths, out=np.zeros(len(products)), where=lengths > 0)

    def quantised(self) -> Folded:
        """The same with int8 values and a scale a film; E is computed anew from the rounded vectors."""
        scales = _steps(np.abs(self.vectors).max(axis=1))
        values = _rounded(self.vectors / scales[:, None])
        vectors, exact = values * scales[:, None], self.vectors.T @ self.vectors
        weight = float(np.trace(self.everywhere) / np.trace(exact))
        return replace(self, values=values, scales=scales, everywhere=weight * (vectors.T @ vectors))


Table: TypeAlias = Summed | Folded


def cholesky(matrix: np.ndarray) -> np.ndarray:
    """(D, D) lower triangular L with L Lᵀ = `matrix`, which is overwritten: column after column is taken from all to its right."""
    for k in range(len(matrix)):
        matrix[k, k] = np.sqrt(matrix[k, k])
        matrix[k + 1 :, k] /= matrix[k, k]
        matrix[k + 1 :, k + 1 :] -= np.outer(matrix[k + 1 :, k], matrix[k + 1 :, k])
    return np.tril(matrix)


def solve(lower: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(D,) x with L Lᵀ x = `target`."""
    x, size = target.copy(), len(target)
    for k in range(size):
        x[k] /= lower[k, k]
        x[k + 1 :] -= lower[k + 1 :, k] * x[k]
    for k in reversed(range(size)):
        x[k] /= lower[k, k]
        x[:k] -= lower[k, :k] * x[k]
    return x


def _dot(rows: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """(R,) products of (R, D) rows and a (D,) vector, summed from the first column to the last."""
    total = np.zeros(len(rows))
    for column, value in zip(rows.T, vector):
        total += column * value
    return total


def _steps(largest: np.ndarray) -> np.ndarray:
    """What one step of an int8 is worth in rows whose largest size is (R,) `largest`; 1 in a row of zeros."""
    return np.where(largest > 0, largest / STEPS, 1.0)


def _rounded(steps: np.ndarray) -> np.ndarray:
    return np.rint(steps).astype(np.int8)
