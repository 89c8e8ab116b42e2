"""The results table: tidy rows with their provenance, and the leaderboards made from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from recsys_core.errors import StudyError
from recsys_core.statistics import bootstrap_interval

CELL = ["protocol", "variant", "dataset", "model", "settings"]  # what one leaderboard line stands for
LIBRARIES = ("numpy", "scipy", "torch")
DETERMINISTIC_TOLERANCE = 1e-6


def public_versions() -> str:
    """Versions of the libraries that compute, without local suffixes such as `+cpu`."""
    return " ".join(f"{name}={version(name).split('+')[0]}" for name in LIBRARIES)


def long_format(facts: Mapping[str, float], tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Facts and tables of numbers as one frame with a row per number: table, name, measure, value.

    A fact has the table "facts" and the measure "value"; a table's rows give the names, its columns the measures.
    """
    rows = [pd.DataFrame({"table": "facts", "name": list(facts), "measure": "value", "value": list(facts.values())})]
    for name, table in tables.items():
        named = table.astype(float).set_axis(table.index.astype(str)).rename_axis("name").reset_index()
        numbers = named.melt("name", var_name="measure", value_name="number")  # a measure may be called "value"
        rows.append(numbers.rename(columns={"number": "value"}).assign(table=name))
    return pd.concat(rows, ignore_index=True)[["table", "name", "measure", "value"]].astype({"value": float})


def with_counts(results: pd.DataFrame) -> pd.DataFrame:
    """The rows with whole numbers of parameters, which are empty where nothing is counted."""
    return results.astype({"parameters": "Int64"}) if "parameters" in results else results


def readable(table: pd.DataFrame, digits: int = 4) -> pd.DataFrame:
    """A table to be displayed: numbers rounded, a whole number that is not known as an empty cell in place of <NA>."""
    gaps = [column for column in table if isinstance(table[column].dtype, pd.Int64Dtype) and table[column].hasnans]
    return table.round(digits).assign(**{str(column): table[column].astype(object).fillna("") for column in gaps})


def read_results(path: Path) -> pd.DataFrame:
    """A results table from its CSV file."""
    return with_counts(pd.read_csv(path))


def leaderboard(results: pd.DataFrame, users: pd.DataFrame | None, metrics: Iterable[str]) -> pd.DataFrame:
    """One line per model and, for each metric, mean over seeds, spread over seeds and an interval over users.

    `results` are tidy rows of one protocol; `users` per-user values averaged over seeds (or None). Columns: the cell, `seeds`,
    `parameters`, `family` and `form` where the results have them, then `<metric>`, `<metric> sd` (NaN for a single seed) and
    `<metric> low`, `<metric> high` (95 % bootstrap).
    Raises StudyError for rows of more than one protocol.
    """
    if len(results["protocol"].unique()) > 1:
        raise StudyError(f"A leaderboard holds one protocol, not {', '.join(sorted(results['protocol'].unique()))}.")
    lines = []
    for cell, rows in results.groupby(CELL, dropna=False, sort=False):
        line = dict(zip(CELL, cell)) | {"seeds": rows["seed"].nunique(), "parameters": rows["parameters"].iloc[0]}
        line |= {column: rows[column].iloc[0] for column in ("family", "form") if column in rows}
        labels = pd.Series(line)[CELL].fillna("")
        mine = None if users is None else users[(users[CELL].fillna("") == labels).all(axis=1)]
        for metric in metrics:
            values = rows.loc[rows["metric"] == metric, "value"]
            line |= {metric: values.mean(), f"{metric} sd": values.std() if len(values) > 1 else np.nan}
            if mine is not None and len(mine) and metric in mine:
                line[f"{metric} low"], line[f"{metric} high"] = bootstrap_interval(mine[metric].to_numpy(np.float64))
        lines.append(line)
    return with_counts(pd.DataFrame(lines))
