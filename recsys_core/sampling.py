"""Batches and negatives, drawn vectorised on the device from explicit generators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions

# Seen pairs marked at once, a byte each, on a processor and on a GPU; no budget, since it is part of which negatives a seed draws.
BLOCK_CELLS = (4_000_000, 256_000_000)


class Batches(Protocol):
    """One epoch of training batches at a time."""

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches of one epoch, shuffled by `generator`."""
        ...


class PositivesAndNegatives:
    """Batches of positives, each with fresh negatives: (P,) users and (1 + n, P) items, the positive in the first row.

    Negatives are items that the user has not seen in training, uniform over all of these and independent. They are drawn by
    rejection against a table of seen pairs that holds a block of users at a time, so that no table of size U × I exists.
    A user who has seen everything teaches nothing here and is left out; StudyError where all have.
    """

    def __init__(self, train: Interactions, batch_size: int, n_negatives: int, device: torch.device) -> None:
        self.left_out = np.diff(train.binary.indptr) == train.n_items  # (U,) users
        order = np.argsort(train.users, kind="stable")
        order = order[~self.left_out[train.users[order]]]
        if not order.size:
            raise StudyError(f"All users have seen all {train.n_items} items: no negative can be drawn.")
        self.users = torch.as_tensor(train.users[order], device=device)
        self.items = torch.as_tensor(train.items[order], device=device)
        self.ends = np.cumsum(np.where(self.left_out, 0, train.user_counts)).tolist()
        self.n_items = train.n_items
        self.n_negatives = n_negatives
        self.n_positives = max(1, batch_size // (1 + n_negatives))
        cells = BLOCK_CELLS[device.type == "cuda"]
        self.block = max(1, cells // train.n_items)  # users
        self.seen = torch.empty(self.block * train.n_items, dtype=torch.bool, device=device)

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw (N, n) negatives, a row for each training row in the order of `users`."""
        drawn, start = torch.empty(len(self.users), self.n_negatives, dtype=torch.int64, device=self.users.device), 0
        for first in range(0, len(self.ends), self.block):
            end = self.ends[min(first + self.block, len(self.ends)) - 1]
            if end == start:
                continue
            offsets = (self.users[start:end] - first) * self.n_items
            self.seen.zero_()
            self.seen[offsets + self.items[start:end]] = True
            drawn[start:end] = self._unseen(offsets, generator)
            start = end
        return drawn

    def _unseen(self, offsets: Tensor, generator: torch.Generator) -> Tensor:
        """Draw until no (row, item) is marked in the block's table; `offsets` is where each row's user begins in it."""
        size = (len(offsets), self.n_negatives)
        drawn = torch.randint(self.n_items, size, generator=generator, device=offsets.device).view(-1)
        offsets = offsets.repeat_interleave(self.n_negatives)
        wrong = self.seen.index_select(0, offsets + drawn).nonzero().squeeze(1)
        while len(wrong):
            again = torch.randint(self.n_items, (len(wrong),), generator=generator, device=offsets.device)
            drawn[wrong] = again
            wrong = wrong[self.seen.index_select(0, offsets[wrong] + again)]
        return drawn.view(size)

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield every positive once, in random order, each with negatives drawn for this epoch."""
        negatives = self.draw(generator)
        order = torch.randperm(len(self.users), generator=generator, device=self.users.device)
        for rows in order.split(self.n_positives):
            positives = self.items.index_select(0, rows)  # faster than by brackets, in each step
            yield self.users.index_select(0, rows), torch.cat([positives[None], negatives.index_select(0, rows).T])


class Rows:
    """Shuffled batches of the rows of equally long tensors, such as (users, items, targets)."""

    def __init__(self, batch_size: int, *columns: Tensor) -> None:
        self.batch_size = batch_size
        self.columns = columns

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield every row once, in random order; a single row left over joins the last batch (batch norm needs two)."""
        n_rows = len(self.columns[0])
        order = torch.randperm(n_rows, generator=generator, device=self.columns[0].device)
        sizes = [len(part) for part in order.split(self.batch_size)]
        if len(sizes) > 1 and sizes[-1] == 1 < self.batch_size:
            sizes[-2:] = [self.batch_size + 1]
        for rows in order.split(sizes):
            yield tuple(column.index_select(0, rows) for column in self.columns)


class Vectors:
    """Shuffled batches of the non-empty rows of a sparse (N, W) matrix, each made dense only for its step: one (B, W) tensor."""

    def __init__(self, matrix: sparse.csr_matrix, batch_size: int, device: torch.device) -> None:
        self.matrix = matrix[np.diff(matrix.indptr) > 0]
        self.batch_size = batch_size
        self.device = device

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield every row once, in random order."""
        order = torch.randperm(self.matrix.shape[0], generator=generator, device=self.device).cpu()
        for rows in order.split(self.batch_size):
            yield (torch.as_tensor(self.matrix[rows.numpy()].toarray(), device=self.device),)
