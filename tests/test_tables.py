"""The tables of a chapter: kept ones, and those that have to be the same."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.chapters.notebook import Notebook
from pipeline.chapters.tables import Tables
from recsys_core.errors import StudyError


def tables_of(root: Path, policy: str) -> Tables:
    return Tables(Notebook("43_errors", {}, "study", root / "reports", root / "figures", root, policy))


def table() -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples([("Bias", "b"), ("Bias", "a"), ("SVD", "a")], names=["model", "group"])
    return pd.DataFrame({"rmse": [0.5, 0.75, np.nan], "users": [1.0, 2.0, 3.0]}, index)


def test_a_table_that_is_kept_is_not_made_again_and_is_what_the_results_hold(tmp_path: Path) -> None:
    def never() -> pd.DataFrame:
        raise AssertionError("made again")

    pd.testing.assert_frame_equal(tables_of(tmp_path, "write").keep("groups", table), table())
    again = tables_of(tmp_path, "first")
    pd.testing.assert_frame_equal(again.keep("groups", never), table())
    again.save()
    assert again.notebook.read_table("43_errors", "groups").loc["Bias | a", "rmse"] == 0.75


def test_rows_that_hang_on_no_chance_must_be_those_of_the_kept_table(tmp_path: Path) -> None:
    tables_of(tmp_path, "write").keep("groups", table)
    tables = tables_of(tmp_path, "prefix")
    tables.keep("groups", table, exact=table().iloc[1:])
    assert tables.n_confirmed == 2
    with pytest.raises(StudyError, match=r"43_errors, groups, Bias \| a: .*stale"):
        tables.keep("groups", table, exact=table().iloc[1:2] + 0.01)
