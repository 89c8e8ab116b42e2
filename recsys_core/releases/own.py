"""Ratings of one's own: any file of users, items and what they gave, as the table that the study reads.

What was understood is said in `Own.notes`, a sentence each; what is in doubt is refused with file, line, column and value.
"""

import csv
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from recsys_core.errors import StudyError, refuse_unknown
from recsys_core.releases.formats import FORMATS, KEYS, Scale, Tables, finished, read_table, unique_keys
from recsys_core.releases.parquet import is_parquet, readable
from recsys_core.releases.shapes import SEPARATORS, Shape, roles_of, shape_of, unpacked

# Scales that are read as they are; others are mapped on the first of them.
STARS: tuple[Scale, ...] = ((1, 5), (0.5, 5))
SCALES: tuple[Scale, ...] = (
    *STARS,
    (0, 1),
    (-1, 1),
    (0, 5),
    (1, 6),
    (1, 7),
    (1, 10),
    (0, 10),
    (-10, 10),
    (1, 100),
    (0, 100),
)
FEW = 1e-3  # share of the ratings that alone lie outside a scale, and are taken for errors
UNITS_S = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
LARGEST_S = 1e10  # a time in seconds is less; 2286
Columns: TypeAlias = Mapping[str, str] | None
N_TO_BE_ASKED, N_SAMPLED_NEGATIVES = 3, 99  # ratings of a user who is tested; as `splits` has them
KEEP = (None, "first", "last", "mean")
WHOLE, WHOLE_WITH_POINT = r"^(0|-?[1-9][0-9]{0,17})$", r"^(0|-?[1-9][0-9]{0,14})(\.0*)?$"
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"


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


@dataclass(frozen=True)
class Rows:
    """Columns of text by role, and where to look for the line of a row."""

    path: Path
    columns: dict[str, pa.Array]
    names: Mapping[str, str]
    lines: bytes | None = None
    has_header: bool = False

    def refuse(self, row: int, role: str, reason: str) -> StudyError:
        """The refusal of a value: file, line (in a parquet file: row), column, value and what is wrong with it."""
        value = self.columns[role][row].as_py()
        shown = repr(value if len(value or "") <= 80 else value[:80] + "…")
        name = self.names[role] if self.has_header or self.lines is None else f"column {self.names[role]}"
        todo = "" if "; " in reason else "; correct it"
        return StudyError(f"{self.path}, {self._where(row)}: {name} {shown} {reason}{todo}.")

    def _where(self, row: int) -> str:
        if self.lines is None:
            return f"row {row + 1}"
        filled = [number for number, line in enumerate(self.lines.splitlines(), 1) if line.strip(b"\r\n")]
        return f"line {filled[row + self.has_header]}"


def read_own(
    ratings: Path,
    movies: Path | None = None,
    users: Path | None = None,
    columns: Columns = None,
    keep: str | None = None,
) -> tuple[Tables, Own]:
    """Read own ratings as `read_ratings` does, and, from CSV or parquet files that name their columns, films and users.

    What is not given is what the file `RATINGS.yaml` beside the ratings says, where there is one.
    """
    given = {"movies": movies, "users": users, "columns": columns, "keep": keep}
    said = said_beside(ratings) | {name: value for name, value in given.items() if value is not None}
    own = read_ratings(ratings, said.get("columns"), said.get("keep"))
    tables, layouts = {"ratings": own.ratings}, FORMATS["own"]
    for table in KEYS:
        if (path := said.get(table)) is not None:
            are_text = own.ratings[KEYS[table]].dtype != "int64"
            tables[table] = read_table(path, replace(layouts[table], text_ids=are_text))
            unique_keys(table, tables[table], path)
    return finished("own", tables), replace(own, notes=(*own.notes, *_of_users(own.ratings)))


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


def said_beside(ratings: Path) -> dict[str, Any]:
    """What `RATINGS.yaml` says of how to read a file: `keep`, `columns`, and where its `movies` and `users` are, from its folder.

    Raises StudyError for what is no such mapping.
    """
    path = ratings.with_name(f"{ratings.name}.yaml")
    if not os.path.isfile(path):
        return {}
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        said = {str(name): value for name, value in said.items()}
        if "columns" in said:
            said["columns"] = {str(role): str(name) for role, name in said["columns"].items()}
        said |= {table: ratings.parent / said[table] for table in KEYS if table in said}
    except (yaml.YAMLError, ValueError, AttributeError, TypeError) as error:
        raise StudyError(
            f"{path} is no mapping such as `keep: last` ({str(error).splitlines()[0]}); correct it."
        ) from None
    refuse_unknown(f"{path}: setting", list(said), (*KEYS, "columns", "keep"))
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
        rows, layout = (_of_parquet if is_parquet(path) else _of_text)(path, columns or {})
    except OSError as error:
        raise StudyError(f"{path} cannot be read ({error.strerror or error}); check its permissions.") from None
    users, user_notes = _ids(rows, "user")
    items, item_notes = _ids(rows, "item")
    stars, scale, rating_notes = _ratings(rows)
    times, time_notes = _times(rows)
    frame = pd.DataFrame({"user_id": users, "item_id": items, "rating": stars, "timestamp": times})
    frame, pair_notes = _once(rows, frame, keep)
    return Own(frame, scale, (layout, *user_notes, *item_notes, *rating_notes, *time_notes, *pair_notes))


def _of_text(path: Path, columns: Mapping[str, str]) -> tuple[Rows, str]:
    content, packed = unpacked(path)
    shape = shape_of(path, content, columns)
    parted = content.replace(b"::", b"\x1f") if shape.separator == "::" else content
    reading = arrow_csv.ReadOptions(column_names=_different(shape.names), skip_rows=int(shape.has_header))
    parsing = arrow_csv.ParseOptions(delimiter=shape.delimiter, newlines_in_values=False)
    wanted = {role: _different(shape.names)[shape.names.index(name)] for role, name in shape.roles.items()}
    converting = arrow_csv.ConvertOptions(
        column_types=dict.fromkeys(wanted.values(), pa.string()),
        include_columns=list(wanted.values()),
        strings_can_be_null=False,
    )
    try:
        table = arrow_csv.read_csv(io.BytesIO(parted), reading, parsing, converting)
    except pa.ArrowInvalid as error:
        raise StudyError(
            _bad_line(path, content, shape) or f"{path}: {str(error).splitlines()[0]}; correct the file."
        ) from None
    texts = {role: table[name].combine_chunks() for role, name in wanted.items()}
    rows = Rows(path, texts, shape.roles, content, shape.has_header)
    how = f"{SEPARATORS[shape.separator]} between values{f', packed with {packed}' if packed else ''}"
    return rows, _understood(rows, how, "" if shape.has_header else ", numbered since no line names them")


def _different(names: list[str]) -> list[str]:
    """Names of which none stands twice: arrow finds columns by them."""
    return [f"{place} {name}" for place, name in enumerate(names)]


def _of_parquet(path: Path, columns: Mapping[str, str]) -> tuple[Rows, str]:
    with readable(path):
        file = parquet.ParquetFile(path)  # as one file: a folder's name such as `fold=1` is no column
        roles = roles_of(path, file.schema_arrow.names, columns)
        table = file.read(columns=list(roles.values()))
        texts = {role: pc.fill_null(table[name].combine_chunks().cast(pa.string()), "") for role, name in roles.items()}
    rows = Rows(path, texts, roles)
    if not table.num_rows:
        raise StudyError(f"{path} holds no rows; it needs at least one.")
    return rows, _understood(rows, "parquet", "")


def _understood(rows: Rows, how: str, more: str) -> str:
    columns = ", ".join(f"{role} = {name}" for role, name in rows.names.items())
    lacking = "".join(f", no {role}" for role in ("rating", "time") if role not in rows.names)
    return f"{len(rows.columns['user']):,} rows, {how}; columns: {columns}{lacking}{more}."


def _bad_line(path: Path, content: bytes, shape: Shape) -> str | None:
    """The first line that is none: of other values than the first one has, a quote that is open, or no UTF-8."""
    for number, raw in enumerate(content.splitlines(), 1):
        try:
            line = raw.decode("utf-8-sig")
            values = shape.values(line)
        except UnicodeDecodeError:
            return f"{path}, line {number} is not UTF-8 text; save the file as such."
        except csv.Error:
            return f"{path}, line {number}: {line[:80]!r} opens a quote and does not close it; correct it."
        if values and len(values) != len(shape.names):
            return f"{path}, line {number}: {line[:80]!r} has {len(values)} instead of {len(shape.names)} values; correct it."
    return None


def _ids(rows: Rows, role: str) -> tuple[Any, list[str]]:
    """Ids as whole numbers where all of them are, else text; blanks around them are stripped."""
    given = rows.columns[role]
    ids = pc.utf8_trim_whitespace(given)
    notes = []
    if changed := pc.sum(pc.not_equal(ids, given)).as_py():
        notes.append(f"Blanks around {changed:,} ids of the column {rows.names[role]} were stripped.")
    if (empty := _first(pc.equal(pc.utf8_length(ids), 0))) is not None:
        raise rows.refuse(empty, role, "is empty")
    distinct = pc.unique(ids)
    if pc.all(
        pc.match_substring_regex(distinct, WHOLE)
    ).as_py():  # "007" stays text: it could no longer be told from "7"
        return ids.cast(pa.int64()).to_pandas(), notes
    if pc.all(pc.match_substring_regex(distinct, WHOLE_WITH_POINT)).as_py():
        notes.append(
            f"Ids of the column {rows.names[role]} such as {_example(distinct, '.')} are read as whole numbers."
        )
        return ids.cast(pa.float64()).cast(pa.int64()).to_pandas(), notes
    return ids.to_pandas().astype("str"), notes


def _ratings(rows: Rows) -> tuple[np.ndarray, Scale, list[str]]:
    """Ratings in stars, the scale that they were given on, and what is said of it."""
    if "rating" not in rows.columns:
        return (
            np.ones(len(rows.columns["user"])),
            STARS[0],
            ["No ratings: every row says that somebody chose something, and no more."],
        )
    texts, notes = pc.utf8_trim_whitespace(rows.columns["rating"]), []
    if pc.any(commas := pc.match_substring_regex(texts, r"^[+-]?[0-9]+,[0-9]+$")).as_py():
        notes.append(f"Ratings such as {_example(texts.filter(commas), ',')} are read with a decimal comma.")
        texts = pc.replace_substring(texts, ",", ".")
    values = _numbers(rows, "rating", texts)
    scale, standard = _scale(rows, values)
    if (values == values[0]).all():
        notes.append(f"All ratings are {values[0]:g}: they say that somebody chose something, and no more.")
        return np.ones(len(values)), STARS[0], notes
    named = f"Ratings are on a scale from {scale[0]:g} to {scale[1]:g}{'' if standard else ', which is what occurs'}"
    if scale in STARS:
        return values, scale, [*notes, f"{named}."]
    low, high = scale
    if low == 0 and high > 1 and (zeros := int((values == 0).sum())):
        notes.append(
            f"The rating 0 occurs {zeros:,} times and counts as one: where it stands for none, leave these rows out."
        )
    notes.append(
        f"{named}; they are mapped on 1 to 5 stars, each {(high - low) / 4:g} of the file's points, and errors are in stars."
    )
    return 1 + 4 * (values - low) / (high - low), scale, notes


def _numbers(rows: Rows, role: str, texts: pa.Array) -> np.ndarray:
    if (bad := _first(pc.invert(pc.match_substring_regex(texts, NUMBER)))) is not None:
        raise rows.refuse(bad, role, "is empty" if not texts[bad].as_py() else "is not a number")
    return np.asarray(texts.cast(pa.float64()).to_numpy(zero_copy_only=False))


def _scale(rows: Rows, values: np.ndarray) -> tuple[Scale, bool]:
    """The first known scale that holds all ratings, else that of what occurs; the few beyond one half as wide are refused."""
    whole = bool((values % 1 == 0).all())
    known = [scale for scale in SCALES if whole or scale != STARS[0]]
    holding = [scale for scale in known if scale[0] <= values.min() and values.max() <= scale[1]]
    chosen = holding[0] if holding else (float(values.min()), float(values.max()))
    for low, high in SCALES:
        outside = (values < low) | (values > high)
        if 2 * (high - low) <= chosen[1] - chosen[0] and 0 < outside.mean() < FEW:
            reason = f"is outside the scale {low:g} to {high:g} of all but {outside.sum():,} of {len(values):,} ratings"
            raise rows.refuse(int(outside.argmax()), "rating", reason)
    return chosen, bool(holding)


def _times(rows: Rows) -> tuple[np.ndarray, list[str]]:
    """Times in whole seconds since 1970; without any, the place in the file."""
    if "time" not in rows.columns:
        return np.arange(len(rows.columns["user"]), dtype=np.int64), [
            "No times: rows count as given in the order of the file."
        ]
    texts = pc.utf8_trim_whitespace(rows.columns["time"])
    if not pc.any(pc.match_substring_regex(texts, NUMBER)).as_py():
        return _dates(rows, texts)
    values = _numbers(rows, "time", texts)
    unit = next((unit for unit, parts in UNITS_S.items() if np.abs(values).max() < LARGEST_S * parts), None)
    if unit is None:
        raise rows.refuse(int(np.abs(values).argmax()), "time", "is no time since 1970 in seconds or parts of it")
    notes = [] if unit == "seconds" else [f"Times are {unit} since 1970, and read as seconds."]
    if unit != "seconds" and (seconds := (values > 0) & (values < LARGEST_S)).any():
        raise rows.refuse(int(seconds.argmax()), "time", f"is in seconds where others are in {unit}")
    return np.floor(values / UNITS_S[unit]).astype(np.int64), notes


def _dates(rows: Rows, texts: pa.Array) -> tuple[np.ndarray, list[str]]:
    dates = pd.to_datetime(pd.Series(texts.to_pandas()), format="ISO8601", utc=True, errors="coerce")
    if (bad := _first(pa.array(dates.isna()))) is not None:
        empty = not texts[bad].as_py()
        raise rows.refuse(
            bad, "time", "is empty" if empty else "is neither seconds since 1970 nor a date such as 1998-04-22 23:10:38"
        )
    seconds = dates.dt.as_unit("s").astype("int64").to_numpy()
    whole = (
        " without a time of day: what was given on one day is tied"
        if not (seconds % 86_400).any()
        else ", taken for UTC where they name no zone"
    )
    return seconds, [f"Times are dates{whole}."]


def _once(rows: Rows, frame: pd.DataFrame, keep: str | None) -> tuple[pd.DataFrame, list[str]]:
    """One row of each user and item; without ratings a repetition is what logs have, else it is refused unless `keep` decides."""
    repeated = frame.duplicated(["user_id", "item_id"], keep="last" if keep == "last" else "first")
    if not repeated.any():
        return frame, []
    count = f"rows that repeat the user and the item of another one: {repeated.sum():,}"
    if keep is None and "rating" not in rows.columns:
        keep, said = "first", f"{count[0].upper()}{count[1:]}; the first one counts."
    elif keep is None:
        place = int(repeated.to_numpy().argmax())
        item = rows.columns["item"][place].as_py()
        file = f"{rows.path.name}.yaml"
        reason = f"has a rating of {item!r} already ({count}); write keep: first, last or mean into {file} beside it"
        raise rows.refuse(place, "user", reason)
    else:
        counting = "their mean counts, at the last time" if keep == "mean" else f"the {keep} one counts"
        said = f"{count[0].upper()}{count[1:]}; {counting}."
    if keep == "mean":
        by_pair = frame.groupby(["user_id", "item_id"], sort=False)
        means = by_pair.agg(rating=("rating", "mean"), timestamp=("timestamp", "max")).reset_index()
        return means[list(frame)], [said]
    repeated = frame.duplicated(["user_id", "item_id"], keep=keep)  # type: ignore[arg-type]
    return frame[~repeated].reset_index(drop=True), [said]


def _first(flags: pa.Array) -> int | None:
    """The place of the first true flag."""
    place = pc.index(flags, True).as_py()
    return place if place >= 0 else None


def _example(texts: pa.Array, sign: str) -> str:
    found = texts.filter(pc.match_substring(texts, sign))
    return str(found[0].as_py()) if len(found) else str(texts[0].as_py())
