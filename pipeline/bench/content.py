"""What content of films costs on ML-100K, one thread: reading it, its vectors, an epoch of the towers on them."""

import statistics
from collections.abc import Callable

import torch

from pipeline.bench.sequences import Measured, epochs_of, timed
from recsys_core.content import film_content, with_content
from recsys_core.datasets import load
from recsys_core.features import encode
from recsys_core.models.content_based import ContentBased
from recsys_core.models.content_towers import ContentTowers, HybridTowers
from recsys_core.protocols import make_split

KINDS = ("title", "genres", "year", "graph")
DIM = 64
TOWERS = {"Content towers": ContentTowers, "Content and id towers": HybridTowers}


def measure_content() -> Measured:
    """Seconds, medians after a first call; the sources are on disk by then."""
    torch.set_num_threads(1)
    data = load("ml-100k")
    content = film_content(data, KINDS)
    train = make_split("random-80-10-10", with_content(encode(data)[0], data, list(content.tokens), DIM)).train
    named = ", ".join(content.tokens)
    work: dict[str, Callable[[], object]] = {
        f"Content on ML-100K: reading {named}": lambda: film_content(data, list(content.tokens)),
        f"Content on ML-100K: vectors of {DIM} numbers of {named}": lambda: content.vectors(DIM),
        "Content by genres on ML-100K: fit": lambda: ContentBased().fit(train),
    }
    for name, model in TOWERS.items():
        work[f"{name} on ML-100K: epoch"] = epochs_of(model(device="cpu"), train)[0]
    return {name: (statistics.median(timed(job)), "s") for name, job in work.items()}
