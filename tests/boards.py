"""Small worlds in which it is known what a recommender should answer, and models fitted on them."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from recsys_core.errors import StudyError
from recsys_core.interactions import Features, Interactions
from recsys_core.models import MODELS, Recommender, settings
from recsys_core.models.neural import NeuralRecommender

SIZE = 50
NEW_USER = NEW_ITEM = SIZE  # the catalogue's last user and item have no rows
PLAYERS = torch.arange(SIZE)

# Settings that say how long and where a network trains, which the contract suite checks one by one.
STEERING = {"device", "patience", "validation_users"}


def rows_of(
    users: np.ndarray, items: np.ndarray, ratings: np.ndarray, n_users: int, n_items: int, **features: Features
) -> Interactions:
    """Rows in time order."""
    return Interactions(
        users.astype(np.int64),
        items.astype(np.int64),
        ratings.astype(np.float32),
        np.arange(len(users)),
        n_users,
        n_items,
        **features,
    )


def attributes(telling: bool = False) -> dict[str, Features]:
    """Attributes that say nothing about the board but differ for everybody; if `telling`, genres a and d are an item's colour.

    Then a film that nobody has rated has no genres either, and there are a year and other content, which say nothing.
    """
    generator = np.random.default_rng(3)
    ages = np.column_stack([generator.integers(18, 70, SIZE + 1), generator.integers(0, 2, SIZE + 1)])
    films = generator.integers(0, 2, (SIZE + 1, 3))
    columns: tuple[str, ...] = ("genre_a", "genre_b", "genre_c")
    if telling:
        films[:, 0] = np.arange(SIZE + 1) % 2
        films = np.column_stack([films, 1 - films[:, 0]])
        films[NEW_ITEM] = 0
        films = np.column_stack([films, generator.integers(1990, 1999, SIZE + 1), generator.normal(size=(SIZE + 1, 2))])
        columns += ("genre_d", "year", "content_0", "content_1")
    return {
        "user_features": Features(ages.astype(np.float32), ("age", "gender")),
        "item_features": Features(films.astype(np.float32), columns),
    }


@cache
def board(rated: bool, telling: bool = False, going_round: bool = False) -> Interactions:
    """A checkerboard without its diagonal: all cells with 5 and 1 stars, or only the liked ones (equal parity).

    Each user's items come in ascending order or, if `going_round`, from the one behind the diagonal on and round to the one before
    it, so that what is left out is what would come next.
    """
    users, items = np.divmod(np.arange(SIZE * SIZE), SIZE)
    liked = (users + items) % 2 == 0
    kept = (users != items) & (liked | rated)
    ratings = np.where(liked, 5, 1)
    rows = rows_of(users[kept], items[kept], ratings[kept], SIZE + 1, SIZE + 1, **attributes(telling))
    return replace(rows, times=rows.users * SIZE + (rows.items - rows.users) % SIZE) if going_round else rows


def board_of(name: str) -> Interactions:
    """The board that model `name` learns from."""
    traits = MODELS[name].traits
    return board(traits.predicts_ratings or traits.learns_from_stars, traits.sees_genres_only, traits.sequential)


def is_neural(name: str) -> bool:
    """Whether the training loop trains model `name`."""
    return issubclass(MODELS[name], NeuralRecommender)


def has_device(name: str) -> bool:
    """Whether model `name` computes where it is told to."""
    return "device" in {field.name for field in fields(MODELS[name])}  # type: ignore[arg-type]


def build(name: str, device: str = "cpu", **changes: Any) -> Recommender:
    """An unfitted model with the fast settings of the board."""
    place = {"device": device} if has_device(name) else {}
    return MODELS[name](**{**settings.fast(MODELS[name]), **place, **changes})


@cache
def fitted(name: str, device: str = "cpu", seed: int = 0) -> Recommender:
    """A model fitted on its board; shared by the tests, so not to be changed."""
    return build(name, device).fit(board_of(name), seed=seed)


def answering(name: str) -> list[str]:
    """The hyperparameters that must change what model `name` answers: all but where it computes, and how networks are steered."""
    steering = STEERING if is_neural(name) else {"device"}
    return [key for key in settings.settings_of(MODELS[name]) if key not in steering]


def other_value(name: str, argument: str) -> Any:
    """A value that must change what model `name` answers.

    It is the one that the setting states, else the first that differs of a search, of what is allowed, or of half and double the
    number. Raises AssertionError, which names the setting, where there is none.
    """
    usual, said = getattr(build(name), argument), settings.settings_of(MODELS[name])[argument]
    if said.other is not settings.NOT_GIVEN:
        return said.other
    for value in (*_searched(said.search), *(() if said.among is settings.NOT_GIVEN else said.among), *_near(usual)):
        value = tuple(value) if isinstance(value, list) else value
        if value != usual and _allowed(argument, value, said):
            return value
    raise AssertionError(f"{name}: {argument}={usual!r}: nothing says another value; state setting(…, other=…).")


def forbidden_values(name: str) -> list[tuple[str, Any]]:
    """For every bound that a setting of model `name` states the setting and a value, in a tuple where it holds several, outside."""
    found: list[tuple[str, Any]] = []
    for argument, said in settings.settings_of(MODELS[name]).items():
        outside = [value for value in (said.above, said.below) if value is not settings.NOT_GIVEN]
        if said.least is not settings.NOT_GIVEN and said.least > -np.inf:
            outside.append(said.least - 1)
        if said.among is not settings.NOT_GIVEN:
            outside.append("no such value")
        several = isinstance(getattr(build(name), argument), tuple)
        found += [(argument, (value,) if several else value) for value in outside]
    return found


def _searched(search: Any) -> list[Any]:
    """Values of a search: its list, or both ends of its range."""
    if isinstance(search, settings.Between):
        return [search.high, search.low]
    return search if isinstance(search, list) else []


def _near(usual: Any) -> list[Any]:
    """The other truth value; half and double a number."""
    if isinstance(usual, bool):
        return [not usual]
    if isinstance(usual, int):
        return [usual // 2, usual * 2]
    return [usual / 2, usual * 2, 0.5] if isinstance(usual, float) else []


def _allowed(what: str, value: Any, said: settings.Setting) -> bool:
    try:
        said.check(what, value)
    except StudyError:
        return False
    return True
