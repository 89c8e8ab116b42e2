"""What a notebook of the study reads and writes: parameters, figures, results, and those of others."""

import csv
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import threadpoolctl
from matplotlib.figure import Figure

from pipeline.chapters import kept, plots
from pipeline.chapters.boards import Rows
from pipeline.chapters.reads import PEERS, REFERENCES, TIMINGS, TUNING
from pipeline.chapters.results import read_results
from pipeline.chapters.study import (
    KINDS_OF_SETTINGS,
    OWN,
    ROOT,
    RUNS,
    STATED,
    THREAD_VARIABLES,
    Chapter,
    Study,
    assignments,
    check_overrides,
    digest,
    table_file,
)
from pipeline.chapters.tuned import read_tuned, tuned_file
from recsys_core.errors import StudyError, refuse_unknown
from recsys_core.files import atomic_path

TIMING_COLUMNS = ["machine", "device", "what", "value", "unit", "data", "versions"]
PEER_COLUMNS = [
    *("machine", "device", "peer", "version", "what", "settings", "measure", "theirs", "ours", "ratio", "goal"),
    *("theirs_wall", "ours_wall", "low", "high", "rounds", "data", "versions", "note"),
]
LOG_COLUMNS = ["what", "kind", "stored", "now", "deviation", "allowed", "z", "verdict"]
POLICIES = {
    "free": "the first seed and split of a model, and what is not stored",
    "first": "the first seed and split of a model",
    "prefix": "the beginning of the first seed and split of a model",
    "measure": "as prefix, and what contradicts is only noted",
    "main": "all seeds and the selection of a model's first split",
    "all": "everything",
    "write": "the first seed and split of a model, and what is not stored, which is then stored",
    "resume": "what is not stored, which is then stored, each run at once",
}


@dataclass(frozen=True)
class Notebook:
    """One run of one notebook; made by `Notebook.open`.

    Attributes:
        name: file name without suffix.
        parameters: current values of the names assigned in the notebook's own `parameters` cell.
        profile: the profile of study.yaml whose parameters these are ("study": all default), or None.
        output: folder of `results/` and of a report; `reports/` for the default parameters.
        figures: folder of this notebook's figures.
        policy: which runs are trained although they are stored (RECSYS_POLICY), see `POLICIES`.
        scratch: where everything is written first (RECSYS_SCRATCH); what other notebooks wrote is read where it is kept.
        replace: whether fresh results take the place of stored ones (RECSYS_REPLACE=1).
        log: file that every comparison with the store is written to (in the folder RECSYS_LOG), or None.
        chapter: what its code says that it reads, or None; a run in a scratch folder reads nothing else.
        part: name of the stored profile whose part of the store it uses; "" for the study's own.
        used, files: keys of the runs that were asked for so far, and files of the store that were read.
    """

    name: str
    parameters: dict[str, Any]
    profile: str | None
    output: Path
    figures: Path
    root: Path = field(default=ROOT, repr=False)
    policy: str = "free"
    scratch: Path | None = None
    replace: bool = False
    log: Path | None = None
    chapter: Chapter | None = field(default=None, repr=False)
    part: str = ""
    used: set[str] = field(default_factory=set, repr=False)
    files: set[Path] = field(default_factory=set, repr=False)

    @classmethod
    def open(cls, name: str, variables: dict[str, Any], root: Path = ROOT) -> "Notebook":
        """Open the run of notebook `name`; `variables` is `globals()`, right after the `parameters` cell.

        Fixes the number of threads (parameter `threads`, else 1): another order of sums gives other digits.

        Raises:
            StudyError: papermill was given an unknown parameter, or one of another type.
        """
        study = Study(root)
        defaults = study.defaults(name)
        check_overrides(name, _injected(variables.get("In", [])), defaults)
        if missing := [key for key in defaults if key not in variables]:
            raise StudyError(f"{name}: run the parameters cell first; '{missing[0]}' has no value yet.")
        parameters = {key: variables[key] for key in defaults}
        _limit_threads(parameters.get("threads", 1))
        profile = study.recognise(name, parameters)
        output, figures = study.output(profile, parameters)
        scratch = root / redirected if (redirected := os.environ.get("RECSYS_SCRATCH")) else None
        if folder := os.environ.get("RECSYS_OUTPUT"):
            output, figures = Path(folder), Path(folder) / "figures"
        policy = os.environ.get("RECSYS_POLICY") or "free"
        refuse_unknown("RECSYS_POLICY", policy, POLICIES)
        log = root / folder / f"{name}.csv" if (folder := os.environ.get("RECSYS_LOG")) else None
        base, replace = scratch or root, os.environ.get("RECSYS_REPLACE") == "1"
        places, chapter = (base / output, base / figures / name), study.chapter(name)
        part = study.part(profile)
        return cls(name, parameters, profile, *places, root, policy, scratch, replace, log, chapter, part)

    @property
    def is_own(self) -> bool:
        """Whether this is a part of a study of own data, which has a folder to itself."""
        return bool(self.part) and (self.root / RUNS / self.part / OWN).exists()

    @property
    def is_default(self) -> bool:
        """Whether every parameter has its default value."""
        return self.profile == "study"

    def save_figure(self, figure: Figure, name: str) -> Figure:
        """Save `figure` as `<figures>/<name>.png`, the same bytes for the same figure, and return it to be shown, once.

        It leaves the list of open figures, which a cell shows at its end. Titles are broken where they are wider than it is.
        """
        plots.fitted(figure)
        with atomic_path(self.figures / f"{name}.png") as path:
            figure.savefig(path, format="png", dpi=150, bbox_inches="tight", metadata={"Software": None})
        plt.close(figure)
        return figure

    def save_results(self, frame: pd.DataFrame) -> None:
        """Save the results table as `results/<notebook>.csv`: sorted by key columns, rounded to 6 decimals.

        Key columns are those that hold no floats, in their order.
        """
        with atomic_path(self.output / table_file("results", self.name)) as path:
            _sorted(frame, decimals=6).to_csv(path, index=False, lineterminator="\n")

    def save_users(self, frame: pd.DataFrame) -> None:
        """Save per-user values as `results/users/<notebook>.parquet`: sorted, rounded to 5 decimals."""
        rounded = _sorted(frame, decimals=5)
        floats = rounded.select_dtypes("float").columns
        with atomic_path(self.output / table_file("users", self.name)) as path:
            rounded.astype(dict.fromkeys(floats, "float32")).to_parquet(path, index=False, compression="zstd")

    def read_results(self, name: str) -> pd.DataFrame:
        """Results of notebook `name`, of the same run; of those that are kept where this run writes to a scratch folder.

        Of this notebook itself they are what this run has just saved. A run in a folder of its own, where there are none, gets the
        committed ones for its own `dataset`, which may be none.

        Raises:
            StudyError: that notebook has not been run.
        """
        return self._read(name, "results", read_results)

    def read_table(self, name: str, table: str) -> pd.DataFrame:
        """One table of a notebook that analyses data, a row per name and a column per measure; see `read_results`.

        Raises:
            StudyError: that notebook has not been run, or saved no such table.
        """
        rows = self.read_results(name)
        if table not in set(rows["table"]):
            raise StudyError(f"{name} saved no table '{table}'; there are {', '.join(rows['table'].unique())}.")
        rows = rows[rows["table"] == table]
        return rows.pivot_table(index="name", columns="measure", values="value", sort=False)

    def read_users(self, name: str) -> pd.DataFrame:
        """Per-user values of notebook `name`; see `read_results`."""
        return self._read(name, "users", pd.read_parquet)

    def read_rows(self, *names: str) -> Rows:
        """Results and per-user values of notebooks beside each other; see `read_results`."""
        return Rows.of(self.save_figure, {name: (self.read_results(name), self.read_users(name)) for name in names})

    def read_every(self, variants: bool = False) -> Rows:
        """Results and per-user values of all notebooks before this one that save them; runs marked as variants if asked for."""
        chapters = {name: self.read_rows(name) for name in Study(self.root).earlier(self.name)}
        shown = chapters if variants else {name: rows.without_variants() for name, rows in chapters.items()}
        return Rows.of(self.save_figure, {name: (rows.results, rows.users) for name, rows in shown.items()})

    def read_stored(self, profile: str, name: str) -> pd.DataFrame:
        """Stored results of notebook `name` under `profile`, with a column `device_class`; may be empty."""
        return self._stored(profile, table_file("results", name), read_results)

    def read_stored_users(self, profile: str, name: str) -> pd.DataFrame:
        """Per-user values beside `read_stored`; may be empty."""
        return self._stored(profile, table_file("users", name), pd.read_parquet)

    def read_stored_rows(self, profile: str, name: str) -> Rows:
        """Both of these as rows of one class of device, the last by name: CUDA where it is stored; of nothing, where nothing is."""
        both = self.read_stored(profile, name), self.read_stored_users(profile, name)
        classes = [frame["device_class"].max() for frame in both if len(frame)]
        of_one = [frame[frame["device_class"] == max(classes)] if len(frame) else frame for frame in both]
        return Rows.of(self.save_figure, {name: (of_one[0], of_one[1])})

    def _stored(self, profile: str, file: Path, read: Callable[[Path], pd.DataFrame]) -> pd.DataFrame:
        classes = sorted(self._input(f"reports/stored/{profile}").glob("*"))
        frames = [read(each / file).assign(device_class=each.name) for each in classes if (each / file).exists()]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    @property
    def stops_early(self) -> bool:
        """Whether networks are trained to show how training begins, and no further."""
        return self.policy in ("prefix", "measure")

    @property
    def is_strict(self) -> bool:
        """Whether a run that is not stored, or contradicts what is stored, is an error."""
        return self.policy not in ("free", "write", "resume")

    @property
    def writes(self) -> bool:
        """Whether what is not stored is added to the store."""
        return self.policy in ("write", "resume")

    def keep(self, name: str, value: Any, within: float | None = None, made_from: Any = None) -> Any:
        """Return a value that was computed from trained models, as it is kept where the fresh one agrees with it.

        `value` may be a function without arguments: it is called where nothing is kept, where fresh values replace
        kept ones, and under the policies main, all. Kept and fresh numbers may differ by `within`; None is for what cannot be
        compared, such as the coordinates of a map. What is made from other runs or parameters than the kept value takes its place
        under the policies write and resume; `made_from` says what it follows from, where that is less than all parameters and all
        runs so far. Nothing is kept with other parameters than the default ones or those of a stored profile.

        Raises:
            StudyError: nothing is kept, or it was made from other runs, or it differs, where the policy allows neither.
        """
        if not (self.is_default or self.part):
            return value() if callable(value) else value
        path = kept.kept_file(self.root, self.name, name, self.part)
        made_from = self.made_from if made_from is None else digest(made_from)[:16]
        self.uses("", path)
        stored = kept.read(path)
        same = stored is not None and stored[1] == made_from
        skipped = callable(value) and not self.replace and self.policy not in ("main", "all")
        if same and (self.stops_early or skipped):
            return stored[0]  # type: ignore[index]
        if not same and self.is_strict and not self.replace:
            raise StudyError(f"{self.name}: '{name}' is not kept of these runs: run `make store NOTEBOOK={self.name}`.")
        fresh = kept.decoded(kept.encoded(self._called(value) if callable(value) else value))
        if same and not self.replace and self._agrees(name, stored[0], fresh, within):  # type: ignore[index]
            return stored[0]  # type: ignore[index]
        if self.writes or (self.replace and self.policy == "first"):
            self.files.discard(path)
            self.uses("", kept.write(path, fresh, made_from))
        return fresh

    def _called(self, value: Callable[[], Any]) -> Any:
        """What a function returns; runs that it asks for are its own affair, since it is not always called."""
        before = set(self.used), set(self.files)
        result = value()
        self.used.intersection_update(before[0])
        self.files.intersection_update(before[1])
        return result

    def uses(self, key: str, *files: Path) -> None:
        """Note a run that was asked for, and the files of the store that it is read from (in `used/` of the scratch folder)."""
        self.used.update({key} - {""})
        self.files.update(files)
        if self.scratch is not None:
            lines = sorted(f"{path.relative_to(self.root).as_posix()}\n" for path in self.files)
            with atomic_path(self.scratch / "used" / f"{self.name}.txt") as listed:
                listed.write_text("".join(lines), encoding="utf-8")

    @property
    def made_from(self) -> str:
        """Digest of this notebook's parameters and of the runs that it has asked for so far."""
        return digest([self.parameters, sorted(self.used)])[:16]

    def _agrees(self, name: str, stored: Any, fresh: Any, within: float | None) -> bool:
        if within is None:
            return True
        difference = kept.largest_difference(kept.encoded(stored), kept.encoded(fresh))
        self.note([{"what": name, "kind": "kept", "deviation": difference, "allowed": within}])
        if difference > within and self.is_strict:
            apart = f"fresh and kept value are {difference:.3g} apart, {within:.3g} are allowed"
            raise StudyError(f"{self.name}, '{name}': {apart}; `make store NOTEBOOK={self.name}` takes the fresh one.")
        return difference <= within

    def note(self, checks: list[dict[str, Any]]) -> None:
        """Add comparisons with the store to the log: what, kind, stored, now, deviation, allowed, z, verdict."""
        if self.log is None or not checks:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        new = not self.log.exists()
        with open(self.log, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, LOG_COLUMNS, restval="")
            if new:
                writer.writeheader()
            for check in checks:
                verdict = "confirmed" if check["deviation"] <= check["allowed"] else "contradicted"
                writer.writerow(check | {"verdict": verdict})

    def hyperparameters(self, model: str, settings: str = "tuned") -> dict[str, Any]:
        """Keyword arguments of a model of `recsys_core.models.MODELS`: none for "stated", for "tuned" what `make tune` chose.

        For "tuned widely" it is what `make tune WIDE=1` chose, for "tuned apart" what `make tune APART=1` did.

        Raises:
            StudyError: other settings; a model that has not been tuned.
        """
        refuse_unknown("settings", settings, KINDS_OF_SETTINGS)
        self._input(TUNING)
        return {} if settings == STATED else read_tuned(self.searched_below(model, settings), model, settings)

    def searched_below(self, model: str, settings: str = "tuned") -> Path:
        """The folder below which there is a search of this model: that of a study of own data, where it searched, else the root."""
        own = self.root / RUNS / self.part
        return own if self.is_own and tuned_file(own, model, settings).exists() else self.root

    def read_references(self) -> pd.DataFrame:
        """Reported and published figures and statements with their sources; `value` is `reported` as a number, or NaN.

        Further columns: claim_id and notebook (only statements of the five reports), source, name, dataset, protocol, metric,
        statement, where.
        """
        references = pd.read_csv(self._existing(self._input(REFERENCES)), dtype={"reported": str})
        return references.assign(value=pd.to_numeric(references["reported"], errors="coerce"))

    def read_claims(self) -> pd.DataFrame:
        """The ledger of claims of the same run, see `claims`; the kept one where this run writes to a scratch folder."""
        return pd.read_csv(self._existing(self.upstream("claims.csv")), dtype=str).fillna("")

    def read_timings(self) -> pd.DataFrame:
        """What `make timings` measured: machine, device, what, value, unit, data, versions; empty before the first time."""
        path = self._input(TIMINGS)
        return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=TIMING_COLUMNS)

    def read_peers(self) -> pd.DataFrame:
        """What `make peers` measured, see `pipeline.bench.peers`; empty before the first time.

        Each row compares one measure of a case: `fit` and `epoch` in seconds of processor time (`_wall`: of wall time, as all of
        several threads), of which `ratio` is theirs / ours and `goal` the ratio to reach, `memory` in MB, or `rmse`, `hit_ratio` or
        `ndcg`, the latter two with the interval of ours - theirs, `low` to `high`. `note` says why a peer was not measured.
        """
        path = self._input(PEERS)
        return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=PEER_COLUMNS)

    def figure_path(self, name: str) -> Path:
        """File of a figure `<notebook>/<figure>` of the same run; the kept one of others, see `upstream`."""
        own, kept = (folder / f"{name}.png" for folder in (self.figures.parent, self.root / "figures"))
        is_mine = name.split("/")[0] == self.name or (self.scratch is None and own.exists())
        return own if is_mine else kept

    def final(self, path: Path) -> Path:
        """Where a file of this run is in the end, relative to the project."""
        return path.relative_to(self.scratch if self.scratch and path.is_relative_to(self.scratch) else self.root)

    def upstream(self, place: str | Path) -> Path:
        """A file or folder that other notebooks of the same run wrote; the kept one for a run in a scratch folder or without it."""
        own = self.output / place
        return self.root / "reports" / place if self.scratch or not own.exists() else own

    def _read(self, name: str, kind: str, read: Callable[[Path], pd.DataFrame]) -> pd.DataFrame:
        own, committed = (folder / table_file(kind, name) for folder in (self.output, self.root / "reports"))
        if name == self.name:
            return read(self._existing(own))
        if self.scratch and self.chapter and name not in self.chapter.after:
            raise StudyError(
                f"{self.name} reads {name}, whose name stands in none of its code cells: write it out there."
            )
        if self.scratch or own.exists():
            return read(self._existing(committed if self.scratch else own))
        frame = read(self._existing(committed))
        dataset = self.parameters.get("dataset")
        return frame[frame["dataset"] == dataset] if dataset and "dataset" in frame else frame

    def _input(self, place: str) -> Path:
        """A file or folder below the root, which the pipeline must know as one that makes this notebook run again."""
        if self.scratch and self.chapter and place not in self.chapter.inputs:
            raise StudyError(
                f"{self.name} reads {place} by a call that `pipeline.chapters.reads` does not know: add it there."
            )
        return self.root / place

    def _existing(self, path: Path) -> Path:
        if not path.exists():
            shown = path.relative_to(self.root) if path.is_relative_to(self.root) else path
            raise StudyError(f"{self.name} reads {shown}, which is missing: run notebook {path.stem} first.")
        return path


def _injected(executed: list[str]) -> dict[str, Any]:
    """Assignments of the cell that papermill injects, found in IPython's list of executed cells."""
    return assignments("\n".join(source for source in executed if source.startswith("# Parameters\n")))


def _limit_threads(count: int) -> None:
    """Bind the libraries that are loaded to `count` threads, and those that will be."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(count)))
    threadpoolctl.threadpool_limits(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def _sorted(frame: pd.DataFrame, decimals: int) -> pd.DataFrame:
    """Rounded, without negative zeros, rows in the order of the columns that hold no floats."""
    floats = frame.select_dtypes("float").columns
    keys = [column for column in frame.columns if column not in floats]
    rounded = frame.assign(**{column: frame[column].round(decimals) + 0.0 for column in floats})
    return rounded.sort_values(keys, kind="stable", ignore_index=True) if keys else rounded
