"""Lists of JSON objects as the CSV text that they would be, so that they pass the checks of text files."""

import csv
import json
from io import StringIO
from pathlib import Path

from recsys_core.errors import StudyError


def objects_as_csv(path: Path, columns: list[str]) -> bytes:
    """Return these keys of a list of objects as CSV text with a first line; lists of texts are "one|two", what lacks is empty.

    Raises StudyError for a file that is no such list.
    """
    try:
        objects = json.loads(path.read_text(encoding="utf-8"))
        rows = [[_text(each.get(column)) for column in columns] for each in objects]
    except (ValueError, RecursionError, AttributeError, TypeError) as error:
        raise StudyError(f"{path} is no list of JSON objects ({error}); fetch it again.") from None
    text = StringIO()
    csv.writer(text).writerows([columns, *rows])
    return text.getvalue().encode("utf-8")


def _text(value: object) -> str:
    return "|".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
