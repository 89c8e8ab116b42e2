"""The MLP of `ncf` with a penalty for lists of similar films, as in report S4, a Word document of a student project.

    loss = log loss + `diversity` · similarity within lists                                     (see `losses`)

Similarity is that of the films' genres, weighted by how likely each is on the user's list.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from recsys_core.interactions import Interactions
from recsys_core.losses import binary_cross_entropy, similarity_within_lists
from recsys_core.models.ncf import NCF
from recsys_core.models.registry import recommender
from recsys_core.models.settings import setting
from recsys_core.sampling import Batches

LIST_EVERY, LIST_CANDIDATES = 8, 64  # one batch in so many has lists; films that compete for a place on them
LIST_SHARE = 4  # samples of such a batch for each pair that is scored for its lists


class ListBatches:
    """The batches of another source, (users, items); to every eighth is added what lists are made of: candidates, and their genres.

    The candidates are the batch's first positives: drawn as training rows are, and so about as popular as what stands on lists.
    """

    def __init__(self, batches: Batches, genres: Tensor) -> None:
        self.batches, self.genres = batches, genres

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches of one epoch."""
        for number, batch in enumerate(self.batches.epoch(generator)):
            candidates = batch[1][0, :LIST_CANDIDATES]
            yield batch if number % LIST_EVERY else (*batch, candidates, self.genres[candidates])


@recommender("diverse_ncf", title="NCF, diverse", family="perceptron", is_searched=False)
@dataclass(kw_only=True)
class DiverseNCF(NCF):
    """The MLP with S4's diversity regulariser: log loss + `diversity` · `losses.similarity_within_lists`.

    S4 states a weight of .001 on the sum over the pairs of ten films. So that an epoch takes less than 10 % longer, the second
    term is added to one batch in eight, times eight, for some of its users. Items without genres are unlike all others, and where
    none has any, this is NCF.
    """

    diversity: float = setting(1e-3, least=0, other=0.1)

    def _batches(self, train: Interactions, device: torch.device) -> Batches:
        features = train.item_features
        flags = np.zeros((train.n_items, 1), np.float32) if features is None else features.select("genre_")
        genres = nn.functional.normalize(torch.as_tensor(flags, device=device), dim=1)
        # the weight goes into the vectors, whose products are summed
        return ListBatches(super()._batches(train, device), genres * (LIST_EVERY * self.diversity) ** 0.5)

    @staticmethod
    def _loss(module: nn.Module, *batch: Tensor) -> Tensor:
        (users, items), listing = batch[:2], batch[2:]
        loss = binary_cross_entropy(module(users, items))
        if listing:
            candidates, genres = listing
            asked = users[: max(1, items.numel() // (LIST_SHARE * len(candidates)))]
            logits = module(asked, candidates[:, None].expand(-1, len(asked)))
            loss = loss + similarity_within_lists(logits, genres, candidates)
        return loss
