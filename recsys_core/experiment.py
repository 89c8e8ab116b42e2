"""Runs models under protocols by the study's rules and collects the rows of one notebook.

The rules: the epoch is chosen on validation with seed 0, then every seed is refitted on training + validation rows for that
many epochs, and test is read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd

from recsys_core import evaluate
from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError, choose
from recsys_core.features import encode
from recsys_core.models.base import Recommender
from recsys_core.models.neural import NeuralRecommender
from recsys_core.results import CELL, check_against, fingerprint, leaderboard, public_versions
from recsys_core.splits import Split, make_split

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
    if plan.rating and model.traits.predicts_ratings:
        rated = evaluate.rate(model, known, split.test, split.test_history, overlap)
        summaries.append(_rating_summary(rated).assign(variant=split.variant))
        by_user = rated.groupby("user")["squared_error"].agg(["sum", "size"]).reset_index()
        by_user.columns = ["user", "squared_error", "n_rows"]
        users.append(by_user.astype({"n_rows": "float64"}).assign(variant=split.variant))
    if plan.ranking and (split.negatives is not None or split.protocol != "as-reported"):
        for suffix, stars in plan.relevance:
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
    """Fit on the training rows with seed 0, validated; return that model and a copy that trains for its best epoch."""
    if not isinstance(model, NeuralRecommender):
        return model, model
    selected = copy(model).fit(split.train, split.validation, 0, split.validation_history)
    assert selected.history_ is not None
    return selected, replace(model, epochs=selected.history_.best_epoch, patience=None)


class Storage(Protocol):
    """Where results go and committed ones come from: a run of a notebook, see `pipeline.notebook`."""

    name: str
    check: bool

    def read_committed(self) -> pd.DataFrame | None:
        """The committed results, or None."""
        ...

    def save_results(self, frame: pd.DataFrame) -> None:
        """Keep tidy rows."""
        ...

    def save_users(self, frame: pd.DataFrame) -> None:
        """Keep per-user values."""
        ...


class Experiments:
    """Runs models for one notebook and keeps their rows.

    While results are being checked (`notebook.check`) only the first seed is trained, `check` compares its main metrics with the
    committed ones, and the other seeds' rows are read as committed.
    """

    def __init__(self, notebook: Storage, data: MovieLens) -> None:
        self.notebook = notebook
        self.data = data
        self.rows, self.vocabulary = encode(data)
        self.committed = notebook.read_committed() if notebook.check else None
        self.results = pd.DataFrame()
        self.users = pd.DataFrame()
        self.to_check: list[tuple[pd.DataFrame, str, bool]] = []
        self.histories: dict[tuple[str, str], pd.DataFrame] = {}

    def splits(self, protocol: str) -> list[Split]:
        """All splits of a protocol: five folds, two variants of user-holdout, else one; published rows where the data has them."""
        options: dict[str, Any] = {}
        if protocol.startswith("loo") and self.data.benchmark is not None:
            options = {"benchmark": self.data.benchmark}
            if protocol == "loo-sampled":
                options["item_ids"] = self.vocabulary.item_ids
        return [make_split(protocol, self.rows, **options, **variant) for variant in VARIANTS.get(protocol, [{}])]

    def run(
        self,
        name: str,
        model: Recommender,
        protocols: Sequence[str | Split],
        seeds: list[int],
        settings: str = "stated",
    ) -> Recommender:
        """Run a model under protocols with every seed; return the model of the first seed and split.

        A protocol is a name or a split made by hand. Rating protocols are left out for models that do not predict ratings.
        Splits that train on the same rows (`loo-full` and `loo-sampled`) share one fit. Models that draw nothing at random are
        fitted once, whatever the seeds. Raises StudyError for an unknown protocol and for nothing to run.
        """
        for what, values in (("seeds", seeds), ("protocols", protocols)):
            if not values:
                raise StudyError(f"{what}=[]: give at least one.")
        choose("protocols", [p for p in protocols if isinstance(p, str)], MEASUREMENTS)
        splits = [split for p in protocols for split in ([p] if isinstance(p, Split) else self.splits(p))]
        splits = [s for s in splits if model.traits.predicts_ratings or MEASUREMENTS[s.protocol].ranking]
        if not splits:
            raise StudyError(
                f"{name} predicts no ratings, which is all that {', '.join(map(str, protocols))} measures."
            )
        fits: dict[bytes, tuple[Recommender, list[Recommender]]] = {}
        for split in splits:
            key = split.roles.tobytes()
            if key not in fits:
                fits[key] = self._fit(model, split, seeds)
            selected, fitted = fits[key]
            if selected.history_ is not None:
                self.histories[name, split.protocol] = pd.DataFrame(selected.history_.epochs)
            self._measure(name, split, dict(zip(seeds, fitted)), settings)
        return next(iter(fits.values()))[1][0]

    def _fit(self, model: Recommender, split: Split, seeds: list[int]) -> tuple[Recommender, list[Recommender]]:
        """The model that selected the epoch, and the models of the seeds (in their order, only what is to be trained).

        Folds are replicates, so that `rating-5fold` takes one seed a fold. `as-reported` does as the report did: the validated
        model is the final one.
        """
        once = self.committed is not None or not model.traits.stochastic or split.protocol == "rating-5fold"
        wanted = seeds[:1] if once else seeds
        if split.protocol == "as-reported":
            validation = split.validation if len(split.validation) else None
            fitted = [copy(model).fit(split.train, validation, seed, split.validation_history) for seed in wanted]
            return fitted[0], fitted
        selected, final = select_epochs(model, split)
        return selected, [copy(final).fit(split.refit, None, seed) for seed in wanted]

    def _measure(self, name: str, split: Split, fitted: dict[int, Recommender], settings: str) -> None:
        rows_of = "train" if split.protocol == "as-reported" else "refit"
        summaries, users = zip(*(measure(model, split, rows_of) for model in fitted.values()))
        first = next(iter(fitted.values()))
        labels = {"protocol": split.protocol, "dataset": self.data.name, "model": name, "settings": settings}
        rows = pd.concat([summary.assign(seed=seed) for seed, summary in zip(fitted, summaries)], ignore_index=True)
        rows = rows.assign(**labels, **self._provenance(first, split))
        self._collect(rows, list(users), labels, first.traits.stochastic)

    def _provenance(self, model: Recommender, split: Split) -> dict[str, Any]:
        device = getattr(model, "device_", None)
        return {
            "epochs": getattr(model, "epochs", 0),
            "parameters": model.n_parameters,
            "data_sha256": self.data.sha256[:12],
            "split_sha256": split.sha256[:12],
            "settings_sha256": fingerprint({k: v for k, v in model.hyperparameters.items() if k != "device"})[:12],
            "versions": public_versions(),
            "device": device.type if device is not None else "cpu",
        }

    def _collect(self, rows: pd.DataFrame, users: list[pd.DataFrame], labels: dict[str, str], stochastic: bool) -> None:
        for _, part in rows[rows["seed"] == rows["seed"].iloc[0]].groupby("variant", dropna=False):
            main = MEASUREMENTS[labels["protocol"]].main
            self.to_check.append((part, main if main in set(part["metric"]) else "rmse", stochastic))
        if self.committed is not None:
            mine = (self.committed[list(labels)] == pd.Series(labels)).all(axis=1)
            rows = pd.concat([rows, self.committed[mine & ~self.committed["seed"].isin(rows["seed"])]])
        self.results = pd.concat([self.results, rows], ignore_index=True)
        if len(users[0]):
            mean = pd.concat(users).groupby(["variant", "user"], sort=True).mean().reset_index()
            self.users = pd.concat([self.users, mean.assign(**labels)], ignore_index=True)

    def add(self, name: str, split: Split, metrics: dict[str, float]) -> None:
        """Add metrics that the notebook computed itself, with the provenance of the first seed's run under `split`."""
        labels = {"model": name, "protocol": split.protocol, "variant": split.variant}
        rows = self.results
        if len(rows):
            rows = rows[(rows[list(labels)] == pd.Series(labels)).all(axis=1)]
        if not len(rows):
            raise StudyError(f"{name} was not run under {split.protocol} {split.variant}: run it before adding to it.")
        added = [rows.iloc[[0]].assign(metric=metric, value=value) for metric, value in metrics.items()]
        self.results = pd.concat([self.results, *added], ignore_index=True)

    def check(self) -> str:
        """While results are being checked, assert the main metric of every model and split against the committed value.

        Returns what was (or is to be) compared. Raises StudyError where a result has changed.
        """
        if self.notebook.check and self.committed is None:
            raise StudyError(f"{self.notebook.name} has no committed results to compare with: run `make study` first.")
        for part, metric, stochastic in self.to_check:
            if self.committed is not None:
                check_against(self.committed, part, metric, stochastic)
        metrics = ", ".join(sorted({metric for _, metric, _ in self.to_check}))
        return f"{len(self.to_check)} results with the first seed are what `make test` compares: {metrics}"

    def board(self, protocol: str, *metrics: str) -> pd.DataFrame:
        """The leaderboard of what was run under `protocol`, see `results.leaderboard`."""
        rows = self.results[self.results["protocol"] == protocol]
        users = self.users[self.users["protocol"] == protocol] if len(self.users) else None
        return leaderboard(rows, users, metrics)

    def save(self) -> None:
        """Write the notebook's results and per-user values."""
        first = [*CELL, "seed", "metric", "value", "n_users", "n_missing", "n_fallback"]
        self.notebook.save_results(self.results[[*first, *(c for c in self.results if c not in first)]])
        if len(self.users):
            first = [*CELL, "user"]
            self.notebook.save_users(self.users[[*first, *(c for c in self.users if c not in first)]])
