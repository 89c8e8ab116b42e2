"""What `make tune` stored: for each model its search space, all trials and the best settings."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from pipeline.chapters.study import OWN, STORED, TUNED, TUNED_AGAIN, TUNED_APART, TUNED_WIDELY
from recsys_core.errors import StudyError
from recsys_core.models.registry import SEARCHES, WIDE_SEARCHES, Searched

FOLDER = STORED / "tuning"
WIDE = ", wide search"  # ends the name of what a wide search found where there is a narrow one, too
PARTS = {TUNED: "", TUNED_WIDELY: "wide", TUNED_APART: "apart"}  # of the folder, by what the settings are called
COMMANDS = {TUNED: "make tune", TUNED_WIDELY: "make tune WIDE=1", TUNED_APART: "make tune APART=1"}
for _seed, _name in enumerate(TUNED_AGAIN, start=1):
    PARTS[_name], COMMANDS[_name] = f"sampler_{_seed}", f"make tune SAMPLER={_seed}"


@dataclass(frozen=True)
class Search:
    """A search, by its name and by what its settings are called."""

    name: str
    settings: str
    searched: Searched


def searches_by_title() -> dict[str, Search]:
    """All searches by what results call the model with what they found; a wide one beside a narrow one is said to be that."""
    narrow = {each.title: Search(name, TUNED, each) for name, each in SEARCHES.items()}
    wide = {
        f"{each.title}{WIDE if name in SEARCHES else ''}": Search(name, TUNED_WIDELY, each)
        for name, each in WIDE_SEARCHES.items()
    }
    return narrow | wide


def stored_searches(root: Path) -> dict[str, Search]:
    """Those of `searches_by_title` that are stored."""
    return {
        title: each
        for title, each in searches_by_title().items()
        if tuned_file(root, each.name, each.settings).exists()
    }


def tuning_folder(root: Path) -> Path:
    """Where searches are kept below the project's root, or below the folder of a study of own data."""
    return root / "stored" / FOLDER.name if (root / OWN).exists() else root / FOLDER


def tuned_file(root: Path, model: str, settings: str = TUNED) -> Path:
    """Where the trials of a model are, of the search whose settings are called so."""
    return tuning_folder(root) / PARTS[settings] / f"{model}.json"


def read_trials(root: Path, model: str, settings: str = TUNED) -> dict[str, Any]:
    """Return model, protocol, metric, data_sha256, fixed, space, best and trials (number, value, settings); see `bench.tune`.

    A wide search also has `again`: of its finalists the number of the trial and the values of other seeds; another one of a model
    that draws has `fresh`, the values of what it found with seeds that chose nothing.

    Raises:
        StudyError: the model has not been tuned.
    """
    path = tuned_file(root, model, settings)
    if not path.exists():
        command = f"{COMMANDS[settings]} MODELS={model}"
        raise StudyError(f"There is no {path.relative_to(root)}: run `{command}` first, or use stated settings.")
    return json.loads(path.read_text(encoding="utf-8"))


def read_tuned(root: Path, model: str, settings: str = TUNED) -> dict[str, Any]:
    """Return the keyword arguments of the best trial, with those that all trials shared."""
    stored = read_trials(root, model, settings)
    return stored["fixed"] | stored["best"]


def validation_value(root: Path, model: str, settings: str = TUNED) -> float:
    """What a search reached on validation rows: the mean over seeds that chose nothing, else the best trial."""
    found = read_trials(root, model, settings)
    return fmean(found.get("fresh", [found["value"]]))


def tuning_gains(root: Path, metric: str = "ndcg@10") -> pd.DataFrame:
    """What the stored searches by `metric` found, a row a model: trials, the value of the first trial, and of the best one."""
    names = sorted(path.stem for path in tuning_folder(root).glob("*.json"))
    stored = {name: read_trials(root, name) for name in names}
    rows = {
        name: {"trials": len(found["trials"]), "first": found["trials"][0]["value"], "best": found["value"]}
        for name, found in stored.items()
        if found["metric"] == metric
    }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["trials", "first", "best"])
    return table.sort_values("best", ascending=False)


def began_as_stated(root: Path, names: Iterable[str]) -> int:
    """How many of these searches tried the stated settings of their model first: its defaults, beside what all trials shared."""
    begun = 0
    for name in names:
        first = read_trials(root, name)["trials"][0]["settings"]
        stated = SEARCHES[name].kind(**SEARCHES[name].fixed).hyperparameters if name in SEARCHES else {}
        plain = json.loads(json.dumps({key: stated.get(key) for key in first}))
        begun += plain == first
    return begun
