"""SLIM's weights are those of scikit-learn's elastic net, item by item."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from boards import rows_of
from sklearn.linear_model import ElasticNet

from recsys_core.interactions import Interactions
from recsys_core.models.slim import ROWS_AT_ONCE, SLIM


def random_rows(n_users: int, n_items: int) -> Interactions:
    """Random rows; nobody has seen the last item, and nobody is without rows."""
    seen = np.random.default_rng(0).random((n_users, n_items - 1)) < 0.3
    seen[np.arange(n_users), np.arange(n_users) % (n_items - 1)] = True
    users, items = seen.nonzero()
    return rows_of(users, items, np.ones(len(users)), n_users, n_items)


def item_by_item(seen: np.ndarray, l1: float, l2: float) -> np.ndarray:
    """Each item's elastic net on all others; scikit-learn divides the squared error by the number of users."""
    net = ElasticNet(
        alpha=(l1 + l2) / len(seen),
        l1_ratio=l1 / (l1 + l2),
        positive=True,
        fit_intercept=False,
        tol=1e-10,
        max_iter=100_000,
    )
    weights = np.zeros((seen.shape[1],) * 2)
    for item in range(seen.shape[1]):
        others = np.arange(seen.shape[1]) != item
        weights[others, item] = net.fit(seen[:, others], seen[:, item]).coef_
    return weights


@pytest.mark.parametrize(("n_users", "n_items"), [(40, 15), (60, 2 * ROWS_AT_ONCE + 7)])
@pytest.mark.parametrize(("l1", "l2"), [(0.5, 1.0), (2.0, 0.1), (0.01, 30.0)])
def test_slim_equals_an_elastic_net_of_each_item_on_all_others(
    n_users: int, n_items: int, l1: float, l2: float
) -> None:
    train = random_rows(n_users, n_items)
    seen = train.binary.toarray().astype(np.float64)
    model, expected = SLIM(l1_regularisation=l1, l2_regularisation=l2).fit(train), item_by_item(seen, l1, l2)
    np.testing.assert_allclose(model.weights, expected, atol=1e-4)
    np.testing.assert_allclose(model.score(torch.arange(n_users)), seen @ expected, atol=2e-3)
    assert 0.1 < (expected > 0).mean() < 0.9  # the bound at 0 is felt


def test_an_l1_penalty_above_every_count_in_common_leaves_no_weight() -> None:
    train = random_rows(40, 15)
    gram = (train.binary.T @ train.binary).toarray()
    np.fill_diagonal(gram, 0)
    assert not SLIM(l1_regularisation=gram.max()).fit(train).weights.any()
    assert np.count_nonzero(SLIM(l1_regularisation=gram.max() - 0.5).fit(train).weights) >= 2
