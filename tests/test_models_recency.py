"""Popularity of the last days counts what lies in its window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import make_interactions

from recsys_core.interactions import Interactions
from recsys_core.models.baselines import Popularity
from recsys_core.models.recency import DAY, RecencyPopularity

ROWS = [(0, 0), (0, 1), (1, 0), (1, 2), (2, 1), (2, 2), (2, 3)]
DAYS = [0, 40, 93, 99, 93.5, 100, 60]  # the latest row is of day 100


def world() -> Interactions:
    return make_interactions(ROWS, 4, 5, times=np.array(DAYS) * DAY)


@pytest.mark.parametrize("days", [1, 7, 30, 90, 1000])
def test_scores_count_the_rows_of_the_last_days_before_the_latest_row(days: int) -> None:
    expected = [sum(item == wanted and 100 - day < days for (_, item), day in zip(ROWS, DAYS)) for wanted in range(5)]
    model = RecencyPopularity(window_days=days).fit(world())
    assert model.score(torch.tensor([2, 0])).tolist() == [expected] * 2
    assert model.n_parameters == 5


def test_a_row_exactly_as_old_as_the_window_is_outside_it() -> None:
    assert RecencyPopularity(window_days=7).fit(world()).counts.tolist() == [0, 1, 2, 0, 0]  # without day 93
    assert RecencyPopularity(window_days=7.01).fit(world()).counts.tolist() == [1, 1, 2, 0, 0]


def test_users_without_a_history_get_the_same_list_as_everybody() -> None:
    model, nothing = RecencyPopularity().fit(world()), world().take(np.zeros(0, np.int64))
    assert torch.equal(model.score(torch.tensor([3]), nothing), model.score(torch.tensor([0])))
    assert model.fallback(torch.tensor([3]), nothing).all()


def test_where_times_are_positions_it_is_plain_popularity() -> None:
    train = make_interactions(ROWS, 4, 5, times=[0, 1, 0, 1, 0, 1, 2])
    assert torch.equal(RecencyPopularity().fit(train).counts, Popularity().fit(train).counts)
