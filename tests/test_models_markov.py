"""The chain is counted as by hand."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from test_models_sequences import N_ITEMS, histories, random_histories

from recsys_core.models.markov import MarkovChain


@pytest.mark.parametrize("smoothing", [0.5, 10.0])
def test_scores_equal_the_formula_counted_user_by_user(smoothing: float) -> None:
    rows = random_histories()
    mine = [rows.items[rows.users == user].tolist() for user in range(rows.n_users)]
    followed = Counter(pair for items in mine for pair in pairwise(items))
    left = Counter(before for before, _ in followed.elements())
    popular = Counter(rows.items.tolist())
    expected = [
        [
            (followed[last, item] + smoothing * popular[item] / len(rows)) / (left[last] + smoothing)
            for item in range(N_ITEMS)
        ]
        for *_, last in mine
    ]
    found = MarkovChain(smoothing=smoothing).fit(rows).score(torch.arange(rows.n_users))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 10.0])
def test_scores_are_probabilities_and_what_nothing_followed_is_followed_by_popularity(smoothing: float) -> None:
    rows = histories([1, 2, 9], [2, 1, 9], [1, 3])
    scores = MarkovChain(smoothing=smoothing).fit(rows).score(torch.arange(3))
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(scores[0], torch.as_tensor(rows.item_counts / len(rows)).float())


def test_without_a_prior_only_what_followed_is_possible() -> None:
    rows = histories([1, 2, 1], [2, 3])
    scores = MarkovChain(smoothing=0.0).fit(histories([1, 2, 3], [4, 2, 5], [6, 2])).score(torch.tensor([0]), rows)
    assert scores[0].nonzero().squeeze(1).tolist() == [2]


def test_its_parameters_are_the_different_transitions() -> None:
    assert MarkovChain().fit(histories([1, 2, 3], [1, 2], [2, 1])).n_parameters == 3


def test_what_comes_later_in_a_history_changes_no_count_of_what_came_before() -> None:
    first, other = (MarkovChain().fit(histories([1, 2, 3, *later], [4, 2, 5])) for later in ([6, 7], [8, 9]))
    changed = (first.transitions != other.transitions).nonzero()
    assert sorted(zip(*(each.tolist() for each in changed))) == [(3, 6), (3, 8), (6, 7), (8, 9)]
