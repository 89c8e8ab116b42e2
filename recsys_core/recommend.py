"""Lists for a person: the films that a model would show to a user who is in the data."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.evaluate import top_k
from recsys_core.interactions import Vocabulary
from recsys_core.models.base import Recommender


def recommend(
    model: Recommender, data: MovieLens, vocabulary: Vocabulary, user_id: object, k: int = 10
) -> pd.DataFrame:
    """The k best films for a known user, without those that `data` says they have rated; shorter if fewer are left.

    Columns: item_id, title (where the data has titles) and stars or score; the index is the rank. Ties go to the lower item id.
    Raises StudyError for an unknown user and for k outside the catalogue.
    """
    user = int(vocabulary.user_codes(user_id)[0])
    with torch.inference_mode():
        scores = model.score(torch.tensor([user])).cpu()
    scores = scores.clone()
    rated = data.ratings.loc[data.ratings["user_id"] == vocabulary.user_ids[user], "item_id"]
    scores[0, torch.as_tensor(vocabulary.item_codes(rated.to_numpy()))] = -torch.inf
    best = top_k(scores, k)[0]
    items = best[best >= 0].numpy()
    if not len(items):
        raise StudyError(f"User {user_id!r} has rated every film of the catalogue: there is nothing left to recommend.")
    table = pd.DataFrame({"item_id": vocabulary.item_ids[items]})
    if data.movies is not None:
        table["title"] = data.movies.set_index("item_id")["title"].reindex(table["item_id"]).to_numpy()
    if model.traits.predicts_ratings:
        stars = model.predict(torch.full((len(items),), user), torch.as_tensor(items))
        table["stars"] = stars.cpu().numpy().round(2)
    else:
        table["score"] = scores[0, items].numpy().round(4)
    return table.set_index(pd.Index(np.arange(1, len(items) + 1), name="rank"))
