"""A first-order Markov chain over items: what was seen after the last item, counted.

    score(i | j) = P(i | j) = (n_ji + κ p_i) / (Σ_k n_jk + κ),      p_i = n_i / N

n_ji counts how often an item i came right after j, over all users; p_i is the share of i in the training rows. κ is what is known
before anything is counted, in transitions, so that what never followed j is in the order of popularity, and an item that is last
in every history is followed by popularity itself (a Dirichlet prior; the chain alone is section 4.1 of Rendle, Freudenthaler &
Schmidt-Thieme 2010, by maximum likelihood). Of a history the last item counts alone. Nothing is drawn: the counts are the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recsys_core.interactions import Interactions
from recsys_core.models.base import FitTask, Recommender
from recsys_core.models.registry import recommender
from recsys_core.models.sequences import last_items, transitions
from recsys_core.models.settings import between, setting
from recsys_core.models.traits import Traits


@recommender("markov_chain", title="Markov chain", family="sequential")
@dataclass(kw_only=True)
class MarkovChain(Recommender):
    """The chain with a prior of `smoothing` transitions, which is κ; 0 is maximum likelihood but for items that nothing followed.

    `transitions` is the sparse (I, I) matrix of n_ji, and as large as there are different pairs.
    """

    traits: ClassVar[Traits] = Traits(form="linear", sequential=True, folds_in=True)

    smoothing: float = setting(10.0, least=0, search=between(1.0, 3000.0, log=True), other=1000.0)

    def _fit(self, task: FitTask) -> None:
        self._count(task.train)

    def _count(self, train: Interactions) -> None:
        _, before, after = transitions(train)
        ones = np.ones(len(before), np.float32)
        self.transitions = sparse.csr_matrix((ones, (before, after)), shape=(train.n_items, train.n_items))

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        counted = self.transitions[last_items(history, users.cpu().numpy(), 1)[:, 0]].toarray()
        shares = (self.train_.item_counts / len(self.train_)).astype(np.float32)
        total = counted.sum(axis=1, keepdims=True)
        prior = np.where(total > 0, self.smoothing, max(self.smoothing, 1.0))
        return torch.from_numpy(((counted + prior * shares) / (total + prior)).astype(np.float32))

    @property
    def n_parameters(self) -> int:
        """Different transitions."""
        return int(self.transitions.nnz)

    def _restore(self, state: dict[str, Tensor]) -> None:
        super()._restore(state)
        self._count(self.train_)
