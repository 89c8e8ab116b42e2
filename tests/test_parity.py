"""Published numbers beside ours: what is reached, the table, and that every band in the references can be missed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import invented_movielens as data

from pipeline.chapters import parity
from pipeline.chapters.experiment import Experiments
from pipeline.chapters.notebook import ROOT, Notebook
from recsys_core.judging import measure
from recsys_core.models.baselines import Popularity
from recsys_core.models.linear import EASE
from recsys_core.models.ncf import NCF
from recsys_core.splits import Role

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
    assert shown == [
        "ours, reached",
        "ours, for comparison",
        "published, its value at the right",
        "what counts as reached",
    ]


def test_minutes_are_of_all_that_was_tried_and_of_every_training_also_of_those_that_do_not_know_theirs():
    run = {"role": "", "protocol": "loo-sampled", "metric": "ndcg@10", "variant": "", "value": 0.4}
    tried = {"role": "tried", "protocol": "loo-sampled", "metric": "minutes"}
    rows = [run | {"model": "A", "seconds": each} for each in (60.0, 120.0, np.nan)] + [
        run | {"model": "B", "seconds": np.nan},
        tried | {"model": "A", "variant": "slow", "value": 2.0},
        tried | {"model": "A", "variant": "fast", "value": 4.0},
        tried | {"model": "B", "variant": "slow", "value": 40.0},
    ]
    assert parity.minutes_of(pd.DataFrame(rows), "loo-sampled").to_dict() == {"A": 4.5 + 6, "B": 40 + 40}


def test_bands_of_the_committed_references_are_given_on_both_sides_and_belong_to_figures():
    references = pd.read_csv(ROOT / "reports/references.csv").query("claim_id.isna()")
    banded = references.dropna(subset=["below"])
    assert len(banded) > 20 and banded["above"].notna().all() and references["above"].notna().sum() == len(banded)
    assert (banded[["below", "above"]] > 0).all().all() and (pd.to_numeric(banded["reported"]) > banded["below"]).all()
    assert not banded.duplicated(["source", "name", "dataset", "metric"]).any()


def small_study(root: Path) -> Experiments:
    places = (root / "reports/stored/large/cpu", root / "figures")
    return Experiments(Notebook("48_small", {}, "large", *places, root, "resume", part="large"), data())


def test_what_the_test_rows_are_worth_by_epoch_ends_where_a_whole_training_does(tmp_path: Path) -> None:
    split = small_study(tmp_path).splits("loo-sampled")[0]
    model = NCF(epochs=3, layers=(8,), device="cpu", learning_rate=0.01)
    table = parity.by_epoch_on_test(model, split)
    assert list(table.index) == ["epoch 001", "epoch 002", "epoch 003"]
    summary, _ = measure(NCF(**model.hyperparameters).fit(split.refit, seed=0), split)
    whole = summary.set_index("metric")["value"]
    assert table.loc["epoch 003"].tolist() == pytest.approx([whole[metric] for metric in parity.MEASURED])


def test_every_reading_of_the_test_rows_is_logged_also_of_settings_that_were_given_up(tmp_path: Path) -> None:
    study = small_study(tmp_path)
    for strength in (10.0, 1000.0):
        study.run("EASE (wide)", EASE(regularisation=strength), ["loo-sampled", "loo-full"], [0], main=False)
    study.run("Popularity", Popularity(), ["loo-sampled"], [0])
    (split,) = study.splits("loo-sampled")
    roles = split.roles.copy()
    roles[np.flatnonzero(roles == Role.TEST)[:2]] = 0
    study.run(
        "Popularity", Popularity(), [replace(split, roles=roles)], [0], main=False
    )  # other test rows, another log
    found = parity.openings(study.runs.store, split)
    assert list(found) == ["EASE (wide)", "Popularity"]
    assert list(found["EASE (wide)"].index) == ["regularisation 10.0", "regularisation 1000.0"]
    assert found["EASE (wide)"]["seeds"].tolist() == [1, 1]
    values = study.results.query("protocol == 'loo-sampled' and model == 'Popularity' and metric == 'ndcg@10'")["value"]
    assert found["Popularity"]["ndcg@10"].iloc[0] == pytest.approx(values.iloc[0])


def test_the_figure_of_orders_names_each_model_on_both_sides_with_its_last_value():
    orders = pd.DataFrame({"a, b": [0.1, 0.3], "c": [0.2, 0.1]}, index=["one", "two"])
    texts = [text.get_text() for text in parity.orders_figure(orders, {"one": "linear"}, "A title").axes[0].texts]
    assert texts == ["two", "two, 0.100", "one", "one, 0.200"]


@pytest.mark.parametrize(
    "low, high, verdict",
    [
        (-0.004, 0.009, "the same"),
        (0.002, 0.009, "the same"),  # a difference that is there, and too small to matter
        (-0.011, 0.003, "undecided"),
        (0.001, 0.011, "another"),
        (-0.03, -0.02, "another"),
    ],
)
def test_two_implementations_are_the_same_where_the_whole_interval_is_small(low, high, verdict):
    case = {
        "peer": "one",
        "version": "one 1.0",
        "what": "BPR",
        "settings": "the same",
        "data": "rows",
        "rounds": 5,
        "theirs": 0.3,
        "ours": 0.31,
    }
    peers = pd.DataFrame(
        [
            case | {"measure": "epoch"},
            case | {"measure": "ndcg", "low": low, "high": high},
            case | {"measure": "hit_ratio"},
        ]
    )
    (line,) = parity.beside_implementations(peers).to_dict("records")
    assert (line["library"], line["model"], line["seeds"], line["verdict"]) == ("one 1.0", "BPR", 5, verdict)
