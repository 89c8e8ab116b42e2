"""One loader for every MovieLens release, two benchmarks and own files."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from recsys_core.errors import StudyError
from recsys_core.releases.cache import frames_sha256, read_tables
from recsys_core.releases.formats import Scale, Tables
from recsys_core.releases.own import Columns, read_own
from recsys_core.releases.sources import GENOMES, RELEASES


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
    `explicit` is False where all ratings outside the benchmark's test rows are the same: such ratings are no
    opinions, and copies published without ratings have positions in the user's history as timestamps.
    `source` belongs into logs alone; `sha256` is of the frames' values, so it does not depend on the source. An own
    file gives `offset` + `unit` · r where `ratings` have r stars, and `notes` say how that file was understood.
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
    unit: float = 1.0
    offset: float = 0.0
    notes: tuple[str, ...] = ()


def load(
    name: str | Path,
    movies: Path | None = None,
    users: Path | None = None,
    keep: str | None = None,
    columns: Columns = None,
) -> MovieLens:
    """Load a data set by name (one of `RELEASES`), or own data by the path of a file of ratings.

    How a file of ratings is read, and what `columns` and `keep` are, says `releases.own.read_ratings`; `movies` (item_id, title,
    genres) and `users` (user_id, age, gender, occupation, zip_code) are optional further files. Raises StudyError for an unknown
    name, a data set that no source could give, and for bad input (with file, line, column and value).
    """
    if (release := RELEASES.get(str(name))) is not None:
        if (movies, users, keep, columns) != (None, None, None, None):
            raise StudyError(f"movies, users, keep and columns are for own files; load {str(name)!r} without them.")
        tables, meta = read_tables(str(name), release)
        return _assemble(str(name), tables, release.scale, meta["source"], meta["sha256"])
    path = Path(str(name))
    if not (isinstance(name, Path) or path.suffix or len(path.parts) > 1 or os.path.isfile(path)):
        raise StudyError(f"Unknown data set {name!r}: use {', '.join(RELEASES)}, or the path of a file of ratings.")
    tables, own = read_own(path, movies and Path(movies), users and Path(users), columns, keep)
    # Results are compared by the name of their data: an own `ml-100k.csv` is not ML-100K.
    own_name = f"{path.stem} (own file)" if path.stem in RELEASES else path.stem
    data = _assemble(own_name, tables, own.stars, "own file", frames_sha256(tables))
    return replace(data, unit=own.unit, offset=own.offset, notes=own.notes)


def load_genome(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Load a release's tag genome: scores (item_id, tag_id, relevance from 0 to 1) and tags (tag_id, tag).

    Raises StudyError for a data set without one, or that no source could give. Source: Vig, Sen & Riedl 2012.
    """
    if name not in GENOMES:
        raise StudyError(f"{name!r} has no tag genome; data sets with one: {', '.join(GENOMES)}.")
    tables, _ = read_tables(f"{name}-genome", GENOMES[name])
    return tables["scores"], tables["tags"]


def _assemble(name: str, tables: Tables, scale: Scale, source: str, sha256: str) -> MovieLens:
    ratings, benchmark, training = tables["ratings"], None, tables["ratings"]["rating"].to_numpy()
    if "negatives" in tables:
        benchmark = Benchmark(ratings.pop("held_out").to_numpy(bool), tables["negatives"].to_numpy("int64"))
        training = training[~benchmark.test]
    movies, users, tags = (tables.get(table) for table in ("movies", "users", "tags"))
    explicit = bool((training != training[0]).any())
    return MovieLens(name, ratings, movies, users, tags, scale, explicit, benchmark, source, sha256)
