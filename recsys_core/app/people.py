"""A person who is not in the data: attributes as typed, checked, and coded like those of training."""

import re
from collections.abc import Callable, Collection
from difflib import get_close_matches
from typing import Any, TypeAlias

import numpy as np

from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.interactions import Features, Vocabulary

# Attribute → how it is asked for, in this order. A person's: years, "F" or "M", one of the data's, five letters or digits.
QUESTIONS = {"age": "Age in years", "gender": "Gender (F or M)", "occupation": "Occupation", "zip": "Zip code"}
Person: TypeAlias = dict[str, Any]


def ask_person(data: MovieLens, ask: Callable[[str, Callable[[str], Any]], Any]) -> Person:
    """Ask for each attribute: `ask` takes its name and the function that checks a text, which raises a StudyError.

    A zip code that nobody in the data has is allowed. Raises StudyError for data without a user table.
    """
    if data.users is None:
        raise StudyError(f"{data.name} has no user table: use a data set with users, or a user id.")
    known_zips = set(data.users["zip_code"].dropna().astype(str))
    occupations = sorted(data.users["occupation"].dropna().unique())
    checks: dict[str, Callable[[str], Any]] = {
        "age": lambda text: whole_number(text, "Age", 1, 120),
        "gender": lambda text: one_of(text, "Gender", ("F", "M")),
        "occupation": lambda text: one_of(text, "Occupation", occupations),
        "zip": lambda text: text if text in known_zips else _zip_code(text),
    }
    return {name: ask(name, _stripped(check)) for name, check in checks.items()}


def _stripped(check: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: check(text.strip())


def whole_number(text: str, what: str, low: int, high: int) -> int:
    """A whole number from `low` to `high`; anything else raises StudyError."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
        raise StudyError(f"{what} {text!r} cannot be used: give a whole number from {low} to {high}.")
    return int(text)


def one_of(text: str, what: str, allowed: Collection[str]) -> str:
    """One of the allowed texts, in upper or lower case; anything else raises StudyError with the nearest and all allowed ones."""
    if text in allowed:
        return text
    folded = {name.casefold(): name for name in allowed}
    if text.casefold() in folded:
        return folded[text.casefold()]
    near = [folded[name] for name in get_close_matches(text.casefold(), folded, n=1)]
    meant = f" Did you mean {near[0]}?" if near else ""
    raise StudyError(f"{what} {text!r} is unknown.{meant} Allowed: {', '.join(allowed)}.")


def _zip_code(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z]{5}", text):
        raise StudyError(f"Zip code {text!r} cannot be used: give five letters or digits, such as 10003.")
    return text.upper()


def person_features(person: Person, vocabulary: Vocabulary, columns: tuple[str, ...]) -> Features:
    """(1, F) attributes in the columns of training; see `features.user_features`."""
    values = {"age": person["age"], "gender": person["gender"] == "M"}
    values |= {f"occupation_{label}": 1 for label in person["occupation"].split("|")}
    row = dict.fromkeys(columns, 0) | values | {"zip": vocabulary.zip_numbers(person["zip"])[0]}
    return Features(np.array([[row[column] for column in columns]], np.float32), columns)
