"""What validation looks at: one number that says how good a model is on validation rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recsys_core import evaluate
from recsys_core.interactions import Interactions
from recsys_core.train import Validation

if TYPE_CHECKING:
    from recsys_core.models.base import Recommender

CUTOFF = 10


def judge(model: Recommender, train: Interactions, rows: Interactions, history: Interactions | None) -> Validation:
    """RMSE in stars for models that rate, NDCG@10 for all others, of `model` as it is whenever `measure` is called.

    `train` are the rows that the model learns from, `rows` those that it is validated on, `history` what is known of held-out
    validation users (None: they are users of `train`). Raises StudyError where a validation row is also a training row.
    """
    if model.rates:
        return Validation("rmse", lambda: evaluate.rmse(evaluate.rate(model, train, rows, history)), False)
    task = evaluate.RankingTask(train, rows, history, cutoffs=(CUTOFF,))
    return Validation(f"ndcg@{CUTOFF}", lambda: evaluate.mean_ndcg(model, task), True)
