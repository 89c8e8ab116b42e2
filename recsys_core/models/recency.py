"""Popularity of late: what the last days before the cut show, the baseline of recommending what comes next.

    score(i) = |{rows of i : T - t < window}|          T the time of the latest training row

On ML-20M with one cut in time, 7 days of it rank above every model that learns to name the next item alone: HR@10 .570 and
NDCG@10 .167, against .535 and .153 of the best SASRec there (the repository of eSASRec). No paper has figures on ML-100K.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from recsys_core.interactions import Features, Interactions
from recsys_core.models.base import FitTask, Recommender
from recsys_core.models.registry import recommender
from recsys_core.models.settings import setting
from recsys_core.models.traits import Traits

DAY = 86_400  # seconds


@recommender("recency_popularity", title="Recency popularity", family="counts")
@dataclass(kw_only=True)
class RecencyPopularity(Recommender):
    """Scores every item by its training rows of the last `window_days`, the same for every user, with a history or without one.

    Times are read in seconds. Data whose times are positions in a user's history have no window, and short ones lie within it
    whole: then this is plain popularity. An item without a row in the window scores 0. The window is for a search to choose.
    """

    traits: ClassVar[Traits] = Traits(form="counts", personalised=False, folds_in=True)
    learnt: ClassVar[dict[str, type]] = {"counts": Tensor}

    window_days: float = setting(7.0, above=0, search=[7.0, 30.0, 90.0], fast=0.01, other=0.002)

    def _fit(self, task: FitTask) -> None:
        rows = task.train
        recent = rows.times > rows.times.max() - self.window_days * DAY
        counts = np.bincount(rows.items[recent], minlength=rows.n_items)
        self.counts = torch.as_tensor(counts, dtype=torch.float32)

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return self.counts.repeat(len(users), 1)  # a copy: callers mask scores in place

    def _cold_scores(self, users: Tensor, features: Features | None) -> Tensor:
        return self.counts.to(users.device).expand(len(users), -1)
