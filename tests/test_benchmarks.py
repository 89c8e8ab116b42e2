"""`make timings`: parts of it keep the other rows; what is measured at a large size works at a small one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.bench import timings
from pipeline.bench.scale import AT_SCALE, TRIALS, FirstBatches, peak_memory_mb, run_trial, synthetic
from recsys_core.sampling import Rows

SHAPE = (300, 200, 6_000)


def rows(**values: object) -> pd.DataFrame:
    labels = {"machine": "here", "device": "cpu", "what": "EASE: fit", "value": 1.0, "unit": "s"}
    return pd.DataFrame([labels | {"data": "invented", "versions": "torch=2"} | values])


def test_a_part_replaces_its_own_rows_and_a_whole_run_all_rows_of_its_machine(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "timings.csv"
    timings.store(pd.concat([rows(), rows(what="gone"), rows(machine="there")]), True, path)
    timings.store(rows(value=2.0), False, path)
    assert pd.read_csv(path)[["machine", "what", "value"]].values.tolist() == [
        ["here", "EASE: fit", 2.0],
        ["here", "gone", 1.0],
        ["there", "EASE: fit", 1.0],
    ]
    timings.store(rows(value=3.0), True, path)
    assert pd.read_csv(path)["value"].tolist() == [3.0, 1.0]


def test_an_unknown_part_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert timings.main(["speed"]) == 1
    assert capsys.readouterr().err.startswith("error: part='speed' is not known: allowed are loops")


def test_synthetic_rows_have_the_shape_asked_for_no_repeated_pair_and_popular_items() -> None:
    made = synthetic(*SHAPE)
    assert (made.n_users, made.n_items, len(made)) == SHAPE
    assert len(np.unique(made.pair_keys)) == len(made)
    counts = np.sort(made.item_counts)
    assert counts[-20:].sum() > 5 * counts[:20].sum()


@pytest.mark.parametrize("name", TRIALS)
def test_each_trial_trains_ranks_and_tells_its_memory(name: str) -> None:
    found = run_trial(name, SHAPE)
    assert found["fit_s"] > 0 and found["rank_s"] > 0
    assert 100 < found["memory_mb"] <= peak_memory_mb()
    assert 250 < found["n_ranked"] <= SHAPE[0]


def test_a_short_epoch_ends_after_so_many_batches() -> None:
    batches = FirstBatches(Rows(4, torch.arange(20)), 2)
    assert [len(batch) for (batch,) in batches.epoch(torch.Generator())] == [4, 4]


def test_each_row_at_scale_names_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.bench.scale.TRIALS", {"iALS": TRIALS["iALS"]})
    measured = timings.measure_scale(SHAPE)
    assert [unit for _, unit in measured.values()] == ["MB", "s", "s"]
    assert all(what.startswith(f"iALS{AT_SCALE}: ") for what in measured)
