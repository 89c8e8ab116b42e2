"""Popularity within segments: counted by hand, on planted groups and against plain popularity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from boards import rows_of

from recsys_core.errors import StudyError
from recsys_core.interactions import Features, Interactions
from recsys_core.models.baselines import Popularity
from recsys_core.models.segments import DemographicPopularity, SegmentPopularity, popularity_within

N_USERS, N_ITEMS = 40, 30


def planted(genres: bool = True) -> Interactions:
    """Users 0 to 19 see mostly items of genre x (0 to 14), users 20 to 39 of genre y; the last user has no rows."""
    generator = np.random.default_rng(0)
    own = np.arange(N_USERS)[:, None] // 20 == np.arange(N_ITEMS) // 15
    seen = generator.random((N_USERS, N_ITEMS)) < np.where(own, 0.6, 0.1)
    seen[-1] = False
    users, items = seen.nonzero()
    flags = np.column_stack([np.arange(N_ITEMS) < 15, np.arange(N_ITEMS) >= 15]).astype(np.float32)
    people = np.column_stack([np.tile([20, 60], 20), np.repeat([0, 1], 20)]).astype(np.float32)
    known = {"item_features": Features(flags, ("genre_x", "genre_y"))} if genres else {}
    people_known = {"user_features": Features(people, ("age", "gender"))}
    return rows_of(users, items, np.ones(len(users)), N_USERS, N_ITEMS, **known, **people_known)


def test_popularity_within_a_segment_is_as_counted_by_hand() -> None:
    train = rows_of(np.array([0, 0, 1, 2]), np.array([0, 1, 0, 1]), np.ones(4), 4, 3)  # user 3 has no rows
    table = popularity_within(train, np.array([0, 0, 1, 1]), 3, 1.0)
    overall = np.array([2 / 3, 2 / 3, 0])
    np.testing.assert_allclose(table[0], (np.array([2, 1, 0]) + overall) / 3)
    np.testing.assert_allclose(table[1], (np.array([0, 1, 0]) + overall) / 2)
    np.testing.assert_allclose(table[2], overall)
    np.testing.assert_allclose(popularity_within(train, np.array([0, 0, 1, 1]), 3, 0.0)[2], overall)


def test_planted_groups_are_found_and_a_new_user_joins_theirs() -> None:
    train = planted()
    model = SegmentPopularity(n_segments=2).fit(train)
    found = model.segments(np.arange(N_USERS - 1), train)
    assert len(set(found[:20])) == len(set(found[20:])) == 1
    assert found[0] != found[20]
    history = rows_of(np.zeros(2), np.array([16, 17]), np.ones(2), 1, N_ITEMS)
    assert model.segments(np.array([0]), history) == found[20]
    assert torch.equal(model.score(torch.tensor([0]), history)[0], model.score(torch.tensor([20]))[0])


def test_one_segment_endless_shrinkage_or_no_genres_rank_as_popularity_does() -> None:
    asked = torch.arange(N_USERS - 1)
    popularity = Popularity().fit(planted()).score(asked)
    for train, model in (
        (planted(), SegmentPopularity(n_segments=1)),
        (planted(), SegmentPopularity(shrinkage=1e12)),
        (planted(genres=False), SegmentPopularity()),
    ):
        scores = model.fit(train).score(asked)
        torch.testing.assert_close(scores, popularity / (N_USERS - 1), rtol=1e-5, atol=1e-6)


def test_more_segments_than_different_users_is_no_failure() -> None:
    train = rows_of(np.array([0, 1, 2]), np.array([0, 0, 1]), np.ones(3), 3, 2)
    assert SegmentPopularity(n_segments=9).fit(train).score(torch.arange(3)).isfinite().all()


def test_demographic_segments_are_age_groups_of_one_gender() -> None:
    people = Features(np.array([[1, 17, 0], [0, 18, 1], [0, 70, 0]], np.float32), ("occupation_x", "age", "gender"))
    assert DemographicPopularity(age_limits=(18, 50)).segments(people).tolist() == [0, 3, 4]


def test_demographic_popularity_is_counted_among_users_like_oneself() -> None:
    train = planted()
    scores = DemographicPopularity(shrinkage=0.0).fit(train).score(torch.tensor([0]))[0]
    alike = train.binary.toarray()[0:20:2]
    torch.testing.assert_close(scores, torch.as_tensor(alike.mean(axis=0)))


def test_users_without_age_and_gender_have_no_demographic_segment() -> None:
    train = rows_of(np.array([0, 1]), np.array([0, 0]), np.ones(2), 2, 1)
    with pytest.raises(StudyError, match="need user features `age` and `gender`"):
        DemographicPopularity().fit(train)
