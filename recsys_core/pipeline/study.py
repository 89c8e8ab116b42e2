"""`study.yaml` read and checked: notebooks, profiles, parameters, and the folder that each run writes to."""

import ast
import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import yaml

from recsys_core.errors import StudyError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Entry:
    """One notebook of `study.yaml`."""

    name: str
    after: tuple[str, ...] = ()  # notebooks whose results it reads
    outputs: tuple[str, ...] = ()  # "results", "users", "figures", or a file name below the output folder
    inputs: tuple[str, ...] = ()  # further files and folders, from the root, whose change makes it run again
    training: bool = False  # takes the accelerator to itself where there is one


@dataclass(frozen=True)
class Job:
    """One notebook with the parameters that a profile gives it; paths are relative to the root."""

    entry: Entry
    profile: str
    overrides: dict[str, Any]
    after: tuple[str, ...]  # the upstream notebooks that belong to the same profile
    output: Path
    figures: Path
    executed: Path  # folder of the executed copies
    redirected: bool  # the output folder is told to the notebook, because its parameters do not tell it

    @property
    def name(self) -> str:
        """The notebook's name, without suffix."""
        return self.entry.name

    @property
    def notebook(self) -> Path:
        """The notebook that is run."""
        return notebook_path(self.name)

    @property
    def copy(self) -> Path:
        """The executed copy; it stays, with the traceback, when the notebook fails."""
        return self.executed / f"{self.name}.ipynb"

    def state(self, kind: str) -> Path:
        """Where the pipeline notes `kind` about this job."""
        return self.executed / "state" / f"{self.name}.{kind}"

    @property
    def files(self) -> list[Path]:
        """Files and folders that the notebook must write."""
        places = {
            "results": self.output / "results" / f"{self.name}.csv",
            "users": self.output / "results" / "users" / f"{self.name}.parquet",
            "figures": self.figures / self.name,
        }
        return [places.get(name, self.output / name) for name in self.entry.outputs]

    @property
    def command(self) -> str:
        """The papermill line, to be typed in the root of the project."""
        prefix = f"RECSYS_OUTPUT={self.output} " if self.redirected else ""
        parameters = f" -f {self.state('yaml')}" if self.overrides else ""
        return f"{prefix}papermill {self.notebook} {self.copy}{parameters}"


def notebook_path(name: str) -> Path:
    """Path of a notebook, relative to the root."""
    return Path("notebooks") / f"{name}.ipynb"


def read_notebook(path: Path) -> list[dict[str, Any]]:
    """Cells of a notebook file, each source as one string.

    Raises:
        StudyError: the file is missing or is no notebook.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    except FileNotFoundError:
        raise StudyError(f"There is no notebook {path}; study.yaml names those that there are.") from None
    except (ValueError, KeyError) as error:
        raise StudyError(f"{path} is not a readable notebook ({error}); restore it with git.") from None
    return [{**cell, "source": "".join(cell["source"])} for cell in cells]


def notebook_parameters(path: Path) -> dict[str, Any]:
    """Names and values assigned in the one cell tagged `parameters`.

    Raises:
        StudyError: there is no such cell, more than one, or a value that is not a literal.
    """
    cells = [cell for cell in read_notebook(path) if "parameters" in cell["metadata"].get("tags", [])]
    if len(cells) != 1:
        raise StudyError(f"{path} has {len(cells)} cells tagged 'parameters'; exactly one is needed.")
    return assigned_literals(cells[0]["source"], str(path))


def assigned_literals(source: str, place: str) -> dict[str, Any]:
    """Values of the simple assignments in `source`, for instance {"epochs": 20}; `place` is named in the error.

    Raises:
        StudyError: a statement is anything but `name = literal`.
    """
    values = {}
    for statement in ast.parse(source).body:
        try:
            assert isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
            values[statement.targets[0].id] = ast.literal_eval(statement.value)
        except (AssertionError, ValueError):
            text = ast.unparse(statement)
            raise StudyError(
                f"Parameters cell of {place}: '{text}' is not of the form name = literal."
            ) from None
    return values


def same(left: Any, right: Any) -> bool:
    """Whether two values are the same once written as JSON (a tuple equals a list, keys have no order)."""
    return digest(left) == digest(right)


def digest(value: Any) -> str:
    """SHA-256 of a value written as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def check_overrides(name: str, overrides: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Refuse an override that the notebook would silently ignore or misread.

    Raises:
        StudyError: unknown parameter, or a value of another type than the default's.
    """
    for key, value in overrides.items():
        if key not in defaults:
            raise StudyError(
                f"Unknown parameter '{key}' for {name}; it has: {', '.join(defaults) or 'none'}."
            )
        kind, given = type(defaults[key]), type(value)
        if defaults[key] is not None and given is not kind and (kind, given) != (float, int):
            raise StudyError(
                f"Parameter {key}={value!r} of {name} must be of type {kind.__name__}, like its default "
                f"{defaults[key]!r}."
            )


@lru_cache
def cuda_available() -> bool:
    """Whether PyTorch sees a CUDA device (imported late: it takes seconds)."""
    import torch

    return torch.cuda.is_available()


def device_class(parameters: dict[str, Any]) -> str:
    """Class of the device that a notebook with these parameters runs on: "cpu", "cuda", …"""
    device = str(parameters.get("device", "cpu"))
    return ("cuda" if cuda_available() else "cpu") if device == "auto" else device.split(":")[0]


class Study:
    """The notebooks and profiles of `study.yaml` below `root`.

    Raises:
        StudyError: a key, a notebook or a profile that is named does not exist.
    """

    def __init__(self, root: Path = ROOT):
        self.root = root
        content = yaml.safe_load((root / "study.yaml").read_text(encoding="utf-8"))
        self.profiles: dict[str, dict[str, Any]] = {k: v or {} for k, v in content["profiles"].items()}
        self.entries = {
            name: self._entry(name, fields or {}) for name, fields in content["notebooks"].items()
        }

    @staticmethod
    def _entry(name: str, fields: dict[str, Any]) -> Entry:
        known = ("after", "outputs", "inputs", "training")
        if unknown := set(fields) - set(known):
            raise StudyError(
                f"study.yaml: notebook {name} has '{unknown.pop()}'; allowed: {', '.join(known)}."
            )
        return Entry(name, **{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})

    @cached_property
    def defaults(self) -> dict[str, dict[str, Any]]:
        """Default parameters of every notebook."""
        return {name: notebook_parameters(self.root / notebook_path(name)) for name in self.entries}

    def profile(self, name: str) -> dict[str, Any]:
        """The profile `name` of `study.yaml`; an unknown one raises StudyError."""
        if name not in self.profiles:
            raise StudyError(f"Unknown profile '{name}'; allowed: {', '.join(self.profiles)}.")
        return self.profiles[name]

    def overrides(self, profile: str, name: str, defaults: dict[str, Any]) -> dict[str, Any]:
        """Parameters that `profile` gives to notebook `name` with these defaults; {} when it gives none."""
        content = self.profile(profile)
        everywhere = {k: v for k, v in content.get("every", {}).items() if k in defaults}
        return {**everywhere, **content.get("notebooks", {}).get(name, {})}

    def recognise(self, name: str, parameters: dict[str, Any], defaults: dict[str, Any]) -> str | None:
        """Profile whose parameters these are ("study" when all are default), or None.

        The device does not count in a stored profile: its results are kept apart by class of device.
        """
        if same(parameters, defaults):
            return "study"
        for profile, content in self.profiles.items():
            free = {"device"} if content.get("stored") else set()
            overrides = self.overrides(profile, name, defaults)
            expected = {**defaults, **overrides, **{k: parameters[k] for k in free & set(parameters)}}
            if overrides and same(parameters, expected):
                return profile
        return None

    def output(self, profile: str | None, parameters: dict[str, Any]) -> tuple[Path, Path]:
        """Folders (output, figures), relative to the root, of a run with these parameters."""
        if profile == "study":
            return Path("reports"), Path("figures")
        if profile is None:
            folder = Path("reports/runs") / digest(parameters)[:12]
        elif self.profile(profile).get("stored"):
            folder = Path("reports/stored") / profile / device_class(parameters)
        else:
            folder = Path("reports/runs") / profile
        return folder, folder / "figures"

    def jobs(self, profile: str) -> list[Job]:
        """The notebooks that `profile` runs; every parameter is checked before anything runs.

        Raises:
            StudyError: unknown profile, notebook or parameter; no CUDA device for a profile that needs one.
        """
        content = self.profile(profile)
        device = content.get("device")
        if device == "cuda" and not cuda_available():
            raise StudyError(f"Profile {profile} needs a CUDA device and PyTorch finds none on this machine.")
        parts = content.get("profiles", [profile])
        return [job for part in parts for job in self._jobs_of(part, device)]

    def _jobs_of(self, profile: str, device: str | None) -> list[Job]:
        content = self.profile(profile)
        named = content.get("notebooks", {})
        if unknown := set(named) - set(self.entries):
            raise StudyError(
                f"study.yaml: profile {profile} names the notebook '{unknown.pop()}'; there are: "
                f"{', '.join(self.entries)}."
            )
        names = [name for name in self.entries if name in named or not content.get("stored")]
        return [self._job(profile, name, names, device) for name in names]

    def _job(self, profile: str, name: str, names: Iterable[str], device: str | None) -> Job:
        defaults = self.defaults[name]
        overrides = self.overrides(profile, name, defaults)
        if device and "device" in defaults:
            overrides["device"] = device
        check_overrides(name, overrides, defaults)
        output, figures = self.output(profile, {**defaults, **overrides})
        entry = self.entries[name]
        after = tuple(upstream for upstream in entry.after if upstream in names)
        executed = Path("reports/executed") / (f"{profile}-{device}" if device else profile)
        redirected = profile != "study" and not self.profile(profile).get("stored")
        return Job(entry, profile, overrides, after, output, figures, executed, redirected)


def tree_digest(root: Path, places: Iterable[Path]) -> str:
    """SHA-256 over names and contents of files, and of all files below folders; what is missing counts as such."""
    total = hashlib.sha256()
    for place in sorted(places):
        files = sorted(file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]
        for file in files:
            if "__pycache__" in file.parts or file.name == ".snakemake_timestamp":
                continue
            content = file.read_bytes() if file.exists() else b"missing"
            total.update(f"{os.path.relpath(file, root)}\0{len(content)}\0".encode() + content)
    return total.hexdigest()
