"""The ladder of content: its splits and rungs, what is chosen on which films, and what is put together, on small worlds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import invented_movielens, random_interactions

from pipeline.chapters import cold_films, cold_ladder, cold_stars
from pipeline.chapters.cold_ladder import AMOUNTS, HYBRID, POPULAR, RIDGE, WARM, WRONG, Climb, Ladder, Measured, named
from recsys_core.interactions import Features, Interactions
from recsys_core.models.baselines import Bias
from recsys_core.models.content_ridge import ContentRidge
from recsys_core.models.content_towers import ContentTowers, HybridTowers
from recsys_core.protocols import make_split

N_USERS, N_ITEMS, N_PARTS = 40, 60, 4
TASTES = np.arange(N_ITEMS) % 2


def rows_with_tastes() -> Interactions:
    """Even users rate even films, odd users odd ones, with a few exceptions."""
    rows = random_interactions(0, N_USERS, N_ITEMS, 1500)
    alike = (rows.users % 2 == TASTES[rows.items]) | (np.random.default_rng(1).random(len(rows)) < 0.1)
    return rows.take(alike)


def ladder() -> Ladder:
    """A rung that says to whom a film is, and one of noise."""
    generator = np.random.default_rng(2)
    noise = generator.normal(size=(N_ITEMS, 2)).astype(np.float32)
    taste = np.stack([TASTES, 1 - TASTES], axis=1).astype(np.float32)
    features = {
        "noise": Features(noise, ("content_n0", "content_n1")),
        "taste": Features(taste, ("content_t0", "content_t1")),
    }
    rows = rows_with_tastes()
    return Ladder(make_split("random-80-10-10", rows), cold_films.parts(rows.item_counts, N_PARTS), features)


def ridges(*strengths: float) -> list[ContentRidge]:
    return [ContentRidge(columns=("content_",), regularisation=strength) for strength in strengths]


@pytest.fixture(scope="module")
def climb() -> Climb:
    network = {"columns": ("content_",), "epochs": 2, "batch_size": 64, "embedding_dim": 4, "device": "cpu"}
    hybrids = {f"{share}": HybridTowers(**network, id_dropout=share) for share in (0.0, 0.9)}
    return Climb(ladder(), [0, 2], {RIDGE: ridges(1.0), "towers": [ContentTowers(**network)]}, "taste", hybrids)


def test_swapped_content_goes_to_other_films_of_the_part_and_changes_no_other_film() -> None:
    values = np.arange(20, dtype=np.float32)[:, None]
    films = np.array([3, 8, 9, 15])
    found = cold_ladder.swapped(Features(values, ("content_0",)), films, seed=1).values[:, 0]
    others = np.setdiff1d(np.arange(20), films)
    assert (found[others] == others).all()
    assert sorted(found[films]) == films.tolist() and (found[films] != films).all()


def test_rungs_share_rows_and_roles_and_differ_in_content_alone() -> None:
    mine, other, swapped = ladder().split("noise", 1), ladder().split("taste", 1), ladder().split("taste", 1, swap=True)
    for split in (other, swapped):
        assert (split.roles == mine.roles).all() and split.variant == mine.variant
    columns = [split.interactions.item_features.columns for split in (mine, other)]
    assert columns == [("content_n0", "content_n1"), ("content_t0", "content_t1")]
    assert ladder().split(None, 1).interactions.item_features is None
    changed = (swapped.interactions.item_features.values != other.interactions.item_features.values).any(axis=1)
    assert changed.any() and (ladder().part_of[changed] == 1).all()


def test_held_out_popularity_ranks_by_the_held_out_rows() -> None:
    split = ladder().split(None, 0)
    scores = cold_ladder.held_out_popularity(split).score(torch.tensor([0, 1]))
    assert scores.tolist() == [split.test.item_counts.tolist()] * 2


def test_the_candidate_is_chosen_on_other_cold_films_and_fitted_again_with_them() -> None:
    split = ladder().split("taste", 0)
    candidates = ridges(1e9, 1.0)  # the first has no weights but that of the 1
    values = [cold_ladder.validated(model, split)[0] for model in candidates]
    tried = candidates[1].fit(split.train)
    assert values[1] == cold_films.judge(tried, split.train, split.validation, None).measure() and values[1] > values[0]
    best = cold_ladder.best_on_cold(candidates, split)
    assert best.hyperparameters["regularisation"] == 1.0
    assert (best.train_.item_counts == split.refit.item_counts).all()


def test_a_networks_epoch_is_the_best_among_the_cold_films_of_the_validation_rows() -> None:
    split = ladder().split("taste", 0)
    model = ContentTowers(columns=("content_",), epochs=3, batch_size=64, embedding_dim=4, device="cpu")
    value, chosen = cold_ladder.validated(model, split)
    curve = ContentTowers(**model.hyperparameters).fit(split.train, split.validation, judge=cold_films.judge).history_
    found = [epoch["ndcg@10"] for epoch in curve.epochs]
    assert value == max(found) and chosen.hyperparameters["epochs"] == 1 + int(np.argmax(found))


def test_users_have_their_mean_over_parts_and_films_their_own_value() -> None:
    first = pd.DataFrame({"user": [0, 1], "ndcg@10": [0.2, np.nan], "part": 0})
    second = pd.DataFrame({"user": [0, 1], "ndcg@10": [0.6, 0.5], "part": 1})
    films = [
        pd.DataFrame({"item": [4, 2], "auc": [0.9, 0.1], "part": 0}),
        pd.DataFrame({"item": [3], "auc": [0.7], "part": 1}),
    ]
    measured = Measured([first, second], films)
    assert measured.by_user()["ndcg@10"].tolist() == pytest.approx([0.4, 0.5])
    assert measured.by_film()["item"].tolist() == [2, 3, 4]
    assert measured.of_parts([1]).by_user()["ndcg@10"].tolist() == [0.6, 0.5]
    both = measured.of_parts([0]).and_of(measured.of_parts([1]))
    pd.testing.assert_frame_equal(both.by_film(), measured.by_film())


def test_content_that_tells_to_whom_a_film_is_is_above_noise_and_above_itself_swapped(climb: Climb) -> None:
    whole = climb.table([named(rung, RIDGE) for rung in (WRONG, "noise", "taste")])["auc"]
    assert whole[named("taste", RIDGE)] > 0.8
    assert max(whole[named("noise", RIDGE)], whole[named(WRONG, RIDGE)]) < 0.65


def test_a_collaborative_model_knows_nothing_of_cold_films(climb: Climb) -> None:
    line = climb.table([WARM]).loc[WARM]
    assert line["auc"] == 0.5 and line["ndcg@10"] == pytest.approx(line["chance_ndcg@10"])


def test_differences_come_with_the_number_of_parts_that_agree(climb: Climb) -> None:
    better, worse = named("taste", RIDGE), named("noise", RIDGE)
    line = climb.compared([(better, worse)], "auc").loc[f"{better} | {worse}"]
    films = [climb.of(name).by_film()["auc"].mean() for name in (better, worse)]
    assert line["difference"] == pytest.approx(films[0] - films[1]) and line["low"] > 0
    assert line["parts ahead"] == 2
    assert climb.compared([(worse, better)], "ndcg@10").iloc[0]["parts ahead"] == 0


def test_a_hybrid_is_on_each_part_the_one_that_was_chosen_there(climb: Climb) -> None:
    measured, best = climb.by_hybrid
    found = climb.of(HYBRID).by_film().set_index("item")["auc"]
    for part, name in zip(climb.parts, best):
        mine = measured[name].of_parts([part]).by_film().set_index("item")["auc"]
        pd.testing.assert_series_equal(found[mine.index], mine)
    assert climb.hybrid_table()["chosen by"].sum() == len(climb.parts)


def test_means_of_groups_are_over_the_films_that_have_a_value(climb: Climb) -> None:
    films = pd.DataFrame({"item": [0, 1, 2, 3], "auc": [0.2, 0.6, np.nan, 1.0]})
    table = cold_ladder.means_by_group(films, pd.Series(["rare", "rare", "rare", "known"]))
    assert table.loc["rare", ["estimate", "films"]].tolist() == [pytest.approx(0.4), 2]
    grouped = climb.grouped([POPULAR], pd.Series(TASTES))
    assert (
        grouped.index.names == ["model", "films"]
        and grouped["films"].sum() == climb.of(POPULAR).by_film()["auc"].count()
    )


def test_stars_without_content_are_mean_and_users_bias() -> None:
    split = ladder().split(None, 0)
    errors = cold_stars.stars_of_cold_films(split, None, [10.0], 10.0)
    bias = Bias().fit(split.refit)
    rows = split.test.take(cold_films.cold(split.refit, split.test)[split.test.items])
    stars = np.clip(bias.baseline(rows.users, rows.items, split.refit), bias.low, bias.high)
    np.testing.assert_allclose(errors["squared_error"], (stars - rows.ratings) ** 2)
    line = cold_stars.rmse_over_films(errors)
    assert line["rmse"] == pytest.approx(np.sqrt(errors["squared_error"].mean()))
    assert line["low"] < line["rmse"] < line["high"]


def test_content_that_tells_stars_lowers_the_error_and_the_films_own_mean_lowers_it_most() -> None:
    world = ladder()
    rows = world.base.interactions
    loved = replace(rows, ratings=np.where(TASTES[rows.items] == 1, 5, 2).astype(np.float32))
    split = cold_films.with_cold_films(replace(world.base, interactions=loved), world.part_of, 0)
    error = {
        name: cold_stars.stars_of_cold_films(split, known, [1.0, 100.0], 1.0)["squared_error"].mean()
        for name, known in (("nothing", None), *world.features.items())
    }
    assert error["taste"] < 0.5 * error["nothing"] < error["noise"]
    assert cold_stars.held_out_stars(split)["squared_error"].mean() < error["nothing"]


def test_rungs_begin_with_amounts_and_read_the_kinds_that_they_name() -> None:
    movies = pd.DataFrame({"item_id": np.arange(1, 130)})
    movies["title"] = [f"Space Film {item % 7} (1995)" for item in movies["item_id"]]
    movies["genres"] = ["Action|Drama" if item % 2 else "Comedy" for item in movies["item_id"]]
    movies["year"] = pd.array([1990 + item % 5 for item in movies["item_id"]], dtype="Int64")
    data = replace(invented_movielens(), movies=movies.astype({"title": "str", "genres": "str"}))
    features, content = cold_ladder.rung_features(
        data, {"genres": ["genres"], "both": ["genres", "title"], "tags": ["tags"]}, 4
    )
    assert list(features) == [AMOUNTS, "genres", "both"] and "tags" in content.missing
    assert features[AMOUNTS].columns[:2] == ("content_amount_genres", "content_amount_title")
    assert features["both"].columns[0] == "content_genres_title_0"
    lengths = np.linalg.norm(features["genres"].values, axis=1)
    np.testing.assert_allclose(lengths[lengths > 0], 1, rtol=1e-5)
