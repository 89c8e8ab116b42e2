"""Baselines: item popularity and user and item biases."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recsys_core.interactions import Features, Interactions
from recsys_core.models.base import FitTask, Recommender
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting
from recsys_core.models.traits import Traits


@recommender("popularity", title="Popularity", family="counts")
@dataclass(kw_only=True)
class Popularity(Recommender):
    """Scores every item by its number of training rows, the same for every user.

    On the NCF paper's ML-1M files it reaches HR@10 .4533 and NDCG@10 .2542 (Ferrari Dacrema et al. 2021).
    """

    traits: ClassVar[Traits] = Traits(form="counts", personalised=False, folds_in=True)
    learnt: ClassVar[dict[str, type]] = {"counts": Tensor}

    def _fit(self, task: FitTask) -> None:
        self.counts = torch.as_tensor(task.train.item_counts, dtype=torch.float32)

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return self.counts.repeat(len(users), 1)  # a copy: callers mask scores in place


@recommender("bias", title="Bias", family="counts")
@dataclass(kw_only=True)
class Bias(Recommender):
    """Rating = global mean + item bias + user bias, both shrunk towards 0 (Koren, Bell & Volinsky 2009, eq. 3; Koren 2010).

        b_i = Σ_u (r_ui - μ) / (λ_item + n_i)        b_u = Σ_i (r_ui - μ - b_i) / (λ_user + n_u)

    The two are computed one after the other, `n_passes` times, each time against the other's latest value. A new user's bias is
    computed from their history in the same way; without a history it is 0. Stars are clipped to the scale of the training rows.
    With these λ a comparable library reaches RMSE .944 on 5 random folds of ML-100K. The global, user and item means are the
    limits of λ → ∞ and 0: `Bias(**MEANS["item"])`.
    """

    traits: ClassVar[Traits] = Traits(form="counts", personalised=False, folds_in=True, predicts_ratings=True)
    learnt: ClassVar[dict[str, type]] = {"item_bias": np.ndarray, "mean": float, "low": float, "high": float}

    item_regularisation: float = setting(
        10.0, least=0, may_be_infinite=True, search=between(0.1, 100.0, log=True), other=40.0
    )
    user_regularisation: float = setting(
        15.0, least=0, may_be_infinite=True, search=between(0.1, 100.0, log=True), other=60.0
    )
    n_passes: int = setting(10, least=1, other=1)

    def _fit(self, task: FitTask) -> None:
        train = task.train
        self.mean = float(train.ratings.astype(np.float64).mean())
        self.low, self.high = float(train.ratings.min()), float(train.ratings.max())
        self.item_bias = np.zeros(train.n_items)
        user_bias = np.zeros(train.n_users)
        for _ in range(self.n_passes):
            residual = train.ratings - self.mean - user_bias[train.users]
            total = np.bincount(train.items, weights=residual, minlength=train.n_items)
            self.item_bias = total / np.maximum(self.item_regularisation + train.item_counts, 1e-9)
            user_bias = self._user_bias(train)

    def _user_bias(self, history: Interactions) -> np.ndarray:
        residual = history.ratings - self.mean - self.item_bias[history.items]
        total = np.bincount(history.users, weights=residual, minlength=history.n_users)
        return total / np.maximum(self.user_regularisation + history.user_counts, 1e-9)

    def baseline(self, users: np.ndarray, items: np.ndarray, history: Interactions) -> np.ndarray:
        """Return μ + b_u + b_i in stars, not clipped, for user and item codes of shapes that broadcast."""
        return self.mean + self._user_bias(history)[users] + self.item_bias[items]

    def residuals(self, history: Interactions) -> sparse.csr_matrix:
        """Return the (U, I) matrix of what the biases leave of a history's ratings; every row is stored, zero or not."""
        stars = history.stars
        users = np.repeat(np.arange(history.n_users), np.diff(stars.indptr))
        values = stars.data - self.baseline(users, stars.indices, history)
        return sparse.csr_matrix((values.astype(np.float32), stars.indices, stars.indptr), shape=stars.shape)

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        stars = self.baseline(users.cpu().numpy()[:, None], np.arange(history.n_items), history)
        return torch.as_tensor(stars, dtype=torch.float32)

    def _ratings(self, users: Tensor, items: Tensor, history: Interactions) -> Tensor:
        stars = self.baseline(users.cpu().numpy(), items.cpu().numpy(), history)
        return torch.as_tensor(stars.clip(self.low, self.high), dtype=torch.float32)

    def _cold_scores(self, users: Tensor, features: Features | None) -> Tensor:
        return torch.as_tensor(self.mean + self.item_bias, dtype=torch.float32).expand(len(users), -1)

    def _cold_ratings(self, users: Tensor, items: Tensor, features: Features | None) -> Tensor:
        stars = self.mean + self.item_bias[items.cpu().numpy()]
        return torch.as_tensor(stars.clip(self.low, self.high), dtype=torch.float32)

    @property
    def n_parameters(self) -> int:
        """The global mean, and the biases of items and of users that an infinite regularisation does not hold at 0."""
        n_items = self.train_.n_items if np.isfinite(self.item_regularisation) else 0
        n_users = self.train_.n_users if np.isfinite(self.user_regularisation) else 0
        return 1 + n_items + n_users


# Each user's mean rating, each item's, or one for all, as settings of `Bias`.
MEANS: dict[str, dict[str, float]] = {
    "global": {"item_regularisation": np.inf, "user_regularisation": np.inf},
    "user": {"item_regularisation": np.inf, "user_regularisation": 0.0},
    "item": {"item_regularisation": 0.0, "user_regularisation": np.inf},
}
