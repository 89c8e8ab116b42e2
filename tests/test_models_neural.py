"""Networks are validated by the judge's metric, on the device that the caller chose."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from boards import SIZE, board, build, rows_of

import recsys_core
from recsys_core.judging import judge


def test_ranking_models_are_validated_by_ndcg_and_rating_models_by_rmse() -> None:
    diagonal = rows_of(np.arange(SIZE), np.arange(SIZE), np.full(SIZE, 5), SIZE + 1, SIZE + 1)
    for name, metric in (("ncf", "ndcg@10"), ("embedding_recommender", "rmse")):
        rows = board(name != "ncf")
        history = build(name, epochs=1).fit(rows, diagonal, judge=judge).history_
        assert history is not None
        assert list(history.epochs[0]) == ["epoch", "train_loss", metric]


def test_no_module_names_a_device_that_the_caller_did_not_choose() -> None:
    """Only what resolves `device=`, and what restores a file before moving it, may name one."""
    hard_coded = re.compile(r"""\.cuda\(|\.to\(\s*["']|device\s*=\s*["'](cpu|cuda|mps)|torch\.device\(\s*["']""")
    root = Path(recsys_core.__file__).parent
    found = {
        f"{path.relative_to(root)}: {line.strip()}"
        for path in root.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if hard_coded.search(line)
    }
    assert found == {
        'train.py: return torch.device("cuda" if torch.cuda.is_available() else "cpu")',
        'models/neural.py: with seeded(0, torch.device("cpu")):',
    }
