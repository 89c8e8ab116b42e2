"""Parquet files of any writer as the CSV text that they would be, so that they pass the checks of text files."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from recsys_core.errors import StudyError

MAGIC = b"PAR1"


def is_parquet(path: Path) -> bool:
    """Whether a file is parquet by its content; its name says nothing."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def column_names(path: Path) -> list[str]:
    """Return the names of a file's columns; StudyError for a damaged file."""
    with readable(path):
        names: list[str] = parquet.read_schema(path).names
        return names


def as_csv(path: Path, given: Mapping[str, str], columns: list[str]) -> bytes:
    """Return columns as CSV text in the order asked for, found under their `given` names; NaN and null are empty.

    Raises StudyError for a damaged file and for a column of values that are no text (lists, maps).
    """
    with readable(path):
        # As one file: a folder's name such as `fold=1` is no column.
        table = parquet.ParquetFile(path).read(columns=[given[name] for name in columns])
        text = BytesIO()
        arrow_csv.write_csv(pa.table({name: without_nan(table[given[name]]) for name in columns}), text)
        return text.getvalue()


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn errors of arrow and of the disk into a StudyError that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise StudyError(f"{path} is no parquet file that can be read ({reason}); write it anew.") from None


def without_nan(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column with nulls where a number is NaN."""
    missing = pa.scalar(None, column.type)
    return pc.if_else(pc.is_nan(column), missing, column) if pa.types.is_floating(column.type) else column
