"""Content-based recommendation, section 4.3 of report S4: films are their genres, users the mean of the films that they rated.

    v_i = r̄_i · x_i                                            x_i the content of film i, r̄_i its mean rating in training rows
    p_u = Σ_j w_uj v_j / Σ_j w_uj                              over the films j of the history; w_uj = r_uj, or 1
    score(u, i) = p_u·v_i   or   cos(p_u, v_i)   or   -‖p_u - v_i‖

The report has the film vectors and "films like this one", with dot product and cosine; the users' profiles are this study's. The
dot product favours films with many genres, whatever they share; the cosine does not, and does not see a film's own r̄_i either. No
paper has figures; it should rank below popularity on films that people know, and answer for those that nobody has rated.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions
from recsys_core.models.attributes import content
from recsys_core.models.base import FitTask, Recommender
from recsys_core.models.registry import recommender
from recsys_core.models.settings import setting
from recsys_core.models.traits import Traits

CONTENT = ("genre_", "title_", "tag_", "content_")  # beginnings of columns on one scale


@recommender("content_based", title="Content-based", family="content")
@dataclass(kw_only=True)
class ContentBased(Recommender):
    """Ranks films by their similarity with the mean of the user's; see the equations of the module.

    `columns` are the beginnings of the item features that are read, `rated` weights a film's by r̄_i, `profile` says what a film
    counts in a user's. A film without training rows has the mean of all ratings as r̄_i. A film without content is the vector 0:
    it has similarity 0 with all, and the distance ‖p_u‖. A user of such films alone ranks all films alike, except by distance.
    """

    traits: ClassVar[Traits] = Traits(form="linear", folds_in=True, learns_from_stars=True, sees_genres_only=True)
    learnt: ClassVar[dict[str, type]] = {"mean_stars": np.ndarray}

    columns: tuple[str, ...] = setting(("genre_",), among=CONTENT, other=("content_",))
    similarity: str = setting("dot", among=("dot", "cosine", "euclidean"), search=["dot", "cosine", "euclidean"])
    profile: str = setting("rating", among=("rating", "plain"), search=["rating", "plain"])
    rated: bool = setting(True, search=[True, False])

    def _fit(self, task: FitTask) -> None:
        train = task.train
        content(train, self.columns)  # refused before anything is asked
        total = np.bincount(train.items, weights=train.ratings, minlength=train.n_items)
        counts = train.item_counts
        overall = train.ratings.astype(np.float64).mean()
        self.mean_stars = np.where(counts > 0, total / np.maximum(counts, 1), overall)

    def item_vectors(self) -> Tensor:
        """Return the (I, F) vectors v of the catalogue, float64, of any length; 0 for a film without content."""
        flags = content(self.train_, self.columns).values.astype(np.float64)
        return torch.from_numpy(flags * self.mean_stars[:, None] if self.rated else flags)

    def profiles(self, users: Tensor, history: Interactions) -> Tensor:
        """Return the (B, F) profiles p, float64, of users with a history."""
        rows = (history.stars if self.profile == "rating" else history.binary)[users.cpu().numpy()].astype(np.float64)
        weights = np.asarray(rows.sum(axis=1))
        return torch.from_numpy((rows @ self.item_vectors().numpy()) / np.maximum(weights, 1e-9))

    def similar(self, item: int, k: int) -> tuple[Tensor, Tensor]:
        """Return the k films most like a film, without itself, and their similarity, best first; ties in the order of the codes.

        A negative distance where the similarity is the Euclidean one. Raises StudyError for an unknown film, and for k below 1 or
        above the number of other films.
        """
        n_items = self.train_.n_items
        if not 0 <= item < n_items or not 1 <= k < n_items:
            raise StudyError(
                f"item={item}, k={k}: the catalogue has the films 0 to {n_items - 1}, and {n_items - 1} others."
            )
        likeness = self._compared(self.item_vectors()[[item]])[0]
        likeness[item] = -torch.inf
        values, items = likeness.sort(descending=True, stable=True)
        return items[:k], values[:k]

    def _compared(self, vectors: Tensor) -> Tensor:
        """(B, I) similarities of (B, F) vectors with all films, float32, in which films alike in content are tied."""
        films = self.item_vectors()
        if self.similarity == "euclidean":
            return -torch.cdist(vectors, films).float()
        if self.similarity == "cosine":
            vectors, films = normalize(vectors, dim=1), normalize(films, dim=1)
        return (vectors @ films.T).float()

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return self._compared(self.profiles(users, history)).to(users.device)
