"""Metrics among drawn films: the shortcut through ranks against films that are really drawn, the paper's models, the figure."""

from __future__ import annotations

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import make_interactions, random_interactions

from pipeline.chapters import parity, sampled_metrics
from pipeline.chapters.notebook import ROOT
from pipeline.chapters.sampled_metrics import (
    EVERYTHING,
    METRICS,
    ItemSimilarities,
    Standings,
    consistent_from,
    differences,
    fitted_standings,
    in_order,
    standings,
)
from recsys_core import evaluate
from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions
from recsys_core.models.baselines import Popularity
from recsys_core.models.neighbours import ImplicitItemKNN
from recsys_core.protocols import make_split
from recsys_core.splits import Split, sample_unseen


@pytest.fixture(scope="module")
def split() -> Split:
    """80 users, 60 items, 20 rows a user or so; many scores of popularity are tied."""
    return make_split("loo-full", random_interactions(0, 80, 60, 1600))


@pytest.fixture(scope="module")
def exact(split: Split) -> dict[str, Standings]:
    return fitted_standings(split, {"Popularity": Popularity, "Nearest": lambda: ItemSimilarities(n_neighbours=3)})


def task_of(split: Split, negatives: np.ndarray | None = None) -> evaluate.RankingTask:
    return evaluate.RankingTask(split.refit, split.test, negatives=negatives, cutoffs=(10,))


def test_standings_give_the_ranks_and_metrics_of_the_evaluator(split: Split) -> None:
    model = ItemSimilarities(n_neighbours=3).fit(split.refit)
    ranked = evaluate.rank(model, replace(task_of(split), cutoffs=(10, 60))).users
    mine = standings(model, task_of(split))
    assert mine.tied.sum() > 0  # ties are part of what is compared
    np.testing.assert_allclose(1 / mine.ranks, ranked["mrr@60"])
    values = mine.values()
    np.testing.assert_allclose(values["recall@10"], ranked["recall@10"])
    np.testing.assert_allclose(values["ndcg@10"], ranked["ndcg@10"])
    np.testing.assert_allclose(values["ap"], ranked["map@60"])


def test_drawn_standings_are_distributed_as_those_among_negatives_that_are_really_drawn(split: Split) -> None:
    """Recall and NDCG over 300 draws each: means within 4 standard errors, deviations from draw to draw within a fifth."""
    model = Popularity().fit(split.refit)
    mine, generator = standings(model, task_of(split)), np.random.default_rng(1)
    quick = np.array([mine.drawn(15, generator).values().mean() for _ in range(300)])[:, :2]
    real = []
    for _ in range(300):
        users = evaluate.rank(model, task_of(split, sample_unseen(split.interactions, 15, generator))).users
        real.append([users["recall@10"].mean(), users["ndcg@10"].mean()])
    errors = np.sqrt((quick.var(axis=0) + np.var(real, axis=0)) / 300)
    assert np.all(np.abs(quick.mean(axis=0) - np.mean(real, axis=0)) < 4 * errors)
    assert quick.std(axis=0) == pytest.approx(np.std(real, axis=0), rel=0.2)


def test_untied_standings_put_the_held_out_film_anywhere_among_those_of_its_score_alike() -> None:
    tied = Standings(np.full(30_000, 2), np.full(30_000, 3), np.full(30_000, 9)).untied(np.random.default_rng(0))
    assert not tied.tied.any() and (tied.others == 9).all()
    shares = np.bincount(tied.above, minlength=7) / 30_000
    assert shares == pytest.approx([0, 0, 0.25, 0.25, 0.25, 0.25, 0], abs=0.01)


def test_drawing_every_film_gives_the_exact_metrics_and_one_film_the_auc(exact: dict[str, Standings]) -> None:
    mine, generator = exact["Nearest"], np.random.default_rng(0)
    everything = mine.drawn(1000, generator)
    np.testing.assert_array_equal(everything.ranks, mine.ranks)
    one = np.mean([mine.drawn(1, generator).values()["auc"].mean() for _ in range(400)])
    assert one == pytest.approx(mine.values()["auc"].mean(), abs=0.01)


def test_the_table_has_every_metric_and_size_and_its_order_is_told_apart_from_the_exact_one() -> None:
    """A model that puts half of the films first and never wins, against one that wins or fails: the order reverses."""
    others = np.full(400, 1000)
    steady = Standings(np.full(400, 40), np.zeros(400, int), others)
    bold = Standings(np.where(np.arange(400) % 4 == 0, 0, 600), np.zeros(400, int), others)
    models = {"Steady": steady, "Bold": bold}
    table = sampled_metrics.sampled_metrics(models, (10, 100, 500), n_draws=5)
    assert len(table) == 2 * 4 * len(METRICS)
    assert (table.loc[table["negatives"] == EVERYTHING, "sd"] == 0).all()  # nothing is tied
    orders = in_order(table, "recall@10")
    assert orders["100"] == ("Steady", "Bold") and orders[EVERYTHING] == ("Bold", "Steady")
    assert consistent_from(table, "recall@10") == "500"
    assert consistent_from(table, "auc") == "10"
    apart = differences(models, "recall@10", (100,), n_draws=5).set_index("negatives")
    assert apart.loc[EVERYTHING, "high"] < 0 < apart.loc["100", "low"]
    again = sampled_metrics.sampled_metrics(models, (10, 100, 500), n_draws=5)
    assert table.equals(again) and not table.equals(sampled_metrics.sampled_metrics(models, n_draws=5, seed=1))


def test_where_the_order_is_never_the_exact_one_no_size_is_named() -> None:
    others = np.full(40, 1000)
    models = {
        "Steady": Standings(np.full(40, 40), np.zeros(40, int), others),
        "Bold": Standings(np.where(np.arange(40) % 4 == 0, 0, 600), np.zeros(40, int), others),
    }
    assert consistent_from(sampled_metrics.sampled_metrics(models, (10, 30), n_draws=3), "recall@10") is None


def test_item_similarities_equal_a_loop_over_the_history() -> None:
    rows = random_interactions(3, 12, 9, 50)
    model = ItemSimilarities(power=3, n_neighbours=2).fit(rows)
    dense = rows.binary.toarray()
    norms = np.sqrt(dense.sum(axis=0))
    expected = np.zeros((12, 9))
    for user in range(12):
        for j in np.flatnonzero(dense[user]):
            near = [dense[:, j] @ dense[:, i] / norms[j] / norms[i] if i != j else 0.0 for i in range(9)]
            weights = np.array(near) ** 3
            weights[weights < np.sort(weights)[-2]] = 0
            expected[user] += weights / weights.sum()
    known = np.flatnonzero(rows.user_counts)
    np.testing.assert_allclose(model.score(torch.as_tensor(known)).numpy(), expected[known], rtol=1e-5, atol=1e-7)


def test_without_the_denominator_all_films_count_by_their_cosine_as_the_studys_item_knn_has_it_with_all_neighbours() -> (
    None
):
    rows = random_interactions(4, 30, 20, 300)
    plain = ItemSimilarities(normalised=False).fit(rows).score(torch.arange(30))
    torch.testing.assert_close(plain, ImplicitItemKNN(n_neighbours=20).fit(rows).score(torch.arange(30)))


def test_a_film_that_nobody_has_seen_is_scored_0_and_histories_fold_in() -> None:
    rows = make_interactions([(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)], 2, 4)
    model = ItemSimilarities(power=3).fit(rows)
    scores = model.score(torch.arange(2))
    assert scores.isfinite().all() and scores[:, 3].tolist() == [0, 0]
    history = make_interactions([(0, 0), (0, 1)], 1, 4)
    torch.testing.assert_close(model.score(torch.tensor([0]), history), scores[:1])


def test_several_held_out_films_a_user_are_refused(split: Split) -> None:
    doubled: Interactions = split.refit.take(np.flatnonzero(split.refit.users < 5))
    model = Popularity().fit(split.test)
    with pytest.raises(StudyError, match="one held-out film a user"):
        standings(model, evaluate.RankingTask(split.test, doubled))


def test_the_figure_has_a_panel_for_each_metric_and_a_line_for_each_model(exact: dict[str, Standings]) -> None:
    table = sampled_metrics.sampled_metrics(exact, (5, 10, 20), n_draws=3)
    figure = sampled_metrics.figure(table, "A title")
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(METRICS.values())
    for axes in figure.axes:
        assert [line.get_label() for line in axes.lines] == ["Popularity", "Nearest"]
    assert [label.get_text() for label in figure.axes[-1].get_xticklabels()] == ["5", "10", "20", EVERYTHING]
    plt.close(figure)


def test_each_figure_of_the_paper_in_the_references_finds_its_model_and_metric() -> None:
    references = pd.read_csv(ROOT / "reports/references.csv").query("source == 'Krichene & Rendle 2020'")
    published = references.assign(value=pd.to_numeric(references["reported"]))
    others = np.full(50, 3000)
    models = {name: Standings(np.arange(50), np.zeros(50, int), others) for name in sampled_metrics.MODELS}
    lines = sampled_metrics.beside_paper(sampled_metrics.sampled_metrics(models, (10, 100), n_draws=2), published)
    assert len(lines) == len(published) == 15 and set(lines["model"]) == set(sampled_metrics.MODELS)
    recall = lines[lines["metric"] == "recall@10"].set_index("model").loc["iALS, 16 factors"]
    assert recall["ours"] == pytest.approx(0.2) and recall["difference"] == pytest.approx(0.2 - 0.076)
    assert recall["verdict"] == parity.ABOVE
    assert set(lines.loc[lines["metric"] == "auc", "verdict"]) == {parity.CONTEXT}
