"""Colours of models and their families, and where dots stand."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from colours import apart, ciede2000
from matplotlib import pyplot as plt

from pipeline.chapters import plots
from recsys_core.models import MODELS

# ΔE00. A search over the families' hues, five colours fixed, reached 11.4 in the worst of the three kinds of vision.
LEAST_APART = {"normal": 15.0, "deuteranopia": 11.0, "protanopia": 11.0}


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


@pytest.mark.parametrize(
    "one, other, published",
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_differences_of_colours_are_those_that_sharma_wu_and_dalal_publish(one, other, published) -> None:
    assert ciede2000(np.array(one), np.array(other)) == pytest.approx(published, abs=1e-4)


@pytest.mark.parametrize("vision", LEAST_APART)
def test_any_two_families_look_different_also_to_colour_blind_readers(vision: str) -> None:
    pairs = combinations(plots.FAMILIES.items(), 2)
    near = {(a, b): apart(one, other, vision) for (a, one), (b, other) in pairs}
    assert not {pair: distance for pair, distance in near.items() if distance < LEAST_APART[vision]}


def test_every_family_of_models_has_a_colour_of_its_own_and_lines_take_those_colours() -> None:
    assert {kind.family for kind in MODELS.values()} <= set(plots.FAMILIES)
    assert len(set(plots.CYCLE)) == len(plots.CYCLE) and set(plots.CYCLE) <= set(plots.FAMILIES.values())


def board(n_models: int) -> pd.DataFrame:
    families = ["linear", "counts", "graph"]
    lines = [(f"model {n}", families[n % 3], 0.3 - n / 50) for n in range(n_models)]
    table = pd.DataFrame(lines, columns=["model", "family", "ndcg@10"])
    return table.assign(**{"ndcg@10 low": table["ndcg@10"] - 0.01, "ndcg@10 high": table["ndcg@10"] + 0.01})


@pytest.mark.parametrize("n_models, named", [(1, []), (2, ["linear", "counts"]), (5, ["linear", "counts", "graph"])])
def test_a_board_names_the_families_that_are_there_the_best_first(n_models: int, named: list[str]) -> None:
    figure = plots.intervals(board(n_models), "ndcg@10", "A title", "NDCG@10")
    assert [text.get_text() for legend in figure.legends for text in legend.get_texts()] == named
    plt.close(figure)


def test_titles_and_labels_stay_within_the_width_of_a_figure() -> None:
    plots.style()
    figure = plots.bars(
        pd.Series(1.0, [f"a name that takes its room {n}" for n in range(6)]), "A long title " * 6, "A long label " * 6
    )
    figure.suptitle("Another " * 15, x=0.01, ha="left")
    plots.fitted(figure).draw_without_rendering()
    axes = figure.axes[0]
    for text in (axes._left_title, axes.xaxis.label, *figure.texts):
        box = text.get_window_extent()
        assert box.x0 > -2 and box.x1 < figure.bbox.x1 + 2
    assert "\n" in axes.get_title(loc="left")
    plt.close(figure)


def test_differences_far_from_0_are_arrows_at_the_edge_with_their_number() -> None:
    values = pd.Series([0.01, -0.01, -0.02, -0.4], ["A", "B", "C", "outlier"])
    lines = pd.DataFrame({"difference": values, "low": values - 0.01, "high": values + 0.01})
    parts = {"EASE": lines, "iALS": lines + 0.001}
    figure = plots.differences(parts, {"EASE": plots.GREEN, "iALS": plots.SKY}, "A title", "Difference")
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["−0.400", "−0.399"]
    assert axes.get_xlim()[0] > -0.05 and axes.get_xlim()[1] > 0.02
    assert {line.get_marker() for line in axes.lines} >= {"o", "D", "<"}
    plt.close(figure)
