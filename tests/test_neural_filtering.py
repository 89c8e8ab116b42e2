"""S4's listing of its regulariser, trade-offs by a setting, and the naive scoring that is timed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from boards import PLAYERS, board, fitted

from pipeline.bench.timings import naive_scores
from pipeline.chapters.neural_filtering import listing_penalties, listing_penalty, trade_off
from recsys_core.models.neumf import Fusion


def test_the_listing_correlates_genres_and_its_text_films() -> None:
    genres = np.random.default_rng(1).integers(0, 2, (30, 4)).astype(float)
    scores = np.random.default_rng(2).normal(size=30)
    top = genres[np.argsort(-scores)[:10]]
    listing, films = listing_penalty(scores, genres, 0.5)
    assert listing == pytest.approx(0.5 * np.nansum(np.corrcoef(top.T)))
    with np.errstate(invalid="ignore"):
        assert films == pytest.approx(0.5 * np.nansum(np.corrcoef(top)))


def test_the_listing_s_penalty_is_the_same_for_scores_that_differ_a_little() -> None:
    genres = np.random.default_rng(1).integers(0, 2, (30, 4)).astype(float)
    scores = np.random.default_rng(2).normal(size=30)
    moved = scores + 1e-6 * np.random.default_rng(3).normal(size=30)
    assert listing_penalty(scores, genres) == listing_penalty(moved, genres)


def test_the_ten_films_of_a_batch_are_those_with_its_highest_scores() -> None:
    model, train = fitted("ncf"), board(False)
    table = listing_penalties(model, train, 2, batch_size=500)
    assert list(table) == ["listing", "films", "users"]
    assert len(table) == 2
    assert table["users"].between(1, 10).all()


def test_a_trade_off_has_a_line_for_each_setting_in_order() -> None:
    results = pd.DataFrame(
        [
            {"protocol": protocol, "metric": metric, "model": model, "value": value + seed}
            for protocol, metric in (("p", "x"), ("q", "y"))
            for model, value in (("two", 2.0), ("one", 1.0))
            for seed in (0, 1)
        ]
    )
    table = trade_off(results, {0.1: "one", 0.2: "two"}, ("p", "x"), ("q", "y"))
    assert table.index.tolist() == [0.1, 0.2]
    assert table["x"].tolist() == table["y"].tolist() == [1.5, 2.5]
    assert table["y sd"].tolist() == pytest.approx([0.5**0.5] * 2)


def test_the_naive_scoring_that_is_timed_gives_the_same_scores() -> None:
    module = fitted("neumf").module_  # type: ignore[attr-defined]
    assert isinstance(module, Fusion)
    with torch.no_grad():
        torch.testing.assert_close(naive_scores(module, PLAYERS, 7), module.score_all(PLAYERS), rtol=1e-5, atol=1e-5)
