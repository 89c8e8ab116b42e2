"""Networks on attributes: their inputs, and what they answer for users without history."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from boards import PLAYERS, SIZE, attributes, board, fitted, rows_of

from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.evaluate import rate
from recsys_core.features import encode
from recsys_core.interactions import Features, Interactions
from recsys_core.models.attributes import Attributes, both_genders, standardised
from recsys_core.models.embedding_recommender import EmbeddingRecommender
from recsys_core.models.recommender_net import RecommenderNet
from recsys_core.models.two_tower_regressor import TwoTowerRegressor
from recsys_core.protocols import make_split

YEARS = (1950.0, 1990.0, 1995.0)


def people() -> Interactions:
    """Ratings of 40 users for 30 items with all attributes; user 39's zip code and item 29's year are in no training row."""
    generator = np.random.default_rng(4)
    zips = np.r_[generator.integers(1, 9, 39), 9]
    occupations = np.eye(3)[generator.integers(0, 3, 40)]
    users = np.column_stack([generator.integers(18, 70, 40), generator.integers(0, 2, 40), occupations, zips])
    genres = generator.integers(0, 2, (30, 4))
    films = np.column_stack([genres, np.r_[generator.choice(YEARS, 29), 2001.0]])
    columns = ("age", "gender", "occupation_a", "occupation_b", "occupation_c", "zip")
    rows, items = np.divmod(np.arange(39 * 29), 29)
    return rows_of(
        rows,
        items,
        generator.integers(1, 6, len(rows)),
        40,
        30,
        user_features=Features(users.astype(np.float32), columns),
        item_features=Features(films.astype(np.float32), ("genre_a", "genre_b", "genre_c", "genre_d", "year")),
    )


def nobody(n_items: int) -> Interactions:
    return rows_of(np.arange(0), np.arange(0), np.arange(0), 1, n_items)


def one(values: list[float], columns: tuple[str, ...]) -> Features:
    return Features(np.array([values], np.float32), columns)


def test_only_numbers_are_standardised_where_they_are_named() -> None:
    features = attributes()["user_features"]
    side = Attributes(features, np.ones(SIZE + 1), ("age",))
    assert side.table[:, 0].mean().abs() < 1e-5
    assert torch.equal(side.table[:, 1], torch.as_tensor(features.values[:, 1]))
    assert torch.equal(side(torch.as_tensor(features.values)), side.table)


def test_gender_becomes_two_flags_of_which_one_is_set() -> None:
    features = attributes()["user_features"]
    flags = both_genders(features).select("gender")
    assert flags.shape == (SIZE + 1, 2)
    assert (flags.sum(axis=1) == 1).all()
    assert both_genders(Features(np.ones((2, 1), np.float32), ("age",))).columns == ("age",)


@pytest.mark.parametrize("name", ["two_tower_regressor", "recommender_net", "dlrm", "embedding_recommender"])
def test_scoring_the_catalogue_equals_scoring_pair_by_pair(name: str) -> None:
    model = fitted(name)
    users, items = PLAYERS.repeat_interleave(SIZE + 1), torch.arange(SIZE + 1).repeat(SIZE)
    stars = model.predict(users, items).view(SIZE, SIZE + 1)
    torch.testing.assert_close(model.score(PLAYERS).clamp(1, 5), stars, rtol=1e-5, atol=1e-5)


def test_the_embedding_recommender_does_not_see_the_zip_code() -> None:
    train = people()
    assert train.user_features is not None
    without = replace(train, user_features=train.user_features.without("zip"))
    ours, theirs = (EmbeddingRecommender(epochs=1, device="cpu").fit(rows) for rows in (train, without))
    assert torch.equal(ours.score(torch.arange(39)), theirs.score(torch.arange(39)))
    assert ours.n_parameters == theirs.n_parameters


@pytest.mark.parametrize("kind", [TwoTowerRegressor, RecommenderNet])
def test_models_without_ids_refuse_data_without_attributes(kind: type) -> None:
    with pytest.raises(StudyError, match=f"{kind.__name__} knows users and items by their attributes alone"):
        kind(device="cpu").fit(replace(people(), user_features=None))


@pytest.mark.parametrize("model", [TwoTowerRegressor(epochs=1), RecommenderNet(epochs=1)])
def test_held_out_users_are_answered_from_their_attributes(model: TwoTowerRegressor, ml_100k: MovieLens) -> None:
    split = make_split("user-holdout", encode(ml_100k)[0], fold_in=0.0)
    held_out = torch.as_tensor(np.unique(split.test.users)[:2])
    small = split.train.take(np.arange(0, len(split.train), 20))
    features = small.user_features
    assert features is not None
    mine = Features(features.values[held_out], features.columns)
    empty = small.take(np.arange(0))
    fit = replace(model, device="cpu").fit(small)
    assert not fit.fallback(held_out, empty, mine).any()
    first, second = fit.score(held_out, empty, mine)
    assert not torch.equal(first, second)
    rated = rate(fit, small, split.test.take(np.arange(0, len(split.test), 50)), empty)
    assert not rated["fallback"].any()


def matched() -> Interactions:
    """Men like genre a and women the rest, whatever else they are."""
    train = people()
    assert train.user_features is not None and train.item_features is not None
    men, genre_a = train.user_features.values[:, 1], train.item_features.values[:, 0]
    return replace(train, ratings=np.where(men[train.users] == genre_a[train.items], 5, 1).astype(np.float32))


@pytest.mark.parametrize(
    "model",
    [
        TwoTowerRegressor(epochs=30, learning_rate=0.01, hidden_dim=32, head_layers=(16,), device="cpu"),
        RecommenderNet(epochs=30, batch_size=128, learning_rate=0.01, device="cpu"),
    ],
)
def test_a_new_user_gets_what_people_like_them_like(model: TwoTowerRegressor) -> None:
    train = matched()
    assert train.user_features is not None and train.item_features is not None
    model.fit(train)
    genre_a = torch.as_tensor(train.item_features.values[:29, 0] > 0)
    for is_man in (0.0, 1.0):
        person = one([33, is_man, 0, 1, 0, 0], train.user_features.columns)
        scores = model.score(torch.tensor([0]), nobody(30), person)[0, :29]
        liked = genre_a == bool(is_man)
        assert scores[liked].mean() > 4
        assert scores[~liked].mean() < 2


def test_features_are_standardised_by_the_training_rows() -> None:
    features = attributes()["user_features"]
    counts = np.arange(SIZE + 1)
    mean, deviation = standardised(features, counts)
    rows = np.repeat(features.values, counts, axis=0)
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(deviation, rows.std(axis=0), rtol=1e-5)


def test_users_and_items_outside_training_do_not_move_the_standardisation() -> None:
    train = board(True)
    assert train.user_features is not None
    extreme = train.user_features.values.copy()
    extreme[SIZE] = 1e6  # a user without rows
    moved = standardised(type(train.user_features)(extreme, train.user_features.columns), train.user_counts)
    for ours, theirs in zip(standardised(train.user_features, train.user_counts), moved):
        np.testing.assert_array_equal(ours, theirs)


def test_a_constant_feature_is_not_divided_by_zero() -> None:
    features = type(attributes()["user_features"])(np.full((3, 1), 7, np.float32), ("age",))
    assert standardised(features, np.ones(3))[1].tolist() == [1]
