"""Runs of a stored profile: each is stored at once, what was stopped goes on, nothing is trained twice, and all say their time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers import invented_movielens as data

from pipeline.chapters import confirmed_runs, kept
from pipeline.chapters.candidates import choose
from pipeline.chapters.confirmed_runs import CHECKPOINTS
from pipeline.chapters.experiment import Experiments
from pipeline.chapters.notebook import Notebook
from pipeline.chapters.store import FOLDER
from pipeline.chapters.study import Study
from pipeline.runs.run import is_stored, variables_of
from recsys_core.evaluate import RankingTask, mean_ndcg
from recsys_core.judging import measure
from recsys_core.models.base import Recommender
from recsys_core.models.linear import EASE
from recsys_core.models.ncf import NCF
from recsys_core.splits import Split

PROTOCOLS = ["loo-sampled", "loo-full"]


def study(root: Path, policy: str = "resume") -> Experiments:
    places = (root / "reports/stored/large/cpu", root / "figures")
    return Experiments(Notebook("48_small", {}, "large", *places, root, policy, part="large"), data())


def ncf(**changes: Any) -> NCF:
    settings: dict[str, Any] = {"epochs": 3, "layers": (8,), "device": "cpu", "learning_rate": 0.01}
    return NCF(**(settings | changes))


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What was fitted, in order: "selection" or "refit", and the seed."""
    seen: list[tuple[str, int]] = []
    original = Recommender.fit

    def noted(self: Recommender, *given: Any, **named: Any) -> Recommender:
        if type(self) in (NCF, EASE):
            validation = given[1] if len(given) > 1 else None
            seen.append(("refit" if validation is None else "selection", given[2] if len(given) > 2 else 0))
        return original(self, *given, **named)

    monkeypatch.setattr(Recommender, "fit", noted)
    return seen


def test_who_is_stopped_between_two_seeds_loses_none_that_was_measured(
    fits: list[tuple[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = confirmed_runs.measure
    measured: list[int] = []

    def stopped(*given: Any) -> Any:
        measured.append(1)
        if len(measured) == 2:
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(confirmed_runs, "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path).run("NCF", ncf(), PROTOCOLS, [0, 1], main=False)
    monkeypatch.setattr(confirmed_runs, "measure", original)
    fits.clear()
    again = study(tmp_path)
    again.run("NCF", ncf(), PROTOCOLS, [0, 1])
    # seed 0 is stored under the first protocol; the second one, which shares its fit, was not measured yet
    assert fits == [("refit", 1), ("refit", 0)]
    fits.clear()
    last = study(tmp_path)
    last.run("NCF", ncf(), PROTOCOLS, [0, 1])
    assert not fits
    assert last.results["value"].tolist() == again.results["value"].tolist()
    assert sorted(last.results["seed"].unique()) == [0, 1]


def test_a_training_that_is_stopped_goes_on_from_its_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = study(tmp_path / "whole")
    whole.run("NCF", ncf(), PROTOCOLS[:1], [0])
    epochs: list[int] = []
    batches = NCF._batches

    def counted(self: NCF, *given: Any) -> Any:
        inner = batches(self, *given)
        original = inner.epoch

        def epoch(generator: Any) -> Any:
            epochs.append(1)
            if len(epochs) == 3 and stop:
                raise KeyboardInterrupt
            return original(generator)

        inner.epoch = epoch
        return inner

    monkeypatch.setattr(NCF, "_batches", counted)
    stop = True
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path).run("NCF", ncf(), PROTOCOLS[:1], [0])
    assert len(list((tmp_path / CHECKPOINTS).glob("*-selection-0.checkpoint"))) == 1
    stop = False
    epochs.clear()
    resumed = study(tmp_path)
    resumed.run("NCF", ncf(), PROTOCOLS[:1], [0])
    best = resumed.results["epochs"].iloc[0]
    assert len(epochs) == 1 + best  # the third epoch of the selection, and the final training
    assert resumed.results["value"].tolist() == whole.results["value"].tolist()
    assert not list((tmp_path / CHECKPOINTS).iterdir())
    # of what went on from a checkpoint, only a part of the time is known
    tenths = whole.splits("random-80-10-10")[0]
    cells = [each.runs.cell(ncf(), each.splits(PROTOCOLS[0])[0], tenths) for each in (resumed, whole)]
    times = [cell.selections[0].seconds for cell in cells]
    assert times[0] is None and times[1] is not None and whole.results["seconds"].notna().all()


def test_runs_of_a_stored_profile_are_apart_from_the_studys_and_only_the_policy_that_writes_adds_to_them(
    tmp_path: Path,
) -> None:
    for policy, n_files in (("free", 0), ("resume", 1)):
        study(tmp_path, policy).run("EASE", EASE(), PROTOCOLS[:1], [0], main=False)
        assert len(list((tmp_path / FOLDER / "large").glob("*.json"))) == n_files
    assert not list((tmp_path / FOLDER).glob("*.json"))


def test_a_kept_value_of_a_stored_profile_follows_from_what_it_is_said_to(tmp_path: Path) -> None:
    calls: list[int] = []

    def value() -> float:
        calls.append(1)
        return 0.5

    for of, expected in ((["a"], 1), (["a"], 1), (["b"], 2)):
        runs = study(tmp_path)
        runs.notebook.used.add(f"another run {len(calls)}")
        assert runs.keep("share", value, made_from=of) == 0.5 and len(calls) == expected
    assert kept.kept_file(tmp_path, "48_small", "share", "large").exists()
    assert not kept.kept_file(tmp_path, "48_small", "share").exists()


def test_the_best_candidate_on_validation_goes_on_and_none_is_judged_twice(
    fits: list[tuple[str, int]], tmp_path: Path
) -> None:
    for again in (False, True):
        fits.clear()
        runs = study(tmp_path)
        split = runs.splits("loo-sampled")[0]
        linear = choose(runs, "EASE", [EASE(regularisation=each) for each in (1.0, 1e7, 100.0)], split)
        network = choose(runs, "NCF", [ncf(), ncf(learning_rate=1e-9)], split)
        assert bool(fits) is not again
    assert linear.lines["chosen"].sum() == network.lines["chosen"].sum() == 1
    best = linear.lines["ndcg@10"].idxmax()
    assert linear.lines["chosen"][best] and linear.model.regularisation == (1.0, 1e7, 100.0)[best]  # type: ignore[attr-defined]
    assert network.lines["epochs"].between(1, 3).all() and network.lines["minutes"].notna().all()
    assert "learning rate 1e-09" in network.lines["settings"][1]


def test_users_of_a_kept_table_stand_beside_those_of_runs_and_come_back_without_training(
    fits: list[tuple[str, int]], tmp_path: Path
) -> None:
    def table(model: Recommender, split: Split) -> pd.DataFrame:
        return measure(model, split)[1].assign(variant="read again")[["user", "variant", "ndcg@10"]].round(5)

    saved = []
    for again in (False, True):
        fits.clear()
        runs = study(tmp_path)
        split = runs.splits("loo-full")[0]
        fitted = runs.run("NCF", ncf(), [split], [0], main=False)
        assert hasattr(fitted, "train_") is not again  # what was just fitted serves for the table, too
        runs.note_users("NCF", split, runs.keep("table", partial(table, fitted, split), made_from=["NCF"]))
        runs.save()
        assert len(fits) == (0 if again else 2)
        users = pd.read_parquet(tmp_path / "reports/stored/large/cpu/results/users/48_small.parquet")
        saved.append(users.pivot_table("ndcg@10", "user", ["protocol", "model", "variant"], dropna=False))
    own, noted = (saved[0]["loo-full", "NCF", variant] for variant in ("", "read again"))
    assert len(own) == len(noted.dropna()) and own.tolist() == pytest.approx(noted.tolist(), abs=1e-5)
    assert saved[0].equals(saved[1])


def test_notebooks_of_stored_profiles_and_of_what_runs_these_are_told_to_resume() -> None:
    project = Study()
    assert [is_stored(project, each) for each in ("ml-1m", "gpu", "smoke", "study", "store")] == [True, True] + [
        False
    ] * 3
    assert variables_of("ml-1m", False, True)["RECSYS_POLICY"] == "resume"
    assert "RECSYS_POLICY" not in variables_of("smoke", False)


def test_validation_among_the_splits_negatives_is_another_selection_than_by_the_whole_catalogue(tmp_path: Path) -> None:
    runs = study(tmp_path)
    whole = runs.splits("loo-sampled")[0]
    among = replace(whole, among_negatives=True)
    assert among.sha256 != whole.sha256
    by_all, by_few = (choose(runs, "EASE", [EASE(regularisation=10.0)], each).lines for each in (whole, among))
    fitted = EASE(regularisation=10.0).fit(whole.train)
    for lines, negatives in ((by_all, None), (by_few, whole.negatives)):
        task = RankingTask(whole.train, whole.validation, negatives=negatives, cutoffs=(10,))
        assert lines["ndcg@10"].iloc[0] == pytest.approx(mean_ndcg(fitted, task))
    curves = [choose(runs, "NCF", [ncf()], each).curve for each in (whole, among)]
    model = ncf(epochs=1).fit(whole.train)
    for curve, negatives in zip(curves, (None, whole.negatives)):
        assert curve is not None
        task = RankingTask(whole.train, whole.validation, negatives=negatives, cutoffs=(10,))
        assert curve["ndcg@10"][0] == pytest.approx(mean_ndcg(model, task))
