"""implicit (B. Frederickson, 2016): implicit alternating least squares, compiled with Cython; an epoch is one iteration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from scipy import sparse

REQUIREMENTS = ["implicit==0.7.3"]
CASES = {
    "iALS, 64 factors, exact, ML-1M's shape": {
        "theirs": {"use_cg": False, "iterations": 5, "rows": "ml-1m.npy"},
        "ours": {"the same": {"model": "ials", "n_iterations": 5, "rows": "ml-1m.npy"}},
        "measures": ["epoch"],
        "goal": {"epoch": 0.5},
    },
    "iALS, 64 factors, 3 conjugate gradients, ML-1M's shape": {
        "theirs": {"use_cg": True, "iterations": 15, "rows": "ml-1m.npy"},
        "ours": {"the same": {"model": "ials", "n_conjugate_steps": 3, "n_iterations": 15, "rows": "ml-1m.npy"}},
        "measures": ["epoch"],
        "goal": {"epoch": 0.667},
    },
}


def prepare(folder: Path, fold: int, settings: dict[str, Any]) -> tuple[Callable[[], Any], None, int]:
    """One thread, single precision, three conjugate gradients where any (its default); the first iteration warms up."""
    users, items = np.load(folder / settings.pop("rows"))
    seen = sparse.csr_matrix((np.ones(len(users), np.float32), (users, items)))
    model = AlternatingLeastSquares(factors=64, num_threads=1, random_state=0, **settings)
    AlternatingLeastSquares(factors=64, num_threads=1, use_cg=settings["use_cg"], iterations=1).fit(seen, False)
    return lambda: model.fit(seen, False), None, settings["iterations"]
