"""Colours of models and their families, and where dots stand."""

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

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


@pytest.mark.parametrize("n_models", [1, 2, 3, 6])
def test_dots_of_a_group_are_nearer_to_one_another_than_to_the_next_group(n_models: int) -> None:
    models = [f"model {place}" for place in range(n_models)]
    index = pd.MultiIndex.from_product([models, ["few", "many"]])
    dots = pd.DataFrame({"value": 1.0, "low": 0.5, "high": 1.5}, index)
    figure = plots.dodged(dots, ("", "", ""), plots.shades(models))
    places = np.sort(np.concatenate([np.asarray(line.get_xdata(), dtype=float) for line in figure.axes[0].lines]))
    gaps = np.diff(places)
    assert gaps[: n_models - 1].max(initial=0.0) < gaps[n_models - 1]
    plt.close(figure)
