"""Settings of the unit tests, and data that machines may lack: loaded offline, or the test says that it was skipped."""

import pytest
import torch

from recsys_core.datasets import MovieLens, load
from recsys_core.features import encode
from recsys_core.interactions import Interactions
from recsys_core.releases import sources

torch.set_num_threads(1)  # tests run side by side, and sums in one order give the same bits


def offline(name: str) -> MovieLens:
    """Load a published data set from a local folder or the cache; skip the test where there is neither."""
    cached = (sources.DATA / "cache" / name / "meta.json").is_file()
    if not cached and sources.find_local(sources.RELEASES[name])[0] is None:
        pytest.skip(f"{name} is neither cached nor in a local folder (RECSYS_DATA)")
    return load(name)


@pytest.fixture(scope="session")
def ml_100k() -> MovieLens:
    """ML-100K."""
    return offline("ml-100k")


@pytest.fixture(scope="session")
def ml_100k_rows(ml_100k: MovieLens) -> Interactions:
    """ML-100K, coded."""
    return encode(ml_100k)[0]


@pytest.fixture(scope="session")
def ncf_ml_1m() -> MovieLens:
    """The ML-1M files of the NCF paper; their copy in a local folder only."""
    if sources.find_local(sources.RELEASES["ncf-ml-1m"])[0] is None:
        pytest.skip("ncf-ml-1m is in no local folder (RECSYS_DATA)")
    return offline("ncf-ml-1m")
