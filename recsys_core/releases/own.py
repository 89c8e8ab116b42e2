"""Ratings of one's own: any file of users, items and what they gave, as the table that the study reads.

What was understood is said in `Own.notes`, a sentence each; what is in doubt is refused with file, line, column and value.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import yaml

from recsys_core.errors import StudyError, refuse_unknown
from recsys_core.releases import own_values
from recsys_core.releases.formats import FORMATS, KEYS, Scale, Tables, finished, read_table, unique_keys
from recsys_core.releases.own_rows import rows_of
from recsys_core.releases.own_values import KEEP, STARS
from recsys_core.releases.shapes import A_TIME

Columns: TypeAlias = Mapping[str, str] | None
SAID = (*KEYS, "columns", "keep")  # what a YAML file says of how to read ratings
DESCRIPTIONS = (".yaml", ".yml")
N_TO_BE_ASKED, N_SAMPLED_NEGATIVES = 3, 99  # ratings of a user who is tested; as `splits` has them


@dataclass(frozen=True)
class Own:
    """`ratings` has user_id, item_id, rating and timestamp (s), in the order of the file; `scale` is that of the file.

    Ratings of a scale that is no stars' are mapped on 1 to 5 stars, end to end. `notes` say what was understood.
    """

    ratings: pd.DataFrame
    scale: Scale
    notes: tuple[str, ...]

    @property
    def stars(self) -> Scale:
        """The scale of `ratings`."""
        return self.scale if self.scale in STARS else STARS[0]

    @property
    def unit(self) -> float:
        """How much of the file's own unit a star is."""
        return 1.0 if self.scale in STARS else (self.scale[1] - self.scale[0]) / 4

    @property
    def offset(self) -> float:
        """What the file gives where `ratings` would have no star at all, so that it gives `offset` + `unit` · stars."""
        return 0.0 if self.scale in STARS else self.scale[0] - self.unit


def read_own(
    ratings: Path,
    movies: Path | None = None,
    users: Path | None = None,
    columns: Columns = None,
    keep: str | None = None,
) -> tuple[Tables, Own]:
    """Read own ratings as `read_ratings` does, and, from CSV or parquet files that name their columns, films and users.

    What is not given is what the file `RATINGS.yaml` beside the ratings says, where there is one. In place of the ratings there may
    be a description: a YAML file that says the same, and in `ratings` where they are.
    """
    given: dict[str, Any] = {"movies": movies, "users": users, "columns": columns, "keep": keep}
    given = {name: value for name, value in given.items() if value is not None}
    if ratings.suffix in DESCRIPTIONS and os.path.isfile(ratings):
        given = said_in(ratings, ("ratings", *SAID)) | given
        if "ratings" not in given:
            raise StudyError(f"{ratings} does not say where the ratings are: add a line such as ratings: ratings.csv.")
        ratings = given["ratings"]
    said = said_in(ratings.with_name(f"{ratings.name}.yaml")) | given
    own = read_ratings(ratings, said.get("columns"), said.get("keep"))
    tables, layouts = {"ratings": own.ratings}, FORMATS["own"]
    for table in KEYS:
        if (path := said.get(table)) is not None:
            are_text = own.ratings[KEYS[table]].dtype != "int64"
            tables[table] = read_table(path, replace(layouts[table], text_ids=are_text))
            unique_keys(table, tables[table], path)
    return finished("own", tables), replace(own, notes=(*own.notes, *_of_users(own.ratings)))


def has_times(ratings: pd.DataFrame) -> bool:
    """Whether ratings have times of a clock, not places in a file (or in a history) alone."""
    return bool((ratings["timestamp"] >= A_TIME).any())


def _of_users(ratings: pd.DataFrame) -> list[str]:
    """Which users the study cannot ask for lists, and what a small catalogue does to lists."""
    counts, n_items = ratings["user_id"].value_counts(), ratings["item_id"].nunique()
    notes = []
    if few := int((counts < N_TO_BE_ASKED).sum()):
        notes.append(f"Users with fewer than {N_TO_BE_ASKED} ratings: {few:,} of {len(counts):,}; they only train.")
    if full := int((n_items - counts < N_SAMPLED_NEGATIVES).sum()):
        left = f"all but fewer than {N_SAMPLED_NEGATIVES} of the {n_items:,} items"
        which = "protocols that draw so many others do not test them"
        notes.append(f"Users who have rated {left}: {full:,} of {len(counts):,}; {which}.")
    return notes


def said_in(path: Path, known: tuple[str, ...] = SAID) -> dict[str, Any]:
    """What a YAML file says of how to read ratings: `keep`, `columns`, and where files are, seen from its folder.

    Without the file it is nothing. Raises StudyError for what is no such mapping.
    """
    if not os.path.isfile(path):
        return {}
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        said = {str(name): value for name, value in said.items()}
        if "columns" in said:
            said["columns"] = {str(role): str(name) for role, name in said["columns"].items()}
        said |= {table: path.parent / said[table] for table in ("ratings", *KEYS) if table in said}
    except (yaml.YAMLError, ValueError, AttributeError, TypeError) as error:
        raise StudyError(
            f"{path} is no mapping such as `keep: last` ({str(error).splitlines()[0]}); correct it."
        ) from None
    refuse_unknown(f"{path}: setting", list(said), known)
    return said


def read_ratings(path: Path, columns: Columns = None, keep: str | None = None) -> Own:
    """Read ratings from text (of any separator, packed with gzip or zip or not) or parquet.

    `columns` says which column is user, item, rating or time, by name, or by number from 1 where there are no names. `keep` says
    which of several ratings of a user and an item stays: the first, the last, or one with their mean and the last time. Raises
    StudyError for what cannot be read, and for the first value that is in doubt.
    """
    refuse_unknown("keep", [keep], KEEP)
    if not os.path.isfile(path):  # False, too, for a name that the system does not allow
        raise StudyError(f"{path} is not a file; check the path.")
    try:
        rows, layout = rows_of(path, columns or {})
    except OSError as error:
        raise StudyError(f"{path} cannot be read ({error.strerror or error}); check its permissions.") from None
    users, user_notes = own_values.ids(rows, "user")
    items, item_notes = own_values.ids(rows, "item")
    stars, scale, rating_notes = own_values.stars(rows)
    times, time_notes = own_values.times(rows)
    frame = pd.DataFrame({"user_id": users, "item_id": items, "rating": stars, "timestamp": times})
    frame, pair_notes = own_values.once(rows, frame, keep)
    return Own(frame, scale, (layout, *user_notes, *item_notes, *rating_notes, *time_notes, *pair_notes))
