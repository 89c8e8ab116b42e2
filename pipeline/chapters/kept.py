"""Values that a chapter computed from its trained models, kept as JSON below reports/stored/kept: never pickle.

Numbers, words, lists, dictionaries, arrays, tensors and tables are written by `encoded` and come back by `decoded` as what they
were, floats with nine digits. Long texts are packed by gzip.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.chapters.study import STORED, stored_folder
from recsys_core.errors import StudyError
from recsys_core.files import atomic_path

FOLDER = STORED / "kept"
PACKED, LONG = ".json.gz", 100_000  # bytes from which a text is packed


def kept_file(root: Path, notebook: str, name: str, part: str = "") -> Path:
    """Where a notebook's value of this name is kept, in the store's part of a stored profile or in the study's own."""
    path = stored_folder(root, FOLDER, part) / notebook / f"{re.sub(r'[^A-Za-z0-9]+', '_', name).strip('_')}.json"
    packed = path.with_suffix(PACKED)
    return packed if packed.exists() else path


def write(path: Path, value: Any, made_from: str) -> Path:
    """Keep a value and the digest of the runs that it was made from, in place of what `path` (see `kept_file`) holds.

    Returns the file, whose name says whether it is packed.
    """
    text = json.dumps({"made_from": made_from, "value": encoded(value)}, separators=(",", ":")) + "\n"
    plain, content = path.with_suffix("").with_suffix(".json"), text.encode()
    file, other = plain, plain.with_suffix(PACKED)
    if len(content) >= LONG:
        file, other, content = other, file, gzip.compress(content, mtime=0)
    with atomic_path(file) as temporary:
        temporary.write_bytes(content)
    other.unlink(missing_ok=True)
    return file


def read(path: Path) -> tuple[Any, str] | None:
    """The kept value and the digest of its runs, or None. Raises StudyError for a damaged file."""
    if not path.exists():
        return None
    try:
        text = path.read_bytes()
        content = json.loads(gzip.decompress(text) if path.suffix == ".gz" else text)
        return decoded(content["value"]), content["made_from"]
    except (EOFError, OSError, LookupError, TypeError, ValueError, zlib.error) as error:
        raise StudyError(f"{path} is damaged ({error}): restore it from git.") from None


def encoded(value: Any) -> Any:
    """A value as JSON; what is no plain number, word or list is an object with one key, its kind."""
    if hasattr(value, "detach"):
        return {"tensor": encoded(value.detach().cpu().numpy())}
    if isinstance(value, np.ndarray):
        return {"array": [str(value.dtype), encoded(value.tolist())]}
    if isinstance(value, np.generic):
        return encoded(value.item())
    if isinstance(value, pd.DataFrame):
        columns = [encoded(value.iloc[:, place]) for place in range(value.shape[1])]
        return {"table": [_index(value.columns), _index(value.index), columns]}
    if isinstance(value, pd.Series):
        return {"series": [encoded(value.name), str(value.dtype), _index(value.index), encoded(value.tolist())]}
    if isinstance(value, dict):
        return {"dict": [[encoded(key), encoded(each)] for key, each in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [encoded(each) for each in value]}
    if isinstance(value, list):
        return [encoded(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if value is None or isinstance(value, bool | int | str):
        return value
    raise StudyError(
        f"A {type(value).__name__} cannot be kept: keep numbers, words, lists, dictionaries, arrays or tables."
    )


def _index(index: pd.Index) -> list[Any]:
    return [list(index.names), str(index.dtype), isinstance(index, pd.MultiIndex), encoded(index.tolist())]


def decoded(value: Any) -> Any:
    """What `encoded` was given."""
    if isinstance(value, list):
        return [decoded(each) for each in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        import torch

        return torch.from_numpy(decoded(content))
    if kind == "array":
        return np.array(decoded(content[1]), dtype=content[0])
    if kind == "table":
        columns, index = (_decoded_index(each) for each in content[:2])
        series = {place: decoded(each).to_numpy() for place, each in enumerate(content[2])}
        types = {place: decoded(each).dtype for place, each in enumerate(content[2])}
        return pd.DataFrame(series, index=index).astype(types).set_axis(columns, axis=1)
    if kind == "series":
        name, dtype, index, values = content
        restored = pd.Series(decoded(values), index=_decoded_index(index), name=decoded(name))
        return restored if dtype.startswith("category") else restored.astype(dtype)
    if kind == "dict":
        return {decoded(key): decoded(each) for key, each in content}
    if kind == "tuple":
        return tuple(decoded(each) for each in content)
    raise ValueError(f"unknown kind {kind}")


def _decoded_index(content: list[Any]) -> pd.Index:
    names, dtype, several, labels = content
    labels = decoded(labels)
    if several:
        return pd.MultiIndex.from_tuples(labels, names=names)
    index = pd.Index(labels, name=names[0])
    return index if dtype.startswith("category") else index.astype(dtype)


def largest_difference(stored: Any, fresh: Any) -> float:
    """Largest absolute difference of two values as `encoded` gives them; infinite where words or shapes differ."""
    if isinstance(stored, list) and isinstance(fresh, list):
        if len(stored) != len(fresh):
            return np.inf
        return max((largest_difference(*pair) for pair in zip(stored, fresh)), default=0.0)
    if isinstance(stored, dict) and isinstance(fresh, dict):
        return largest_difference(list(stored.items()), [(key, fresh.get(key)) for key in stored])
    if isinstance(stored, tuple) and isinstance(fresh, tuple):
        return largest_difference(list(stored), list(fresh))
    if isinstance(stored, int | float) and isinstance(fresh, int | float):
        if np.isnan(stored) or np.isnan(fresh):
            return 0.0 if np.isnan(stored) and np.isnan(fresh) else np.inf
        return abs(float(stored) - float(fresh))
    return 0.0 if stored == fresh else np.inf
