"""Colours of models and their families."""

from pipeline.chapters import plots


def test_families_have_a_colour_each_and_a_new_one_gets_one_of_its_own_name() -> None:
    assert len(set(plots.FAMILIES.values())) == len(plots.FAMILIES)
    assert plots.family_colour("linear") == plots.FAMILIES["linear"]
    assert plots.family_colour("sequential") == plots.family_colour("sequential") != plots.GREY
    assert plots.family_colour("") == plots.GREY


def test_models_of_one_picture_are_told_apart_and_the_first_has_its_family_s_colour() -> None:
    found = plots.shades({"FM": "factorisation machines", "DeepFM": "factorisation machines", "SVD": "factorisation"})
    assert list(found) == ["FM", "DeepFM", "SVD"] and len(set(found.values())) == 3
    assert found["FM"] == plots.FAMILIES["factorisation machines"] and found["SVD"] == plots.FAMILIES["factorisation"]
    assert len(set(plots.shades(map(str, range(12))).values())) == 12
