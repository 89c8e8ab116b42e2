"""What an epoch of a sequence model costs, in processes of their own: `python -m pipeline.bench.sequences TRIAL THREADS WAY`.

Models learn the known rows of `loo-full`. Each process prints as JSON seconds of an epoch (the median of several after a first
one, or the only one where it is long), its updates, the most memory and what was held before training. SASRec is also timed in
other ways than the study's, which would change its numbers, or whose arithmetic is not the same on every processor:

- `whole batches`: not in parts of histories of like length;
- `softmax by oneDNN`: torch may take another library for the products of the softmax over the catalogue, of the logits and of both
  gradients (which then may be rounded to bfloat16 where a processor has units for that, as AMX);
- `softmax in bfloat16`: these products in bfloat16.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.profiler import profile

from pipeline.bench.scale import FirstBatches, peak_memory_mb
from recsys_core import evaluate
from recsys_core.budget import rows_at_once
from recsys_core.datasets import load
from recsys_core.errors import StudyError
from recsys_core.features import encode
from recsys_core.models import sequences
from recsys_core.models.fpmc import FPMC
from recsys_core.models.gru4rec import GRU4Rec
from recsys_core.models.markov import MarkovChain
from recsys_core.models.neural import NeuralRecommender
from recsys_core.models.sasrec import SASRec
from recsys_core.optimiser import Adam
from recsys_core.protocols import make_split
from recsys_core.splits import Split
from recsys_core.statistics import paired_interval
from recsys_core.train import train_epoch

Measured = dict[str, tuple[float, str]]
DATA = {"ML-100K": "ml-100k", "ML-1M": "sasrec-ml-1m"}
LONG_S = 8.0  # an epoch that takes longer is timed once
N_EPOCHS = 5
SOFTMAX = sequences.full_softmax
N_PROFILED = 6  # batches
WAYS = ("whole batches", "softmax by oneDNN", "softmax in bfloat16")
PARTS = {"the softmax over the catalogue": "_FullSoftmax", "drawing what dropout hides": "aten::bernoulli_"}


class Trial(NamedTuple):
    """A model, and which data it learns."""

    model: Callable[[], MarkovChain | NeuralRecommender]
    data: str


TRIALS = {
    "Markov chain on ML-100K": Trial(MarkovChain, "ML-100K"),
    "FPMC on ML-100K": Trial(partial(FPMC, device="cpu"), "ML-100K"),
    "GRU4Rec on ML-100K": Trial(partial(GRU4Rec, device="cpu"), "ML-100K"),
    "SASRec on ML-100K": Trial(partial(SASRec, device="cpu"), "ML-100K"),
    "SASRec on ML-1M": Trial(partial(SASRec, window=200, device="cpu"), "ML-1M"),
}
NETWORKS = {
    "SASRec on ML-100K": (30, 3),
    "SASRec on ML-1M": (8, 1),
}  # also otherwise; epochs and seeds of `measure_precision`


def split_of(trial: str) -> Split:
    """The rows that a trial learns and is asked for."""
    return make_split("loo-full", encode(load(DATA[TRIALS[trial].data]))[0])


class _HalfSoftmax(torch.autograd.Function):
    """`sequences.full_softmax` with products in bfloat16; maxima, exponentials and sums are in float32."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        half_weight, total = weight.bfloat16(), vectors.new_zeros(())
        to_vectors, to_weight = torch.empty_like(vectors), torch.zeros_like(weight)
        for rows in torch.arange(len(vectors)).split(rows_at_once(len(weight), in_cache=True)):
            part, target = vectors[rows].bfloat16(), targets[rows, None]
            logs = torch.log_softmax((part @ half_weight.T).float(), dim=1)
            total -= logs.gather(1, target).sum()
            excess = logs.exp_().scatter_add_(1, target, -torch.ones_like(target, dtype=logs.dtype)).bfloat16()
            to_vectors[rows] = (excess @ half_weight).float()
            to_weight += excess.T @ part
        ctx.save_for_backward(to_vectors / len(vectors), to_weight / len(vectors))
        return total / len(vectors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        to_vectors, to_weight = ctx.saved_tensors
        return gradients[0] * to_vectors, gradients[0] * to_weight, None


def half_softmax(vectors: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """As `sequences.full_softmax`, with products in bfloat16."""
    return torch.as_tensor(_HalfSoftmax.apply(vectors, weight, targets))


def onednn_softmax(vectors: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """As `sequences.full_softmax`, which makes its gradients beside the loss, with products by oneDNN."""
    products: Any = getattr(torch.backends.mkldnn, "matmul")  # noqa: B009
    usual, products.fp32_precision = products.fp32_precision, "bf16"
    try:
        return SOFTMAX(vectors, weight, targets)
    finally:
        products.fp32_precision = usual


def in_this_way(way: str) -> Any:
    """A context in which sequence models are computed in one of the `WAYS`; in the study's for an empty name."""
    if way == "whole batches":
        return patch.object(sequences, "USERS_AT_ONCE", sys.maxsize)
    if way == "softmax by oneDNN":
        return patch.object(sequences, "full_softmax", onednn_softmax)
    return patch.object(sequences, "full_softmax", half_softmax) if way else nullcontext()


class CountedBatches:
    """Another source of batches; `n` counts those of its last epoch."""

    def __init__(self, batches: Any) -> None:
        self.batches, self.n = batches, 0

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield one epoch."""
        self.n = 0
        for batch in self.batches.epoch(generator):
            self.n += 1
            yield batch


def epochs_of(model: NeuralRecommender, train: Any, n_batches: int | None = None) -> tuple[Callable[[], object], Any]:
    """One epoch of training each time it is called, or its first batches; and the batches, which are counted."""
    torch.manual_seed(0)
    device, generator = torch.device("cpu"), torch.Generator().manual_seed(0)
    module, source = model._build(train), model._batches(train, device)
    batches = CountedBatches(FirstBatches(source, n_batches) if n_batches else source)
    optimiser = Adam(module.parameters(), model.learning_rate)
    return lambda: train_epoch(module, batches, model._loss, optimiser, generator, "float32"), batches


def timed(work: Callable[[], object]) -> list[float]:
    """Wall times: of the first call where that is long, else of those after it."""
    times: list[float] = []
    for _ in range(1 + N_EPOCHS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
        if times[0] > LONG_S:
            return times
    return times[1:]


def run_trial(trial: str, way: str = "") -> dict[str, float]:
    """Train in this process, so that what training holds is what the process holds."""
    train, model = split_of(trial).refit, TRIALS[trial].model()
    assert train.by_time is not None  # kept once it is made
    before, n_updates = peak_memory_mb(), 0.0
    with in_this_way(way):
        if isinstance(model, NeuralRecommender):
            epoch, batches = epochs_of(model, train)
            times = timed(epoch)
            n_updates = batches.n
        else:
            times = timed(lambda: model.fit(train))
    found = {"epoch_s": float(np.median(times)), "updates": n_updates}
    return found | {"memory_mb": peak_memory_mb(), "before_mb": before}


def shares(trial: str) -> dict[str, float]:
    """Which share of the processor time of some batches each of the `PARTS` of an epoch takes."""
    model = TRIALS[trial].model()
    assert isinstance(model, NeuralRecommender)
    epoch, _ = epochs_of(model, split_of(trial).refit, N_PROFILED)
    epoch()  # the first one allocates
    with profile() as profiled:
        epoch()
    times = {event.key: event for event in profiled.key_averages()}
    total = sum(event.self_cpu_time_total for event in times.values())
    return {part: times[key].cpu_time_total / total for part, key in PARTS.items()}


def in_a_process(trial: str, threads: int, way: str = "") -> dict[str, float]:
    """What this module prints for a trial, or the shares of an epoch for the way "shares"."""
    line = [sys.executable, "-m", "pipeline.bench.sequences", trial, str(threads), way]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure_sequences(all_threads: int) -> Measured:
    """Seconds of an epoch, updates a second and memory of each trial with one thread; of SASRec also in other ways."""
    measured: Measured = {}
    for trial in reachable():
        found = in_a_process(trial, 1)
        fits = not found["updates"]
        measured[f"{trial}: {'fit' if fits else 'epoch'}"] = (found["epoch_s"], "s")
        if not fits:
            measured[f"{trial}: updates"] = (found["updates"] / found["epoch_s"], "updates/s")
        measured[f"{trial}: peak memory"] = (found["memory_mb"], "MB")
        measured[f"{trial}: memory before training"] = (found["before_mb"], "MB")
    for trial in (name for name in reachable() if name in NETWORKS):
        measured[f"{trial}: epoch, {all_threads} threads"] = (in_a_process(trial, all_threads)["epoch_s"], "s")
        for way in WAYS:
            measured[f"{trial}: epoch, {way}"] = (in_a_process(trial, 1, way)["epoch_s"], "s")
        for part, share in in_a_process(trial, 1, "shares").items():
            measured[f"{trial}: {part}"] = (share, "of an epoch")
    return measured


def reachable() -> list[str]:
    """The trials whose data can be had; the others are named."""
    found = []
    for trial in TRIALS:
        try:
            load(DATA[TRIALS[trial].data])
            found.append(trial)
        except StudyError as error:
            print(f"{trial}: {error}", file=sys.stderr)
    return found


def measure_precision() -> Measured:
    """NDCG@10 on validation rows after equal epochs of SASRec in two ways, and the interval of their difference over users."""
    measured: Measured = {}
    for trial, (n_epochs, n_seeds) in NETWORKS.items():
        if trial not in reachable():
            continue
        split = split_of(trial)
        task = evaluate.RankingTask(split.train, split.validation, cutoffs=(10,))
        sides = {}
        for way in ("", "softmax in bfloat16"):
            values = []
            for seed in range(n_seeds):
                model: Any = TRIALS[trial].model()
                model.epochs = n_epochs
                with in_this_way(way):
                    model.fit(split.train, seed=seed)
                values.append(evaluate.rank(model, task).users["ndcg@10"].to_numpy())
            sides[way] = np.mean(values, axis=0)
        name = f"{trial}: validation NDCG@10 after {n_epochs} epochs"
        measured[name] = (float(sides[""].mean()), "")
        difference = paired_interval(sides["softmax in bfloat16"], sides[""])
        for what, value in zip(("", ", low", ", high"), difference):
            measured[f"{name}, softmax in bfloat16, difference{what}"] = (value, "")
    return measured


def main() -> None:
    """Run one trial in this process."""
    trial, threads, way = sys.argv[1:]
    torch.set_num_threads(int(threads))
    print(json.dumps(shares(trial) if way == "shares" else run_trial(trial, way)))


if __name__ == "__main__":
    main()
