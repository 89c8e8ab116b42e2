"""The one error that a user of the study can cause."""

from collections.abc import Iterable

import numpy as np


class StudyError(ValueError):
    """Says in one sentence what was wrong, where, and what to do."""


def refuse_unknown(name: str, values: object, known: Iterable[object]) -> None:
    """Raise StudyError, which names it and what is allowed, for a value, or one in a list of values, that is not known."""
    allowed = list(known)
    for value in values if isinstance(values, list | tuple) else [values]:
        if value not in allowed:
            raise StudyError(f"{name}={value!r} is not known: allowed are {', '.join(map(str, allowed))}.")


def at_least(model: object, **smallest: float) -> None:
    """Check that attributes, one or several numbers or None, are not below their smallest value; StudyError names the one that is.

    A name that is no attribute of the model is passed over.
    """
    for name, least in smallest.items():
        value = getattr(model, name, None)
        if value is not None and not np.all(np.asarray(value) >= least):
            raise StudyError(f"{name}={value}: it must be at least {least:g}.")
