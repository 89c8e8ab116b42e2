"""Batches and negatives: never a training positive, uniform over the rest, nothing of size users × items."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from boards import rows_of
from scipy import stats

from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions
from recsys_core.sampling import NegativeSampler, PositivesAndNegatives, Rows

CPU = torch.device("cpu")
N_ITEMS = 12
SEEN = {0: [0, 1, 2], 1: [3, 7, 11], 2: [item for item in range(N_ITEMS) if item != 5], 3: [], 4: [10, 11, 10]}


def train_rows(seen: dict[int, list[int]] = SEEN) -> Interactions:
    pairs = np.array([(user, item) for user, items in seen.items() for item in items])
    shuffled = np.random.default_rng(0).permutation(pairs)
    return rows_of(shuffled[:, 0], shuffled[:, 1], np.ones(len(pairs)), len(seen), N_ITEMS)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("user", SEEN)
def test_negatives_are_uniform_over_what_the_user_has_not_seen(user: int) -> None:
    drawn = NegativeSampler(train_rows(), CPU).draw(torch.tensor([user]), 20_000, generator())
    counts = np.bincount(drawn[0].numpy(), minlength=N_ITEMS)
    assert len(counts) == N_ITEMS
    assert counts[SEEN[user]].sum() == 0
    unseen = np.delete(counts, SEEN[user])
    assert len(unseen) == 1 or stats.chisquare(unseen).pvalue > 1e-3


def test_no_negative_of_any_user_is_a_training_row() -> None:
    random = np.random.default_rng(1)
    train = rows_of(random.integers(0, 60, 900), random.integers(0, 40, 900), np.ones(900), 60, 40)
    drawn = NegativeSampler(train, CPU).draw(torch.arange(60), 500, generator())
    assert drawn.shape == (60, 500)
    assert drawn.min() >= 0
    assert drawn.max() < 40
    keys = (torch.arange(60)[:, None] * 40 + drawn).numpy()
    assert not np.isin(keys, train.pair_keys).any()
    assert len(np.unique(keys)) + len(np.unique(train.pair_keys)) == 60 * 40


def test_draws_follow_the_generator() -> None:
    sampler, users = NegativeSampler(train_rows(), CPU), torch.tensor([0, 1, 3])
    first, same, other = (sampler.draw(users, 9, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_user_who_has_seen_everything_is_refused_and_named() -> None:
    train = train_rows({0: [1], 1: list(range(N_ITEMS))})
    with pytest.raises(StudyError, match="User code 1 has seen all 12 items"):
        NegativeSampler(train, CPU).draw(torch.tensor([0, 1]), 1, generator())


def test_memory_grows_with_the_rows_and_not_with_users_times_items() -> None:
    random = np.random.default_rng(2)
    n_rows, n_users, n_items = 1_000, 100_000, 1_000_000  # a table would have 10^11 cells
    train = rows_of(
        random.integers(0, n_users, n_rows), random.integers(0, n_items, n_rows), np.ones(n_rows), n_users, n_items
    )
    sampler = NegativeSampler(train, CPU)
    held = sum(value.numel() for value in vars(sampler).values() if isinstance(value, torch.Tensor))
    assert held <= n_rows + 2 * n_users
    drawn = sampler.draw(torch.as_tensor(train.users), 3, generator())
    assert not np.isin((torch.as_tensor(train.users)[:, None] * n_items + drawn).numpy(), train.pair_keys).any()


def test_an_epoch_has_every_positive_once_each_followed_by_its_negatives() -> None:
    train = train_rows()
    batches = list(PositivesAndNegatives(train, 20, 4, CPU).epoch(generator()))
    users, items = (torch.cat(column) for column in zip(*batches))
    assert [len(batch[0]) for batch in batches[:-1]] == [4] * (
        len(batches) - 1
    )  # 4 positives with 4 negatives: 20 samples
    assert items.shape == (len(train), 5)
    keys = users[:, None] * N_ITEMS + items
    assert sorted(keys[:, 0].tolist()) == train.pair_keys.tolist()
    assert not np.isin(keys[:, 1:].numpy(), train.pair_keys).any()


def test_every_epoch_has_another_order_and_other_negatives() -> None:
    source, shared = PositivesAndNegatives(train_rows(), 1_000, 4, CPU), generator()
    (first,), (second,) = (list(source.epoch(shared)) for _ in range(2))
    assert not torch.equal(first[0], second[0]) or not torch.equal(first[1][:, 0], second[1][:, 0])
    ordered = [items[torch.argsort(users * N_ITEMS + items[:, 0], stable=True)] for users, items in (first, second)]
    assert torch.equal(ordered[0][:, 0], ordered[1][:, 0])
    assert not torch.equal(ordered[0][:, 1:], ordered[1][:, 1:])


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
