"""A person who is not in the data: attributes as typed, checked, and coded like those of training."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.interactions import Features, Vocabulary


@dataclass(frozen=True)
class Person:
    """Age in years, gender "F" or "M", an occupation of the data, a zip code of five letters or digits."""

    age: int
    gender: str
    occupation: str
    zip_code: str

    @classmethod
    def parse(cls, data: MovieLens, age: str, gender: str, occupation: str, zip_code: str) -> Person:
        """Check four texts; the first that cannot be used raises a StudyError with what is allowed."""
        return cls(*(parse(text) for parse, text in zip(questions(data).values(), (age, gender, occupation, zip_code))))


def questions(data: MovieLens) -> dict[str, Callable[[str], Any]]:
    """Attribute → the function that checks its text, in the order in which they are asked.

    A zip code that nobody in the data has is allowed. Raises StudyError for data without a user table.
    """
    if data.users is None:
        raise StudyError(f"{data.name} has no user table: use a data set with users, or a user id.")
    occupations = sorted(data.users["occupation"].dropna().unique())
    return {
        "Age in years": lambda text: whole_number(text, "Age", 1, 120),
        "Gender (F or M)": lambda text: one_of(text.upper(), "Gender", ("F", "M")),
        "Occupation": lambda text: one_of(text.lower(), "Occupation", occupations),
        "Zip code": _zip_code,
    }


def whole_number(text: str, what: str, low: int, high: int) -> int:
    """A whole number from `low` to `high`; anything else raises StudyError."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise StudyError(f"{what} {text!r} cannot be used: give a whole number from {low} to {high}.")
    return int(text)


def one_of(text: str, what: str, allowed: Collection[str]) -> str:
    """One of the allowed texts; anything else raises StudyError with the nearest and all allowed ones."""
    if text in allowed:
        return text
    near = get_close_matches(text, allowed, n=1)
    meant = f" Did you mean {near[0]}?" if near else ""
    raise StudyError(f"{what} {text!r} is unknown.{meant} Allowed: {', '.join(allowed)}.")


def _zip_code(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z]{5}", text):
        raise StudyError(f"Zip code {text!r} cannot be used: give five letters or digits, such as 10003.")
    return text.upper()


def person_features(person: Person, vocabulary: Vocabulary, columns: tuple[str, ...]) -> Features:
    """(1, F) attributes in the columns of training; see `features.user_features`."""
    row = dict.fromkeys(columns, 0.0) | {"age": float(person.age), "gender": float(person.gender == "M")}
    row[f"occupation_{person.occupation}"] = 1.0
    row["zip"] = float(vocabulary.zip_numbers(person.zip_code)[0])
    return Features(np.array([[row[column] for column in columns]], np.float32), columns)
