"""Attributes of users and movies as arrays with named columns, and the cleaning of the reports.

Values are raw (years, ages, flags); a model that needs them on one scale standardises them by its training rows.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.interactions import Features, Interactions, Vocabulary
from recsys_core.releases.cache import frames_sha256


def _flags(texts: pd.Series, prefix: str) -> pd.DataFrame:
    """One 0/1 column per label of `|`-separated texts, in alphabetical order."""
    # In arrow text "" is a label.
    return texts.str.get_dummies(sep="|").drop(columns="", errors="ignore").sort_index(axis=1).add_prefix(prefix)


def _as_features(table: pd.DataFrame) -> Features:
    return Features(np.ascontiguousarray(table.to_numpy(np.float32)), tuple(table.columns))


def release_month(movies: pd.DataFrame) -> pd.Series:
    """Month (1 to 12) of `release_date` texts such as 01-Jan-1995, missing where there is none."""
    return pd.to_datetime(movies["release_date"], format="%d-%b-%Y", errors="coerce").dt.month


def item_features(data: MovieLens, item_ids: np.ndarray) -> Features | None:
    """Columns `genre_*` (0/1), `year` and, for ML-100K, `month`, one row per item id.

    A missing year or month becomes the median of the others, and is no column where all are missing; an item without a row in
    the movie table has no genres.
    """
    if data.movies is None:
        return None
    movies = data.movies.set_index("item_id").reindex(item_ids)
    table = _flags(movies["genres"].fillna(""), "genre_")
    table["year"] = movies["year"].astype("float64")
    if "release_date" in movies:
        table["month"] = release_month(movies)
    return _as_features(table.fillna(table.median()).dropna(axis=1))


def zip_codes(data: MovieLens, user_ids: np.ndarray) -> np.ndarray:
    """Return the distinct zip codes (whole texts) of these users, ascending; none without a user table."""
    if data.users is None:
        return np.empty(0, object)
    mine = data.users.loc[data.users["user_id"].isin(user_ids), "zip_code"]
    return np.sort(mine.dropna().astype(str).unique().astype(object))


def user_features(data: MovieLens, user_ids: np.ndarray) -> Features | None:
    """Columns `age` (years), `gender` (F = 0, M = 1), `occupation_*` (0/1) and `zip`, one row per user id; None without users.

    `zip` numbers the distinct zip codes of these users, in ascending order, from 1; 0 is a missing one (see `Vocabulary`).
    """
    if data.users is None:
        return None
    users = data.users.set_index("user_id").reindex(user_ids)
    if users["age"].isna().any():
        missing = users.index[users["age"].isna()].tolist()[0]
        raise StudyError(f"User {missing!r} has ratings but no row in the user table: add one with all attributes.")
    table = pd.DataFrame({"age": users["age"].astype("float64"), "gender": (users["gender"] == "M").astype(float)})
    table = table.join(_flags(users["occupation"].fillna(""), "occupation_"))
    table["zip"] = Vocabulary(user_ids, np.empty(0), zip_codes(data, user_ids)).zip_numbers(users["zip_code"])
    return _as_features(table)


@dataclass(frozen=True)
class CleaningStep:
    """What one step of a cleaning took away."""

    step: str
    movies_removed: int
    ratings_removed: int


def clean_as_s2(data: MovieLens) -> tuple[MovieLens, list[CleaningStep]]:
    """Clean ML-100K as report S2 does, and say what each step removes.

    Movies without a release date, with fewer than 5 ratings, without a genre (flagged `unknown`) or released before 1930 go, with
    their ratings. The report drops rows with any missing value; taken over all columns that would be every movie, since
    `video_release_date` is empty throughout, so that only the columns that the model reads count here.
    """
    if data.movies is None or "release_date" not in data.movies:
        raise StudyError(f"The cleaning of S2 needs ML-100K's movie table with release dates; {data.name} has none.")
    movies, ratings, steps = data.movies, data.ratings, []
    counts = ratings["item_id"].value_counts().reindex(movies["item_id"]).fillna(0).to_numpy()
    conditions = {
        "no release date": movies["release_date"].isna() | movies["year"].isna(),
        "fewer than 5 ratings": pd.Series(counts < 5, index=movies.index),
        "no genre": movies["genres"].isin(["", "unknown"]),
        "released before 1930": (movies["year"] < 1930).fillna(False).astype(bool),
    }
    for step, condition in conditions.items():
        gone = movies.loc[condition.reindex(movies.index), "item_id"]
        affected = ratings["item_id"].isin(gone)
        steps.append(CleaningStep(step, len(gone), int(affected.sum())))
        movies, ratings = movies[~movies["item_id"].isin(gone)], ratings[~affected]
    ratings, movies = ratings.reset_index(drop=True), movies.reset_index(drop=True)
    sha256 = frames_sha256({"ratings": ratings, "movies": movies})
    return replace(data, ratings=ratings, movies=movies, sha256=sha256), steps


def encode(data: MovieLens) -> tuple[Interactions, Vocabulary]:
    """Code a data set: rows keep their order, the catalogue holds the users and items that were rated, with their features.

    Where training rows have no stars, the held-out rows of a benchmark have none either: one scale, or no opinions at all.
    """
    user_ids, users = np.unique(data.ratings["user_id"].to_numpy(), return_inverse=True)
    item_ids, items = np.unique(data.ratings["item_id"].to_numpy(), return_inverse=True)
    ratings = data.ratings["rating"].to_numpy(np.float32)
    if not data.explicit and data.benchmark is not None:
        ratings = np.full_like(ratings, ratings[~data.benchmark.test][0])
    rows = Interactions(
        users=users.astype(np.int64),
        items=items.astype(np.int64),
        ratings=ratings,
        times=data.ratings["timestamp"].to_numpy(np.int64),
        n_users=len(user_ids),
        n_items=len(item_ids),
        user_features=user_features(data, user_ids),
        item_features=item_features(data, item_ids),
    )
    return rows, Vocabulary(user_ids, item_ids, zip_codes(data, user_ids))
