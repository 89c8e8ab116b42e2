"""Batches and negatives, drawn vectorised on the device from explicit generators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions


class Batches(Protocol):
    """One epoch of training batches at a time."""

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches of one epoch, shuffled by `generator`."""
        ...


class NegativeSampler:
    """Draws items that a user has not seen in training, uniformly and exactly, without a table of size U × I.

    The r-th unseen item of a user (r from 0) is r plus the number of seen items at or below it. With the user's seen items
    sorted as s_0 < s_1 < …, that number is how many s_k - k are at most r: one binary search in an array of N numbers.
    """

    def __init__(self, train: Interactions, device: torch.device) -> None:
        keys = np.unique(train.pair_keys)
        users, items = np.divmod(keys, train.n_items)
        counts = np.bincount(users, minlength=train.n_users)
        starts = np.cumsum(counts) - counts
        shifted = users * train.n_items + items - (np.arange(len(keys)) - starts[users])
        self.n_items = train.n_items
        self.shifted = torch.as_tensor(shifted, device=device)
        self.starts = torch.as_tensor(starts, device=device)
        self.unseen = torch.as_tensor(train.n_items - counts, device=device)

    def draw(self, users: Tensor, n_negatives: int, generator: torch.Generator) -> Tensor:
        """Draw (B, n) unseen items for (B,) users, with replacement; raises StudyError for a user who has seen everything."""
        unseen = self.unseen[users]
        if not unseen.all():
            user = int(users[unseen == 0][0])
            raise StudyError(f"User code {user} has seen all {self.n_items} items: no negative can be drawn for them.")
        uniform = torch.rand(len(users), n_negatives, generator=generator, device=users.device, dtype=torch.float64)
        rank = (uniform * unseen[:, None]).long()
        below = torch.searchsorted(self.shifted, users[:, None] * self.n_items + rank, right=True)
        return rank + below - self.starts[users][:, None]


class PositivesAndNegatives:
    """Batches of positives, each with fresh negatives: (B,) users and (B, 1 + n) items, the positive first."""

    def __init__(self, train: Interactions, batch_size: int, n_negatives: int, device: torch.device) -> None:
        self.users = torch.as_tensor(train.users, device=device)
        self.items = torch.as_tensor(train.items, device=device)
        self.n_negatives = n_negatives
        self.n_positives = max(1, batch_size // (1 + n_negatives))
        self.sampler = NegativeSampler(train, device)

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield every positive once, in random order, each with negatives drawn for this epoch."""
        negatives = self.sampler.draw(self.users, self.n_negatives, generator)
        items = torch.cat([self.items[:, None], negatives], dim=1)
        order = torch.randperm(len(self.users), generator=generator, device=self.users.device)
        for rows in order.split(self.n_positives):
            yield self.users[rows], items[rows]


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
            yield tuple(column[rows] for column in self.columns)
