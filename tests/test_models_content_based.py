"""The content-based model equals its equations written out film by film."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from boards import rows_of

from recsys_core.errors import StudyError
from recsys_core.interactions import Features, Interactions
from recsys_core.models.content_based import ContentBased

GENRES = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 1], [0, 0, 1], [1, 1, 1], [0, 0, 0]], np.float32)


def world(genres: np.ndarray = GENRES) -> Interactions:
    """Three users and six films, of which 4 is unrated and 5 without genres."""
    users, items = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 0, 2, 3, 5])
    columns = ("genre_x", "genre_y", "genre_z")
    rows = rows_of(users, items, np.array([5, 2, 3, 4, 1, 3]), 4, len(genres))
    return replace(rows, item_features=Features(genres, columns))


def similarity(kind: str, one: np.ndarray, other: np.ndarray) -> float:
    if kind == "euclidean":
        return -float(np.sqrt(sum((a - b) ** 2 for a, b in zip(one, other))))
    product = float(sum(a * b for a, b in zip(one, other)))
    if kind == "dot" or not product:
        return product
    return product / float(np.sqrt((one**2).sum() * (other**2).sum()))


@pytest.mark.parametrize("kind", ["dot", "cosine", "euclidean"])
@pytest.mark.parametrize("profile", ["rating", "plain"])
@pytest.mark.parametrize("rated", [True, False])
def test_scores_equal_the_equations_written_out(kind: str, profile: str, rated: bool) -> None:
    train = world()
    model = ContentBased(similarity=kind, profile=profile, rated=rated).fit(train)
    means = [4.0, 2.0, 4.0, 1.0, 3.0, 3.0]  # film 4 has the mean of all six ratings
    vectors = [flags * (mean if rated else 1) for flags, mean in zip(GENRES.astype(float), means)]
    for user in range(3):
        mine = [(item, stars) for other, item, stars in zip(train.users, train.items, train.ratings) if other == user]
        weights = [stars if profile == "rating" else 1 for _, stars in mine]
        mean = sum(weight * vectors[item] for (item, _), weight in zip(mine, weights)) / sum(weights)
        expected = [similarity(kind, mean, vector) for vector in vectors]
        np.testing.assert_allclose(model.score(torch.tensor([user]))[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["dot", "cosine", "euclidean"])
def test_similar_films_are_ordered_by_similarity_without_the_film_itself(kind: str) -> None:
    model = ContentBased(similarity=kind).fit(world())
    vectors = model.item_vectors().numpy()
    items, values = model.similar(0, 4)
    likeness = {other: similarity(kind, vectors[0], vectors[other]) for other in range(1, 6)}
    assert items.tolist() == sorted(likeness, key=lambda other: (-round(likeness[other], 6), other))[:4]
    np.testing.assert_allclose(values, [likeness[item] for item in items.tolist()], rtol=1e-6, atol=1e-6)


def test_the_dot_product_favours_films_with_many_genres_and_the_cosine_the_same_ones() -> None:
    genres = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 1], [0, 1, 1], [1, 1, 1], [0, 0, 0]], np.float32)
    train = replace(world(genres), ratings=np.array([4, 2, 4, 5, 4, 4], np.float32))
    first = {kind: int(ContentBased(similarity=kind).fit(train).similar(0, 1)[0]) for kind in ("dot", "cosine")}
    assert first == {"dot": 2, "cosine": 1}  # film 2 has all three genres, film 1 those of film 0 and half its rating


def test_the_cosine_does_not_see_a_films_own_rating_and_ties_films_of_the_same_genres() -> None:
    train = world(np.array([[1, 1, 0], [1, 0, 1], [1, 0, 1], [1, 0, 1], [1, 0, 1], [0, 0, 0]], np.float32))
    items, values = ContentBased(similarity="cosine").fit(train).similar(0, 5)
    assert items.tolist() == [1, 2, 3, 4, 5]
    assert values[:4].unique().numel() == 1 and values[4] == 0


def test_a_film_without_genres_is_like_none_and_a_user_of_such_films_ranks_all_alike() -> None:
    model = ContentBased().fit(world())
    assert model.score(torch.tensor([2]))[0].tolist() == [0] * 6
    assert (model.similar(5, 5)[1] == 0).all()


def test_other_columns_are_read_where_they_are_named() -> None:
    table = Features(np.hstack([GENRES, np.eye(6, dtype=np.float32)]), (*"abc", *(f"content_{n}" for n in range(6))))
    train = replace(world(), item_features=table)
    model = ContentBased(columns=("content_",), rated=False).fit(train)
    assert torch.equal(model.item_vectors(), torch.eye(6, dtype=torch.float64))


@pytest.mark.parametrize("features", [None, Features(np.ones((6, 1), np.float32), ("year",))])
def test_data_without_genres_are_refused(features: Features | None) -> None:
    with pytest.raises(StudyError, match="nothing of films in columns genre_…: choose data with a movie table"):
        ContentBased().fit(replace(world(), item_features=features))


@pytest.mark.parametrize(("item", "k"), [(-1, 1), (6, 1), (0, 0), (0, 6)])
def test_unknown_films_and_numbers_are_refused(item: int, k: int) -> None:
    with pytest.raises(StudyError, match=f"item={item}, k={k}: the catalogue has the films 0 to 5, and 5 others"):
        ContentBased().fit(world()).similar(item, k)
