"""One loader for every MovieLens release, two benchmarks and own files, with a verified parquet cache."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import psutil

from recsys_core.errors import StudyError, choose
from recsys_core.files import atomic_path
from releases import formats, sources
from releases.formats import Scale, Tables
from releases.sources import GENOMES, HALF_STARS, RELEASES, WHOLE_STARS, Release

CACHE_FORMAT = 1  # raise it whenever the normalised frames change
Keep = Literal["first", "last"] | None
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
    """One data set with the same columns whatever its source; rows keep the source's order.

    `ratings`: user_id, item_id, rating (stars, float64), timestamp (s, int64).
    `movies`: item_id, title, year (Int64, NA if unknown), genres ("Action|Drama", alphabetical, "" if none);
    ml-100k also has release_date, video_release_date and imdb_url as raw text.
    `users`: user_id, age (years; ml-1m: lower bound of the age group, 1 for "under 18"), gender ("F" or "M"),
    occupation, zip_code. `tags`: user_id, item_id, tag, timestamp (s).
    `explicit` is False where no rating but 1 occurs outside the benchmark's test rows: such ratings are no
    opinions, and copies published without ratings have positions in the user's history as timestamps.
    `source` belongs into logs alone; `sha256` is of the frames' values, so it does not depend on the source.
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


def load(name: str | Path, movies: Path | None = None, users: Path | None = None, keep: Keep = None) -> MovieLens:
    """Load a data set by name (one of `RELEASES`), or own data by the path of a CSV file of ratings.

    Own ratings have the columns user_id, item_id, rating, timestamp; `movies` (item_id, title, genres) and
    `users` (user_id, age, gender, occupation, zip_code) are optional further CSV files. `keep` says which of
    several rows of a (user_id, item_id) stays, in the file's order. Raises StudyError for an unknown name, a
    data set that no source could give, and for bad input (with file, line, column and value).
    """
    if (release := RELEASES.get(str(name))) is not None:
        if (movies, users, keep) != (None, None, None):
            raise StudyError(f"movies, users and keep are for own files; load {str(name)!r} without them.")
        tables, meta = _cached(str(name), release)
        return _assemble(str(name), tables, release.scale, meta["source"], meta["sha256"])
    path = Path(name)
    if not (isinstance(name, Path) or path.suffix == ".csv" or path.is_file()):
        raise StudyError(f"Unknown data set {name!r}: use {', '.join(RELEASES)}, or the path of a CSV file of ratings.")
    tables = formats.read_own(path, movies and Path(movies), users and Path(users), HALF_STARS)
    tables["ratings"] = _unique(tables["ratings"], path, keep)
    scale = WHOLE_STARS if (tables["ratings"]["rating"] % 1 == 0).all() else HALF_STARS
    return _assemble(path.stem, tables, scale, "own file", frames_sha256(tables))


def load_genome(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Load a release's tag genome: scores (item_id, tag_id, relevance from 0 to 1) and tags (tag_id, tag).

    Raises StudyError for a data set without one, or that no source could give. Source: Vig, Sen & Riedl 2012.
    """
    if name not in GENOMES:
        raise StudyError(f"{name!r} has no tag genome; data sets with one: {', '.join(GENOMES)}.")
    tables, _ = _cached(f"{name}-genome", GENOMES[name])
    return tables["scores"], tables["tags"]


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


def _assemble(name: str, tables: Tables, scale: Scale, source: str, sha256: str) -> MovieLens:
    ratings, benchmark = tables["ratings"], None
    training = ratings["rating"].to_numpy()
    if "negatives" in tables:
        benchmark = Benchmark(ratings.pop("held_out").to_numpy(bool), tables["negatives"].to_numpy("int64"))
        training = training[~benchmark.test]
    movies, users, tags = (tables.get(table) for table in ("movies", "users", "tags"))
    explicit = bool((training != 1).any())
    return MovieLens(name, ratings, movies, users, tags, scale, explicit, benchmark, source, sha256)


def _unique(ratings: pd.DataFrame, where: Path, keep: Keep) -> pd.DataFrame:
    """Drop the rows of a repeated (user_id, item_id) that `keep` does not want; without it refuse them."""
    choose("keep", keep, (None, "first", "last"))
    repeated = ratings.duplicated(["user_id", "item_id"], keep or "first")
    if repeated.any() and keep is None:
        user, item = ratings[["user_id", "item_id"]].to_numpy()[repeated.to_numpy().argmax()]
        twice = f"{repeated.sum():,} rows repeat the user_id and item_id of an earlier one (first: {user}, {item})"
        raise StudyError(f"{where}: {twice}; remove them, or for an own file choose keep='first' or keep='last'.")
    return ratings[~repeated].reset_index(drop=True)


def _cached(name: str, release: Release) -> tuple[Tables, dict[str, Any]]:
    """Return tables and provenance from the cache; build it if it is missing, damaged or of other files."""
    folder = sources.DATA / "cache" / name
    try:
        return _read_cache(folder, release)
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.info("%s: building the cache (%s)", name, error)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(".building-*-*"):
            # Left by a killed process.
            if not psutil.pid_exists(int(left.name.split("-")[1])):
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".building-{os.getpid()}-", dir=folder.parent) as scratch:
            return _build_cache(name, release, folder, Path(scratch))
    except OSError as error:
        raise StudyError(f"The cache {folder} cannot be written ({error}); free space or make it writable.") from None


def _read_cache(folder: Path, release: Release) -> tuple[Tables, dict[str, Any]]:
    """Read a cache; raise an error if it is not whole, or not of the files found now."""
    meta = json.loads((folder / "meta.json").read_text())
    local = sources.find_local(release)[0]
    if (meta["format"], meta["local"]) != (CACHE_FORMAT, local and sources.fingerprint(local, release)):
        raise ValueError("it is of other files or another version")
    tables = {}
    for table, expected in meta["tables"].items():
        content = (folder / f"{table}.parquet").read_bytes()
        if hashlib.sha256(content).hexdigest() != expected:
            raise ValueError(f"its table {table} is damaged")
        tables[table] = pd.read_parquet(BytesIO(content))
    return tables, meta


def _build_cache(name: str, release: Release, folder: Path, scratch: Path) -> tuple[Tables, dict[str, Any]]:
    """Convert a release, downloaded to `scratch`, into files in `folder`; meta.json, the last, makes them valid."""
    found = sources.find(name, release, scratch)
    tables = found.read(found.folder, release.scale)
    if "ratings" in tables:
        _unique(tables["ratings"], found.folder, None)
    contents = {table: frame.to_parquet(compression="zstd", index=False) for table, frame in tables.items()}
    meta = {
        "format": CACHE_FORMAT,
        "source": found.source,
        "origin": found.origin,
        "local": found.origin if found.source == "local folder" else None,
        "sha256": frames_sha256(tables),
        "tables": {table: hashlib.sha256(content).hexdigest() for table, content in contents.items()},
    }
    files = {f"{table}.parquet": content for table, content in contents.items()}
    for file, content in (files | {"meta.json": json.dumps(meta, indent=1).encode()}).items():
        with atomic_path(folder / file) as path:
            path.write_bytes(content)
    return tables, meta
