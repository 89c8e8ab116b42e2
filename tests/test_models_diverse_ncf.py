"""The regularised MLP adds the similarity of lists to some batches, and makes lists more diverse."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from boards import PLAYERS, board, build

from recsys_core import metrics
from recsys_core.losses import binary_cross_entropy, similarity_within_lists
from recsys_core.models.diverse_ncf import DiverseNCF
from recsys_core.models.ncf import NCF


def test_without_weight_the_regulariser_changes_nothing() -> None:
    plain, free = build("ncf", epochs=2), build("diverse_ncf", epochs=2, diversity=0.0)
    theirs, ours = plain.fit(board(False)).score(PLAYERS), free.fit(board(False)).score(PLAYERS)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_one_batch_in_eight_has_the_weighted_similarity_of_lists_of_its_own_films_in_its_loss() -> None:
    model, train = DiverseNCF(diversity=0.2, batch_size=500, device="cpu"), board(False)
    module: Any = model._build(train)
    batches = list(model._batches(train, torch.device("cpu")).epoch(torch.Generator().manual_seed(0)))
    plain = list(NCF(batch_size=500)._batches(train, torch.device("cpu")).epoch(torch.Generator().manual_seed(0)))
    assert all(torch.equal(ours, theirs) for pair in zip(batches, plain) for ours, theirs in zip(*pair))
    assert [number for number, batch in enumerate(batches) if len(batch) > 2] == list(range(0, len(batches), 8))
    assert train.item_features is not None
    flags = torch.as_tensor(train.item_features.select("genre_"))
    genres = flags / flags.norm(dim=1, keepdim=True).clamp_min(1e-9)
    for number, batch in enumerate(batches):
        (users, items), expected = batch[:2], binary_cross_entropy(module(*batch[:2]))
        pool, n_lists = items[0, :64], max(1, items.numel() // 256)
        if number % 8 == 0:
            lists = torch.stack([module(users[[row]], pool[:, None])[:, 0] for row in range(n_lists)], dim=1)
            expected = expected + 8 * 0.2 * similarity_within_lists(lists, genres[pool], pool)
        torch.testing.assert_close(model._loss(module, *batch), expected, rtol=1e-5, atol=1e-5)


def test_the_regulariser_makes_lists_more_diverse() -> None:
    train = board(False)
    assert train.item_features is not None
    lists = [
        build("diverse_ncf", diversity=weight).fit(train).score(PLAYERS).topk(10).indices.numpy()
        for weight in (0.0, 0.05)
    ]
    plain, diverse = (metrics.diversity(each, train.item_features.select("genre_")).mean() for each in lists)
    assert diverse > plain + 0.02


def test_without_genres_nothing_is_regularised() -> None:
    train = replace(board(False), item_features=None)
    scores = [build("diverse_ncf", epochs=2, diversity=weight).fit(train).score(PLAYERS) for weight in (0.0, 0.5)]
    assert torch.equal(*scores)
