"""Small interactions, models with given scores and plain references, shared by the tests."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recsys_core.datasets import MovieLens
from recsys_core.interactions import Interactions
from recsys_core.models.base import FitTask, Recommender
from recsys_core.models.traits import Traits
from recsys_core.optimiser import Adam


def make_interactions(
    rows: list[tuple[int, int]], n_users: int, n_items: int, ratings: object = None, times: object = None
) -> Interactions:
    """Interactions of (user, item) rows; ratings default to 5 stars, times to the position."""
    codes = np.array(rows, dtype=np.int64).reshape(-1, 2)
    return Interactions(
        codes[:, 0],
        codes[:, 1],
        np.full(len(codes), 5, np.float32) if ratings is None else np.asarray(ratings, np.float32),
        np.arange(len(codes)) if times is None else np.asarray(times, np.int64),
        n_users,
        n_items,
    )


def random_interactions(seed: int, n_users: int, n_items: int, n_rows: int, n_times: int = 10) -> Interactions:
    """Different pairs in random order with half stars and many tied times."""
    generator = np.random.default_rng(seed)
    pairs = generator.choice(n_users * n_items, size=min(n_rows, n_users * n_items), replace=False)
    return Interactions(
        pairs // n_items,
        pairs % n_items,
        (generator.integers(1, 11, len(pairs)) / 2).astype(np.float32),
        generator.integers(0, n_times, len(pairs)),
        n_users,
        n_items,
    )


def invented_movielens() -> MovieLens:
    """40 users with 15 ratings each, enough items for 99 negatives."""
    generator = np.random.default_rng(0)
    items = np.concatenate([generator.choice(130, 15, replace=False) + 1 for _ in range(40)])
    ratings = pd.DataFrame(
        {
            "user_id": np.repeat(np.arange(40) + 1, 15),
            "item_id": items,
            "rating": generator.integers(1, 6, len(items)).astype(float),
            "timestamp": generator.integers(0, 10**6, len(items)),
        }
    )
    return MovieLens("invented", ratings, None, None, None, (1.0, 5.0), True, None, "nowhere", "ab" * 32)


@dataclass(kw_only=True)
class Table(Recommender):
    """Scores and ratings read from a (U, I) table; users without history get the popularity fallback."""

    traits: ClassVar[Traits] = Traits(form="counts", predicts_ratings=True)

    table: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))

    def _fit(self, task: FitTask) -> None:
        self.scores_ = torch.as_tensor(self.table)

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return self.scores_[users]

    def _ratings(self, users: Tensor, items: Tensor, history: Interactions) -> Tensor:
        return self.scores_[users, items].float()

    def _state(self) -> dict[str, Tensor]:
        return {"scores": self.scores_}

    def _restore(self, state: dict[str, Tensor]) -> None:
        self.scores_ = state["scores"]


@dataclass(kw_only=True)
class FoldInTable(Table):
    """The same table, used for held-out users too."""

    traits: ClassVar[Traits] = Traits(form="counts", folds_in=True, predicts_ratings=True)


def reference_ranks(scores: list[float], relevant: set[int], candidates: set[int]) -> list[float]:
    """Ranks of the relevant candidates from the definition: 1 + better items + tied relevant before + half the tied others."""
    ranks = []
    for score in {scores[item] for item in relevant & candidates}:
        tied = [item for item in candidates if scores[item] == score]
        better = sum(scores[item] > score for item in candidates)
        first = 1 + better + sum(item not in relevant for item in tied) / 2
        ranks += [first + position for position in range(sum(item in relevant for item in tied))]
    return sorted(ranks)


def reference_metrics(ranks: list[float], n_relevant: int, cutoff: int) -> dict[str, float]:
    """Every ranking metric of one user, written out from its textbook definition."""
    top = [rank for rank in sorted(ranks) if rank <= cutoff]
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(cutoff, n_relevant) + 1))
    return {
        "hit_ratio": float(bool(top)),
        "ndcg": sum(1 / math.log2(rank + 1) for rank in top) / ideal,
        "mrr": 1 / top[0] if top else 0.0,
        "map": sum((number + 1) / rank for number, rank in enumerate(top)) / min(cutoff, n_relevant),
        "recall": len(top) / n_relevant,
        "recall_capped": len(top) / min(cutoff, n_relevant),
        "precision": len(top) / cutoff,
    }


def with_other_rate(factor: float) -> type[Adam]:
    """Adam whose every step is so many times as long."""

    class OtherRate(Adam):
        def step(self) -> None:
            rate = self.learning_rate
            self.learning_rate = factor * rate
            super().step()
            self.learning_rate = rate

    return OtherRate
