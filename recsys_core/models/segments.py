"""Segments of users as recommenders: what is popular within the segment that a user belongs to."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from recsys_core.errors import StudyError
from recsys_core.interactions import Features, Interactions
from recsys_core.models.base import FitTask, Recommender
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting
from recsys_core.models.traits import Traits


def popularity_within(train: Interactions, segments: np.ndarray, n_segments: int, shrinkage: float) -> np.ndarray:
    """(S, I) chance that a user of a segment has an item, from (U,) segments, shrunk towards the chance over all users.

        p_si = (n_si + λ p_i) / (n_s + λ)        n_si users of segment s with item i, n_s users of segment s

    Users without training rows do not count.
    """
    cells = segments[train.users] * train.n_items + train.items
    counts = np.bincount(cells, minlength=n_segments * train.n_items).reshape(n_segments, train.n_items)
    sizes = np.bincount(segments[train.user_counts > 0], minlength=n_segments)[:, None]
    overall = train.item_counts / sizes.sum()
    weights = sizes + shrinkage
    # an empty segment without shrinkage is asked about by users who are told, not learnt
    return np.where(weights > 0, (counts + shrinkage * overall) / np.maximum(weights, 1e-9), overall)


@recommender("segment_popularity", title="Segments (genres)", family="counts")
@dataclass(kw_only=True)
class SegmentPopularity(Recommender):
    """Users are clustered by the genres of what they have seen; an item's score is its popularity in the user's cluster.

    A user's profile is, genre by genre, the share of their films that carry the genre (`genre_*` of the item features without
    `genre_unknown`), less its mean p over training users and in units of √p(1 - p), the deviation of a single film: a genre counts
    by how much more users differ in it than chance. k-means (Lloyd 1982) makes `n_segments` of the training profiles, and
    popularity is counted within each, see `popularity_within`. A history gives a profile and so a segment. Without genres in the
    catalogue there is one segment, which is plain popularity. Ratings are not read.
    """

    traits: ClassVar[Traits] = Traits(form="counts", stochastic=True, folds_in=True, sees_genres_only=True)
    learnt: ClassVar[dict[str, type]] = dict.fromkeys(("mean", "scale", "centres", "scores"), np.ndarray)

    n_segments: int = setting(6, least=1, search=between(2, 40, log=True), fast=5, other=3)
    shrinkage: float = setting(10.0, least=0, search=between(0.1, 100.0, log=True), other=2.0)

    def _fit(self, task: FitTask) -> None:
        from sklearn.cluster import KMeans  # takes a second to load, which only this model needs

        train, trained = task.train, np.flatnonzero(task.train.user_counts)
        self.mean = self._shares(train, trained).mean(axis=0)
        self.scale = np.sqrt(np.maximum(self.mean * (1 - self.mean), 1e-9))
        profiles = self.profiles(trained, train)
        n_clusters = min(self.n_segments, len(np.unique(profiles, axis=0)))
        self.centres = KMeans(n_clusters, n_init=10, random_state=task.seed).fit(profiles).cluster_centers_
        segments = np.zeros(train.n_users, np.int64)
        segments[trained] = self.segments(trained, train)
        self.scores = popularity_within(train, segments, n_clusters, self.shrinkage).astype(np.float32)

    def _shares(self, history: Interactions, users: np.ndarray) -> np.ndarray:
        """(B, F) share of each user's films that carry a genre; one column of ones where there are no genres."""
        features = self.train_.item_features or Features(np.zeros((history.n_items, 0)), ())
        named = [column.startswith("genre_") and column != "genre_unknown" for column in features.columns]
        genres = features.values[:, named] if any(named) else np.ones((history.n_items, 1))
        return np.asarray(history.binary[users] @ genres.astype(np.float64)) / history.user_counts[users, None]

    def profiles(self, users: np.ndarray, history: Interactions) -> np.ndarray:
        """(B, F) profiles of users who have rows in `history`."""
        return (self._shares(history, users) - self.mean) / self.scale

    def segments(self, users: np.ndarray, history: Interactions) -> np.ndarray:
        """(B,) segment of users who have rows in `history`: the centre nearest to their profile."""
        profiles = self.profiles(users, history)
        return ((profiles[:, None] - self.centres) ** 2).sum(axis=2).argmin(axis=1)

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return torch.from_numpy(self.scores[self.segments(users.cpu().numpy(), history)])


@recommender("demographic_popularity", title="Segments (age, gender)", family="counts")
@dataclass(kw_only=True)
class DemographicPopularity(Recommender):
    """Popularity among users of the same age group and gender, see `popularity_within`.

    An age group starts at each of `age_limits` (years; the default are the groups of MovieLens 1M). It answers for a user without
    history from the attributes `age` and `gender`, and is not personalised: two users of a segment get the same scores.
    Ratings are not read. Raises StudyError for training rows without these two attributes.
    """

    traits: ClassVar[Traits] = Traits(form="counts", personalised=False, uses_features=True)
    learnt: ClassVar[dict[str, type]] = {"scores": np.ndarray}

    age_limits: tuple[int, ...] = setting((18, 25, 35, 45, 50, 56), least=0, other=(30, 60))
    shrinkage: float = setting(10.0, least=0, other=2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if list(self.age_limits) != sorted(set(self.age_limits)):
            raise StudyError(f"age_limits={self.age_limits}: give different ages in ascending order.")

    def _fit(self, task: FitTask) -> None:
        features = task.train.user_features
        if features is None or not {"age", "gender"} <= set(features.columns):
            raise StudyError("Segments by age and gender need user features `age` and `gender`, which this data lacks.")
        n_segments = 2 * (len(self.age_limits) + 1)
        table = popularity_within(task.train, self.segments(features), n_segments, self.shrinkage)
        self.scores = table.astype(np.float32)

    def segments(self, features: Features) -> np.ndarray:
        """(B,) segment of users with these attributes: an even number for women, an odd one for men."""
        age, gender = (features.values[:, features.columns.index(name)] for name in ("age", "gender"))
        return 2 * np.searchsorted(self.age_limits, age, side="right") + gender.astype(np.int64)

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        features = self.train_.user_features
        assert features is not None
        return torch.from_numpy(self.scores[self.segments(features.take(users.cpu().numpy()))])

    def _cold_scores(self, users: Tensor, features: Features | None) -> Tensor:
        if features is None:
            return super()._cold_scores(users, features)
        self._check_columns(features)
        return torch.from_numpy(self.scores[self.segments(features)]).to(users.device)
