"""`python -m pipeline.runs.place 13_linear`: what a notebook wrote into its scratch folder is confirmed, or takes its place.

Runs after every notebook, so it starts quickly: no pandas, no torch. What is kept stays as it is, byte for byte, when it was made
from the same code and data and the fresh tables say the same; a contradiction changes nothing and is an error.
"""

import argparse
import csv
import json
import os
import sys
from contextlib import suppress
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import NamedTuple

from pipeline.chapters.study import ROOT, Study, digest
from pipeline.command import exit_status
from pipeline.runs.confirmed import Row, write_rows
from pipeline.runs.imports import Imports
from pipeline.runs.jobs import Job, job_of
from pipeline.runs.prepare import code_digest, data_digest, files_below, upstream_digest, write_if_changed
from recsys_core.errors import StudyError

RELATIVE, ROUNDING = 1e-6, 1.1e-6  # tables hold six decimals
UNNAMED = ("versions", "device", "seed")  # columns that do not help to find a row
NOT_COMPARED = ("versions",)  # of the packages: what they compute is compared


def place(study: Study, job: Job, replace: bool) -> None:
    """Confirm what is kept of a notebook by what it has just written, or put that in its place; note which.

    Raises:
        StudyError: it did not write all that study.yaml says; or what is kept was made from the same and says something else,
            which then stays, unless the fresh files are to `replace` it.
    """
    lacking = [path for path in job.files if not written(study, job, path)]
    if lacking:
        raise StudyError(f"did not write {', '.join(map(str, lacking))}")
    if job.scratch is None:
        return
    made_from = fingerprint_now(study, job)
    note, moving = study.root / job.kept_fingerprint, study.root / job.state("moving")
    same = note.exists() and note.read_text(encoding="utf-8") == made_from and not moving.exists()
    if job.places and (replace or not (same and is_complete(study, job))):
        write_if_changed(moving, "")  # a run that is stopped here does not take a mixture for what is kept
        move(study, job)
        write_if_changed(note, made_from)
        write_if_changed(study.root / job.state("placed"), "")
        moving.unlink()
    else:
        compare_tables(study, job)
    remember(study, job, made_from)
    for path in fresh_files(study, job):
        path.unlink()


def written(study: Study, job: Job, path: Path) -> bool:
    """Whether a file, or a folder with a file in it, came out of the run that has just ended."""
    if job.scratch:
        return any(each.is_file() for each in files_below(study.root / job.scratch / path))
    began_s = 0.0
    with suppress(OSError, ValueError, KeyError):
        began = json.loads((study.root / job.copy).read_text(encoding="utf-8"))["metadata"]["papermill"]["start_time"]
        began_s = datetime.fromisoformat(began).timestamp() - 1  # file systems round
    return any(each.is_file() and each.stat().st_mtime >= began_s for each in files_below(study.root / path))


def fingerprint_now(study: Study, job: Job) -> str:
    """What kept files are made from: the code as it was when the run began, the data and upstream results as they are now.

    Further lines name the files of the store that the notebook read, as it lists them in `used/<name>.txt` of its scratch folder.
    """
    noted, listed = study.root / job.state("fingerprint"), used_list(study, job)
    code = (
        noted.read_text(encoding="utf-8").split("\n")[0]
        if noted.exists()
        else code_digest(study, job, Imports(study.root))
    )
    used = sorted(set(listed.read_text(encoding="utf-8").split("\n")) - {""}) if listed.exists() else []
    return "\n".join([digest([code, data_digest(study, job, used), upstream_digest(study, job)]), *used, ""])


def used_list(study: Study, job: Job) -> Path:
    """Where a notebook lists the files of the store that it read, one path a line."""
    assert job.scratch is not None
    return study.root / job.scratch / "used" / f"{job.name}.txt"


def remember(study: Study, job: Job, made_from: str) -> None:
    """Note the data as it is now, which a run that stores may have changed, so that the next run does not take it for new."""
    noted = study.root / job.state("fingerprint")
    if noted.exists():
        code = noted.read_text(encoding="utf-8").split("\n")[0]
        write_if_changed(noted, f"{code}\n{data_digest(study, job, made_from.splitlines()[1:])}\n")


def fresh_files(study: Study, job: Job) -> list[Path]:
    """What the notebook left in its scratch folder."""
    assert job.scratch is not None
    files = [file for path in job.files for file in files_below(study.root / job.scratch / path)]
    return [file for file in [*files, used_list(study, job)] if file.is_file()]


def is_complete(study: Study, job: Job) -> bool:
    """Whether a kept file is there for each fresh one."""
    assert job.scratch is not None
    fresh = [path for place in job.files for path in files_below(study.root / job.scratch / place)]
    return all((study.root / path.relative_to(study.root / job.scratch)).is_file() for path in fresh)


def move(study: Study, job: Job) -> None:
    """Put each fresh file into its place, in one step each; figures that are not drawn any more go."""
    assert job.scratch is not None
    for place in job.files:
        fresh = {
            file.relative_to(study.root / job.scratch): file for file in files_below(study.root / job.scratch / place)
        }
        for path, file in fresh.items():
            (study.root / path).parent.mkdir(parents=True, exist_ok=True)
            file.replace(study.root / path)
        for old in files_below(study.root / place):
            if old.relative_to(study.root) not in fresh:
                old.unlink()


class Difference(NamedTuple):
    """Two cells that are not the same text."""

    where: str
    kept: str
    now: str
    deviation: float
    allowed: float

    def __str__(self) -> str:
        return f"{self.where} is {self.now or 'empty'} now and {self.kept or 'empty'} as kept"


def compare_tables(study: Study, job: Job) -> None:
    """Compare fresh tables with the kept ones, and log it; StudyError names the first number that contradicts."""
    assert job.scratch is not None
    rows, wrong = [], []
    for path in [path for path in job.files if path.suffix == ".csv" and (study.root / path).exists()]:
        n_values, differences = compare_rows(read_table(study.root / path), read_table(study.root / job.scratch / path))
        apart = [each for each in differences if each.deviation > each.allowed]
        worst = max(
            differences, key=lambda each: each.deviation / each.allowed, default=Difference("", "", "", 0.0, ROUNDING)
        )
        what = f"{path} ({n_values:,} values) {worst.where}".strip()
        verdict = "contradicted" if apart else "confirmed"
        rows.append(Row(job.name, what, "table", worst.kept, worst.now, worst.deviation, worst.allowed, None, verdict))
        wrong += [f"{path}: {apart[0]}, and {len(apart):,} of {n_values:,} values differ"] if apart else []
    if folder := os.environ.get("RECSYS_LOG"):
        write_rows(study.root / folder / f"{job.name}.tables.csv", rows)
    if wrong:
        raise StudyError(
            f"contradicts {wrong[0]}; nothing was changed, and `make study REPLACE=1` takes the fresh ones"
        )


def read_table(path: Path) -> list[list[str]]:
    """The rows of a CSV file, its header first."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def compare_rows(kept: list[list[str]], now: list[list[str]]) -> tuple[int, list[Difference]]:
    """How many cells were compared, and those that are not the same text."""
    header = kept[0] if kept else []
    if now[:1] != kept[:1] or len(now) != len(kept):
        old, new = [f"{len(table) - 1} rows of {', '.join(table[0]) if table else 'nothing'}" for table in (kept, now)]
        return max(len(kept) - 1, 1) * max(len(header), 1), [Difference("the table", old, new, float("inf"), ROUNDING)]
    columns = [i for i, name in enumerate(header) if name not in NOT_COMPARED]
    different = [
        _difference(header, old, new, i)
        for old, new in zip(kept[1:], now[1:])
        for i in columns
        if old[i : i + 1] != new[i : i + 1]
    ]
    return (len(kept) - 1) * len(columns), different


def _difference(header: list[str], kept: list[str], now: list[str], i: int) -> Difference:
    old, new = (row[i] if i < len(row) else "" for row in (kept, now))
    words = [cell for name, cell in zip(header, kept) if cell and name not in UNNAMED and not name.endswith("sha256")]
    labels = ", ".join(word for word in words if word != old and _number(word) is None)
    seed = f", seed {kept[header.index('seed')]}" if "seed" in header else ""
    where = f"{header[i]} of {labels}{seed}" if labels else f"{header[i]}{seed}"
    numbers = _number(old), _number(new)
    if numbers[0] is None or numbers[1] is None:
        return Difference(where, old, new, float("inf"), ROUNDING)
    return Difference(where, old, new, abs(numbers[1] - numbers[0]), RELATIVE * abs(numbers[0]) + ROUNDING)


def _number(text: str) -> float | None:
    with suppress(ValueError):
        return float(text) if isfinite(float(text)) else None
    return None


def main(arguments: list[str] | None = None) -> int:
    """Place one notebook; its error is also noted for the run that waits for it."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.runs.place", description=__doc__)
    parser.add_argument("notebook")
    parser.add_argument("--profile", default="study")
    parser.add_argument("--device")
    options = parser.parse_args(arguments)

    def command() -> None:
        study = Study(ROOT)
        job = job_of(study, options.profile, options.notebook, options.device)
        try:
            place(study, job, os.environ.get("RECSYS_REPLACE") == "1" or os.environ.get("RECSYS_POLICY") == "write")
        except StudyError as error:
            write_if_changed(study.root / job.state("error"), str(error))
            raise StudyError(f"{job.name} {error}.") from None

    return exit_status(command, "stopped; nothing is kept of this run")


if __name__ == "__main__":
    sys.exit(main())
