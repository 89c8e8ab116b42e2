"""Films without training rows: how they are chosen, and what is measured of them, on worlds small enough to count by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import Table, make_interactions, random_interactions

from pipeline.chapters import cold_figures, cold_films
from recsys_core.errors import StudyError
from recsys_core.evaluate import RankingTask, rank
from recsys_core.models.baselines import Popularity
from recsys_core.protocols import make_split
from recsys_core.splits import Role, Split

# Films 0 and 1 are warm; 2 to 5 are cold. User 3 has no training rows, user 2 no cold positive.
TRAIN = [(0, 0), (1, 0), (1, 1), (2, 0)]
TEST = [(0, 1), (0, 2), (0, 3), (1, 4), (2, 1), (3, 2), (3, 5)]
SCORES = np.array(
    [
        [9, 5, 4, 1, 3, 2],  # user 0: cold films in the order 2, 4, 5, 3
        [9, 8, 2, 1, 2, 0],  # user 1: films 2 and 4 are tied
        [9, 1, 5, 4, 3, 2],
        [0, 0, 0, 0, 0, 0],
    ],
    float,
)


def world() -> Split:
    roles = np.array([Role.TRAIN] * len(TRAIN) + [Role.TEST] * len(TEST), np.uint8)
    return Split(make_interactions(TRAIN + TEST, 4, 6), roles, "random-80-10-10")


def model() -> Table:
    return Table(table=SCORES).fit(world().train)


@pytest.mark.parametrize("n_items", [40, 47])
def test_every_film_is_in_one_part_and_every_stratum_of_popularity_in_all(n_items: int) -> None:
    counts = np.random.default_rng(1).permutation(n_items) // 2
    part_of = cold_films.parts(counts, 10, seed=3)
    by_popularity = part_of[np.lexsort((part_of, -counts))]
    assert np.bincount(part_of).max() - np.bincount(part_of).min() <= 1
    assert (
        np.bincount(part_of, weights=counts).max() - np.bincount(part_of, weights=counts).min()
        < 0.4 * counts.max() + 12
    )
    assert len(by_popularity) == n_items and set(part_of) == set(range(10))
    assert (part_of == cold_films.parts(counts, 10, seed=3)).all()
    assert (part_of != cold_films.parts(counts, 10, seed=4)).any()


def test_with_different_counts_every_ten_films_in_a_row_are_in_ten_parts() -> None:
    part_of = cold_films.parts(np.arange(30)[::-1], 10)
    assert all(sorted(part_of[start : start + 10]) == list(range(10)) for start in (0, 10, 20))


@pytest.mark.parametrize("n_parts", [1, 7])
def test_too_few_and_too_many_parts_are_refused(n_parts: int) -> None:
    with pytest.raises(StudyError, match=f"n_parts={n_parts}: 6 films can be cut into 2 to 6 parts"):
        cold_films.parts(np.arange(6), n_parts)


def test_cold_films_have_no_row_in_training_nor_in_the_refit_and_each_is_cold_once() -> None:
    rows = random_interactions(0, 30, 40, 600)
    base, part_of = make_split("random-80-10-10", rows), cold_films.parts(rows.item_counts, 4)
    times_cold = np.zeros(40)
    for part in range(4):
        split = cold_films.with_cold_films(base, part_of, part)
        mine = part_of == part
        for trained in (split.train, split.refit):
            assert not trained.item_counts[mine].any()
        assert (split.test.item_counts[mine] == rows.item_counts[mine]).all()
        chosen_on = part_of == (part + 1) % 4
        assert set(split.validation.items) == set(np.flatnonzero(chosen_on & (rows.item_counts > 0)))
        assert not split.train.item_counts[chosen_on].any() and split.refit.item_counts[chosen_on].all()
        others = part_of[rows.items] > -1
        others &= ~mine[rows.items] & ~chosen_on[rows.items]
        assert (((split.roles & Role.TEST) > 0)[others] == ((base.roles & Role.TEST) > 0)[others]).all()
        assert split.variant == f"cold films, part={part}" and split.sha256 != base.sha256
        times_cold += cold_films.cold(split.refit, split.test)
    assert (times_cold == 1).all()


def test_a_film_whose_rows_were_all_test_rows_trains_unless_its_own_part_is_cold() -> None:
    rows = random_interactions(0, 30, 40, 600)
    base, part_of = make_split("random-80-10-10", rows), cold_films.parts(rows.item_counts, 4)
    film = int(rows.items[0])
    alone = replace(base, roles=np.where(rows.items == film, Role.TEST, base.roles).astype(np.uint8))
    for part in range(4):
        split = cold_films.with_cold_films(alone, part_of, part)
        assert cold_films.cold(split.refit, split.test)[film] == (part_of[film] == part)
        assert (split.test.item_counts[film] > 0) == (part_of[film] == part)


@pytest.mark.parametrize(
    ("protocol", "part", "problem"),
    [
        ("random-80-10-10", 4, "parts 0 to 3"),
        ("user-holdout", 0, "user-holdout is another"),
        ("loo-sampled", 0, "another"),
    ],
)
def test_parts_and_splits_that_cannot_be_are_refused(protocol: str, part: int, problem: str) -> None:
    rows = random_interactions(0, 30, 140, 900)
    with pytest.raises(StudyError, match=problem):
        cold_films.with_cold_films(make_split(protocol, rows), cold_films.parts(rows.item_counts, 4), part)


def test_rows_without_a_cold_film_are_refused() -> None:
    with pytest.raises(StudyError, match="none is cold: take films out of training"):
        cold_films.cold(world().train, world().test.take(world().test.items < 2))


def test_among_cold_films_recall_and_ndcg_are_those_counted_by_hand() -> None:
    table = cold_films.among_cold_films(model(), world(), (2,)).set_index("user")
    assert table.index.tolist() == [0, 1, 2]  # user 3 is unknown to training
    assert table["n_relevant"].tolist() == [2, 1, 0]
    # User 0 finds film 2 first and film 3 last; user 1's film 4 is first in one order of its tie with film 2, second in the other.
    ideal = 1 + 1 / math.log2(3)
    np.testing.assert_allclose(table["recall@2"], [1 / 2, 1, np.nan])
    np.testing.assert_allclose(table["ndcg@2"], [1 / ideal, ideal / 2, np.nan])


def test_without_ties_they_are_those_of_every_ranking_and_ties_count_as_the_mean_of_their_orders() -> None:
    generator, n_draws, split = np.random.default_rng(0), 3000, world()
    found, metrics = np.zeros((n_draws, 2, 2)), ["recall@2", "ndcg@2"]
    tied = np.round(SCORES / 3)
    for draw in range(n_draws):
        untied = Table(table=tied + generator.random((4, 6)) / 10).fit(split.train)
        table = cold_films.among_cold_films(untied, split, (2,))
        found[draw] = table.loc[:1, metrics].to_numpy()
        if draw < 20:
            ranked = rank(untied, cold_films._among_cold(split.train, split.test, (2,))).users
            np.testing.assert_allclose(found[draw], ranked[metrics].to_numpy())
    whole = cold_films.among_cold_films(Table(table=tied).fit(split.train), split, (2,))
    np.testing.assert_allclose(found.mean(axis=0), whole.loc[:1, metrics].to_numpy(), atol=0.03)


def test_chance_is_what_a_model_that_cannot_tell_cold_films_apart_has() -> None:
    table = cold_films.among_cold_films(Popularity().fit(world().train), world(), (2,))
    np.testing.assert_allclose(table["recall@2"], [1 / 2, 1 / 2, np.nan])
    for metric in ("recall@2", "ndcg@2"):
        np.testing.assert_allclose(table[metric], table[f"chance_{metric}"])


def test_the_auc_of_a_film_is_the_share_of_unrated_cold_films_below_it() -> None:
    table = cold_films.auc_by_film(model(), world()).set_index("item")
    # User 0 did not rate films 4 and 5: film 2 is above both, film 3 below both. User 1: film 4 ties with 2, is above 3 and 5.
    np.testing.assert_allclose(table["auc"], [1.0, 0.0, (0.5 + 1 + 1) / 3, np.nan])
    assert table["n_users"].tolist() == [1, 1, 1, 0] and table.index.tolist() == [2, 3, 4, 5]


def test_popularity_that_cannot_know_cold_films_has_the_auc_of_chance() -> None:
    table = cold_films.auc_by_film(Popularity().fit(world().train), world())
    assert table["auc"].dropna().tolist() == [0.5] * 3


def test_among_all_films_cold_ones_and_what_warm_ones_lose_are_those_counted_by_hand() -> None:
    table = cold_films.among_all_films(model(), world(), 2).set_index("user")
    # Lists: user 0 (seen 0) has films 1 and 2, user 1 (seen 0 and 1) 2 and 4, user 2 (seen 0) 2 and 3.
    assert table["n_cold"].tolist() == [2, 1, 0] and table["n_warm"].tolist() == [1, 0, 1]
    np.testing.assert_allclose(table["cold_recall"], [1 / 2, 1, np.nan])
    np.testing.assert_allclose(table["cold_share"], [1 / 2, 1, 1])
    np.testing.assert_allclose(table["warm_recall"], [1, np.nan, 0])
    np.testing.assert_allclose(table["warm_recall_alone"], [1, np.nan, 1])
    np.testing.assert_allclose(table["warm_ndcg_alone"], [1, np.nan, 1])
    np.testing.assert_allclose(table["warm_ndcg"], [1, np.nan, 0])


def test_choosing_looks_at_cold_validation_films_alone() -> None:
    split = world()
    rows = split.test  # as if they validated
    validation = cold_films.judge(model(), split.train, rows, None)
    assert validation.metric == "ndcg@4" and validation.higher_is_better
    table = cold_films.among_cold_films(Table(table=SCORES + np.arange(6) / 10).fit(split.train), split, (4,))
    untied = cold_films.judge(Table(table=SCORES + np.arange(6) / 10).fit(split.train), split.train, rows, None)
    assert untied.measure() == pytest.approx(table["ndcg@4"].mean())


def test_lists_among_a_part_of_the_films_hold_no_other() -> None:
    films = np.array([False, True, False, True, True, False])
    ranking = rank(
        model(), RankingTask(world().train, world().test, cutoffs=(4,), users=np.array([0, 1, 2]), among=films)
    )
    assert ranking.lists.tolist() == [[1, 4, 3, -1], [4, 3, -1, -1], [3, 4, 1, -1]]
    assert torch.equal(model().score(torch.tensor([0])), torch.as_tensor(SCORES[:1]))  # what was scored is not changed


def test_a_trade_marks_the_hybrid_that_validation_chose() -> None:
    places = {"10%": (0.4, 0.2), "90%": (0.3, 0.1), "hybrid": (0.35, 0.15), "EASE": (0.1, 0.3)}
    families = dict.fromkeys(places, "hybrid") | {"EASE": "linear"}
    axes = cold_figures.trade(places, families, ["10%", "90%"], "hybrid", "").axes[0]
    assert [text.get_text() for text in axes.texts] == ["10%", "90%", "hybrid, as chosen on validation", "EASE"]
    assert [line.get_marker() for line in axes.lines[1:]] == ["o", "o", "D", "o"]
