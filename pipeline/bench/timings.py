"""Speed and memory, measured: `python -m pipeline.bench.timings [--device cpu] [PART …]` writes `reports/timings.csv`, by machine.

Everything that is compared is measured in one run of its part, in turns, and stored as medians. Rows of other machines stay as they
are; with parts named, so do this machine's rows of the others.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from pipeline.bench.content import measure_content
from pipeline.bench.report_s4 import measure_report_s4
from pipeline.bench.retrieval import measure_retrieval
from pipeline.bench.scale import measure_scale, synthetic
from pipeline.bench.sequences import measure_precision, measure_sequences
from pipeline.chapters.results import public_versions
from pipeline.chapters.study import ROOT
from pipeline.command import exit_status
from recsys_core import evaluate
from recsys_core.datasets import load
from recsys_core.errors import StudyError, refuse_unknown
from recsys_core.features import encode
from recsys_core.files import atomic_path
from recsys_core.interactions import Features, Interactions
from recsys_core.models.base import FitTask, Recommender
from recsys_core.models.diverse_ncf import DiverseNCF
from recsys_core.models.linear import EASE
from recsys_core.models.ncf import NCF, SIZES
from recsys_core.models.neumf import Fusion, NeuMF
from recsys_core.models.pairs import PairRecommender
from recsys_core.models.traits import Traits
from recsys_core.models.variational import MultVAE
from recsys_core.optimiser import Adam
from recsys_core.protocols import make_split
from recsys_core.train import resolve_device, train_epoch

TIMINGS = ROOT / "reports" / "timings.csv"
KEY = ["machine", "device"]
TUTORIAL_SAMPLES = 300_000
ROUNDS = 3
Measured = dict[str, tuple[float, str]]
LOOPS: dict[str, Callable[..., PairRecommender]] = {"NCF 3 layers": partial(NCF, **SIZES[3]), "NeuMF-8": NeuMF}


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_name(device: torch.device) -> str:
    """Processor (and accelerator) with the number of cores, as a reader would name the machine."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1] for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = " ".join(names[0].split()) if names else cpu
    name = f"{cpu}, {n_cores()} cores"
    return f"{torch.cuda.get_device_name(device)}; {name}" if device.type == "cuda" else name


@cache
def benchmark_rows() -> tuple[Interactions, str]:
    """The ML-1M rows of the NCF benchmark where they can be had, else synthetic rows of the same shape and skew."""
    try:
        return encode(load("ncf-ml-1m"))[0], "ncf-ml-1m"
    except StudyError:
        return synthetic(6_040, 3_706, 1_000_209), "synthetic, ML-1M's shape"


class _TutorialData(Dataset):
    """What tutorials do: Python lists of positives and of negatives drawn one by one against a set."""

    def __init__(self, train: Interactions, seen: set[tuple[int, int]], n_positives: int) -> None:
        self.samples = []
        for user, item in zip(train.users[:n_positives].tolist(), train.items[:n_positives].tolist()):
            self.samples.append((user, item, 1.0))
            for _ in range(4):
                negative = random.randrange(train.n_items)
                while (user, negative) in seen:
                    negative = random.randrange(train.n_items)
                self.samples.append((user, negative, 0.0))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: int) -> tuple[int, int, float]:
        return self.samples[row]


class _TutorialTower(nn.Module):
    """The 3-layer tower as tutorials write it."""

    def __init__(self, train: Interactions) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(train.n_users, 8), nn.Embedding(train.n_items, 8)
        widths = (16, 32, 16, 8)
        layers = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(8, 1))

    def forward(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([self.users(users), self.items(items)], dim=1)).squeeze(1)


def tutorial_rate(train: Interactions) -> float:
    """Samples per second of the usual loop: Dataset, DataLoader, batch 256, Adam; negatives included, building the set not."""
    tower = _TutorialTower(train)
    optimiser, loss = torch.optim.Adam(tower.parameters(), 1e-3), nn.BCEWithLogitsLoss()
    seen = set(zip(train.users.tolist(), train.items.tolist()))
    start = time.perf_counter()
    data = _TutorialData(train, seen, TUTORIAL_SAMPLES // 5)
    for users, items, labels in DataLoader(data, batch_size=256, shuffle=True):
        optimiser.zero_grad()
        loss(tower(users, items), labels.float()).backward()
        optimiser.step()
    return len(data) / (time.perf_counter() - start)


def epoch_of(model: PairRecommender, train: Interactions, device: torch.device) -> Callable[[], object]:
    """One whole epoch of the study's loop, sampling included, each time it is called."""
    module, batches = model._build(train).to(device), model._batches(train, device)
    optimiser = Adam(module.parameters(), model.learning_rate)
    generator = torch.Generator(device).manual_seed(0)
    return lambda: train_epoch(module, batches, model._loss, optimiser, generator, "float32")


def loop_rate(train: Interactions, device: torch.device, name: str = "NCF 3 layers") -> float:
    """Samples per second of this study's loop over one whole epoch."""
    return 5 * len(train) / seconds(epoch_of(LOOPS[name](batch_size=8192), train, device))


def naive_scores(fusion: Fusion, users: torch.Tensor, users_at_once: int = 64) -> torch.Tensor:
    """NeuMF's (B, I) logits as they are usually computed: every pair with its own concatenated embeddings."""
    product, tower = fusion.product, fusion.tower
    n_items, scores = product.item_embedding.shape[1], []
    for part in users.split(users_at_once):
        rows, items = part.repeat_interleave(n_items), torch.arange(n_items, device=users.device).repeat(len(part))
        factors = product.user_embedding.T[rows] * product.item_embedding.T[items]
        hidden = torch.cat([tower.user_embedding.T[rows], tower.item_embedding.T[items]], dim=1)
        for layer in tower.layers[:-1]:
            hidden = torch.relu(layer(hidden))
        scores.append((product.layers[-1](factors) + tower.layers[-1](hidden)).view(len(part), n_items))
    return torch.cat(scores)


@dataclass(kw_only=True)
class _Given(Recommender):
    """Hands out scores that exist already, so that only the evaluation is timed."""

    traits: ClassVar[Traits] = Traits(form="counts", folds_in=True)

    def _fit(self, task: FitTask) -> None:
        generator = torch.Generator().manual_seed(0)
        self.given = torch.randn(task.train.n_users, task.train.n_items, generator=generator)

    def _scores(self, users: torch.Tensor, history: Interactions) -> torch.Tensor:
        return self.given[users]

    def _state(self) -> dict[str, torch.Tensor]:
        return {}

    def _restore(self, state: dict[str, torch.Tensor]) -> None:
        raise NotImplementedError


def seconds(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Time of one call, wall time unless another clock is given."""
    start = clock()
    work()
    return clock() - start


def side_by_side(device: str, name: str) -> float:
    """Summed samples per second of two processes with one thread each, running at the same time."""
    line = [sys.executable, "-m", "pipeline.bench.timings", "--device", device, "--loop-only", name]
    processes = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    return sum(float(process.communicate()[0]) for process in processes)


def measure_loops(train: Interactions, device: torch.device) -> Measured:
    """Samples per second of the tutorial loop and of this study's, in turns; medians."""
    rates: dict[str, list[float]] = {}
    threads = torch.get_num_threads()
    for _ in range(ROUNDS):
        rates.setdefault("NCF 3 layers: tutorial loop, batch 256", []).append(tutorial_rate(train))
        for count in sorted({1, threads}):
            torch.set_num_threads(count)
            for name in LOOPS:
                rates.setdefault(f"{name}: study's loop, batch 8,192, threads {count}", []).append(
                    loop_rate(train, device, name)
                )
        for name in LOOPS if device.type == "cpu" else ():
            rates.setdefault(f"{name}: study's loop, two processes of one thread", []).append(side_by_side("cpu", name))
    return {name: (statistics.median(values), "samples/s") for name, values in rates.items()}


def measure_neural_filtering(train: Interactions, device: torch.device) -> Measured:
    """NeuMF's scores of everything with and without the split, and what the diversity regulariser adds to an epoch; one thread.

    Where the data have no genres, some are made up. Both epochs are in processor time, in turns, at the report's batch.
    """
    torch.set_num_threads(1)
    flags = np.random.default_rng(0).random((train.n_items, 18)) < 0.1
    genres = Features(flags.astype(np.float32), tuple(f"genre_{number}" for number in range(18)))
    train = train if train.item_features is not None else replace(train, item_features=genres)
    fusion = NeuMF(embedding_std=0.3)._build(train).to(device)  # logits about as large as trained ones
    assert isinstance(fusion, Fusion)
    everyone, epochs = torch.arange(train.n_users, device=device), {}
    scoring = {"": lambda: fusion.score_all(everyone), ", pair by pair": lambda: naive_scores(fusion, everyone)}
    with torch.no_grad():
        turns = [[seconds(job) for job in scoring.values()] for _ in range(ROUNDS)]
        apart = float(max((fusion.score_all(u) - naive_scores(fusion, u)).abs().max() for u in everyone.split(512)))
    for batch_size in (2048, 8192):
        pair = [epoch_of(kind(batch_size=batch_size), train, device) for kind in (NCF, DiverseNCF)]
        both = [[seconds(epoch, time.process_time) for epoch in pair] for _ in range(ROUNDS)]
        plain, regularised = np.median(both, axis=0)
        epochs[f"NCF 3 layers: epoch with diversity regulariser, batch {batch_size:,}"] = (
            float(regularised / plain),
            "of one without",
        )
    torch.set_num_threads(n_cores())
    scored = dict(zip(scoring, np.median(turns, axis=0)))
    measured = {f"NeuMF-8: score every user and film{name}": (float(taken), "s") for name, taken in scored.items()}
    return measured | epochs | {"NeuMF-8: largest difference between the two": (apart, "logits")}


def measure_models(train: Interactions, device: torch.device) -> Measured:
    """Seconds for evaluating, for scoring everything with NCF, and for fitting EASE; medians."""
    split = make_split("loo-full", train)
    task = evaluate.RankingTask(split.refit, split.test)
    given, ncf = _Given().fit(split.refit), NCF(**SIZES[3], epochs=1, batch_size=65_536, device=device.type)
    ncf.fit(split.refit)
    everyone = torch.arange(train.n_users)
    work: dict[str, Callable[[], object]] = {
        "full ranking, all metrics, beyond scoring": lambda: evaluate.rank(given, task),
        "NCF 3 layers: score every user and film": lambda: ncf.score(everyone),
        "EASE: fit": lambda: EASE().fit(split.refit),
    }
    evaluate.rank(given, task)  # caches of the split are built once, before the clock runs
    return {name: (statistics.median(seconds(job) for _ in range(ROUNDS)), "s") for name, job in work.items()}


def measure_autoencoder(device: torch.device) -> Measured:
    """Seconds of an epoch of Mult-VAE on ML-100K at RecBole's widths, whose "latent 128" are 64 means and 64 variances; median."""
    train = make_split("random-80-10-10", encode(load("ml-100k"))[0]).train
    model = MultVAE(hidden_layers=(600,), latent_dim=64, batch_size=2048)
    module, batches = model._build(train).to(device), model._batches(train, device)
    optimiser = Adam(module.parameters(), 1e-3)
    generator = torch.Generator(device).manual_seed(0)

    def epoch() -> None:
        train_epoch(module, batches, model._loss, optimiser, generator, "float32")

    epoch()  # the first one allocates
    times = [seconds(epoch) for _ in range(5 * ROUNDS)]
    return {"Mult-VAE 600 and 64, ML-100K: epoch, batch 2,048": (statistics.median(times), "s")}


def study_runs() -> Measured:
    """Seconds and peak memory of each notebook in the last `make study`, as the pipeline noted them."""
    measured: Measured = {}
    for note in sorted((ROOT / "reports" / "executed" / "study" / "state").glob("*.tsv")):
        row = pd.read_csv(note, sep="\t").iloc[0]
        measured[f"notebook {note.stem}"] = (float(row["s"]), "s")
        measured[f"notebook {note.stem}: peak memory"] = (float(row["max_rss"]), "MB")
    return measured


def measure(name: str, device: torch.device) -> pd.DataFrame:
    """Measure one of the `PARTS` with all cores, as rows of the file."""
    torch.set_num_threads(n_cores())
    work, data = PARTS[name]
    rows = [(what, float(f"{value:.4g}"), unit) for what, (value, unit) in work(device).items()]
    table = pd.DataFrame(rows, columns=["what", "value", "unit"])
    print(table.to_string(index=False), flush=True)
    labels = {"data": data or benchmark_rows()[1], "versions": public_versions()}
    return table.assign(machine=machine_name(device), device=device.type, **labels)[[*KEY, *table.columns, *labels]]


def store(table: pd.DataFrame, everything: bool, path: Path = TIMINGS) -> None:
    """Put the rows of one machine and device into the file, in place of those of the same name, or of all that it had."""
    if path.exists():
        old = pd.read_csv(path)
        key = KEY if everything else [*KEY, "what"]
        replaced = pd.MultiIndex.from_frame(old[key]).isin(pd.MultiIndex.from_frame(table[key]))
        table = pd.concat([old[~replaced], table])
    with atomic_path(path) as temporary:
        table.sort_values([*KEY, "what"]).to_csv(temporary, index=False)


# What is measured, by part, and on which data: where none is named, on the rows of the NCF benchmark.
PARTS: dict[str, tuple[Callable[[torch.device], Measured], str]] = {
    "loops": (lambda device: measure_loops(benchmark_rows()[0], device), ""),
    "models": (lambda device: measure_models(benchmark_rows()[0], device), ""),
    "report-s4": (measure_report_s4, "synthetic, report S4's size"),
    "filtering": (lambda device: measure_neural_filtering(benchmark_rows()[0], device), ""),
    "autoencoder": (measure_autoencoder, "ml-100k"),
    "retrieval": (lambda _: measure_retrieval(), "synthetic vectors"),
    "scale": (lambda _: measure_scale(), "synthetic, ML-20M's size"),
    "sequences": (lambda _: measure_sequences(n_cores()), "ml-100k and sasrec-ml-1m"),
    "precision": (lambda _: measure_precision(), "ml-100k and sasrec-ml-1m"),
    "content": (lambda _: measure_content(), "ml-100k"),
    "notebooks": (lambda _: study_runs(), "ml-100k"),
}
ON_A_PROCESSOR = ("retrieval", "scale", "sequences", "precision", "content")


def measure_parts(parts: Sequence[str], device: torch.device) -> None:
    """Measure and store the named parts, all where none is named."""
    known = [name for name in PARTS if device.type == "cpu" or name not in ON_A_PROCESSOR]
    refuse_unknown("part", list(parts), known)
    store(pd.concat([measure(name, device) for name in parts or known]), not parts)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; errors of the user are one sentence and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.bench.timings", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"what to measure, all where none is named: {', '.join(PARTS)}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--loop-only", choices=LOOPS, help="print this model's samples per second in the loop and stop")
    options = parser.parse_args(arguments)
    if options.loop_only:
        torch.set_num_threads(1)
        print(loop_rate(benchmark_rows()[0], resolve_device(options.device), options.loop_only))
        return 0
    return exit_status(
        lambda: measure_parts(options.parts, resolve_device(options.device)), "stopped; nothing is stored"
    )


if __name__ == "__main__":
    sys.exit(main())
