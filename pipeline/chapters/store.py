"""The store of runs below reports/stored/runs: what training gave, kept by what it follows from.

A run is a value: its identity is the data, the split, the model's class and its settings without those at their default, the
protocol and variant, and the class of device; runs of one identity differ by their seed and share a file. A selection, which is
what validation rows chose and the curve by which they did, is a record of its own beside the runs.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.chapters.study import STORED, stored_folder
from recsys_core.errors import StudyError
from recsys_core.files import atomic_path
from recsys_core.models.base import Recommender, fingerprint

FORMAT_VERSION = 1
FOLDER = STORED / "runs"
METRIC_COLUMNS = ["variant", "metric", "value", "n_users", "n_missing", "n_fallback"]
MEAN = -1  # in place of a seed: per-user values that are the mean over all stored seeds


def described(model: Recommender) -> dict[str, Any]:
    """Class and settings of a model, without the device and without settings at their default."""
    settings = {}
    for each in fields(model):  # type: ignore[arg-type]
        value = getattr(model, each.name)
        default = each.default_factory() if each.default_factory is not MISSING else each.default
        if each.name != "device" and value != default:
            settings[each.name] = described(value) if isinstance(value, Recommender) else value
    return {"model": type(model).__name__, "settings": json.loads(json.dumps(settings, default=_plain))}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else list(value)


@dataclass(frozen=True)
class Identity:
    """What a run follows from, but its seed; `split` is the SHA-256 of rows and roles, `data` that of the normalised tables."""

    data: str
    split: str
    protocol: str
    variant: str
    model: str
    settings: dict[str, Any]
    device: str

    @property
    def key(self) -> str:
        """Name of its file."""
        return fingerprint(asdict(self))[:16]


@dataclass(frozen=True)
class Selection:
    """What the validation rows chose, the curve by which they did, how that training began, and its processor time (see `Run`)."""

    chosen: dict[str, Any]
    curve: pd.DataFrame | None = None
    path: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None


@dataclass(frozen=True)
class Run:
    """What training with one seed gave.

    `metrics` has the columns METRIC_COLUMNS; `users` a row per variant and user and a column per metric, or is None where only the
    mean over seeds is known. `facts` are epochs and parameters (None where nothing is counted); `path` and `exact` (hashes of the
    rows as fitted and of the first batch) are how training began; `made_by` says with which versions and on what; `seconds` is the
    processor time of the training (None: not known).
    """

    seed: int
    metrics: pd.DataFrame
    users: pd.DataFrame | None
    facts: dict[str, int | None] = field(default_factory=dict)
    path: dict[str, float] = field(default_factory=dict)
    exact: dict[str, str] = field(default_factory=dict)
    made_by: dict[str, str] = field(default_factory=dict)
    seconds: float | None = None

    def value(self, metric: str) -> float:
        """Value of a metric, of the first variant by name that has it, whatever their order here; NaN where none has."""
        found = self.metrics[self.metrics["metric"] == metric].sort_values("variant")["value"]
        return float(found.iloc[0]) if len(found) else np.nan


@dataclass
class Cell:
    """All that is stored of one identity."""

    identity: Identity
    label: str = ""
    runs: dict[int, Run] = field(default_factory=dict)
    selections: dict[int, Selection] = field(default_factory=dict)
    mean_of: list[int] = field(default_factory=list)
    mean_users: pd.DataFrame | None = None

    def users_of(self, seeds: list[int]) -> pd.DataFrame | None:
        """Per-user values averaged over these seeds; None where they are not known."""
        own = [users for seed in seeds if (users := self._own_users(seed)) is not None]
        if len(own) == len(seeds):
            return mean_over_seeds(own)
        return self.mean_users if sorted(seeds) == self.mean_of else None

    def lacks(self, seeds: list[int]) -> list[int]:
        """The seeds among these that are not stored, with metrics and per-user values."""
        if all(seed in self.runs for seed in seeds) and self.users_of(seeds) is not None:
            return []
        return [seed for seed in seeds if seed not in self.runs or self._own_users(seed) is None]

    def _own_users(self, seed: int) -> pd.DataFrame | None:
        alone = self.mean_users if self.mean_of == [seed] else None
        return self.runs[seed].users if seed in self.runs and self.runs[seed].users is not None else alone


def mean_over_seeds(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Mean of per-user values by variant and user."""
    return pd.concat(frames).groupby(["variant", "user"], sort=True).mean().reset_index()


class Store:
    """The cells below `root`, or those of a stored profile, its `part`; two processes may write at once."""

    def __init__(self, root: Path, part: str = "") -> None:
        self.folder = stored_folder(root, FOLDER, part)

    def cell(self, identity: Identity) -> Cell:
        """What is stored of an identity, which may be nothing. Raises StudyError for a damaged file and another format."""
        path = self.folder / f"{identity.key}.json"
        if not path.exists():
            return Cell(identity)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["version"] != FORMAT_VERSION:
                raise StudyError(f"{path} has format version {content['version']}, this code reads {FORMAT_VERSION}.")
            users = path.with_suffix(".parquet")
            return _read(identity, content, pd.read_parquet(users) if users.exists() else None)
        except (OSError, LookupError, TypeError, ValueError, AttributeError) as error:
            raise StudyError(f"{path} is damaged ({error}): restore it from git.") from None

    def files(self, identity: Identity) -> list[Path]:
        """Where the runs of an identity and their per-user values are."""
        return [self.folder / f"{identity.key}{end}" for end in (".json", ".parquet")]

    def contents(self) -> Iterator[dict[str, Any]]:
        """The content of every cell's file, without per-user values."""
        for path in sorted(self.folder.glob("*.json")):
            yield json.loads(path.read_text(encoding="utf-8"))

    def add(
        self,
        identity: Identity,
        label: str,
        runs: Iterable[Run] = (),
        selections: Mapping[int, Selection] | None = None,
    ) -> Cell:
        """Store runs, and selections by seed, beside (or in place of) what is there; returns the cell as it will be read."""
        with self._locked():
            cell = self.cell(identity)
            cell.label = cell.label or label
            cell.runs |= {run.seed: run for run in runs}
            cell.selections |= dict(selections or {})
            self.write(cell)
            return self.cell(identity)

    def write(self, cell: Cell) -> None:
        """Write a cell's files."""
        path = self.folder / f"{cell.identity.key}.json"
        users = [(seed, run.users) for seed, run in sorted(cell.runs.items())] + [(MEAN, cell.mean_users)]
        frames = [frame.assign(seed=seed) for seed, frame in users if frame is not None and len(frame)]
        if frames:
            table = pd.concat(frames, ignore_index=True)
            floats = table.select_dtypes("float").columns
            table = table.assign(**table[floats].round(5).astype("float32"))
            with atomic_path(path.with_suffix(".parquet")) as temporary:
                table.to_parquet(temporary, index=False, compression="zstd")
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(_written(cell), indent=1) + "\n", encoding="utf-8")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _written(cell: Cell) -> dict[str, Any]:
    runs = {
        str(seed): {
            "metrics": _nested(run.metrics),
            "facts": run.facts,
            "path": _short(run.path),
            "exact": run.exact,
            "made_by": run.made_by,
            **_time(run),
        }
        for seed, run in sorted(cell.runs.items())
    }
    selections = {
        str(seed): {
            "chosen": selection.chosen,
            "curve": None if selection.curve is None else _columns(selection.curve),
            "path": _short(selection.path),
            **_time(selection),
        }
        for seed, selection in sorted(cell.selections.items())
    }
    identity = asdict(cell.identity)
    content = {"version": FORMAT_VERSION, "label": cell.label, "identity": identity, "runs": runs}
    return content | {"selections": selections, "mean_of": cell.mean_of}


def _read(identity: Identity, content: dict[str, Any], users: pd.DataFrame | None) -> Cell:
    def users_of(seed: int) -> pd.DataFrame | None:
        mine = None if users is None else users[users["seed"] == seed]
        if mine is None or mine.empty:
            return None
        return mine.drop(columns="seed").dropna(axis=1, how="all").reset_index(drop=True)

    runs = {
        int(seed): Run(
            int(seed),
            _flat(run["metrics"]),
            users_of(int(seed)),
            run["facts"],
            run["path"],
            run["exact"],
            run["made_by"],
            run.get("seconds"),
        )
        for seed, run in content["runs"].items()
    }
    selections = {
        int(seed): Selection(
            each["chosen"],
            None if each["curve"] is None else pd.DataFrame(each["curve"]),
            each["path"],
            each.get("seconds"),
        )
        for seed, each in content["selections"].items()
    }
    return Cell(identity, content["label"], runs, selections, content["mean_of"], users_of(MEAN))


def _time(record: Run | Selection) -> dict[str, float]:
    """The processor time of a record, where it is known."""
    return {} if record.seconds is None else {"seconds": round(record.seconds, 1)}


def _nested(metrics: pd.DataFrame) -> dict[str, dict[str, list[float | None]]]:
    """Variant → metric → [value, users counted, without a value, answered by the fallback]."""
    table: dict[str, dict[str, list[float | None]]] = {}
    for variant, metric, value, *counts in metrics[METRIC_COLUMNS].itertuples(index=False):
        number = None if np.isnan(value) else float(f"{value:.12g}")
        table.setdefault(variant, {})[metric] = [number, *map(int, counts)]
    return table


def _flat(table: dict[str, dict[str, list[float]]]) -> pd.DataFrame:
    rows = [(variant, metric, *values) for variant, part in table.items() for metric, values in part.items()]
    return pd.DataFrame(rows, columns=METRIC_COLUMNS).astype({"value": "float64"})


def _columns(curve: pd.DataFrame) -> dict[str, list[float]]:
    return {str(name): [float(f"{value:.8g}") for value in column] for name, column in curve.items()}


def _short(path: dict[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.9g}") for name, value in path.items()}
