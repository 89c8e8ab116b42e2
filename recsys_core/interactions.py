"""Coded interactions: the only form of data that splits, models and metrics know.

Letters used for shapes everywhere: `U` users, `I` items, `N` rows, `B` batch, `K` cut-off, `F` feature columns, `D` embedding.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import sparse

from recsys_core.errors import StudyError


@dataclass(frozen=True)
class Features:
    """A table of attributes: `values` is (N, F) float32, `columns` names its F columns."""

    values: np.ndarray
    columns: tuple[str, ...]

    def select(self, prefix: str) -> np.ndarray:
        """Return the (N, f) columns whose name starts with `prefix`."""
        return self.values[:, [column.startswith(prefix) for column in self.columns]]

    def take(self, rows: np.ndarray) -> Features:
        """Return these rows of the table."""
        return Features(self.values[rows], self.columns)

    def without(self, *names: str) -> Features:
        """Return the table without these columns; a name that is no column changes nothing."""
        kept = [column not in names for column in self.columns]
        return Features(np.ascontiguousarray(self.values[:, kept]), tuple(np.array(self.columns)[kept].tolist()))


@dataclass(frozen=True)
class Vocabulary:
    """The ids behind the codes: code `c` stands for `user_ids[c]` and `item_ids[c]`, both in ascending order.

    A value z > 0 of the user attribute `zip` stands for `zip_codes[z - 1]`, 0 for any other zip code.
    """

    user_ids: np.ndarray
    item_ids: np.ndarray
    zip_codes: np.ndarray = field(default_factory=lambda: np.empty(0, object))

    def user_codes(self, ids: object) -> np.ndarray:
        """Return the codes of user ids; an unknown id raises a StudyError that names it."""
        return _codes(self.user_ids, ids, "user")

    def item_codes(self, ids: object) -> np.ndarray:
        """Return the codes of item ids; an unknown id raises a StudyError that names it."""
        return _codes(self.item_ids, ids, "movie")

    def zip_numbers(self, zip_codes: object) -> np.ndarray:
        """Return what the user attribute `zip` holds for these texts: 1, 2, … for known zip codes, 0 for all others."""
        return pd.Index(self.zip_codes).get_indexer(np.atleast_1d(np.asarray(zip_codes, object))) + 1


def _codes(vocabulary: np.ndarray, ids: object, kind: str) -> np.ndarray:
    asked = np.atleast_1d(np.asarray(ids))
    codes = pd.Index(vocabulary).get_indexer(asked)
    if (codes < 0).any():
        unknown = asked[codes < 0].tolist()[0]
        known = f"{len(vocabulary):,} {kind} ids from {vocabulary[0]!s} to {vocabulary[-1]!s}"
        raise StudyError(f"Unknown {kind} id {unknown!r}: the data has {known}.")
    return codes


@dataclass(frozen=True)
class Interactions:
    """N coded rows (user, item, rating, time) over a catalogue of U users and I items.

    `users`, `items` and `times` are (N,) int64, `ratings` is (N,) float32 in stars, `times` in seconds or in positions.
    A pair occurs once: loading refuses repeated ones, and nothing here looks again.
    Raises StudyError for a row whose code lies outside the catalogue.
    """

    users: np.ndarray
    items: np.ndarray
    ratings: np.ndarray
    times: np.ndarray
    n_users: int
    n_items: int
    user_features: Features | None = None
    item_features: Features | None = None

    def __post_init__(self) -> None:
        for kind, codes, size in (("user", self.users, self.n_users), ("item", self.items, self.n_items)):
            outside = np.flatnonzero((codes < 0) | (codes >= size))
            if outside.size:
                row = int(outside[0])
                found = f"{kind} code {codes[row]} is outside the catalogue of {size} {kind}s"
                raise StudyError(f"Row {row}: {found} (allowed: 0 to {size - 1}).")

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: np.ndarray) -> Interactions:
        """Return the rows that a boolean mask or an index array picks, over the same catalogue."""
        picked = {name: getattr(self, name)[rows] for name in ("users", "items", "ratings", "times")}
        return replace(self, **picked)

    @cached_property
    def user_counts(self) -> np.ndarray:
        """Rows per user, (U,)."""
        return np.bincount(self.users, minlength=self.n_users)

    @cached_property
    def by_time(self) -> np.ndarray:
        """(N,) rows, user after user and each user's in the order of time; equal times keep the order of the rows."""
        return np.lexsort((self.times, self.users))

    @cached_property
    def item_counts(self) -> np.ndarray:
        """Rows per item, (I,)."""
        return np.bincount(self.items, minlength=self.n_items)

    @cached_property
    def binary(self) -> sparse.csr_matrix:
        """The (U, I) matrix of ones at the pairs that occur, indices sorted."""
        return self._matrix(np.ones(len(self), dtype=np.float32))

    @cached_property
    def stars(self) -> sparse.csr_matrix:
        """The (U, I) matrix of ratings in stars, indices sorted."""
        return self._matrix(self.ratings)

    def _matrix(self, values: np.ndarray) -> sparse.csr_matrix:
        matrix = sparse.csr_matrix((values, (self.users, self.items)), shape=(self.n_users, self.n_items))
        matrix.sort_indices()
        return matrix

    @cached_property
    def explicit(self) -> bool:
        """Whether the ratings are opinions: more than one value occurs."""
        return bool(len(self) and self.ratings.min() != self.ratings.max())

    @property
    def no_opinions(self) -> str:
        """What rows that are not `explicit` are, for the sentence that refuses them."""
        value = f"{self.ratings[0]:g}" if len(self) else "missing"
        return f"ratings that are all {value}, which tell what was seen and not how it was liked (implicit data)"

    @cached_property
    def sha256(self) -> str:
        """Fingerprint of the coded pairs and their ratings, in the order of the rows: what tells one data set from another."""
        digest = hashlib.sha256()
        for column, kind in ((self.users, "<i8"), (self.items, "<i8"), (self.ratings, "<f4")):
            digest.update(column.astype(kind).tobytes())
        return digest.hexdigest()

    @cached_property
    def pair_keys(self) -> np.ndarray:
        """One sorted int64 number per row's (user, item) pair: `user * I + item`."""
        return np.sort(self.users * self.n_items + self.items)
