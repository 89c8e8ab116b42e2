"""The one error that a user of the study can cause."""

from collections.abc import Iterable


class StudyError(ValueError):
    """Says in one sentence what was wrong, where, and what to do."""


def choose(name: str, values: object, known: Iterable[object]) -> None:
    """Check that a value, or each of a list of values, is among the known ones; StudyError names the value and what is allowed."""
    allowed = list(known)
    for value in values if isinstance(values, list | tuple) else [values]:
        if value not in allowed:
            raise StudyError(f"{name}={value!r} is not known: allowed are {', '.join(map(str, allowed))}.")


def at_least(model: object, **smallest: float) -> None:
    """Check that attributes of a model are not below their smallest value; StudyError names the one that is."""
    for name, value in smallest.items():
        if getattr(model, name) < value:
            raise StudyError(f"{name}={getattr(model, name)}: it must be at least {value}.")
