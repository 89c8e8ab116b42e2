"""Batches and negatives: never a training positive, uniform over the rest, nothing of size users × items."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from boards import rows_of
from scipy import stats

from recsys_core import sampling
from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions
from recsys_core.sampling import PositivesAndNegatives, Rows

CPU = torch.device("cpu")
N_ITEMS = 12
SEEN = {0: [0, 1, 2], 1: [3, 7, 11], 2: [item for item in range(N_ITEMS) if item != 5], 3: [], 4: [10, 11, 10]}


def train_rows(seen: dict[int, list[int]] = SEEN) -> Interactions:
    pairs = np.array([(user, item) for user, items in seen.items() for item in items])
    shuffled = np.random.default_rng(0).permutation(pairs)
    return rows_of(shuffled[:, 0], shuffled[:, 1], np.ones(len(pairs)), len(seen), N_ITEMS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn_by_user(train: Interactions, n_negatives: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(N,) users and their (N, n) negatives."""
    source = PositivesAndNegatives(train, 100, n_negatives, CPU)
    return source.users.numpy(), source.draw(generator(seed)).numpy()


@pytest.mark.parametrize("user", [user for user in SEEN if SEEN[user]])
@pytest.mark.parametrize("cells", [1, 30, 10**6])
def test_negatives_are_uniform_over_what_the_user_has_not_seen(
    user: int, cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "BLOCK_CELLS", (cells, cells))
    users, drawn = drawn_by_user(train_rows(), 8_000)
    counts = np.bincount(drawn[users == user].ravel(), minlength=N_ITEMS)
    assert len(counts) == N_ITEMS
    assert counts[SEEN[user]].sum() == 0
    unseen = np.delete(counts, SEEN[user])
    assert len(unseen) == 1 or stats.chisquare(unseen).pvalue > 1e-3


def test_no_negative_of_any_user_is_a_training_row() -> None:
    random = np.random.default_rng(1)
    train = rows_of(random.integers(0, 60, 900), random.integers(0, 40, 900), np.ones(900), 60, 40)
    users, drawn = drawn_by_user(train, 60)
    assert drawn.shape == (900, 60)
    assert drawn.min() >= 0
    assert drawn.max() < 40
    keys = users[:, None] * 40 + drawn
    assert not np.isin(keys, train.pair_keys).any()
    assert len(np.unique(keys)) + len(np.unique(train.pair_keys)) == 60 * 40


def test_draws_follow_the_generator() -> None:
    first, same, other = (drawn_by_user(train_rows(), 9, seed)[1] for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_a_user_who_has_seen_everything_is_left_out() -> None:
    everything = list(range(N_ITEMS))
    batches = PositivesAndNegatives(train_rows({0: [1], 1: everything, 2: [3, 4]}), 10, 4, CPU)
    assert batches.left_out.nonzero()[0].tolist() == [1]
    drawn = [batch for batch in batches.epoch(torch.Generator().manual_seed(0))]
    assert torch.cat([users for users, _ in drawn]).sort().values.tolist() == [0, 2, 2]
    for users, items in drawn:
        for user, (positive, *negatives) in zip(users.tolist(), items.T.tolist()):
            assert positive in {0: [1], 2: [3, 4]}[user] and not {0: {1}, 2: {3, 4}}[user] & {*negatives}
    with pytest.raises(StudyError, match="All users have seen all 12 items"):
        PositivesAndNegatives(train_rows({0: everything}), 10, 4, CPU)


def test_memory_grows_with_the_rows_and_not_with_users_times_items() -> None:
    random = np.random.default_rng(2)
    n_rows, n_users, n_items = 1_000, 2_000, 1_000_000  # a table would have 2 * 10^9 cells
    train = rows_of(
        random.integers(0, n_users, n_rows), random.integers(0, n_items, n_rows), np.ones(n_rows), n_users, n_items
    )
    source = PositivesAndNegatives(train, 100, 3, CPU)
    held = sum(value.numel() for value in vars(source).values() if isinstance(value, torch.Tensor))
    assert held <= sampling.BLOCK_CELLS[0] + 2 * n_rows
    keys = source.users[:, None] * n_items + source.draw(generator())
    assert not np.isin(keys.numpy(), train.pair_keys).any()


def test_an_epoch_has_every_positive_once_each_followed_by_its_negatives() -> None:
    train = train_rows()
    batches = list(PositivesAndNegatives(train, 20, 4, CPU).epoch(generator()))
    users, items = torch.cat([batch[0] for batch in batches]), torch.cat([batch[1] for batch in batches], dim=1)
    assert {len(batch[0]) for batch in batches[:-1]} == {4}  # 4 positives with 4 negatives: 20 samples
    assert items.shape == (5, len(train))
    keys = users * N_ITEMS + items
    assert sorted(keys[0].tolist()) == train.pair_keys.tolist()
    assert not np.isin(keys[1:].numpy(), train.pair_keys).any()


def test_every_epoch_has_another_order_and_other_negatives() -> None:
    source, shared = PositivesAndNegatives(train_rows(), 1_000, 4, CPU), generator()
    (first,), (second,) = (list(source.epoch(shared)) for _ in range(2))
    assert not torch.equal(first[0], second[0]) or not torch.equal(first[1][0], second[1][0])
    ordered = [items[:, torch.argsort(users * N_ITEMS + items[0], stable=True)] for users, items in (first, second)]
    assert torch.equal(ordered[0][0], ordered[1][0])
    assert not torch.equal(ordered[0][1:], ordered[1][1:])


def test_rows_come_once_in_random_order_with_their_columns_together() -> None:
    source, shared = Rows(4, torch.arange(10), torch.arange(10) * 2), generator()
    epochs = [list(source.epoch(shared)) for _ in range(2)]
    assert [len(batch[0]) for batch in epochs[0]] == [4, 4, 2]
    orders = [torch.cat([batch[0] for batch in epoch]) for epoch in epochs]
    assert not torch.equal(*orders)
    for epoch, order in zip(epochs, orders):
        assert sorted(order.tolist()) == list(range(10))
        assert torch.equal(torch.cat([batch[1] for batch in epoch]), 2 * order)


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "sizes"), [(9, 4, [4, 5]), (1, 4, [1]), (3, 1, [1, 1, 1]), (8, 4, [4, 4])]
)
def test_a_single_row_left_over_joins_the_last_batch(n_rows: int, batch_size: int, sizes: list[int]) -> None:
    assert [len(batch[0]) for batch in Rows(batch_size, torch.arange(n_rows)).epoch(generator())] == sizes
