"""Long runs read what was fitted, continue what was stopped, and save rows that say what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from boards import build
from test_orders import tied

from pipeline.chapters import long_runs
from pipeline.chapters.long_runs import LongRuns, validation_as_test
from recsys_core.models.markov import MarkovChain
from recsys_core.models.sasrec import SASRec
from recsys_core.protocols import make_split


class Saved:
    """A notebook that keeps what was saved last."""

    def __init__(self, root: Path) -> None:
        self.root, self.results, self.users = root, pd.DataFrame(), pd.DataFrame()

    def save_results(self, frame: pd.DataFrame) -> None:
        self.results = frame

    def save_users(self, frame: pd.DataFrame) -> None:
        self.users = frame


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Long runs on small histories, which are no data set's."""

    class Data:
        name, sha256 = "small", "0" * 64

    monkeypatch.setattr(long_runs, "load", lambda name: Data())
    monkeypatch.setattr(long_runs, "encode", lambda data: (tied(), None))
    return LongRuns(Saved(tmp_path), "small")  # type: ignore[arg-type]


def test_validation_rows_become_test_rows_and_test_rows_nothing() -> None:
    split = make_split("loo-full", tied())
    judged = validation_as_test(split)
    assert np.array_equal(judged.test.pair_keys, split.validation.pair_keys)
    assert np.array_equal(judged.train.pair_keys, split.train.pair_keys)
    assert len(judged.train) + len(judged.test) + len(split.test) == len(split.interactions)


def test_a_fitted_model_is_read_with_its_curve_and_other_rows_or_settings_are_another(runs: Any) -> None:
    model = build("sasrec", epochs=2)
    first = runs.fitted(model, runs.split.train, runs.split.validation)
    files = sorted(runs.folder.iterdir())
    again = runs.fitted(model, runs.split.train, runs.split.validation)
    assert again.history_ == first.history_ and len(again.history_.epochs) == 2
    assert sorted(runs.folder.iterdir()) == files and len(files) == 2
    for other, rows in ((model, runs.split.refit), (build("sasrec", epochs=1), runs.split.train)):
        before = len(list(runs.folder.iterdir()))
        runs.fitted(other, rows)
        assert len(list(runs.folder.iterdir())) == before + 2


def test_a_training_that_was_stopped_goes_on_from_its_last_epoch(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, whole = build("sasrec", epochs=3), SASRec._loss
    straight = build("sasrec", epochs=3).fit(runs.split.refit)
    n_batches, stop = [0], [5]  # three a epoch

    def stopped(self: Any, module: Any, *batch: Any) -> Any:
        n_batches[0] += 1
        if n_batches[0] > stop[0]:
            raise KeyboardInterrupt
        return whole(self, module, *batch)

    monkeypatch.setattr(SASRec, "_loss", stopped)
    with pytest.raises(KeyboardInterrupt):
        runs.fitted(model, runs.split.refit)
    n_batches[0], stop[0] = 0, 99
    done = runs.fitted(model, runs.split.refit)
    assert n_batches[0] == 6
    assert done.history_.epochs == straight.history_.epochs


def test_a_run_saves_validation_curve_and_test_and_the_candidate_that_validates_best_counts(runs: Any) -> None:
    chosen = runs.run("SASRec", build("sasrec", epochs=2))
    rows = runs.notebook.results
    curve = rows[rows["role"] == "curve"]
    assert set(curve["variant"]) == {"epoch 001", "epoch 002"} and set(curve["metric"]) == {"train_loss", "ndcg@10"}
    best = curve.query("metric == 'ndcg@10'")["value"].max()
    found = rows.query("metric == 'ndcg@10' and role == ''").set_index("variant")["value"]
    assert set(found.index) == {"validation", ""} and found["validation"] == pytest.approx(best)
    assert chosen.epochs in (1, 2) and chosen.patience is None
    values = [MarkovChain(smoothing=each) for each in (0.0, 1000.0)]
    task = runs._task(runs.split.train, runs.split.validation)
    scores = [long_runs.evaluate.mean_ndcg(model.fit(runs.split.train), task) for model in values]
    assert runs.run("Chain", *values).smoothing == values[int(np.argmax(scores))].smoothing
    assert set(runs.notebook.users["model"]) == {"SASRec", "Chain"}


def test_every_order_learnt_is_measured_in_every_order(runs: Any) -> None:
    runs.by_order("Chain", MarkovChain(), ["true", "shuffled"])
    rows = runs.notebook.results
    assert set(rows["variant"]) == {f"{a} → {b}" for a in ("true", "shuffled") for b in long_runs.READ}
    assert (rows["role"] == "variant").all()
    means = runs.notebook.users.groupby("variant")["hit_ratio@10"].mean()
    stated = rows.query("metric == 'hit_ratio@10'").set_index("variant")["value"]
    assert means.to_dict() == pytest.approx(stated.to_dict())
