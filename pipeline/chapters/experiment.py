"""Runs models under protocols, or takes what the store holds of these runs, and collects the rows of one notebook."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pipeline.chapters.boards import VARIANT, Rows, curves
from pipeline.chapters.comparisons import Comparison
from pipeline.chapters.confirmed_runs import ConfirmedRuns
from pipeline.chapters.fits import Fits
from pipeline.chapters.notebook import Notebook
from pipeline.chapters.results import CELL, with_counts
from pipeline.chapters.store import Cell, Selection
from recsys_core.datasets import MovieLens, load
from recsys_core.errors import StudyError, refuse_unknown
from recsys_core.features import encode
from recsys_core.models.base import Recommender, fingerprint
from recsys_core.protocols import PROTOCOLS
from recsys_core.splits import Split

TUNED_ELSEWHERE = (
    "Settings that are called tuned are those found on ML-100K, of models that were not searched on these ratings."
)


class Experiments:
    """Runs models for one notebook (`runs`, see `ConfirmedRuns`) and keeps their rows: `results` and, of each user, `users`.

    `train` and `validated` are those of `runs`: they leave no rows.
    """

    def __init__(self, notebook: Notebook, data: MovieLens) -> None:
        self.notebook = notebook
        self.data = data
        self.rows, self.vocabulary = encode(data)
        self.runs = ConfirmedRuns(notebook, data.sha256, self.rows)
        self.train, self.validated = self.runs.train, self.runs.validated
        self.results = pd.DataFrame()
        self.users = pd.DataFrame()
        self.histories: dict[tuple[str, str], pd.DataFrame] = {}
        self.selections: dict[tuple[str, str], Selection] = {}

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
                self.runs.check_measuring(split)
            chooser = self._chooser(model, split, protocols)
            cell, wanted = self.runs.cell(model, split, chooser), self._reported(model, split, seeds)
            fit = fits.setdefault(split.roles.tobytes(), self.runs.fits(model, split, cell, chooser))
            what = f"{name} ({settings}), {split.protocol} {split.variant}".strip()
            cell = self.runs.of(what, cell, split, fit, wanted, place == 0 and main)
            self._collect(name, settings, model, split, cell, wanted, VARIANT if variant else "")
            self._remember(chosen, name, split, fit, wanted[0])
        self.selections |= chosen
        self.histories |= {key: each.curve for key, each in chosen.items() if each.curve is not None}
        first = next(iter(fits.values()))
        is_needed = main and self.notebook.is_own  # what is stored of own data is not trained again, but looked into
        return first.of(seeds[0]) if is_needed else first.fitted.get(seeds[0], model)

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

    def _chooser(self, model: Recommender, split: Split, asked: Sequence[str | Split]) -> Split | None:
        """The split of another protocol that chooses epochs here (`Protocol.epochs_of`); None: the split chooses its own.

        Splits made by hand do, and what was published with a validation of its own.
        """
        other = PROTOCOLS[split.protocol].epochs_of
        by_hand = any(each is split for each in asked)
        own = by_hand or self.data.benchmark is not None or model.own_traits.sequential
        return None if own or not other or not model.chooses else self.splits(other)[0]

    @staticmethod
    def _reported(model: Recommender, split: Split, seeds: list[int]) -> list[int]:
        """The seeds to report: one each of splits that are replicates, and of a model that draws nothing."""
        return seeds if model.own_traits.stochastic and not PROTOCOLS[split.protocol].replicates else seeds[:1]

    def _collect(
        self, name: str, settings: str, model: Recommender, split: Split, cell: Cell, seeds: list[int], role: str
    ) -> None:
        labels = {"protocol": split.protocol, "dataset": self.data.name, "model": name, "settings": settings}
        kind = {"family": getattr(type(model), "family", ""), "form": model.own_traits.form, "role": role}
        identity = {
            "data_sha256": cell.identity.data,
            "split_sha256": split.sha256[:12],
            "settings_sha256": fingerprint({k: v for k, v in model.hyperparameters.items() if k != "device"})[:12],
        }
        for run in (cell.runs[seed] for seed in seeds):
            provenance: dict[str, Any] = identity | {
                "versions": run.made_by["versions"],
                "device": cell.identity.device,
            }
            provenance |= {"seconds": run.seconds} if self.notebook.part else {}
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

    def note(self, name: str, split: Split, role: str, table: pd.DataFrame, **facts: Any) -> None:
        """Add further rows on a model that was not a run of its own; each line of `table` is a variant, its columns are metrics.

        `role` says what they are, so that no board takes them for runs; `facts` are further columns, such as the epochs.
        """
        labels = {
            "protocol": split.protocol,
            "dataset": self.data.name,
            "model": name,
            "settings": "stated",
            "role": role,
        }
        rows = table.rename_axis("variant").reset_index().melt("variant", var_name="metric")
        rows = rows.assign(seed=0, n_users=0, n_missing=0, n_fallback=0, parameters=None, **labels, **facts)
        self.results = pd.concat([self.results, with_counts(rows)], ignore_index=True)

    def note_users(self, name: str, split: Split, table: pd.DataFrame) -> None:
        """Add per-user values (user, variant and a column per metric) that are of no run of its own; see `note`."""
        labels = {"protocol": split.protocol, "dataset": self.data.name, "model": name, "settings": "stated"}
        self.users = pd.concat([self.users, table.assign(**labels)], ignore_index=True)

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

    def keep(self, name: str, value: Any, within: float | None = None, made_from: Any = None) -> Any:
        """A value that was computed from trained models, as it is kept, see `Notebook.keep`."""
        return self.notebook.keep(name, value, within, made_from)

    def save(self) -> None:
        """Write the notebook's results and per-user values."""
        first = [*CELL, "seed", "metric", "value", "n_users", "n_missing", "n_fallback"]
        self.notebook.save_results(self.results[[*first, *(c for c in self.results if c not in first)]])
        if len(self.users):
            first = [*CELL, "user"]
            self.notebook.save_users(self.users[[*first, *(c for c in self.users if c not in first)]])


def open_study(name: str, variables: dict[str, Any]) -> Experiments:
    """Open the run of notebook `name` on its data set; `variables` is `globals()`, right after the `parameters` cell.

    The data set is that of the parameter `dataset`; how an own file was understood is printed. Raises StudyError as `Notebook.open`
    and `load` do.
    """
    notebook = Notebook.open(name, variables)
    data = load(notebook.parameters["dataset"])
    notes = [*data.notes, *([TUNED_ELSEWHERE] if notebook.is_own else [])]
    print(*notes, sep="\n", end="\n" if notes else "")
    return Experiments(notebook, data)
