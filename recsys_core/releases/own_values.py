"""What the columns of a file of ratings say: ids, stars and times, each with sentences on how they were understood.

What is in doubt is refused with file, line, column and value.
"""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys_core.releases.formats import Scale
from recsys_core.releases.own_rows import Rows

STARS: tuple[Scale, ...] = ((1, 5), (0.5, 5))
KNOWN = ((0, 1), (-1, 1), (0, 5), (1, 6), (1, 7), (1, 10), (0, 10), (-10, 10), (1, 100), (0, 100))
SCALES: tuple[Scale, ...] = STARS + KNOWN
FEW = 1e-3  # share of the ratings that alone lie outside a scale, and are taken for errors
UNITS_S = {"seconds": 1.0, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
LARGEST_S = 1e10  # a time in seconds is less; 2286
KEEP = (None, "first", "last", "mean")
WHOLE, WHOLE_WITH_POINT = r"^(0|-?[1-9][0-9]{0,17})$", r"^(0|-?[1-9][0-9]{0,14})(\.0*)?$"
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$"


def ids(rows: Rows, role: str) -> tuple[Any, list[str]]:
    """Ids as whole numbers where all of them are, else text; blanks around them are stripped."""
    given = rows.columns[role]
    texts = pc.utf8_trim_whitespace(given)
    notes = []
    if changed := pc.sum(pc.not_equal(texts, given)).as_py():
        notes.append(f"Blanks around {changed:,} ids of the column {rows.names[role]} were stripped.")
    if (empty := _first(pc.equal(pc.utf8_length(texts), 0))) is not None:
        raise rows.refuse(empty, role, "is empty")
    distinct = pc.unique(texts)
    # "007" stays text: as a number it could no longer be told from "7"
    if pc.all(pc.match_substring_regex(distinct, WHOLE)).as_py():
        return texts.cast(pa.int64()).to_pandas(), notes
    if pc.all(pc.match_substring_regex(distinct, WHOLE_WITH_POINT)).as_py():
        notes.append(
            f"Ids of the column {rows.names[role]} such as {_example(distinct, '.')} are read as whole numbers."
        )
        return texts.cast(pa.float64()).cast(pa.int64()).to_pandas(), notes
    return texts.to_pandas().astype("str"), notes


def stars(rows: Rows) -> tuple[np.ndarray, Scale, list[str]]:
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
    notes.append(f"{named}; they are mapped on 1 to 5 stars, each {(high - low) / 4:g} of the file's points.")
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


def times(rows: Rows) -> tuple[np.ndarray, list[str]]:
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


def once(rows: Rows, frame: pd.DataFrame, keep: str | None) -> tuple[pd.DataFrame, list[str]]:
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
