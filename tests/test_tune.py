"""`make tune` searches on validation rows alone, gives the same bytes again, and its spaces and stored trials fit the models."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from helpers import invented_movielens

from pipeline.bench import tune
from pipeline.bench.trial_log import TrialLog
from pipeline.chapters.notebook import Notebook
from pipeline.chapters.study import ROOT, TUNED, TUNED_AGAIN, TUNED_APART, TUNED_WIDELY
from pipeline.chapters.tuned import FOLDER, PARTS, read_trials, read_tuned, tuned_file
from recsys_core import evaluate
from recsys_core.errors import StudyError
from recsys_core.features import encode
from recsys_core.models import MODELS
from recsys_core.models.baselines import Bias
from recsys_core.models.registry import SEARCHES, WIDE_SEARCHES, Searched
from recsys_core.models.settings import between
from recsys_core.protocols import make_split
from recsys_core.splits import Split


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Invented data, and searches side by side in threads of this process instead of in new ones."""
    monkeypatch.setattr(tune, "load", lambda _: invented_movielens())
    monkeypatch.setattr(tune, "ProcessPoolExecutor", lambda jobs, *_, **__: ThreadPoolExecutor(jobs))
    optuna.logging.set_verbosity(optuna.logging.WARNING)


EVERY = pytest.mark.parametrize(
    "searched",
    [*SEARCHES.values(), *WIDE_SEARCHES.values()],
    ids=[*SEARCHES, *(f"{name}, wide" for name in WIDE_SEARCHES)],
)


@EVERY
def test_every_setting_that_is_searched_is_one_of_its_model_and_the_rest_is_fixed(searched: Searched) -> None:
    known = {field.name for field in fields(searched.kind)}  # type: ignore[arg-type]
    assert searched.space and set(searched.space) <= known
    assert set(searched.fixed) <= known - set(searched.space)


@EVERY
@pytest.mark.parametrize("end", [0, -1])
def test_models_accept_both_ends_of_their_space(searched: Searched, end: int) -> None:
    ends = {
        key: json.dumps(span[end]) if isinstance(span, list) else (span.low, span.high)[end]
        for key, span in searched.space.items()
    }
    settings = tune.settings_of(ends, searched.space)
    model = searched.kind(**searched.fixed, **settings)
    assert {key: getattr(model, key) for key in settings} == {key: tupled(value) for key, value in settings.items()}


def tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize("name", sorted(SEARCHES))
def test_stated_settings_are_a_trial_where_they_lie_inside(name: str) -> None:
    kind, space = SEARCHES[name].kind, SEARCHES[name].space
    first = tune.stated(kind, space)
    if first is not None:
        found = tune.settings_of(first, space)
        assert {key: tupled(value) for key, value in found.items()} == {key: getattr(kind(), key) for key in space}


def test_stated_settings_outside_the_space_are_no_trial() -> None:
    assert tune.stated(Bias, {"user_regularisation": between(500.0, 900.0)}) is None
    assert tune.stated(Bias, {"user_regularisation": [500.0]}) is None


def test_the_first_trial_is_the_stated_one_and_the_best_is_the_lowest_error() -> None:
    found = tune.search("bias", "invented", 5, "cpu")
    assert found["trials"][0]["settings"] == {key: getattr(Bias(), key) for key in SEARCHES["bias"].space}
    assert [trial["number"] for trial in found["trials"]] == list(range(5))
    best = min(found["trials"], key=lambda trial: trial["value"])
    assert (found["metric"], found["value"], found["best"]) == ("rmse", best["value"], best["settings"])


@pytest.mark.parametrize(("protocol", "split_by"), [("", "rating-5fold"), ("random-80-10-10", "random-80-10-10")])
def test_the_value_of_a_trial_is_the_error_on_the_validation_rows_of_the_split(protocol: str, split_by: str) -> None:
    split = make_split(split_by, encode(invented_movielens())[0])
    assert split.variant in ("", "fold=1")
    found = tune.search("bias", "invented", 2, "cpu", protocol=protocol)
    trial = found["trials"][1]
    assert found["protocol"] == split_by
    rated = evaluate.rate(Bias(**trial["settings"]).fit(split.train), split.train, split.validation)
    assert trial["value"] == pytest.approx(np.sqrt(rated["squared_error"].mean()), abs=1e-6)


@pytest.mark.parametrize("protocol", ["", "random-80-10-10"])
@pytest.mark.parametrize("name", ["bias", "svd"])
def test_the_search_never_reads_test_rows(name: str, protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_too_early(_: Split) -> None:
        raise AssertionError("test was read")

    for rows in ("test", "test_history", "refit"):
        monkeypatch.setattr(Split, rows, property(read_too_early))
    assert len(tune.search(name, "invented", 2, "cpu", protocol=protocol)["trials"]) == 2


def test_settings_that_all_trials_share_reach_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def noted(model: Any, split: Split, seed: int) -> float:
        seen.append((model.epochs, model.patience, model.device))
        return 1.0

    monkeypatch.setattr(tune, "validated", noted)
    tune.search("svd", "invented", 2, "cpu")
    assert seen == [(60, 3, "cpu")] * (2 + len(tune.FRESH_SEEDS))


def test_a_search_under_a_name_of_its_own_is_about_the_model_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "validated", lambda model, split, seed: float(model.likelihood == "logistic"))
    assert SEARCHES["mult_vae_logistic"].kind is MODELS["mult_vae"]
    found = tune.search("mult_vae_logistic", "invented", 2, "cpu")
    assert (found["model"], found["value"]) == ("mult_vae_logistic", 1.0)


def test_the_same_search_gives_the_same_bytes(tmp_path: Path) -> None:
    written = []
    for root in (tmp_path / "one", tmp_path / "other"):
        tune.tune(root, ["bias", "svd"], "invented", n_trials=3)
        written.append([tuned_file(root, name).read_bytes() for name in ("bias", "svd")])
    assert written[0] == written[1]


def test_a_stored_search_is_skipped_and_another_one_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tune.tune(tmp_path, ["bias"], "invented", n_trials=2)
    path = tuned_file(tmp_path, "bias")
    path.write_text(path.read_text().replace('"value"', '"value" '))
    before = path.read_bytes()
    tune.tune(tmp_path, ["bias"], "invented", n_trials=2)
    assert path.read_bytes() == before
    assert f"bias: stored already; remove {FOLDER}/bias.json to search again" in capsys.readouterr().out
    tune.tune(tmp_path, ["bias"], "invented", n_trials=3)
    assert read_trials(tmp_path, "bias")["n_trials"] == 3
    assert not tune.is_stored(tmp_path, "bias", "cd" * 32, 3)
    assert tune.is_stored(tmp_path, "bias", "ab" * 32, 3)


def test_a_changed_space_is_searched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tune.tune(tmp_path, ["bias"], "invented", n_trials=2)
    changed = replace(SEARCHES["bias"], space={"user_regularisation": between(1.0, 2.0)})
    monkeypatch.setitem(SEARCHES, "bias", changed)
    assert not tune.is_stored(tmp_path, "bias", "ab" * 32, 2)


def widely(monkeypatch: pytest.MonkeyPatch, name: str, **settings: Any) -> None:
    """Let `name` have other values for some settings in its wide search."""
    searched = WIDE_SEARCHES[name]
    monkeypatch.setitem(WIDE_SEARCHES, name, replace(searched, space=searched.space | settings))


def test_a_wide_search_begins_with_the_stated_settings_and_takes_over_the_trials_that_lie_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tune.tune(tmp_path, ["bias"], "invented", n_trials=6)
    earlier = read_trials(tmp_path, "bias")["trials"]
    bound = sorted(trial["settings"]["user_regularisation"] for trial in earlier[1:])[2]
    widely(monkeypatch, "bias", user_regularisation=between(bound, 900.0))
    tune.tune(tmp_path, ["bias"], "invented", n_trials=9, settings=TUNED_WIDELY)
    found = read_trials(tmp_path, "bias", TUNED_WIDELY)
    inside = [each for each in earlier[1:] if each["settings"]["user_regularisation"] >= bound]
    assert len(inside) == 3 and len(found["trials"]) == 9
    first, *others = [{key: trial[key] for key in ("value", "settings")} for trial in found["trials"]]
    assert first == {key: earlier[0][key] for key in ("value", "settings")}, "the stated ones, which lie outside"
    assert others[:3] == [{key: trial[key] for key in ("value", "settings")} for trial in inside]
    assert all(bound <= trial["settings"]["user_regularisation"] <= 900 for trial in others)
    assert found["value"] == min(trial["value"] for trial in found["trials"]), "no chance, so that its best trial wins"
    assert read_tuned(tmp_path, "bias", TUNED_WIDELY) == found["best"]


def test_trials_with_other_fixed_settings_are_not_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tune.tune(tmp_path, ["bias"], "invented", n_trials=3)
    assert len(tune.earlier_trials(tmp_path, "bias")) == 3
    monkeypatch.setitem(WIDE_SEARCHES, "bias", replace(WIDE_SEARCHES["bias"], fixed={"n_iterations": 3}))
    assert tune.earlier_trials(tmp_path, "bias") == []


def test_finalists_of_a_wide_search_are_scored_with_fresh_seeds_and_their_mean_chooses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[float, int]] = []

    def noted(model: Any, split: Split, seed: int) -> float:
        """The best trial owes its place to its seed."""
        asked.append((model.learning_rate, seed))
        return model.learning_rate if seed == 0 else -model.learning_rate

    monkeypatch.setattr(tune, "validated", noted)
    found = tune.search("svd", "invented", 8, "cpu", TUNED_WIDELY)
    ordered = sorted(found["trials"], key=lambda trial: trial["value"])  # an error: the least is best
    assert [each["number"] for each in found["again"]] == [trial["number"] for trial in ordered[: tune.N_FINALISTS]]
    assert {seed for _, seed in asked} == {0, *tune.FRESH_SEEDS}
    last = ordered[tune.N_FINALISTS - 1]
    assert found["best"] == last["settings"] and found["value"] == pytest.approx(-last["value"], abs=1e-6)


def test_a_model_without_a_space_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(StudyError, match=r"MODELS='popularity' is not known: allowed are .*bias"):
        tune.tune(tmp_path, ["popularity"], "invented")
    assert tune.main(["popularity", "--dataset", "invented"]) == 1
    assert capsys.readouterr().err.startswith("error: MODELS='popularity'")


def opened(root: Path) -> Notebook:
    return Notebook("12_small", {}, None, root / "reports", root / "figures", root)


def test_a_notebook_gets_no_settings_for_stated_and_the_best_trial_for_tuned(tmp_path: Path) -> None:
    assert opened(tmp_path).hyperparameters("svd", "stated") == {}
    tune.tune(tmp_path, ["svd"], "invented", n_trials=2)
    found = opened(tmp_path).hyperparameters("svd", "tuned")
    assert found == {"epochs": 60, "patience": 3} | read_trials(tmp_path, "svd")["best"] == read_tuned(tmp_path, "svd")
    MODELS["svd"](**found)


def test_a_model_that_was_not_tuned_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=rf"There is no {FOLDER}/svd.json: run `make tune MODELS=svd` first"):
        opened(tmp_path).hyperparameters("svd", "tuned")
    with pytest.raises(
        StudyError, match=rf"There is no {FOLDER}/wide/svd.json: run `make tune WIDE=1 MODELS=svd` first"
    ):
        opened(tmp_path).hyperparameters("svd", "tuned widely")
    with pytest.raises(
        StudyError, match="settings='best' is not known: allowed are stated, tuned, tuned widely, tuned apart"
    ):
        opened(tmp_path).hyperparameters("svd", "best")


@pytest.mark.parametrize("path", sorted((ROOT / FOLDER / "wide").glob("*.json")), ids=lambda path: path.stem)
def test_wide_searches_that_are_stored_are_those_of_the_spaces_and_their_finalists_are_their_best(path: Path) -> None:
    stored = json.loads(path.read_text())
    assert tune.is_stored(ROOT, path.stem, stored["data_sha256"], tune.N_WIDE_TRIALS, TUNED_WIDELY)
    kind = WIDE_SEARCHES[path.stem].kind
    assert stored["trials"][0]["settings"] == {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in ((key, getattr(kind(), key)) for key in WIDE_SEARCHES[path.stem].space)
    }
    values = np.array([trial["value"] for trial in stored["trials"]]) * (-1 if stored["metric"] == "rmse" else 1)
    assert len(values) == tune.N_WIDE_TRIALS
    finalists = [each["number"] for each in stored["again"]]
    assert values[finalists].min() >= np.delete(values, finalists).max()
    kind(**read_tuned(ROOT, path.stem, TUNED_WIDELY))


@pytest.mark.parametrize("path", sorted((ROOT / FOLDER).glob("*.json")), ids=lambda path: path.stem)
def test_what_the_study_stores_is_what_its_spaces_ask_for(path: Path) -> None:
    stored = json.loads(path.read_text())
    assert tune.is_stored(ROOT, path.stem, stored["data_sha256"], tune.N_TRIALS)
    values = [trial["value"] for trial in stored["trials"]]
    assert len(values) == tune.N_TRIALS
    assert stored["value"] == (min if stored["metric"] == "rmse" else max)(values)
    SEARCHES[path.stem].kind(**read_tuned(ROOT, path.stem))


def test_a_search_apart_never_sees_the_tenth_that_another_split_tests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits: list[Split] = []
    original = tune.validated
    monkeypatch.setattr(tune, "validated", lambda model, split, seed=0: splits.append(split) or original(model, split))
    tune.tune(tmp_path, ["ease"], "invented", n_trials=2, settings=TUNED_APART)
    other = make_split("random-80-10-10", encode(invented_movielens())[0], tenth=3)
    assert {split.sha256 for split in splits} == {other.sha256}
    assert len(read_trials(tmp_path, "ease", TUNED_APART)["trials"]) == 2
    with pytest.raises(StudyError, match=r"There is no .*tuning/ease\.json: run `make tune MODELS=ease` first"):
        read_tuned(tmp_path, "ease")


def test_only_models_of_random_tenths_are_searched_apart(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="MODELS='svd' is not known"):
        tune.tune(tmp_path, ["svd"], "invented", n_trials=1, settings=TUNED_APART)


@pytest.mark.parametrize("options", [["--wide", "1", "--apart", "1"], ["--apart", "1", "--sampler", "2"]])
def test_a_search_is_of_one_kind(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert tune.main(["ease", *options]) == 1
    assert "are searches of their own: ask for one of them." in capsys.readouterr().err
    assert tune.main(["ease", "--sampler", "3"]) == 1
    assert "SAMPLER='3' is not known: allowed are , 1, 2" in capsys.readouterr().err


def test_what_a_search_found_is_scored_again_with_seeds_that_chose_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tune.tune(tmp_path, ["svd"], "invented", n_trials=2)
    path = tuned_file(tmp_path, "svd")
    whole = json.loads(path.read_text())
    fresh = whole.pop("fresh")
    assert len(fresh) == len(tune.FRESH_SEEDS) and len({*fresh, whole["value"]}) > 1
    path.write_text(json.dumps(whole))
    tune.add_fresh(tmp_path, [], "invented")
    assert read_trials(tmp_path, "svd")["fresh"] == fresh
    capsys.readouterr()
    tune.add_fresh(tmp_path, ["svd"], "invented")
    assert not capsys.readouterr().out


def stopped_after(monkeypatch: pytest.MonkeyPatch, n_fits: int) -> list[Any]:
    """What is fitted from now on; after so many fits there is one interruption."""
    original, fitted, interrupted = tune.validated, [], []

    def counted(*given: Any) -> float:
        if len(fitted) == n_fits and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        fitted.append(given)
        return original(*given)

    monkeypatch.setattr(tune, "validated", counted)
    return fitted


def test_a_search_that_is_stopped_goes_on_after_its_last_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tune.tune(tmp_path / "whole", ["svd"], "invented", n_trials=4)
    fitted = stopped_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        tune.tune(tmp_path, ["svd"], "invented", n_trials=4)
    assert tune.log_file(tmp_path, "svd", TUNED).exists() and not tuned_file(tmp_path, "svd").exists()
    tune.tune(tmp_path, ["svd"], "invented", n_trials=4)
    assert len(fitted) == 4 + len(tune.FRESH_SEEDS)
    assert tuned_file(tmp_path, "svd").read_bytes() == tuned_file(tmp_path / "whole", "svd").read_bytes()
    assert not tune.log_file(tmp_path, "svd", TUNED).exists()


def test_trials_of_another_space_are_forgotten_and_a_line_that_was_cut_off_too(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert TrialLog(path, {"space": 1}).value({"x": 1}, 0, lambda: 0.5) == 0.5
    with path.open("a") as file:
        file.write('["cut')
    assert TrialLog(path, {"space": 1}).value({"x": 1}, 0, lambda: 0.7) == 0.5
    assert TrialLog(path, {"space": 2}).value({"x": 1}, 0, lambda: 0.7) == 0.7


def test_another_sampler_begins_with_the_same_trial_and_draws_others(tmp_path: Path) -> None:
    names = ("tuned", *TUNED_AGAIN)
    for settings in names:
        tune.tune(tmp_path, ["ease"], "invented", n_trials=3, settings=settings)
    first, second, third = (read_trials(tmp_path, "ease", settings)["trials"] for settings in names)
    assert first[0] == second[0] == third[0]
    assert len({str(trials[2]["settings"]) for trials in (first, second, third)}) == 3


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (settings, path.stem)
        for settings in (TUNED_APART, *TUNED_AGAIN)
        for path in sorted((ROOT / FOLDER / PARTS[settings]).glob("*.json"))
    ],
)
def test_further_searches_that_are_stored_are_those_of_the_spaces(settings: str, name: str) -> None:
    stored = read_trials(ROOT, name, settings)
    assert tune.is_stored(ROOT, name, stored["data_sha256"], tune.N_TRIALS, settings)
    assert stored["value"] == max(trial["value"] for trial in stored["trials"])


@pytest.mark.parametrize("settings", [TUNED, TUNED_WIDELY])
def test_a_search_in_a_journal_finds_alone_what_a_search_without_one_finds(tmp_path: Path, settings: str) -> None:
    for root, shared in ((tmp_path / "one", False), (tmp_path / "other", True)):
        tune.tune(root, ["bias"], "invented", n_trials=4)
        tune.tune(root, ["bias", "svd"], "invented", n_trials=14, settings=settings, shared=shared)
    one, other = (
        [tuned_file(root, name, settings).read_bytes() for name in ("bias", "svd")]
        for root in (tmp_path / "one", tmp_path / "other")
    )
    assert one == other and not list(tmp_path.rglob("*.journal*"))


SHARE = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from helpers import invented_movielens
from concurrent.futures import ThreadPoolExecutor
from pipeline.bench import tune
import time
tune.load, validated = (lambda _: invented_movielens()), tune.validated
tune.ProcessPoolExecutor = lambda jobs, *_, **__: ThreadPoolExecutor(jobs)
Path(sys.argv[2]).touch()
while len(list(Path(sys.argv[1]).glob("begun*"))) < 2:
    time.sleep(0.05)
def slowly(*given):
    time.sleep(0.3)
    return validated(*given)
tune.validated = slowly
tune.tune(Path(sys.argv[1]), ["bias"], "invented", n_trials=12, shared=True)
"""


def test_two_processes_make_the_trials_of_one_search_together(tmp_path: Path) -> None:
    places = [str(ROOT), str(ROOT / "tests")]
    lines = [[sys.executable, "-c", SHARE, str(tmp_path), str(tmp_path / f"begun{i}"), *places] for i in range(2)]
    workers = [subprocess.Popen(line, stderr=subprocess.PIPE, text=True) for line in lines]
    said = [worker.communicate(timeout=120)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    found = read_trials(tmp_path, "bias")
    assert found["workers"] == 2 and [trial["number"] for trial in found["trials"]] == list(range(12))
    assert len({json.dumps(trial["settings"]) for trial in found["trials"]}) == 12, "none was made twice"
    assert found["value"] == min(trial["value"] for trial in found["trials"])
    assert tune.is_stored(tmp_path, "bias", "ab" * 32, 12) and not list(tmp_path.rglob("*.journal*"))


def test_who_joins_after_another_was_killed_goes_on_with_what_it_has_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = stopped_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        tune.tune(tmp_path, ["bias"], "invented", n_trials=5, shared=True)
    tune.tune(tmp_path, ["bias"], "invented", n_trials=5, shared=True)
    assert len(fitted) == 5 == len(read_trials(tmp_path, "bias")["trials"])
