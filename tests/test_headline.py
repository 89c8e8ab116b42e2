from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.chapters import over_splits, standings
from pipeline.chapters.headline import BILINEAR, COLUMNS, COUNTS, EQUIVALENT, LINEAR, NON_LINEAR, Standing
from pipeline.chapters.notebook import Notebook
from pipeline.chapters.results import long_format
from pipeline.chapters.standings import chosen
from pipeline.chapters.study import ROOT
from recsys_core.statistics import permutation_test


def line(model, family, form, value, stands=True, **more):
    known = {
        "seeds": 3,
        "spread": (value - 0.01, value + 0.01),
        "low": value - 0.02,
        "high": value + 0.02,
        "verdict": "",
        "planned": False,
    }
    unknown = dict.fromkeys(["difference", "least", "most", "p"], np.nan)
    return {"model": model, "family": family, "form": form, "value": value, "stands": stands} | known | unknown | more


@pytest.fixture
def standing():
    apart = {
        "difference": 0.01,
        "least": -0.01,
        "most": 0.03,
        "p": 0.4,
        "verdict": "statistically indistinguishable from",
    }
    worse = {"difference": -0.1, "least": -0.12, "most": -0.08, "p": 2e-4, "verdict": "worse than"}
    lines = [
        line("Mult-VAE", "autoencoder", LINEAR, 0.31, **apart),
        line("EASE", "linear", LINEAR, 0.30),
        line("NeuMF", "perceptron", NON_LINEAR, 0.20, **worse),
        line("Popularity", "counts", COUNTS, 0.10, stands=False),
    ]
    return Standing(pd.DataFrame(lines)[COLUMNS], "ndcg@10", "EASE", "users", 2, 1e-4)


def test_the_answer_says_who_leads_and_where_the_first_hidden_layer_stands(standing):
    first, second = standing.answer()
    assert (
        "Mult-VAE, without a hidden layer, has the highest mean NDCG@10 over users, 0.310 (0.290 to 0.330)" in first
        and "p = 0.40" in first
    )
    assert "None of the first 2 of 4 models" in second and "NeuMF in place 3" in second and "p ≤ 0.0002" in second


def test_a_board_without_hidden_layers_says_so(standing):
    lines = standing.lines[standing.lines["form"] != NON_LINEAR]
    assert "No model of this run" in Standing(lines, "ndcg@10", "EASE", "users", 1, 1e-4).answer()[1]


def test_table_and_figure_hold_the_models_that_stand_for_a_family(standing):
    assert standing.table()["Model"].tolist() == ["Mult-VAE", "EASE", "NeuMF"]
    labels = [text.get_text() for text in standing.figure().axes[0].get_yticklabels()]
    assert labels == ["Mult-VAE", "EASE", "NeuMF"]
    assert "NeuMF (NCF, non-linear) 0.200" in standing.seen()


def test_validation_and_not_test_chooses_the_model_of_a_family_and_form():
    lines = pd.DataFrame(
        {
            "model": ["User kNN", "Item kNN", "GMF", "NeuMF", "Weighted: A + B", "Weighted: A + C", "Content"],
            "family": ["neighbours"] * 2 + ["perceptron"] * 2 + ["hybrid"] * 2 + ["content"],
            "form": [LINEAR, LINEAR, BILINEAR, NON_LINEAR, LINEAR, BILINEAR, LINEAR],
        }
    )
    values = pd.Series([0.2, 0.3, 0.25, 0.24, 0.4, 0.5, np.nan], index=lines["model"])
    assert sorted(chosen(lines, values)) == ["GMF", "Item kNN", "NeuMF", "Weighted: A + C"]


def test_the_floor_is_the_least_p_that_the_test_gives():
    far = np.arange(50.0)
    assert permutation_test(far, far - 1) == pytest.approx(standings.floor_of_the_test())


def rows_of(model, shift, n_seeds, generator):
    """Users' values on three splits, those of all models around .3 and shifted."""
    parts = [
        pd.DataFrame({"model": model, "split": split, "seed": seed, "user": range(200)})
        for split in (1, 3, 4)
        for seed in range(n_seeds)
    ]
    rows = pd.concat(parts, ignore_index=True)
    return rows.assign(**{"ndcg@10": 0.3 + shift + generator.normal(0, 0.02, len(rows))})


@pytest.fixture
def chapter(tmp_path):
    """A notebook that reads a chapter over splits, in which the factors of NeuMF are far behind DLAE and EASE is beside it."""
    shifts = {"DLAE": (0.0, 1), "EASE": (-0.001, 1), "NeuMF": (-0.06, 3), "Popularity": (-0.2, 1)}
    generator = np.random.default_rng(0)
    users = pd.concat([rows_of(name, *each, generator) for name, each in shifts.items()], ignore_index=True)
    tables = {
        "levels": over_splits.levels(users, "ndcg@10"),
        "primary": over_splits.against(users, "DLAE", ["NeuMF"], "ndcg@10"),
        "explored": over_splits.against(users, "DLAE", ["EASE", "Popularity"], "ndcg@10"),
    }
    notebook = Notebook("49_splits", {}, "study", tmp_path / "reports", tmp_path / "figures", ROOT, "first")
    numbers = {name: table.select_dtypes(["number", "bool"]) for name, table in tables.items()}
    notebook.save_results(long_format({"n_splits": 3, "n_seeds": 3}, numbers))
    return notebook, tables


def test_a_chapter_over_splits_makes_a_standing(chapter):
    notebook, tables = chapter
    found = standings.over_splits(notebook, "49_splits", "ndcg@10")
    assert (found.reference, found.n_compared, found.basis) == ("DLAE", 1, "users, 3 splits and 3 seeds on each")
    assert found.lines["model"].tolist() == ["DLAE", "EASE", "NeuMF", "Popularity"]
    assert found.lines.set_index("model")["form"].to_dict() == {
        "DLAE": LINEAR,
        "EASE": LINEAR,
        "NeuMF": NON_LINEAR,
        "Popularity": COUNTS,
    }
    behind = found.line("NeuMF")
    assert behind["p"] == pytest.approx(tables["primary"].loc["NeuMF", "p adjusted"], abs=1e-6) and behind["planned"]
    assert behind["least"] == pytest.approx(tables["primary"].loc["NeuMF", "low"], abs=1e-6)
    assert found.line("EASE")["verdict"] == EQUIVALENT and not found.line("EASE")["planned"]
    low, high = behind["spread"]
    assert low < tables["levels"].loc["NeuMF", "mean"] < high and behind["seeds"] == 3


def test_the_short_answer_is_that_of_the_leaders_with_a_hidden_layer(chapter):
    found = standings.over_splits(chapter[0], "49_splits", "ndcg@10")
    assert found.short().startswith("No: on random tenths of these data models without")
    assert "p < 0.001" in found.answer()[1] and found.table()["Comparison"].tolist() == ["", "headline"]
    ahead = found.lines.assign(verdict=found.lines["verdict"].replace({"worse than": "better than"}))
    assert replace(found, lines=ahead).short() == "Yes, of NeuMF."
    level = found.lines.assign(verdict=found.lines["verdict"].replace({"worse than": EQUIVALENT}))
    assert replace(found, lines=level).short() == "Not so that it could be told, on these data."


def test_without_several_splits_there_is_no_standing_over_them(tmp_path):
    notebook = Notebook("49_splits", {}, "study", tmp_path / "reports", tmp_path / "figures", ROOT, "first")
    notebook.save_results(long_format({"n_splits": 0}, {}))
    assert standings.over_splits(notebook, "49_splits", "ndcg@10") is None
