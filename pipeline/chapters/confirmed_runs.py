"""Runs of models as the store has them: what is trained all the same, how it is held against what is stored, what is added."""

from __future__ import annotations

import hashlib
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
from torch.backends.cpu import get_cpu_capability

from pipeline.chapters.fits import Fits, selected
from pipeline.chapters.gate import Check, Gate, GivenScores
from pipeline.chapters.notebook import Notebook
from pipeline.chapters.results import public_versions
from pipeline.chapters.store import METRIC_COLUMNS, Cell, Identity, Run, Selection, Store, described
from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions
from recsys_core.judging import judge, measure
from recsys_core.models.base import Recommender, fingerprint
from recsys_core.protocols import BEYOND_ACCURACY
from recsys_core.splits import Split
from recsys_core.train import resolve_device

CHECKPOINTS = Path("reports/executed/checkpoints")
LEAST_SEEDS = 3  # stored of a network's main split, so that its spread is known, where fewer are reported
NO_METRICS = pd.DataFrame(columns=METRIC_COLUMNS)


def columns_of(rows: Interactions) -> list[tuple[str, ...]]:
    """Names of the attributes that come with rows: of users, of items."""
    return [() if table is None else table.columns for table in (rows.user_features, rows.item_features)]


def rows_sha256(rows: Interactions) -> str:
    """SHA-256 of coded rows in their order, with ratings and times."""
    columns = (rows.users, rows.items, rows.ratings, rows.times)
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()


class ConfirmedRuns:
    """The runs of one notebook on one data set, from the store (`store`) where it has them.

    The notebook's policy says what is trained all the same (`notebook.POLICIES`); the gate (`gate`) compares that with what is
    stored, and where the two agree what is stored is given, so that a notebook's numbers are the same on every processor. A
    contradiction is an error under the policies by which the study is made and checked; elsewhere (JupyterLab, changed code) all of
    that model is then trained.
    """

    def __init__(self, notebook: Notebook, data_sha256: str, rows: Interactions) -> None:
        self.notebook = notebook
        self.data_sha256 = data_sha256
        self.columns = columns_of(rows)
        self.store = Store(notebook.root, notebook.part)
        self.gate = Gate(notebook.root, self.store, notebook.note)
        self.measured: set[str] = set()

    def cell(self, model: Recommender, split: Split, chooser: Split | None = None) -> Cell:
        """What the store holds of a model on a split, with what another, `chooser`, has chosen for it where that is stored."""
        cell = self.store.cell(self.identity(model, split, chooser))
        if chooser is not None:
            cell.selections = self.cell(model, chooser).selections | cell.selections
        return cell

    def identity(self, model: Recommender, split: Split, chooser: Split | None = None) -> Identity:
        """What a run of this model follows from: data, split, settings asked for (validation may choose fewer epochs), device."""
        split_sha256 = split.sha256[:12] + self._attributes(split.interactions)
        split_sha256 += f" by {chooser.sha256[:12]}" if chooser is not None else ""
        return self._identity(model, split_sha256, split.protocol, split.variant)

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
        fresh = selected(model, split, seed, self._checkpoint(identity, f"selection-{seed}"))
        if stored is not None:
            self._contradictions(self.gate.passes(self.gate.paths(f"{name}, selection", stored.path, fresh.path)))
            return stored
        if self.notebook.writes:
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
        """Fit a copy of a model on rows that are no split's, validated or not; how it began is stored and compared.

        What is computed from it belongs into a function given to `keep`, so that it is trained only where nothing is kept.
        """
        unfinished = self.notebook.stops_early and model.chaotic
        exact = {"rows": rows_sha256(rows)}
        where, variant = exact["rows"][:12] + self._attributes(rows), "" if validation is None else "validated"
        identity = self._identity(model, where, "fit", variant)
        stop_after, checkpoint = model.beginning if unfinished else None, self._checkpoint(identity, f"{seed}")
        fitted = copy(model).fit(rows, validation, seed, history, checkpoint, stop_after, judge)
        began = fitted.history_
        path = {} if began is None else began.path
        if not path or not self.notebook.is_default:
            return fitted
        if began is not None and began.first_batch:
            exact["first batch"] = began.first_batch
        stored = self.store.cell(identity).runs.get(seed)
        fresh = Run(seed, NO_METRICS, None, {}, path, exact, self._made_by())
        if stored is not None and not self.notebook.replace:
            self._contradictions(self.gate.passes(self.gate.beginning(f"{name}, seed {seed}", stored, fresh)))
        elif self.notebook.policy == "write" or self.notebook.replace:
            self.store.add(identity, name, [fresh])
        elif self.notebook.is_strict:
            raise StudyError(self._missing(f"{name}, seed {seed}"))
        return fitted

    def fits(self, model: Recommender, split: Split, cell: Cell, chooser: Split | None = None) -> Fits:
        """What is to be fitted of a model on a split, ended early where the policy compares beginnings alone.

        Epochs are what `chooser` chooses (None: the split itself).
        """
        unfinished = self.notebook.stops_early and model.chaotic
        checkpoint = partial(self._checkpoint, cell.identity)
        stop_after = model.beginning if unfinished else None
        return Fits(model, split, cell.selections, stop_after, checkpoint, chooser)

    def check_measuring(self, split: Split) -> None:
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
        elif self.notebook.writes or self.notebook.replace:
            self.store.add(identity, name, [replace(fresh, users=None)])
        else:
            raise StudyError(self._missing(name))

    def of(self, what: str, cell: Cell, split: Split, fits: Fits, seeds: list[int], main: bool) -> Cell:
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
        added = [self._added(what, cell, fits, split, seed) for seed in missing]
        added += [self._filled(cell, run) for seed, run in again.items() if seed not in missing]
        if self.notebook.writes or (self.notebook.replace and self.notebook.is_default):
            return self.store.add(cell.identity, what, added, fits.selections if fits.model.chooses else None)
        return self._with(cell, fits, added if not cell.runs or wrong else added[: len(missing)])

    def _added(self, what: str, cell: Cell, fits: Fits, split: Split, seed: int) -> Run:
        """A run that was not stored; it is stored at once, and what validation chose before it: who is stopped loses one run."""
        fits.selection(seed)
        if self.notebook.writes and fits.model.chooses:
            self.store.add(cell.identity, what, selections=fits.selections)
        run = self._measured(fits, split, seed)
        if self.notebook.writes:
            self.store.add(cell.identity, what, [run])
        return run

    def _checkpoint(self, identity: Identity, what: str) -> Path | None:
        """Where a training keeps how far it is, under the policy that continues what was stopped."""
        resumes = self.notebook.policy == "resume"
        return self.notebook.root / CHECKPOINTS / f"{identity.key}-{what}.checkpoint" if resumes else None

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
        return seeds[:1] if main and policy != "resume" else []

    def _measured(self, fits: Fits, split: Split, seed: int) -> Run:
        """Train (or take) the model of a seed and measure it, unless its training was ended before."""
        model = fits.of(seed)
        unfinished = fits.stop_after is not None
        summary, users = (NO_METRICS, None) if unfinished else measure(model, split)
        if users is not None and self.notebook.part:  # of thousands of users, what nothing reads is not stored
            users = users.drop(columns=[name for name in users if str(name).split("@")[0] in BEYOND_ACCURACY])
        summary, history = summary[METRIC_COLUMNS], model.history_
        exact = {"rows": rows_sha256(model.train_)}
        if history is not None and history.first_batch:
            exact["first batch"] = history.first_batch
        asked = fits.model if fits.protocol.leaks else model
        facts = {"epochs": getattr(asked, "epochs", 0), "parameters": model.n_parameters}
        path = {} if history is None else history.path
        return Run(seed, summary, users, facts, path, exact, self._made_by(), fits.seconds[seed])

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
                again = selected(fits.model, fits.chooser, seed)
                checks += self.gate.paths(f"{what}, selection {seed}", stored.path, again.path)
        return self.gate.passes(checks)

    def _contradictions(self, wrong: list[Check]) -> None:
        if wrong and self.notebook.is_strict and self.notebook.policy != "measure":
            more = f" ({len(wrong)} such)" if len(wrong) > 1 else ""
            raise StudyError(f"{self.notebook.name} contradicts what is stored{more}: {wrong[0]}.")

    def _missing(self, what: str) -> str:
        name = self.notebook.name
        return f"{name}: nothing is stored of {what}, which is new: `make store NOTEBOOK={name}` trains and stores it."

    @staticmethod
    def _made_by() -> dict[str, str]:
        return {"versions": public_versions(), "arithmetic": get_cpu_capability()}

    def _identity(self, model: Recommender, split: str, protocol: str, variant: str) -> Identity:
        device = resolve_device(getattr(model, "device", "cpu")).type
        return Identity(self.data_sha256[:12], split, protocol, variant, device=device, **described(model))

    def _attributes(self, rows: Interactions) -> str:
        """Which attributes rows have, where these are not those that the data set itself gives."""
        columns = columns_of(rows)
        return "" if columns == self.columns else f"+{fingerprint({'columns': columns})[:8]}"
