"""RP3beta equals a reference with loops, and its steps are probabilities."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from boards import rows_of

from recsys_core import budget
from recsys_core.interactions import Interactions
from recsys_core.models.random_walk import RP3beta

N_USERS, N_ITEMS = 30, 16
UNSEEN_ITEM = N_ITEMS - 1


def seen_rows(seed: int = 0, n_users: int = N_USERS) -> Interactions:
    """Random rows; items differ in popularity, users in how much they have seen, and nobody has seen the last item."""
    generator = np.random.default_rng(seed)
    share = np.outer(generator.uniform(0.3, 1, n_users), np.append(np.linspace(0.2, 0.9, N_ITEMS - 1), 0))
    seen = generator.random((n_users, N_ITEMS)) < share
    seen[:, 3] |= ~seen.any(axis=1)  # nobody is without rows
    users, items = seen.nonzero()
    return rows_of(users, items, np.ones(len(users)), n_users, N_ITEMS)


def largest(values: np.ndarray, k: int) -> np.ndarray:
    """The k largest, and what equals the smallest of these; 0 elsewhere."""
    return np.where(values >= sorted(values)[-min(k, len(values))] * (1 - 1e-9), values, 0)


def by_hand(seen: np.ndarray, alpha: float, beta: float, k: int, normalised: bool) -> np.ndarray:
    """Weights from walk to walk: over all items i, users who have seen i, and items j that these have seen."""
    weights = np.zeros((N_ITEMS, N_ITEMS))
    for i in range(N_ITEMS):
        for user in np.flatnonzero(seen[:, i]):
            for j in np.flatnonzero(seen[user]):
                if i != j:
                    steps = (1 / seen[:, i].sum()) ** alpha * (1 / seen[user].sum()) ** alpha
                    weights[i, j] += steps / seen[:, j].sum() ** beta
    weights = np.stack([largest(row, k) for row in weights])
    if normalised:
        weights = np.stack([row / row.sum() if row.any() else row for row in weights])
    return np.stack([largest(column, k) for column in weights.T]).T


@pytest.mark.parametrize(("alpha", "beta", "k"), [(1.0, 0.6, 3), (0.4, 0.0, 5), (1.7, 1.2, 8), (1.0, 0.5, 100)])
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("block_cells", [budget.CELLS, 40])
def test_scores_equal_a_reference_with_loops(
    alpha: float, beta: float, k: int, normalised: bool, new: bool, block_cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "CELLS", block_cells)
    train = seen_rows()
    history = seen_rows(1, 7) if new else train
    theirs = history.binary.toarray().astype(np.float64)
    model = RP3beta(transition_exponent=alpha, popularity_penalty=beta, n_neighbours=k, normalised=normalised)
    scores = model.fit(train).score(torch.arange(len(theirs)), history if new else None)
    expected = theirs @ by_hand(train.binary.toarray(), alpha, beta, k, normalised)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-9)
    assert (scores[:, UNSEEN_ITEM] == 0).all() and (expected > 0).any()


def test_without_exponents_a_walk_ends_somewhere_with_probability_1() -> None:
    """The weights of an item are where a walk from it ends, but for those that come back to it."""
    train = seen_rows()
    seen = train.binary.toarray().astype(np.float64)[:, :UNSEEN_ITEM]
    back = ((seen / seen.sum(axis=1, keepdims=True)) / seen.sum(axis=0)).sum(axis=0)
    model = RP3beta(transition_exponent=1.0, popularity_penalty=0.0, n_neighbours=N_ITEMS, normalised=False).fit(train)
    np.testing.assert_allclose(model.weights.sum(axis=1).A1[:UNSEEN_ITEM] + back, 1, rtol=1e-6)


def test_the_penalty_takes_popular_items_down_a_list() -> None:
    train = seen_rows()
    means = [
        RP3beta(popularity_penalty=beta, n_neighbours=N_ITEMS).fit(train).score(torch.arange(N_USERS)).mean(dim=0)
        for beta in (0.0, 1.5)
    ]
    popular = np.argsort(train.item_counts)[-4:]
    shares = [float(mean[popular].sum() / mean.sum()) for mean in means]
    assert shares[1] < shares[0] - 0.05
