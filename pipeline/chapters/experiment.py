"""Runs models under protocols, or takes what the store holds of these runs, and collects the rows of one notebook."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from torch.backends.cpu import get_cpu_capability

from pipeline.chapters.boards import VARIANT, Rows, curves
from pipeline.chapters.comparisons import Comparison
from pipeline.chapters.fits import Fits, selected
from pipeline.chapters.gate import Check, Gate, GivenScores
from pipeline.chapters.notebook import Notebook
from pipeline.chapters.results import CELL, public_versions, with_counts
from pipeline.chapters.store import METRIC_COLUMNS, Cell, Identity, Run, Selection, Store, described
from recsys_core.datasets import MovieLens, load
from recsys_core.errors import StudyError, refuse_unknown
from recsys_core.features import encode
from recsys_core.interactions import Interactions
from recsys_core.judging import judge, measure
from recsys_core.models.base import Recommender, fingerprint
from recsys_core.protocols import PROTOCOLS
from recsys_core.splits import Split
from recsys_core.train import resolve_device

LEAST_SEEDS = 3  # stored of a network's main split, so that its spread is known, where fewer are reported
NO_METRICS = pd.DataFrame(columns=METRIC_COLUMNS)


def columns_of(rows: Interactions) -> list[tuple[str, ...]]:
    """Names of the attributes that come with rows: of users, of items."""
    return [() if table is None else table.columns for table in (rows.user_features, rows.item_features)]


def rows_sha256(rows: Interactions) -> str:
    """SHA-256 of coded rows in their order, with ratings and times."""
    columns = (rows.users, rows.items, rows.ratings, rows.times)
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()


class Experiments:
    """Runs models for one notebook and keeps their rows.

    What the store (`store`) holds of a run is taken from there. The notebook's policy says what is trained all the same
    (`notebook.POLICIES`); the gate (`gate`) compares that with what is stored, and where the two agree the
    notebook shows what is stored, so that its numbers are the same on every processor. A contradiction is an error under the
    policies by which the study is made and checked; elsewhere (JupyterLab, changed code) all of that model is then trained.
    """

    def __init__(self, notebook: Notebook, data: MovieLens) -> None:
        self.notebook = notebook
        self.data = data
        self.rows, self.vocabulary = encode(data)
        self.columns = columns_of(self.rows)
        self.store = Store(notebook.root)
        self.gate = Gate(notebook.root, self.store, notebook.note)
        self.results = pd.DataFrame()
        self.users = pd.DataFrame()
        self.histories: dict[tuple[str, str], pd.DataFrame] = {}
        self.selections: dict[tuple[str, str], Selection] = {}
        self.measured: set[str] = set()

    def splits(self, protocol: str) -> list[Split]:
        """All splits of a protocol, such as five folds; published test rows where the data has them."""
        refuse_unknown("protocol", protocol, PROTOCOLS)
        return PROTOCOLS[protocol].splits(self.rows, self.data.benchmark, self.vocabulary.item_ids)

    def run(
        self,
        name: str,
        model: Recommender,
        protocols: Sequence[str | Split],
        seeds: list[int],
        settings: str = "stated",
        main: bool = True,
        variant: bool = False,
    ) -> Recommender:
        """Run a model under protocols with every seed; return the model of the first seed and split.

        A protocol is a name or a split made by hand. Rating protocols are left out for models that do not predict ratings. Splits
        that train on the same rows (`loo-full` and `loo-sampled`) share one fit. Models that draw nothing at random are fitted
        once, whatever the seeds. The first split is the model's main one, which is trained although it is stored; with `main=False`
        none is, and the model comes back unfitted where all is stored. A `variant` is no part of study-wide boards: a further value
        of one setting, a member of a hybrid under another name. Raises StudyError for an unknown protocol, for nothing to run, and
        for what the notebook's policy does not allow.
        """
        fits: dict[bytes, Fits] = {}
        chosen: dict[tuple[str, str], Selection] = {}
        for place, split in enumerate(self._splits(name, model, protocols, seeds)):
            if place == 0 and main:
                self._check_measuring(split)
            cell, wanted = self.store.cell(self.identity(model, split)), self._reported(model, split, seeds)
            fit = fits.setdefault(split.roles.tobytes(), self._fits(model, split, cell))
            what = f"{name} ({settings}), {split.protocol} {split.variant}".strip()
            runs = self._runs(what, cell, split, fit, wanted, place == 0 and main)
            self._collect(name, settings, model, split, runs, wanted, VARIANT if variant else "")
            self._remember(chosen, name, split, fit, wanted[0])
        self.selections |= chosen
        self.histories |= {key: each.curve for key, each in chosen.items() if each.curve is not None}
        fitted = next(iter(fits.values())).fitted
        return fitted.get(seeds[0], model)

    def validated(self, name: str, model: Recommender, split: Split, seed: int = 0) -> Selection:
        """What the split's validation rows choose for a model, and the curve by which they do; nothing is measured on test."""
        identity = self.identity(model, split)
        cell = self.store.cell(identity)
        self.notebook.uses(f"{identity.key} selection {seed}", *self.store.files(identity))
        stored, again = cell.selections.get(seed), self.notebook.policy in ("main", "all")
        if stored is not None and not again:
            return stored
        if stored is None and self.notebook.is_strict:
            raise StudyError(self._missing(f"the selection of {name}, seed {seed}"))
        fresh = selected(model, split, seed)
        if stored is not None:
            self._contradictions(self.gate.passes(self.gate.paths(f"{name}, selection", stored.path, fresh.path)))
            return stored
        if self.notebook.policy == "write":
            return self.store.add(identity, name, selections={seed: fresh}).selections[seed]
        return fresh

    def train(
        self,
        name: str,
        model: Recommender,
        rows: Interactions,
        validation: Interactions | None = None,
        seed: int = 0,
        history: Interactions | None = None,
    ) -> Recommender:
        """Fit a copy of a model on rows that are no split's, validated or not, and return it; how it began is stored and compared.

        What is computed from it belongs into a function given to `Notebook.keep`, so that it is trained only where nothing is kept.
        """
        unfinished = self.notebook.stops_early and model.chaotic
        stop_after = model.beginning if unfinished else None
        fitted = copy(model).fit(rows, validation, seed, history, stop_after=stop_after, judge=judge)
        began, exact = fitted.history_, {"rows": rows_sha256(rows)}
        path = {} if began is None else began.path
        if not path or not self.notebook.is_default:
            return fitted
        if began is not None and began.first_batch:
            exact["first batch"] = began.first_batch
        where, variant = exact["rows"][:12] + self._attributes(rows), "" if validation is None else "validated"
        identity = self._identity(model, where, "fit", variant)
        stored = self.store.cell(identity).runs.get(seed)
        fresh = Run(seed, NO_METRICS, None, {}, path, exact, self._made_by())
        if stored is not None and not self.notebook.replace:
            self._contradictions(self.gate.passes(self.gate.beginning(f"{name}, seed {seed}", stored, fresh)))
        elif self.notebook.policy == "write" or self.notebook.replace:
            self.store.add(identity, name, [fresh])
        elif self.notebook.is_strict:
            raise StudyError(self._missing(f"{name}, seed {seed}"))
        return fitted

    @staticmethod
    def _made_by() -> dict[str, str]:
        return {"versions": public_versions(), "arithmetic": get_cpu_capability()}

    def identity(self, model: Recommender, split: Split) -> Identity:
        """What a run of this model follows from: data, split, settings asked for (validation may choose fewer epochs), device."""
        split_sha256 = split.sha256[:12] + self._attributes(split.interactions)
        return self._identity(model, split_sha256, split.protocol, split.variant)

    def _identity(self, model: Recommender, split: str, protocol: str, variant: str) -> Identity:
        device = resolve_device(getattr(model, "device", "cpu")).type
        return Identity(self.data.sha256[:12], split, protocol, variant, device=device, **described(model))

    def _attributes(self, rows: Interactions) -> str:
        """Which attributes rows have, where these are not those that the data set itself gives."""
        columns = columns_of(rows)
        return "" if columns == self.columns else f"+{fingerprint({'columns': columns})[:8]}"

    def _check_measuring(self, split: Split) -> None:
        """Compare what given scores are worth under this split with what is stored: mask, ranks, metrics and rows at once."""
        name, identity = f"given scores, {split.protocol} {split.variant}".strip(), self.identity(GivenScores(), split)
        if self.notebook.policy == "free" or identity.key in self.measured:
            return
        self.measured.add(identity.key)
        cell = self.store.cell(identity)
        fits = Fits(GivenScores(), split, {}, None)
        fresh = self._measured(fits, split, 0)
        if 0 in cell.runs and not self.notebook.replace:
            self._contradictions(self.gate.passes(self.gate.given(name, cell.runs[0], fresh)))
        elif self.notebook.policy == "write" or self.notebook.replace:
            self.store.add(identity, name, [replace(fresh, users=None)])
        else:
            raise StudyError(self._missing(name))

    def _splits(self, name: str, model: Recommender, protocols: Sequence[str | Split], seeds: list[int]) -> list[Split]:
        for what, values in (("seeds", seeds), ("protocols", protocols)):
            if not values:
                raise StudyError(f"{what}=[]: give at least one.")
        refuse_unknown("protocols", [p for p in protocols if isinstance(p, str)], PROTOCOLS)
        splits = [split for p in protocols for split in ([p] if isinstance(p, Split) else self.splits(p))]
        splits = [s for s in splits if model.own_traits.predicts_ratings or PROTOCOLS[s.protocol].ranking]
        if not splits:
            raise StudyError(
                f"{name} predicts no ratings, which is all that {', '.join(map(str, protocols))} measures."
            )
        return splits

    def _fits(self, model: Recommender, split: Split, cell: Cell) -> Fits:
        unfinished = self.notebook.stops_early and model.chaotic
        return Fits(model, split, cell.selections, model.beginning if unfinished else None)

    @staticmethod
    def _reported(model: Recommender, split: Split, seeds: list[int]) -> list[int]:
        """The seeds to report: one each of splits that are replicates, and of a model that draws nothing."""
        return seeds if model.own_traits.stochastic and not PROTOCOLS[split.protocol].replicates else seeds[:1]

    def _runs(self, what: str, cell: Cell, split: Split, fits: Fits, seeds: list[int], main: bool) -> Cell:
        """The cell with the runs of all seeds: stored ones where what is trained all the same confirms them, else fresh ones."""
        self.notebook.uses(f"{cell.identity.key} {seeds}", *self.store.files(cell.identity))
        missing, policy = cell.lacks(seeds), self.notebook.policy
        if main and policy == "write" and fits.model.chaotic:
            missing += [seed for seed in range(LEAST_SEEDS) if seed not in {*seeds, *cell.runs}]
        if self.notebook.is_strict and not self.notebook.replace:
            self._refuse_missing(what, cell, fits, missing, main)
        stored = [seed for seed in self._trained_again(seeds, main) if seed in cell.runs or seed not in missing]
        again = {seed: self._measured(fits, split, seed) for seed in stored}
        wrong = [] if self.notebook.replace else self._checked(what, cell, fits, again)
        self._contradictions(wrong)
        if wrong and not self.notebook.is_strict:
            fits.forget()
            cell, again, missing = Cell(cell.identity), {}, seeds
        added = [self._measured(fits, split, seed) for seed in missing]
        added += [self._filled(cell, run) for seed, run in again.items() if seed not in missing]
        if policy == "write" or (self.notebook.replace and self.notebook.is_default):
            return self.store.add(cell.identity, what, added, fits.selections if fits.model.chooses else None)
        return self._with(cell, fits, added if not cell.runs or wrong else added[: len(missing)])

    def _filled(self, cell: Cell, fresh: Run) -> Run:
        """A stored run with how its training began, if that is not known yet; the fresh one where it is to take its place."""
        stored = cell.runs[fresh.seed]
        if self.notebook.replace:
            return fresh
        return replace(stored, path=stored.path or fresh.path, exact=fresh.exact | stored.exact)

    def _refuse_missing(self, what: str, cell: Cell, fits: Fits, missing: list[int], main: bool) -> None:
        if missing:
            raise StudyError(self._missing(f"{what}, seed {missing[0]}"))
        if main and fits.model.chooses and not cell.selections:
            raise StudyError(self._missing(f"what validation chooses for {what}"))

    @staticmethod
    def _with(cell: Cell, fits: Fits, added: list[Run]) -> Cell:
        """A cell with more runs and selections."""
        runs = cell.runs | {run.seed: run for run in added}
        return Cell(cell.identity, cell.label, runs, cell.selections | fits.selections, cell.mean_of, cell.mean_users)

    def _trained_again(self, seeds: list[int], main: bool) -> list[int]:
        policy = self.notebook.policy
        if policy == "all" or (policy == "main" and main):
            return seeds
        return seeds[:1] if main else []

    def _measured(self, fits: Fits, split: Split, seed: int) -> Run:
        """Train (or take) the model of a seed and measure it, unless its training was ended before."""
        model = fits.of(seed)
        unfinished = fits.stop_after is not None
        summary, users = (NO_METRICS, None) if unfinished else measure(model, split)
        summary, history = summary[METRIC_COLUMNS], model.history_
        exact = {"rows": rows_sha256(model.train_)}
        if history is not None and history.first_batch:
            exact["first batch"] = history.first_batch
        asked = fits.model if fits.protocol.leaks else model
        facts = {"epochs": getattr(asked, "epochs", 0), "parameters": model.n_parameters}
        return Run(seed, summary, users, facts, {} if history is None else history.path, exact, self._made_by())

    def _checked(self, what: str, cell: Cell, fits: Fits, fresh: dict[int, Run]) -> list[Check]:
        """What of fresh runs contradicts the stored ones; an unfinished model is compared by how it began."""
        checks = []
        for seed, run in fresh.items():
            named = f"{what}, seed {seed}"
            checks += self.gate.beginning(named, cell.runs[seed], run)
            if fits.stop_after is None:
                checks += self.gate.end(named, fits.model, cell, run)
        if fresh and self.notebook.policy in ("main", "all"):
            for seed, stored in cell.selections.items():
                again = selected(fits.model, fits.split, seed)
                checks += self.gate.paths(f"{what}, selection {seed}", stored.path, again.path)
        return self.gate.passes(checks)

    def _contradictions(self, wrong: list[Check]) -> None:
        if wrong and self.notebook.is_strict and self.notebook.policy != "measure":
            more = f" ({len(wrong)} such)" if len(wrong) > 1 else ""
            raise StudyError(f"{self.notebook.name} contradicts what is stored{more}: {wrong[0]}.")

    def _missing(self, what: str) -> str:
        name = self.notebook.name
        return f"{name}: nothing is stored of {what}, which is new: `make store NOTEBOOK={name}` trains and stores it."

    def _collect(
        self, name: str, settings: str, model: Recommender, split: Split, cell: Cell, seeds: list[int], role: str
    ) -> None:
        labels = {"protocol": split.protocol, "dataset": self.data.name, "model": name, "settings": settings}
        kind = {"family": getattr(type(model), "family", ""), "role": role}
        identity = {
            "data_sha256": cell.identity.data,
            "split_sha256": split.sha256[:12],
            "settings_sha256": fingerprint({k: v for k, v in model.hyperparameters.items() if k != "device"})[:12],
        }
        for run in (cell.runs[seed] for seed in seeds):
            provenance = identity | {"versions": run.made_by["versions"], "device": cell.identity.device}
            rows = run.metrics.assign(seed=run.seed, **labels, **kind, **run.facts, **provenance)
            self.results = pd.concat([self.results, with_counts(rows)], ignore_index=True)
        users = cell.users_of(seeds)
        if users is not None and len(users):
            self.users = pd.concat([self.users, users.assign(**labels)], ignore_index=True)

    @staticmethod
    def _remember(chosen: dict[tuple[str, str], Selection], name: str, split: Split, fits: Fits, seed: int) -> None:
        """Keep what validation chose, and its curve, on the first split under each protocol."""
        selection = fits.selections.get(fits.selecting(seed))
        if selection is not None and selection.curve is not None:
            chosen.setdefault((name, split.protocol), selection)

    def add(self, name: str, split: Split, metrics: dict[str, float]) -> None:
        """Add metrics that the notebook computed itself, with the provenance of the first seed's run under `split`."""
        labels = {"model": name, "protocol": split.protocol, "variant": split.variant}
        same = (self.results[list(labels)] == pd.Series(labels)).all(axis=1) if len(self.results) else slice(0)
        rows = self.results[same]
        if not len(rows):
            raise StudyError(f"{name} was not run under {split.protocol} {split.variant}: run it before adding to it.")
        added = [rows.iloc[[0]].assign(metric=metric, value=value) for metric, value in metrics.items()]
        self.results = pd.concat([self.results, *added], ignore_index=True)

    def check(self) -> str:
        """What of this notebook is trained again when the study is made or checked, in a sentence."""
        runs = {tuple(row) for row in self.results[["model", "settings", "protocol"]].itertuples(index=False)}
        return f"{len(runs)} runs, all from the store where it has them; the first seed and split of each model is trained again"

    def beside(
        self,
        *chapters: str,
        models: Collection[str] | None = None,
        protocol: str | None = None,
        settings: str | None = "tuned",
    ) -> Rows:
        """What was run here, and beside it what other chapters ran on the same data: all models, or those with these names.

        Of others with several settings `settings` are taken (None: all), of all rows those of a `protocol` (None: of any). Chapters
        are to be named by literals, so that they run before. See `boards.Rows` for what can be made of it.
        """
        others = self.notebook.read_rows(*chapters).only(models=models, settings=settings, dataset=self.data.name)
        both = {"here": (self.results, self.users), "elsewhere": (others.results, others.users)}
        return Rows.of(self.notebook.save_figure, both).only(protocol)

    def board(self, *metrics: str, **which: Any) -> pd.DataFrame:
        """The board of what was run here, see `boards.Rows.board`."""
        return self.beside().board(*metrics, **which)

    def compare(self, metric: str, pairs: Sequence[tuple[str, str]], **which: Any) -> Comparison:
        """Compare pairs of what was run here user by user, see `boards.Rows.compare`."""
        return self.beside().compare(metric, pairs, **which)

    def figure(self, metric: str, title: str | None = None, **options: Any) -> Figure:
        """Draw the board of what was run here, save and return it, see `boards.Rows.figure`."""
        return self.beside().figure(metric, title, **options)

    def curves(self, metric: str | None = None, **options: Any) -> Figure:
        """Draw the validation curves of what was run here, save them as "curves" and return them, see `boards.curves`."""
        return self.notebook.save_figure(curves(self.histories, metric, **options), "curves")

    def hyperparameters(self, model: str, settings: str = "tuned") -> dict[str, Any]:
        """Keyword arguments of a model, see `Notebook.hyperparameters`."""
        return self.notebook.hyperparameters(model, settings)

    def keep(self, name: str, value: Any, within: float | None = None) -> Any:
        """A value that was computed from trained models, as it is kept, see `Notebook.keep`."""
        return self.notebook.keep(name, value, within)

    def save(self) -> None:
        """Write the notebook's results and per-user values."""
        first = [*CELL, "seed", "metric", "value", "n_users", "n_missing", "n_fallback"]
        self.notebook.save_results(self.results[[*first, *(c for c in self.results if c not in first)]])
        if len(self.users):
            first = [*CELL, "user"]
            self.notebook.save_users(self.users[[*first, *(c for c in self.users if c not in first)]])


def open_study(name: str, variables: dict[str, Any]) -> Experiments:
    """Open the run of notebook `name` on its data set; `variables` is `globals()`, right after the `parameters` cell.

    The data set is that of the parameter `dataset`. Raises StudyError as `Notebook.open` and `load` do.
    """
    notebook = Notebook.open(name, variables)
    return Experiments(notebook, load(notebook.parameters["dataset"]))
