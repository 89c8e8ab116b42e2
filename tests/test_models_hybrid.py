"""Hybrids choose on validation rows, weights by least squares or what ranks best, and keep that when their members learn again."""

from __future__ import annotations

from copy import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from boards import PLAYERS, SIZE, board, rows_of
from helpers import random_interactions
from scipy.optimize import lsq_linear, nnls

from recsys_core.errors import StudyError
from recsys_core.evaluate import RankingTask, mean_ndcg, rate
from recsys_core.interactions import Interactions
from recsys_core.judging import judge
from recsys_core.models import Recommender
from recsys_core.models.als import ALS
from recsys_core.models.baselines import Bias, Popularity
from recsys_core.models.hybrid import SwitchingHybrid, WeightedHybrid, WeightedRankingHybrid
from recsys_core.models.linear import EASE
from recsys_core.models.neighbours import ImplicitItemKNN
from recsys_core.models.segments import DemographicPopularity
from recsys_core.protocols import make_split
from recsys_core.splits import Split

MEMBERS = {"bias": {"item_regularisation": 3.0}, "als": {"embedding_dim": 2}}


def some_rows() -> tuple[Interactions, Interactions]:
    rows, held_out = random_interactions(0, 20, 30, 300), np.arange(300) % 5 == 0
    return rows.take(~held_out), rows.take(held_out)


def chosen(hybrid: Recommender, split: Split) -> tuple[Recommender, Recommender]:
    """A copy that learnt from the training rows, validated, and an unfitted one with what validation chose."""
    validated = copy(hybrid).fit(split.train, split.validation, judge=judge)
    return validated, type(hybrid)(**hybrid.hyperparameters | validated.chosen)


def pairs(rows: Interactions) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(rows.users), torch.from_numpy(rows.items)


def test_the_weights_are_the_non_negative_least_squares_on_validation_rows() -> None:
    train, validation = some_rows()
    hybrid = WeightedHybrid(members=MEMBERS).fit(train, validation, judge=judge)
    alone: list[Recommender] = [Bias(item_regularisation=3.0).fit(train), ALS(embedding_dim=2).fit(train)]
    mean = train.ratings.mean()
    deviations = np.column_stack([model.predict(*pairs(validation)).numpy() - mean for model in alone])
    expected = lsq_linear(deviations.astype(float), (validation.ratings - mean).astype(float), (0, np.inf)).x
    np.testing.assert_allclose(hybrid.choice_, expected, atol=1e-4)
    blended = mean + deviations @ expected
    np.testing.assert_allclose(hybrid.predict(*pairs(validation)), blended.clip(0.5, 5), atol=1e-4)


def test_the_weights_are_chosen_by_stars_of_users_with_and_without_a_history() -> None:
    train, validation = some_rows()
    held_out = validation.users < 8
    history = train.take(train.users < 4)  # what is known of the held-out users: four of them are new
    hybrid = WeightedHybrid(members=MEMBERS)
    hybrid.fit(train.take(train.users >= 8), validation.take(held_out), validation_history=history, judge=judge)
    rows = hybrid.train_, validation.take(held_out), history
    stars = np.column_stack([rate(member, *rows)["predicted"] for member in hybrid.members_.values()])
    mean = float(hybrid.train_.ratings.mean())
    np.testing.assert_array_equal(hybrid.choice_, nnls(stars - mean, rows[1].ratings - mean)[0])


def test_parameters_are_counted_where_every_member_has_some() -> None:
    train, _ = some_rows()
    bias, als = Bias(item_regularisation=3.0).fit(train), ALS(embedding_dim=2).fit(train)
    assert bias.n_parameters is not None and als.n_parameters is not None
    assert WeightedHybrid(members=MEMBERS).fit(train).n_parameters == bias.n_parameters + als.n_parameters + 2
    assert WeightedRankingHybrid(members=RANKERS).fit(train).n_parameters is None


def test_without_validation_rows_all_members_count_the_same() -> None:
    train, _ = some_rows()
    hybrid = WeightedHybrid(members=MEMBERS).fit(train)
    assert hybrid.choice_.tolist() == [0.5, 0.5]


def test_stated_weights_are_kept_whatever_the_validation_rows() -> None:
    hybrid = WeightedHybrid(members=MEMBERS, weights=(0.25, 0.5)).fit(*some_rows(), judge=judge)
    assert hybrid.choice_.tolist() == [0.25, 0.5]


def test_members_learn_again_with_their_best_epoch_and_the_weights_of_validation() -> None:
    split = make_split("rating-5fold", random_interactions(0, 20, 30, 500), fold=1)
    assert isinstance(split, Split)
    hybrid = WeightedHybrid(members={"svd": {"epochs": 4, "learning_rate": 0.1}, "als": {}})
    selected, final = chosen(hybrid, split)
    assert isinstance(selected, WeightedHybrid) and isinstance(final, WeightedHybrid)
    history = selected.members_["svd"].history_
    assert history is not None
    assert final.members == {"svd": {"epochs": history.best_epoch, "learning_rate": 0.1, "patience": None}, "als": {}}
    assert final.weights == tuple(selected.choice_.tolist())
    assert hybrid.weights is None and hybrid.members["svd"]["epochs"] == 4


@pytest.mark.parametrize("member", ["user_knn", "item_autorec", "fm", "bayesian_fm", "svd_plus_plus"])
def test_a_hybrid_of_one_member_with_weight_one_is_that_member_and_survives_saving(member: str, tmp_path: Path) -> None:
    short = {"epochs": 1} if member in ("item_autorec", "fm", "svd_plus_plus") else {}
    hybrid = WeightedHybrid(members={member: short}, weights=(1.0,)).fit(board(True))
    hybrid.save(tmp_path / "hybrid")
    loaded = WeightedHybrid.load(tmp_path / "hybrid")
    torch.testing.assert_close(
        hybrid.predict(PLAYERS, PLAYERS), hybrid.members_[member].predict(PLAYERS, PLAYERS).cpu()
    )
    assert torch.equal(loaded.predict(PLAYERS, PLAYERS), hybrid.predict(PLAYERS, PLAYERS))
    assert torch.equal(loaded.score(PLAYERS), hybrid.score(PLAYERS))


RANKERS = {"ease": {"regularisation": 20.0}, "implicit_item_knn": {"n_neighbours": 3}}


def standardised(scores: torch.Tensor, seen: np.ndarray) -> np.ndarray:
    """A user's scores less the mean and in units of the deviation of those that belong to no seen item."""
    values = np.ma.masked_array(scores.numpy().astype(np.float64), seen > 0)
    return (values.data - values.mean(axis=1).data[:, None]) / values.std(axis=1).data[:, None]


def test_a_weighted_ranking_is_the_weighted_sum_of_standardised_scores() -> None:
    train, _ = some_rows()
    users, seen = torch.arange(train.n_users), train.binary.toarray()
    hybrid = WeightedRankingHybrid(members=RANKERS, weight=0.3).fit(train)
    first, second = EASE(regularisation=20.0).fit(train), ImplicitItemKNN(n_neighbours=3).fit(train)
    expected = 0.7 * standardised(first.score(users), seen) + 0.3 * standardised(second.score(users), seen)
    np.testing.assert_allclose(hybrid.score(users), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_all_the_weight_on_one_member_ranks_like_that_member(weight: float) -> None:
    train, validation = some_rows()
    task = RankingTask(train, validation, cutoffs=(5,))
    hybrid = WeightedRankingHybrid(members=RANKERS, weight=weight).fit(train)
    member = list(hybrid.members_.values())[int(weight)]
    assert mean_ndcg(hybrid, task) == pytest.approx(mean_ndcg(member, task), abs=1e-9)


def test_the_weight_of_a_ranking_is_the_best_tried_on_validation_rows_and_is_kept_afterwards() -> None:
    split = make_split("random-80-10-10", random_interactions(0, 20, 30, 500))
    assert isinstance(split, Split)
    selected, final = chosen(WeightedRankingHybrid(members=RANKERS), split)
    assert isinstance(selected, WeightedRankingHybrid) and isinstance(final, WeightedRankingHybrid)
    task = RankingTask(split.train, split.validation, cutoffs=(10,))
    for weight, value in selected.tried_.items():
        again = WeightedRankingHybrid(members=RANKERS, weight=weight).fit(split.train)
        assert mean_ndcg(again, task) == pytest.approx(value)
    assert final.weight == pytest.approx(max(selected.tried_, key=lambda weight: selected.tried_[weight]))
    assert len(selected.tried_) == 11
    assert final.fit(split.refit).choice_ == final.weight


def test_without_validation_rows_the_members_of_a_ranking_weigh_the_same() -> None:
    assert WeightedRankingHybrid(members=RANKERS).fit(some_rows()[0]).chosen["weight"] == 0.5


def test_a_switching_hybrid_asks_the_first_member_about_users_with_few_known_items_alone() -> None:
    train, _ = some_rows()
    users, few = torch.arange(train.n_users), torch.from_numpy(train.user_counts < 12)
    assert 0 < few.sum() < len(few)
    hybrid = SwitchingHybrid(members={"popularity": {}, "ease": {}}, least_known=12).fit(train)
    assert torch.equal(hybrid.score(users)[few], Popularity().fit(train).score(users)[few])
    assert torch.equal(hybrid.score(users)[~few], EASE().fit(train).score(users)[~few])


def test_the_switch_is_the_best_tried_on_validation_rows() -> None:
    generator, n_users = np.random.default_rng(0), 60
    taste = (
        np.arange(n_users) % 2
    )  # users with many rows see items of one half of the catalogue, the others what is popular
    many = np.arange(n_users) < 30
    seen = np.zeros((n_users, 40), bool)
    for user in range(n_users):
        half = np.flatnonzero(np.arange(40) % 2 == taste[user])
        seen[user, generator.choice(half, 15, False) if many[user] else generator.choice(8, 5, False)] = True
    users, items = seen.nonzero()
    held_out = generator.random(len(users)) < 0.2
    rows = rows_of(users, items, np.ones(len(users)), n_users, 40)
    hybrid = SwitchingHybrid(members={"popularity": {}, "ease": {"regularisation": 1.0}})
    hybrid.fit(rows.take(~held_out), rows.take(held_out), judge=judge)
    best = max(hybrid.tried_.values())
    assert hybrid.tried_[hybrid.chosen["least_known"]] == best
    assert hybrid.tried_[0] < best and hybrid.tried_[500] < best


def test_a_switching_hybrid_answers_new_users_by_the_first_member_and_held_out_ones_by_one_that_folds_in() -> None:
    train = board(False)
    hybrid = SwitchingHybrid(members={"demographic_popularity": {}, "ease": {}}, least_known=10).fit(train)
    assert train.user_features is not None
    nobody, nothing = torch.tensor([0]), train.take(np.arange(0))
    attributes = type(train.user_features)(train.user_features.values[[4]], train.user_features.columns)
    demographic, ease = DemographicPopularity().fit(train), EASE().fit(train)
    assert torch.equal(hybrid.score(nobody, nothing, attributes), demographic.score(nobody, nothing, attributes))
    assert not hybrid.fallback(nobody, nothing, attributes).any()
    short = rows_of(np.zeros(3, int), np.array([0, 2, 4]), np.ones(3), 1, SIZE + 1)
    assert torch.equal(hybrid.score(nobody, short, attributes), ease.score(nobody, short))
    never = SwitchingHybrid(members={"demographic_popularity": {}, "ease": {}}, least_known=0).fit(train)
    assert torch.equal(never.score(nobody, nothing, attributes), Popularity().fit(train).score(nobody, nothing))


@pytest.mark.parametrize("kind", [WeightedRankingHybrid, SwitchingHybrid])
def test_a_ranking_hybrid_can_do_what_its_members_can_do(kind: type[WeightedRankingHybrid]) -> None:
    stiff = kind(members={"ease": {}, "bpr_mf": {"epochs": 1, "embedding_dim": 2, "device": "cpu"}}).fit(board(False))
    assert stiff.own_traits.stochastic and not stiff.own_traits.folds_in
    with pytest.raises(StudyError, match="cannot use the history of a user it was not trained on"):
        stiff.score(torch.tensor([0]), board(False))
    assert kind(members={"ease": {}, "popularity": {}}).own_traits.folds_in
