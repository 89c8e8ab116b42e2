"""Model files: safetensors whose header holds the settings as JSON and a checksum; never pickle, and nothing in them is executed.

Everything that a file says is checked here, before anything is built from it.
"""

from __future__ import annotations

import hashlib
import json
import types
import typing
from collections.abc import Iterable
from inspect import isabstract
from pathlib import Path
from tempfile import NamedTemporaryFile
from textwrap import shorten
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from recsys_core.errors import StudyError
from recsys_core.files import atomic_path
from recsys_core.interactions import Features, Interactions
from recsys_core.models.registry import class_named

if TYPE_CHECKING:
    from recsys_core.models.base import Recommender

Arrays: typing.TypeAlias = dict[str, np.ndarray]
Model = TypeVar("Model", bound="Recommender")
FORMAT_VERSION = 3
COLUMNS = {"users": np.int64, "items": np.int64, "ratings": np.float32, "times": np.int64}
FIELDS = {"model": str, "hyperparameters": dict, "n_users": int, "n_items": int, "columns": dict}


def save(model: Recommender, path: Path) -> None:
    """Write a fitted model: its class, settings and training rows, and what it has learnt; StudyError where that fails."""
    rows, columns = rows_of(model.train_)
    arrays = {f"train.{name}": array for name, array in rows.items()}
    arrays |= {f"model.{name}": tensor.detach().cpu().numpy() for name, tensor in model._state().items()}
    header = {
        "format_version": FORMAT_VERSION,
        "model": type(model).__name__,
        "hyperparameters": model.hyperparameters,
        "n_users": model.train_.n_users,
        "n_items": model.train_.n_items,
        "columns": columns,
    }
    write(path, header, arrays)


def load(kind: type[Model], path: Path) -> Model:
    """Read a model that is a `kind`; StudyError for any other file, see `read`, and for another kind of model."""
    header, arrays = read(path, FORMAT_VERSION)
    name = str(header.get("model"))
    found = kind if kind.__name__ == name else class_named(name)
    if found is None or isabstract(found):
        raise StudyError(
            f"{path} holds a model {header.get('model')!r}, which is unknown here: save one with .save(path)."
        )
    if not issubclass(found, kind):
        raise StudyError(f"{path} holds a {name}, not a {kind.__name__}: load it with its own class.")
    try:
        return restored(found, header, arrays)
    except Exception as error:  # whatever a model trips over in a file that somebody else has made
        why = shorten(str(error), 300).rstrip(".")
        raise StudyError(
            f"{path} holds a {name} that cannot be used ({why}): delete it, fit the model and save it again."
        ) from error


def restored(kind: type[Model], header: dict[str, Any], arrays: Arrays) -> Model:
    """The model that a file holds, once it has answered for two users; any error means that the file is no such model."""
    check_header(header)
    check_hyperparameters(kind, header["hyperparameters"])
    model = kind(**header["hyperparameters"])
    parts = {
        part: {name.removeprefix(part): array for name, array in arrays.items() if name.startswith(part)}
        for part in ("train.", "model.")
    }
    model.train_ = train_rows(header, parts["train."])
    state = {name: torch.from_numpy(array) for name, array in parts["model."].items()}
    if strange := [name for name, tensor in state.items() if tensor.is_complex()]:
        raise ValueError(f"its {strange[0]} holds complex numbers")
    model._restore(state)
    saved = {name: tensor.shape for name, tensor in model._state().items()}
    if len(saved) + len(parts["train."]) != len(arrays) or saved != {name: t.shape for name, t in state.items()}:
        raise ValueError(f"its arrays are {', '.join(sorted(arrays))}")
    asked = torch.as_tensor([model.train_.users.min(), model.train_.users.max()])
    if (shape := tuple(model.score(asked).shape)) != (2, model.train_.n_items):
        raise ValueError(f"its scores of two users have the shape {shape}")
    return model


def check_place(path: Path, what: str = "The model") -> None:
    """Raise StudyError where a file could not be written now, which says `what` it is; creates nothing."""
    folder = path.parent
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if path.is_dir():
            raise IsADirectoryError("it is a folder")
        # As long a name as the temporary one of `atomic_path`, and content, since a full disk takes an empty file.
        with NamedTemporaryFile(dir=folder, prefix="." * 25, suffix=f".{path.name}") as file:
            file.write(b"\0" * 65_536)
    except (OSError, ValueError) as error:
        raise _unwritable(path, error, what) from None


def write(path: Path, header: dict[str, Any], arrays: Arrays) -> None:
    """Write the arrays and the JSON-friendly header; StudyError where that fails, and then nothing is left."""
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    settings = json.dumps(header, sort_keys=True)
    try:
        with atomic_path(path) as temporary:
            save_file(whole, temporary, metadata={"settings": settings, "sha256": checksum(settings, whole)})
    except (OSError, SafetensorError, ValueError) as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: Exception, what: str = "The model") -> StudyError:
    why = getattr(error, "strerror", None) or error
    return StudyError(f"{what} cannot be saved as {path} ({why}): name a file where there is space and you may write.")


def read(path: Path, format_version: int) -> tuple[dict[str, Any], Arrays]:
    """Header and arrays of a file that `write` wrote, whole and of this format version; StudyError for any other file."""
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
            header = json.loads(metadata["settings"])
            version = header["format_version"]
            arrays = {name: file.get_tensor(name) for name in file.keys()} if version == format_version else {}  # noqa: SIM118
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise StudyError(f"{path} is not a model of this study ({error}): save one with .save(path).") from None
    if version != format_version or isinstance(version, bool):
        versions = f"format version {version!r}, this code reads {format_version}"
        raise StudyError(f"{path} has {versions}: fit and save it again.")
    if metadata.get("sha256") != checksum(metadata["settings"], arrays):
        raise StudyError(f"{path} is damaged (its checksum is another): delete it, fit the model and save it again.")
    return header, arrays


def checksum(settings: str, arrays: Arrays) -> str:
    """SHA-256 of the settings and of every array's name, type, shape and values."""
    digest = hashlib.sha256(settings.encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.ravel().view(np.uint8).data)
    return digest.hexdigest()


def check_header(header: dict[str, Any]) -> None:
    """Raise ValueError for a header with other fields, or with values of another type."""
    for name, kind in FIELDS.items():
        if not fits(header.get(name), kind):
            raise ValueError(f"its {name} is {header.get(name)!r}")
    for name in ("n_users", "n_items"):
        if header[name] < 1:
            raise ValueError(f"its {name} is {header[name]}")


def check_hyperparameters(kind: type, values: dict[str, Any]) -> None:
    """Raise ValueError for a name that is no hyperparameter of the model, and for a value of another type than it declares."""
    declared = {name: hint for name, hint in typing.get_type_hints(kind).items() if name in kind.__dataclass_fields__}  # type: ignore[attr-defined]
    for name, value in values.items():
        if name not in declared:
            raise ValueError(f"{kind.__name__} has no hyperparameter {name}")
        if not fits(value, declared[name]):
            raise ValueError(f"its hyperparameter {name} is {value!r}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is of a declared type: whole numbers are floats too, lists are tuples, true is no number."""
    kind, parts = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if kind is Any:
        return True
    if kind in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole or (kind is float and isinstance(value, float) and np.isfinite(value))
    if kind is tuple:
        return isinstance(value, list | tuple) and _all_fit(value, parts[0])
    if kind is dict and parts:
        return isinstance(value, dict) and _all_fit(value.keys(), parts[0]) and _all_fit(value.values(), parts[1])
    return isinstance(value, kind)


def _all_fit(values: Iterable[Any], hint: Any) -> bool:
    return all(fits(value, hint) for value in values)


def rows_of(train: Interactions) -> tuple[Arrays, dict[str, tuple[str, ...]]]:
    """The arrays of training rows, and the column names of their attribute tables."""
    tables = {name: getattr(train, name) for name in ("user_features", "item_features")}
    there = {name: table for name, table in tables.items() if table is not None}
    columns = {name: getattr(train, name) for name in COLUMNS}
    return columns | {name: t.values for name, t in there.items()}, {name: t.columns for name, t in there.items()}


def train_rows(header: dict[str, Any], arrays: Arrays) -> Interactions:
    """Training rows from what `rows_of` gave; ValueError where arrays, their types or their sizes are others."""
    sizes = {"user_features": header["n_users"], "item_features": header["n_items"]}
    tables, n_rows = header["columns"], len(arrays.get("users", ()))
    if set(arrays) != set(COLUMNS) | set(tables) or not set(tables) <= set(sizes) or not n_rows:
        raise ValueError(f"its training rows have the parts {', '.join(sorted(arrays)) or 'none'}")
    shapes: dict[str, Any] = {name: ((n_rows,), kind) for name, kind in COLUMNS.items()}
    for name, columns in tables.items():
        if not fits(columns, tuple[str, ...]) or len(set(columns)) != len(columns):
            raise ValueError(f"the columns of its {name} are {columns!r}")
        shapes[name] = ((sizes[name], len(columns)), np.float32)
    for name, (shape, kind) in shapes.items():
        if (arrays[name].shape, arrays[name].dtype) != (shape, kind):
            raise ValueError(f"its {name} are {arrays[name].dtype} of shape {arrays[name].shape}, not {shape}")
    features: dict[str, Any] = {name: Features(arrays[name], tuple(columns)) for name, columns in tables.items()}
    rows: dict[str, Any] = {name: arrays[name] for name in COLUMNS}
    return Interactions(**rows, **features, n_users=header["n_users"], n_items=header["n_items"])
