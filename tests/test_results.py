"""Leaderboards hold one protocol, with spreads over seeds and intervals over users."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.chapters.results import (
    CELL,
    leaderboard,
    long_format,
    public_versions,
    read_results,
    readable,
    with_counts,
)
from recsys_core.errors import StudyError
from recsys_core.models.base import fingerprint
from recsys_core.statistics import bootstrap_interval


def table(values: dict[int, float], metric: str = "ndcg@10", **labels: str) -> pd.DataFrame:
    """Rows of one model, a value for each seed."""
    cell = {"protocol": "loo-full", "variant": "", "dataset": "ml", "model": "ncf", "settings": "stated"} | labels
    rows = [{**cell, "seed": seed, "metric": metric, "value": value, "parameters": 7} for seed, value in values.items()]
    return pd.DataFrame(rows)


def per_user(values: np.ndarray, **labels: str) -> pd.DataFrame:
    cell = table({0: 0.0}, **labels).iloc[0]
    users = pd.DataFrame({"user": np.arange(len(values)), "ndcg@10": values})
    return users.assign(**{name: cell[name] for name in CELL})


def test_a_fingerprint_follows_the_settings_and_not_their_order() -> None:
    assert fingerprint({"a": 1, "b": (1, 2)}) == fingerprint({"b": [1, 2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert len(fingerprint({})) == 64


def test_versions_carry_no_local_suffix() -> None:
    versions = public_versions()
    assert "+" not in versions
    assert [part.split("=")[0] for part in versions.split()] == ["numpy", "scipy", "torch"]


def test_facts_and_tables_become_rows_with_a_number_each() -> None:
    rows = long_format({"n": 2}, {"sizes": pd.DataFrame({"films": [3, 4], "share": [0.5, 1.0]}, index=[1, "x"])})
    assert rows.to_numpy().tolist() == [
        ["facts", "n", "value", 2.0],
        ["sizes", "1", "films", 3.0],
        ["sizes", "x", "films", 4.0],
        ["sizes", "1", "share", 0.5],
        ["sizes", "x", "share", 1.0],
    ]


def test_a_table_may_have_a_measure_called_value() -> None:
    rows = long_format({}, {"sizes": pd.DataFrame({"value": [3]}, index=["films"])})
    assert rows.to_numpy().tolist() == [["sizes", "films", "value", 3.0]]


def test_a_leaderboard_has_mean_and_spread_over_seeds_and_an_interval_over_users() -> None:
    users = np.random.default_rng(0).random(50)
    line = leaderboard(table({0: 0.2, 1: 0.3, 2: 0.7}), per_user(users), ["ndcg@10"]).iloc[0]
    assert (line["model"], line["seeds"], line["parameters"]) == ("ncf", 3, 7)
    assert line["ndcg@10"] == pytest.approx(0.4)
    assert line["ndcg@10 sd"] == pytest.approx(math.sqrt((0.04 + 0.01 + 0.09) / 2))
    assert (line["ndcg@10 low"], line["ndcg@10 high"]) == bootstrap_interval(users)


def test_a_leaderboard_has_no_number_of_parameters_where_none_is_counted(tmp_path: Path) -> None:
    counted, uncounted = table({0: 0.2}), table({0: 0.5}, model="knn").assign(parameters=None)
    results = pd.concat([with_counts(counted), with_counts(uncounted)], ignore_index=True)
    results.to_csv(tmp_path / "results.csv", index=False)
    for rows in (results, read_results(tmp_path / "results.csv")):
        numbers = leaderboard(rows, None, ["ndcg@10"])["parameters"]
        assert numbers.isna().tolist() == [False, True]
        assert f"{numbers[0]:,}" == "7"


def test_each_model_and_variant_has_its_own_line_and_its_own_users() -> None:
    results = pd.concat([table({0: 0.2}), table({0: 0.5}, model="ease"), table({0: 0.6}, model="ease", variant="cold")])
    users = pd.concat([per_user(np.full(5, 0.2)), per_user(np.full(5, 0.5), model="ease")])
    board = leaderboard(results, users, ["ndcg@10"])
    assert board["model"].tolist() == ["ncf", "ease", "ease"]
    assert board["ndcg@10"].tolist() == [0.2, 0.5, 0.6]
    assert board["ndcg@10 sd"].isna().all()
    np.testing.assert_allclose(board["ndcg@10 low"], [0.2, 0.5, np.nan])


def test_an_empty_variant_read_back_from_a_file_finds_its_users() -> None:
    results, users = table({0: 0.2}).replace("", np.nan), per_user(np.full(5, 0.2))
    assert leaderboard(results, users, ["ndcg@10"])["ndcg@10 low"].notna().all()


def test_a_leaderboard_refuses_two_protocols() -> None:
    both = pd.concat([table({0: 0.2}), table({0: 0.9}, protocol="loo-sampled")])
    with pytest.raises(StudyError, match="holds one protocol, not loo-full, loo-sampled"):
        leaderboard(both, None, ["ndcg@10"])


def test_a_displayed_table_has_empty_cells_for_unknown_counts_and_rounded_numbers() -> None:
    table = with_counts(pd.DataFrame({"model": ["EASE", "kNN"], "parameters": [4, None], "value": [0.12348, None]}))
    shown = readable(table)
    assert shown["parameters"].tolist() == [4, ""] and shown["value"].iloc[0] == 0.1235
    assert "<NA>" not in shown.to_html() and table["parameters"].isna().any()
