"""Windows hold the last items in the order of time, and the softmax in chunks is the plain one, forwards and backwards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from boards import build, rows_of
from torch.nn.functional import cross_entropy

from recsys_core import budget
from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions
from recsys_core.models import MODELS, sequences
from recsys_core.models.base import FitTask
from recsys_core.models.sequences import (
    SequenceRecommender,
    Windows,
    WindowsAndNegatives,
    alike_in_length,
    full_softmax,
    last_items,
    transitions,
)

SEQUENTIAL = [name for name, kind in MODELS.items() if kind.traits.sequential]
WINDOWED = [name for name in SEQUENTIAL if issubclass(MODELS[name], SequenceRecommender)]
N_ITEMS = 30


def histories(*items: list[int]) -> Interactions:
    """Rows of users 0, 1, … in the order of time."""
    users = np.repeat(np.arange(len(items)), [len(mine) for mine in items])
    codes = np.array([item for mine in items for item in mine])
    return rows_of(users, codes, np.ones(len(codes)), len(items), N_ITEMS)


def random_histories() -> Interactions:
    """40 users with 1 to 20 items each."""
    generator = np.random.default_rng(0)
    return histories(*(generator.permutation(N_ITEMS)[: 1 + user % 20].tolist() for user in range(40)))


def test_a_window_holds_the_last_items_and_is_filled_up_behind() -> None:
    rows = histories([1, 2, 3, 4], [], [7], [8, 9])
    assert last_items(rows, np.array([3, 0, 2, 1]), 3).tolist() == [[8, 9, 30], [2, 3, 4], [7, 30, 30], [30, 30, 30]]
    assert last_items(rows, np.array([2, 3]), 3).tolist() == [[7, 30], [8, 9]]


def test_rows_out_of_order_are_put_in_the_order_of_time_and_ties_keep_that_of_the_rows() -> None:
    rows = replace(histories([1, 2, 3, 4]), times=np.array([50, 20, 20, 10]))
    assert last_items(rows, np.array([0]), 9).tolist() == [[4, 2, 3, 1]]


def test_a_batch_holds_what_follows_every_item_of_a_window() -> None:
    batches = Windows(histories([1, 2, 3, 4, 5], [6], [7, 8]), 3, 10, torch.device("cpu"))
    ((items, following),) = batches.epoch(torch.Generator().manual_seed(0))
    order = np.argsort(items[:, 0].numpy())
    assert items[order].tolist() == [[2, 3, 4], [7, 30, 30]]
    assert following[order].tolist() == [[3, 4, 5], [8, 30, 30]]


def test_an_epoch_has_every_user_with_two_rows_once() -> None:
    batches = Windows(random_histories(), 5, 7, torch.device("cpu"))
    found = [items for items, _ in batches.epoch(torch.Generator().manual_seed(0))]
    assert [len(items) for items in found] == [7, 7, 7, 7, 7, 3]


def test_drawn_items_stand_beside_those_that_follow_and_are_all_that_the_user_has_not_seen_in_any_window() -> None:
    rows = replace(random_histories(), times=np.random.default_rng(2).permutation(len(random_histories())))
    batches, generator = WindowsAndNegatives(rows, 5, 40, torch.device("cpu")), torch.Generator().manual_seed(0)
    users, found = np.arange(1, 20), []
    for _ in range(60):
        next(batches.epoch(generator))
        items, following, drawn = batches.batch(users)
        assert all(torch.equal(*pair) for pair in zip((items, following), Windows.batch(batches, users)))
        assert torch.equal(drawn == N_ITEMS, following == N_ITEMS)
        found.append(drawn)
    drawn = torch.stack(found, dim=2)  # (B, T, epochs)
    for user, mine in zip(users, drawn):
        unseen = set(range(N_ITEMS)) - set(rows.items[rows.users == user].tolist())
        assert set(mine.unique().tolist()) - {N_ITEMS} <= unseen
        assert len(unseen) > 15 or set(mine.unique().tolist()) - {N_ITEMS} == unseen
    assert len({each.numpy().tobytes() for each in found}) == 60


def test_parts_of_a_batch_hold_users_of_like_length_and_nothing_that_is_filled_up_for_all_of_them() -> None:
    batches = Windows(random_histories(), 30, 40, torch.device("cpu"))
    ((items, following),) = batches.epoch(torch.Generator().manual_seed(0))
    parts = list(alike_in_length(items, following, N_ITEMS))
    longest = [int((part < N_ITEMS).sum(dim=1).max()) for part, _ in parts]
    assert longest == sorted(longest) == [part.shape[1] for part, _ in parts]
    assert len(parts) == 5 and len(set(longest)) > 1
    found = [[row[row < N_ITEMS].tolist() for part in parts for row in part[side]] for side in (0, 1)]
    rows = [[row[row < N_ITEMS].tolist() for row in side] for side in (items, following)]
    assert sorted(zip(*found)) == sorted(zip(*rows))


@pytest.mark.parametrize("name", WINDOWED)
def test_the_loss_of_a_batch_and_its_gradients_do_not_hang_on_the_parts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: Any = build(name, dropout=0.0, window=30, epochs=1).fit(random_histories())
    (batch,) = Windows(random_histories(), 30, 40, torch.device("cpu")).epoch(torch.Generator().manual_seed(0))
    found = []
    for size in (3, 8, 40):
        monkeypatch.setattr(sequences, "USERS_AT_ONCE", size)
        model.module_.zero_grad()
        loss = model._loss(model.module_, *batch)
        loss.backward()
        found.append([loss.detach(), *(parameter.grad.clone() for parameter in model.module_.parameters())])
    for other in found[:2]:
        torch.testing.assert_close(other, found[2])


def test_transitions_are_neighbours_within_a_history() -> None:
    users, before, after = transitions(replace(histories([1, 2, 3], [4], [5, 6]), times=np.array([1, 2, 3, 0, 9, 8])))
    assert [users.tolist(), before.tolist(), after.tolist()] == [[0, 0, 2], [1, 2, 6], [2, 3, 5]]


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_histories_of_one_item_teach_nothing_and_are_refused(name: str) -> None:
    with pytest.raises(StudyError, match="No user has two rows"):
        build(name).fit(histories([1], [2]))


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_a_history_of_one_item_is_answered(name: str) -> None:
    rows = histories([1, 2, 3], [4, 5], [6])
    model = build(name).fit(rows)
    assert model.score(torch.tensor([2])).isfinite().all()
    assert not model.fallback(torch.tensor([2])).any()


@pytest.mark.parametrize("name", [name for name in SEQUENTIAL if MODELS[name].traits.folds_in])
def test_items_after_training_are_read_the_latest_last_and_those_that_nobody_had_are_answered(name: str) -> None:
    model = build(name).fit(histories([1, 2, 3, 4], [2, 1, 4, 3], [1, 3, 2, 4]))
    user, longer = torch.tensor([0]), histories([1, 2, 3, 4, 2])
    assert not torch.equal(model.score(user, longer), model.score(user))
    assert model.score(user, histories([1, 2, N_ITEMS - 1])).isfinite().all()


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_the_order_of_the_rows_is_nothing_where_times_differ(name: str) -> None:
    rows, changes = random_histories(), {"epochs": 2} if hasattr(MODELS[name], "epochs") else {}
    mixed = rows.take(np.random.default_rng(1).permutation(len(rows)))
    scores = [build(name, **changes).fit(each).score(torch.arange(40)) for each in (rows, mixed)]
    assert torch.equal(*scores)


@pytest.mark.parametrize("name", SEQUENTIAL)
def test_another_order_of_the_histories_gives_another_model(name: str) -> None:
    rows = random_histories()
    model, turned = (build(name).fit(each) for each in (rows, replace(rows, times=-rows.times)))
    assert not torch.equal(model.score(torch.arange(40)), turned.score(torch.arange(40)))


@pytest.mark.parametrize("name", WINDOWED)
def test_a_history_longer_than_the_window_counts_by_its_last_items(name: str) -> None:
    model = build(name, window=4, epochs=1).fit(random_histories())
    long, short = histories([9, 8, 7, 1, 2, 3, 4]), histories([1, 2, 3, 4])
    assert torch.equal(model.score(torch.tensor([0]), long), model.score(torch.tensor([0]), short))


@pytest.mark.parametrize("name", WINDOWED)
def test_what_fills_up_a_window_changes_nothing(name: str) -> None:
    model: Any = build(name, epochs=1).fit(random_histories())
    items = torch.tensor([[3, 5, 1, N_ITEMS, N_ITEMS]])
    torch.testing.assert_close(model.module_(items)[:, :3], model.module_(items[:, :3]))
    torch.testing.assert_close(model.module_.score_next(items), model.module_.score_next(items[:, :3]))


def test_a_checkpoint_of_other_times_is_another_run() -> None:
    seen = []
    for rows in (random_histories(), replace(random_histories(), times=-random_histories().times)):
        model: Any = build("sasrec", epochs=1)
        seen.append(model._identity(FitTask(rows, None, 0, None, None)))
    assert seen[0] != seen[1]


@pytest.mark.parametrize("cells", [1, 100, 10**9])
def test_the_softmax_in_chunks_equals_plain_cross_entropy(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "CACHED_CELLS", cells)
    generator = torch.Generator().manual_seed(0)
    vectors, weight = (torch.randn(n, 8, generator=generator, dtype=torch.float64) for n in (23, 11))
    targets = torch.randint(11, (23,), generator=generator)
    for scale in (1.0, 300.0):  # logits of thousands: nothing overflows
        ours, plain = ([(scale * x).requires_grad_() for x in (vectors, weight)] for _ in range(2))
        found, expected = full_softmax(*ours, targets), cross_entropy(plain[0] @ plain[1].T, targets)
        (3 * found).backward()
        (3 * expected).backward()
        torch.testing.assert_close(found, expected)
        for mine, theirs in zip(ours, plain):
            torch.testing.assert_close(mine.grad, theirs.grad)


def test_the_softmax_of_no_rows_is_0_and_moves_nothing() -> None:
    vectors, weight = torch.zeros(0, 8, requires_grad=True), torch.randn(11, 8).requires_grad_()
    loss = full_softmax(vectors, weight, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert float(loss.detach()) == 0
    assert weight.grad is not None and not weight.grad.any()
