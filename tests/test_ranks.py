"""From stored ranks come the same metrics as from scores, whatever rows are relevant and whichever of the others are candidates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Table, random_interactions

from pipeline.chapters.ranks import BEYOND, LARGEST_CUTOFF, RankFile, Run, clipped, counted, hits, twice_ranks
from pipeline.chapters.store import Identity
from recsys_core import evaluate, metrics
from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions
from recsys_core.protocols import make_split
from recsys_core.splits import Split

CUTOFFS = (1, 5, 10, 25, LARGEST_CUTOFF)
SPLITS = [
    ("random-80-10-10", {}),
    ("random-80-10-10", {"tenth": 4}),
    ("loo-full", {}),
    ("loo-sampled", {}),
    ("user-holdout", {"fold_in": 0.8}),
    ("strong-generalization", {}),
]


class FoldingTable(Table):
    """A table of scores that also answers for held-out users."""

    traits = replace(Table.traits, folds_in=True)


def scored(split: Split, n_levels: int, seed: int = 0) -> Table:
    """A model whose scores have so many different values, so that few of them make many ties; one in twenty is -inf."""
    rows = split.interactions
    generator = np.random.default_rng(seed)
    table = generator.integers(0, n_levels, (rows.n_users, rows.n_items)).astype(np.float32)
    table[generator.random(table.shape) < 0.05] = -np.inf
    model = FoldingTable(table=table)
    model.fit(split.refit)
    return model


def by_evaluation(model: Table, split: Split, relevant: Interactions, removed: Interactions | None) -> evaluate.Ranking:
    """What the study's evaluation measures of these relevant rows, with the removed ones as if they had been seen."""
    users = split.test.users
    task = evaluate.RankingTask(
        model.train_, relevant, split.test_history, split.negatives, CUTOFFS, False, np.unique(users)
    )
    if removed is not None:
        table = model.table.copy()
        table[removed.users, removed.items] = -np.inf
        model = FoldingTable(table=table)
        model.fit(split.refit)
    return evaluate.rank(model, task)


@pytest.mark.parametrize("n_levels", [3, 40, 100_000])
@pytest.mark.parametrize(("protocol", "options"), SPLITS, ids=lambda each: str(each))
def test_metrics_from_ranks_are_those_of_the_evaluation(
    protocol: str, options: dict[str, float], n_levels: int
) -> None:
    split = make_split(protocol, random_interactions(1, 40, 260, 4000), **options)
    model, test = scored(split, n_levels), split.test
    twice = twice_ranks(model, split)
    users, rows = np.unique(test.users, return_inverse=True)
    liked = test.ratings >= 4
    cases = [(np.ones(len(rows), bool), None), (liked, None), (liked, ~liked)]
    for relevant, removed in cases[: 1 if split.negatives is not None else 3]:
        kept = test.take(relevant)
        expected = by_evaluation(model, split, kept, None if removed is None else test.take(removed)).users
        assert np.array_equal(expected["user"], users)
        found = hits(rows, twice, relevant, removed, len(users))
        for cutoff in CUTOFFS:
            for name, metric in metrics.RANKING_METRICS.items():
                np.testing.assert_array_equal(metric(found, cutoff), expected[f"{name}@{cutoff}"], err_msg=name)


def test_only_what_no_choice_brings_among_the_first_is_left_out() -> None:
    split = make_split("random-80-10-10", random_interactions(2, 10, 400, 3000))
    twice = twice_ranks(scored(split, 100_000), split)
    users = split.test.users
    assert (twice == BEYOND).any() and twice.max() > 2 * LARGEST_CUTOFF
    for user in np.unique(users):
        mine = np.sort(twice[(users == user) & (twice != BEYOND)])
        assert (mine / 2 - np.arange(len(mine)) <= LARGEST_CUTOFF).all()


def test_rows_are_counted_before_and_beside_each_row_of_a_user() -> None:
    users, ranks_, marked = np.array([1, 0, 1, 1, 0]), np.array([4, 4, 2, 4, 9]), np.array([1, 1, 1, 0, 0], bool)
    before, tied = counted(users, ranks_, marked)
    assert before.tolist() == [1, 0, 0, 1, 1]
    assert tied.tolist() == [1, 1, 1, 1, 0]
    assert [each.tolist() for each in counted(users[:0], ranks_[:0], marked[:0])] == [[], []]


def test_a_row_behind_the_largest_cutoff_is_kept_where_its_users_other_rows_stand_before_it() -> None:
    users, twice = np.array([0, 0, 1]), np.array([2, 2 * LARGEST_CUTOFF + 2, 2 * LARGEST_CUTOFF + 2])
    assert clipped(users, twice).tolist() == [2, 2 * LARGEST_CUTOFF + 2, BEYOND]


def test_a_score_that_is_no_number_is_refused() -> None:
    split = make_split("random-80-10-10", random_interactions(1, 20, 60, 600))
    model = scored(split, 9)
    model.scores_ = torch.full_like(model.scores_, torch.nan)
    with pytest.raises(StudyError, match="is NaN"):
        twice_ranks(model, split)


def identity(**changes: object) -> Identity:
    values = {"data": "d", "split": "s", "protocol": "loo-full", "variant": "", "model": "EASE"}
    return Identity(**values | {"settings": {"a": [1]}, "device": "cpu"} | changes)  # type: ignore[arg-type]


def test_ranks_come_back_as_they_were_stored_and_the_same_again_changes_no_byte(tmp_path: Path) -> None:
    file = RankFile(tmp_path, "ease", identity())
    runs = {("s", 0): [2, 0, 301], ("s", 1): [5, 7, 2], ("t", 0): [0]}
    for (split, seed), twice in reversed(runs.items()):
        file.add(identity(split=split), Run(seed, np.array(twice, np.int32), {"epochs": seed}))
    found, before = file.runs(), file.path.read_bytes()
    assert {key: run.twice.tolist() for key, run in found.items()} == runs
    assert found["s", 1].chosen == {"epochs": 1}
    file.add(identity(), found["s", 0])
    assert file.path.read_bytes() == before


def test_another_choice_of_settings_has_no_ranks_and_takes_the_place_of_the_old_ones(tmp_path: Path) -> None:
    run = Run(0, np.array([2], np.int32), {})
    RankFile(tmp_path, "ease", identity()).add(identity(), run)
    other = RankFile(tmp_path, "ease", identity(settings={"a": [2]}))
    assert other.runs() == {}
    other.add(identity(settings={"a": [2]}), run)
    assert len(other.runs()) == 1 and RankFile(tmp_path, "ease", identity()).runs() == {}
    assert RankFile(tmp_path, "ease", identity(data="e")).runs() == {}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = RankFile(tmp_path, "ease", identity())
    file.path.parent.mkdir(parents=True)
    file.path.write_bytes(b"no parquet")
    with pytest.raises(StudyError, match=r"ease\.parquet is damaged"):
        file.runs()
