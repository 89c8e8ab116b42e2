"""Searches as data: the best so far, ends of a space and its natural limits, trials by form."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from pipeline.chapters import searches
from pipeline.chapters.searches import UNFINISHED, unfinished
from pipeline.chapters.study import ROOT
from pipeline.chapters.tuned import FOLDER

SPACE = {"hidden_layers": {"choices": [[], [100]]}, "dropout": {"low": 0.1, "high": 0.8}}
VALUES = [0.2, 0.25, 0.22, 0.26]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with a search of Mult-DAE, one of hidden layers alone, one by another metric and one of a model that is no more."""
    layers = [[100], [], [], []]
    trials = [
        {"number": place, "value": value, "settings": {"hidden_layers": hidden, "dropout": 0.79}}
        for place, (value, hidden) in enumerate(zip(VALUES, layers))
    ]
    found = {"metric": "ndcg@10", "fixed": {}, "space": SPACE, "trials": trials, "best": trials[-1]["settings"]}
    hidden = [{**trial, "settings": {"hidden_layers": [100], "dropout": 0.5}} for trial in trials]
    alone = found | {"trials": hidden, "best": hidden[-1]["settings"]}
    folder = tmp_path / FOLDER
    (folder / "wide").mkdir(parents=True)
    files = {"mult_dae": found, "bias": found | {"metric": "rmse"}, "forgotten": found, "wide/mult_dae_hidden": alone}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize(
    ("space", "chosen", "end"),
    [
        ({"choices": [16, 32, 64]}, 64, "upper"),
        ({"choices": [16, 32, 64]}, 16, "lower"),
        ({"choices": [16, 32, 64]}, 32, ""),
        ({"choices": [[], [64]]}, [], ""),
        ({"choices": [[], [64]]}, [64], "upper"),
        ({"choices": ["cosine", "dot"]}, "dot", ""),
        ({"choices": [False, True]}, True, ""),
        ({"low": 0.0, "high": 1.0}, 0.01, ""),
        ({"low": 0.1, "high": 0.8}, 0.11, "lower"),
        ({"low": 0.1, "high": 0.8}, 0.78, "upper"),
        ({"low": 0.001, "high": 10.0, "log": True}, 0.1, ""),
        ({"low": 0.1, "high": 10.0}, 0.5, "lower"),
        ({"low": 0.1, "high": 10.0, "log": True}, 0.5, ""),
    ],
)
def test_an_end_is_judged_in_order_on_the_scale_of_the_search(
    space: dict[str, object], chosen: object, end: str
) -> None:
    assert searches.end_of(space, chosen) == end


def test_the_best_so_far_grows_and_other_metrics_and_models_are_left_out(root: Path) -> None:
    curves = searches.best_so_far(root)
    assert list(curves) == ["Mult-DAE", "Mult-DAE, hidden layer"] and list(curves.index) == [1, 2, 3, 4]
    assert curves["Mult-DAE"].tolist() == [0.2, 0.25, 0.25, 0.26]
    assert searches.within(curves, 0.01)["Mult-DAE"] == 2 and searches.within(curves, 0.001)["Mult-DAE"] == 4


def test_optima_at_an_end_are_named_with_what_was_tried(root: Path) -> None:
    found = searches.edges(root)
    assert found.values.tolist() == [
        ["Mult-DAE", "dropout", "0.79", "0.1 to 0.8", "upper"],
        ["Mult-DAE, hidden layer", "hidden_layers", "[100]", "[], [100]", "upper"],
    ]


def test_trials_are_told_apart_by_the_form_that_their_settings_give(root: Path) -> None:
    found = searches.by_form(root).set_index(["search", "form"])
    assert found.loc[("Mult-DAE", "linear")].tolist() == [3, 0.26, 0.25]
    assert found.loc[("Mult-DAE", "non-linear")].tolist() == [1, 0.2, 0.2]
    assert found.loc[("Mult-DAE, hidden layer", "non-linear"), "trials"] == 4


def test_a_search_is_fragile_where_few_trials_come_near_its_best(root: Path) -> None:
    line = searches.sensitivity(root).loc["Mult-DAE"]
    assert line.tolist() == [4, 0.2, 0.26, pytest.approx(0.235), 1, 4]


def test_the_figure_has_a_line_for_each_search() -> None:
    curves = searches.best_so_far(ROOT)
    families = {title: search.kind.family for title, search, _ in searches.stored(ROOT)}
    drawn = searches.figure(curves, families, "A title")
    assert len(drawn.axes[0].lines) == curves.shape[1] and set(curves) == set(families)
    plt.close(drawn)


def test_a_search_that_has_not_ended_is_named_with_its_trials_and_other_seeds_are_none(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER / UNFINISHED / "tuned_widely"
    folder.mkdir(parents=True)
    tried = [[json.dumps([{"a": n}, seed]), value] for n, seed, value in ((1, 0, 0.2), (2, 0, 0.3), (2, 1, 0.9))]
    lines = [json.dumps({"model": "dssm_hidden"}), *map(json.dumps, tried)]
    (folder / "dssm_hidden.jsonl").write_text("\n".join(lines) + "\n")
    found = unfinished(tmp_path)
    assert found.loc["DSSM, hidden layer"].tolist() == [2, 0.3] and len(found) == 1
    assert unfinished(tmp_path / "nowhere").empty
