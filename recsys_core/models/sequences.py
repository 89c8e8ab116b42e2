"""What sequence models share: histories as windows, whole-sequence batches, and the softmax over the catalogue.

A module maps (B, T) items to (B, T, D) vectors h, the one at a place made of the items up to it, and an item's score as the next is

    score(i | i_1 … i_t) = h_t · e_i,      loss = - mean over all users and places of log softmax(score)_{i_{t+1}}

with the embedding e_i that the item has as input, too. All places of a window learn in one pass, so that an epoch reads each user
once (Kang & McAuley 2018), and every other item of the catalogue is a negative (Klenitskiy & Vasilev 2023). No user id is known,
so that whoever has a history is answered. A history longer than the window counts by its last T items. Items are in the order of
time whatever the order of the rows; equal times keep the order of the rows. Stars are not read.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from recsys_core.budget import rows_at_once
from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions
from recsys_core.models.base import FitTask
from recsys_core.models.neural import NeuralRecommender
from recsys_core.models.settings import between, setting
from recsys_core.models.traits import Traits
from recsys_core.sampling import PositivesAndNegatives

USERS_AT_ONCE = 8  # of a batch, on a processor: fewer are slower, and more are filled up to the longest history
NOTHING_FOLLOWS = "No user has two rows: a sequence model learns from the item that follows another."


def last_items(rows: Interactions, users: np.ndarray, length: int) -> np.ndarray:
    """Return (B, T) items, the last ones of each of (B,) users in the order of time, T at most `length` and no more than needed.

    The code I, which is no item, fills up what is shorter. It stands behind the items: what comes later changes nothing before it,
    so that neither attention nor a recurrent layer has to know of it.
    """
    ends, kept = np.cumsum(rows.user_counts)[users], np.minimum(rows.user_counts[users], length)
    places = np.arange(kept.max(initial=0))
    there = places < kept[:, None]
    cells = np.where(there, (ends - kept)[:, None] + places, 0)
    return np.where(there, rows.items[rows.by_time[cells]], rows.n_items)


def transitions(rows: Interactions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, items and the items that came right after them, (M,) each: every pair of neighbours of every history.

    Raises StudyError where no user has two rows, so that nothing follows anything.
    """
    users, items = rows.users[rows.by_time], rows.items[rows.by_time]
    same = users[1:] == users[:-1]
    if not same.any():
        raise StudyError(NOTHING_FOLLOWS)
    return users[1:][same], items[:-1][same], items[1:][same]


class Windows:
    """Batches of users: (B, T) items and the (B, T) items that follow them, of each user's last `window` + 1 items.

    Raises StudyError as `transitions` does.
    """

    def __init__(self, train: Interactions, window: int, batch_size: int, device: torch.device) -> None:
        self.train, self.window, self.batch_size, self.device = train, window, batch_size, device
        self.users = np.flatnonzero(train.user_counts > 1)
        if not len(self.users):
            raise StudyError(NOTHING_FOLLOWS)

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield every user with two rows or more once, in random order."""
        order = torch.randperm(len(self.users), generator=generator, device=self.device).cpu().numpy()
        for first in range(0, len(order), self.batch_size):
            yield self.batch(self.users[order[first : first + self.batch_size]])

    def batch(self, users: np.ndarray) -> tuple[Tensor, ...]:
        """The batch of (B,) users."""
        items = torch.as_tensor(last_items(self.train, users, self.window + 1), device=self.device)
        following = items[:, 1:]
        return items[:, :-1].where(following < self.train.n_items, self.train.n_items), following


class WindowsAndNegatives(Windows):
    """Batches as those of `Windows`, and (B, T) items that did not follow, one beside each that did, drawn anew for each epoch.

    They are items that the user has not seen in training, uniform over all of these and independent. Users who have seen everything
    are left out. Raises StudyError as `Windows` does, and where that leaves nobody.
    """

    def __init__(self, train: Interactions, window: int, batch_size: int, device: torch.device) -> None:
        super().__init__(train, window, batch_size, device)
        self.unseen = PositivesAndNegatives(train, batch_size, 1, device)
        self.users = self.users[~self.unseen.left_out[self.users]]
        self.rows = train.by_time[~self.unseen.left_out[train.users[train.by_time]]]
        if not len(self.users):
            raise StudyError(NOTHING_FOLLOWS)

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Draw an item for each training row of these users, then yield each of them once, in random order."""
        items = self.train.items.copy()
        items[self.rows] = self.unseen.draw(generator).squeeze(1).cpu().numpy()
        self.drawn = replace(self.train, items=items)
        yield from super().epoch(generator)

    def batch(self, users: np.ndarray) -> tuple[Tensor, ...]:
        """The batch of (B,) users: items, those that follow, those that do not."""
        drawn = last_items(self.drawn, users, self.window + 1)[:, 1:]
        return *super().batch(users), torch.as_tensor(drawn, device=self.device)


def alike_in_length(items: Tensor, following: Tensor, n_items: int, *more: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield (B, T) items, what follows and `more` in parts of users with histories of like length, none wider than its longest.

    So little is computed for what fills a row up. On a GPU, which computes whole batches best, the batch is one part.
    """
    lengths = (following < n_items).sum(dim=1)
    for part in lengths.argsort(stable=True).split(len(items) if items.is_cuda else USERS_AT_ONCE):
        longest = int(lengths[part[-1]])
        yield tuple(each[part, :longest] for each in (items, following, *more))


class _FullSoftmax(torch.autograd.Function):
    """See `full_softmax`. The gradients are made beside the loss, so that a chunk of logits is computed once and then forgotten."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        total = vectors.new_zeros(())
        to_vectors, to_weight = torch.empty_like(vectors), torch.zeros_like(weight)
        step = rows_at_once(len(weight), vectors.device, in_cache=True)
        for first in range(0, len(vectors), step):
            part, target = vectors[first : first + step], targets[first : first + step, None]
            logits = (part @ weight.T).to(weight.dtype)
            highest = logits.amax(dim=1, keepdim=True)
            right = logits.gather(1, target)
            mass = logits.sub_(highest).exp_().sum(dim=1, keepdim=True)
            total += (highest + mass.log() - right).sum()
            excess = logits.div_(mass).scatter_add_(1, target, -torch.ones_like(right))  # softmax - one-hot
            to_vectors[first : first + step] = excess @ weight
            to_weight += excess.T @ part
        ctx.save_for_backward(to_vectors, to_weight)
        ctx.n_rows = max(1, len(vectors))
        return total / ctx.n_rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        share = gradients[0] / ctx.n_rows
        to_vectors, to_weight = ctx.saved_tensors
        return to_vectors * share, to_weight * share, None


def full_softmax(vectors: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of the logits (N, D) `vectors` · (I, D) `weight`ᵀ against (N,) `targets`, never all of them in memory."""
    return torch.as_tensor(_FullSoftmax.apply(vectors.to(weight.dtype), weight, targets))


class SequenceNet(nn.Module):
    """A module that embeds I items, and the code I as zeros, by (I + 1, D) numbers from N(0, `embedding_std`²)."""

    def __init__(self, n_items: int, embedding_dim: int, embedding_std: float) -> None:
        super().__init__()
        self.n_items = n_items
        self.items = nn.Embedding(n_items + 1, embedding_dim, padding_idx=n_items)
        nn.init.normal_(self.items.weight[:-1], std=embedding_std)

    @property
    def outputs(self) -> Tensor:
        """The (I, D) embeddings of the items as the next ones."""
        return self.items.weight[:-1]

    def score_next(self, items: Tensor) -> Tensor:
        """Return (B, I) scores of every item as the one that follows (B, T) items, of which each row has one at least."""
        last = (items < self.n_items).sum(dim=1) - 1
        return self(items)[torch.arange(len(items), device=items.device), last].float() @ self.outputs.T


@dataclass(kw_only=True)
class SequenceRecommender(NeuralRecommender):
    """A recommender whose module is a `SequenceNet`. `batch_size` counts users, and `window` is T."""

    traits: ClassVar[Traits] = Traits(form="non-linear", sequential=True, folds_in=True, stochastic=True)

    epochs: int = setting(100, search=200, fast=20)
    patience: int | None = setting(None, search=10)
    batch_size: int = setting(128, search=[64, 128], fast=10, other=25)
    learning_rate: float = setting(1e-3, search=between(0.0005, 0.005, log=True), fast=0.01)
    weight_decay: float = setting(0.0, search=[0.0, 1e-6, 1e-5, 1e-4])
    window: int = setting(50, least=1, other=5)
    embedding_dim: int = setting(64, least=1, search=[32, 64, 128], fast=16, other=8)
    embedding_std: float = setting(0.02, least=0, other=0.5)
    dropout: float = setting(0.2, least=0, below=1, search=between(0.1, 0.6), other=0.5)

    @abstractmethod
    def _build(self, train: Interactions) -> SequenceNet:
        """The untrained module for this catalogue."""

    def _batches(self, train: Interactions, device: torch.device) -> Windows:
        return Windows(train, self.window, self.batch_size, device)

    def _loss(self, module: Any, *batch: Tensor) -> Tensor:
        whole, next_ones = batch
        vectors, targets = [], []
        for items, following in alike_in_length(whole, next_ones, module.n_items):
            there = following < module.n_items
            vectors.append(module(items)[there])
            targets.append(following[there])
        return full_softmax(torch.cat(vectors), module.outputs, torch.cat(targets))

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        items = torch.as_tensor(last_items(history, users.cpu().numpy(), self.window), device=self.device_)
        step = rows_at_once(items.shape[1] * max(self.window, 4 * self.embedding_dim), self.device_)
        return torch.cat([self.module_.score_next(part) for part in items.split(step)])

    def _identity(self, task: FitTask) -> str:
        times = hashlib.sha256(task.train.times.tobytes()).hexdigest()
        return f"{super()._identity(task)}, times {times[:12]}"
