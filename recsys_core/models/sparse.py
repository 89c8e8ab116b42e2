"""What several models do with sparse matrices: rows as rectangles, torch's form of a matrix, systems solved step by step."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recsys_core.budget import rows_at_once


def padded_rows(
    matrix: sparse.csr_matrix, rows: np.ndarray, dim: int = 1, device: torch.device | str = "cpu"
) -> Iterator[tuple[np.ndarray, Tensor, Tensor, Tensor]]:
    """Yield rows of a sparse matrix as rectangles, so that many of them are computed with at once.

    Rows of similar length come together and are padded to a power of two, at most twice their length. A rectangle is as large as
    the budget of `device` allows when a vector of `dim` numbers is looked up for every cell and a `dim` × `dim` system solved for
    every row, or it is one row. Yields positions in `rows` (B,), and (B, W) column codes, values and marks of what is no padding
    (its column and value are 0).
    """
    starts, lengths = matrix.indptr[rows].astype(np.int64), np.diff(matrix.indptr)[rows]
    widths = 2 ** np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64)
    for width in np.unique(widths):
        group = np.flatnonzero(widths == width)
        step = rows_at_once(dim * max(int(width), dim), device, in_cache=True)
        for positions in np.split(group, range(step, len(group), step)):
            present = np.arange(width) < lengths[positions, None]
            cells = np.where(present, starts[positions, None] + np.arange(width), 0)
            columns = np.where(present, matrix.indices[cells], 0).astype(np.int64)
            values = np.where(present, matrix.data[cells], 0)
            yield positions, torch.from_numpy(columns), torch.from_numpy(values), torch.from_numpy(present)


def torch_csr(matrix: sparse.csr_matrix, device: torch.device) -> Tensor:
    """The same sparse matrix in torch, which warns that these are new."""
    starts, columns, values = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        sizes = list(matrix.shape)
        return torch.sparse_csr_tensor(starts, columns, values, sizes, device=device, check_invariants=False)


def conjugate_gradients(times: Callable[[Tensor], Tensor], target: Tensor, x: Tensor, n_steps: int) -> Tensor:
    """Approach, from (R, D) x, the solution of A x = target, whose rows are systems of their own; `times` computes A x."""
    direction = residual = target - times(x)
    square = residual.square().sum(dim=1, keepdim=True)
    for _ in range(n_steps):
        image = times(direction)
        step = square / (direction * image).sum(dim=1, keepdim=True).clamp(min=1e-20)
        x, residual = x + step * direction, residual - step * image
        previous, square = square, residual.square().sum(dim=1, keepdim=True)
        direction = residual + square / previous.clamp(min=1e-20) * direction
    return x
