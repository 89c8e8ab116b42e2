"""Lists for everybody at once, as one table and as a file of it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from recsys_core.app.recommend import BestItems, as_in_file, best_items, titles_of
from recsys_core.budget import rows_at_once
from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError, at_least
from recsys_core.files import atomic_path
from recsys_core.interactions import Interactions, Vocabulary
from recsys_core.models.base import Recommender
from recsys_core.models.storage import check_place

NOBODY = np.zeros(0, np.int64)
FORMATS = {
    ".parquet": lambda table, path: table.to_parquet(path, index=False),
    ".csv": lambda table, path: table.to_csv(path, index=False),
}


def recommend_all(
    model: Recommender,
    data: MovieLens,
    vocabulary: Vocabulary,
    rated: Interactions,
    k: int = 10,
    users: object = None,
    users_at_once: int | None = None,
) -> pd.DataFrame:
    """The k best items of every user, or of these user ids in their order, without those that `rated` says they have rated.

    Columns: user_id, rank (from 1), item_id, title (where the data has titles), score: what the model expects the user to give, on
    the scale of the data's own file, or, of a model that only ranks, its score. Ties go to the lower item id. A user has fewer
    rows where fewer items are left, and none where none is. Users without training rows are answered from their attributes or with
    the model's fallback. `users_at_once` are scored together, as many as fit a block of memory unless said. Raises StudyError
    for an unknown user, k outside the catalogue and `users_at_once` below 1.
    """
    at_least("users_at_once", users_at_once, 1)
    asked = np.arange(len(vocabulary.user_ids)) if users is None else vocabulary.user_codes(users)
    found = [(places, _best_of(model, asked[places], rated, k)) for places in _blocks(model, asked, users_at_once)]
    found = found or [(NOBODY, BestItems(NOBODY, NOBODY, NOBODY, NOBODY))]
    places = np.concatenate([places[best.rows] for places, best in found])
    order = np.argsort(places, kind="stable")  # the users' own order; a list keeps its own

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(best, name) for _, best in found])[order]

    items = column("items")
    table = pd.DataFrame({"user_id": vocabulary.user_ids[asked[places[order]]], "rank": column("ranks")})
    table["item_id"] = vocabulary.item_ids[items]
    if data.movies is not None:
        table["title"] = titles_of(data, vocabulary, np.arange(len(vocabulary.item_ids)))[items]
    return table.assign(score=as_in_file(model, data, column("values").astype(np.float64)))


def _blocks(model: Recommender, users: np.ndarray, size: int | None) -> Iterator[np.ndarray]:
    """Positions of (B,) users to be answered together, never such with training rows beside such without; a bar in a terminal."""
    known = model.train_.user_counts[users] > 0
    step = size or rows_at_once(model.train_.n_items)
    with tqdm(total=len(users), desc="Lists", unit="user", leave=False, disable=None) as progress:
        for group in (np.flatnonzero(known), np.flatnonzero(~known)):
            for first in range(0, len(group), step):
                yield group[first : first + step]
                progress.update(min(step, len(group) - first))


def _best_of(model: Recommender, users: np.ndarray, rated: Interactions, k: int) -> BestItems:
    told, features = model.told_of(users, model.train_, None)
    seen = rated.binary[users]
    pairs = np.repeat(np.arange(len(users)), np.diff(seen.indptr)), seen.indices.astype(np.int64)
    return best_items(model, users, told, features, pairs, k)


def check_lists_place(path: Path) -> None:
    """Raise StudyError for a file of lists that is of another kind than `FORMATS`, and for one that could not be written now."""
    if path.suffix not in FORMATS:
        raise StudyError(f"Lists cannot be saved as {path}: give a file that ends in {' or '.join(FORMATS)}.")
    check_place(path, "The lists")


def write_lists(table: pd.DataFrame, path: Path) -> None:
    """Write what `recommend_all` gave as parquet or CSV, by the end of the path; the file is whole or not there."""
    check_lists_place(path)
    with atomic_path(path) as temporary:
        FORMATS[path.suffix](table, temporary)
