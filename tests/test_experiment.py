"""Experiments keep the rules: selection on validation, refit on training + validation, test read once, rows with provenance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import invented_movielens as data
from torch import Tensor

from pipeline.experiment import Experiments
from pipeline.notebook import Notebook
from pipeline.results import public_versions
from recsys_core.errors import StudyError
from recsys_core.features import encode
from recsys_core.interactions import Interactions
from recsys_core.models import EASE, NCF, Bias, EmbeddingRecommender, Popularity, Recommender
from recsys_core.models.base import fingerprint
from recsys_core.protocols import MEASUREMENTS, measure, select_epochs
from recsys_core.splits import PROTOCOLS, Split, make_split, thinned


def notebook(root: Path, check: bool = False, **parameters: Any) -> Notebook:
    return Notebook("30_small", parameters, None, root / "reports", root / "figures", check, root)


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
        self: Recommender, train: Interactions, validation: Interactions | None = None, seed: int = 0, *rest: Any
    ) -> Recommender:
        seen.append((type(self), train, validation, seed))
        return original(self, train, validation, seed, *rest)

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
    selected, final = select_epochs(ncf(epochs=3, patience=2), split)
    assert selected.history_ is not None
    assert isinstance(final, NCF)
    assert final.epochs == selected.history_.best_epoch
    assert final.patience is None
    assert "ndcg@10" in selected.history_.epochs[0]


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


def test_the_seeds_are_all_run_and_give_different_values(tmp_path: Path) -> None:
    experiments = Experiments(notebook(tmp_path), data())
    returned = experiments.run("NCF", ncf(), ["loo-full"], [0, 1, 7])
    rows = experiments.results.query("metric == 'mrr@25'").set_index("seed")["value"]
    assert rows.index.tolist() == [0, 1, 7]
    assert rows.nunique() == 3
    assert isinstance(returned, NCF)
    line = experiments.board("loo-full", "mrr@25").iloc[0]
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
    assert set(MEASUREMENTS["random-80-10-10"].ranking) - set(rows["metric"]) == {"diversity@10", "diversity@25"}


@pytest.mark.parametrize("protocol", sorted(set(PROTOCOLS) & set(MEASUREMENTS) - {"as-reported"}))
def test_every_protocol_measures_what_it_promises(protocol: str) -> None:
    split = make_split(protocol, encode(data())[0])
    model = Bias().fit(split.refit)
    rows, users = measure(model, split)
    plan = MEASUREMENTS[protocol]
    expected = {name for name in plan.ranking if not name.startswith("diversity")} | (
        {"mse", "rmse", "mae", "accuracy_liked"} if plan.rating else set()
    )
    assert set(rows["metric"]) == expected
    assert plan.main in expected
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


def test_checking_trains_the_first_seed_alone_and_reads_the_others(fits: list[Fit], tmp_path: Path) -> None:
    made = committed(tmp_path, [0, 1])
    fits.clear()
    checked = Experiments(notebook(tmp_path, check=True), data())
    checked.run("NCF", ncf(), ["loo-full"], [0, 1])
    assert [seed for *_, seed in fits] == [0, 0]  # selection and the first seed
    key = ["seed", "metric"]
    ours, theirs = (frame.sort_values(key)[[*key, "value"]].to_numpy() for frame in (checked.results, made.results))
    assert (ours[:, :2] == theirs[:, :2]).all()
    np.testing.assert_allclose(ours[:, 2].astype(float), theirs[:, 2].astype(float), atol=1e-6)


def test_checking_trains_on_the_first_of_several_parts_of_a_fold_and_reads_the_others(
    fits: list[Fit], tmp_path: Path
) -> None:
    fold = make_split("rating-5fold", encode(data())[0])
    made = Experiments(notebook(tmp_path), data())
    made.run("Bias", Bias(), [thinned(fold, share) for share in (0.5, 1.0)], [0])
    made.save()
    fits.clear()
    checked = Experiments(notebook(tmp_path, check=True), data())
    checked.run("Bias", Bias(), [thinned(fold, share) for share in (0.5, 1.0)], [0])
    assert [len(train) for _, train, *_ in fits] == [240]
    for fresh, stored in ((checked.results, made.results), (checked.users, made.users)):
        assert sorted(fresh["variant"]) == sorted(stored["variant"])
    assert checked.check()


def test_later_folds_are_taken_as_stored_only_if_nothing_differs(fits: list[Fit], tmp_path: Path) -> None:
    made = Experiments(notebook(tmp_path), data())
    folds = made.splits("rating-5fold")
    made.run("Bias", Bias(), folds, [0])
    made.save()
    (tmp_path / "reports/stored/full/cpu").mkdir(parents=True)
    (tmp_path / "reports/results").rename(tmp_path / "reports/stored/full/cpu/results")
    changed = Bias(user_regularisation=77.0)
    for model, stored, n_fits in ((Bias(), [2, 3, 4, 5], 1), (Bias(), [1, 2, 3, 4, 5], 0), (changed, [2, 3, 4, 5], 5)):
        fits.clear()
        study = Experiments(notebook(tmp_path, stored_folds=stored), data())
        study.run("Bias", model, folds, [0])
        assert len(fits) == n_fits
        assert study.results["variant"].nunique() == study.users["variant"].nunique() == 5
    fits.clear()
    again = Experiments(notebook(tmp_path, stored_folds=[2, 3, 4, 5]), data())
    again.run("Bias", Bias(), folds, [0])
    key = ["variant", "metric"]
    ours, theirs = (frame.sort_values(key)["value"].to_numpy(float) for frame in (again.results, made.results))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert sorted(again.users.columns) == sorted(made.users.columns) and len(again.users) == len(made.users)


def test_later_seeds_are_taken_as_stored_only_if_the_first_comes_out_as_stored(fits: list[Fit], tmp_path: Path) -> None:
    seeds, protocols = [0, 1, 2], ["random-80-10-10", "loo-full", "loo-sampled"]
    made = Experiments(notebook(tmp_path), data())
    made.run("NCF", ncf(), protocols, seeds)
    made.save()
    everything = [seed for *_, seed in fits]
    place = tmp_path / "reports/stored/seeds/cpu"
    place.mkdir(parents=True)
    (tmp_path / "reports/results").rename(place / "results")

    def run(stored: list[int], model: Recommender, *whole: str, check: bool = False) -> Experiments:
        fits.clear()
        study = Experiments(notebook(tmp_path, check, stored_seeds=stored, stored_protocols=list(whole)), data())
        study.run("NCF", model, protocols, seeds)
        assert sorted(study.results["seed"].unique()) == seeds
        return study

    again = run([1, 2], ncf())
    assert [seed for *_, seed in fits] == [0] * 4  # of two trainings, each chooses its epoch and learns again
    key = ["protocol", "seed", "metric"]
    ours, theirs = (frame.sort_values(key)["value"].to_numpy(float) for frame in (again.results, made.results))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    theirs_of_all = theirs
    key = ["protocol", "user"]
    ours, theirs = (frame.sort_values(key)["ndcg@10"].to_numpy(float) for frame in (again.users, made.users))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    run([1], ncf())
    assert [seed for *_, seed in fits] == everything
    for leave_one_out in (run([1, 2], ncf(), *protocols[1:]), again):
        ours = leave_one_out.results.sort_values(["protocol", "seed", "metric"])["value"].to_numpy(float)
        np.testing.assert_allclose(ours, theirs_of_all, atol=1e-6)
    leave_one_out.save()
    checked = run([1, 2], ncf(), *protocols[1:], check=True)
    assert len(fits) == 2 and len(checked.results) == len(made.results) and len(checked.users) == len(made.users)
    run([1, 2], ncf(learning_rate=0.02))
    assert [seed for *_, seed in fits] == everything
    results = place / "results/30_small.csv"
    table = pd.read_csv(results)
    table.loc[table["seed"] == 0, "value"] += 1e-5
    table.to_csv(results, index=False)
    run([1, 2], ncf())
    assert [seed for *_, seed in fits] == everything


def test_a_stored_protocol_of_several_variants_is_taken_up_whole(fits: list[Fit], tmp_path: Path) -> None:
    made = Experiments(notebook(tmp_path), data())
    made.run("EASE", EASE(), ["user-holdout"], [0])
    made.save()
    place = tmp_path / "reports/stored/seeds/cpu"
    place.mkdir(parents=True)
    (tmp_path / "reports/results").rename(place / "results")
    fits.clear()
    again = Experiments(notebook(tmp_path, stored_protocols=["user-holdout"]), data())
    again.run("EASE", EASE(), ["user-holdout"], [0])
    assert not fits
    for ours, theirs in ((again.results, made.results), (again.users, made.users)):
        assert sorted(ours["variant"]) == sorted(theirs["variant"])


def test_checking_notices_a_changed_result(tmp_path: Path) -> None:
    committed(tmp_path, [0])
    checked = Experiments(notebook(tmp_path, check=True), data())
    checked.run("NCF", ncf(learning_rate=0.5, epochs=1), ["loo-full"], [0])
    with pytest.raises(StudyError, match=r"NCF, loo-full .* committed, more than"):
        checked.check()


def test_checking_without_committed_results_fails(tmp_path: Path) -> None:
    checked = Experiments(notebook(tmp_path, check=True), data())
    with pytest.raises(StudyError, match="no committed results to compare with"):
        checked.check()


def test_metrics_of_the_notebook_join_the_results_with_the_provenance_of_their_run(tmp_path: Path) -> None:
    study = Experiments(notebook(tmp_path), data())
    study.run("Bias", Bias(), ["rating-5fold"], [0])
    split = study.splits("rating-5fold")[1]
    study.add("Bias", split, {"mse_train": 0.25})
    added = study.results[study.results["metric"] == "mse_train"].iloc[0]
    assert (added["value"], added["variant"], added["split_sha256"]) == (0.25, "fold=2", split.sha256[:12])
    with pytest.raises(StudyError, match="EASE was not run under rating-5fold fold=2"):
        study.add("EASE", split, {"mse_train": 0.25})


def of_folds(root: Path, check: bool, *models: str) -> Experiments:
    experiments = Experiments(notebook(root, check), data())
    for name in models:
        experiments.run(name, Bias(), ["rating-5fold"], [0])
    return experiments


def test_checking_trains_the_first_fold_alone_and_reads_the_others(fits: list[Fit], tmp_path: Path) -> None:
    made = of_folds(tmp_path, False, "Bias")
    made.save()
    assert len(fits) == 5
    first = fits[0][1]
    fits.clear()
    checked = of_folds(tmp_path, True, "Bias")
    assert [train.pair_keys.tolist() for _, train, _, _ in fits] == [first.pair_keys.tolist()]
    for ours, theirs, key in ((checked.results, made.results, "metric"), (checked.users, made.users, "user")):
        ours, theirs = (frame.sort_values(["variant", key], ignore_index=True) for frame in (ours, theirs))
        pd.testing.assert_frame_equal(ours[theirs.columns], theirs, check_dtype=False, atol=1e-5)
    checked.check()


def test_rows_of_other_folds_are_those_that_were_committed(tmp_path: Path) -> None:
    of_folds(tmp_path, False, "Bias").save()
    table = tmp_path / "reports/results/30_small.csv"
    rows = pd.read_csv(table)
    rows.loc[(rows["variant"] == "fold=4") & (rows["metric"] == "rmse"), "value"] = 0.125
    rows.to_csv(table, index=False)
    found = of_folds(tmp_path, True, "Bias").results.query("metric == 'rmse'").set_index("variant")["value"]
    assert found.index.tolist() == [f"fold={fold}" for fold in range(1, 6)]
    assert found["fold=4"] == 0.125


def test_a_model_reads_no_folds_of_another(tmp_path: Path) -> None:
    of_folds(tmp_path, False, "Bias").save()
    checked = of_folds(tmp_path, True, "Bias", "another")
    assert checked.results.query("model == 'another'")["variant"].unique().tolist() == ["fold=1"]
    assert set(checked.users.query("model == 'another'")["variant"]) == {"fold=1"}


def test_checking_notices_a_change_in_the_first_fold(tmp_path: Path) -> None:
    of_folds(tmp_path, False, "Bias").save()
    checked = Experiments(notebook(tmp_path, check=True), data())
    checked.run("Bias", Bias(user_regularisation=100.0), ["rating-5fold"], [0])
    with pytest.raises(StudyError, match="Bias, rating-5fold fold=1"):
        checked.check()
