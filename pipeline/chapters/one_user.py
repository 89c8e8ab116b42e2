"""One user of the test rows beside what a model would show them: what they watched, and which of the list they will watch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.evaluate import top_k
from recsys_core.interactions import Interactions, Vocabulary
from recsys_core.models.base import Recommender
from recsys_core.splits import Split


def usual_user(split: Split, least_test_rows: int = 5) -> int:
    """Code of the user whose number of known rows is the median of those with so many test rows; the first of equal ones."""
    known, asked = split.refit.user_counts, split.test.user_counts
    users = np.flatnonzero((asked >= min(least_test_rows, asked.max())) & (known > 0))
    if not len(users):
        raise StudyError("No user has both known and test rows: there is nobody to show a list to.")
    return int(users[np.argsort(known[users], kind="stable")[len(users) // 2]])


def names_of(items: np.ndarray, data: MovieLens, vocabulary: Vocabulary) -> np.ndarray:
    """Titles of item codes (K,), ids where the data has none."""
    ids = vocabulary.item_ids[items]
    if data.movies is None:
        return ids.astype(str)
    titles = data.movies.set_index("item_id")["title"].reindex(ids)
    return titles.fillna(pd.Series(ids.astype(str), titles.index)).to_numpy(object)


def introduced(split: Split, user: int, data: MovieLens, vocabulary: Vocabulary) -> str:
    """A sentence on a user: how many rows a model may read, and the films of their test rows, by stars."""
    known = int(split.refit.user_counts[user])
    hidden = watched(split.test, user, data, vocabulary, n=split.test.n_items)["film"]
    films = ", ".join(f"*{film}*" for film in hidden)
    return f"User {vocabulary.user_ids[user]}: {known} ratings that a model may read, {len(hidden)} in the test rows ({films})."


def watched(rows: Interactions, user: int, data: MovieLens, vocabulary: Vocabulary, n: int = 10) -> pd.DataFrame:
    """The films that a user rated best among these rows, the latest of equal ones first: columns film, stars."""
    mine = rows.take(rows.users == user)
    best = np.lexsort((-mine.times, -mine.ratings))[:n]
    return pd.DataFrame(
        {"film": names_of(mine.items[best], data, vocabulary), "stars": mine.ratings[best].astype(float)}
    )


def shown(
    model: Recommender, split: Split, user: int, data: MovieLens, vocabulary: Vocabulary, n: int = 10
) -> pd.DataFrame:
    """The first n films that a fitted model shows a user, without known ones: columns film, will watch (rated in the test rows)."""
    scores = model.score(torch.tensor([user])).cpu().clone()
    known = split.refit
    scores[0, torch.as_tensor(known.items[known.users == user])] = -torch.inf
    items = top_k(scores, min(n, scores.shape[1]), type(model).__name__)[0].numpy()
    items = items[items >= 0]
    later = np.isin(items, split.test.items[split.test.users == user])
    rank = pd.RangeIndex(1, len(items) + 1, name="rank")
    return pd.DataFrame({"film": names_of(items, data, vocabulary), "will watch": np.where(later, "yes", "")}, rank)


def side_by_side(
    models: Mapping[str, Recommender], split: Split, user: int, data: MovieLens, vocabulary: Vocabulary, n: int = 10
) -> pd.DataFrame:
    """What several models show a user, see `shown`: a column for each model, ✓ behind the films that they will watch."""
    lists = {name: shown(model, split, user, data, vocabulary, n) for name, model in models.items()}
    return pd.DataFrame({name: each["film"] + each["will watch"].replace("yes", " ✓") for name, each in lists.items()})
