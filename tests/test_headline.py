import numpy as np
import pandas as pd
import pytest

from pipeline.chapters import headline
from pipeline.chapters.headline import BILINEAR, COLUMNS, COUNTS, LINEAR, NON_LINEAR, Standing, chosen
from recsys_core.statistics import permutation_test


def line(model, family, form, value, stands=True, **more):
    known = {
        "seeds": 3,
        "spread": (value - 0.01, value + 0.01),
        "low": value - 0.02,
        "high": value + 0.02,
        "verdict": "",
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
    assert "Mult-VAE, without a hidden layer, with 0.310 (0.290 to 0.330)" in first and "p = 0.40" in first
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
    assert permutation_test(far, far - 1) == pytest.approx(headline.floor_of_the_test())
