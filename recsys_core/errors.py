"""The one error that a user of the study can cause."""

from collections.abc import Iterable

import numpy as np


class StudyError(ValueError):
    """Says in one sentence what was wrong, where, and what to do."""


def refuse_unknown(name: str, values: object, known: Iterable[object]) -> None:
    """Raise StudyError, which names it and what is allowed, for a value, or one in a list of values, that is not allowed."""
    allowed = list(known)
    for value in values if isinstance(values, list | tuple) else [values]:
        if value not in allowed:
            raise StudyError(f"{name}={value!r} is not known: allowed are {', '.join(map(str, allowed))}.")


def at_least(name: str, value: object, least: float) -> None:
    """Raise StudyError, which names it, for a number, or one in a tuple of numbers, that is below `least`; None is allowed."""
    if value is not None and not np.all(np.asarray(value) >= least):
        raise StudyError(f"{name}={value}: it must be at least {least:g}.")
