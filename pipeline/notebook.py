"""What a notebook of the study reads and writes: parameters, figures, results, and those of others."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import threadpoolctl
from matplotlib.figure import Figure

from pipeline.study import ROOT, Study, assignments, check_overrides
from pipeline.tuned import read_tuned
from recsys_core.errors import StudyError, choose
from recsys_core.files import atomic_path

TIMING_COLUMNS = ["machine", "device", "what", "value", "unit", "data", "versions"]
PEER_COLUMNS = [
    *("machine", "device", "peer", "version", "what", "settings", "measure", "theirs", "ours", "ratio", "goal"),
    *("theirs_wall", "ours_wall", "rounds", "data", "versions", "note"),
]
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Notebook:
    """One run of one notebook; made by `Notebook.open`.

    Attributes:
        name: file name without suffix.
        parameters: current values of the names assigned in the notebook's own `parameters` cell.
        profile: the profile of study.yaml whose parameters these are ("study": all default), or None.
        check: whether the committed results are being checked (RECSYS_CHECK=1), not made anew.
        output: folder of `results/` and of a report; `reports/` for the default parameters.
        figures: folder of this notebook's figures.
    """

    name: str
    parameters: dict[str, Any]
    profile: str | None
    output: Path
    figures: Path
    check: bool = False
    root: Path = field(default=ROOT, repr=False)

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
        if redirected := os.environ.get("RECSYS_OUTPUT"):
            output, figures = Path(redirected), Path(redirected) / "figures"
        check = os.environ.get("RECSYS_CHECK") == "1"
        return cls(name, parameters, profile, root / output, root / figures / name, check, root)

    @property
    def is_default(self) -> bool:
        """Whether every parameter has its default value."""
        return self.profile == "study"

    def save_figure(self, figure: Figure, name: str) -> None:
        """Save `figure` as `<figures>/<name>.png`, the same bytes for the same figure."""
        with atomic_path(self.figures / f"{name}.png") as path:
            figure.savefig(path, format="png", dpi=150, bbox_inches="tight", metadata={"Software": None})

    def save_results(self, frame: pd.DataFrame) -> None:
        """Save the results table as `results/<notebook>.csv`: sorted by key columns, rounded to 6 decimals.

        Key columns are those that hold no floats, in their order.
        """
        with atomic_path(self.output / "results" / f"{self.name}.csv") as path:
            _sorted(frame, decimals=6).to_csv(path, index=False, lineterminator="\n")

    def save_users(self, frame: pd.DataFrame) -> None:
        """Save per-user values as `results/users/<notebook>.parquet`: sorted, rounded to 5 decimals."""
        rounded = _sorted(frame, decimals=5)
        floats = rounded.select_dtypes("float").columns
        with atomic_path(self.output / "results" / "users" / f"{self.name}.parquet") as path:
            rounded.astype(dict.fromkeys(floats, "float32")).to_parquet(path, index=False, compression="zstd")

    def read_results(self, name: str) -> pd.DataFrame:
        """Results of notebook `name`, of the same run; as committed where results are being checked.

        A run with other parameters than the default ones, in whose folder there are none, gets the committed ones
        for its own `dataset`, which may be none.

        Raises:
            StudyError: that notebook has not been run.
        """
        return self._upstream(f"{name}.csv", pd.read_csv)

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
        return self._upstream(f"users/{name}.parquet", pd.read_parquet)

    def read_stored(self, profile: str, name: str) -> pd.DataFrame:
        """Stored results of notebook `name` under `profile`, with a column `device_class`; may be empty."""
        return self._stored(profile, f"results/{name}.csv", pd.read_csv)

    def read_stored_users(self, profile: str, name: str) -> pd.DataFrame:
        """Per-user values beside `read_stored`; may be empty."""
        return self._stored(profile, f"results/users/{name}.parquet", pd.read_parquet)

    def _stored(self, profile: str, file: str, read: Callable[[Path], pd.DataFrame]) -> pd.DataFrame:
        classes = sorted((self.root / "reports/stored" / profile).glob("*"))
        frames = [read(each / file).assign(device_class=each.name) for each in classes if (each / file).exists()]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def read_committed(self) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
        """This notebook's own results and per-user values as committed, to be compared with; None where there are none."""
        results, users = (
            self.root / "reports/results" / file for file in (f"{self.name}.csv", f"users/{self.name}.parquet")
        )
        return (
            pd.read_csv(results, dtype={"variant": str}).fillna({"variant": ""}) if results.exists() else None,
            pd.read_parquet(users) if users.exists() else None,
        )

    def read_stored_runs(self, profile: str) -> list[pd.DataFrame]:
        """This notebook's own results and per-user values as stored for `profile`; may be empty."""
        stored = self.read_stored(profile, self.name), self.read_stored_users(profile, self.name)
        named = [rows.astype({"variant": "str"}).fillna({"variant": ""}) if len(rows) else rows for rows in stored]
        return [rows.drop(columns="device_class", errors="ignore") for rows in named]

    def hyperparameters(self, model: str, settings: str = "tuned") -> dict[str, Any]:
        """Keyword arguments of a model of `recsys_core.models.MODELS`: none for "stated", for "tuned" what `make tune` chose.

        Raises:
            StudyError: other settings; a model that has not been tuned.
        """
        choose("settings", settings, ("stated", "tuned"))
        return {} if settings == "stated" else read_tuned(self.root, model)

    def read_references(self) -> pd.DataFrame:
        """Reported and published figures and statements with their sources; `value` is `reported` as a number, or NaN.

        Further columns: claim_id and notebook (only statements of the five reports), source, name, dataset, protocol, metric,
        statement, where.
        """
        references = pd.read_csv(self._existing(self.root / "reports" / "references.csv"), dtype={"reported": str})
        return references.assign(value=pd.to_numeric(references["reported"], errors="coerce"))

    def read_claims(self) -> pd.DataFrame:
        """The ledger of claims of the same run, see `pipeline.claims`; as committed where results are being checked."""
        own, committed = (folder / "claims.csv" for folder in (self.output, self.root / "reports"))
        table = pd.read_csv(self._existing(committed if self.check or not own.exists() else own), dtype=str)
        return table.fillna("")

    def read_timings(self) -> pd.DataFrame:
        """What `make timings` measured: machine, device, what, value, unit, data, versions; empty before the first time."""
        path = self.root / "reports" / "timings.csv"
        return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=TIMING_COLUMNS)

    def read_peers(self) -> pd.DataFrame:
        """What `make peers` measured, see `pipeline.peers`; empty before the first time.

        Each row compares one measure of a case: `fit` and `epoch` in seconds of processor time (`_wall`: of wall time), of which
        `ratio` is theirs / ours and `goal` the ratio to reach, or `rmse`. `note` says why a peer was not measured.
        """
        path = self.root / "reports" / "timings_peers.csv"
        return pd.read_csv(path) if path.exists() else pd.DataFrame(columns=PEER_COLUMNS)

    @property
    def upstream_figures(self) -> Path:
        """Folder of all notebooks' figures, of the same run; as committed where results are being checked."""
        return self.root / "figures" if self.check else self.figures.parent

    def _upstream(self, file: str, read: Callable[[Path], pd.DataFrame]) -> pd.DataFrame:
        own, committed = (folder / "results" / file for folder in (self.output, self.root / "reports"))
        if self.check or self.is_default or own.exists():
            return read(self._existing(committed if self.check else own))
        frame = read(self._existing(committed))
        dataset = self.parameters.get("dataset")
        return frame[frame["dataset"] == dataset] if dataset and "dataset" in frame else frame

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
