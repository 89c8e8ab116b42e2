"""A file of ratings as columns of text, with where each row stands in it, so that what is wrong can be named."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from recsys_core.errors import StudyError
from recsys_core.releases.parquet import is_parquet, readable, without_nan
from recsys_core.releases.shapes import SEPARATORS, Shape, roles_of, shape_of, unpacked


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


def rows_of(path: Path, columns: Mapping[str, str]) -> tuple[Rows, str]:
    """The rows of a file of text or parquet, and a sentence on how they were found. Raises StudyError for what has no such rows."""
    return (_of_parquet if is_parquet(path) else _of_text)(path, columns)


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
        texts = {role: _as_text(table[name]) for role, name in roles.items()}
    rows = Rows(path, texts, roles)
    if not table.num_rows:
        raise StudyError(f"{path} holds no rows; it needs at least one.")
    return rows, _understood(rows, "parquet", "")


def _as_text(column: pa.ChunkedArray) -> pa.Array:
    """A column as text; whole numbers that are held as floats have no exponent, null and NaN are empty."""
    filled = without_nan(column).combine_chunks()
    if pa.types.is_floating(filled.type) and pc.all(pc.equal(pc.floor(filled), filled)).as_py():
        filled = filled.cast(pa.int64(), safe=False)
    return pc.fill_null(filled.cast(pa.string()), "")


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
