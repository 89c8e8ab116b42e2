"""The content towers: profiles counted film by film, cold films known by content alone, hybrids that also know ids."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from boards import NEW_ITEM, PLAYERS, board_of, build, fitted, rows_of

from recsys_core.errors import StudyError
from recsys_core.interactions import Features
from recsys_core.models.content_towers import ContentTowersNet

BOTH = pytest.mark.parametrize("name", ["content_towers", "hybrid_towers"])


def net_of(name: str) -> ContentTowersNet:
    model: Any = fitted(name)
    net = model.module_
    assert isinstance(net, ContentTowersNet)
    return net


@BOTH
def test_a_profile_is_the_mean_of_what_was_seen_without_the_rows_own_film(name: str) -> None:
    train, net = board_of(name), net_of(name)
    films, users = net.films().detach(), torch.tensor([3, 0, 3])
    seen = [train.items[train.users == user] for user in users.tolist()]
    own = torch.tensor([mine[4] for mine in seen])
    whole = torch.stack([films[torch.as_tensor(mine)].mean(dim=0) for mine in seen])
    others = torch.stack(
        [films[torch.as_tensor(mine[mine != own])].mean(dim=0) for mine, own in zip(seen, own.tolist())]
    )
    torch.testing.assert_close(net.profiles(users).detach(), whole)
    torch.testing.assert_close(net.profiles(users, own).detach(), others)


@BOTH
def test_who_has_seen_nothing_else_has_the_profile_0(name: str) -> None:
    net = net_of(name)
    assert (net.profiles(torch.tensor([-1, -1])) == 0).all()
    lonely = torch.tensor([7]), torch.tensor([0, 1])  # user 0 has seen film 7 alone
    torch.testing.assert_close(net.profiles(torch.tensor([0]), known=lonely), net.films()[[7]])
    assert (net.profiles(torch.tensor([0]), torch.tensor([7]), lonely) == 0).all()


def test_films_of_the_same_content_cannot_be_told_apart_without_ids() -> None:
    train = board_of("content_towers")
    assert train.item_features is not None
    values = train.item_features.values.copy()
    values[[0, NEW_ITEM]] = values[10]
    rows = replace(train, item_features=Features(values, train.item_features.columns))
    scores = build("content_towers", epochs=1).fit(rows).score(PLAYERS)
    assert torch.equal(scores[:, 0], scores[:, 10]) and torch.equal(scores[:, 0], scores[:, NEW_ITEM])
    scores = build("hybrid_towers", epochs=1).fit(rows).score(PLAYERS)
    assert not torch.equal(scores[:, 0], scores[:, 10])


@BOTH
def test_a_film_without_training_rows_is_scored_by_its_content(name: str) -> None:
    train = board_of(name)
    assert train.item_features is not None
    odd, even = (torch.arange(first, 50, 2) for first in (1, 0))
    for colour in (0, 1):
        values = train.item_features.values.copy()
        values[NEW_ITEM] = values[8 + colour]
        rows = replace(train, item_features=Features(values, train.item_features.columns))
        scores = build(name, learning_rate=0.01).fit(rows).score(PLAYERS)[:, NEW_ITEM]
        mine, others = (odd, even) if colour else (even, odd)
        assert scores[mine].mean() > scores[others].mean() + 0.3


def test_a_cold_film_has_the_mean_id_of_the_trained_ones() -> None:
    net = net_of("hybrid_towers")
    assert net.ids is not None
    torch.testing.assert_close(net.films()[NEW_ITEM, : net.ids.embedding_dim], net.ids.weight[:NEW_ITEM].mean(dim=0))


@BOTH
def test_a_users_attributes_come_with_the_history_and_are_the_mean_where_it_brings_none(name: str) -> None:
    model, train = fitted(name), board_of(name)
    assert train.user_features is not None
    history = rows_of(np.zeros(3), np.array([0, 2, 4]), np.full(3, 5), 1, train.n_items)
    old, young = (Features(np.array([[age, 1]], np.float32), train.user_features.columns) for age in (70, 20))
    answers = [model.score(torch.tensor([0]), replace(history, user_features=who)) for who in (None, old, young)]
    assert not torch.equal(answers[0], answers[1]) and not torch.equal(answers[1], answers[2])
    with pytest.raises(StudyError, match="columns of training"):
        model.score(
            torch.tensor([0]), replace(history, user_features=Features(np.ones((1, 1), np.float32), ("height",)))
        )


@BOTH
def test_data_without_users_attributes_are_learnt_from_content_and_history(name: str) -> None:
    train = replace(board_of(name), user_features=None)
    assert build(name, epochs=1).fit(train).score(PLAYERS).isfinite().all()


@BOTH
def test_data_without_content_are_refused(name: str) -> None:
    with pytest.raises(StudyError, match="The data say nothing of films in columns content_…"):
        build(name, columns=("content_",)).fit(replace(board_of(name), item_features=None))
