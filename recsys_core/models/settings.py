"""The hyperparameters of models: `setting` says in one place what each may be, what a search tries, and what a quick test takes.

    @dataclass(kw_only=True)
    class EASE(Recommender):
        regularisation: float = setting(500.0, least=1e-9, search=between(10.0, 5000.0, log=True), fast=1.0)

A subclass that states a setting again replaces what it says anew and keeps the rest: another default keeps the bounds.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from inspect import get_annotations
from typing import Any, TypeAlias

import numpy as np

from recsys_core.errors import StudyError, at_least, refuse_unknown


class _NotGiven:
    """Stands for what a setting does not say, since None can be a value."""

    def __repr__(self) -> str:
        return "not given"


NOT_GIVEN = _NotGiven()


@dataclass(frozen=True)
class Between:
    """A range from `low` to `high`, both included, that a search draws from, with `log` on a logarithmic scale."""

    low: float
    high: float
    log: bool = False


Search: TypeAlias = list[Any] | Between | int | float | str | None


def between(low: float, high: float, log: bool = False) -> Between:
    """A range for a search; whole numbers are drawn where both ends are whole."""
    return Between(low, high, log)


@dataclass(frozen=True)
class Setting:
    """What is known of a hyperparameter; see `setting`."""

    least: Any = NOT_GIVEN
    above: Any = NOT_GIVEN
    below: Any = NOT_GIVEN
    among: Any = NOT_GIVEN
    may_be_infinite: Any = NOT_GIVEN
    search: Any = NOT_GIVEN
    wide: Any = NOT_GIVEN
    fast: Any = NOT_GIVEN
    other: Any = NOT_GIVEN

    def check(self, name: str, value: object) -> None:
        """Raise StudyError for a value that is too small, too large, not finite or unknown; None is allowed."""
        if isinstance(value, float) and not (np.isfinite(value) or (self.may_be_infinite is True and value == np.inf)):
            raise StudyError(f"{name}={value}: it must be a finite number.")
        if value is None:
            return
        if self.among is not NOT_GIVEN:
            refuse_unknown(name, value, self.among)
        if self.least is not NOT_GIVEN:
            at_least(name, value, self.least)
        if self.above is not NOT_GIVEN and not np.all(np.asarray(value) > self.above):
            raise StudyError(f"{name}={value}: it must be above {self.above:g}.")
        if self.below is not NOT_GIVEN and not np.all(np.asarray(value) < self.below):
            raise StudyError(f"{name}={value}: it must be below {self.below:g}.")


def setting(
    default: Any,
    *,
    least: float | _NotGiven = NOT_GIVEN,
    above: float | _NotGiven = NOT_GIVEN,
    below: float | _NotGiven = NOT_GIVEN,
    among: Iterable[Any] | _NotGiven = NOT_GIVEN,
    may_be_infinite: bool | _NotGiven = NOT_GIVEN,
    search: Search | _NotGiven = NOT_GIVEN,
    wide: Search | _NotGiven = NOT_GIVEN,
    fast: Any = NOT_GIVEN,
    other: Any = NOT_GIVEN,
) -> Any:
    """A field of a model's dataclass: a hyperparameter with its default, which the model's paper or document states.

    Args:
        default: value where none is given; a dictionary is copied for each model.
        least, above, below: bounds of the value, or of each number of a tuple; a number without any says `least=-inf`.
        among: the allowed values, or the allowed parts of a tuple.
        may_be_infinite: whether infinity is a value.
        search: what `make tune` tries: a list of values, a range (`between`), or one value for all trials; None is not searched.
        wide: what `make tune WIDE=1` tries instead, where the best of `search` was at its edge, or a paper's size outside.
        fast: value with which the contract suite's board is learnt in a second, where the default is too slow.
        other: a value with which the model answers otherwise on that board, where none of `search` is such a value.
    """
    said = Setting(least, above, below, among, may_be_infinite, search, wide, fast, other)
    if isinstance(default, dict):
        return field(default_factory=lambda: deepcopy(default), metadata={"setting": said})
    return field(default=default, metadata={"setting": said})


def settings_of(kind: type) -> dict[str, Setting]:
    """What is known of each hyperparameter of a model's class, by name; a parent says what the class itself does not."""
    found: dict[str, Setting] = {each.name: Setting() for each in fields(kind)}
    for parent in reversed(kind.__mro__):
        for name, own in _stated_by(parent).items():
            given = {key: value for key, value in vars(own).items() if value is not NOT_GIVEN}
            found[name] = replace(found[name], **given)
    return found


def _stated_by(kind: type) -> dict[str, Setting]:
    """Settings that this class itself states, in their order."""
    known, own = vars(kind).get("__dataclass_fields__", {}), get_annotations(kind)
    return {
        name: known[name].metadata["setting"] for name in own if name in known and "setting" in known[name].metadata
    }


def searched(kind: type, wide: bool = False) -> dict[str, Search]:
    """What `make tune` tries of a class, by name: first what its parents search, then what it adds, in the order of the fields.

    The order is part of a search: with one seed, another order draws other trials.
    """
    tried: dict[str, Search] = {}
    for parent in reversed(kind.__mro__):
        for name, own in _stated_by(parent).items():
            values = own.wide if wide and own.wide is not NOT_GIVEN else own.search
            if values is None:
                tried.pop(name, None)
            elif values is not NOT_GIVEN:
                tried[name] = values
    return tried


def fast(kind: type) -> dict[str, Any]:
    """Values with which a quick test builds a model of this class, where they are not the defaults."""
    return {name: deepcopy(each.fast) for name, each in settings_of(kind).items() if each.fast is not NOT_GIVEN}


def check(model: object) -> None:
    """Turn lists, which is what files hold, into tuples, and refuse values that a model's settings do not allow.

    Raises StudyError, which names the first of them.
    """
    for name, each in settings_of(type(model)).items():
        value = getattr(model, name)
        if isinstance(value, list):
            value = tuple(value)
            setattr(model, name, value)
        each.check(name, value)
