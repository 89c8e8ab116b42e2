"""Models that take long to train: each is kept on disk as soon as it is fitted, and a run that was stopped goes on where it was.

What was fitted lies in a folder that git ignores, under a name made of rows, settings and seed. Without that file a model is
trained anew, from the end of its last epoch if its training was stopped. Results are saved after each model.
The name knows nothing of a model's code: who changes that removes the folder first.
"""

from __future__ import annotations

import json
from copy import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.chapters.boards import VARIANT
from pipeline.chapters.confirmed_runs import rows_sha256
from pipeline.chapters.fits import with_chosen
from pipeline.chapters.notebook import Notebook
from pipeline.chapters.orders import histories_by_order, users_by_order
from pipeline.chapters.results import public_versions, with_counts
from pipeline.chapters.store import METRIC_COLUMNS, Selection
from recsys_core import evaluate
from recsys_core.datasets import load
from recsys_core.features import encode
from recsys_core.files import atomic_path
from recsys_core.interactions import Interactions
from recsys_core.judging import judge, measure
from recsys_core.models.base import Recommender, fingerprint
from recsys_core.protocols import make_split
from recsys_core.splits import Role, Split
from recsys_core.train import History, resolve_device

FOLDER = Path("reports/executed/long_runs")
READ = ("true", "shuffled, last kept", "shuffled")
VALIDATION, CURVE = "validation", "curve"
MEASURED = ("hit_ratio@10", "ndcg@10")


def validation_as_test(split: Split) -> Split:
    """The split whose test rows are the validation rows of another, and whose own test rows are used by nothing."""
    roles = np.where(split.roles == Role.VALIDATION, Role.TEST, split.roles & Role.TRAIN).astype(np.uint8)
    return replace(split, roles=roles, variant=VALIDATION)


class LongRuns:
    """What a chapter trains on one data set under `loo-full`, with one seed."""

    def __init__(self, notebook: Notebook, dataset: str, seed: int = 0) -> None:
        self.notebook, self.seed, self.data = notebook, seed, load(dataset)
        self.split = make_split("loo-full", encode(self.data)[0])
        self.folder = notebook.root / FOLDER
        self.results, self.users = pd.DataFrame(), pd.DataFrame()

    def fitted(self, model: Recommender, rows: Interactions, validation: Interactions | None = None) -> Recommender:
        """A copy of a model, fitted on rows and validated or not; a network is read from disk where it was fitted before."""
        if not model.chaotic:
            return copy(model).fit(rows, validation, self.seed, judge=judge)
        path = self.path(model, rows, validation)
        curve = path.with_suffix(".json")
        if path.exists() and curve.exists():
            known = type(model).load(path)
            known.history_ = History(**json.loads(curve.read_text(encoding="utf-8")))
            return known
        self.folder.mkdir(parents=True, exist_ok=True)
        checkpoint = path.with_suffix(".checkpoint")
        fresh = copy(model).fit(rows, validation, self.seed, checkpoint=checkpoint, judge=judge)
        with atomic_path(curve) as temporary:
            temporary.write_text(json.dumps(asdict(fresh.history_ or History())), encoding="utf-8")
        fresh.save(path)
        return fresh

    def path(self, model: Recommender, rows: Interactions, validation: Interactions | None = None) -> Path:
        """Where a network fitted on these rows is kept."""
        parts = [rows] if validation is None else [rows, validation]
        what = {"rows": [rows_sha256(part) for part in parts], "seed": self.seed, "device": _device(model)}
        return self.folder / f"{model.name}-{fingerprint(what | _settings(model))[:16]}"

    def run(self, name: str, *candidates: Recommender) -> Recommender:
        """Measure a model, of several the one that is best on validation rows; returns it with what validation chose, unfitted.

        Rows: what it is worth on the validation rows, its curve by epoch, and, fitted on these rows, too, on the test rows.
        """
        judged = validation_as_test(self.split)
        known = [self.fitted(model, self.split.train, self._validating(model)) for model in candidates]
        best = max(known, key=lambda model: evaluate.mean_ndcg(model, self._task(judged.train, judged.test)))
        chosen = with_chosen(best, Selection(best.chosen))
        self._add(name, best, *measure(best, judged), split=judged)
        if best.history_ is not None and best.history_.epochs:
            self._add(name, best, _curve(best.history_), pd.DataFrame(), judged, CURVE)
        final = self.fitted(chosen, self.split.refit)
        self._add(name, final, *measure(final, self.split), split=self.split)
        return chosen

    def by_order(self, name: str, model: Recommender, orders: list[str]) -> None:
        """Train a model on histories in each of these orders, and measure each in all of `READ`.

        Rows of the variant "learnt → read".
        """
        histories = histories_by_order(self.split, self.seed, READ)
        task = self._task(self.split.refit, self.split.test)
        for order in orders:
            final = self.fitted(model, histories[order])
            users = users_by_order(final, order, histories, task).rename(columns={"model": "variant"})
            means = users.groupby("variant")[list(MEASURED)].mean().reset_index().melt("variant", var_name="metric")
            summary = means.assign(n_users=users["user"].nunique(), n_missing=0, n_fallback=0)
            self._add(name, final, summary, users[["user", "variant", *MEASURED]], self.split, VARIANT)

    def _validating(self, model: Recommender) -> Interactions | None:
        return self.split.validation if model.chooses else None

    @staticmethod
    def _task(train: Interactions, test: Interactions) -> evaluate.RankingTask:
        return evaluate.RankingTask(train, test, cutoffs=(10,))

    def _add(
        self, name: str, model: Recommender, summary: pd.DataFrame, users: pd.DataFrame, split: Split, role: str = ""
    ) -> None:
        """Append rows, with where they come from, and save all that there are."""
        labels = {"protocol": split.protocol, "dataset": self.data.name, "model": name, "settings": "stated"}
        facts = {
            "family": type(model).family,
            "role": role,
            "epochs": getattr(model, "epochs", 0),
            "parameters": model.n_parameters,
            "data_sha256": self.data.sha256[:12],
            "split_sha256": self.split.sha256[:12],
            "settings_sha256": fingerprint(_settings(model))[:12],
            "versions": public_versions(),
            "device": _device(model),
        }
        rows = with_counts(summary[METRIC_COLUMNS].assign(seed=self.seed, **labels, **facts))
        self.results = pd.concat([self.results, rows], ignore_index=True)
        self.users = pd.concat([self.users, users.assign(**labels)], ignore_index=True)
        first = ["protocol", "variant", "dataset", "model", "settings", "seed", *METRIC_COLUMNS[1:]]
        self.notebook.save_results(self.results[[*first, *facts]])
        self.notebook.save_users(self.users[[*first[:5], "user", *MEASURED]])


def _settings(model: Recommender) -> dict[str, Any]:
    return {key: value for key, value in model.hyperparameters.items() if key != "device"}


def _device(model: Recommender) -> str:
    return resolve_device(getattr(model, "device", "cpu")).type


def _curve(history: History) -> pd.DataFrame:
    """Rows of a training curve, an epoch a variant."""
    table = pd.DataFrame(history.epochs).melt("epoch", var_name="metric")
    variant = [f"epoch {epoch:03.0f}" for epoch in table["epoch"]]
    return table.assign(variant=variant, n_users=0, n_missing=0, n_fallback=0)
