"""Experiments keep the rules: selection on validation, refit on training + validation, test read once, rows with provenance."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import invented_movielens as data
from helpers import with_other_rate
from torch import Tensor

from pipeline.chapters.experiment import Experiments
from pipeline.chapters.fits import selected, with_chosen
from pipeline.chapters.gate import TOLERANCES, GivenScores
from pipeline.chapters.notebook import Notebook
from pipeline.chapters.results import public_versions
from pipeline.chapters.store import FOLDER
from recsys_core import train as training
from recsys_core.datasets import Benchmark
from recsys_core.errors import StudyError
from recsys_core.evaluate import RankingTask
from recsys_core.features import encode
from recsys_core.interactions import Features, Interactions
from recsys_core.judging import measure
from recsys_core.models import Recommender
from recsys_core.models.base import fingerprint
from recsys_core.models.baselines import Bias, Popularity
from recsys_core.models.embedding_recommender import EmbeddingRecommender
from recsys_core.models.fpmc import FPMC
from recsys_core.models.linear import EASE
from recsys_core.models.ncf import NCF
from recsys_core.protocols import PROTOCOLS, Protocol, make_split
from recsys_core.splits import Split


def notebook(root: Path, policy: str = "free", **more: Any) -> Notebook:
    return Notebook("30_small", {}, "study", root / "reports", root / "figures", root, policy, **more)


def ncf(**changes: Any) -> NCF:
    settings: dict[str, Any] = {"epochs": 2, "layers": (8,), "device": "cpu", "learning_rate": 0.01}
    return NCF(**(settings | changes))


Fit = tuple[type, Interactions, Interactions | None, int]


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[Fit]:
    """Every fit in order: class, training rows, validation rows, seed."""
    seen: list[Fit] = []
    original = Recommender.fit

    def noted(
        self: Recommender,
        train: Interactions,
        validation: Interactions | None = None,
        seed: int = 0,
        *rest: Any,
        **more: Any,
    ) -> Recommender:
        if not isinstance(self, GivenScores):
            seen.append((type(self), train, validation, seed))
        return original(self, train, validation, seed, *rest, **more)

    monkeypatch.setattr(Recommender, "fit", noted)
    return seen


def random_split() -> Split:
    return make_split("random-80-10-10", encode(data())[0])


def test_the_epoch_is_chosen_on_validation_and_test_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    split = random_split()

    def read_too_early(_: Split) -> Interactions:
        raise AssertionError("test was read")

    monkeypatch.setattr(Split, "test", property(read_too_early))
    monkeypatch.setattr(Split, "test_history", property(read_too_early))
    model = ncf(epochs=3, patience=2)
    selection = selected(model, split, 0)
    final = with_chosen(model, selection)
    assert selection.curve is not None and isinstance(final, NCF)
    assert final.epochs == selection.curve["ndcg@10"].argmax() + 1
    assert final.patience is None
    assert model.epochs == 3


def test_every_seed_is_refitted_on_training_and_validation_rows(fits: list[Fit], tmp_path: Path) -> None:
    Experiments(notebook(tmp_path), data()).run("NCF", ncf(), ["random-80-10-10"], [4, 5])
    split = random_split()
    assert [(kind, seed) for kind, _, _, seed in fits] == [(NCF, 0), (NCF, 4), (NCF, 5)]
    _, train, validation, _ = fits[0]
    assert validation is not None
    assert train.pair_keys.tolist() == split.train.pair_keys.tolist()
    assert validation.pair_keys.tolist() == split.validation.pair_keys.tolist()
    both = np.union1d(split.train.pair_keys, split.validation.pair_keys)
    for _, refit, nothing, _ in fits[1:]:
        assert nothing is None
        assert refit.pair_keys.tolist() == both.tolist()
        assert not np.isin(split.test.pair_keys, refit.pair_keys).any()


def test_models_without_randomness_are_fitted_once_whatever_the_seeds(fits: list[Fit], tmp_path: Path) -> None:
    experiments = Experiments(notebook(tmp_path), data())
    experiments.run("EASE", EASE(), ["random-80-10-10"], [3, 4, 5])
    assert [seed for *_, seed in fits] == [3]
    assert experiments.results["seed"].unique().tolist() == [3]


def test_protocols_that_train_on_the_same_rows_share_one_fit(fits: list[Fit], tmp_path: Path) -> None:
    experiments = Experiments(notebook(tmp_path), data())
    experiments.run("EASE", EASE(), ["loo-full", "loo-sampled"], [0])
    assert len(fits) == 1
    assert set(experiments.results["protocol"]) == {"loo-full", "loo-sampled"}


def test_under_leave_one_out_epochs_are_those_of_the_random_tenths(fits: list[Fit], tmp_path: Path) -> None:
    Experiments(notebook(tmp_path), data()).run("NCF", ncf(), ["loo-full", "loo-sampled"], [4])
    (_, train, validation, chosen_with), (_, refit, _, _) = fits
    tenths, latest = random_split(), make_split("loo-full", encode(data())[0])
    assert validation is not None and chosen_with == 0
    assert train.pair_keys.tolist() == tenths.train.pair_keys.tolist()
    assert validation.pair_keys.tolist() == tenths.validation.pair_keys.tolist()
    assert refit.pair_keys.tolist() == latest.refit.pair_keys.tolist()


def test_what_the_random_tenths_chose_is_not_chosen_again_for_leave_one_out(fits: list[Fit], tmp_path: Path) -> None:
    study = Experiments(notebook(tmp_path, "write"), data())
    study.run("NCF", ncf(), ["random-80-10-10", "loo-full"], [0])
    assert sum(validation is not None for _, _, validation, _ in fits) == 1
    curves = [study.histories["NCF", protocol]["ndcg@10"].tolist() for protocol in ("loo-full", "random-80-10-10")]
    assert curves[0] == pytest.approx(curves[1])


@pytest.mark.parametrize("why", ["reads order", "made by hand", "published"])
def test_what_has_a_validation_of_its_own_under_leave_one_out_chooses_by_it(
    why: str, fits: list[Fit], tmp_path: Path
) -> None:
    split = make_split("loo-full", encode(data())[0])
    study = Experiments(notebook(tmp_path), data())
    if why == "published":
        held_out = np.isin(study.rows.pair_keys, split.test.pair_keys)
        study.data = replace(study.data, benchmark=Benchmark(held_out, np.empty((0, 99), np.int64)))
        (split,) = study.splits("loo-full")
    model = FPMC(epochs=1, device="cpu") if why == "reads order" else ncf()
    study.run("A model", model, [split if why == "made by hand" else "loo-full"], [0])
    assert fits[0][2] is not None
    assert fits[0][2].pair_keys.tolist() == split.validation.pair_keys.tolist()


def test_the_seeds_are_all_run_and_give_different_values(tmp_path: Path) -> None:
    experiments = Experiments(notebook(tmp_path), data())
    returned = experiments.run("NCF", ncf(), ["loo-full"], [0, 1, 7])
    rows = experiments.results.query("metric == 'mrr@25'").set_index("seed")["value"]
    assert rows.index.tolist() == [0, 1, 7]
    assert rows.nunique() == 3
    assert isinstance(returned, NCF)
    line = experiments.board("mrr@25").iloc[0]
    assert line["seeds"] == 3
    assert line["mrr@25"] == pytest.approx(rows.mean())
    assert line["mrr@25 low"] < line["mrr@25"] < line["mrr@25 high"]


def test_no_seed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"seeds=\[\]: give at least one"):
        Experiments(notebook(tmp_path), data()).run("EASE", EASE(), ["loo-full"], [])


def test_every_row_has_its_provenance(tmp_path: Path) -> None:
    experiments = Experiments(notebook(tmp_path), data())
    model = experiments.run("NCF", ncf(), ["random-80-10-10"], [0])
    rows = experiments.results
    assert not rows.drop(columns=["value"]).isna().any().any()
    expected = {
        "dataset": "invented",
        "model": "NCF",
        "settings": "stated",
        "protocol": "random-80-10-10",
        "data_sha256": "ab" * 6,
        "split_sha256": random_split().sha256[:12],
        "versions": public_versions(),
        "device": "cpu",
        "parameters": model.n_parameters,
        "epochs": model.hyperparameters["epochs"],
    }
    assert rows[list(expected)].drop_duplicates().to_dict("records") == [expected]
    settings = {name: value for name, value in ncf().hyperparameters.items() if name != "device"}  # as asked for
    assert rows["settings_sha256"].unique().tolist() == [fingerprint(settings)[:12]]
    assert set(PROTOCOLS["random-80-10-10"].ranking) - set(rows["metric"]) == {"diversity@10", "diversity@25"}


@pytest.mark.parametrize(
    "protocol", [each for each in PROTOCOLS.values() if not each.leaks], ids=lambda each: each.name
)
def test_every_protocol_measures_what_it_promises(protocol: Protocol) -> None:
    split = protocol.splits(encode(data())[0])[0]
    model = Bias().fit(protocol.final_rows(split))
    rows, users = measure(model, split)
    expected = {name for name in protocol.ranking if not name.startswith("diversity")} | (
        {"mse", "rmse", "mae", "accuracy_liked"} if protocol.rating else set()
    )
    assert set(rows["metric"]) == expected
    assert protocol.main in expected
    assert len(users)


def test_rating_errors_equal_hand_computed_ones() -> None:
    split = make_split("rating-5fold", encode(data())[0], fold=2)
    model = Bias().fit(split.refit)
    stars = np.array([model.predict(*_pair(split.test, row), *_history(model, split, row)).item() for row in range(9)])
    few = Split(split.interactions, _only(split, 9), split.protocol)
    values = measure(model, few)[0].set_index("metric")["value"]
    errors = stars - few.test.ratings
    assert values["mae"] == pytest.approx(np.abs(errors).mean(), abs=1e-6)
    assert values["mse"] == pytest.approx((errors**2).mean(), abs=1e-6)
    assert values["rmse"] == pytest.approx(np.sqrt((errors**2).mean()), abs=1e-6)
    assert values["accuracy_liked"] == np.mean((stars >= 3.5) == (few.test.ratings >= 4))


def _pair(rows: Interactions, row: int) -> tuple[Tensor, Tensor]:
    return torch.tensor([rows.users[row]]), torch.tensor([rows.items[row]])


def _history(model: Recommender, split: Split, row: int) -> tuple[()] | tuple[Interactions]:
    known = split.refit.user_counts[split.test.users[row]] > 0
    return () if known else (split.refit.take(np.arange(0)),)


def _only(split: Split, n_test: int) -> np.ndarray:
    """Roles with the first `n_test` test rows alone."""
    roles = split.roles.copy()
    roles[np.flatnonzero(roles & 4)[n_test:]] = 0
    return roles


def test_rating_protocols_are_left_out_for_models_that_only_rank(tmp_path: Path) -> None:
    experiments = Experiments(notebook(tmp_path), data())
    experiments.run("popularity", Popularity(), ["rating-5fold", "loo-full"], [0])
    assert experiments.results["protocol"].unique().tolist() == ["loo-full"]
    with pytest.raises(StudyError, match="popularity predicts no ratings, which is all that rating-5fold measures"):
        experiments.run("popularity", Popularity(), ["rating-5fold"], [0])


def test_five_folds_give_five_variants(tmp_path: Path) -> None:
    experiments = Experiments(notebook(tmp_path), data())
    experiments.run("bias", Bias(), ["rating-5fold"], [0])
    assert experiments.results["variant"].unique().tolist() == [f"fold={fold}" for fold in range(1, 6)]


def test_a_rating_model_is_selected_by_its_rating_error(tmp_path: Path) -> None:
    experiments = Experiments(notebook(tmp_path), data())
    model = EmbeddingRecommender(epochs=2, device="cpu")
    experiments.run("S2.1", model, ["random-80-10-10"], [0])
    assert list(experiments.histories["S2.1", "random-80-10-10"]) == ["epoch", "train_loss", "rmse"]


def test_curves_are_those_of_the_first_split_and_of_the_latest_settings(tmp_path: Path) -> None:
    experiments = Experiments(notebook(tmp_path), data())
    for epochs in (2, 3):
        model = EmbeddingRecommender(epochs=epochs, patience=None, device="cpu")
        experiments.run("S2.1", model, experiments.splits("rating-5fold")[:2], [0], f"{epochs} epochs")
    first = experiments.validated("S2.1", model, experiments.splits("rating-5fold")[0])
    assert experiments.histories["S2.1", "rating-5fold"].equals(first.curve)
    assert len(experiments.histories["S2.1", "rating-5fold"]) == 3


def committed(root: Path, seeds: list[int]) -> Experiments:
    experiments = Experiments(notebook(root), data())
    experiments.run("NCF", ncf(), ["loo-full"], seeds)
    experiments.save()
    return experiments


def test_results_are_saved_tidy_and_read_back(tmp_path: Path) -> None:
    experiments = committed(tmp_path, [0, 1])
    rows = pd.read_csv(tmp_path / "reports/results/30_small.csv")
    assert len(rows) == len(experiments.results)
    assert not rows.duplicated(["protocol", "variant", "dataset", "model", "settings", "seed", "metric"]).any()
    users = pd.read_parquet(tmp_path / "reports/results/users/30_small.parquet")
    assert len(users) == 40
    by_seed = experiments.results.query("metric == 'ndcg@10'")["value"]
    assert users["ndcg@10"].mean() == pytest.approx(by_seed.mean(), abs=1e-5)


Seeds = list[int]


def study(
    root: Path, policy: str, model: Recommender | None = None, seeds: Seeds | None = None, **more: Any
) -> Experiments:
    """A small study: one model under two protocols."""
    experiments = Experiments(notebook(root, policy, **more), data())
    experiments.run("NCF", model or ncf(), ["random-80-10-10", "loo-full"], seeds or [0, 1, 2])
    return experiments


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A project whose store holds the small study, with allowances for the path of training."""
    study(tmp_path, "write")
    steps = ("1 updates", "10 updates", "100 updates", "first epoch")
    (tmp_path / TOLERANCES).write_text(json.dumps(dict.fromkeys(steps, 1e-4)))
    return tmp_path


def seeds_of(fits: list[Fit]) -> list[int]:
    return [seed for *_, seed in fits]


def same(ours: pd.DataFrame, theirs: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(ours.reset_index(drop=True), theirs.reset_index(drop=True), check_dtype=False)


def test_what_is_stored_is_taken_and_the_first_seed_and_split_trained_again(fits: list[Fit], stored: Path) -> None:
    made = study(stored, "first")
    for policy, trained in (("first", [0]), ("free", [0]), ("prefix", [0]), ("write", [0]), ("main", [0, 1, 2, 0])):
        fits.clear()
        again = study(stored, policy)
        assert seeds_of(fits) == trained, policy
        same(again.results, made.results)
        same(again.users, made.users)
        assert list(again.histories) == [("NCF", "random-80-10-10"), ("NCF", "loo-full")]


def test_everything_is_trained_again_where_all_is_verified(fits: list[Fit], stored: Path) -> None:
    made = study(stored, "first")
    fits.clear()
    again = study(stored, "all")
    assert seeds_of(fits) == [0, 1, 2, 0] * 2
    same(again.results, made.results)


def test_the_path_of_training_is_compared_after_one_epoch(stored: Path) -> None:
    log = stored / "log.csv"
    model = Experiments(notebook(stored, "prefix", log=log), data()).run("NCF", ncf(), ["random-80-10-10"], [0, 1, 2])
    assert model.history_ is not None and len(model.history_.epochs) == 1
    checks = pd.read_csv(log)
    assert (checks["verdict"] == "confirmed").all()
    assert {"path", "exact"} == set(checks["kind"])
    assert checks["what"].str.contains("NCF .stated., random-80-10-10, seed 0, first epoch").any()


def test_a_run_that_is_not_stored_is_an_error_that_names_the_command(stored: Path) -> None:
    for policy in ("first", "prefix", "main", "all"):
        with pytest.raises(
            StudyError, match=r"nothing is stored of NCF .*seed 3, which is new: `make store NOTEBOOK=30_small`"
        ):
            study(stored, policy, seeds=[0, 3])
        with pytest.raises(StudyError, match="nothing is stored"):
            study(stored, policy, ncf(n_negatives=7))


def test_a_run_that_is_not_stored_is_trained_elsewhere_and_stored_only_where_that_is_asked_for(
    fits: list[Fit], stored: Path
) -> None:
    before = sorted(path.name for path in (stored / FOLDER).iterdir())
    fits.clear()
    study(stored, "free", seeds=[0, 3])
    assert seeds_of(fits) == [0, 3, 3]
    assert sorted(path.name for path in (stored / FOLDER).iterdir()) == before
    study(stored, "write", seeds=[0, 3])
    fits.clear()
    study(stored, "first", seeds=[0, 3])
    assert seeds_of(fits) == [0]


def slower(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant a fault: training steps are two hundredths too small."""
    monkeypatch.setattr(training, "Adam", with_other_rate(0.98))


def test_a_contradiction_is_an_error_that_says_which_number_and_by_how_much(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slower(stored, monkeypatch)
    before = {path: path.read_bytes() for path in (stored / FOLDER).iterdir()}
    with pytest.raises(
        StudyError, match=r"30_small contradicts what is stored.*first epoch: .* now, .* stored, .* apart"
    ):
        study(stored, "first")
    assert {path: path.read_bytes() for path in (stored / FOLDER).iterdir()} == before


def test_where_nothing_is_confirmed_a_changed_program_trains_all_seeds_anew(
    fits: list[Fit], stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = study(stored, "first")
    slower(stored, monkeypatch)
    fits.clear()
    again = Experiments(notebook(stored), data())
    again.run("NCF", ncf(), ["random-80-10-10"], [0, 1, 2])
    assert seeds_of(fits) == [
        0,
        0,
        0,
        1,
        2,
    ]  # the first seed for the stored epoch, the selection, and all seeds for its epoch
    mine = made.results[made.results["protocol"] == "random-80-10-10"]
    assert not np.allclose(again.results["value"], mine["value"], atol=1e-9)


def test_a_seed_that_is_stored_without_its_users_is_compared_before_it_is_shown(
    fits: list[Fit], stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiments = Experiments(notebook(stored), data())
    cell = experiments.runs.store.cell(experiments.runs.identity(ncf(), random_split()))
    cell.mean_of, cell.mean_users = [0, 1, 2], cell.users_of([0, 1, 2])
    cell.runs = {seed: replace(run, users=None) for seed, run in cell.runs.items()}
    experiments.runs.store.write(cell)
    curve = cell.selections[0].curve
    assert curve is not None
    for changed in (False, True):
        if changed:
            slower(stored, monkeypatch)
        fits.clear()
        experiments.run("NCF", ncf(), ["random-80-10-10"], [0])
        shown = experiments.histories["NCF", "random-80-10-10"]
        assert np.allclose(shown["train_loss"], curve["train_loss"]) != changed
        assert (len(seeds_of(fits)) > 1) == changed  # validation chooses again, and all seeds are trained


def test_replacing_takes_the_fresh_run_as_the_new_one(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = study(stored, "first")
    slower(stored, monkeypatch)
    replaced = study(stored, "first", replace=True)
    first = replaced.results.query("seed == 0 and protocol == 'random-80-10-10'")["value"].to_numpy()
    assert not np.allclose(first, made.results.query("seed == 0 and protocol == 'random-80-10-10'")["value"], atol=1e-9)
    same(study(stored, "first").results, replaced.results)


def test_models_without_chance_are_compared_metric_by_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(policy: str) -> None:
        Experiments(notebook(tmp_path, policy), data()).run("Bias", Bias(), ["rating-5fold"], [0])

    run("write")
    run("first")
    original = Bias.fit

    def fit(self: Bias, train: Interactions, *rest: Any, **more: Any) -> Bias:
        fitted = original(self, train, *rest, **more)
        fitted.mean += 1e-4
        return fitted

    monkeypatch.setattr(Bias, "fit", fit)
    with pytest.raises(
        StudyError, match=r"contradicts what is stored \(\d such\): Bias .stated., rating-5fold fold=1, seed 0"
    ):
        run("first")


def test_what_given_scores_are_worth_is_compared_before_any_model(
    stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = RankingTask.candidates

    def unmasked(self: RankingTask, scores: Tensor, users: np.ndarray) -> Tensor:
        """Plant a fault: validation rows are recommended again."""
        masked = original(self, scores.clone(), users)
        return torch.where(torch.rand(scores.shape, generator=torch.Generator().manual_seed(0)) < 0.1, scores, masked)

    monkeypatch.setattr(RankingTask, "candidates", unmasked)
    with pytest.raises(StudyError, match=r"contradicts what is stored .*: given scores, random-80-10-10"):
        study(stored, "prefix")


def test_a_model_that_need_not_be_shown_is_only_read(fits: list[Fit], stored: Path) -> None:
    fits.clear()
    experiments = Experiments(notebook(stored, "first"), data())
    experiments.run("NCF", ncf(), ["random-80-10-10"], [0, 1], main=False)
    assert not fits
    assert experiments.results["seed"].unique().tolist() == [0, 1]


def test_a_selection_is_read_where_it_is_stored(fits: list[Fit], tmp_path: Path) -> None:
    made = Experiments(notebook(tmp_path, "write"), data()).validated("wide", ncf(), random_split())
    fits.clear()
    again = Experiments(notebook(tmp_path, "first"), data()).validated("wide", ncf(), random_split())
    assert not fits
    assert again.chosen == made.chosen
    np.testing.assert_allclose(again.curve, made.curve, rtol=1e-6)
    with pytest.raises(StudyError, match="nothing is stored of the selection of wide, seed 1"):
        Experiments(notebook(tmp_path, "first"), data()).validated("wide", ncf(), random_split(), 1)


def test_a_fit_on_other_rows_is_compared_by_how_it_begins(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_split().train

    def train(policy: str) -> Recommender:
        return Experiments(notebook(stored, policy), data()).train("part", ncf(), rows, seed=3)

    with pytest.raises(StudyError, match="nothing is stored of part, seed 3"):
        train("all")
    train("write")
    train("all")
    slower(stored, monkeypatch)
    with pytest.raises(StudyError, match=r"contradicts what is stored.*part, seed 3"):
        train("all")


def test_three_seeds_are_stored_of_a_networks_first_fold_and_one_is_reported(fits: list[Fit], tmp_path: Path) -> None:
    network = EmbeddingRecommender(epochs=1, device="cpu")
    (tmp_path / TOLERANCES).parent.mkdir(parents=True)
    for policy, expected in (("write", [0, 0, 1, 2]), ("write", [0]), ("prefix", [0])):
        fits.clear()
        experiments = Experiments(notebook(tmp_path, policy), data())
        folds = experiments.splits("rating-5fold")
        (tmp_path / TOLERANCES).write_text('{"first epoch": 1e-4, "1 updates": 1e-4}')
        experiments.run("S2.1", network, folds[:1], [0, 1])
        assert seeds_of(fits) == expected
        assert experiments.results["seed"].unique().tolist() == [0]


def test_rows_without_their_attributes_are_another_run(tmp_path: Path) -> None:
    experiments = Experiments(notebook(tmp_path), data())
    split = random_split()
    assert experiments.runs.identity(ncf(), split).split == split.sha256[:12]
    attributes = Features(np.zeros((split.interactions.n_users, 1), np.float32), ("age",))
    told = replace(split, interactions=replace(split.interactions, user_features=attributes))
    assert experiments.runs.identity(ncf(), told).split.startswith(f"{split.sha256[:12]}+")


def test_a_fold_is_one_seed_and_its_first_is_trained(fits: list[Fit], tmp_path: Path) -> None:
    for policy, n_fits in (("write", 5), ("first", 1)):
        fits.clear()
        experiments = Experiments(notebook(tmp_path, policy), data())
        experiments.run("Bias", Bias(), ["rating-5fold"], [0, 1])
        assert len([kind for kind, *_ in fits if kind is Bias]) == n_fits
        assert experiments.results["variant"].nunique() == experiments.users["variant"].nunique() == 5


def test_metrics_of_the_notebook_join_the_results_with_the_provenance_of_their_run(tmp_path: Path) -> None:
    study = Experiments(notebook(tmp_path), data())
    study.run("Bias", Bias(), ["rating-5fold"], [0])
    split = study.splits("rating-5fold")[1]
    study.add("Bias", split, {"mse_train": 0.25})
    added = study.results[study.results["metric"] == "mse_train"].iloc[0]
    assert (added["value"], added["variant"], added["split_sha256"]) == (0.25, "fold=2", split.sha256[:12])
    with pytest.raises(StudyError, match="EASE was not run under rating-5fold fold=2"):
        study.add("EASE", split, {"mse_train": 0.25})


def test_rows_say_the_family_of_their_model_and_whether_the_run_is_a_variant(tmp_path: Path) -> None:
    experiments = Experiments(notebook(tmp_path), data())
    experiments.run("EASE", EASE(), ["random-80-10-10"], [0])
    experiments.run("EASE, weak", EASE(regularisation=1.0), ["random-80-10-10"], [0], variant=True)
    found = experiments.results.groupby("model")[["family", "role"]].first().to_numpy().tolist()
    assert found == [[EASE.family, ""], [EASE.family, "variant"]]
    assert experiments.beside().without_variants().users["model"].unique().tolist() == ["EASE"]


def test_rows_of_other_chapters_stand_beside_those_that_were_run_here(tmp_path: Path) -> None:
    other = Experiments(replace(notebook(tmp_path), name="10_small"), data())
    other.run("Popularity", Popularity(), ["random-80-10-10", "loo-full"], [0])
    other.run("EASE", EASE(regularisation=1.0), ["random-80-10-10"], [0])
    other.save()
    experiments = Experiments(notebook(tmp_path), data())
    experiments.run("EASE", EASE(), ["random-80-10-10"], [0])
    both = experiments.beside("10_small", models=["Popularity"], protocol="random-80-10-10")
    assert sorted(both.board("ndcg@10")["model"]) == ["EASE", "Popularity"]
    line = both.compare("ndcg@10", [("EASE", "Popularity")]).line("EASE", "Popularity")
    means = both.users.groupby("model")["ndcg@10"].mean()
    assert line["difference"] == pytest.approx(means["EASE"] - means["Popularity"], abs=1e-5)
    assert experiments.compare("ndcg@10", [("EASE", "Popularity")], only_present=True).table().empty


def test_curves_and_boards_are_drawn_and_saved(tmp_path: Path) -> None:
    experiments = Experiments(notebook(tmp_path), data())
    experiments.run("NCF", ncf(patience=2), ["random-80-10-10"], [0])
    for figure, name in ((experiments.curves(), "curves"), (experiments.figure("ndcg@10"), "ndcg")):
        assert figure.axes and (tmp_path / "figures" / f"{name}.png").exists()
