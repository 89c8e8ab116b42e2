"""What is allowed at the beginning of training follows from what arithmetic alone does there."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.bench.tolerances import ARITHMETICS, FOLDER, asks_for_runs, spreads
from pipeline.chapters.study import ROOT, Study


def test_a_spread_is_the_largest_over_runs_as_a_share_of_the_loss(tmp_path: Path) -> None:
    values = {"native": (0.5, 2.0), "avx2": (0.5, 2.0002), "compatible": (0.50001, 2.0)}
    for arithmetic in ARITHMETICS:
        log = tmp_path / FOLDER / arithmetic / "log"
        log.mkdir(parents=True)
        rows = [
            (f"{run}, first epoch", "path", now, 0.5 if run == "a" else 2.0001)
            for run, now in zip("ab", values[arithmetic])
        ]
        rows += [("a, rows", "exact", "f00", "f00"), ("a, 1 updates", "path", 0.7, 0.7007)]
        pd.DataFrame(rows, columns=["what", "kind", "now", "stored"]).to_csv(log / "30_small.csv", index=False)
    found = spreads(tmp_path)
    assert found["first epoch"] == pytest.approx(0.0002 / 2.0002)
    assert found["1 updates"] == pytest.approx(0.0007 / 0.7007)  # as stored


def test_chapters_that_run_models_are_measured() -> None:
    names = [name for name in Study(ROOT).notebooks if asks_for_runs(Study(ROOT), name)]
    assert {"12_factorization", "30_ncf", "38_variational_autoencoders"} <= set(names)
    assert "45_ranking" not in names
