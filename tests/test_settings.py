"""A setting says its bounds, searches and quick values beside its default, and a subclass keeps what it does not say anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from recsys_core.errors import StudyError
from recsys_core.models.registry import MODELS, SEARCHES, recommender, searched_as
from recsys_core.models.settings import NOT_GIVEN, between, check, fast, searched, setting, settings_of


@dataclass(kw_only=True)
class Parent:
    rate: float = setting(0.1, above=0, search=between(0.01, 1.0, log=True))
    epochs: int = setting(20, least=1, search=60)
    layers: tuple[int, ...] = setting((8,), least=1, search=[(8,), (16,)], fast=(4,))
    share: float = setting(0.5, least=0, below=1)
    kind: str = setting("plain", among=("plain", "fancy"))
    weight: float = setting(1.0, least=-np.inf, may_be_infinite=True)


@dataclass(kw_only=True)
class Child(Parent):
    size: int = setting(4, least=1, search=[2, 4])
    rate: float = setting(0.2, search=None)
    epochs: int = setting(30, fast=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate": 0.0}, "rate=0.0: it must be above 0."),
        ({"rate": float("nan")}, "rate=nan: it must be a finite number."),
        ({"epochs": 0}, "epochs=0: it must be at least 1."),
        ({"layers": (8, 0)}, r"layers=\(8, 0\): it must be at least 1."),
        ({"share": 1.0}, "share=1.0: it must be below 1."),
        ({"kind": "odd"}, "kind='odd' is not known: allowed are plain, fancy."),
        ({"weight": -np.inf}, "weight=-inf: it must be a finite number."),
    ],
)
@pytest.mark.parametrize("kind", [Parent, Child])
def test_a_value_out_of_bounds_is_refused_by_name_in_a_subclass_too(
    kind: type, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        check(kind(**changes))


def test_values_within_bounds_pass_none_is_always_allowed_and_lists_become_tuples() -> None:
    model: Any = Parent(layers=[3, 4], weight=np.inf, rate=None)  # type: ignore[arg-type]
    check(model)
    assert model.layers == (3, 4)


def test_a_subclass_replaces_what_it_says_and_keeps_the_rest() -> None:
    assert Child().epochs == 30
    assert settings_of(Child)["epochs"].least == 1
    assert settings_of(Child)["rate"].above == 0
    assert settings_of(Parent)["epochs"].fast is NOT_GIVEN
    assert fast(Child) == {"epochs": 2, "layers": (4,)}


def test_searches_are_in_the_order_in_which_classes_state_them_and_none_takes_one_away() -> None:
    assert searched(Parent) == {"rate": between(0.01, 1.0, log=True), "epochs": 60, "layers": [(8,), (16,)]}
    assert list(searched(Parent)) == ["rate", "epochs", "layers"]
    assert searched(Child) == {"epochs": 60, "layers": [(8,), (16,)], "size": [2, 4]}
    assert list(searched(Child)) == ["epochs", "layers", "size"]


def test_a_mistyped_bound_is_an_error() -> None:
    with pytest.raises(TypeError, match="leest"):
        setting(1, leest=0)  # type: ignore[call-arg]


def test_a_model_is_registered_with_its_title_family_and_searches() -> None:
    kind: Any = searched_as("child_by_size", title="Child (size)", epochs=5, rate=[0.1, 0.2])(
        recommender("child", title="Child", family="toys")(Child)  # type: ignore[type-var]
    )
    try:
        assert (kind.name, kind.title, kind.family, MODELS["child"]) == ("child", "Child", "toys", Child)
        assert (SEARCHES["child"].fixed, SEARCHES["child"].title) == ({"epochs": 60}, "Child")
        again = SEARCHES["child_by_size"]
        assert (again.kind, again.title, again.fixed) == (Child, "Child (size)", {"epochs": 5})
        assert list(again.space) == ["layers", "size", "rate"]
        with pytest.raises(ValueError, match="child is the name of Child already: give Parent another"):
            recommender("child", title="Parent", family="toys")(Parent)  # type: ignore[type-var]
    finally:
        del MODELS["child"], SEARCHES["child"], SEARCHES["child_by_size"]


def test_a_class_that_is_no_dataclass_of_its_own_is_not_registered() -> None:
    class Forgetful(Parent):
        size: int = setting(4, least=1)

    with pytest.raises(
        TypeError, match=r"Forgetful is no dataclass: write @dataclass\(kw_only=True\) below @recommender"
    ):
        recommender("forgetful", title="Forgetful", family="toys")(Forgetful)  # type: ignore[type-var]
    assert "forgetful" not in MODELS


def test_a_model_that_says_nothing_to_search_and_one_that_is_not_to_be_searched_have_no_search() -> None:
    assert "popularity" not in SEARCHES
    assert "diverse_ncf" in MODELS and "diverse_ncf" not in SEARCHES
