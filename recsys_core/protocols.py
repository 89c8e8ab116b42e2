"""What every protocol measures, and the rule that chooses the epoch.

The epoch is chosen on validation with seed 0, then every seed is refitted on training + validation rows for that many epochs, and
test is read once.
"""

from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from recsys_core import evaluate
from recsys_core.models.base import Recommender
from recsys_core.splits import Split

RANKING = ("hit_ratio", "ndcg", "mrr", "map", "recall", "recall_capped", "precision")
BEYOND_ACCURACY = ("diversity", "coverage", "exposure_gini", "novelty", "popularity_bias")


def _at(names: tuple[str, ...], *cutoffs: int) -> tuple[str, ...]:
    return tuple(f"{name}@{cutoff}" for cutoff in cutoffs for name in names)


@dataclass(frozen=True)
class Measurement:
    """What a protocol measures: ranking metrics, rating metrics, which one is checked, and what counts as relevant.

    `relevance` maps a suffix of the variant to the least number of stars of a relevant row.
    """

    ranking: tuple[str, ...] = ()
    rating: bool = False
    main: str = "ndcg@10"
    relevance: tuple[tuple[str, float], ...] = (("", 0.0),)

    @property
    def cutoffs(self) -> tuple[int, ...]:
        """Cut-offs of the ranking metrics, ascending."""
        return tuple(sorted({int(name.split("@")[1]) for name in self.ranking}))


_NEXT_ITEM = _at(("hit_ratio", "ndcg", "mrr", *BEYOND_ACCURACY), 10, 25)
MEASUREMENTS = {
    "rating-5fold": Measurement(rating=True, main="rmse"),
    "loo-full": Measurement(_NEXT_ITEM),
    "loo-sampled": Measurement(_at(("hit_ratio", "ndcg"), 10)),
    "user-holdout": Measurement(
        _at(("map", "recall", "precision"), 25),
        rating=True,
        main="recall@25",
        relevance=(("relevant: rated 4+", 4.0), ("relevant: rated", 0.0)),
    ),
    "random-80-10-10": Measurement(_at((*RANKING, *BEYOND_ACCURACY), 10, 25), rating=True),
    "strong-generalization": Measurement(("recall_capped@20", "recall_capped@50", "ndcg@100"), main="ndcg@100"),
    "temporal": Measurement(_NEXT_ITEM),
    "as-reported": Measurement(_at(("hit_ratio", "ndcg"), 10), rating=True, main="hit_ratio@10"),
}
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "rating-5fold": [{"fold": fold} for fold in range(1, 6)],
    "user-holdout": [{"fold_in": 0.0}, {"fold_in": 0.8}],
}


def measure(model: Recommender, split: Split, train: str = "refit") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure a fitted model on the split's test rows: tidy summary rows and per-user values.

    `train` names the rows it was fitted on, "refit" or "train". The summary has columns variant, metric, value, n_users,
    n_missing, n_fallback; the per-user frame user, variant and a column per metric, `squared_error` (sum) and `n_rows` for ratings.
    """
    plan, known = MEASUREMENTS[split.protocol], getattr(split, train)
    overlap = split.protocol == "as-reported"
    summaries, users = [], []
    rates = plan.rating and model.rates
    if rates:
        rated = evaluate.rate(model, known, split.test, split.test_history, overlap)
        summaries.append(_rating_summary(rated).assign(variant=split.variant))
        by_user = rated.groupby("user")["squared_error"].agg(["sum", "size"]).reset_index()
        by_user.columns = ["user", "squared_error", "n_rows"]
        users.append(by_user.astype({"n_rows": "float64"}).assign(variant=split.variant))
    if plan.ranking and (split.negatives is not None or split.protocol != "as-reported" or not rates):
        # Where ratings are no opinions, nothing is liked more than the rest.
        for suffix, stars in [each for each in plan.relevance if model.train_.explicit or not each[1]]:
            test = split.test if not stars else split.test.take(split.test.ratings >= stars)
            task = evaluate.RankingTask(
                known, test, split.test_history, split.negatives, plan.cutoffs, overlap, split.test.users
            )
            for group, ranking in _groups(evaluate.rank(model, task), split.protocol):
                variant = ", ".join(part for part in (split.variant, suffix, group) if part)
                summary = ranking.summary()
                summaries.append(summary[summary["metric"].isin(plan.ranking)].assign(variant=variant))
                columns = [name for name in plan.ranking if name in ranking.users]
                users.append(ranking.users[["user", *columns]].assign(variant=variant))
    # one line a user, ratings beside ranks
    per_user = pd.concat(users).groupby(["variant", "user"]).first().reset_index()
    return pd.concat(summaries, ignore_index=True), per_user


def _groups(ranking: evaluate.Ranking, protocol: str) -> list[tuple[str, evaluate.Ranking]]:
    """Under `temporal`, known and cold users are told apart; elsewhere all users are one group."""
    if protocol != "temporal":
        return [("", ranking)]
    known = ranking.users["known"].to_numpy()
    parts = {"all users": known | True, "known users": known, "cold users": ~known}
    return [(name, ranking.of(mask)) for name, mask in parts.items() if mask.any()]


def _rating_summary(rated: pd.DataFrame) -> pd.DataFrame:
    mse = rated["squared_error"].mean()
    right = (rated["predicted"] >= 3.5) == (rated["actual"] >= 4)  # a prediction that rounds to 4 or more says "liked"
    values = {"mse": mse, "rmse": np.sqrt(mse), "mae": rated["absolute_error"].mean(), "accuracy_liked": right.mean()}
    return pd.DataFrame({"metric": list(values), "value": list(values.values())}).assign(
        n_users=rated["user"].nunique(), n_missing=0, n_fallback=rated.loc[rated["fallback"], "user"].nunique()
    )


def select_epochs(model: Recommender, split: Split) -> tuple[Recommender, Recommender]:
    """Fit on the training rows with seed 0, validated; return that model and a copy with what was chosen: epochs, weights."""
    if not model.chooses:
        return model, model
    selected = copy(model).fit(split.train, split.validation, 0, split.validation_history)
    return selected, type(model)(**model.hyperparameters | selected.chosen)
