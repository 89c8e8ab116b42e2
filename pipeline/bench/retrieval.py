"""What one user's ten best films cost, by the size of the catalogue: two towers searched exactly and by an index, and NCF.

The films are synthetic, since no MovieLens release has a million of them: unit vectors around a few hundred centres, as tastes
cluster, with queries from the same mixture. Everything runs on one thread, one query at a time, with the films' side precomputed.
"""

import statistics
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.chapters.vectors import recall_of
from recsys_core.errors import StudyError
from recsys_core.models.ncf import SIZES, Tower
from recsys_core.retrieval import VectorIndex

CATALOGUES = (1_682, 10_000, 100_000, 1_000_000)
WIDTH, CENTRES, NOISE, N_PROBES, K = 32, 300, 0.6, 16, 10


def mixture(n: int, centres: Tensor, generator: torch.Generator) -> Tensor:
    """(n, D) unit vectors around centres drawn at random, with noise of length `NOISE` on average."""
    own = centres[torch.randint(len(centres), (n,), generator=generator)]
    noise = torch.randn(own.shape, generator=generator) * NOISE / own.shape[1] ** 0.5
    return F.normalize(own + noise, dim=1)


def milliseconds(work: Callable[[int], object], n_queries: int) -> float:
    """Median wall time of a query, after one that is not counted."""
    work(0)
    times = []
    for query in range(n_queries):
        start = time.perf_counter()
        work(query)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def measure_retrieval(catalogues: Sequence[int] = CATALOGUES, n_queries: int = 30) -> dict[str, tuple[float, str]]:
    """Milliseconds a query and the index's recall for each catalogue; without faiss there are no rows of the index."""
    threads, generator = torch.get_num_threads(), torch.Generator().manual_seed(0)
    torch.set_num_threads(1)
    centres = F.normalize(torch.randn(CENTRES, WIDTH, generator=generator), dim=1)
    measured: dict[str, tuple[float, str]] = {}
    for n_items in catalogues:
        films, users = mixture(n_items, centres, generator), mixture(n_queries, centres, generator)
        name = f"{n_items:,} films"
        measured[f"DSSM: exact search, {name}"] = _timed(VectorIndex(films), users)
        tower = Tower(n_queries, n_items, **SIZES[3], activation="relu", embedding_std=0.01).eval()
        measured[f"NCF 3 layers: one user, {name}"] = (_ncf(tower, n_queries), "ms")
        try:
            index = VectorIndex(films, n_lists=round(n_items**0.5), n_probes=N_PROBES)
        except StudyError:
            continue
        measured[f"DSSM: index, {name}"] = _timed(index, users)
        recall = recall_of(index.search(users, K)[0], VectorIndex(films).search(users, K)[0])
        measured[f"DSSM: recall@{K} of the index, {name}"] = (recall, "share")
    torch.set_num_threads(threads)
    return measured


def _timed(index: VectorIndex, users: Tensor) -> tuple[float, str]:
    return milliseconds(lambda query: index.search(users[[query]], K), len(users)), "ms"


@torch.inference_mode()
def _ncf(tower: Tower, n_queries: int) -> float:
    return milliseconds(lambda query: tower.score_all(torch.tensor([query])).topk(K), n_queries)
