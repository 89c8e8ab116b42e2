"""Lists for a person: the films that a model would show to a user of the data, or to somebody new."""

from dataclasses import dataclass

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
    the film that the user liked and whose audience is most like the recommended one's. Of data whose file has another scale than
    stars, `rating` on the file's own scale stands in place of stars. The index is the rank; ties go to the lower item id. Raises
    StudyError for an unknown user and for k outside the catalogue.
    """
    user = vocabulary.user_codes(user_id)
    rated = vocabulary.item_codes(data.ratings.loc[data.ratings["user_id"] == vocabulary.user_ids[user[0]], "item_id"])
    told, features = model.told_of(user, model.train_, None)
    found = best_items(model, user, told, features, (np.zeros(len(rated), np.int64), rated), k)
    if not len(found.items):
        raise StudyError(f"User {user_id} has rated every film of the catalogue: there is nothing left to recommend.")
    table = _table(model, data, vocabulary, found)
    if model.own_traits.personalised and (model.own_traits.uses_ids or model.own_traits.folds_in):
        table["because"] = titles_of(data, vocabulary, reasons(model.train_, int(user[0]), found.items))
    return table


def recommend_new(
    model: Recommender, data: MovieLens, vocabulary: Vocabulary, features: Features, k: int = 10
) -> pd.DataFrame:
    """The k best films for somebody of whom only (1, F) attributes are known; columns as in `recommend`, without reasons.

    Raises StudyError for a model that does not use attributes and for k outside the catalogue.
    """
    require_features(model)
    nobody, nothing = np.zeros(1, np.int64), model.train_.take(np.zeros(0, np.int64))
    none = np.zeros(0, np.int64)
    return _table(model, data, vocabulary, best_items(model, nobody, nothing, features, (none, none), k))


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


@dataclass(frozen=True)
class BestItems:
    """The best items of some users, (N,) each: `rows` are positions of the users, whose items follow one another, best first.

    `ranks` count from 1; `values` are stars of a model that rates, else scores.
    """

    rows: np.ndarray
    ranks: np.ndarray
    items: np.ndarray
    values: np.ndarray


def best_items(
    model: Recommender,
    users: np.ndarray,
    told: Interactions | None,
    features: Features | None,
    rated: tuple[np.ndarray, np.ndarray],
    k: int,
) -> BestItems:
    """The k best items of each of (B,) users, fewer where fewer are left; ties go to the lower item code.

    `told` and `features` (B, F) are what the model is told of them, see `Recommender.score`; `rated` are the positions of users and
    the items of (R,) pairs that are in no list. Raises StudyError for k outside the catalogue and for scores that are no numbers.
    """
    codes = torch.as_tensor(users)
    scores = model.score(codes, told, features).cpu().clone()
    scores[torch.as_tensor(rated[0]), torch.as_tensor(rated[1])] = -torch.inf
    best = top_k(scores, k, type(model).__name__)
    rows, places = (best >= 0).nonzero(as_tuple=True)
    items = best[rows, places]
    values = scores[rows, items]
    if model.rates and len(items):
        same = None if features is None else features.take(rows.numpy())
        values = model.predict(codes[rows], items, told, same).cpu()
    return BestItems(rows.numpy(), places.numpy() + 1, items.numpy(), values.numpy())


def _table(model: Recommender, data: MovieLens, vocabulary: Vocabulary, found: BestItems) -> pd.DataFrame:
    table = pd.DataFrame({"item_id": vocabulary.item_ids[found.items]})
    if data.movies is not None:
        table["title"] = titles_of(data, vocabulary, found.items)
    stars = "stars" if (data.offset, data.unit) == (0, 1) else "rating"
    name, digits = (stars, 2) if model.rates else ("score", 4)
    table[name] = as_in_file(model, data, found.values).round(digits)
    return table.set_index(pd.Index(found.ranks, name="rank"))


def as_in_file(model: Recommender, data: MovieLens, values: np.ndarray) -> np.ndarray:
    """Stars of a model that rates as ratings on the scale of the data's own file; scores of others as they are."""
    return data.offset + data.unit * values if model.rates else values


def titles_of(data: MovieLens, vocabulary: Vocabulary, items: np.ndarray) -> np.ndarray:
    """Titles of item codes, their ids where the data has no title, and an empty text for -1."""
    ids = vocabulary.item_ids[items]
    titles = ids.astype(str)
    if data.movies is not None:
        known = data.movies.set_index("item_id")["title"].reindex(ids).to_numpy(object)
        titles = np.where(pd.isna(known), titles, known)
    return np.where(items >= 0, titles, "")
