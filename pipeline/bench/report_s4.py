"""What report S4's training and evaluation take here: its numbers of users, films and ratings, its network, its batches.

The rows are synthetic, since the report does not say which part of ML-20M it took. Each rating comes with four drawn films that the
user has not rated, and each user's latest film is looked for among 99 drawn ones, as in the report.
"""

import statistics
import time
from dataclasses import replace

import torch

from pipeline.bench.scale import synthetic
from pipeline.bench.sequences import Measured
from recsys_core import evaluate
from recsys_core.models.ncf import NCF, SIZES
from recsys_core.protocols import make_split

SHAPE = (14_315, 27_278, 1_400_000)  # users, films, ratings
BATCH_SIZE = 2048
ROUNDS = 3
S4 = "NCF 3 layers at report S4's size: "


def measure_report_s4(device: torch.device, shape: tuple[int, int, int] = SHAPE) -> Measured:
    """Seconds of an epoch and of an evaluation, medians; on a processor one thread and its own time, whatever else it does.

    The epoch is all that `fit` does for one: sampling, updates, setting up. An evaluation scores the whole catalogue; the hit ratio
    then looks at 100 films, the full ranking at all that the user has not rated.
    """
    on_processor = device.type == "cpu"
    clock = time.process_time if on_processor else time.perf_counter
    torch.set_num_threads(1)
    split = make_split("as-reported", synthetic(*shape), claim="S4")
    task = evaluate.RankingTask(split.train, split.test, negatives=split.negatives, cutoffs=(10,))
    tasks = {"hit ratio among 100 films": task, "full ranking": replace(task, negatives=None)}
    times: dict[str, list[float]] = {}
    for _ in range(ROUNDS):
        model = NCF(**SIZES[3], epochs=1, batch_size=BATCH_SIZE, device=device.type)
        start = clock()
        model.fit(split.train)
        times.setdefault(f"epoch of {5 * len(split.train):,} samples", []).append(clock() - start)
        for what, each in tasks.items():
            start = clock()
            evaluate.rank(model, each)
            times.setdefault(f"{what}, {len(task.asked):,} users", []).append(clock() - start)
    threads = ", one thread" if on_processor else ""
    return {f"{S4}{what}{threads}": (statistics.median(each), "s") for what, each in times.items()}
