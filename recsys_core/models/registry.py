"""Which recommenders there are. A model registers itself where it is defined:

    @recommender("ease", title="EASE", family="linear")
    @dataclass(kw_only=True)
    class EASE(Recommender): ...

That is all that the contract suite, the searches, the boards and the figures need to know of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from recsys_core.models.settings import Between, searched

if TYPE_CHECKING:
    from recsys_core.models.base import Recommender

Kind = TypeVar("Kind", bound="type[Recommender]")
MODELS: dict[str, type[Recommender]] = {}


@dataclass(frozen=True)
class Searched:
    """What `make tune` tries under a name: settings `fixed` in all trials, and the `space` of the others.

    `title` is what results call the model with the best of these settings.
    """

    name: str
    title: str
    kind: type[Recommender]
    fixed: dict[str, Any]
    space: dict[str, list[Any] | Between]


SEARCHES: dict[str, Searched] = {}
WIDE_SEARCHES: dict[str, Searched] = {}  # the same names, in wider spaces


def recommender(name: str, *, title: str, family: str, is_searched: bool = True) -> Callable[[Kind], Kind]:
    """Register a model's class under a name; results and figures call it `title`, and models of a family share a colour.

    With `is_searched` its settings are searched where they say what to try. Raises ValueError for a name that is taken and
    TypeError for a class whose own settings are no fields, since it is no dataclass.
    """

    def register(kind: Kind) -> Kind:
        if name in MODELS:
            raise ValueError(f"{name} is the name of {MODELS[name].__name__} already: give {kind.__name__} another.")
        if "__dataclass_fields__" not in vars(kind):  # its parent's fields would be taken for its own
            raise TypeError(f"{kind.__name__} is no dataclass: write @dataclass(kw_only=True) below @recommender.")
        kind.name, kind.title, kind.family = name, title, family
        MODELS[name] = kind
        if is_searched:
            searched_as(name, title=title)(kind)
        return kind

    return register


def searched_as(
    name: str, *, title: str, wide: dict[str, Any] | None = None, is_narrow: bool = True, **search: Any
) -> Callable[[Kind], Kind]:
    """Search a model once more under another name, with other values to try (see `setting`, `search`) for some settings.

    `wide` are values in place of these for the wide search, which is the only one where not `is_narrow`.
    """

    def register(kind: Kind) -> Kind:
        _add_search(SEARCHES, name, title, kind, searched(kind) | search if is_narrow else {})
        _add_search(WIDE_SEARCHES, name, title, kind, searched(kind, wide=True) | search | (wide or {}))
        return kind

    return register


def _add_search(
    searches: dict[str, Searched], name: str, title: str, kind: type[Recommender], tried: dict[str, Any]
) -> None:
    space = {key: value for key, value in tried.items() if isinstance(value, list | Between)}
    if space:
        fixed = {key: value for key, value in tried.items() if key not in space}
        searches[name] = Searched(name, title, kind, fixed, space)


def names_with(**traits: bool) -> list[str]:
    """Names of the models whose traits are these: `names_with(uses_features=True)`."""
    return [name for name, kind in MODELS.items() if all(getattr(kind.traits, key) == on for key, on in traits.items())]


def class_named(class_name: str) -> type[Recommender] | None:
    """The registered class of this name, which is what model files hold."""
    return next((kind for kind in MODELS.values() if kind.__name__ == class_name), None)
