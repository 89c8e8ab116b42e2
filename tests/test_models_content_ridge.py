"""The content ridge equals scikit-learn's, user by user, and knows nothing of films but their content."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import random_interactions
from sklearn.linear_model import Ridge

from recsys_core.errors import StudyError
from recsys_core.interactions import Features, Interactions
from recsys_core.models.content_ridge import ContentRidge

COLD = 17


def world(n_users: int = 12, n_items: int = 30) -> Interactions:
    rows = random_interactions(0, n_users, n_items, 150)
    rows = rows.take(rows.items != COLD)
    values = np.random.default_rng(1).normal(size=(n_items, 5)).astype(np.float32)
    return replace(rows, item_features=Features(values, tuple(f"content_{place}" for place in range(5))))


def fitted(rows: Interactions, strength: float = 2.0) -> ContentRidge:
    return ContentRidge(columns=("content_",), regularisation=strength).fit(rows)


@pytest.mark.parametrize("strength", [0.5, 20.0])
def test_scores_are_those_of_a_ridge_regression_of_each_user_on_the_films_with_rows(strength: float) -> None:
    rows = world()
    inputs, known = rows.item_features.values.astype(float), rows.item_counts > 0
    scores = fitted(rows, strength).score(torch.arange(12)).numpy()
    for user in range(12):
        seen = rows.binary[user].toarray().ravel()[known]
        expected = Ridge(alpha=strength).fit(inputs[known], seen).predict(inputs)
        np.testing.assert_allclose(scores[user], expected, atol=1e-5)


def test_films_of_the_same_content_have_the_same_score_rated_or_not() -> None:
    rows = world()
    values = rows.item_features.values.copy()
    values[COLD] = values[3]
    rows = replace(rows, item_features=Features(values, rows.item_features.columns))
    scores = fitted(rows).score(torch.arange(12))
    assert rows.item_counts[3] and not rows.item_counts[COLD]
    assert torch.equal(scores[:, 3], scores[:, COLD])


def test_the_content_of_a_film_without_rows_changes_no_other_films_score() -> None:
    rows = world()
    values = rows.item_features.values.copy()
    values[COLD] = 9.0
    other = replace(rows, item_features=Features(values, rows.item_features.columns))
    first, second = (fitted(each).score(torch.arange(12)) for each in (rows, other))
    same = np.arange(30) != COLD
    assert torch.equal(first[:, same], second[:, same]) and not torch.equal(first[:, COLD], second[:, COLD])


def test_data_without_content_are_refused() -> None:
    with pytest.raises(StudyError, match="say nothing of films in columns content_"):
        fitted(replace(world(), item_features=None))
