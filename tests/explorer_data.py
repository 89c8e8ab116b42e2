"""Invented films and ratings for the tests of the explorer, and its weights as read back from a page."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pandas as pd
from bs4 import BeautifulSoup

from recsys_core.app.explorer.lists import Weights
from recsys_core.app.explorer.tables import Folded, Summed
from recsys_core.datasets import MovieLens

EVIL = "Evil </script><script>window.hacked = true</script><img src=x onerror='window.hacked = true'> (1999)"


def invented_films(n_users: int, n_items: int, n_each: int, seed: int = 0) -> MovieLens:
    """Own data of users who each rate so many films of their taste, one half of the catalogue, lower ids more often.

    The film with id 1, which most have rated, has a title that would run as a script if it were not text.
    """
    generator = np.random.default_rng(seed)
    chances = 1 / (10 + np.arange(n_items))
    rows = []
    for user in range(n_users):
        liked = chances * np.where(np.arange(n_items) % 2 == user % 2, 5.0, 1.0)
        items = generator.choice(n_items, n_each, replace=False, p=liked / liked.sum())
        rows.append(pd.DataFrame({"user_id": user + 1, "item_id": items + 1, "timestamp": np.arange(n_each)}))
    ratings = pd.concat(rows, ignore_index=True)
    ratings["rating"] = generator.integers(1, 6, len(ratings)).astype(float)
    ids = np.arange(n_items) + 1
    titles = [EVIL, *(f"Film {number}, The (19{number % 90 + 10})" for number in ids[1:])]
    genres = np.where(ids % 2, "Action|Drama", "Comedy")
    movies = pd.DataFrame(
        {"item_id": ids, "title": titles, "year": pd.array([1999] * n_items, "Int64"), "genres": genres}
    )
    return MovieLens("invented", ratings, movies, None, None, (1.0, 5.0), True, None, "nowhere", "ab" * 32)


def payload_of(page: str) -> dict[str, Any]:
    """The data that stand in a page."""
    found = BeautifulSoup(page, "html.parser").find("script", id="payload")
    assert found is not None
    return json.loads(found.text)


def unpacked(packed: dict[str, str]) -> np.ndarray:
    """An array of a page."""
    return np.frombuffer(base64.b64decode(packed["base64"]), np.dtype(packed["type"]))


def weights_of(content: dict[str, Any]) -> Weights:
    """The weights that a page computes with, read from it."""
    n_films, models = len(content["films"]["titles"]), []
    for each in content["models"]:
        arrays = {name: unpacked(value) for name, value in each.items() if isinstance(value, dict)}
        if "ridge" in arrays:
            arrays |= {"values": arrays["values"].reshape(n_films, -1)}
            size = arrays["values"].shape[1]
            arrays["everywhere"] = arrays["everywhere"].reshape(size, size)
            models.append(Folded(each["name"], each["title"], **arrays))
        else:
            arrays["values"] = arrays["values"].reshape(
                arrays["values"].shape if "starts" in arrays else (n_films, n_films)
            )
            models.append(Summed(each["name"], each["title"], **arrays))
    return Weights(tuple(models), unpacked(content["films"]["known"]))
