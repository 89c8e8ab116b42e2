"""Lists for a person: the films that a model would show to a user of the data, or to somebody new."""

import numpy as np
import pandas as pd
import torch

from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.evaluate import top_k
from recsys_core.interactions import Features, Interactions, Vocabulary
from recsys_core.models.base import Recommender
from recsys_core.models.registry import names_with

LIKED = 4.0  # stars


def recommend(
    model: Recommender, data: MovieLens, vocabulary: Vocabulary, user_id: object, k: int = 10
) -> pd.DataFrame:
    """The k best films for a known user, without those that `data` says they have rated; shorter if fewer are left.

    Columns: item_id, title (where the data has titles), stars or score, and for models that know users by their ratings `because`:
    the film that the user liked and whose audience is most like the recommended one's. The index is the rank; ties go to the lower
    item id. Raises StudyError for an unknown user and for k outside the catalogue.
    """
    user = int(vocabulary.user_codes(user_id)[0])
    rated = vocabulary.item_codes(data.ratings.loc[data.ratings["user_id"] == vocabulary.user_ids[user], "item_id"])
    items, scores = _best(model, model.score(torch.tensor([user])), rated, k)
    if not len(items):
        raise StudyError(f"User {user_id} has rated every film of the catalogue: there is nothing left to recommend.")
    if model.rates:
        scores = model.predict(torch.full((len(items),), user), torch.as_tensor(items)).cpu().numpy()
    table = _table(model, data, vocabulary, items, scores)
    if model.own_traits.personalised and (model.own_traits.uses_ids or model.own_traits.folds_in):
        table["because"] = titles_of(data, vocabulary, reasons(model.train_, user, items))
    return table


def recommend_new(
    model: Recommender, data: MovieLens, vocabulary: Vocabulary, features: Features, k: int = 10
) -> pd.DataFrame:
    """The k best films for somebody of whom only (1, F) attributes are known; columns as in `recommend`, without reasons.

    Raises StudyError for a model that does not use attributes and for k outside the catalogue.
    """
    require_features(model)
    nobody, nothing = torch.tensor([0]), model.train_.take(np.zeros(0, np.int64))
    items, scores = _best(model, model.score(nobody, nothing, features), np.zeros(0, np.int64), k)
    if model.rates:
        same = features.take(np.zeros(len(items), np.int64))
        scores = model.predict(nobody.repeat(len(items)), torch.as_tensor(items), nothing, same).cpu().numpy()
    return _table(model, data, vocabulary, items, scores)


def require_features(model: Recommender) -> None:
    """Refuse, with a StudyError, a model that cannot answer from attributes."""
    if not model.own_traits.uses_features:
        kind = type(model).__name__
        raise StudyError(
            f"{kind} knows people by their ratings alone: choose a user of the data, or a model that uses attributes, "
            f"one of {', '.join(names_with(uses_features=True))}."
        )


def reasons(train: Interactions, user: int, items: np.ndarray) -> np.ndarray:
    """(K,) for each of (K,) items the item that the user liked (4 stars or more, if there are stars), with the raters most alike.

    -1 where nobody rated both. Alike by the cosine of two binary columns: Sarwar et al. (2001), item-based collaborative filtering.
    """
    mine = train.users == user
    liked = np.unique(train.items[mine & ((train.ratings >= LIKED) | (not train.explicit))])
    if not len(liked):
        return np.full(len(items), -1)
    columns, norms = train.binary.tocsc(), np.sqrt(np.maximum(train.item_counts, 1))
    together = (columns[:, items].T @ columns[:, liked]).toarray() / norms[liked]
    return np.where(together.max(axis=1) > 0, liked[together.argmax(axis=1)], -1)


def _best(model: Recommender, scores: torch.Tensor, rated: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best items that are not rated, and their scores, from (1, I) scores."""
    scores = scores.cpu().clone()
    scores[0, torch.as_tensor(rated)] = -torch.inf
    best = top_k(scores, k, type(model).__name__)[0]
    items = best[best >= 0].numpy()
    return items, scores[0, items].numpy()


def _table(
    model: Recommender, data: MovieLens, vocabulary: Vocabulary, items: np.ndarray, scores: np.ndarray
) -> pd.DataFrame:
    table = pd.DataFrame({"item_id": vocabulary.item_ids[items]})
    if data.movies is not None:
        table["title"] = titles_of(data, vocabulary, items)
    name, digits = ("stars", 2) if model.rates else ("score", 4)
    table[name] = scores.round(digits)
    return table.set_index(pd.Index(np.arange(1, len(items) + 1), name="rank"))


def titles_of(data: MovieLens, vocabulary: Vocabulary, items: np.ndarray) -> np.ndarray:
    """Titles of item codes, their ids where the data has no title, and an empty text for -1."""
    ids = vocabulary.item_ids[items]
    titles = ids.astype(str)
    if data.movies is not None:
        known = data.movies.set_index("item_id")["title"].reindex(ids).to_numpy(object)
        titles = np.where(pd.isna(known), titles, known)
    return np.where(items >= 0, titles, "")
