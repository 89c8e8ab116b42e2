"""A weighted hybrid finds the weights of least squares on validation rows and keeps them when its members learn again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from boards import PLAYERS, board
from helpers import random_interactions
from scipy.optimize import lsq_linear

from recsys_core.interactions import Interactions
from recsys_core.models import ALS, Bias, Recommender, WeightedHybrid
from recsys_core.protocols import select_epochs
from recsys_core.splits import Split, make_split

MEMBERS = {"bias": {"item_regularisation": 3.0}, "als": {"embedding_dim": 2}}


def some_rows() -> tuple[Interactions, Interactions]:
    rows, held_out = random_interactions(0, 20, 30, 300), np.arange(300) % 5 == 0
    return rows.take(~held_out), rows.take(held_out)


def pairs(rows: Interactions) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(rows.users), torch.from_numpy(rows.items)


def test_the_weights_are_the_non_negative_least_squares_on_validation_rows() -> None:
    train, validation = some_rows()
    hybrid = WeightedHybrid(members=MEMBERS).fit(train, validation)
    alone: list[Recommender] = [Bias(item_regularisation=3.0).fit(train), ALS(embedding_dim=2).fit(train)]
    mean = train.ratings.mean()
    deviations = np.column_stack([model.predict(*pairs(validation)).numpy() - mean for model in alone])
    expected = lsq_linear(deviations.astype(float), (validation.ratings - mean).astype(float), (0, np.inf)).x
    np.testing.assert_allclose(hybrid.weights_, expected, atol=1e-4)
    blended = mean + deviations @ expected
    np.testing.assert_allclose(hybrid.predict(*pairs(validation)), blended.clip(0.5, 5), atol=1e-4)


def test_without_validation_rows_all_members_count_the_same() -> None:
    train, _ = some_rows()
    hybrid = WeightedHybrid(members=MEMBERS).fit(train)
    assert hybrid.weights_.tolist() == [0.5, 0.5]


def test_stated_weights_are_kept_whatever_the_validation_rows() -> None:
    hybrid = WeightedHybrid(members=MEMBERS, weights=(0.25, 0.5)).fit(*some_rows())
    assert hybrid.weights_.tolist() == [0.25, 0.5]


def test_members_learn_again_with_their_best_epoch_and_the_weights_of_validation() -> None:
    split = make_split("rating-5fold", random_interactions(0, 20, 30, 500), fold=1)
    assert isinstance(split, Split)
    hybrid = WeightedHybrid(members={"svd": {"epochs": 4, "learning_rate": 0.1}, "als": {}})
    selected, final = select_epochs(hybrid, split)
    assert isinstance(selected, WeightedHybrid) and isinstance(final, WeightedHybrid)
    history = selected.members_["svd"].history_
    assert history is not None
    assert final.members == {"svd": {"epochs": history.best_epoch, "learning_rate": 0.1, "patience": None}, "als": {}}
    assert final.weights == tuple(selected.weights_.tolist())
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
