"""The tables that a notebook saves as its results, kept ones beside those that are computed anew."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from pipeline.chapters.notebook import Notebook
from pipeline.chapters.results import DETERMINISTIC_TOLERANCE, long_format
from recsys_core.errors import StudyError


def _names(index: pd.Index) -> list[str]:
    return [" | ".join(map(str, row)) if isinstance(row, tuple) else str(row) for row in index]


class Tables:
    """The tables of one notebook's results, a row per name (or per model and group) and a column per measure.

    Tables that networks are in come from `Notebook.keep`; rows of models without chance are computed anew beside them and have to
    be the same.

    Attributes:
        n_confirmed: number of rows that were computed anew and are the same as kept.
    """

    def __init__(self, notebook: Notebook) -> None:
        self.notebook = notebook
        self.tables: dict[str, pd.DataFrame] = {}
        self.n_confirmed = 0

    def keep(
        self,
        name: str,
        table: pd.DataFrame | Callable[[], pd.DataFrame],
        within: float | None = None,
        exact: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """Put a table into the results file and return it: the kept one, if `table` is a function that makes it.

        `within` see `Notebook.keep`. `exact` has some of the table's rows, computed now. Raises StudyError where the kept table
        has other values there.
        """
        if callable(table):
            table = pd.DataFrame(self.notebook.keep(name, table, within))
        if exact is not None:
            self._confirm(name, table, exact)
        self.tables[name] = table.set_axis(_names(table.index), axis=0)
        return table

    def _confirm(self, name: str, kept: pd.DataFrame, fresh: pd.DataFrame) -> None:
        stored, now = (each.set_axis(_names(each.index), axis=0) for each in (kept, fresh))
        self.n_confirmed += len(now)
        for row in now.index:
            old, new = stored.loc[row, now.columns].to_numpy(float), now.loc[row].to_numpy(float)
            if not np.allclose(old, new, rtol=0, atol=DETERMINISTIC_TOLERANCE, equal_nan=True):
                raise StudyError(
                    f"{self.notebook.name}, {name}, {row}: {new.tolist()} now, {old.tolist()} kept: the kept table is stale "
                    f"(run `make store NOTEBOOK={self.notebook.name}`), or the code has changed what it computes."
                )

    def save(self) -> None:
        """Write the notebook's results."""
        self.notebook.save_results(long_format({}, self.tables))
