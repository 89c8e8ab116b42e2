"""Leaderboards hold one protocol; committed results are compared with the tolerance that their spread allows."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from pipeline.chapters.results import CELL, check_against, leaderboard, long_format, public_versions
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


def test_a_leaderboard_has_mean_and_spread_over_seeds_and_an_interval_over_users() -> None:
    users = np.random.default_rng(0).random(50)
    line = leaderboard(table({0: 0.2, 1: 0.3, 2: 0.7}), per_user(users), ["ndcg@10"]).iloc[0]
    assert (line["model"], line["seeds"], line["parameters"]) == ("ncf", 3, 7)
    assert line["ndcg@10"] == pytest.approx(0.4)
    assert line["ndcg@10 sd"] == pytest.approx(math.sqrt((0.04 + 0.01 + 0.09) / 2))
    assert (line["ndcg@10 low"], line["ndcg@10 high"]) == bootstrap_interval(users)


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


def test_deterministic_models_must_agree_to_a_millionth() -> None:
    committed = table({0: 0.4, 1: 0.6})
    assert check_against(committed, table({0: 0.4 + 9e-7}), "ndcg@10", stochastic=False) == 1e-6
    with pytest.raises(StudyError, match=r"ncf, loo-full , seed 0, ndcg@10: 0\.400002 now, 0\.400000 committed"):
        check_against(committed, table({0: 0.400002}), "ndcg@10", stochastic=False)


@pytest.mark.parametrize(
    ("committed", "tolerance"),
    [
        ({0: 0.4, 1: 0.402}, 0.002 / math.sqrt(2)),  # the spread over the seeds
        ({0: 0.4, 1: 0.6}, 0.03 * 0.4),  # at most 3 %
        ({0: 0.4}, 0.03 * 0.4),  # one seed says nothing about the spread
        ({0: 0.4, 1: 0.4}, 1e-6),  # stored values are rounded
        ({0: 0.0, 1: 0.2}, 1e-6),
    ],
)
def test_stochastic_models_must_agree_within_spread_and_three_percent(
    committed: dict[int, float], tolerance: float
) -> None:
    rows, value = table(committed), committed[0]
    found = check_against(rows, table({0: value + 0.99 * tolerance}), "ndcg@10", stochastic=True)
    assert found == pytest.approx(tolerance)
    for sign in (-1, 1):
        with pytest.raises(StudyError, match="the stored result is stale"):
            check_against(rows, table({0: value + sign * 1.01 * tolerance}), "ndcg@10", stochastic=True)


def test_a_fresh_value_is_compared_with_its_own_seed_model_and_metric() -> None:
    committed = pd.concat(
        [table({0: 0.4, 1: 0.9}), table({0: 0.1}, metric="hit_ratio@10"), table({0: 0.2}, model="ease")]
    )
    for fresh in (table({0: 0.4}), table({1: 0.9}), table({0: 0.2}, model="ease")):
        check_against(committed, fresh, "ndcg@10", stochastic=False)
    check_against(committed, table({0: 0.1}, metric="hit_ratio@10"), "hit_ratio@10", stochastic=False)


def test_what_was_never_committed_is_an_error_that_says_what_to_run() -> None:
    for fresh in (table({3: 0.4}), table({0: 0.4}, model="bias"), table({0: 0.4}, variant="cold")):
        with pytest.raises(StudyError, match=r"No committed result for .* run `make study`"):
            check_against(table({0: 0.4}), fresh, "ndcg@10", stochastic=True)


def test_a_fresh_value_that_is_no_number_does_not_pass() -> None:
    with pytest.raises(StudyError, match="nan now"):
        check_against(table({0: 0.4}), table({0: math.nan}), "ndcg@10", stochastic=True)
