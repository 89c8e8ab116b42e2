"""The protocols' splits: one function each, every one a list of roles over the rows of a data set.

A row's role is a set of flags, so that `as-reported` can show a leak (a row that is both training and test) as what it is.
"""

import hashlib
from dataclasses import dataclass, replace
from enum import IntFlag

import numpy as np

from recsys_core.datasets import Benchmark
from recsys_core.errors import StudyError, refuse_unknown
from recsys_core.interactions import Interactions, Vocabulary

N_SAMPLED_NEGATIVES = 99  # He et al. 2017, section 4.1
VALIDATION_TENTH = 2  # of a user's rows, under random-80-10-10
# ML-100K's rows in the order of `u.data`; other rows of its size have no canonical folds.
ML_100K_SHA256 = "be1a19efb3d38b243cf2251e4c39846082522b2c0ed98619c85320fe9ed89a41"


class Role(IntFlag):
    """What a row is used for; 0 means unused."""

    TRAIN = 1
    VALIDATION = 2
    TEST = 4
    VALIDATION_HISTORY = 8
    TEST_HISTORY = 16


@dataclass(frozen=True)
class Split:
    """Rows of `interactions` with their roles.

    `roles` is (N,) uint8 of Role flags. `held_out` says that the users of validation and test are unknown to training: what is
    known of them is their history rows (possibly none). `negatives` is (U, 99) item codes for `loo-sampled`, else None; where
    `among_negatives` is set, validation rows too are ranked among these, as papers do that report such a metric.
    """

    interactions: Interactions
    roles: np.ndarray
    protocol: str
    variant: str = ""
    held_out: bool = False
    negatives: np.ndarray | None = None
    among_negatives: bool = False

    def rows(self, roles: Role) -> Interactions:
        """Return the rows that carry any of the given roles."""
        return self.interactions.take((self.roles & roles) > 0)

    @property
    def train(self) -> Interactions:
        """The training rows."""
        return self.rows(Role.TRAIN)

    @property
    def validation(self) -> Interactions:
        """The rows that selection of epochs and hyperparameters may see."""
        return self.rows(Role.VALIDATION)

    @property
    def test(self) -> Interactions:
        """The rows that are read once, at the end."""
        return self.rows(Role.TEST)

    @property
    def refit(self) -> Interactions:
        """Training and validation rows (with the validation users' histories): what the final models are fitted on."""
        return self.rows(Role.TRAIN | Role.VALIDATION | Role.VALIDATION_HISTORY)

    @property
    def validation_history(self) -> Interactions | None:
        """What is known of held-out validation users; None where they are training users."""
        return self.rows(Role.VALIDATION_HISTORY) if self.held_out else None

    @property
    def test_history(self) -> Interactions | None:
        """What is known of held-out test users; None where they are training users."""
        return self.rows(Role.TEST_HISTORY) if self.held_out else None

    @property
    def sha256(self) -> str:
        """Fingerprint of the protocol, the coded pairs, their roles and the negatives."""
        judged = "|among negatives" if self.among_negatives else ""
        digest = hashlib.sha256(f"{self.protocol}|{self.variant}{judged}".encode())
        for array in (self.interactions.users, self.interactions.items, self.roles, self.negatives):
            if array is not None:
                digest.update(array.astype("<i8").tobytes())
        return digest.hexdigest()


def positions(interactions: Interactions, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each row's position (0 first) within its user by `key` (N,), ties in the order of the rows, and the user's rows."""
    users, counts = interactions.users, interactions.user_counts
    order = np.lexsort((key, users))
    position = np.empty(len(users), dtype=np.int64)
    position[order] = np.arange(len(users)) - (np.cumsum(counts) - counts)[users[order]]
    return position, counts[users]


def _latest(interactions: Interactions, among: np.ndarray, at_least: int) -> np.ndarray:
    """Return the rows, each a user's latest of those `among` them, of the users who have enough there; ties keep their order."""
    chosen = interactions.take(among)
    position, count = positions(chosen, chosen.times)
    return among[(position == count - 1) & (count >= at_least)]


def _roles(n_rows: int, test: np.ndarray, validation: np.ndarray) -> np.ndarray:
    """Roles of rows of which those that are neither test nor validation train."""
    roles = np.full(n_rows, Role.TRAIN, dtype=np.uint8)
    roles[test] = Role.TEST
    roles[validation] = Role.VALIDATION
    return roles


def rating_5fold(interactions: Interactions, fold: int = 1, seed: int = 0) -> Split:
    """Fold 1 to 5 as test and a seeded tenth of the other rows as validation.

    On ML-100K, known by the hash of its rows, the folds are the canonical u1…u5: consecutive fifths of `u.data`. Other data, and
    the same ratings in another order, are shuffled first. Raises StudyError for ratings that are no opinions.
    """
    if fold not in range(1, 6):
        raise StudyError(f"fold={fold}: rating-5fold has folds 1 to 5.")
    if not interactions.explicit:
        raise StudyError(
            f"rating-5fold measures predicted ratings, and the data has {interactions.no_opinions}: "
            "use protocols that rank, such as loo-full or random-80-10-10."
        )
    n_rows = len(interactions)
    generator = np.random.default_rng(seed)
    canonical = interactions.sha256 == ML_100K_SHA256
    order = np.arange(n_rows) if canonical else generator.permutation(n_rows)
    test = np.array_split(order, 5)[fold - 1]
    rest = np.setdiff1d(np.arange(n_rows), test)
    validation = generator.choice(rest, size=len(rest) // 10, replace=False)
    return Split(interactions, _roles(n_rows, test, validation), "rating-5fold", f"fold={fold}")


def random_80_10_10(interactions: Interactions, seed: int = 0, tenth: int = 1) -> Split:
    """Of each user's rows a random tenth is test and another validation (at least one each; users with fewer than 3 rows train).

    `tenth`, from 1, says which of a user's tenths is test. The second is validation whichever that is, so that what is chosen on
    it stays chosen; other tenths make disjoint tests. Raises StudyError for one that is not there.
    """
    if tenth == VALIDATION_TENTH or not 1 <= tenth <= 10:
        raise StudyError(f"tenth={tenth}: test is one of the tenths 1 to 10, and {VALIDATION_TENTH} is validation.")
    position, count = positions(interactions, np.random.default_rng(seed).random(len(interactions)))
    place = np.where(count >= 3, position // np.maximum(1, count // 10), 10)  # 10 and more are in no tenth
    roles = _roles(len(interactions), place == tenth - 1, place == VALIDATION_TENTH - 1)
    return Split(interactions, roles, "random-80-10-10", "" if tenth == 1 else f"tenth={tenth}")


def loo_full(interactions: Interactions, benchmark: Benchmark | None = None) -> Split:
    """Each user's latest row is test, the one before it validation; ties in time keep the order of the file.

    Users with fewer than 3 rows only train. A published benchmark brings its own test rows.
    """
    rows, users = np.arange(len(interactions)), interactions.users
    test = _latest(interactions, rows, at_least=3) if benchmark is None else rows[benchmark.test]
    others = np.setdiff1d(rows, test)
    validation = _latest(interactions, others[np.isin(users[others], users[test])], at_least=2)
    return Split(interactions, _roles(len(rows), test, validation), "loo-full")


def loo_sampled(
    interactions: Interactions, benchmark: Benchmark | None = None, item_ids: np.ndarray | None = None, seed: int = 0
) -> Split:
    """The split of `loo-full` with 99 negatives per user: the published ones, or drawn from what the user has not seen.

    Users who have seen all but fewer items only train.
    """
    roles = loo_full(interactions, benchmark).roles
    if benchmark is None:
        negatives = sample_unseen(interactions, N_SAMPLED_NEGATIVES, np.random.default_rng(seed))
        roles[~_left_unseen(interactions, N_SAMPLED_NEGATIVES)[interactions.users]] = Role.TRAIN
    elif item_ids is None:
        raise StudyError("A benchmark's negatives are item ids: pass item_ids, the vocabulary's, with the benchmark.")
    else:
        codes = Vocabulary(np.empty(0), item_ids).item_codes(benchmark.negatives.ravel())
        negatives = codes.reshape(benchmark.negatives.shape)
    return Split(interactions, roles, "loo-sampled", negatives=negatives)


def sample_unseen(
    interactions: Interactions, n_negatives: int, generator: np.random.Generator, chunk: int = 1024
) -> np.ndarray:
    """Draw (U, n) different items that each user has not seen, ascending; for users with fewer left the numbers mean nothing.

    Raises StudyError where all users have fewer.
    """
    if not _left_unseen(interactions, n_negatives).any():
        advice = "leave out protocols that need them, such as loo-sampled"
        raise StudyError(f"No user has {n_negatives} of the {interactions.n_items} items left unseen: {advice}.")
    drawn = []
    for start in range(0, interactions.n_users, chunk):
        seen = interactions.binary[start : start + chunk]
        keys = generator.random(seen.shape)
        keys[seen.nonzero()] = 2.0
        drawn.append(np.argpartition(keys, n_negatives - 1, axis=1)[:, :n_negatives])
    # Sorted, because the order that argpartition leaves differs between processors.
    return np.sort(np.concatenate(drawn).astype(np.int64), axis=1)


def _left_unseen(interactions: Interactions, n_items: int) -> np.ndarray:
    """Whether each user, (U,) bool, has so many items left unseen."""
    return interactions.n_items - np.diff(interactions.binary.indptr) >= n_items


def _draw_users(eligible: np.ndarray, *sizes: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Draw disjoint groups of users."""
    return np.split(generator.permutation(eligible), np.cumsum(sizes))[: len(sizes)]


def _hold_out(interactions: Interactions, groups: list[np.ndarray], known: np.ndarray) -> np.ndarray:
    """Roles of rows that train but for those of test and validation users, which are history where `known`, else targets."""
    roles = np.full(len(interactions), Role.TRAIN, dtype=np.uint8)
    pairs = ((Role.TEST_HISTORY, Role.TEST), (Role.VALIDATION_HISTORY, Role.VALIDATION))
    for (history, target), users in zip(pairs, groups):
        mine = np.isin(interactions.users, users)
        roles[mine] = np.where(known, history, target)[mine]
    return roles


def user_holdout(interactions: Interactions, fold_in: float = 0.0, seed: int = 0) -> Split:
    """20 % of the users are test and 10 % validation users; `fold_in` of their rows, in time order, is known of them.

    `fold_in=0` is the protocol of report S0 (nothing but the attributes is known); `fold_in=0.8` its fair variant.
    """
    if not 0 <= fold_in < 1:
        raise StudyError(f"fold_in={fold_in}: the known share of a user's rows must be at least 0 and below 1.")
    n_users = interactions.n_users
    groups = _draw_users(np.arange(n_users), n_users // 5, n_users // 10, generator=np.random.default_rng(seed))
    position, count = positions(interactions, interactions.times)
    roles = _hold_out(interactions, groups, position < np.floor(fold_in * count))
    return Split(interactions, roles, "user-holdout", f"fold_in={fold_in:g}", held_out=True)


def strong_generalization(interactions: Interactions, test_users: float = 0.2, seed: int = 0) -> Split:
    """Held-out users with a random 80 % folded in, on ratings of 4 and more of users with at least 5 (Liang et al. 2018);
    where ratings are no opinions, on all.

    `test_users` is the share of test users, or their number if above 1; as many are validation users. Items that no training
    user has rated leave the split before the 80 % are drawn; held-out users left with fewer than 5 rows have no targets.
    """
    liked = (interactions.ratings >= 4) | (not interactions.explicit)
    counts = np.bincount(interactions.users[liked], minlength=interactions.n_users)
    eligible = np.flatnonzero(counts >= 5)
    n_test = int(test_users if test_users > 1 else test_users * len(eligible))
    if not 0 < n_test < len(eligible) / 2:
        users = f"{len(eligible)} users with at least 5 ratings of 4 or more"
        raise StudyError(f"test_users={test_users}: of {users}, test and validation need one each and less than half.")
    generator = np.random.default_rng(seed)
    groups = _draw_users(eligible, n_test, n_test, generator=generator)
    kept = liked & (counts[interactions.users] >= 5)
    trained = interactions.take(kept & ~np.isin(interactions.users, np.concatenate(groups))).item_counts > 0
    rows = np.flatnonzero(kept & trained[interactions.items])
    subset = interactions.take(rows)
    position, count = positions(subset, generator.random(len(subset)))
    roles = np.zeros(len(interactions), dtype=np.uint8)
    roles[rows] = _hold_out(subset, groups, position < np.ceil(0.8 * count))
    return Split(interactions, roles, "strong-generalization", f"test_users={test_users:g}", held_out=True)


def temporal(interactions: Interactions) -> Split:
    """One cut in time: the last tenth of the rows is test, the tenth before it validation; equal times stay together."""
    ordered = np.sort(interactions.times)
    first_validation, first_test = ordered[int(0.8 * len(ordered))], ordered[int(0.9 * len(ordered))]
    test = interactions.times >= first_test
    validation = (interactions.times >= first_validation) & ~test
    return Split(interactions, _roles(len(interactions), test, validation), "temporal")


def as_reported(interactions: Interactions, claim: str, seed: int = 0) -> Split:
    """Split as a report did, its leaks included; `claim` is the report: S0 (two towers on attributes), S1 (a network on attributes
    with a menu), S2 (embeddings on cleaned ML-100K) or S4 (neural collaborative filtering). S3, a survey, reports no experiment.

    S0: a fifth of the users, with all their rows, both selects the epoch and is reported. S1: every row trains and is tested.
    S2: rows at random 80/10/10, users mixed (the report names no shares); expects the rows that its cleaning leaves.
    S4: leave-one-out without validation rows, ranked against 99 negatives.
    """
    refuse_unknown("claim", claim, ("S0", "S1", "S2", "S4"))
    n_rows, n_users, generator = len(interactions), interactions.n_users, np.random.default_rng(seed)
    roles = np.full(n_rows, Role.TRAIN, dtype=np.uint8)
    negatives: np.ndarray | None = None
    if claim == "S0":
        (users,) = _draw_users(np.arange(n_users), n_users // 5, generator=generator)
        roles[np.isin(interactions.users, users)] = Role.VALIDATION | Role.TEST
    elif claim == "S1":
        roles[:] = Role.TRAIN | Role.TEST
    elif claim == "S2":
        test, validation, _ = np.split(generator.permutation(n_rows), [n_rows // 10, 2 * (n_rows // 10)])
        roles = _roles(n_rows, test, validation)
    else:
        asked = np.flatnonzero(_left_unseen(interactions, N_SAMPLED_NEGATIVES)[interactions.users])
        roles[_latest(interactions, asked, at_least=3)] = Role.TEST
        negatives = sample_unseen(interactions, N_SAMPLED_NEGATIVES, generator)
    return Split(interactions, roles, "as-reported", claim, held_out=claim == "S0", negatives=negatives)


def thinned(split: Split, share: float, seed: int = 0) -> Split:
    """Keep a random `share` of a split's training rows and of its validation rows, for learning curves; test stays as it is.

    For one seed a smaller share is a part of every larger one. Raises StudyError for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise StudyError(f"share={share}: the share of rows that is kept must be above 0 and at most 1.")
    roles, order = split.roles.copy(), np.random.default_rng(seed).permutation(len(split.roles))
    for role in (Role.TRAIN, Role.VALIDATION):
        rows = order[(roles[order] & role) > 0]
        roles[rows[round(share * len(rows)) :]] &= np.uint8(255 - role)
    return replace(split, roles=roles, variant=f"{split.variant}, share={share:g}".removeprefix(", "))
