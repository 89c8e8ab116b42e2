"""Attributes as arrays, the cleaning of the seed report S2, and the coding of a data set."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from recsys_core.datasets import Benchmark, MovieLens
from recsys_core.errors import StudyError
from recsys_core.features import clean_as_s2, encode, item_features, release_month, user_features
from recsys_core.models.attributes import standardised


@pytest.fixture
def small() -> MovieLens:
    """Three users and three rated movies; ids are not contiguous, rows not sorted, one movie is in no table."""
    ratings = pd.DataFrame(
        {
            "user_id": [30, 10, 30, 20],
            "item_id": [7, 7, 2, 9],
            "rating": [5.0, 0.5, 3.0, 4.0],
            "timestamp": [40, 30, 20, 10],
        }
    )
    movies = pd.DataFrame(
        {
            "item_id": [9, 2, 5],
            "title": ["Nine (1990)", "Two", "Five (1950)"],
            "year": pd.array([1990, pd.NA, 1950], dtype="Int64"),
            "genres": ["Drama|Action", "Drama", "Horror"],
            "release_date": ["05-Nov-1990", None, "01-Jan-1950"],
        }
    )
    users = pd.DataFrame(
        {
            "user_id": [20, 10, 30, 40],
            "age": [33, 18, 60, 5],
            "gender": ["F", "M", "M", "F"],
            "occupation": ["other", "artist", "other", "child"],
            "zip_code": ["1", "2", "3", "4"],
        }
    )
    return MovieLens("small", ratings, movies, users, None, (0.5, 5.0), True, None, "test", "0" * 64)


def test_coding_keeps_the_order_of_rows_and_sorts_the_ids(small: MovieLens) -> None:
    rows, vocabulary = encode(small)
    assert vocabulary.user_ids.tolist() == [10, 20, 30]
    assert vocabulary.item_ids.tolist() == [2, 7, 9]
    assert rows.users.tolist() == [2, 0, 2, 1]
    assert rows.items.tolist() == [1, 1, 0, 2]
    assert rows.ratings.tolist() == [5, 0.5, 3, 4]
    assert rows.times.tolist() == [40, 30, 20, 10]
    assert (rows.n_users, rows.n_items) == (3, 3)


def test_coding_accepts_text_ids(small: MovieLens) -> None:
    ratings = small.ratings.assign(user_id=["u3", "u1", "u3", "u2"], item_id=["b", "b", "a", "c"])
    rows, vocabulary = encode(replace(small, ratings=ratings, movies=None, users=None))
    assert vocabulary.user_codes("u3").tolist() == [2]
    assert rows.items.tolist() == [1, 1, 0, 2]
    assert rows.user_features is None
    assert rows.item_features is None


def test_item_features_stand_in_the_order_of_the_catalogue(small: MovieLens) -> None:
    """Items 2 (no year), 7 (in no table) and 9; Horror belongs to a movie that nobody rated."""
    features = item_features(small, np.array([2, 7, 9]))
    assert features is not None
    assert features.columns == ("genre_Action", "genre_Drama", "year", "month")
    assert features.values.tolist() == [[0, 1, 1990, 11], [0, 0, 1990, 11], [1, 1, 1990, 11]]
    assert features.values.dtype == np.float32


def test_a_missing_year_becomes_the_median_of_the_others(small: MovieLens) -> None:
    features = item_features(small, np.array([2, 5, 9]))
    assert features is not None
    assert features.select("year").ravel().tolist() == [1970, 1950, 1990]


def test_movies_without_any_year_have_no_year_column_and_no_nan(small: MovieLens) -> None:
    assert small.movies is not None
    bare = small.movies.assign(year=pd.array([pd.NA] * 3, dtype="Int64")).drop(columns="release_date")
    features = item_features(replace(small, movies=bare), np.array([2, 7, 9]))
    assert features is not None
    assert features.columns == ("genre_Action", "genre_Drama")
    assert np.isfinite(features.values).all()


def test_user_features_stand_in_the_order_of_the_catalogue(small: MovieLens) -> None:
    features = user_features(small, np.array([10, 20, 30]))
    assert features is not None
    assert features.columns == ("age", "gender", "occupation_artist", "occupation_other", "zip")
    assert features.values.tolist() == [[18, 1, 1, 0, 2], [33, 0, 0, 1, 1], [60, 1, 0, 1, 3]]


def test_zip_codes_are_numbered_from_one_in_ascending_order_and_a_missing_one_is_zero(small: MovieLens) -> None:
    assert small.users is not None
    users = small.users.assign(
        zip_code=["55105", "V3N4P", None, "00000"]
    )  # of users 20, 10, 30 and 40, who rated nothing
    rows, vocabulary = encode(replace(small, users=users))
    assert rows.user_features is not None
    assert vocabulary.zip_codes.tolist() == ["55105", "V3N4P"]
    assert rows.user_features.select("zip").ravel().tolist() == [2, 1, 0]


def test_a_typed_zip_code_has_the_number_that_the_features_hold(small: MovieLens) -> None:
    vocabulary = encode(small)[1]
    assert vocabulary.zip_numbers(["3", "1", "4", "", "99999"]).tolist() == [3, 1, 0, 0, 0]
    assert vocabulary.zip_numbers("2").tolist() == [2]
    assert encode(replace(small, users=None))[1].zip_numbers("2").tolist() == [0]


def test_a_user_with_ratings_but_no_attributes_is_named(small: MovieLens) -> None:
    with pytest.raises(StudyError, match="User 11 has ratings but no row in the user table: add one"):
        user_features(small, np.array([10, 11]))


def test_release_month_reads_the_english_dates_and_leaves_gaps() -> None:
    dates = pd.DataFrame({"release_date": ["01-Jan-1995", "31-Dec-1922", None, "", "4-Feb-1971"]})
    assert release_month(dates).fillna(0).tolist() == [1, 12, 0, 0, 2]


def test_standardisation_knows_nothing_of_items_without_training_rows(small: MovieLens) -> None:
    """Weighted by training rows: a value that no training row has, however extreme, moves neither mean nor deviation."""
    features = encode(small)[0].item_features
    assert features is not None
    values = features.values.copy()
    values[:, 2] = [1950, 1990, 9999]
    mean, deviation = standardised(replace(features, values=values), np.array([1, 3, 0]))
    assert mean[2] == pytest.approx(1980)
    assert deviation[2] == pytest.approx(np.std([1950, 1990, 1990, 1990]), rel=1e-6)


def test_a_constant_column_is_not_divided_by_zero(small: MovieLens) -> None:
    features = encode(small)[0].item_features
    assert features is not None
    mean, deviation = standardised(features, np.array([1, 1, 1]))
    assert deviation[2] == 1
    assert mean[2] == 1990
    none = replace(features, values=np.zeros((3, 0), np.float32), columns=())
    assert [part.shape for part in standardised(none, np.array([1, 1, 1]))] == [(0,), (0,)]


def test_the_features_of_ml_100k_have_the_published_columns(ml_100k: MovieLens) -> None:
    rows, vocabulary = encode(ml_100k)
    assert (len(rows), rows.n_users, rows.n_items) == (100_000, 943, 1682)
    assert rows.item_features is not None
    assert rows.user_features is not None
    assert rows.item_features.select("genre_").shape == (1682, 19)
    assert rows.item_features.columns[-2:] == ("year", "month")
    assert rows.user_features.select("occupation_").shape == (943, 21)
    assert (rows.user_features.select("occupation_").sum(axis=1) == 1).all()
    assert int(rows.user_features.select("gender").sum()) == 670
    assert rows.user_features.select("zip").max() == len(vocabulary.zip_codes) == 795
    assert rows.item_features.values[vocabulary.item_codes(1)[0], -2:].tolist() == [1995, 1]
    assert np.isfinite(rows.item_features.values).all()


def test_the_cleaning_of_s2_removes_335_movies_and_776_ratings_of_ml_100k(ml_100k: MovieLens) -> None:
    """Two movies are flagged `unknown`, but lack a date or ratings as well, so that the third step finds none."""
    cleaned, steps = clean_as_s2(ml_100k)
    assert [(step.movies_removed, step.ratings_removed) for step in steps] == [(1, 9), (333, 713), (0, 0), (1, 54)]
    assert cleaned.movies is not None
    assert ml_100k.movies is not None
    assert (len(cleaned.movies), len(cleaned.ratings)) == (1347, 99_224)
    assert (len(ml_100k.movies), len(ml_100k.ratings)) == (1682, 100_000)


def test_the_cleaning_of_s2_equals_one_filter_over_all_its_rules(ml_100k: MovieLens) -> None:
    cleaned, _ = clean_as_s2(ml_100k)
    movies = ml_100k.movies
    assert movies is not None
    counts = movies["item_id"].map(ml_100k.ratings.groupby("item_id").size())
    good = movies["release_date"].notna() & (counts >= 5) & (movies["genres"] != "unknown") & (movies["year"] >= 1930)
    expected = ml_100k.ratings[ml_100k.ratings["item_id"].isin(movies.loc[good.fillna(False), "item_id"])]
    pd.testing.assert_frame_equal(cleaned.ratings, expected.reset_index(drop=True))
    assert cleaned.ratings.groupby("item_id").size().min() >= 5


def test_the_cleaning_of_s2_refuses_data_without_release_dates(small: MovieLens) -> None:
    assert small.movies is not None
    for movies in (None, small.movies.drop(columns="release_date")):
        with pytest.raises(StudyError, match="needs ML-100K's movie table with release dates; small has none"):
            clean_as_s2(replace(small, movies=movies))


def test_a_benchmark_whose_training_rows_have_no_stars_has_none_in_its_held_out_rows(small: MovieLens) -> None:
    benchmark = Benchmark(np.array([False, False, True, True]), np.zeros((2, 99), np.int64))
    seen = replace(small, ratings=small.ratings.assign(rating=[1.0, 1.0, 5.0, 3.0]), benchmark=benchmark)
    assert encode(replace(seen, explicit=False))[0].ratings.tolist() == [1, 1, 1, 1]
    assert encode(replace(seen, explicit=True))[0].ratings.tolist() == [1, 1, 5, 3]
    assert encode(replace(small, explicit=False))[0].ratings.tolist() == [5, 0.5, 3, 4]


def test_users_without_any_occupation_have_no_column_of_it(small: MovieLens) -> None:
    assert small.users is not None
    nothing = small.users.assign(occupation=pd.Series([None] * 4, dtype="str"))
    features = user_features(replace(small, users=nothing), np.array([10, 20, 30]))
    assert features is not None
    assert features.columns == ("age", "gender", "zip")
