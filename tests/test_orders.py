"""Reordered histories hold the same rows, move what they say and nothing else, and a seed decides how."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from boards import rows_of

from pipeline.chapters import plots
from pipeline.chapters.orders import (
    ORDERS,
    compared_orders,
    grid,
    grid_figure,
    histories_by_order,
    histories_reordered,
    knowing,
    reading_every_order,
    shuffled,
    tied_last_as_test,
    ties_reordered,
    users_by_order,
)
from recsys_core import evaluate
from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions
from recsys_core.judging import measure
from recsys_core.models.markov import MarkovChain
from recsys_core.protocols import make_split


def tied() -> Interactions:
    """30 users with 12 items each, rows not in time order; about every third time is shared."""
    generator = np.random.default_rng(0)
    items = np.concatenate([generator.permutation(40)[:12] for _ in range(30)])
    rows = rows_of(np.repeat(np.arange(30), 12), items, np.ones(360), 30, 40)
    return replace(rows, times=generator.integers(0, 20, 360)).take(generator.permutation(360))


def items_of(rows: Interactions, user: int) -> list[int]:
    """A user's items in the order of time."""
    ordered = rows.by_time[rows.users[rows.by_time] == user]
    return [int(item) for item in rows.items[ordered]]


def test_shuffled_histories_hold_the_same_items_in_a_random_order_that_the_seed_decides() -> None:
    rows = tied()
    first, again, other = shuffled(rows, 1), shuffled(rows, 1), shuffled(rows, 2)
    for user in range(30):
        assert sorted(items_of(first, user)) == sorted(items_of(rows, user))
        assert items_of(first, user) == items_of(again, user)
    assert sum(items_of(first, user) != items_of(other, user) for user in range(30)) == 30
    assert np.array_equal(first.items, rows.items)
    assert len(np.unique(first.times)) == 360


def test_every_place_of_a_shuffled_history_is_as_likely() -> None:
    rows = rows_of(np.zeros(4), np.arange(4), np.ones(4), 1, 4)
    rows = replace(rows, times=np.zeros(4, np.int64))  # tied: exchanging times would do nothing
    found = Counter(tuple(items_of(shuffled(rows, seed), 0)) for seed in range(2400))
    assert len(found) == 24
    assert max(found.values()) < 150 and min(found.values()) > 60


@pytest.mark.parametrize("kept", [1, 3])
def test_the_last_films_stay_in_place(kept: int) -> None:
    rows = tied()
    changed = shuffled(rows, 1, keep_last=kept)
    for user in range(30):
        assert items_of(changed, user)[-kept:] == items_of(rows, user)[-kept:]
        assert items_of(changed, user)[:-kept] != items_of(rows, user)[:-kept]
    with pytest.raises(StudyError, match="keep_last=-1: it must be at least 0"):
        shuffled(rows, 1, keep_last=-1)


def test_reordered_ties_stay_within_their_time() -> None:
    rows = tied()
    changed, other = ties_reordered(rows, 1), ties_reordered(rows, 2)
    assert np.array_equal(rows.times[changed.by_time], rows.times[rows.by_time])
    assert not np.array_equal(changed.by_time, rows.by_time)
    assert not np.array_equal(changed.by_time, other.by_time)


def test_without_ties_there_is_nothing_to_reorder() -> None:
    rows = shuffled(tied(), 0)
    assert np.array_equal(ties_reordered(rows, 1).by_time, rows.by_time)


def test_reordered_ties_change_which_row_is_the_last_only_among_tied_ones() -> None:
    rows = tied()
    first, second = (make_split("loo-full", ties_reordered(rows, seed)).roles for seed in (1, 2))
    assert not np.array_equal(first, second)
    tests = [rows.take((roles & 4) > 0) for roles in (first, second)]
    assert np.array_equal(*(each.times[np.argsort(each.users)] for each in tests))


@pytest.mark.parametrize("ties_only", [False, True])
def test_a_split_with_reordered_histories_has_the_same_test_rows_behind_what_is_known(ties_only: bool) -> None:
    split = make_split("loo-full", tied())
    changed = histories_reordered(split, 1, ties_only=ties_only)
    assert np.array_equal(changed.roles, split.roles)
    for user in range(30):
        assert items_of(changed.interactions, user)[-1] == items_of(split.test, user)[0]
    assert not np.array_equal(changed.refit.by_time, split.refit.by_time)
    assert changed.sha256 != split.sha256
    assert changed.sha256 != histories_reordered(split, 2, ties_only=ties_only).sha256


def test_a_split_whose_last_films_are_kept_shuffles_what_is_before_them() -> None:
    split = make_split("loo-full", tied())
    changed, moved = histories_reordered(split, 1, keep_last=1), histories_reordered(split, 1)
    for user in range(30):
        assert items_of(changed.refit, user)[-1] == items_of(split.validation, user)[0]
    assert any(items_of(moved.refit, user)[-1] != items_of(split.validation, user)[0] for user in range(30))
    assert changed.variant == "histories shuffled but the last 1, seed=1"


def test_a_model_is_measured_on_histories_in_another_order_without_learning_again() -> None:
    split = make_split("loo-full", tied())
    model, other = MarkovChain().fit(split.refit), histories_reordered(split, 1)
    turned, user = knowing(model, other.refit), torch.tensor([3])
    last = int(items_of(other.refit, 3)[-1])
    one_item = rows_of(np.zeros(1), np.array([last]), np.ones(1), 30, 40)
    assert torch.equal(turned.score(user), model.score(torch.tensor([0]), one_item))
    assert not torch.equal(turned.score(user), model.score(user))
    assert not measure(turned, split)[1].equals(measure(model, split)[1])
    with pytest.raises(StudyError, match="not the pairs that the model was trained on"):
        knowing(model, split.train)


def timed(*histories: list[tuple[int, int]]) -> Interactions:
    """Rows of users 0, 1, … from (item, time) pairs."""
    users = np.repeat(np.arange(len(histories)), [len(mine) for mine in histories])
    items, times = np.array([pair for mine in histories for pair in mine]).T
    return replace(rows_of(users, items, np.ones(len(users)), len(histories), 9), times=times.astype(np.int64))


def test_all_films_of_the_latest_time_are_test_rows_and_the_one_before_them_validates() -> None:
    rows = timed([(3, 5), (1, 1), (2, 5), (4, 2)], [(1, 1), (2, 2), (3, 3)], [(5, 1), (6, 9), (7, 9)], [(1, 1), (2, 1)])
    split = tied_last_as_test(rows)
    pairs = [sorted(zip(part.users.tolist(), part.items.tolist())) for part in (split.test, split.validation)]
    assert pairs[0] == [(0, 2), (0, 3), (1, 3), (2, 7)]  # user 2 has one film before: as in loo-full
    assert pairs[1] == [(0, 4), (1, 2), (2, 6)]
    assert len(split.train) == 5  # user 3 only trains
    assert split.sha256 != make_split("loo-full", rows).sha256


def test_without_tied_last_films_their_set_is_the_one_test_film() -> None:
    rows = shuffled(tied(), 0)
    assert np.array_equal(tied_last_as_test(rows).roles, make_split("loo-full", rows).roles)


def test_any_of_the_tied_last_films_is_a_hit() -> None:
    rows = timed([(1, 1), (2, 2), (3, 5), (4, 5)], [(1, 1), (2, 2), (4, 3)])
    split = tied_last_as_test(rows)
    counted = rows.take((split.roles & 3) > 0)
    model = MarkovChain(smoothing=1.0).fit(counted)
    found = evaluate.rank(model, evaluate.RankingTask(counted, split.test, cutoffs=(1, 9))).users
    assert found["n_relevant"].tolist() == [2, 1]
    assert found["hit_ratio@9"].tolist() == [1.0, 1.0]


def test_a_model_reads_every_order_that_it_is_given() -> None:
    split = make_split("loo-full", tied())
    histories = histories_by_order(split, 1)
    assert tuple(histories) == ORDERS
    assert np.array_equal(histories["true"].by_time, split.refit.by_time)
    task = evaluate.RankingTask(split.refit, split.test, cutoffs=(10,))
    users = users_by_order(MarkovChain().fit(split.refit), "true", histories, task)
    hits = users.groupby("model", sort=False)["hit_ratio@10"].mean()
    assert hits.index.tolist() == [f"true → {order}" for order in ORDERS]
    assert hits["true → shuffled, last kept"] == hits["true → true"] != hits["true → shuffled"]
    with pytest.raises(StudyError, match="orders='turned' is not known: allowed are true"):
        histories_by_order(split, 1, ["turned"])


def test_what_a_model_reads_is_a_table_of_users_by_order_on_the_test_rows() -> None:
    split = make_split("loo-full", tied())
    model = MarkovChain().fit(split.refit)
    table = reading_every_order(model, "shuffled", split, 1, ["true", "shuffled"], ["ndcg@10"])
    assert table.columns.tolist() == ["user", "variant", "ndcg@10"]
    assert table.groupby("variant")["user"].nunique().to_dict() == {"shuffled → true": 30, "shuffled → shuffled": 30}
    own = table[table["variant"] == "shuffled → true"]["ndcg@10"].mean()
    measured = measure(model, split)[0].set_index("metric")["value"]
    assert own == pytest.approx(measured["ndcg@10"], abs=1e-5)


def test_a_grid_has_a_row_for_each_order_learnt_and_a_column_for_each_read() -> None:
    values = pd.Series(
        [4.0, 3.0, 2.0, 1.0], ["shuffled → shuffled", "shuffled → true", "true → shuffled", "true → true"]
    )
    table = grid(values)
    assert table.to_numpy().tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert [table.index.tolist(), table.columns.tolist()] == [["true", "shuffled"]] * 2
    plots.style()
    figure = grid_figure({"A": table, "B": table.loc[["true"]]}, "Two models")
    assert [text.get_text() for text in figure.axes[0].texts] == ["1.000", "2.000", "3.000", "4.000"]
    plt.close(figure)


def test_orders_are_compared_with_true_histories_in_training_and_at_the_test() -> None:
    values = {"true → true": 0.9, "true → shuffled": 0.5, "shuffled → true": 0.4, "shuffled → shuffled": 0.1, "": 0.0}
    users = pd.concat(
        [pd.DataFrame({"variant": name, "user": range(20), "ndcg@10": value}) for name, value in values.items()]
    )
    found = compared_orders(users.assign(protocol="loo-full", settings="stated", model="SASRec"), "ndcg@10")
    assert found.lines[["model", "rival"]].to_numpy().tolist() == [
        ["true → true", "shuffled → shuffled"],
        ["true → true", "true → shuffled"],
    ]
    assert found.lines["difference"].to_numpy() == pytest.approx([0.8, 0.4])
