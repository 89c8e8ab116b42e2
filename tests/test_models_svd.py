"""SVD and SVD++ compute their formulas, losses and gradients term by term, and learn known structure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from boards import PLAYERS, board, build, fitted, rows_of

from recsys_core.interactions import Interactions
from recsys_core.models.svd import SVD, Factors, ImplicitFactors, SVDPlusPlus


def random_rows(n_users: int = 15, n_items: int = 9, share: float = 0.5) -> Interactions:
    generator = np.random.default_rng(0)
    users, items = (generator.random((n_users, n_items)) < share).nonzero()
    return rows_of(users, items, generator.integers(1, 6, len(users)), n_users, n_items)


def by_hand(
    module: Factors, train: Interactions, users: Any, items: Any, stars: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions and objective of the papers, one rating after the other."""
    predicted, objective = [], torch.zeros(())
    for u, i, r in zip(users, items, stars):
        own, item = module.users.weight[u], module.items.weight[i]
        norms, factors = own.square().sum() + item.square().sum(), own[:-1]
        if isinstance(module, ImplicitFactors):
            y = module.rated.weight[torch.from_numpy(train.items[train.users == u])]
            factors = factors + len(y) ** -0.5 * y.sum(dim=0)
            norms = norms + y.square().sum()
        predicted.append(module.mean + own[-1] + item[-1] + factors @ item[:-1])
        objective = objective + (r - predicted[-1]) ** 2 + module.regularisation * norms
    return torch.stack(predicted), objective / len(stars)


@pytest.mark.parametrize("kind", [SVD, SVDPlusPlus])
def test_predictions_loss_and_gradient_equal_the_formulas_of_the_paper(kind: type[SVD]) -> None:
    train = random_rows()
    model = kind(embedding_dim=4, embedding_std=0.3, regularisation=0.07, epochs=1, device="cpu").fit(train)
    module: Any = model.module_
    batch = [torch.as_tensor(column[::3]) for column in (train.users, train.items, train.ratings)]
    expected, objective = by_hand(module, train, *batch)
    torch.testing.assert_close(module(module.user_vectors(batch[0])[0], module.items(batch[1])), expected)
    loss = model._loss(module, *batch)
    torch.testing.assert_close(loss, objective)
    parameters = list(module.parameters())
    for ours, theirs in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(objective, parameters)):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["svd", "svd_plus_plus", "als"])
def test_predictions_equal_the_scores_clipped_to_the_scale(name: str) -> None:
    model = fitted(name)
    expected = model.score(PLAYERS).diagonal().clamp(1, 5)
    torch.testing.assert_close(model.predict(PLAYERS, PLAYERS), expected, rtol=1e-5, atol=1e-5)


def test_biases_start_at_zero_and_factors_with_the_stated_deviation() -> None:
    module = Factors(random_rows(300, 200), 20, 0.05, 0.1)
    assert not module.users.weight[:, -1].any() and not module.items.weight[:, -1].any()
    assert module.users.weight[:, :-1].std().item() == pytest.approx(0.05, rel=0.05)


def test_items_rated_beside_each_other_tell_svd_plus_plus_what_their_stars_do_not() -> None:
    """Half of the users rate even, half odd items; all stars are 3 but for item 40, liked by one half alone."""
    half = np.arange(200) % 2
    chosen = np.random.default_rng(1).integers(0, 20, (200, 6)) * 2 + half[:, None]
    pairs = np.unique(np.stack([np.arange(200).repeat(6), chosen.ravel()]), axis=1)
    asked = np.arange(20)
    users, items = np.r_[pairs[0], np.arange(20, 200)], np.r_[pairs[1], np.full(180, 40)]
    stars = np.r_[np.full(pairs.shape[1], 3), np.where(half[20:], 5, 1)]
    model = SVDPlusPlus(embedding_dim=2, regularisation=0.001, learning_rate=0.02, epochs=30, batch_size=256)
    predicted = model.fit(rows_of(users, items, stars, 200, 41)).predict(torch.from_numpy(asked), torch.full((20,), 40))
    assert predicted[half[:20] == 1].min() > predicted[half[:20] == 0].max() + 1


def test_the_rank_one_board_is_learnt_by_one_factor() -> None:
    for name in ("svd", "als"):
        model = build(name, embedding_dim=1).fit(board(True))
        assert (model.predict(PLAYERS, PLAYERS) > 4).all()
