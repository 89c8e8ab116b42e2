"""Readers: the published file formats of MovieLens and of two benchmarks, and own files, as equal frames.

What the files are and how they are laid out stands in `releases.yaml`; one reader reads all of them. Sources: GroupLens's
README of each release; the NCF files of He et al. 2017 (arXiv 1708.05031), the SASRec file of Kang & McAuley 2018
(arXiv 1808.09781). A bad row is only searched for once there is one.
"""

import csv
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml
from pyarrow import csv as arrow_csv

from recsys_core.errors import StudyError
from recsys_core.releases.objects import objects_as_csv
from recsys_core.releases.parquet import as_csv, column_names, is_parquet
from recsys_core.releases.shapes import as_ours

Tables = dict[str, pd.DataFrame]
Scale = tuple[float, float]

PUBLISHED: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("releases.yaml").read_text(encoding="utf-8"))
WHOLE, NUMBER, TEXT = pa.int64(), pa.float64(), pa.string()
KINDS = dict.fromkeys(PUBLISHED["text_columns"], TEXT) | dict.fromkeys(PUBLISHED["decimal_columns"], NUMBER)
OCCUPATIONS_1M = {str(code): text for code, text in enumerate(PUBLISHED["occupations"])}
ALLOWED = {"gender": ("F", "M"), "occupation_code": tuple(OCCUPATIONS_1M)}
AGES = (0, 120)  # years
MOST_SHOWN = 80  # characters of a value
csv.field_size_limit(2**31 - 1)  # a film's description may be long
OUR_NAMES = {"userId": "user_id", "movieId": "item_id", "tagId": "tag_id"}
OUR_NAMES |= {"movie_id": "item_id", "movie_title": "title", "IMDb_URL": "imdb_url"}
OUR_NAMES |= {"item_id:token": "item_id", "entity_id:token": "entity"}
OUR_NAMES |= {f"{name}_id:token": name for name in ("head", "relation", "tail")}
KIND_TYPES = {WHOLE: "int64", NUMBER: "float64", TEXT: "str"}
TYPES = {"year": "Int64", "held_out": "bool"}  # of columns that are made here
KEYS = {"movies": "item_id", "users": "user_id"}


@dataclass(frozen=True)
class Layout:
    """How a text file is laid out, see `releases.yaml`; ratings must lie on `scale`, ids are numbers or, if said, text."""

    file: str
    columns: list[str]
    separator: str = ","
    encoding: str = "utf-8"
    scale: Scale = (float("-inf"), float("inf"))
    text_ids: bool = False
    headed: bool = False
    named_freely: bool = False  # columns may be called what people call them
    optional: tuple[str, ...] = ()  # columns that may be missing, and are empty then

    @property
    def has_header(self) -> bool:
        """Whether the first line names the columns, and values may be quoted."""
        return self.headed or self.separator == ","

    @property
    def delimiter(self) -> str:
        """One character: `::` is replaced on reading."""
        return self.separator.replace("::", "\x1f")

    def kind(self, column: str) -> pa.DataType:
        """What a column holds."""
        return TEXT if self.text_ids and column.endswith("_id") else KINDS.get(column, WHOLE)

    def objection(self, column: str, value: str) -> str | None:
        """Say what is wrong with one value, or None."""
        kind = self.kind(column)
        if column in ALLOWED and value not in ALLOWED[column]:
            return f"is none of {', '.join(ALLOWED[column])}"
        if kind == TEXT and column.endswith("_id"):
            return "is empty" if not value else "has spaces around it" if value != value.strip() else None
        if kind == TEXT:
            return None
        number = pd.to_numeric(value.strip(), errors="coerce")
        if pd.isna(number) or (kind == WHOLE and not re.fullmatch(r"-?\d+", value.strip())):
            return f"is not a {'whole ' * (kind == WHOLE)}number"
        if column == "rating" and not self.scale[0] <= number <= self.scale[1]:
            return f"is outside the scale {self.scale[0]:g} to {self.scale[1]:g}"
        if column == "age" and not AGES[0] <= number <= AGES[1]:
            return f"is outside {AGES[0]} to {AGES[1]} years"
        return None

    def accepts(self, frame: pd.DataFrame) -> bool:
        """Whether `objection` has none to any value of a parsed frame; parsing has refused what is no number."""
        needed = [column for column in self.columns if self.kind(column) != TEXT or column.endswith("_id")]
        limited = [column for column in self.columns if column in (*ALLOWED, "rating", "age")]
        limited += [column for column in self.columns if column.endswith("_id") and self.text_ids]
        found = [self.objection(column, str(value)) for column in limited for value in frame[column].unique()]
        return not any(found) and bool(frame[needed].notna().all(axis=None))


PUBLISHED["formats"]["ncf"]["negatives"]["columns"] += [f"negative_{number}" for number in range(1, 100)]
FORMATS = {
    name: {table: Layout(**layout) for table, layout in tables.items()} for name, tables in PUBLISHED["formats"].items()
}
ITEMS_100K = FORMATS["u"]["movies"].columns
RAW_100K, GENRES_100K = ITEMS_100K[2:5], ITEMS_100K[5:]


@dataclass(frozen=True)
class Source:
    """A file of rows in a layout; of a parquet or JSON file, `text` is what it would be as CSV."""

    path: Path
    layout: Layout
    text: bytes | None
    fields: list[str]

    @contextmanager
    def rows(self) -> Iterator[Any]:
        """Yield a reader of the rows, the first line included, that counts its lines; a wrong encoding is a StudyError."""
        layout = self.layout
        quoting = csv.QUOTE_MINIMAL if layout.has_header else csv.QUOTE_NONE
        encoding = layout.encoding.replace("utf-8", "utf-8-sig")
        try:
            binary = self.path.open("rb") if self.text is None else BytesIO(self.text)
            with TextIOWrapper(binary, encoding=encoding, newline="") as file:
                lines = (line.replace(layout.separator, layout.delimiter) for line in file)
                yield csv.reader(lines, delimiter=layout.delimiter, quoting=quoting)  # type: ignore[arg-type]
        except UnicodeDecodeError as error:
            raise StudyError(f"{self.path} is not {layout.encoding} text ({error}); save it as such.") from None
        except csv.Error as error:
            raise StudyError(f"{self.path} has a line that is no row ({error}); correct it.") from None

    def binary(self) -> Path | BytesIO:
        """What pyarrow reads: one character between values."""
        if self.layout.separator == "::":
            return BytesIO(self.path.read_bytes().replace(b"::", b"\x1f"))
        return self.path if self.text is None else BytesIO(self.text)


def _opened(path: Path, layout: Layout) -> Source:
    """Look at a file's first line; refuse an empty file and a header that lacks a column or names one twice.

    The layout that comes back is without the optional columns that the file lacks.
    """
    if layout.has_header and is_parquet(path):
        names = (
            as_ours(given := column_names(path), layout.columns)
            if layout.named_freely
            else (given := column_names(path))
        )
        layout = _without_lacking(layout, names)
        _check_names(path, layout, names, "it")
        return Source(path, layout, as_csv(path, dict(zip(names, given)), layout.columns), list(layout.columns))
    text = objects_as_csv(path, layout.columns) if layout.file.endswith(".json") else None
    source = Source(path, layout, text, list(layout.columns))
    with source.rows() as rows:
        first, second = next(rows, None), next(rows, None)
    if first is None:
        raise StudyError(f"{path} is empty; it needs at least one row.")
    if not layout.has_header:
        return source
    first = as_ours(first, layout.columns) if layout.named_freely else first
    layout = _without_lacking(layout, first)
    _check_names(path, layout, first, "its first line")
    if second is None:
        raise StudyError(f"{path} holds no rows; it needs at least one.")
    return replace(source, layout=layout, fields=first)


def _without_lacking(layout: Layout, names: list[str]) -> Layout:
    lacking = [column for column in layout.optional if column not in names]
    return replace(layout, columns=[column for column in layout.columns if column not in lacking])


def _check_names(path: Path, layout: Layout, names: list[str], header: str) -> None:
    wanted = f"{header} must name {', '.join(layout.columns)} (it names {', '.join(names)})"
    if missing := [column for column in layout.columns if column not in names]:
        raise StudyError(f"{path} has no column {', '.join(missing)}; {wanted}.")
    if twice := [column for column in layout.columns if names.count(column) > 1]:
        raise StudyError(f"{path} has several columns {', '.join(twice)}; keep one of each.")


def read_table(path: Path, layout: Layout) -> pd.DataFrame:
    """Read a text or parquet file into a frame with the layout's columns under our names, in the file's row order.

    Raises StudyError for a missing, unreadable or empty file, a missing column, a wrong encoding, and for the first bad row
    with its line number (in a parquet file: row number), column and value.
    """
    if not os.path.isfile(path):  # False, too, for a name that the system does not allow
        raise StudyError(f"{path} is not a file; check the path.")
    try:
        source = _opened(path, layout)
        frame = _parsed(source)
    except OSError as error:
        raise StudyError(
            f"{path} cannot be read ({error.strerror or error}); check its permissions and the disk."
        ) from None
    if frame.empty:
        raise StudyError(f"{path} holds no rows; it needs at least one.")
    if not source.layout.accepts(frame):
        raise StudyError(_explain(source) or f"{path} lacks values; fill them in.")
    lacking = [column for column in layout.columns if column not in frame]
    return frame.assign(**dict.fromkeys(lacking, ""))[layout.columns].rename(columns=OUR_NAMES)


def _parsed(source: Source) -> pd.DataFrame:
    """All rows at once; a row that is no row of the layout is a StudyError."""
    layout, header = source.layout, source.layout.has_header
    reading = arrow_csv.ReadOptions(column_names=source.fields, skip_rows=int(header), encoding=layout.encoding)
    parsing = arrow_csv.ParseOptions(
        delimiter=layout.delimiter, quote_char='"' if header else False, newlines_in_values=header
    )
    kinds = {column: layout.kind(column) for column in layout.columns}
    converting = arrow_csv.ConvertOptions(
        column_types=kinds, include_columns=layout.columns, null_values=[""], strings_can_be_null=True
    )
    try:
        return arrow_csv.read_csv(source.binary(), reading, parsing, converting).to_pandas()
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise StudyError(_explain(source) or f"{source.path}: {reason}; correct the file.") from None


def _explain(source: Source) -> str | None:
    """Find the first bad row of a file and say where it is and what is wrong with it."""
    layout, fields = source.layout, source.fields
    with source.rows() as rows:
        for number, row in enumerate(rows):
            where = f"{source.path}, line {rows.line_num}" if source.text is None else f"{source.path}, row {number}"
            if not row or (layout.has_header and number == 0):
                continue
            if len(row) != len(fields):
                text = layout.separator.join(row)
                return f"{where}: {_short(text)} has {len(row)} instead of {len(fields)} values; correct it."
            for column in layout.columns:
                value = row[fields.index(column)]
                if reason := layout.objection(column, value):
                    return f"{where}: {column} {_short(value)} {reason}; correct it."
    return None


def _short(text: str) -> str:
    """A text in quotes, of which a sentence holds the beginning."""
    return repr(text if len(text) <= MOST_SHOWN else text[:MOST_SHOWN] + "…")


def with_year(movies: pd.DataFrame) -> pd.DataFrame:
    """Return item_id, title, year, genres and any further columns.

    The year is the last one in brackets of the title ("(1995) (V)" → 1995, "(1975-1979)" → 1975), NA without
    one; genres stand in alphabetical order (that of u.item's flags), "" where none is listed.
    """
    year = movies["title"].str.extract(r".*\(([0-9]{4})(?:[-–][0-9]{0,4})?\)", expand=False)
    listed = movies["genres"].fillna("").replace("(no genres listed)", "")
    genres = pd.Series(["|".join(sorted(text.split("|"))) for text in listed], dtype="str")
    known = movies[["item_id", "title"]].assign(year=pd.to_numeric(year).astype("Int64"), genres=genres)
    return pd.concat([known, movies.drop(columns=["item_id", "title", "genres"])], axis=1)


def _finish_100k(tables: Tables) -> Tables:
    """Genres from u.item's flags; the parquet copy has whole stars."""
    items, names = tables["movies"], np.array(GENRES_100K)
    genres = ["|".join(names[row]) for row in items[GENRES_100K].to_numpy(bool)]
    movies = items[["item_id", "title", *RAW_100K]].astype(dict.fromkeys(RAW_100K, "str"))
    return tables | {"movies": movies.assign(genres=genres), "ratings": tables["ratings"].astype({"rating": "float64"})}


def _finish_1m(tables: Tables) -> Tables:
    """Occupations from their codes; a code of age is its group's lower bound, and stays."""
    users = tables["users"]
    users["occupation"] = users["occupation_code"].map(OCCUPATIONS_1M).astype("str")
    return tables | {"users": users[["user_id", "age", "gender", "occupation", "zip_code"]]}


def _finish_ncf(tables: Tables) -> Tables:
    """Training rows, then held-out ones; 99 negatives per user, by user id."""
    train, test, negatives = tables["ratings"], tables["test"], tables["negatives"]
    ratings = pd.concat([train, test], ignore_index=True)
    ratings["held_out"] = np.arange(len(ratings)) >= len(train)
    pairs = [f"({user},{item})" for user, item in zip(test["user_id"], test["item_id"])]
    if negatives.pop("pair").tolist() != pairs or len(test) != ratings["user_id"].nunique():
        files = " and ".join(FORMATS["ncf"][table].file for table in ("test", "negatives"))
        raise StudyError(f"{files} must hold the same pairs, one per user; fetch both again.")
    by_user = np.argsort(test["user_id"].to_numpy(), kind="stable")
    return {"ratings": ratings, "negatives": negatives.iloc[by_user].reset_index(drop=True)}


def _finish_sasrec(tables: Tables) -> Tables:
    """Rows are in time order without stars or times: rating 1, timestamp = position in the user's history."""
    rows = tables["ratings"]
    return {"ratings": rows.assign(rating=1.0, timestamp=rows.groupby("user_id").cumcount())}


def _finish_paragraphs(tables: Tables) -> Tables:
    """One table of the decades' films, in the order of the files."""
    return {"films": pd.concat(tables.values(), ignore_index=True).astype({"year": "Int64"})}


FINISH: dict[str, Callable[[Tables], Tables]] = {
    "u": _finish_100k,
    "u-parquet": _finish_100k,
    "dat-1m": _finish_1m,
    "ncf": _finish_ncf,
    "sasrec": _finish_sasrec,
    "paragraphs": _finish_paragraphs,
}


def finished(form: str, tables: Tables) -> Tables:
    """Return the tables of a format as the study has them: one table of ratings, of films with their years."""
    tables = FINISH.get(form, dict)(tables)
    return tables | {"movies": with_year(tables["movies"])} if "movies" in tables else tables


def read_release(form: str, folder: Path, scale: Scale) -> Tables:
    """Read all tables of a release in one of FORMATS; raises StudyError for the first file or row that is wrong."""
    tables = {}
    for table, layout in FORMATS[form].items():
        tables[table] = read_table(folder / layout.file, replace(layout, scale=scale))
        unique_keys(table, tables[table], folder / layout.file)
    try:
        return finished(form, tables)
    except StudyError as error:
        raise StudyError(f"{folder}: {error}") from None


def unique_keys(table: str, frame: pd.DataFrame, where: Path) -> None:
    """Refuse a table of movies or users in which one stands twice."""
    if (key := KEYS.get(table)) and len(twice := frame[key][frame[key].duplicated()]):
        raise StudyError(f"{where}: {key} {twice.iloc[0]} occurs twice; keep one row of it.")


def unique_pairs(ratings: pd.DataFrame, where: Path) -> None:
    """Refuse ratings that repeat a (user_id, item_id)."""
    repeated = ratings.duplicated(["user_id", "item_id"])
    if repeated.any():
        user, item = ratings[["user_id", "item_id"]].to_numpy()[repeated.to_numpy().argmax()]
        twice = f"{repeated.sum():,} rows repeat the user_id and item_id of an earlier one (first: {user}, {item})"
        raise StudyError(f"{where}: {twice}; fetch it anew.")


def check_tables(form: str, tables: Tables, scale: Scale) -> None:
    """Refuse, with a StudyError, frames that are not what `read_release` returns: by name, type and value."""
    expected = _columns(form)
    if tables.keys() != expected.keys():
        raise StudyError(f"Tables {', '.join(tables)} found instead of {', '.join(expected)}; delete them.")
    for table, columns in expected.items():
        frame, where = tables[table], Path(f"table {table}")
        types = {column: TYPES.get(column, KIND_TYPES[KINDS.get(column, WHOLE)]) for column in columns}
        if list((found := frame.dtypes.astype(str).to_dict()).items()) != list(types.items()):
            raise StudyError(f"{where} has the columns {found} instead of {types}; delete it.")
        layout = Layout(table, [column for column in columns if column not in TYPES], scale=scale)
        if frame.empty or not layout.accepts(frame):
            raise StudyError(f"{where} is empty, lacks values or has some that are not allowed; delete it.")
        unique_keys(table, frame, where)
        if table == "ratings":
            unique_pairs(frame, where)


def _columns(form: str) -> dict[str, list[str]]:
    """The tables that a format is read into, with their columns."""
    published, own = FORMATS[form], FORMATS["own"]
    columns = {table: [OUR_NAMES.get(name, name) for name in layout.columns] for table, layout in published.items()}
    columns |= {table: own[table].columns for table in ("ratings", "users") if table in columns}
    if "movies" in columns:
        columns["movies"] = ["item_id", "title", "year", "genres", *(RAW_100K if form.startswith("u") else [])]
    if form == "paragraphs":
        columns = {"films": next(iter(columns.values()))}
    if form == "ncf":
        del columns["test"]
        columns |= {"ratings": [*columns["ratings"], "held_out"], "negatives": columns["negatives"][1:]}
    return columns
