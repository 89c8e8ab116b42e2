"""One papermill batch: a notebook with other parameters, once per seed, and a summary over the seeds."""

import json
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from pipeline.chapters.study import Study, check_overrides, device_class, digest, table_file
from pipeline.runs.prepare import error_of
from pipeline.runs.run import alone, child_environment, fetch_data
from recsys_core.errors import StudyError
from recsys_core.files import atomic_path

MOST_RUNS = 1000
NEXT_NAME = re.compile(r"\s+(?=[A-Za-z_]\w*=)")


def parse_seeds(text: str) -> list[int]:
    """Seeds of "0-9", "0,2,5" or "3"; anything else raises StudyError."""
    if not re.fullmatch(r"\d{1,9}(-\d{1,9})?(,\d{1,9}(-\d{1,9})?)*", text):
        raise StudyError(f"SEEDS={text} is neither a range nor a list; allowed: 0-9 or 0,2,5.")
    bounds = [[int(each) for each in part.split("-")] for part in text.split(",")]
    if any(pair[0] > pair[-1] for pair in bounds):
        raise StudyError(
            f"SEEDS={text} has a range that ends before it begins; write the smaller seed first, as in 2-5."
        )
    if (n_seeds := sum(pair[-1] - pair[0] + 1 for pair in bounds)) > MOST_RUNS:
        raise StudyError(f"SEEDS={text} asks for {n_seeds:,} runs; at most {MOST_RUNS:,} are made at once.")
    return sorted({seed for pair in bounds for seed in range(pair[0], pair[-1] + 1)})


def parse_parameters(typed: list[str]) -> dict[str, Any]:
    """Parameters of ["epochs=3 rate=0.1", "models=[popularity, ease]"]; what is not JSON is read as YAML.

    Raises:
        StudyError: no name=value; a value that is neither; a name that is given twice.
    """
    parsed: dict[str, Any] = {}
    for assignment in [each for text in typed for each in NEXT_NAME.split(text.strip()) if each]:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise StudyError(f"'{assignment}' sets nothing; allowed: name=value, for instance epochs=3.")
        if key in parsed:
            raise StudyError(f"'{key}' is set twice; give one value.")
        parsed[key] = _value(assignment, text)
    return parsed


def _value(assignment: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        with suppress(yaml.YAMLError, ValueError):
            return yaml.safe_load(text)
    raise StudyError(
        f"'{assignment}' cannot be read; allowed: JSON or YAML, for instance epochs=3 or models=[svd,ease]."
    )


def parameters_of(study: Study, name: str, typed: list[str], seeds: str = "", **strings: str) -> list[dict[str, Any]]:
    """Parameters of each run, all of them checked: the data set and the device too.

    Args:
        study, name: the notebook.
        typed: see `parse_parameters`.
        seeds: as typed, see `parse_seeds`; none leaves them to `typed` or to the notebook.
        strings: further parameters, taken as they are where they are not empty.
    """
    defaults, overrides = study.defaults(name), parse_parameters(typed)
    given: dict[str, Any] = {key: value for key, value in strings.items() if value}
    given |= {"seeds": parse_seeds(seeds)} if seeds else {}
    if twice := sorted(given.keys() & overrides.keys()):
        raise StudyError(f"{twice[0].upper()}= and PARAMS= both give '{twice[0]}'; give one of them.")
    parameters = overrides | given
    check_overrides(name, parameters, defaults)
    if "device" in parameters:
        from recsys_core.train import resolve_device

        resolve_device(parameters["device"])
    fetch_data([defaults | parameters])
    chosen = (defaults | parameters).get("seeds", [])
    return [parameters | {"seeds": [seed]} for seed in chosen] or [parameters]


def rerun(study: Study, name: str, typed: list[str], seeds: str, **strings: str) -> pd.DataFrame:
    """Run notebook `name` once per seed below reports/runs and return (and save) the summary of its results.

    Raises:
        StudyError: what `parameters_of` refuses, before anything runs; runs that failed, after all ended.
    """
    defaults, runs = study.defaults(name), parameters_of(study, name, typed, seeds, **strings)
    at_once = 1 if device_class(defaults | runs[0]) == "cuda" else 2
    with ThreadPoolExecutor(at_once) as pool, alone(study.root):
        folders = list(pool.map(lambda run: _execute(study, name, defaults | run), runs))
    copies = [folder / f"{name}.ipynb" for folder in folders if not (study.root / folder / ".done").exists()]
    if copies:
        raise StudyError("\n".join(errors_of(study, copies)))
    tables = [study.root / folder / table_file("results", name) for folder in folders]
    table = summary([pd.read_csv(path) for path in tables if path.exists()])
    batch = Path("reports/runs") / digest([str(folder) for folder in folders])[:12] / "summary.csv"
    with atomic_path(study.root / batch) as path:
        table.to_csv(path, index=False, lineterminator="\n")
    varying = [column for column in table if len(set(table[column].astype(str))) > 1]
    print(
        table[varying or table.columns].to_string(index=False),
        f"\n\n{len(folders)} run{'s' if len(folders) > 1 else ''} below reports/runs; summary: {batch}",
    )
    return table


def errors_of(study: Study, copies: list[Path]) -> list[str]:
    """What stopped these executed copies, each error once, with the first copy that it stopped."""
    stopped: dict[str, list[Path]] = {}
    for copy in copies:
        stopped.setdefault(error_of(study.root / copy), []).append(copy)
    others = {error: f" and {len(same) - 1} more" if len(same) > 1 else "" for error, same in stopped.items()}
    return [f"{same[0]}{others[error]} {error}" for error, same in stopped.items()]


def _execute(study: Study, name: str, parameters: dict[str, Any]) -> Path:
    """Run one notebook; its folder holds the file `.done` if it succeeded."""
    folder = Path("reports/runs") / digest(parameters)[:12]
    with atomic_path(study.root / folder / "parameters.yaml") as path:
        path.write_text(yaml.safe_dump(parameters), encoding="utf-8")
    done = study.root / folder / ".done"
    done.unlink(missing_ok=True)
    command = ["papermill", f"notebooks/{name}.ipynb", f"{folder}/{name}.ipynb", "-f", f"{folder}/parameters.yaml"]
    environment = child_environment(study.root) | {"RECSYS_OUTPUT": str(folder)}
    run = subprocess.run(command, cwd=study.root, env=environment, capture_output=True, check=False)
    if run.returncode == 0:
        done.touch()
    shown = f"{name} seeds={parameters['seeds']}" if "seeds" in parameters else name
    print(f"{shown}: {'finished' if run.returncode == 0 else 'failed'}, {folder}", flush=True)
    return folder


def summary(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Mean and standard deviation over runs of every number, by the columns that are the same in all runs."""
    if not frames:
        return pd.DataFrame()
    first, table = frames[0], pd.concat(frames, ignore_index=True)
    numbers = [c for c in table.select_dtypes("number") if c != "seed"]
    keys = [c for c in first if c not in first.select_dtypes("float") and c != "seed"]
    keys = [c for c in keys if all(set(frame[c]) == set(first[c]) for frame in frames)]
    measures = [column for column in numbers if column not in keys]
    if not measures:
        return first
    groups = table.groupby(keys or (lambda _: 0), dropna=False, sort=False)[measures].agg(["mean", "std"])
    return groups.set_axis(["_".join(pair) for pair in groups.columns], axis=1).reset_index(drop=not keys)
