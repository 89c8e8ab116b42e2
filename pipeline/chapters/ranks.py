"""Where test rows stand in a model's rankings, stored below reports/stored/ranks, so that any metric of a list can be taken later.

The rank of a test row is 1 + the candidates with a higher score + half of the others with its own: candidates are what the split
lets the model recommend, the user's other test rows among them. Two rows of a user have the same rank exactly where they have the
same score. That is enough to say what every other choice of relevant rows would have given: a relevant row's rank in `metrics.Hits`
(see `evaluate.top_hits`), and its rank where some test rows are no candidates, differ from it by counts over the user's own test
rows. So neither scores nor items have to be kept, and no stars: which rows are liked is read from the user's own data.

Stored is twice the rank, a whole number, of each test row in the order of the split, and 0 (`BEYOND`) for a row that no such choice
could bring among the first `LARGEST_CUTOFF`. One Parquet file holds all runs of a model with one choice of settings; what each run
follows from stands in the file's metadata. A file of another choice of settings counts as none, and the next run takes its place.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline.chapters.store import Identity
from recsys_core.budget import rows_at_once
from recsys_core.errors import StudyError
from recsys_core.evaluate import RankingTask
from recsys_core.files import atomic_path
from recsys_core.metrics import Hits
from recsys_core.models.base import Recommender
from recsys_core.splits import Split

FOLDER = Path("reports/stored/ranks")
LARGEST_CUTOFF = 100
BEYOND = 0
FORMAT_VERSION = 1
COLUMN, ABOUT = "twice_rank", b"ranks"
IN_NO_LIST = 2**30  # twice the rank of what scores -inf


def counted(users: np.ndarray, ranks: np.ndarray, marked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each of N rows, how many `marked` rows of its user have a smaller rank, and how many the same one, itself included."""
    order = np.lexsort((ranks, users))
    user, rank, mark = users[order], ranks[order], marked[order].astype(np.int64)
    total = np.concatenate([[0], np.cumsum(mark)])
    begins = np.r_[True, (user[1:] != user[:-1]) | (rank[1:] != rank[:-1])][: len(user)]
    run, first = np.cumsum(begins) - 1, np.flatnonzero(begins)
    last = np.r_[first[1:], len(user)]
    before, tied = np.empty(len(user), np.int64), np.empty(len(user), np.int64)
    before[order] = (total[first] - total[np.searchsorted(user, user[first])])[run]
    tied[order] = (total[last] - total[first])[run]
    return before, tied


def twice_ranks(model: Recommender, split: Split) -> np.ndarray:
    """(N,) int32, see the module: of each test row of a split twice its rank by a fitted model, or `BEYOND`.

    Raises StudyError where the model has learnt from a test row, and for scores that are NaN.
    """
    test = split.test
    task = RankingTask(model.train_, test, split.test_history, split.negatives)
    found = np.zeros(len(test), np.int64)
    for users in task.batches():
        told, attributes = model.told_of(users, task.seen, task.history)
        with torch.inference_mode():
            scores = task.candidates(model.score(torch.as_tensor(users), told, attributes).clone(), users).cpu()
        if scores.isnan().any():
            raise StudyError(f"A score of {type(model).__name__} is NaN: it has no rank.")
        mine = np.flatnonzero(np.isin(test.users, users))
        for rows in np.split(mine, range(step := rows_at_once(test.n_items), len(mine), step)):
            theirs = scores[np.searchsorted(users, test.users[rows])]  # (n, I)
            own = theirs.gather(1, torch.as_tensor(test.items[rows])[:, None])
            twice = 2 + 2 * (theirs > own).sum(1) + (theirs == own).sum(1) - 1
            found[rows] = torch.where(own[:, 0].isneginf(), IN_NO_LIST, twice).numpy()
    return clipped(test.users, found).astype(np.int32)


def clipped(users: np.ndarray, twice: np.ndarray) -> np.ndarray:
    """Twice the ranks of N rows, `BEYOND` where a row stays behind `LARGEST_CUTOFF` without its user's other test rows."""
    before, tied = counted(users, twice, np.ones(len(users), bool))
    return np.where(twice - 2 * before - (tied - 1) > 2 * LARGEST_CUTOFF, BEYOND, twice)


def hits(
    rows: np.ndarray, twice: np.ndarray, relevant: np.ndarray, removed: np.ndarray | None = None, n_users: int = 0
) -> Hits:
    """What `evaluate.top_hits` finds where `relevant` (N,) of N test rows are relevant; cut-offs up to `LARGEST_CUTOFF` are exact.

    `rows` (N,) says whose each test row is, 0 to `n_users` - 1, `twice` (N,) is as `twice_ranks` gives it. Rows that are not
    relevant are candidates like all others, unless they are `removed`.
    """
    out = np.zeros(len(rows), bool) if removed is None else removed
    n_relevant = np.bincount(rows[relevant], minlength=n_users)
    ranked = twice != BEYOND
    before, tied = counted(rows[ranked], twice[ranked], out[ranked])
    kept = relevant[ranked]
    row, ranks = rows[ranked][kept], (twice[ranked] / 2 - before - tied / 2)[kept]
    order = np.lexsort((ranks, row))
    row, ranks = row[order], ranks[order]
    _, alike = counted(row, ranks, np.ones(len(row), bool))
    first = np.r_[True, (row[1:] != row[:-1]) | (ranks[1:] != ranks[:-1])][: len(row)]
    place = np.arange(len(row)) - np.maximum.accumulate(np.where(first, np.arange(len(row)), 0))
    return Hits(row, ranks - (alike - 1) / 2 + place, n_relevant)


@dataclass(frozen=True)
class Run:
    """One training's ranks: `twice` (N,) int32 of the test rows; `chosen` is what validation chose, such as the epochs."""

    seed: int
    twice: np.ndarray
    chosen: dict[str, Any]


class RankFile:
    """The ranks of one model with one choice of settings, by split and seed; two processes may add at once."""

    def __init__(self, root: Path, name: str, like: Identity) -> None:
        """`like` is the identity of any run of the model: of it data, model, settings and device count."""
        self.path = root / FOLDER / like.data / f"{name}.parquet"
        self.about = {key: getattr(like, key) for key in ("data", "model", "settings", "device")}

    def runs(self) -> dict[tuple[str, int], Run]:
        """All runs by the split's SHA-256 (as in `Identity.split`) and the seed; none where the file is of other settings.

        Raises StudyError for a damaged file.
        """
        return {(split, run.seed): run for (split, *_), run in self._read()}

    def add(self, identity: Identity, run: Run) -> None:
        """Store a run beside, or in place of, what is there."""
        with self._locked():
            found = {(about[0], each.seed): (about, each) for about, each in self._read()}
            found[identity.split, run.seed] = ((identity.split, identity.protocol, identity.variant), run)
            self._write([found[key] for key in sorted(found, key=lambda key: (*found[key][0][1:], *key))])

    def _read(self) -> list[tuple[tuple[str, str, str], Run]]:
        if not self.path.exists():
            return []
        try:
            table = pq.read_table(self.path)
            content = json.loads(table.schema.metadata[ABOUT])
            if content["version"] != FORMAT_VERSION or content["about"] != self.about:
                return []
            twice, at, found = table[COLUMN].to_numpy().astype(np.int32), 0, []
            for split, protocol, variant, seed, n_rows, chosen in content["runs"]:
                found.append(((split, protocol, variant), Run(seed, twice[at : at + n_rows], chosen)))
                at += n_rows
            return found
        except (OSError, pa.ArrowException, LookupError, TypeError, ValueError) as error:
            raise StudyError(f"{self.path} is damaged ({error}): restore it from git.") from None

    def _write(self, found: list[tuple[tuple[str, str, str], Run]]) -> None:
        runs = [[*about, run.seed, len(run.twice), run.chosen] for about, run in found]
        content = {"version": FORMAT_VERSION, "about": self.about, "runs": runs}
        table = pa.table({COLUMN: np.concatenate([run.twice for _, run in found]).astype(np.int32)})
        about = json.dumps(content, separators=(",", ":")).encode()
        with atomic_path(self.path) as temporary:
            pq.write_table(
                table.replace_schema_metadata({ABOUT: about}),
                temporary,
                compression="zstd",
                compression_level=19,
                use_dictionary=False,
                write_statistics=False,
                column_encoding={
                    COLUMN: "BYTE_STREAM_SPLIT"
                },  # all low bytes first: few different ones, which pack well
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.parent / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
