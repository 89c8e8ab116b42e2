"""`study.yaml` read: notebooks, profiles, parameters, and the folder that each run writes to."""

import ast
import hashlib
import json
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any

import yaml

from pipeline.chapters.reads import Code
from recsys_core.errors import StudyError, refuse_unknown
from recsys_core.protocols import PROTOCOLS

ROOT = Path(__file__).resolve().parents[2]
OUTPUTS = ("results", "users", "figures")
TABLES = {"results": "results/{}.csv", "users": "results/users/{}.parquet", "claims": "results/claims/{}.csv"}
STATED, TUNED, TUNED_WIDELY, TUNED_APART = "stated", "tuned", "tuned widely", "tuned apart"
TUNED_AGAIN = ("tuned by sampler 1", "tuned by sampler 2")  # by the seed of the search
KINDS_OF_SETTINGS = (STATED, TUNED, TUNED_WIDELY, TUNED_APART, *TUNED_AGAIN)
KNOWN = {"protocols": tuple(PROTOCOLS), "settings": KINDS_OF_SETTINGS}  # what parameters of these names may hold
RUNS, STORED = Path("reports/runs"), Path("reports/stored")
OWN = "profile.yaml"  # in a folder of `RUNS`: how the study is run on own data, see `runs.own`
MANY_ROWS = 300_000  # own ratings, from which time is estimated before a model is fitted
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Chapter:
    """What the study knows of one notebook.

    Attributes:
        after: the notebooks whose results it reads.
        inputs: files and folders whose change makes it run again.
        outputs: "results", "users", "figures", "claims", or a file in `reports/`.
        trains: it takes a GPU to itself where there is one.
    """

    after: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    trains: bool


class Study:
    """The notebooks and profiles of `study.yaml` below `root`."""

    def __init__(self, root: Path = ROOT):
        self.root = root
        content = yaml.safe_load((root / "study.yaml").read_text(encoding="utf-8"))
        self.notebooks: dict[str, dict[str, Any]] = {name: entry or {} for name, entry in content["notebooks"].items()}
        self.profiles: dict[str, dict[str, Any]] = {k: v or {} for k, v in content["profiles"].items()}
        for path in sorted((root / RUNS).glob(f"*/{OWN}")):
            self.profiles[path.parent.name] = own_profile(self.profiles, path)

    def defaults(self, name: str) -> dict[str, Any]:
        """Parameters of notebook `name`: the assignments in its one cell tagged `parameters`.

        Raises:
            StudyError: unknown notebook; not exactly one such cell; a value that is not a literal.
        """
        path = self.root / "notebooks" / f"{name}.ipynb"
        if name not in self.notebooks and path.exists():
            raise StudyError(f"study.yaml does not list {path.name}: add the line '{name}:' below notebooks.")
        if name not in self.notebooks or not path.exists():
            raise StudyError(f"There is no notebook '{name}'; allowed: {', '.join(self.notebooks)}.")
        sources = [source for source, tags in code_cells(path) if "parameters" in tags]
        if len(sources) != 1:
            raise StudyError(f"{path.name} has {len(sources)} cells tagged 'parameters'; exactly one is needed.")
        try:
            return assignments(sources[0])
        except (ValueError, AttributeError) as error:
            raise StudyError(f"The parameters cell of {path.name} is not all name = literal: {error}.") from None

    def chapter(self, name: str) -> Chapter:
        """What is written about notebook `name` in `study.yaml`, or found in its code: see `reads`."""
        code = self._code(name)
        outputs = self._outputs(name) + (("claims",) if code.settles else ())
        trains = self.defaults(name).get("device") == "auto"
        return Chapter(tuple(self._before(name, code)), tuple(code.files), outputs, trains)

    def earlier(self, name: str) -> list[str]:
        """Notebooks before `name` that save per-user values, in reading order."""
        names = list(self.notebooks)
        return [each for each in names[: names.index(name)] if "users" in self._outputs(each)]

    def _before(self, name: str, code: Code) -> list[str]:
        read = code.strings | set(self.earlier(name) if code.reads_every else [])
        if code.gathers:
            read |= {each for each in self.notebooks if self._code(each).settles}
        if code.reads_ledger:
            read |= {each for each in self.notebooks if "claims.csv" in self._outputs(each)}
        return [each for each in self.notebooks if each in read and each != name]

    def _outputs(self, name: str) -> tuple[str, ...]:
        return tuple(self.notebooks[name].get("outputs", OUTPUTS))

    def _code(self, name: str) -> Code:
        return Code.of(source for source, _ in code_cells(self.root / "notebooks" / f"{name}.ipynb"))

    def overrides(self, profile: str, name: str) -> dict[str, Any]:
        """Parameters that `profile` gives to notebook `name`; an unknown profile raises StudyError.

        What the profile says about the notebook goes before its rules: `every` gives parameters whose name matches a pattern a
        value, `shortened` cuts lists to their first values.
        """
        if profile not in self.profiles:
            raise StudyError(f"Unknown profile '{profile}'; allowed: {', '.join(self.profiles)}.")
        content, defaults = self.profiles[profile], self.defaults(name)
        values = {key: _by_rule(content, key, default) for key, default in defaults.items()}
        ruled = {key: value for key, value in values.items() if value != defaults[key]}
        return ruled | content.get("notebooks", {}).get(name, {})

    def recognise(self, name: str, parameters: dict[str, Any]) -> str | None:
        """Profile whose parameters these are ("study" when all are default), or None.

        The device does not count in a stored profile: its results are kept apart by class of device.
        """
        defaults = self.defaults(name)
        if digest(parameters) == digest(defaults):
            return "study"
        for profile, content in self.profiles.items():
            expected = defaults | self.overrides(profile, name)
            if content.get("stored") and "device" in parameters:
                expected["device"] = parameters["device"]
            if self.overrides(profile, name) and digest(parameters) == digest(expected):
                return profile
        return None

    def part(self, profile: str | None) -> str:
        """The part of the store that a profile has to itself, under its name: of a stored one or of own data; "" for any other."""
        content = {} if profile is None else self.profiles[profile]
        return profile or "" if content.get("stored") or content.get("own") else ""

    def output(self, profile: str | None, parameters: dict[str, Any]) -> tuple[Path, Path]:
        """Folders (output, figures), relative to the root, of a run with these parameters."""
        if profile == "study":
            return Path("reports"), Path("figures")
        if profile is None:
            folder = Path("reports/runs") / digest(parameters)[:12]
        elif self.profiles[profile].get("stored"):
            folder = Path("reports/stored") / profile / device_class(parameters)
        else:
            folder = Path("reports/runs") / profile
        return folder, folder / "figures"


def own_profile(profiles: dict[str, dict[str, Any]], path: Path) -> dict[str, Any]:
    """The profile of a study of own data: the one that its file names in `like`, on its `dataset`, with its further lines.

    Raises StudyError for a file that does not say so.
    """
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
        like = profiles[said["like"]]
        return like | said | {"every": {"dataset": said["dataset"]} | like.get("every", {}) | said.get("every", {})}
    except (OSError, yaml.YAMLError, LookupError, TypeError) as error:
        raise StudyError(f"{path} is damaged ({error}): delete its folder and run make study DATASET= again.") from None


def stored_folder(root: Path, folder: Path, part: str = "") -> Path:
    """Where what the study keeps in a folder of `STORED` is: its own, that of a stored profile's `part`, or of own data."""
    own = root / RUNS / part
    return own / "stored" / folder.name if part and (own / OWN).exists() else root / folder / part


def _by_rule(profile: dict[str, Any], key: str, default: Any) -> Any:
    """What the rules of a profile make of a parameter; its default where none matches."""
    for pattern, value in profile.get("every", {}).items():
        if fnmatch(key, pattern):
            return value
    for pattern, length in profile.get("shortened", {}).items():
        if fnmatch(key, pattern) and isinstance(default, list):
            return default[:length]
    return default


def table_file(kind: str, name: str) -> Path:
    """Where notebook `name` writes a table of `TABLES`, below the folder of its output."""
    return Path(TABLES[kind].format(name))


def code_cells(path: Path) -> list[tuple[str, list[str]]]:
    """(source, tags) of each code cell of a notebook file."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    codes = [cell for cell in cells if cell["cell_type"] == "code"]
    return [("".join(cell["source"]), cell["metadata"].get("tags", [])) for cell in codes]


def assignments(source: str) -> dict[str, Any]:
    """Values of the assignments `name = literal` in `source`; else ValueError or AttributeError."""
    return {each.targets[0].id: ast.literal_eval(each.value) for each in ast.parse(source).body}  # type: ignore


def digest(value: Any) -> str:
    """SHA-256 of a value written as JSON with sorted keys: a tuple equals a list."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def check_overrides(name: str, overrides: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Refuse an override that notebook `name` would silently ignore or misread.

    Raises:
        StudyError: unknown parameter; a value, or an element of a list, of another type than the default's; a whole number
            below 0 or a number that is not finite; no seeds; an unknown protocol or kind of settings.
    """
    for key, value in overrides.items():
        if key not in defaults:
            raise StudyError(f"Unknown parameter '{key}' for {name}; allowed: {', '.join(defaults)}.")
        default = defaults[key]
        if default is None:
            continue
        refuse = f"Parameter {key}={value!r} of {name} must be"
        if not _is_of(value, {type(default)}):
            raise StudyError(f"{refuse} of type {type(default).__name__}, like its default {default!r}.")
        elements = value if isinstance(value, list) else [value]
        kinds = {type(each) for each in default} if isinstance(default, list) else {type(default)}
        if kinds and not all(_is_of(each, kinds) for each in elements):
            raise StudyError(
                f"{refuse} a list of {' or '.join(sorted(k.__name__ for k in kinds))}, like its default {default!r}."
            )
        if any(
            (type(each) is int and each < 0) or (isinstance(each, float) and not isfinite(each)) for each in elements
        ):
            raise StudyError(f"{refuse} 0 or more, like its default {default!r}.")
        if key in KNOWN and not isinstance(default, dict):
            refuse_unknown(key, elements, KNOWN[key])
        if key == "seeds" and not elements:
            raise StudyError(f"{refuse} at least one seed, like its default {default!r}.")


def _is_of(value: Any, kinds: set[type]) -> bool:
    """Whether a value has one of these types; a whole number passes for a float, True for no number."""
    return type(value) in kinds or (float in kinds and type(value) is int)


@cache
def cuda_available() -> bool:
    """Whether PyTorch sees a CUDA device (imported late: it takes seconds)."""
    import torch

    return torch.cuda.is_available()


def device_class(parameters: dict[str, Any]) -> str:
    """Class of the device that a notebook with these parameters runs on: "cpu", "cuda", …"""
    device = str(parameters.get("device", "cpu"))
    return ("cuda" if cuda_available() else "cpu") if device == "auto" else device.split(":")[0]
