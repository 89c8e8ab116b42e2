"""Coded rows: catalogue checks, views and vocabularies."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import make_interactions, random_interactions

from recsys_core.errors import StudyError
from recsys_core.interactions import Features, Vocabulary


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 0), (1, 5)], r"Row 1: item code 5 is outside the catalogue of 5 items \(allowed: 0 to 4\)"),
        ([(0, 0), (0, 1), (3, 1)], r"Row 2: user code 3 is outside the catalogue of 3 users \(allowed: 0 to 2\)"),
        ([(0, -1)], "Row 0: item code -1 is outside"),
        ([(-2, 0)], "Row 0: user code -2 is outside"),
    ],
)
def test_a_code_outside_the_catalogue_is_refused_and_its_row_named(rows: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        make_interactions(rows, 3, 5)


def test_counts_and_matrices_equal_plain_loops() -> None:
    rows = random_interactions(3, 8, 6, 25)
    binary, stars = np.zeros((8, 6)), np.zeros((8, 6))
    for user, item, rating in zip(rows.users, rows.items, rows.ratings):
        binary[user, item], stars[user, item] = 1, rating
    assert (rows.binary.toarray() == binary).all()
    assert (rows.stars.toarray() == stars).all()
    assert rows.binary.has_sorted_indices
    assert rows.user_counts.tolist() == binary.sum(axis=1).tolist()
    assert rows.item_counts.tolist() == binary.sum(axis=0).tolist()
    assert rows.pair_keys.tolist() == sorted((rows.users * 6 + rows.items).tolist())
    assert len(rows) == 25


@pytest.mark.parametrize("picked", [np.array([True, False, True]), np.array([2, 0])])
def test_taking_rows_keeps_the_catalogue_and_its_features_and_forgets_old_counts(picked: np.ndarray) -> None:
    rows = make_interactions([(0, 0), (1, 1), (1, 2)], 4, 3, ratings=[1, 2, 3], times=[7, 8, 9])
    assert rows.item_counts.tolist() == [1, 1, 1]
    part = rows.take(picked)
    assert (part.n_users, part.n_items) == (4, 3)
    assert part.item_counts.tolist() == [1, 0, 1]
    assert sorted(zip(part.users, part.items, part.ratings, part.times)) == [(0, 0, 1, 7), (1, 2, 3, 9)]


def test_features_are_selected_by_prefix_in_their_order() -> None:
    features = Features(np.arange(6.0).reshape(2, 3), ("genre_b", "year", "genre_a"))
    assert features.select("genre_").tolist() == [[0, 2], [3, 5]]
    assert features.select("nothing").shape == (2, 0)


def test_a_vocabulary_codes_one_id_or_many_in_the_order_asked() -> None:
    vocabulary = Vocabulary(np.array([3, 5, 9]), np.array(["a", "b"], dtype=object))
    assert vocabulary.user_codes([9, 3, 9]).tolist() == [2, 0, 2]
    assert vocabulary.user_codes(5).tolist() == [1]
    assert vocabulary.item_codes("b").tolist() == [1]


@pytest.mark.parametrize("unknown", [4, "x"])
def test_an_unknown_user_is_named_with_the_ids_there_are(unknown: object) -> None:
    vocabulary = Vocabulary(np.array([3, 5, 9]), np.array([1]))
    with pytest.raises(StudyError, match=rf"Unknown user id {unknown!r}: the data has 3 user ids from 3 to 9"):
        vocabulary.user_codes([unknown])


def test_an_unknown_movie_is_called_a_movie() -> None:
    with pytest.raises(StudyError, match=r"Unknown movie id 'z': the data has 2 movie ids from a to b"):
        Vocabulary(np.array([1]), np.array(["a", "b"])).item_codes(["a", "z"])


def test_the_hash_of_rows_changes_with_pairs_ratings_and_their_order() -> None:
    rows = make_interactions([(0, 0), (1, 1), (1, 2)], 4, 3, ratings=[1, 2, 3])
    others = [
        rows.take(np.array([1, 0, 2])),
        make_interactions([(0, 0), (1, 1), (1, 0)], 4, 3, ratings=[1, 2, 3]),
        make_interactions([(0, 0), (1, 1), (1, 2)], 4, 3, ratings=[1, 2, 4]),
    ]
    assert rows.sha256 == rows.take(np.arange(3)).sha256
    assert len({rows.sha256, *(other.sha256 for other in others)}) == 4
