"""What a run compared with what is stored: the notebooks' own notes, put together, in a few lines or as a table."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from math import inf, isnan, sqrt
from pathlib import Path
from typing import NamedTuple

from recsys_core.files import atomic_path

COLUMNS = ["what", "kind", "stored", "now", "deviation", "allowed", "z", "verdict"]
MEAN_Z = 2.576  # standard errors from 0 that one mean of 100 passes by chance


class Row(NamedTuple):
    """One comparison: `deviation` and `allowed` in the unit of `stored` and `now`; `z` where it is against the spread of seeds."""

    notebook: str
    what: str
    kind: str
    stored: str
    now: str
    deviation: float
    allowed: float
    z: float | None
    verdict: str

    @property
    def share(self) -> float:
        """How much of what is allowed was needed."""
        return 0.0 if self.deviation == 0 else self.deviation / self.allowed if self.allowed else inf


def write_rows(path: Path, rows: Iterable[Row]) -> None:
    """Write comparisons of one notebook as a notebook does itself."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(["" if cell is None else cell for cell in row[1:]] for row in rows)


def read_rows(folder: Path, names: Iterable[str]) -> list[Row]:
    """The comparisons that these notebooks noted, in their order."""
    files = [(name, folder / f"{name}{end}.csv") for name in names for end in ("", ".tables")]
    return [row for name, path in files if path.exists() for row in _rows_of(name, path)]


def _rows_of(name: str, path: Path) -> list[Row]:
    with open(path, newline="", encoding="utf-8") as file:
        cells = [{column: row.get(column) or "" for column in COLUMNS} for row in csv.DictReader(file)]
    numbers = [[_number(row.pop(column)) for column in ("deviation", "allowed", "z")] for row in cells]
    return [
        Row(
            name,
            row["what"],
            row["kind"],
            row["stored"],
            row["now"],
            deviation or 0.0,
            allowed or 0.0,
            z,
            row["verdict"],
        )
        for row, (deviation, allowed, z) in zip(cells, numbers)
    ]


def _number(text: str) -> float | None:
    number = float(text) if text else None
    return None if number is None or isnan(number) else number


def with_mean_z(rows: list[Row]) -> list[Row]:
    """The rows and, where there are several z, one of their mean, which a systematic error moves."""
    z = [row.z for row in rows if row.z is not None]
    if len(z) < 2:
        return rows
    mean, allowed = sum(z) / len(z), MEAN_Z / sqrt(len(z))
    verdict = "confirmed" if abs(mean) <= allowed else "contradicted"
    row = Row("all", f"mean z of {len(z)} runs", "mean", "0", f"{mean:.3g}", abs(mean), allowed, None, verdict)
    return [*rows, row]


def write_log(path: Path, rows: list[Row]) -> None:
    """Write all comparisons of a run into one file, with the notebook of each."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["notebook", *COLUMNS])
        writer.writerows(["" if cell is None else cell for cell in row] for row in rows)


def summary(rows: list[Row], log: Path) -> str:
    """Two or three lines: how many comparisons agree, and which came closest to what is allowed."""
    if not rows:
        return "Nothing was compared with what is stored."
    agree = [row for row in rows if row.verdict == "confirmed"]
    lines = [f"{len(agree):,} of {len(rows):,} comparisons with what is stored agree; {log} has them all."]
    if agree and (worst := max(agree, key=lambda row: row.share)).share:
        share = f"{worst.share:.0%}" if worst.share >= 0.01 else "less than 1%"
        lines.append(f"The largest deviation is {share} of what is allowed: {worst.notebook}, {worst.what}.")
    lines += [f"{row.notebook}: {row.what} is {row.verdict}." for row in rows if row.verdict == "contradicted"]
    return "\n".join(lines)


def table(rows: list[Row]) -> str:
    """All comparisons as text: stored · now · deviation · allowed · verdict, one a line, below the notebook's name."""
    lines: list[str] = []
    for i, row in enumerate(rows):
        if not i or rows[i - 1].notebook != row.notebook:
            lines.append(f"\n{row.notebook}\n{'stored':>14} {'now':>14} {'deviation':>10} {'allowed':>10}  verdict")
        numbers = f"{_short(row.stored):>14} {_short(row.now):>14} {row.deviation:>10.3g} {row.allowed:>10.3g}"
        lines.append(f"{numbers}  {row.verdict:<12}  {row.what}")
    return "\n".join(lines).strip("\n")


def _short(text: str) -> str:
    try:
        return f"{float(text):.8g}"
    except ValueError:
        return text if len(text) <= 14 else text[:13] + "…"
