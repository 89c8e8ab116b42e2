"""How a file of ratings is laid out: what it is packed in, what parts its values, and which column is what.

All of it is found out from the content. What is in doubt is refused, with what to say instead.
"""

import csv
import gzip
import io
import re
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recsys_core.errors import StudyError

ROLES = ("user", "item", "rating", "time")
# By role, what a column may be called, letters and digits alone. The first list that names a column decides.
NAMES: dict[str, list[tuple[str, ...]]] = {
    "user": [
        ("userid", "user", "uid", "useridx"),
        ("username", "customerid", "customer", "memberid", "member", "reviewerid", "reviewer", "visitorid", "accountid"),
        ("reader", "readerid", "listener", "listenerid", "viewer", "viewerid", "player", "playerid", "visitor", "subscriberid"),
        ("buyer", "buyerid", "client", "clientid", "shopper", "patron", "student", "studentid", "person", "personid"),
    ],
    "item": [
        ("itemid", "item", "iid", "itemidx"),
        ("movieid", "filmid", "productid", "asin", "isbn", "bookid", "trackid", "songid", "artistid", "gameid", "animeid"),
        ("movie", "film", "product", "book", "track", "song", "artist", "game", "anime", "recipe", "article", "articleid"),
        ("album", "albumid", "podcast", "show", "showid", "episode", "video", "videoid", "course", "courseid", "news", "newsid"),
        ("sku", "recipeid", "business", "businessid", "hotel", "hotelid", "restaurant", "place", "placeid", "joke", "beer", "url"),
        ("title", "name"),
    ],
    "rating": [("rating", "ratings", "stars", "score", "overall", "userrating", "bookrating", "myrating", "grade")],
    "time": [
        ("timestamp", "time", "date", "ts", "datetime", "unixtime", "unixreviewtime"),
        ("ratedat", "createdat", "daterated", "dateadded", "reviewtime", "playedat", "eventtime"),
        ("listenedat", "watchedat", "viewedat", "readat", "boughtat", "purchasedat", "purchasedate", "orderdate", "addedat"),
    ],
}  # fmt: skip
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "::": "double colons", "|": "bars"}
PACKED = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip"}
# What else the columns of own films and users may be called.
ALSO: dict[str, tuple[str, ...]] = {
    "title": ("title", "name", "movietitle", "booktitle", "productname"),
    "genres": ("genres", "genre", "categories", "category", "tags"),
    "gender": ("gender", "sex"),
    "occupation": ("occupation", "job", "profession"),
    "zip_code": ("zipcode", "zip", "postcode", "postalcode"),
}
N_LOOKED_AT = 50  # lines
A_TIME = 1e8  # a third column of numbers beyond it holds times, in seconds since 1970
_NUMBER = re.compile(r"\s*[+-]?(\d+[.,]?\d*|[.,]\d+)\s*")


@dataclass(frozen=True)
class Shape:
    """Names of the columns in their order, what parts them, whether the first line has these names, and the column of each role."""

    names: list[str]
    separator: str
    has_header: bool
    roles: dict[str, str]

    @property
    def delimiter(self) -> str:
        """One character: `::` is replaced on reading."""
        return self.separator.replace("::", "\x1f")

    def values(self, line: str) -> list[str]:
        """The values of one line; raises csv.Error where a quote is opened and not closed."""
        row = line.rstrip("\r\n").replace(self.separator, self.delimiter)
        return next(csv.reader([row], delimiter=self.delimiter, strict=True), [])


def unpacked(path: Path) -> tuple[bytes, str]:
    """The bytes of a file, and what it was packed in ("" where it was not); of a zip archive, its one file or that of ratings."""
    raw = path.read_bytes()
    kind = next((kind for magic, kind in PACKED.items() if raw.startswith(magic)), "")
    try:
        if kind == "gzip":
            return gzip.decompress(raw), kind
        if kind == "zip":
            with zipfile.ZipFile(io.BytesIO(raw)) as archive:
                return archive.read(_member(path, archive.namelist())), kind
    except (OSError, EOFError, zipfile.BadZipFile, zipfile.zlib.error, RuntimeError) as error:  # type: ignore[attr-defined]
        raise StudyError(f"{path} is no {kind} file that can be unpacked ({error}); pack it anew.") from None
    return raw, kind


def _member(path: Path, names: Sequence[str]) -> str:
    files = [name for name in names if not name.endswith("/") and "__MACOSX" not in name]
    rated = [name for name in files if "rating" in Path(name).name.lower()]
    chosen = files if len(files) == 1 else rated
    if len(chosen) != 1:
        held = ", ".join(files[:5]) + (", …" if len(files) > 5 else "")
        raise StudyError(
            f"{path} holds {len(files)} files ({held}), and which has the ratings is open: unpack it and give that file."
        )
    return chosen[0]


def shape_of(path: Path, content: bytes, columns: Mapping[str, str]) -> Shape:
    """Find out how text is laid out from its first lines; `columns` says by role which column it is, by name or number from 1.

    Raises StudyError for what is empty, no UTF-8, of one column, or names its users and items in a way that is not known.
    """
    lines = _first_lines(path, content)
    separator = _separator(path, lines)
    shape = Shape([], separator, False, {})
    first = [value.strip() for value in _first_values(path, shape, lines[0])]
    has_header = _is_header(path, first, columns)
    names = first if has_header else [str(place) for place in range(1, len(first) + 1)]
    seconds = [] if len(lines) < 2 else shape.values(lines[-1])
    roles = roles_of(path, names, columns) if has_header or columns else _without_names(path, first, seconds)
    if has_header and len(lines) < 2:
        raise StudyError(f"{path} holds no rows but its first line, which names the columns; it needs at least one.")
    return Shape(names, separator, has_header, roles)


def _first_lines(path: Path, content: bytes) -> list[str]:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise StudyError(f"{path} is UTF-16 text; save it as UTF-8.")
    head = content[: 1 << 20]
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(head) == len(content) or error.start < len(head) - 4:
            line = head[: error.start].count(b"\n") + 1
            raise StudyError(f"{path}, line {line} is not UTF-8 text; save the file as such.") from None
        text = head[: error.start].decode("utf-8-sig")
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise StudyError(f"{path} is empty; it needs at least one row.")
    return lines[:N_LOOKED_AT]


def _separator(path: Path, lines: Sequence[str]) -> str:
    """What parts all first lines into as many values; else what parts the first line into most."""
    counts = {
        sign: [len(next(csv.reader([line.replace(sign, "\x1f")], delimiter="\x1f"), [])) for line in lines]
        for sign in SEPARATORS
    }
    even = [sign for sign, found in counts.items() if found[0] > 1 and len(set(found)) == 1]
    parted = even or [sign for sign, found in counts.items() if found[0] > 1]
    if not parted:
        raise StudyError(
            f"{path}, line 1: {_short(lines[0])} is one value; a line needs at least a user and an item, parted by "
            f"{', '.join(SEPARATORS.values())}."
        )
    return max(parted, key=lambda sign: counts[sign][0])


def _first_values(path: Path, shape: Shape, line: str) -> list[str]:
    try:
        return shape.values(line)
    except csv.Error:
        raise StudyError(f"{path}, line 1: {_short(line)} opens a quote and does not close it; correct it.") from None


def _is_header(path: Path, first: Sequence[str], columns: Mapping[str, str]) -> bool:
    """Whether the first line names the columns: some name is known or asked for; one of words alone is refused."""
    known = {name for lists in NAMES.values() for names in lists for name in names}
    asked = {str(name) for name in columns.values()}
    if asked:
        return not all(name.isdecimal() for name in asked)
    if any(_plain(name) in known for name in first):
        return True
    if any(_NUMBER.fullmatch(value) for value in first):
        return False
    raise _unknown(path, first, ())


def roles_of(path: Path, names: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """The column of each role, by its name or as `columns` says.

    Raises StudyError where users or items are not found, where several columns may be one of them, and for `columns` that are
    not there.
    """
    if unknown := [role for role in columns if role not in ROLES]:
        raise StudyError(f"columns has {unknown[0]!r}, which no column can be: give {', '.join(ROLES)}.")
    if missing := [name for name in columns.values() if name not in names]:
        raise StudyError(f"{path} has no column {missing[0]}, which columns asks for; it has {', '.join(names)}.")
    found = dict(columns)
    for role in (role for role in ROLES if role not in columns):
        for known in NAMES[role]:
            fitting = [name for name in names if _plain(name) in known and name not in columns.values()]
            if len(fitting) > 1:
                listed = ", ".join(fitting)
                raise StudyError(
                    f"{path} has several columns that may be the {role}: {listed}; {_todo(path, {role: fitting[0]})}."
                )
            if fitting:
                found[role] = fitting[0]
                break
    if "user" not in found or "item" not in found:
        raise _unknown(path, names, found)
    return {role: found[role] for role in ROLES if role in found}


def as_ours(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Names of columns with those in place that the study has for the wanted ones, such as `item_id` for `movieId`.

    A column that is named so already is taken; of several that may be it the first is.
    """
    renamed = list(names)
    for ours in (name for name in wanted if name not in names):
        role = ours.removesuffix("_id")
        known = (
            [name for lists in NAMES.get(role, []) for name in lists if name not in ALSO["title"]]
            if ours.endswith("_id")
            else ALSO.get(ours, ())
        )
        places = {_plain(name): place for place, name in reversed(list(enumerate(names))) if renamed[place] == name}
        fitting = [places[name] for name in known if name in places]
        if fitting:
            renamed[fitting[0]] = ours
    return renamed


def _todo(path: Path, roles: Mapping[str, object]) -> str:
    """How to say which column is what, with these as an example."""
    example = ", ".join(f"{role}: {name}" for role, name in roles.items())
    return f"write columns: {{{example}}} into {path.name}.yaml beside it"


def _unknown(path: Path, names: Sequence[str], found: Collection[str]) -> StudyError:
    """The refusal of columns of which none is known to be the user, or the item."""
    lacking = " and ".join(f"the {role}" for role in ("user", "item") if role not in found)
    listed = ", ".join(map(_short, names[:12])) + (", …" if len(names) > 12 else "")
    taken = {name for role in ("rating", "time") for each in NAMES[role] for name in each}
    free = [name for name in names if _plain(name) not in taken] or list(names)
    todo = _todo(path, {"user": free[0], "item": free[-1]})
    return StudyError(
        f"{path}: of its columns ({listed}) none is known to hold {lacking}; name it user_id or item_id in line 1, or {todo}."
    )


def _without_names(path: Path, first: Sequence[str], last: Sequence[str]) -> dict[str, str]:
    """Without names columns are user, item, rating, time; a third and last column of large numbers holds times."""
    places = [str(place) for place in range(1, len(first) + 1)]
    if len(first) > len(ROLES):
        raise StudyError(
            f"{path}, line 1 has {len(first)} values and no names: {_todo(path, {'user': 1, 'item': 2, 'rating': 3})}, or "
            "name them in a first line."
        )
    if len(first) == 3 and all(_is_time(row[2]) for row in (first, last) if len(row) == 3):
        return dict(zip(("user", "item", "time"), places))
    return dict(zip(ROLES, places))


def _is_time(value: str) -> bool:
    return bool(_NUMBER.fullmatch(value)) and abs(float(value.replace(",", "."))) >= A_TIME


def _plain(name: str) -> str:
    """Letters and digits of a name in small; what follows a colon is a type."""
    return re.sub(r"[^a-z0-9]", "", name.partition(":")[0].lower())


def _short(text: str, most: int = 60) -> str:
    return repr(text if len(text) <= most else text[:most] + "…")
