"""Neighbourhood models equal references with loops, for stars and for rankings, and their similarities what they are called."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from boards import rows_of

from recsys_core import budget
from recsys_core.interactions import Interactions
from recsys_core.models.neighbours import (
    ImplicitItemKNN,
    ImplicitUserKNN,
    ItemKNN,
    RankingNeighbours,
    RatingNeighbours,
    UserKNN,
    correlations,
)


def random_rows(seed: int = 0, n_users: int = 25) -> Interactions:
    generator = np.random.default_rng(seed)
    users, items = (generator.random((n_users, 14)) < 0.4).nonzero()
    return rows_of(users, items, generator.integers(1, 6, len(users)), n_users, 14)


def similarity_by_hand(a: np.ndarray, b: np.ndarray, model: RatingNeighbours) -> float:
    """Koren 2010, equation 2, for two rows of residuals with NaN where there is no rating."""
    common = ~np.isnan(a) & ~np.isnan(b)
    n, x, y = common.sum(), a[common], b[common]
    if n < model.min_support or n < 2:
        return 0.0
    return max(0.0, (n - 1) / (n - 1 + model.shrinkage) * (x @ y) / np.sqrt((x @ x) * (y @ y)))


def by_hand(model: RatingNeighbours, train: Interactions, history: Interactions, user: int, item: int) -> float:
    """Equation 3 for one pair, with sorted lists."""

    def table(rows: Interactions) -> np.ndarray:
        return np.where(rows.binary.toarray() > 0, model.bias_.residuals(rows).toarray(), np.nan)

    mine, theirs = table(history)[user], table(train)
    if isinstance(model, ItemKNN):
        rated = np.flatnonzero(~np.isnan(mine))
        near = [(similarity_by_hand(theirs[:, item], theirs[:, j], model), mine[j]) for j in rated]
    else:
        raters = np.flatnonzero(~np.isnan(theirs[:, item]))
        near = [(similarity_by_hand(mine, theirs[v], model), theirs[v, item]) for v in raters]
    best = sorted(near, key=lambda pair: -pair[0])[: model.n_neighbours]
    total = sum(weight for weight, _ in best)
    base = model.bias_.baseline(np.array([user]), np.array([item]), history)[0]
    return float(base + sum(weight * value for weight, value in best) / total if total else base)


@pytest.mark.parametrize("kind", [ItemKNN, UserKNN])
@pytest.mark.parametrize("settings", [{}, {"n_neighbours": 2, "shrinkage": 5.0}, {"min_support": 5, "shrinkage": 0.0}])
@pytest.mark.parametrize("new", [False, True])
def test_scores_equal_a_reference_with_loops(
    kind: type[RatingNeighbours], settings: dict[str, float], new: bool
) -> None:
    train = random_rows()
    model, history = kind(**settings).fit(train), random_rows(1, 6) if new else train  # type: ignore[arg-type]
    users = np.flatnonzero(history.user_counts)
    expected = [[by_hand(model, train, history, u, i) for i in range(14)] for u in users]
    np.testing.assert_allclose(model.score(torch.from_numpy(users), history), expected, atol=1e-5)


@pytest.mark.parametrize("kind", [ItemKNN, UserKNN])
def test_small_blocks_give_the_same_answers(kind: type[RatingNeighbours], monkeypatch: pytest.MonkeyPatch) -> None:
    train, users = random_rows(), torch.tensor([3, 7, 3, 20])
    whole = kind().fit(train).score(users)
    monkeypatch.setattr(budget, "CELLS", 60)
    torch.testing.assert_close(kind().fit(train).score(users), whole)


def test_without_shrinkage_rows_that_share_all_columns_are_as_similar_as_their_cosine() -> None:
    values = np.random.default_rng(2).normal(size=(4, 6)).astype(np.float32)
    dense = rows_of(*np.divmod(np.arange(24), 6), np.ones(24), 4, 6).binary
    dense.data = values.ravel()
    norms = np.linalg.norm(values, axis=1)
    expected = (values @ values.T / np.outer(norms, norms)).clip(0)
    np.testing.assert_allclose(correlations(dense, dense, 0, 1), expected, atol=1e-6)


def test_the_estimate_without_a_similar_neighbour_is_that_of_the_biases() -> None:
    train = random_rows()
    users = torch.from_numpy(np.flatnonzero(train.user_counts))
    items = users % 14
    for kind in (ItemKNN, UserKNN):
        model = kind(min_support=100).fit(train)
        assert torch.equal(model.predict(users, items), model.bias_.predict(users, items))


N_USERS, N_ITEMS = 30, 16
UNSEEN_ITEM = N_ITEMS - 1


def seen_rows(seed: int = 0, n_users: int = N_USERS) -> Interactions:
    """Random rows; nobody has seen the last item, and everybody has seen another number of items."""
    users, items = (np.random.default_rng(seed).random((n_users, N_ITEMS - 1)) < 0.4).nonzero()
    return rows_of(users, items, np.ones(len(users)), n_users, N_ITEMS)


def seen_cells(rows: Interactions) -> np.ndarray:
    return np.asarray(rows.binary.toarray(), np.float64)


def nearest(left: np.ndarray, right: np.ndarray, k: int, shrinkage: float, themselves: bool) -> np.ndarray:
    """Shrunk cosines of binary rows, of which each row keeps the k largest and what equals the smallest of these."""
    similarity = np.zeros((len(left), len(right)))
    for a, one in enumerate(left):
        for b, other in enumerate(right):
            if one.any() and other.any() and not (themselves and a == b):
                similarity[a, b] = (one @ other) / (np.linalg.norm(one) * np.linalg.norm(other) + shrinkage)
        kept = similarity[a] >= sorted(similarity[a])[-k] - 1e-12
        similarity[a] = np.where(kept, similarity[a], 0)
    return similarity


@pytest.mark.parametrize("kind", [ImplicitItemKNN, ImplicitUserKNN])
@pytest.mark.parametrize("settings", [(5, 0.0), (5, 3.0), (100, 3.0)])
@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("block_cells", [budget.CELLS, 40])
def test_scores_of_implicit_neighbours_equal_a_dense_reference(
    kind: type[RankingNeighbours],
    settings: tuple[int, float],
    new: bool,
    block_cells: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budget, "CELLS", block_cells)
    k, shrinkage = settings
    train = seen_rows()
    history = seen_rows(1, 7) if new else train
    seen, theirs = seen_cells(train), seen_cells(history)
    if kind is ImplicitItemKNN:
        expected = theirs @ nearest(seen.T, seen.T, min(k, N_ITEMS), shrinkage, themselves=True).T
    else:
        expected = nearest(theirs, seen, min(k, N_USERS), shrinkage, themselves=False) @ seen
    model = kind(n_neighbours=k, shrinkage=shrinkage).fit(train)
    scores = model.score(torch.arange(len(theirs)), history if new else None)
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
    assert (scores[:, UNSEEN_ITEM] == 0).all()
