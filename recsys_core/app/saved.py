"""A chosen model, saved with its vocabulary, and used; no pickle, and nothing in it is executed.

    from recsys_core.app.saved import SavedModel

    saved = SavedModel.open("reports/runs/goodreads/model")
    saved.recommend("U7", k=10)

A saved model is a folder of two files. `model.safetensors` holds the model and the rows that it was fitted on, which are all that
is known of what somebody has rated. `vocabulary.json` says what its codes stand for: ids, zip codes and films, in the order of the
codes, and how ratings of the data's own file are made of stars. It names the other file by its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recsys_core.app.batch import recommend_all
from recsys_core.app.recommend import recommend
from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.files import atomic_path
from recsys_core.interactions import Interactions, Vocabulary
from recsys_core.models import Recommender
from recsys_core.models.storage import check_place, fits

MODEL, VOCABULARY = "model.safetensors", "vocabulary.json"
FORMAT_VERSION = 1
LARGEST_ID = 2**63 - 1
Ids = tuple[int, ...] | tuple[str, ...]
FIELDS: dict[str, Any] = {
    "model_sha256": str,
    "data": str,
    "data_sha256": str,
    "rating_scale": tuple[float, ...],
    "unit": float,
    "offset": float,
    "user_ids": Ids,
    "item_ids": Ids,
    "zip_codes": tuple[str, ...],
    "films": dict[str, tuple[Any, ...]] | None,
}
OF_FILMS: dict[str, Any] = {
    "title": tuple[str | None, ...],
    "year": tuple[int | None, ...],
    "genres": tuple[str | None, ...],
}
PERSON = ("age", "gender", "zip")  # the attributes beside occupations, see `features.user_features`


def save_model(folder: Path | str, model: Recommender, data: MovieLens, vocabulary: Vocabulary) -> None:
    """Write a fitted model, and what its codes stand for, into a folder, which is made where it is missing; see `SavedModel`.

    `vocabulary` is that of `encode(data)`. What an earlier call has written there is replaced when both files are whole. Raises
    StudyError where nothing can be written, and for a vocabulary that is not the model's or that could not be read again.
    """
    places = [Path(folder) / name for name in (MODEL, VOCABULARY)]
    said = {
        "format_version": FORMAT_VERSION,
        "model_sha256": "",
        "data": data.name,
        "data_sha256": data.sha256,
        "rating_scale": [float(end) for end in data.rating_scale],
        "unit": float(data.unit),
        "offset": float(data.offset),
        "user_ids": vocabulary.user_ids.tolist(),
        "item_ids": vocabulary.item_ids.tolist(),
        "zip_codes": vocabulary.zip_codes.tolist(),
        "films": _films_of(data, vocabulary),
    }
    _check(said, model.train_, "The vocabulary of this model")
    for place in places:
        check_place(place)
    with atomic_path(places[0]) as written, atomic_path(places[1]) as beside:
        try:
            model.save(written)
        except StudyError as error:
            raise StudyError(str(error).replace(written.name, MODEL)) from None
        said["model_sha256"] = _file_sha256(written)
        text = json.dumps(said | {"sha256": _sha256(said)})
        beside.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class SavedModel:
    """A model that `save_model` wrote, with what its codes stand for.

    `data` has the rows that the model was fitted on and what was saved of films and users; it has no tags and no benchmark.
    """

    model: Recommender
    data: MovieLens
    vocabulary: Vocabulary

    @classmethod
    def open(cls, path: Path | str) -> SavedModel:
        """Read the saved model of this folder, or of the model file in it.

        Raises StudyError, which says in one sentence what is wrong, where one of the two files is missing, damaged, of another
        version or not the other's half, and where what the vocabulary says cannot be.
        """
        model_file, vocabulary_file = _places(Path(path))
        said = _read(vocabulary_file)
        model = Recommender.load(model_file)
        if said["model_sha256"] != _file_sha256(model_file):
            raise StudyError(
                f"{vocabulary_file} was saved with another model than {model_file.name} beside it: save both again."
            )
        _check(said, model.train_, str(vocabulary_file))
        vocabulary = Vocabulary(
            _ids(said["user_ids"]), _ids(said["item_ids"]), np.array(said["zip_codes"], dtype=object)
        )
        return cls(model, _data_of(said, model.train_, vocabulary, model_file.parent), vocabulary)

    def recommend(self, user_id: object, k: int = 10) -> pd.DataFrame:
        """The k best films for a user, without those that the model was fitted on as theirs; see `recommend.recommend`.

        The index is the rank; columns item_id, title (where the data has titles), stars (`rating` where the data's own file has
        another scale) or score, because. Raises StudyError for an unknown user, one who has rated everything, and k outside the
        catalogue.
        """
        return recommend(self.model, self.data, self.vocabulary, user_id, k)

    def recommend_all(
        self, k: int = 10, users: Sequence[object] | None = None, users_at_once: int | None = None
    ) -> pd.DataFrame:
        """The same lists of all users, or of these: columns user_id, rank, item_id, title, score; see `batch.recommend_all`."""
        return recommend_all(self.model, self.data, self.vocabulary, self.model.train_, k, users, users_at_once)


def _places(path: Path) -> tuple[Path, Path]:
    """The model file and the vocabulary at a path, both of which are there."""
    is_folder = os.path.isdir(path)  # os.path: False, too, for a name that the system does not allow
    if not is_folder and not os.path.isfile(path):
        raise StudyError(f"{path} is not there: give the folder of a saved model, or its {MODEL}.")
    files = (path / MODEL, path / VOCABULARY) if is_folder else (path, path.with_name(VOCABULARY))
    for file in files:
        if not os.path.isfile(file):
            raise StudyError(f"{file} is missing: a saved model is two files, {MODEL} and {VOCABULARY}; save both.")
    return files


def _read(file: Path) -> dict[str, Any]:
    """What a vocabulary says, whole and of this version."""
    try:
        said = json.loads(file.read_bytes())
        version, sha256 = said["format_version"], said.pop("sha256")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
        raise StudyError(f"{file} is no vocabulary of a saved model ({why}): save the model again.") from None
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise StudyError(
            f"{file} has format version {version!r}, this code reads {FORMAT_VERSION}: save the model again."
        )
    if sha256 != _sha256(said):
        raise StudyError(f"{file} is damaged (its checksum is another): save the model again.")
    return said


def _check(said: dict[str, Any], train: Interactions, where: str) -> None:
    """Raise StudyError for a vocabulary of other fields, types or sizes than those of a model fitted on these rows."""
    for name, hint in FIELDS.items():
        if not fits(said.get(name), hint):
            raise _wrong(where, f"no {name} that can be used")
    for name, size in (("user_ids", train.n_users), ("item_ids", train.n_items)):
        if len(said[name]) != size:
            raise _wrong(where, f"{len(said[name]):,} {name} for a model of {size:,}")
    for name in ("user_ids", "item_ids", "zip_codes"):
        _check_ascending(said[name], name, where)
    if len(said["rating_scale"]) != 2 or not said["unit"] > 0:
        raise _wrong(where, f"the scale {said['rating_scale']} with the unit {said['unit']}")
    for name, hint in OF_FILMS.items() if said["films"] is not None else ():
        values = said["films"].get(name)
        if not fits(values, hint) or len(values) != train.n_items:
            raise _wrong(where, f"no {name} of {train.n_items:,} films that can be used")
    people = train.user_features
    if people is not None and "zip" in people.columns:
        numbers = people.values[:, people.columns.index("zip")]
        if not ((numbers >= 0) & (numbers <= len(said["zip_codes"]))).all():
            raise _wrong(where, f"{len(said['zip_codes']):,} zip codes, fewer than the model's users have")


def _check_ascending(values: list[Any], name: str, where: str) -> None:
    repeated = next((one for one, other in pairwise(values) if one == other), None)
    if repeated is not None:
        raise _wrong(where, f"{repeated!r} twice among its {name}")
    if values != sorted(values):
        raise _wrong(where, f"{name} that are not in ascending order")
    if values and isinstance(values[0], int) and not -LARGEST_ID <= values[0] <= values[-1] <= LARGEST_ID:
        raise _wrong(where, f"{name} that are too large")


def _wrong(where: str, what: str) -> StudyError:
    return StudyError(f"{where} has {what}: save the model again, with the vocabulary of encode(data).")


def _ids(values: list[Any]) -> np.ndarray:
    return np.array(values, dtype=object) if isinstance(values[0], str) else np.array(values)


def _films_of(data: MovieLens, vocabulary: Vocabulary) -> dict[str, list[Any]] | None:
    """Title, year and genres of every film of the vocabulary; None of one that is unknown."""
    if data.movies is None:
        return None
    films = data.movies.set_index("item_id").reindex(vocabulary.item_ids)
    columns = {name: films[name].astype(object) for name in OF_FILMS}
    return {name: column.where(column.notna(), None).tolist() for name, column in columns.items()}


def _data_of(said: dict[str, Any], train: Interactions, vocabulary: Vocabulary, folder: Path) -> MovieLens:
    """The data set of a model's training rows."""
    ratings = pd.DataFrame({"user_id": vocabulary.user_ids[train.users], "item_id": vocabulary.item_ids[train.items]})
    ratings = ratings.assign(rating=train.ratings.astype(np.float64), timestamp=train.times)
    films = None
    if said["films"] is not None:
        films = pd.DataFrame({"item_id": vocabulary.item_ids} | {name: said["films"][name] for name in OF_FILMS})
        films["year"] = pd.array(said["films"]["year"], "Int64")
    return MovieLens(
        name=said["data"],
        ratings=ratings,
        movies=films,
        users=_users_of(train, vocabulary),
        tags=None,
        rating_scale=(said["rating_scale"][0], said["rating_scale"][1]),
        explicit=train.explicit,
        benchmark=None,
        source=str(folder),
        sha256=said["data_sha256"],
        unit=said["unit"],
        offset=said["offset"],
    )


def _users_of(train: Interactions, vocabulary: Vocabulary) -> pd.DataFrame | None:
    """The users' attributes as texts and years, read back from the model's columns; None where it has none of them."""
    known = train.user_features
    if known is None or not set(PERSON) <= set(known.columns):
        return None
    age, gender, zips = (known.values[:, known.columns.index(name)] for name in PERSON)
    labels = np.array([name.removeprefix("occupation_") for name in known.columns if name.startswith("occupation_")])
    zip_codes = np.array([*vocabulary.zip_codes, None], dtype=object)[zips.astype(np.int64) - 1]  # 0 is the last one
    users = pd.DataFrame({"user_id": vocabulary.user_ids, "age": age.astype(np.float64), "gender": gender})
    users["age"] = users["age"].convert_dtypes()
    users["gender"] = np.where(gender > 0, "M", "F")
    users["occupation"] = ["|".join(labels[flags]) for flags in known.select("occupation_") > 0]
    return users.assign(zip_code=zip_codes)


def _sha256(said: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _file_sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
