"""Speed and memory, measured: `python -m pipeline.benchmarks [--device cpu]` writes `reports/timings.csv`, keyed by machine.

Everything that is compared is measured in one run, in turns, and stored as medians. Rows of other machines stay as they are.
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
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from pipeline.results import public_versions
from pipeline.study import ROOT
from recsys_core import evaluate
from recsys_core.datasets import load
from recsys_core.errors import StudyError
from recsys_core.features import encode
from recsys_core.files import atomic_path
from recsys_core.interactions import Interactions
from recsys_core.losses import binary_cross_entropy
from recsys_core.models import EASE, NCF, MultVAE
from recsys_core.models.base import FitTask, Recommender, Traits
from recsys_core.models.ncf import SIZES, Tower
from recsys_core.sampling import PositivesAndNegatives
from recsys_core.splits import make_split
from recsys_core.train import resolve_device, train_epoch

TIMINGS = ROOT / "reports" / "timings.csv"
KEY = ["machine", "device"]
TUTORIAL_SAMPLES = 300_000
ROUNDS = 3


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


def benchmark_rows() -> tuple[Interactions, str]:
    """The ML-1M rows of the NCF benchmark where they can be had, else synthetic rows of the same shape and skew."""
    try:
        return encode(load("ncf-ml-1m"))[0], "ncf-ml-1m"
    except StudyError:
        return synthetic(6_040, 3_706, 1_000_209), "synthetic, ML-1M's shape"


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


def loop_rate(train: Interactions, device: torch.device, batch_size: int = 8192) -> float:
    """Samples per second of this study's loop over one whole epoch, sampling included."""
    tower = Tower(train.n_users, train.n_items, **SIZES[3], activation="relu", embedding_std=0.01).to(device)
    batches = PositivesAndNegatives(train, batch_size, 4, device)
    optimiser = torch.optim.Adam(tower.parameters(), 1e-3, fused=True)
    generator = torch.Generator(device).manual_seed(0)

    def loss(module: nn.Module, *batch: torch.Tensor) -> torch.Tensor:
        return binary_cross_entropy(module(*batch))

    start = time.perf_counter()
    train_epoch(tower, batches, loss, optimiser, generator, "float32")
    return 5 * len(train) / (time.perf_counter() - start)


@dataclass(kw_only=True)
class _Given(Recommender):
    """Hands out scores that exist already, so that only the evaluation is timed."""

    traits: ClassVar[Traits] = Traits(folds_in=True)

    def _fit(self, task: FitTask) -> None:
        generator = torch.Generator().manual_seed(0)
        self.given = torch.randn(task.train.n_users, task.train.n_items, generator=generator)

    def _scores(self, users: torch.Tensor, history: Interactions) -> torch.Tensor:
        return self.given[users]

    def _state(self) -> dict[str, torch.Tensor]:
        return {}

    def _restore(self, state: dict[str, torch.Tensor]) -> None:
        raise NotImplementedError


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def side_by_side(device: str) -> float:
    """Summed samples per second of two processes with one thread each, running at the same time."""
    line = [sys.executable, "-m", "pipeline.benchmarks", "--device", device, "--loop-only"]
    processes = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    return sum(float(process.communicate()[0]) for process in processes)


def measure_loops(train: Interactions, device: torch.device) -> dict[str, tuple[float, str]]:
    """Samples per second of the tutorial loop and of this study's, in turns; medians."""
    rates: dict[str, list[float]] = {}
    threads = torch.get_num_threads()
    for _ in range(ROUNDS):
        rates.setdefault("tutorial loop, batch 256", []).append(tutorial_rate(train))
        for count in sorted({1, threads}):
            torch.set_num_threads(count)
            rates.setdefault(f"study's loop, batch 8,192, threads {count}", []).append(loop_rate(train, device))
        if device.type == "cpu":
            rates.setdefault("study's loop, two processes of one thread", []).append(side_by_side("cpu"))
    return {f"NCF 3 layers: {name}": (statistics.median(values), "samples/s") for name, values in rates.items()}


def measure_models(train: Interactions, device: torch.device) -> dict[str, tuple[float, str]]:
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


def measure_autoencoder(device: torch.device) -> dict[str, tuple[float, str]]:
    """Seconds of an epoch of Mult-VAE on ML-100K at RecBole's widths, whose "latent 128" are 64 means and 64 variances; median."""
    train = make_split("random-80-10-10", encode(load("ml-100k"))[0]).train
    model = MultVAE(hidden_layers=(600,), latent_dim=64, batch_size=2048)
    module, batches = model._build(train).to(device), model._batches(train, device)
    optimiser = torch.optim.Adam(module.parameters(), 1e-3, fused=True)
    generator = torch.Generator(device).manual_seed(0)

    def epoch() -> None:
        train_epoch(module, batches, model._loss, optimiser, generator, "float32")

    epoch()  # the first one allocates
    times = [seconds(epoch) for _ in range(5 * ROUNDS)]
    return {"Mult-VAE 600 and 64, ML-100K: epoch, batch 2,048": (statistics.median(times), "s")}


def study_runs() -> dict[str, tuple[float, str]]:
    """Seconds and peak memory of each notebook in the last `make study`, as the pipeline noted them."""
    measured: dict[str, tuple[float, str]] = {}
    for note in sorted((ROOT / "reports" / "executed" / "study" / "state").glob("*.tsv")):
        row = pd.read_csv(note, sep="\t").iloc[0]
        measured[f"notebook {note.stem}"] = (float(row["s"]), "s")
        measured[f"notebook {note.stem}: peak memory"] = (float(row["max_rss"]), "MB")
    return measured


def main() -> None:
    """Measure and store; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--loop-only", action="store_true", help="print the loop's samples per second and stop")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    train, data = benchmark_rows()
    if arguments.loop_only:
        torch.set_num_threads(1)
        print(loop_rate(train, device))
        return
    torch.set_num_threads(n_cores())
    measured = measure_loops(train, device) | measure_models(train, device) | measure_autoencoder(device) | study_runs()
    table = pd.DataFrame(
        [{"what": what, "value": float(f"{value:.4g}"), "unit": unit} for what, (value, unit) in measured.items()]
    )
    table = table.assign(machine=machine_name(device), device=device.type, data=data, versions=public_versions())
    table.loc[table["what"].str.startswith(("notebook", "Mult-VAE")), "data"] = "ml-100k"
    table = table[[*KEY, "what", "value", "unit", "data", "versions"]]
    print(table[["what", "value", "unit"]].to_string(index=False))
    if TIMINGS.exists():
        old = pd.read_csv(TIMINGS)
        table = pd.concat([old[(old[KEY] != table[KEY].iloc[0]).any(axis=1)], table])
    with atomic_path(TIMINGS) as path:
        table.sort_values([*KEY, "what"]).to_csv(path, index=False)


if __name__ == "__main__":
    main()
