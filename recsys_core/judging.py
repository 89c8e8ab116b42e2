"""What a model is worth: one number on validation rows while it learns, and all that its protocol measures on test rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from recsys_core import evaluate
from recsys_core.interactions import Interactions
from recsys_core.protocols import PROTOCOLS, Protocol
from recsys_core.splits import Split
from recsys_core.train import Validation

if TYPE_CHECKING:
    from recsys_core.models.base import Recommender


def judge(model: Recommender, train: Interactions, rows: Interactions, history: Interactions | None) -> Validation:
    """What to measure of `model`, as it is at the time: RMSE in stars for models that rate, NDCG@10 for all others.

    `train` are the rows that the model learns from, `rows` those that it is validated on, `history` what is known of held-out
    validation users (None: they are users of `train`). Raises StudyError where a validation row is also a training row.
    """
    return judge_by("rmse" if model.rates else "ndcg@10", model, train, rows, history)


def judge_by(
    metric: str, model: Recommender, train: Interactions, rows: Interactions, history: Interactions | None
) -> Validation:
    """As `judge`, by "rmse" or "ndcg@K" whatever the model is."""
    if metric == "rmse":
        return Validation(metric, lambda: evaluate.rmse(evaluate.rate(model, train, rows, history)), False)
    task = evaluate.RankingTask(train, rows, history, cutoffs=(int(metric.removeprefix("ndcg@")),))
    return Validation(metric, lambda: evaluate.mean_ndcg(model, task), True)


def judge_among(
    negatives: np.ndarray, model: Recommender, train: Interactions, rows: Interactions, history: Interactions | None
) -> Validation:
    """As `judge`, by NDCG@10 of a user's one validation row among `negatives` (U, n)."""
    task = evaluate.RankingTask(train, rows, history, negatives, cutoffs=(10,))
    return Validation("ndcg@10", lambda: evaluate.mean_ndcg(model, task), True)


def measure(model: Recommender, split: Split) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure a fitted model on the split's test rows: tidy summary rows and per-user values.

    The summary has columns variant, metric, value, n_users, n_missing, n_fallback; the per-user frame user, variant and a column
    per metric, `squared_error` (sum) and `n_rows` for ratings. Raises StudyError where the model has learnt from a test row, unless
    the protocol leaks on purpose.
    """
    protocol = PROTOCOLS[split.protocol]
    rates = protocol.rating and model.rates
    parts = [_measure_ratings(model, split, protocol)] if rates else []
    # A report that measured stars ranked nothing, unless it says against which negatives.
    if protocol.ranking and not (protocol.leaks and rates and split.negatives is None):
        parts += _measure_rankings(model, split, protocol)
    summaries, users = zip(*parts)
    # a user's ratings and ranks, which were measured apart, in one row
    per_user = pd.concat(users).groupby(["variant", "user"]).first().reset_index()
    return pd.concat(summaries, ignore_index=True), per_user


def _measure_ratings(model: Recommender, split: Split, protocol: Protocol) -> tuple[pd.DataFrame, pd.DataFrame]:
    rated = evaluate.rate(model, model.train_, split.test, split.test_history, protocol.leaks)
    by_user = rated.groupby("user")["squared_error"].agg(["sum", "size"]).reset_index()
    by_user.columns = ["user", "squared_error", "n_rows"]
    users = by_user.astype({"n_rows": "float64"})
    return _rating_summary(rated).assign(variant=split.variant), users.assign(variant=split.variant)


def _rating_summary(rated: pd.DataFrame) -> pd.DataFrame:
    mse = rated["squared_error"].mean()
    right = (rated["predicted"] >= 3.5) == (rated["actual"] >= 4)  # a prediction that rounds to 4 or more says "liked"
    values = {"mse": mse, "rmse": np.sqrt(mse), "mae": rated["absolute_error"].mean(), "accuracy_liked": right.mean()}
    return pd.DataFrame({"metric": list(values), "value": list(values.values())}).assign(
        n_users=rated["user"].nunique(), n_missing=0, n_fallback=rated.loc[rated["fallback"], "user"].nunique()
    )


def _measure_rankings(model: Recommender, split: Split, protocol: Protocol) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    parts = []
    # Where ratings are no opinions, nothing is liked more than the rest.
    for suffix, stars in [each for each in protocol.relevance if model.train_.explicit or not each[1]]:
        test = split.test if not stars else split.test.take(split.test.ratings >= stars)
        task = evaluate.RankingTask(
            model.train_,
            test,
            split.test_history,
            split.negatives,
            protocol.cutoffs,
            protocol.leaks,
            split.test.users,
        )
        ranked = evaluate.rank(model, task)
        for group, ranking in _known_and_cold(ranked) if protocol.cold_apart else [("", ranked)]:
            variant = ", ".join(part for part in (split.variant, suffix, group) if part)
            summary = ranking.summary()
            summary = summary[summary["metric"].isin(protocol.ranking)]
            columns = [name for name in protocol.ranking if name in ranking.users]
            parts.append((summary.assign(variant=variant), ranking.users[["user", *columns]].assign(variant=variant)))
    return parts


def _known_and_cold(ranking: evaluate.Ranking) -> list[tuple[str, evaluate.Ranking]]:
    """All users, those with a history, and those without one."""
    known = ranking.users["known"].to_numpy()
    parts = {"all users": np.ones_like(known), "known users": known, "cold users": ~known}
    return [(name, ranking.of(mask)) for name, mask in parts.items() if mask.any()]
