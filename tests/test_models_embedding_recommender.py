"""S2's recommender scales stars and clips predictions as stated."""

from __future__ import annotations

import numpy as np
import torch
from boards import PLAYERS, board, fitted

from recsys_core.losses import mean_squared_error
from recsys_core.models.embedding_recommender import STARS, EmbeddingNet, EmbeddingRecommender


def test_the_loss_is_the_squared_error_of_ratings_divided_by_five() -> None:
    model, train = EmbeddingRecommender(batch_size=10**6), board(True)
    (batch,) = model._batches(train, torch.device("cpu")).epoch(torch.Generator().manual_seed(0))
    users, items, targets = batch
    stars = train.stars.toarray()[users.numpy(), items.numpy()]
    np.testing.assert_allclose(STARS * targets, stars, rtol=1e-6)
    module = EmbeddingNet(train, *model._sides(train), 4, 8).eval()
    expected = mean_squared_error(module(users, items), targets)
    assert torch.equal(model._loss(module, *batch), expected)


def test_predictions_equal_the_scores_clipped_to_the_scale() -> None:
    model = fitted("embedding_recommender")
    expected = model.score(PLAYERS).diagonal().clamp(1, 5)
    torch.testing.assert_close(model.predict(PLAYERS, PLAYERS), expected, rtol=1e-5, atol=1e-5)
