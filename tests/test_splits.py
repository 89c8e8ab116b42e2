"""Every protocol's defining property, checked on random data and on ML-100K, and the fingerprints of the splits."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import make_interactions, random_interactions
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from recsys_core.app.recommend import recommend
from recsys_core.datasets import Benchmark, MovieLens
from recsys_core.errors import StudyError
from recsys_core.evaluate import RankingTask, rank
from recsys_core.features import clean_as_s2, encode
from recsys_core.interactions import Interactions
from recsys_core.judging import judge, measure
from recsys_core.models.baselines import Bias, Popularity
from recsys_core.models.svd import SVD
from recsys_core.protocols import PROTOCOLS, make_split
from recsys_core.splits import (
    Role,
    Split,
    as_reported,
    loo_full,
    loo_sampled,
    positions,
    random_80_10_10,
    rating_5fold,
    sample_unseen,
    strong_generalization,
    temporal,
    thinned,
    user_holdout,
)

few = settings(max_examples=25, deadline=None)
SINGLE_ROLE = [name for name, protocol in PROTOCOLS.items() if not protocol.leaks]
WITHOUT_SEED = ("loo-full", "temporal")


@st.composite
def data(draw: Any) -> Interactions:
    """Users with few and with many rows, tied times, half stars; always enough unseen items for 99 negatives."""
    n_users, n_rows = draw(st.integers(10, 40)), draw(st.integers(150, 500))
    return random_interactions(draw(st.integers(0, 10_000)), n_users, 260, n_rows, draw(st.sampled_from([1, 5, 1000])))


def options(protocol: str, seed: int) -> dict[str, int]:
    return {} if protocol in WITHOUT_SEED else {"seed": seed}


def split_or_none(protocol: str, rows: Interactions, seed: int) -> Split | None:
    """Random data may have too few users for strong generalisation."""
    try:
        return make_split(protocol, rows, **options(protocol, seed))
    except StudyError:
        assert protocol == "strong-generalization"
        return None


def has(split: Split, role: Role) -> np.ndarray:
    return (split.roles & role) > 0


def rows_of(split: Split, role: Role, user: int) -> list[int]:
    return np.flatnonzero(has(split, role) & (split.interactions.users == user)).tolist()


def by_time(rows: Interactions, user: int) -> list[int]:
    """The user's rows, earliest first; Python's sort keeps the order of ties."""
    return sorted(np.flatnonzero(rows.users == user).tolist(), key=lambda row: rows.times[row])


@pytest.mark.parametrize("protocol", SINGLE_ROLE)
@given(rows=data(), seed=st.integers(0, 100))
@few
def test_no_row_has_two_roles_and_no_test_pair_is_fitted_on(protocol: str, rows: Interactions, seed: int) -> None:
    split = split_or_none(protocol, rows, seed)
    if split is None:
        return
    assert set(np.unique(split.roles)) <= {0, *(int(role) for role in Role)}
    assert len(split.roles) == len(rows)
    if protocol != "strong-generalization":
        assert (split.roles > 0).all()
    fitted = np.concatenate([split.train.pair_keys, split.refit.pair_keys])
    assert not np.isin(split.test.pair_keys, fitted).any()
    assert not np.isin(split.validation.pair_keys, split.train.pair_keys).any()
    assert np.isin(split.train.pair_keys, split.refit.pair_keys).all()
    assert np.isin(split.validation.pair_keys, split.refit.pair_keys).all()


@pytest.mark.parametrize("protocol", SINGLE_ROLE)
@given(rows=data())
@settings(max_examples=8, deadline=None)
def test_the_seed_decides_the_split_and_its_fingerprint(protocol: str, rows: Interactions) -> None:
    first, same, other = (split_or_none(protocol, rows, seed) for seed in (1, 1, 2))
    if first is None or same is None or other is None:
        return
    assert first.sha256 == same.sha256
    assert (first.roles == same.roles).all()
    assert (first.sha256 != other.sha256) == (protocol not in WITHOUT_SEED)


@given(rows=data())
@few
def test_leave_one_out_tests_the_latest_row_and_validates_on_the_one_before_it(rows: Interactions) -> None:
    split = loo_full(rows)
    for user in np.unique(rows.users).tolist():
        ordered = by_time(rows, user)
        n_targets = 1 if len(ordered) >= 3 else 0
        assert rows_of(split, Role.TEST, user) == ordered[-1:] * n_targets
        assert rows_of(split, Role.VALIDATION, user) == ordered[-2:-1] * n_targets


def test_ties_in_time_keep_the_order_of_the_rows() -> None:
    rows = make_interactions([(0, 3), (1, 0), (0, 1), (0, 2), (1, 1), (1, 2)], 2, 4, times=[7, 5, 7, 7, 5, 1])
    split = loo_full(rows)
    assert split.test.items.tolist() == [2, 1]
    assert split.validation.items.tolist() == [0, 1]


@given(rows=data(), seed=st.integers(0, 100))
@few
def test_80_10_10_gives_every_user_a_tenth_of_their_rows_to_test_and_to_validation(
    rows: Interactions, seed: int
) -> None:
    split = random_80_10_10(rows, seed)
    for user in np.unique(rows.users).tolist():
        count = int((rows.users == user).sum())
        tenth = 0 if count < 3 else max(1, count // 10)
        assert len(rows_of(split, Role.TEST, user)) == tenth
        assert len(rows_of(split, Role.VALIDATION, user)) == tenth


@given(rows=data(), seed=st.integers(0, 100))
@few
def test_tenths_have_disjoint_tests_and_one_validation(rows: Interactions, seed: int) -> None:
    splits = [random_80_10_10(rows, seed, tenth) for tenth in (1, 3, 4, 5, 6)]
    tested = np.array([has(split, Role.TEST) for split in splits])
    validated = np.array([has(split, Role.VALIDATION) for split in splits])
    assert (tested.sum(axis=0) <= 1).all() and (validated == validated[0]).all() and not (tested & validated).any()
    assert len({split.sha256 for split in splits}) == len(splits)
    plenty = rows.user_counts[rows.users] >= 6  # who has fewer has no sixth part
    assert (tested[:, plenty].sum(axis=1) == tested[0, plenty].sum()).all()


@pytest.mark.parametrize("tenth", [0, 2, 11])
def test_a_tenth_that_cannot_be_test_is_refused(tenth: int) -> None:
    with pytest.raises(StudyError, match=f"tenth={tenth}: test is one of the tenths 1 to 10, and 2 is validation"):
        random_80_10_10(random_interactions(0, 5, 5, 20), tenth=tenth)


def test_80_10_10_picks_every_row_equally_often() -> None:
    rows = make_interactions([(0, i) for i in range(20)], 1, 20)
    tested = sum(has(random_80_10_10(rows, seed), Role.TEST).astype(int) for seed in range(400))
    assert tested.sum() == 800
    assert chisquare(tested).pvalue > 1e-4


@given(rows=data(), seed=st.integers(0, 100))
@few
def test_the_five_folds_partition_the_rows_and_validate_on_a_tenth_of_the_rest(rows: Interactions, seed: int) -> None:
    splits = [rating_5fold(rows, fold, seed) for fold in range(1, 6)]
    tested = np.array([has(split, Role.TEST) for split in splits])
    assert (tested.sum(axis=0) == 1).all()
    assert np.ptp(tested.sum(axis=1)) <= 1
    assert [len(s.validation) for s in splits] == [(len(rows) - int(n)) // 10 for n in tested.sum(axis=1)]


@pytest.mark.parametrize("fold", [0, 6])
def test_a_fold_that_does_not_exist_is_refused(fold: int) -> None:
    with pytest.raises(StudyError, match=f"fold={fold}: rating-5fold has folds 1 to 5"):
        rating_5fold(random_interactions(0, 5, 5, 20), fold)


@given(rows=data(), seed=st.integers(0, 100), fold_in=st.sampled_from([0.0, 0.5, 0.8]))
@few
def test_held_out_users_have_no_training_row_and_a_history_before_their_targets(
    rows: Interactions, seed: int, fold_in: float
) -> None:
    split = user_holdout(rows, fold_in, seed)
    groups = []
    for target, history in ((Role.TEST, Role.TEST_HISTORY), (Role.VALIDATION, Role.VALIDATION_HISTORY)):
        users = np.unique(rows.users[has(split, target) | has(split, history)]).tolist()
        groups.append(set(users))
        for user in users:
            ordered = by_time(rows, user)
            n_known = int(fold_in * len(ordered))
            assert rows_of(split, Role.TRAIN, user) == []
            assert rows_of(split, history, user) == sorted(ordered[:n_known])
            assert rows_of(split, target, user) == sorted(ordered[n_known:])
    assert not groups[0] & groups[1]
    with_rows = set(rows.users.tolist())
    assert len(groups[0]) <= rows.n_users // 5 <= len(groups[0]) + rows.n_users - len(with_rows)
    assert len(groups[1]) <= rows.n_users // 10 <= len(groups[1]) + rows.n_users - len(with_rows)


@pytest.mark.parametrize("fold_in", [-0.1, 1.0, float("nan")])
def test_a_known_share_outside_0_to_1_is_refused(fold_in: float) -> None:
    with pytest.raises(StudyError, match="at least 0 and below 1"):
        user_holdout(random_interactions(0, 10, 10, 50), fold_in)


@given(seed=st.integers(0, 1000))
@few
def test_strong_generalisation_keeps_the_rules_of_its_paper(seed: int) -> None:
    """Written out from the published script: likes of users with 5, items of training users, then 80 % folded in."""
    rows = random_interactions(seed, 40, 90, 1200)
    split = strong_generalization(rows, 0.2, seed)
    used, liked = split.roles > 0, rows.ratings >= 4
    assert liked[used].all()
    likes = np.bincount(rows.users[liked], minlength=40)
    assert (likes[rows.users[used]] >= 5).all()
    trained = set(split.train.items.tolist())
    assert set(rows.items[used].tolist()) == trained
    kept = np.isin(rows.items, list(trained)) & liked
    n_test = int(0.2 * (likes >= 5).sum())
    for target, history in ((Role.TEST, Role.TEST_HISTORY), (Role.VALIDATION, Role.VALIDATION_HISTORY)):
        users = np.unique(rows.users[has(split, target) | has(split, history)]).tolist()
        assert len(users) == n_test
        for user in users:
            count = int((kept & (rows.users == user)).sum())
            assert rows_of(split, Role.TRAIN, user) == []
            assert len(rows_of(split, target, user)) == int(0.2 * count)
            assert len(rows_of(split, history, user)) == count - int(0.2 * count)


def test_strong_generalisation_takes_a_number_of_users_and_refuses_too_many() -> None:
    rows = random_interactions(1, 40, 60, 1200)
    assert len(np.unique(strong_generalization(rows, 7).test.users)) == 7
    for wrong in (0.0, 0.5, 20, 1.0, -0.2):
        with pytest.raises(StudyError, match=f"test_users={wrong}: of 38 users"):
            strong_generalization(rows, wrong)


def test_strong_generalisation_takes_all_rows_where_ratings_are_no_opinions() -> None:
    rows = random_interactions(1, 40, 60, 1200)
    plays = replace(rows, ratings=np.ones(len(rows), np.float32))
    split = strong_generalization(plays)
    assert len(split.train) + len(split.validation) + len(split.test) > 1000 * 0.7
    assert len(np.unique(split.test.users)) == 8


@given(rows=data())
@few
def test_under_temporal_no_training_time_reaches_a_test_time(rows: Interactions) -> None:
    split = temporal(rows)
    parts = [part.times for part in (split.train, split.validation, split.test) if len(part)]
    for earlier, later in pairwise(parts):
        assert earlier.max() < later.min()
    assert len(split.test) >= len(rows) // 10


def test_temporal_cuts_at_nine_tenths_of_the_rows_where_times_differ() -> None:
    order = np.random.default_rng(0).permutation(200)
    split = temporal(make_interactions([(0, i) for i in range(200)], 1, 200, times=order))
    assert (len(split.train), len(split.validation), len(split.test)) == (160, 20, 20)
    assert set(split.test.times.tolist()) == set(range(180, 200))


@given(rows=data(), seed=st.integers(0, 100))
@settings(max_examples=10, deadline=None)
def test_the_99_negatives_differ_and_the_user_has_seen_none_of_them(rows: Interactions, seed: int) -> None:
    split = loo_sampled(rows, seed=seed)
    assert (split.roles == loo_full(rows).roles).all()
    assert split.negatives is not None
    assert split.negatives.shape == (rows.n_users, 99)
    for user, negatives in enumerate(split.negatives.tolist()):
        assert len(set(negatives)) == 99
        assert not set(negatives) & set(rows.items[rows.users == user].tolist())


def test_negatives_are_drawn_evenly_from_the_unseen_items_in_chunks_or_not() -> None:
    rows = make_interactions([(user, item) for user in range(3000) for item in (0, 7)], 3000, 12)
    whole, parts = (sample_unseen(rows, 3, np.random.default_rng(1), chunk) for chunk in (3000, 11))
    assert (whole == parts).all()
    counts = np.bincount(whole.ravel(), minlength=12)
    assert counts[[0, 7]].tolist() == [0, 0]
    assert chisquare(counts[counts > 0]).pvalue > 1e-4


def test_negatives_stand_in_an_order_that_no_sorting_routine_decides() -> None:
    negatives = sample_unseen(random_interactions(1, 30, 150, 600), 99, np.random.default_rng(0))
    assert (np.diff(negatives, axis=1) > 0).all()


def test_who_has_fewer_than_99_items_left_unseen_only_trains_where_99_are_drawn() -> None:
    pairs = [(user, item) for user, n_items in enumerate((3, 4, 102)) for item in range(n_items)]
    rows = make_interactions(pairs, 3, 102)
    assert np.unique(loo_full(rows).test.users).tolist() == [0, 1, 2]
    for split in (loo_sampled(rows), as_reported(rows, "S4")):
        assert np.unique(split.test.users).tolist() == [0] and np.unique(split.train.users).tolist() == [0, 1, 2]
        assert split.negatives is not None
        assert len({*split.negatives[0].tolist(), 0, 1, 2}) == 102
    with pytest.raises(
        StudyError, match="No user has 99 of the 101 items left unseen: leave out protocols that need them"
    ):
        loo_sampled(make_interactions([(0, item) for item in range(3)], 1, 101))


@pytest.fixture
def benchmark() -> tuple[Interactions, Benchmark, np.ndarray]:
    """Two users whose published test rows are not their latest; item ids are ten times the codes."""
    rows = make_interactions([(0, 0), (0, 1), (0, 2), (1, 3), (1, 0)], 2, 6, times=[1, 9, 2, 4, 3])
    test = np.array([True, False, False, False, True])
    return rows, Benchmark(test, np.array([[50, 40], [20, 50]])), np.arange(6) * 10


def test_a_published_split_keeps_its_test_rows_and_negatives(
    benchmark: tuple[Interactions, Benchmark, np.ndarray],
) -> None:
    rows, published, item_ids = benchmark
    split = loo_sampled(rows, published, item_ids)
    assert split.test.items.tolist() == [0, 0]
    assert split.validation.items.tolist() == [1]
    assert split.negatives is not None
    assert split.negatives.tolist() == [[5, 4], [2, 5]]


def test_published_negatives_are_never_replaced_by_drawn_ones_in_silence(
    benchmark: tuple[Interactions, Benchmark, np.ndarray],
) -> None:
    rows, published, item_ids = benchmark
    with pytest.raises(StudyError, match="pass item_ids"):
        loo_sampled(rows, published)
    with pytest.raises(StudyError, match="Unknown movie id 50"):
        loo_sampled(rows, published, item_ids[:5])


def test_as_reported_shows_each_leak_as_what_it_is() -> None:
    rows = random_interactions(3, 40, 150, 800)
    s0, s1, s2, s4 = (as_reported(rows, claim) for claim in ("S0", "S1", "S2", "S4"))
    assert set(np.unique(s0.roles)) == {Role.TRAIN, Role.VALIDATION | Role.TEST}
    assert s0.held_out
    assert len(np.unique(s0.test.users)) == 8
    assert not np.isin(s0.train.users, s0.test.users).any()
    assert (s1.roles == (Role.TRAIN | Role.TEST)).all()
    assert [len(part) for part in (s2.train, s2.validation, s2.test)] == [640, 80, 80]
    assert (has(s4, Role.TEST) == has(loo_full(rows), Role.TEST)).all()
    assert len(s4.validation) == 0
    assert s4.negatives is not None
    assert len({split.sha256 for split in (s0, s1, s2, s4)}) == 4


def test_unknown_protocols_and_claims_are_refused_with_the_known_ones() -> None:
    rows = random_interactions(0, 5, 5, 20)
    with pytest.raises(StudyError, match=r"'loo'.*loo-full, loo-sampled"):
        make_split("loo", rows)
    with pytest.raises(StudyError, match=r"'S3'.*S0, S1, S2, S4"):
        as_reported(rows, "S3")


def test_the_fingerprint_depends_on_pairs_roles_negatives_protocol_and_variant() -> None:
    rows = make_interactions([(0, 0), (1, 1)], 2, 3)
    roles, negatives = np.array([1, 4], np.uint8), np.array([[1], [2]])
    splits = [
        Split(rows, roles, "a"),
        Split(rows, roles[::-1], "a"),
        Split(make_interactions([(0, 0), (1, 2)], 2, 3), roles, "a"),
        Split(rows, roles, "b"),
        Split(rows, roles, "a", "v"),
        Split(rows, roles, "a", negatives=negatives),
        Split(rows, roles, "a", negatives=negatives[::-1]),
    ]
    assert len({split.sha256 for split in splits}) == len(splits)


# SHA-256 of GroupLens's own u1.test … u5.test, which are sorted by user and movie.
CANONICAL_TESTS = [
    "18c6014a4b2c7324f250a63f8904a7b16b2b19f911129e346141507b0cbac950",
    "4de658d1e04ed9104629509a2e2528fce833ac8e048280183f1df167632038c3",
    "0f548b51c78327de4c156461d3e430b7e5579fe2b5681586a59416e48fd35f6d",
    "7c02ad0a1e7ab1083c8b9d4b627203a051dd7b5eab46d99fa44de33470de8db9",
    "351cc52e0d15b6c721466276fc24671d40936899e3d01fadeaf312915b8c5634",
]
PINNED: list[tuple[str, dict[str, Any], str]] = [
    ("rating-5fold", {"fold": 1}, "512c7e8c54f46fabb0ca624a1d877eb19e864629d1a0c43803e78a0eb98b61b7"),
    ("rating-5fold", {"fold": 2}, "30910140173ccc5ce2591adf190ae3f6baa9e74d7e2dfd2d6b2a6336246eba93"),
    ("rating-5fold", {"fold": 3}, "551e6ee9e7da923c40d796a49cea1591df3bd3c374168cf25f95540e4dbe011b"),
    ("rating-5fold", {"fold": 4}, "96ed1be5edd356c5f76245dc467d79b0ebeb9127ce8d92f76ed4cc295abcbe31"),
    ("rating-5fold", {"fold": 5}, "3d68e55034b21ceaec28fac098a948c0a8319785fe0c4d571991928e757870de"),
    ("loo-full", {}, "32dde97066a9236fe62fe16eb864f9bc27295da8357e34dd243a6679b4bc4736"),
    ("loo-sampled", {}, "e6c06890affd126a7b2e5c3120330a506b565b88d51ddf0e9fe71f9a44665f6c"),
    ("user-holdout", {}, "1ec475b7c4fbc69ee755dd0ca0173bb02da62556374f8c8b67855e88f8f14706"),
    ("random-80-10-10", {}, "dfaed2781a4c41f8dad9d1158c620507f036c4c2aec521c89fa809ee13c8879d"),
    ("strong-generalization", {}, "e2eef88fa59d3dcf0180ddf62fdfbea30a783d22b28a01a42a7c7df66097cf96"),
    ("as-reported", {"claim": "S0"}, "a3bd473d8972fe68c70d0e5521748a3734e8a616dc1c73ab3848c3a384ac4345"),
    ("as-reported", {"claim": "S1"}, "773caa3006c3760fb696a0a930d19e2d9666e710233d8ce5d44852eebe4ec6a2"),
    ("as-reported", {"claim": "S2"}, "cd8a9cca79fecc5201c9b9f91ac60b178561b02383460cc897285cd03ffe7d69"),
    ("as-reported", {"claim": "S4"}, "b1c9a9eb99d9f4cb71e8e22b8b523c94af00e796ef0b35367cc8a9dc3e72d920"),
    ("temporal", {}, "6b2839ad37cbce49e794ec83ea68ae9f47b0b2b29cbd5532ce7b55ff4ce98a80"),
]


@pytest.mark.parametrize("fold", range(1, 6))
def test_on_ml_100k_the_folds_are_the_canonical_u1_to_u5(
    fold: int, ml_100k: MovieLens, ml_100k_rows: Interactions
) -> None:
    split = rating_5fold(ml_100k_rows, fold)
    assert np.flatnonzero(has(split, Role.TEST)).tolist() == list(range(20_000 * (fold - 1), 20_000 * fold))
    rows = ml_100k.ratings[has(split, Role.TEST)].sort_values(["user_id", "item_id"])
    text = rows.astype({"rating": int}).to_csv(sep="\t", header=False, index=False, lineterminator="\n")
    assert hashlib.sha256(text.encode()).hexdigest() == CANONICAL_TESTS[fold - 1]


def test_other_data_of_ml_100ks_size_is_shuffled_into_its_folds(ml_100k_rows: Interactions) -> None:
    by_user = ml_100k_rows.take(np.argsort(ml_100k_rows.users, kind="stable"))
    other = replace(ml_100k_rows, ratings=ml_100k_rows.ratings[::-1])
    for rows in (by_user, other):
        split = rating_5fold(rows, 1)
        assert len(split.test) == 20_000
        users = np.unique(split.test.users)
        assert len(users) > 900
        assert (split.train.user_counts[users] > 0).all()
        assert np.flatnonzero(has(split, Role.TEST)).max() > 99_000


@pytest.mark.parametrize("stars", [1, 5])
def test_folds_of_ratings_that_are_all_the_same_are_refused(stars: float) -> None:
    rows = replace(random_interactions(0, 20, 30, 300), ratings=np.full(300, stars, np.float32))
    said = f"ratings that are all {stars}, which tell what was seen .*: use protocols that rank, such as loo-full"
    with pytest.raises(StudyError, match=said):
        make_split("rating-5fold", rows)


def test_where_ratings_tell_nothing_rankings_are_measured_and_stars_are_neither_measured_nor_predicted() -> None:
    rows = replace(random_interactions(0, 30, 150, 900), ratings=np.ones(900, np.float32))
    for protocol in ("random-80-10-10", "user-holdout"):
        split = make_split(protocol, rows)
        for model in (Bias(), SVD(epochs=2), Popularity()):
            if split.held_out and isinstance(model, SVD):
                continue
            fitted = model.fit(split.train, None if split.held_out else split.validation, judge=judge)
            measured = set(measure(fitted, split)[0]["metric"])
            assert "precision@25" in measured and "rmse" not in measured
    with pytest.raises(StudyError, match=r"Bias was fitted on ratings that are all 1.*: rank with score\(\)"):
        Bias().fit(rows).predict(torch.tensor([0]), torch.tensor([0]))


def test_lists_from_ratings_that_tell_nothing_have_scores_and_no_stars() -> None:
    frame = pd.DataFrame({"user_id": [1, 1, 2], "item_id": [5, 6, 5], "rating": 1.0, "timestamp": 0})
    data = MovieLens("seen", frame, None, None, None, (1.0, 5.0), False, None, "nowhere", "ab")
    rows, vocabulary = encode(data)
    assert recommend(Bias().fit(rows), data, vocabulary, 2, 1).columns.tolist() == ["item_id", "score"]


def test_u1_has_the_users_and_movies_that_its_literature_counts(ml_100k_rows: Interactions) -> None:
    split = rating_5fold(ml_100k_rows, 1)
    assert len(np.unique(split.test.users)) == 459
    assert len(np.unique(split.test.items)) == 1410
    assert len(np.unique(split.refit.items)) == 1650


@pytest.mark.parametrize(("protocol", "chosen", "sha256"), PINNED)
def test_the_splits_of_ml_100k_are_pinned(
    protocol: str, chosen: dict[str, Any], sha256: str, ml_100k: MovieLens, ml_100k_rows: Interactions
) -> None:
    rows = encode(clean_as_s2(ml_100k)[0])[0] if chosen == {"claim": "S2"} else ml_100k_rows
    assert make_split(protocol, rows, **chosen).sha256 == sha256


def test_on_ml_100k_415_users_have_tied_last_timestamps(ml_100k_rows: Interactions) -> None:
    times = pd.Series(ml_100k_rows.times).groupby(ml_100k_rows.users)
    assert sum(np.partition(mine, -2)[-2] == mine.max() for _, mine in times) == 415


def test_on_ml_100k_only_69_of_166_temporal_test_users_are_known_before_the_cuts(ml_100k_rows: Interactions) -> None:
    """69 have rows in training (before the validation cut); 90 have rows before the test cut."""
    split = temporal(ml_100k_rows)
    users = np.unique(split.test.users)
    assert len(users) == 166
    assert int((split.train.user_counts[users] > 0).sum()) == 69
    assert int((split.refit.user_counts[users] > 0).sum()) == 90


def test_popularity_on_the_ncf_files_gives_the_published_numbers(ncf_ml_1m: MovieLens) -> None:
    rows, vocabulary = encode(ncf_ml_1m)
    split = loo_sampled(rows, ncf_ml_1m.benchmark, vocabulary.item_ids)
    task = RankingTask(split.refit, split.test, negatives=split.negatives, cutoffs=(10,))
    users = rank(Popularity().fit(split.refit), task).users
    assert len(users) == 6040
    assert users["hit_ratio@10"].mean() == pytest.approx(0.453, abs=0.002)
    assert users["ndcg@10"].mean() == pytest.approx(0.254, abs=0.002)
    assert split.negatives is not None
    assert int((split.negatives == split.test.binary.indices[:, None]).any(axis=1).sum()) == 156


def test_an_option_that_a_protocol_does_not_have_is_refused_with_its_own() -> None:
    rows = make_interactions([(0, 0), (1, 1)], 2, 2)
    with pytest.raises(StudyError, match="Protocol temporal has no option 'fold'"):
        make_split("temporal", rows, fold=1)
    with pytest.raises(StudyError, match="Protocol as-reported needs the option 'claim'"):
        PROTOCOLS["as-reported"].splits(rows)


def test_a_protocol_splits_once_a_variant_under_its_own_name() -> None:
    rows = random_interactions(3, 40, 150, 800)
    for name, protocol in PROTOCOLS.items():
        splits = [as_reported(rows, "S1")] if protocol.leaks else protocol.splits(rows)
        assert {split.protocol for split in splits} == {name}
        assert len({split.variant for split in splits}) == len(splits)
    assert [split.variant for split in PROTOCOLS["rating-5fold"].splits(rows)] == [f"fold={n}" for n in range(1, 6)]


def test_the_measured_models_learn_from_validation_rows_unless_the_protocol_leaks() -> None:
    rows = random_interactions(3, 40, 150, 800)
    honest, reported = make_split("random-80-10-10", rows), as_reported(rows, "S2")
    assert len(PROTOCOLS[honest.protocol].final_rows(honest)) == len(honest.train) + len(honest.validation)
    assert len(PROTOCOLS[reported.protocol].final_rows(reported)) == len(reported.train)


@given(rows=data(), seed=st.integers(0, 100))
@few
def test_thinned_splits_keep_the_test_rows_and_lie_within_each_other(rows: Interactions, seed: int) -> None:
    whole = rating_5fold(rows)
    larger, smaller = (thinned(whole, share, seed) for share in (0.5, 0.2))
    for role in (Role.TRAIN, Role.VALIDATION):
        kept = [has(split, role) for split in (whole, larger, smaller)]
        assert [part.sum() for part in kept[1:]] == [round(share * kept[0].sum()) for share in (0.5, 0.2)]
        assert (kept[2] <= kept[1]).all() and (kept[1] <= kept[0]).all()
    assert (has(smaller, Role.TEST) == has(whole, Role.TEST)).all()
    assert (smaller.roles[~has(smaller, Role.TRAIN | Role.VALIDATION | Role.TEST)] == 0).all()
    assert thinned(whole, 1.0).roles.tolist() == whole.roles.tolist()
    assert larger.variant == "fold=1, share=0.5" and larger.sha256 != thinned(whole, 0.5, seed + 1).sha256


def test_a_row_that_trains_and_tests_stays_a_test_row_when_it_is_left_out_of_training() -> None:
    split = thinned(as_reported(random_interactions(0, 10, 260, 200, 5), "S1"), 0.25)
    assert has(split, Role.TEST).all() and has(split, Role.TRAIN).sum() == 50


@pytest.mark.parametrize("share", [0, -0.5, 1.5])
def test_a_share_that_keeps_nothing_or_too_much_is_refused(share: float) -> None:
    with pytest.raises(StudyError, match="above 0 and at most 1"):
        thinned(rating_5fold(random_interactions(0, 10, 260, 200, 5)), share)


def test_positions_count_a_users_rows_in_time_and_ties_keep_their_order() -> None:
    rows = Interactions(
        np.array([1, 0, 1, 1, 0]), np.arange(5), np.ones(5, np.float32), np.array([7, 3, 5, 7, 2]), n_users=2, n_items=5
    )
    assert positions(rows, rows.times)[0].tolist() == [1, 1, 0, 2, 0]
