"""The tables of a release from a verified parquet cache, which is built anew where it is missing, damaged or of other files."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa

from recsys_core.errors import StudyError
from recsys_core.releases import formats, sources
from recsys_core.releases.formats import Tables, unique_pairs
from recsys_core.releases.sources import Release

CACHE_FORMAT = 1  # raise it whenever the normalised frames change
META = {"format": int, "source": str, "origin": dict, "sha256": str, "tables": dict}
CACHE_ERRORS = (OSError, ValueError, LookupError, TypeError, RecursionError, pa.ArrowException)
VERSION = "%s: %s; the SHA-256 of its tables is %s"
log = logging.getLogger(__name__)


def read_tables(name: str, release: Release) -> tuple[Tables, dict[str, Any]]:
    """Return tables and provenance from the cache; build it if it is missing, damaged or of other files.

    Raises StudyError where no source has the data, or the cache cannot be written.
    """
    folder = sources.DATA / "cache" / name
    try:
        return _read_cache(folder, release)
    except CACHE_ERRORS as error:
        damage = "" if isinstance(error, FileNotFoundError) else f"The cache {folder} cannot be used ({error}), and "
        log.info("%s: building the cache (%s)", name, error)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(".building-*-*"):
            # Left by a killed process.
            number = left.name.split("-")[1]
            if number.isdecimal() and not psutil.pid_exists(int(number)):
                shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".building-{os.getpid()}-", dir=folder.parent) as scratch:
            return _build_cache(name, release, folder, Path(scratch))
    except StudyError as error:
        raise StudyError(f"{damage}{error}") from None
    except OSError as error:
        remedy = f"free space, make it writable, or run: rm -r {folder}"
        raise StudyError(f"The cache {folder} cannot be written ({error}); {remedy}") from None


def _read_cache(folder: Path, release: Release) -> tuple[Tables, dict[str, Any]]:
    """Read a cache; raise one of CACHE_ERRORS if it is not whole, not of the files found now, or not what its hashes say."""
    meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    if not all(isinstance(meta[key], kind) for key, kind in META.items()):
        raise ValueError("its meta.json is damaged")
    local = sources.find_local(release)[0]
    if (meta["format"], meta["local"]) != (CACHE_FORMAT, local and sources.fingerprint(local, release)):
        raise ValueError("it is of other files or another version")
    tables = {}
    for table, expected in meta["tables"].items():
        content = (folder / f"{table}.parquet").read_bytes()
        if hashlib.sha256(content).hexdigest() != expected:
            raise ValueError(f"its table {table} is damaged")
        tables[table] = pd.read_parquet(BytesIO(content))
    formats.check_tables(release.format, tables, release.scale)
    if meta["sha256"] != frames_sha256(tables) or release.tables_sha256 not in (None, meta["sha256"]):
        raise ValueError("its tables are not those that meta.json names")
    return tables, meta


def _build_cache(name: str, release: Release, folder: Path, scratch: Path) -> tuple[Tables, dict[str, Any]]:
    """Convert a release, downloaded to `scratch`, into files in `folder`; meta.json, the last, makes them valid.

    All are written before the first is moved into place, so that a full disk leaves the cache as it was.
    """
    found = sources.find(name, release, scratch)
    tables = found.read(found.folder, release.scale)
    if "ratings" in tables:
        unique_pairs(tables["ratings"], found.folder)
    sha256 = frames_sha256(tables)
    if release.tables_sha256 not in (None, sha256):
        raise sources.other_data(found.folder, sha256, str(release.tables_sha256), release)
    if release.versions:
        version = release.versions.get(sha256, "a version that was not seen when this was written")
        log.log(logging.INFO if sha256 in release.versions else logging.WARNING, VERSION, name, version, sha256)
    contents = {table: frame.to_parquet(compression="zstd", index=False) for table, frame in tables.items()}
    meta = {
        "format": CACHE_FORMAT,
        "source": found.source,
        "origin": found.origin,
        "local": found.origin if found.source == "local folder" else None,
        "sha256": sha256,
        "tables": {table: hashlib.sha256(content).hexdigest() for table, content in contents.items()},
    }
    files = {f"{table}.parquet": content for table, content in contents.items()}
    written = scratch / "written"
    written.mkdir()
    for file, content in (files | {"meta.json": json.dumps(meta, indent=1).encode()}).items():
        (written / file).write_bytes(content)
    folder.mkdir(exist_ok=True)
    for file in (*files, "meta.json"):
        (written / file).replace(folder / file)
    return tables, meta


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
