"""One loader for every MovieLens release, two published benchmarks and a user's own files, with a verified cache."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from recsys_core import sources
from recsys_core.errors import StudyError
from recsys_core.formats import Tables
from recsys_core.sources import RELEASES, Release

FORMAT = 1  # of the cache: raise it whenever the normalised frames change
NAMES: tuple[str, ...] = tuple(RELEASES)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Benchmark:
    """A published split: `test` is (N,) bool, True for held-out rows; `negatives` is (U, 99) item ids.

    Row i of `negatives` belongs to the i-th user id in ascending order.
    """

    test: np.ndarray
    negatives: np.ndarray


@dataclass(frozen=True)
class MovieLens:
    """One data set, whatever its source: rows keep the order of the source, column names are the same everywhere.

    `ratings`: user_id, item_id, rating (stars, float64), timestamp (s, int64). `movies`: item_id, title, year (Int64, NA
    if unknown), genres ("Action|Drama", alphabetical, "" if none); ml-100k also release_date, video_release_date and
    imdb_url as raw text. `users`: user_id, age (years; ml-1m: lower bound of the published group, 1 for "under 18"),
    gender ("F", "M"), occupation, zip_code. `tags`: user_id, item_id, tag, timestamp. `explicit` is False where the
    rating column carries no opinion; `timestamp` is then a position in the user's history. `source` belongs into logs;
    `sha256` is of the frames' values, so it does not depend on the source.
    """

    name: str
    ratings: pd.DataFrame
    movies: pd.DataFrame | None
    users: pd.DataFrame | None
    tags: pd.DataFrame | None
    rating_scale: tuple[float, float]
    explicit: bool
    benchmark: Benchmark | None
    source: str
    sha256: str


def load(
    name: str | Path,
    movies: Path | None = None,
    users: Path | None = None,
    keep: Literal["first", "last"] | None = None,
) -> MovieLens:
    """Load a data set by its name (`NAMES`), or own data by the path of a CSV file.

    Raises StudyError for an unknown name, a data set that no source could give, and bad input.
    """
    if str(name) not in RELEASES:
        raise StudyError(f"Unknown data set {str(name)!r}; known are {', '.join(NAMES)}.")
    release = RELEASES[str(name)]
    tables, meta = _cached(str(name), release)
    return MovieLens(
        name=str(name),
        ratings=tables["ratings"],
        movies=tables.get("movies"),
        users=tables.get("users"),
        tags=tables.get("tags"),
        rating_scale=release.scale,
        explicit=release.explicit,
        benchmark=None,
        source=meta["source"],
        sha256=meta["sha256"],
    )


def frames_sha256(tables: Tables) -> str:
    """SHA-256 of frames by value: table and column names, numbers as little-endian 64 bit, text as UTF-8."""
    digest = hashlib.sha256()
    for table, frame in sorted(tables.items()):
        for column, values in frame.items():
            digest.update(f"\n{table}.{column} {len(values)}\n".encode())
            if pd.api.types.is_string_dtype(values.dtype):
                digest.update("\x1f".join(values.fillna("\0")).encode())
            elif values.dtype.kind == "f" or values.hasnans:
                digest.update(values.to_numpy("<f8", na_value=np.nan).tobytes())
            else:
                digest.update(values.to_numpy("<i8").tobytes())
    return digest.hexdigest()


def _cached(name: str, release: Release) -> tuple[Tables, dict[str, Any]]:
    """Return tables and their provenance from the cache, building it first if it is missing, damaged or of other files."""
    folder = sources.DATA / "cache" / name
    try:
        return _read_cache(folder, release)
    except (OSError, ValueError, KeyError) as error:
        log.info("%s: building the cache (%s)", name, error)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{os.getpid()}.{name}.", dir=folder.parent) as temporary:
        return _build_cache(name, release, folder, Path(temporary))


def _read_cache(folder: Path, release: Release) -> tuple[Tables, dict[str, Any]]:
    meta = json.loads((folder / "meta.json").read_text())
    local = sources.find_local(release)[0]
    origin = sources.fingerprint(local, release) if local else None
    if (meta["format"], meta["local"]) != (FORMAT, origin):
        raise ValueError("it was built from other files or by another version")
    tables = {}
    for table, expected in meta["tables"].items():
        content = (folder / f"{table}.parquet").read_bytes()
        if hashlib.sha256(content).hexdigest() != expected:
            raise ValueError(f"{table} is damaged")
        tables[table] = pd.read_parquet(BytesIO(content))
    return tables, meta


def _build_cache(name: str, release: Release, folder: Path, temporary: Path) -> tuple[Tables, dict[str, Any]]:
    """Convert a release inside `temporary`, then move the finished folder to its place in one step."""
    scratch, built = temporary / "scratch", temporary / "built"
    scratch.mkdir()
    built.mkdir()
    found = sources.find(name, release, scratch)
    tables = found.read(found.folder, release.scale)
    files = {}
    for table, frame in tables.items():
        frame.to_parquet(built / f"{table}.parquet", compression="zstd", index=False)
        files[table] = hashlib.sha256((built / f"{table}.parquet").read_bytes()).hexdigest()
    meta = {
        "format": FORMAT,
        "source": found.source,
        "origin": found.origin,
        "local": found.origin if found.source == "local folder" else None,
        "sha256": frames_sha256(tables),
        "tables": files,
    }
    (built / "meta.json").write_text(json.dumps(meta, indent=1))
    while True:
        try:
            os.replace(built, folder)
            return tables, meta
        except OSError:
            # The place is taken, by an old cache or by another process that was faster: the last one wins.
            old = tempfile.mkdtemp(dir=temporary)
            os.replace(folder, old)
