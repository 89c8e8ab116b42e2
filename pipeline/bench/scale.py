"""What training and full ranking hold in memory at ML-20M's size: `python -m pipeline.bench.scale MODEL USERS ITEMS ROWS`.

The rows are synthetic. Each model is fitted in a process of its own, which then ranks the whole catalogue for users whose latest
row was left out, and prints as JSON what both took and the most memory it ever held, with the making of the rows and of the split.
iALS passes over all rows once, NCF trains for one epoch; of the ten thousand batches of an epoch of DSSM it is the first thousand,
which show what it holds as well.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from recsys_core import evaluate
from recsys_core.interactions import Interactions
from recsys_core.models.base import Recommender
from recsys_core.models.dssm import DSSM
from recsys_core.models.ials import IALS
from recsys_core.models.ncf import NCF, SIZES
from recsys_core.protocols import make_split
from recsys_core.sampling import Batches

ML_20M = (138_493, 26_744, 20_000_263)  # users, films, rows
AT_SCALE = " at ML-20M's size"


class FirstBatches:
    """The first `n` batches of another source."""

    def __init__(self, batches: Batches, n: int) -> None:
        self.batches, self.n = batches, n

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[torch.Tensor, ...]]:
        """Yield the first batches of one epoch."""
        yield from islice(self.batches.epoch(generator), self.n)


class ShortDSSM(DSSM):
    """DSSM whose epochs end after a thousand batches."""

    def _batches(self, train: Interactions, device: torch.device) -> Batches:
        return FirstBatches(super()._batches(train, device), 1000)


class Trial(NamedTuple):
    """An untrained model, what its training is called, and how many users are ranked at most."""

    model: Callable[[], Recommender]
    training: str
    n_ranked: int = ML_20M[0]


TRIALS = {
    "iALS": Trial(partial(IALS, n_iterations=1, device="cpu"), "one iteration"),
    "NCF 3 layers": Trial(partial(NCF, **SIZES[3], epochs=1, batch_size=8192, device="cpu"), "one epoch", 20_000),
    "DSSM": Trial(partial(ShortDSSM, epochs=1, batch_size=2048, device="cpu"), "1,000 batches of 2,048"),
}


def synthetic(n_users: int, n_items: int, n_rows: int, seed: int = 0) -> Interactions:
    """Rows without repeated pairs whose item popularity falls like a power of the rank and whose user activity is log-normal."""
    generator = np.random.default_rng(seed)
    activity = generator.lognormal(4.6, 1.0, n_users)
    popularity = 1 / (np.arange(n_items) + 20.0)
    keys = np.empty(0, np.int64)
    while len(keys) < n_rows:
        draws = int(1.5 * (n_rows - len(keys))) + 1000
        users = generator.choice(n_users, draws, p=activity / activity.sum())
        items = generator.choice(n_items, draws, p=popularity / popularity.sum())
        keys = np.unique(np.concatenate([keys, users * n_items + items]))
    keys = generator.permutation(keys)[:n_rows]
    users, items = np.divmod(keys, n_items)
    return Interactions(users, items, np.ones(n_rows, np.float32), np.arange(n_rows), n_users, n_items)


def peak_memory_mb() -> float:
    """The most memory this process has held at once, in MB (10^6 bytes)."""
    status = Path("/proc/self/status")  # of this program alone; `getrusage` may count the one that started it
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line[:6] == "VmHWM:") * 1.024e-3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1e-6 if sys.platform == "darwin" else 1.024e-3)


def run_trial(name: str, shape: tuple[int, int, int]) -> dict[str, float]:
    """Fit one model and rank; in this process, so that what it holds is what the process holds."""
    split = make_split("loo-full", synthetic(*shape))
    train, test = split.refit, split.test
    del split
    asked = np.unique(test.users)
    asked = asked[np.linspace(0, len(asked) - 1, min(len(asked), TRIALS[name].n_ranked)).astype(np.int64)]
    start = time.perf_counter()
    model = TRIALS[name].model().fit(train)
    fitted = time.perf_counter()
    ranking = evaluate.rank(model, evaluate.RankingTask(train, test.take(np.isin(test.users, asked))))
    ended = time.perf_counter()
    times = {"fit_s": fitted - start, "rank_s": ended - fitted}
    return times | {"memory_mb": peak_memory_mb(), "n_ranked": len(ranking.users)}


def measure_scale(shape: tuple[int, int, int] = ML_20M) -> dict[str, tuple[float, str]]:
    """Peak memory, seconds of training and of ranking, for each model, one process after the other."""
    measured: dict[str, tuple[float, str]] = {}
    for name, trial in TRIALS.items():
        line = [sys.executable, "-m", "pipeline.bench.scale", name, *map(str, shape)]
        done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        measured[f"{name}{AT_SCALE}: peak memory"] = (found["memory_mb"], "MB")
        measured[f"{name}{AT_SCALE}: {trial.training}"] = (found["fit_s"], "s")
        measured[f"{name}{AT_SCALE}: full ranking of {found['n_ranked']:,} users"] = (found["rank_s"], "s")
    return measured


if __name__ == "__main__":
    print(json.dumps(run_trial(sys.argv[1], (int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))))
