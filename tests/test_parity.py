"""Published numbers beside ours: what is reached, the table, and that every band in the references can be missed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pipeline.chapters import parity
from pipeline.chapters.notebook import ROOT

PUBLISHED = pd.DataFrame(
    [
        ("mlp_3_k_8", "Paper", "hit_ratio@10", 0.671, 0.02, 0.006),
        ("mlp_3_k_8", "Paper", "ndcg@10", 0.399, 0.02, 0.006),
        ("mlp_3_k_8", "Other", "ndcg@10", 0.5, np.nan, np.nan),
        ("not_run", "Paper", "ndcg@10", 0.5, 0.1, 0.1),
        ("mlp_3_k_8", "Paper", "mrr@10", 0.5, 0.1, 0.1),
    ],
    columns=["name", "source", "metric", "value", "below", "above"],
)


def board(hit_ratio: float, ndcg: float) -> pd.DataFrame:
    line = {"model": "MLP-3, k = 8", "seeds": 3, "hit_ratio@10": hit_ratio, "ndcg@10": ndcg}
    spans = {
        f"{name} {end}": line[name] + sign for name in parity.MEASURED for end, sign in (("low", -0.01), ("high", 0.01))
    }
    return pd.DataFrame([line | spans | {"hit_ratio@10 sd": 0.002, "ndcg@10 sd": 0.003}])


def test_a_published_figure_is_joined_by_the_name_of_the_model_and_only_the_metrics_asked_for():
    lines = parity.beside_published(PUBLISHED, board(0.66, 0.39))
    assert lines[["source", "metric"]].values.tolist() == [
        ["Paper", "hit_ratio@10"],
        ["Paper", "ndcg@10"],
        ["Other", "ndcg@10"],
    ]
    assert lines["difference"].tolist() == pytest.approx([-0.011, -0.009, -0.11])
    assert lines["inside"].tolist() == [False, True, False]
    assert lines["verdict"].tolist() == [parity.REACHED, parity.REACHED, parity.CONTEXT]


@pytest.mark.parametrize("ours, verdict", [(0.65, "below"), (0.6511, "reached"), (0.6769, "reached"), (0.678, "above")])
def test_a_band_that_is_not_symmetric_is_left_on_both_sides(ours, verdict):
    lines = parity.beside_published(PUBLISHED, board(ours, 0.39))
    assert lines["verdict"].iloc[0] == verdict


def test_a_model_has_reached_what_was_published_only_where_every_metric_has():
    lines = parity.beside_published(PUBLISHED, board(0.671, 0.3))
    table = parity.parity_table(lines, pd.Series({"MLP-3, k = 8": 2.5}))
    assert table["verdict"].tolist() == [parity.BELOW, parity.CONTEXT]
    assert table["ours"].iloc[0] == "0.671 / 0.300" and table["interval"].iloc[0] == "0.661–0.681 / 0.290–0.310"
    assert table["minutes"].tolist() == [2.5, 2.5] and table["seeds"].tolist() == [3, 3]


def test_the_figure_has_a_row_for_each_model_and_source_and_names_only_the_verdicts_that_were_passed():
    figure = parity.figure(parity.beside_published(PUBLISHED, board(0.66, 0.39)), "A title")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [
        "MLP-3, k = 8\nPaper",
        "MLP-3, k = 8\nOther",
    ]
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["ours, reached", "ours, for comparison", "published", "what counts as reached"]


def test_bands_of_the_committed_references_are_given_on_both_sides_and_belong_to_figures():
    references = pd.read_csv(ROOT / "reports/references.csv")
    banded = references.dropna(subset=["below"])
    assert len(banded) > 20 and banded["above"].notna().all() and references["above"].notna().sum() == len(banded)
    assert (banded[["below", "above"]] > 0).all().all() and (pd.to_numeric(banded["reported"]) > banded["below"]).all()
    assert not banded.duplicated(["source", "name", "dataset", "metric"]).any()
