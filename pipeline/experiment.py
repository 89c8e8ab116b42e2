"""Runs models under protocols and collects the rows of one notebook."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.notebook import Notebook
from pipeline.results import CELL, check_against, leaderboard, public_versions
from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError, choose
from recsys_core.features import encode
from recsys_core.models.base import Recommender, fingerprint
from recsys_core.protocols import MEASUREMENTS, VARIANTS, measure, select_epochs
from recsys_core.splits import Split, make_split
from recsys_core.train import resolve_device

ROUNDING = 1.1e-6  # values are stored with 6 decimals


class Runs(NamedTuple):
    """Rows of results, and per-user values averaged over seeds."""

    results: pd.DataFrame
    users: pd.DataFrame


NOTHING = Runs(pd.DataFrame(), pd.DataFrame())


class Fits:
    """The models of one run by seed, each fitted when it is first asked for.

    Validation chooses on the training rows, once; the models learn from these and the validation rows. `as-reported` does as the
    report did: the validated model is the final one.
    """

    def __init__(self, model: Recommender, split: Split) -> None:
        self.split = split
        self.as_reported = split.protocol == "as-reported"
        self.selected, self.final = (model, model) if self.as_reported else select_epochs(model, split)
        self.fitted: dict[int, Recommender] = {}

    def of(self, seed: int) -> Recommender:
        """The model of a seed."""
        if seed not in self.fitted:
            split, model = self.split, copy(self.final)
            if self.as_reported:
                validation = split.validation if len(split.validation) else None
                model.fit(split.train, validation, seed, split.validation_history)
            else:
                model.fit(split.refit, None, seed)
            self.fitted[seed] = model
        return self.fitted[seed]

    def curve(self, seed: int) -> pd.DataFrame | None:
        """What the training that was validated recorded after each epoch; None for models that do not iterate."""
        history = (self.of(seed) if self.as_reported else self.selected).history_
        return None if history is None else pd.DataFrame(history.epochs)


class Experiments:
    """Runs models for one notebook and keeps their rows.

    While results are being checked (`notebook.check`) only the first seed is trained, and of the five folds (or other splits of
    `rating-5fold`), which are replicates as seeds are, only the first; `check` compares its main metrics with the committed ones,
    and the other rows are read as committed.

    The folds listed by the notebook's parameter `stored_folds` are taken from the results stored for the profile `full` where data,
    split, settings, versions and device are the same, which is what training them would give; else they are trained. The seeds
    listed by `stored_seeds` are taken in the same way from those of the profile `seeds`, where besides the first seed, which is
    always trained, comes out as it is stored; the protocols listed by `stored_protocols` are taken from there with all seeds.
    """

    def __init__(self, notebook: Notebook, data: MovieLens) -> None:
        self.notebook = notebook
        self.data = data
        self.rows, self.vocabulary = encode(data)
        self.committed, self.committed_users = notebook.read_committed() if notebook.check else (None, None)
        self.stored_folds = {f"fold={number}" for number in notebook.parameters.get("stored_folds", [])}
        self.stored_seeds = set(notebook.parameters.get("stored_seeds", []))
        self.folds = Runs(*notebook.read_stored_runs("full")) if self.stored_folds else NOTHING
        self.stored_protocols = set(notebook.parameters.get("stored_protocols", []))
        wanted = self.stored_seeds or self.stored_protocols
        self.seeds = Runs(*notebook.read_stored_runs("seeds")) if wanted else NOTHING
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
        """Run a model under protocols with every seed; return the model of the first seed and split that was trained, if any was.

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
        splits = self._to_train(name, model, splits, seeds, settings)
        fits: dict[bytes, Fits] = {}
        curves: dict[tuple[str, str], pd.DataFrame] = {}  # of the first split
        for split in splits:
            key = split.roles.tobytes()
            if key not in fits:
                fits[key] = Fits(model, split)
            if (curve := fits[key].curve(seeds[0])) is not None:
                curves.setdefault((name, split.protocol), curve)
            wanted = self._reported(model, split, seeds) if self.committed is None else seeds[:1]
            self._measure(name, split, model, fits[key], wanted, settings)
        self.histories |= curves
        return next(iter(fits.values())).of(seeds[0]) if fits else model

    def _to_train(
        self, name: str, model: Recommender, splits: list[Split], seeds: list[int], settings: str
    ) -> list[Split]:
        """All splits but those whose results are known: as committed, or as stored, which are taken up here."""
        folds = [split for split in splits if split.protocol == "rating-5fold"]
        if self.committed is not None and "fold=1" not in self.stored_folds:
            known = folds[1:]
        else:
            later = [fold for fold in folds if fold.variant in self.stored_folds]
            known = [fold for fold in later if self._take_stored(self.folds, name, model, fold, seeds[:1], settings)]
        others = [split for split in splits if split.protocol in self.stored_protocols]
        known += [
            split
            for split in others
            if self._take_stored(self.seeds, name, model, split, self._reported(model, split, seeds), settings)
        ]
        return [split for split in splits if not any(split is one for one in known)]

    def _take_stored(
        self, runs: Runs, name: str, model: Recommender, split: Split, seeds: list[int], settings: str
    ) -> bool:
        """Take up the stored rows of this very run; False unless there are those of all seeds."""
        rows, users = self._stored(runs, self._labels(name, split, settings), self._identity(model, split))
        if not len(rows) or set(rows["seed"]) != set(seeds):
            return False
        self.results = pd.concat([self.results, rows], ignore_index=True)
        self.users = pd.concat([self.users, users], ignore_index=True)
        return True

    def _stored(self, runs: Runs, labels: dict[str, str], identity: dict[str, str]) -> Runs:
        """What is stored of this very run; the per-user values go with the rows."""
        rows = self._same(runs.results, labels | identity)
        if not len(rows):
            return Runs(rows, runs.users[:0])
        users = self._same(runs.users, labels)
        return Runs(rows, users[users["variant"].isin(rows["variant"])])

    @staticmethod
    def _same(rows: pd.DataFrame, labels: dict[str, str]) -> pd.DataFrame:
        return rows[(rows[list(labels)] == pd.Series(labels)).all(axis=1)] if len(rows) else rows

    @staticmethod
    def _reported(model: Recommender, split: Split, seeds: list[int]) -> list[int]:
        """The seeds to report; folds are replicates, so that `rating-5fold` takes one seed a fold."""
        return seeds if model.traits.stochastic and split.protocol != "rating-5fold" else seeds[:1]

    def _measure(
        self, name: str, split: Split, model: Recommender, fits: Fits, seeds: list[int], settings: str
    ) -> None:
        rows_of, labels = "train" if split.protocol == "as-reported" else "refit", self._labels(name, split, settings)
        identity = self._identity(model, split)

        def measured(seed: int) -> Runs:
            summary, users = measure(fits.of(seed), split, rows_of)
            trained = {"epochs": getattr(fits.of(seed), "epochs", 0), "parameters": fits.of(seed).n_parameters}
            return Runs(summary.assign(seed=seed, **labels, **trained, **identity), users)

        runs = [measured(seeds[0])]
        stored = self._other_seeds(runs[0].results, self._stored(self.seeds, labels, identity), seeds)
        runs += [measured(seed) for seed in seeds[1:] if stored is None]
        rows = pd.concat([run.results for run in runs], ignore_index=True)
        self._collect(rows, [run.users for run in runs], labels, model.traits.stochastic, stored)

    def _other_seeds(self, first: pd.DataFrame, stored: Runs, seeds: list[int]) -> Runs | None:
        """The stored rows of all seeds but the first; None unless all are there, may be taken, and the first came out as stored."""
        rows, others = stored.results, set(seeds[1:])
        if not others or not len(rows) or not others <= self.stored_seeds & set(rows["seed"]):
            return None
        key = ["variant", "metric"]
        again = rows[rows["seed"] == seeds[0]].set_index(key)["value"].reindex(first.set_index(key).index)
        if not np.allclose(again, first["value"], rtol=0, atol=ROUNDING, equal_nan=True):
            return None
        return Runs(rows[rows["seed"].isin(seeds[1:])], stored.users)

    def _labels(self, name: str, split: Split, settings: str) -> dict[str, str]:
        return {"protocol": split.protocol, "dataset": self.data.name, "model": name, "settings": settings}

    def _identity(self, model: Recommender, split: Split) -> dict[str, str]:
        """What a result follows from: data, split, settings asked for (validation may choose fewer epochs), versions, device."""
        return {
            "data_sha256": self.data.sha256[:12],
            "split_sha256": split.sha256[:12],
            "settings_sha256": fingerprint({k: v for k, v in model.hyperparameters.items() if k != "device"})[:12],
            "versions": public_versions(),
            "device": resolve_device(getattr(model, "device", "cpu")).type,
        }

    def _collect(
        self,
        rows: pd.DataFrame,
        users: list[pd.DataFrame],
        labels: dict[str, str],
        stochastic: bool,
        stored: Runs | None,
    ) -> None:
        for _, part in rows[rows["seed"] == rows["seed"].iloc[0]].groupby("variant", dropna=False):
            main = MEASUREMENTS[labels["protocol"]].main
            self.to_check.append((part, main if main in set(part["metric"]) else "rmse", stochastic))
        rest = _rest(self.committed, rows, labels, "seed") if stored is None else stored.results
        self.results = pd.concat([self.results, rows, rest], ignore_index=True)
        if stored is not None:
            self.users = pd.concat([self.users, stored.users], ignore_index=True)
        elif len(users[0]):
            mean = pd.concat(users).groupby(["variant", "user"], sort=True).mean().reset_index().assign(**labels)
            rest = _rest(self.committed_users, mean, labels, "user")
            self.users = pd.concat([self.users, mean, rest], ignore_index=True)

    def add(self, name: str, split: Split, metrics: dict[str, float]) -> None:
        """Add metrics that the notebook computed itself, with the provenance of the first seed's run under `split`."""
        labels = {"model": name, "protocol": split.protocol, "variant": split.variant}
        rows = self._same(self.results, labels) if len(self.results) else self.results
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
        runs = {tuple(part[["model", "settings", "protocol"]].iloc[0]) for part, _, _ in self.to_check}
        return f"{len(runs)} runs are what `make test` repeats with the first seed and fold, to compare: {metrics}"

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


def _rest(committed: pd.DataFrame | None, fresh: pd.DataFrame, labels: dict[str, str], key: str) -> pd.DataFrame | None:
    """Committed rows of the same model, protocol and variant (or any fold) whose variant and `key` are not among the fresh."""
    if committed is None:
        return None
    rows = committed[(committed[list(labels)] == pd.Series(labels)).all(axis=1)]
    if labels["protocol"] != "rating-5fold":
        rows = rows[rows["variant"].isin(fresh["variant"])]
    done = pd.MultiIndex.from_frame(fresh[["variant", key]])
    return rows[~pd.MultiIndex.from_frame(rows[["variant", key]]).isin(done)]
