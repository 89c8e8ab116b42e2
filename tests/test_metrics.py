"""Metrics against scikit-learn, hand-computed tables and their definitions."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from helpers import reference_metrics, reference_ranks
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    label_ranking_average_precision_score,
    ndcg_score,
    precision_score,
    recall_score,
)

from recsys_core import metrics
from recsys_core.evaluate import top_hits
from recsys_core.metrics import RANKING_METRICS, Hits

EXACT = {"rtol": 0, "atol": 1e-9}
few = settings(max_examples=25, deadline=None)


def hits_of(scores: np.ndarray, relevant: np.ndarray, cutoff: int | None = None) -> Hits:
    rows, items = np.nonzero(relevant)
    return top_hits(torch.as_tensor(scores), rows, items, cutoff or scores.shape[1])


@pytest.fixture(scope="module")
def untied() -> tuple[np.ndarray, np.ndarray]:
    """Scores without ties of 40 users for 30 items, and 1 to 12 relevant items each."""
    generator = np.random.default_rng(5)
    scores = np.array([generator.permutation(30) for _ in range(40)]).astype(np.float64)
    relevant = np.zeros((40, 30), dtype=bool)
    for row in relevant:
        row[generator.choice(30, generator.integers(1, 13), replace=False)] = True
    return scores, relevant


@pytest.mark.parametrize("cutoff", [1, 3, 10, 30])
def test_ndcg_equals_scikit_learn(untied: tuple[np.ndarray, np.ndarray], cutoff: int) -> None:
    scores, relevant = untied
    expected = [ndcg_score([r], [s], k=cutoff) for s, r in zip(scores, relevant)]
    np.testing.assert_allclose(metrics.ndcg(hits_of(scores, relevant), cutoff), expected, **EXACT)


@pytest.mark.parametrize("cutoff", [1, 3, 10, 30])
def test_precision_and_recall_equal_scikit_learn_on_the_cut_list(
    untied: tuple[np.ndarray, np.ndarray], cutoff: int
) -> None:
    scores, relevant = untied
    listed = scores >= 30 - cutoff
    hits = hits_of(scores, relevant)
    precision = [precision_score(r, x) for r, x in zip(relevant, listed)]
    recall = [recall_score(r, x) for r, x in zip(relevant, listed)]
    np.testing.assert_allclose(metrics.precision(hits, cutoff), precision, **EXACT)
    np.testing.assert_allclose(metrics.recall(hits, cutoff), recall, **EXACT)


def test_average_precision_and_reciprocal_rank_over_the_whole_list_equal_scikit_learn(
    untied: tuple[np.ndarray, np.ndarray],
) -> None:
    scores, relevant = untied
    hits = hits_of(scores, relevant)
    expected = [average_precision_score(r, s) for s, r in zip(scores, relevant)]
    np.testing.assert_allclose(metrics.average_precision(hits, 30), expected, **EXACT)
    best = np.zeros_like(relevant)
    best[np.arange(40), np.where(relevant, scores, -1).argmax(axis=1)] = True
    first = [label_ranking_average_precision_score([b], [s]) for s, b in zip(scores, best)]
    np.testing.assert_allclose(metrics.mrr(hits, 30), first, **EXACT)


@pytest.mark.parametrize("cutoff", [1, 2, 5, 12])
@pytest.mark.parametrize("n_scores", [2, 5, 1000])
def test_every_metric_equals_its_definition_with_ties(n_scores: int, cutoff: int) -> None:
    generator = np.random.default_rng(n_scores)
    scores = generator.integers(0, n_scores, (30, 12)).astype(np.float64)
    relevant = generator.random((30, 12)) < 0.3
    relevant[:, 0] = True
    hits = hits_of(scores, relevant, cutoff)
    for row in range(30):
        chosen = set(np.flatnonzero(relevant[row]).tolist())
        ranks = reference_ranks(scores[row].tolist(), chosen, set(range(12)))
        for name, value in reference_metrics(ranks, len(chosen), cutoff).items():
            assert RANKING_METRICS[name](hits, cutoff)[row] == pytest.approx(value, abs=1e-9), name


def test_a_table_computed_by_hand() -> None:
    """Three users: hits at 1 and 3 of 3 relevant items; a hit at 4 of 1; nothing found of 2."""
    hits = Hits(np.array([0, 0, 1]), np.array([1.0, 3.0, 4.0]), np.array([3, 1, 2]))
    at_3 = 1 + 1 / math.log2(3) + 1 / 2
    expected = {
        ("hit_ratio", 3): [1, 0, 0],
        ("hit_ratio", 4): [1, 1, 0],
        ("recall", 3): [2 / 3, 0, 0],
        ("recall_capped", 2): [1 / 2, 0, 0],
        ("recall", 2): [1 / 3, 0, 0],
        ("precision", 4): [2 / 4, 1 / 4, 0],
        ("mrr", 3): [1, 0, 0],
        ("mrr", 4): [1, 1 / 4, 0],
        ("ndcg", 3): [1.5 / at_3, 0, 0],
        ("ndcg", 4): [1.5 / at_3, 1 / math.log2(5), 0],
        ("map", 3): [(1 + 2 / 3) / 3, 0, 0],
        ("map", 2): [1 / 2, 0, 0],
        ("map", 4): [(1 + 2 / 3) / 3, 1 / 4, 0],
    }
    for (name, cutoff), values in expected.items():
        np.testing.assert_allclose(RANKING_METRICS[name](hits, cutoff), values, **EXACT, err_msg=f"{name}@{cutoff}")


def test_a_perfect_ranking_scores_1_and_the_worst_0() -> None:
    relevant = np.zeros((1, 20), dtype=bool)
    relevant[0, 15:] = True
    perfect, worst = hits_of(relevant * 1.0, relevant), hits_of(1.0 - relevant, relevant)
    for name, metric in RANKING_METRICS.items():
        assert metric(perfect, 5)[0] == pytest.approx(1, abs=1e-9), name
        assert metric(worst, 5)[0] == 0, name


def test_ties_count_half() -> None:
    """One item is better, the relevant one is tied with three others: rank 2 + 3/2."""
    scores, relevant = np.array([[9.0, 5, 5, 5, 5, 1]]), np.array([[0, 0, 1, 0, 0, 0]], dtype=bool)
    hits = hits_of(scores, relevant)
    assert hits.ranks.tolist() == [3.5]
    assert metrics.mrr(hits, 4)[0] == pytest.approx(1 / 3.5, abs=1e-9)
    assert metrics.ndcg(hits, 4)[0] == pytest.approx(1 / math.log2(4.5), abs=1e-9)
    assert metrics.hit_ratio(hits, 3)[0] == 0
    assert metrics.hit_ratio(hits, 4)[0] == 1


def test_the_tied_rank_is_the_mean_over_all_orders_of_the_tied_items() -> None:
    orders = list(itertools.permutations(range(4)))
    mean = sum(1 + order.index(0) for order in orders) / len(orders)
    assert hits_of(np.zeros((1, 4)), np.array([[True, False, False, False]])).ranks[0] == mean


def test_tied_relevant_items_follow_one_another() -> None:
    """Two relevant and two other items share the best score: ranks 2 and 3; the relevant item below them has rank 5."""
    scores, relevant = np.array([[5.0, 5, 5, 5, 4, 1]]), np.array([[1, 0, 1, 0, 1, 0]], dtype=bool)
    hits = hits_of(scores, relevant)
    assert sorted(hits.ranks) == [2, 3, 5]
    assert metrics.average_precision(hits, 6)[0] == pytest.approx((1 / 2 + 2 / 3 + 3 / 5) / 3, abs=1e-9)


def test_a_constant_model_gets_no_perfect_score_from_its_ties() -> None:
    relevant = np.eye(100, dtype=bool)
    hits = hits_of(np.zeros((100, 100)), relevant)
    assert (hits.ranks == 50.5).all()
    assert metrics.hit_ratio(hits, 10).sum() == 0


def test_a_user_without_relevant_items_gets_nan_and_changes_nobody_else() -> None:
    hits = Hits(np.array([0]), np.array([1.0]), np.array([1, 0, 4]))
    for name, metric in RANKING_METRICS.items():
        values = metric(hits, 5)
        assert np.isnan(values[1]), name
        assert np.isfinite(values[[0, 2]]).all(), name
        assert values[2] == 0, name


def test_no_hits_at_all_give_zeros() -> None:
    hits = Hits(np.empty(0, np.int64), np.empty(0), np.array([2, 1]))
    assert all((metric(hits, 3) == 0).all() for metric in RANKING_METRICS.values())


@given(seed=st.integers(0, 10_000), n_items=st.integers(1, 15), n_levels=st.integers(1, 6))
@few
def test_metrics_lie_in_0_to_1_and_grow_with_the_cutoff(seed: int, n_items: int, n_levels: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, n_levels, (8, n_items)).astype(np.float64)
    hits = hits_of(scores, generator.random((8, n_items)) < 0.4)
    for name, metric in RANKING_METRICS.items():
        values = np.array([metric(hits, cutoff) for cutoff in range(1, n_items + 1)])[:, hits.n_relevant > 0]
        assert ((values >= 0) & (values <= 1 + 1e-12)).all(), name
        if name in ("hit_ratio", "mrr", "recall"):
            assert (np.diff(values, axis=0) >= -1e-12).all(), name


@given(seed=st.integers(0, 10_000), n_levels=st.integers(1, 20))
@few
def test_the_order_of_items_and_users_does_not_matter(seed: int, n_levels: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, n_levels, (6, 12)).astype(np.float64)
    relevant = generator.random((6, 12)) < 0.4
    items, users = generator.permutation(12), generator.permutation(6)
    first, second = hits_of(scores, relevant, 5), hits_of(scores[users][:, items], relevant[users][:, items], 5)
    for name, metric in RANKING_METRICS.items():
        np.testing.assert_allclose(metric(first, 5)[users], metric(second, 5), **EXACT, err_msg=name)


@given(seed=st.integers(0, 10_000), cutoff=st.integers(1, 12))
@few
def test_raising_a_relevant_item_never_lowers_a_metric(seed: int, cutoff: int) -> None:
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 5, (1, 12)).astype(np.float64)
    relevant = generator.random((1, 12)) < 0.3
    relevant[0, 3] = True
    better = scores.copy()
    better[0, 3] += generator.integers(1, 4)
    for name, metric in RANKING_METRICS.items():
        before, after = (metric(hits_of(s, relevant, cutoff), cutoff)[0] for s in (scores, better))
        assert after >= before - 1e-12, name


LISTS = np.array([[0, 2, 4], [1, 3, -1], [5, -1, -1], [-1, -1, -1], [4, 4, 0]])
COUNTS = np.array([40, 3, 0, 12, 7, 1])
GENRES = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1]], dtype=np.float32)


def _naive(values: list[list[float]]) -> list[float]:
    return [sum(row) / len(row) if row else math.nan for row in values]


def test_novelty_and_popularity_bias_equal_plain_loops() -> None:
    filled = [[item for item in row if item >= 0] for row in LISTS.tolist()]
    bits = [[-math.log2((int(COUNTS[item]) + 1) / 51) for item in row] for row in filled]
    np.testing.assert_allclose(metrics.novelty(LISTS, COUNTS, 50), _naive(bits), **EXACT)
    profile = np.array([10.0, 2.5, 4.0, 1.0, np.nan])
    mean = np.array(_naive([[float(COUNTS[item]) for item in row] for row in filled]))
    np.testing.assert_allclose(metrics.popularity_bias(LISTS, COUNTS, profile), (mean - profile) / profile, **EXACT)


def test_popularity_bias_of_a_history_of_items_never_trained_is_missing_not_infinite() -> None:
    assert np.isnan(metrics.popularity_bias(LISTS[:1], COUNTS, np.array([0.0]))).all()


def test_diversity_equals_a_plain_loop_over_pairs_to_1e_9_for_float32_flags() -> None:
    def cosine(a: list[float], b: list[float]) -> float:
        norm = math.sqrt(sum(x * x for x in a) * sum(x * x for x in b))
        return sum(x * y for x, y in zip(a, b)) / norm if norm else 0.0

    flags = GENRES.tolist()
    expected = []
    for row in LISTS.tolist():
        pairs = list(itertools.combinations([item for item in row if item >= 0], 2))
        distances = [1 - cosine(flags[a], flags[b]) for a, b in pairs]
        expected.append(sum(distances) / len(distances) if distances else math.nan)
    np.testing.assert_allclose(metrics.diversity(LISTS, GENRES), expected, **EXACT)


def test_diversity_is_0_for_equal_and_1_for_disjoint_genres() -> None:
    assert metrics.diversity(np.array([[0, 1]]), np.array([[1, 1], [1, 1]]))[0] == pytest.approx(0, abs=1e-9)
    assert metrics.diversity(np.array([[0, 1]]), np.array([[1, 0], [0, 1]]))[0] == pytest.approx(1, abs=1e-9)


def test_coverage_counts_each_listed_item_once_and_no_empty_place() -> None:
    assert metrics.coverage(LISTS, 8) == 6 / 8
    assert metrics.coverage(np.full((2, 3), -1), 8) == 0


def test_exposure_gini_of_even_and_of_single_exposure() -> None:
    assert metrics.exposure_gini(np.array([[0, 1], [2, 3]]), 4) == pytest.approx(0)
    assert metrics.exposure_gini(np.array([[0], [0]]), 4) == pytest.approx(3 / 4)
    shown = np.array([1, 2, 5])  # mean absolute difference over twice the mean
    expected = np.abs(shown[:, None] - shown).mean() / (2 * shown.mean())
    lists = np.repeat([0, 1, 2], shown)[:, None]
    assert metrics.exposure_gini(lists, 3) == pytest.approx(expected)
