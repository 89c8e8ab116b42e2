"""The study on own ratings: what runs on which files, where it is kept, and how a model is chosen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.chapters.store import FOLDER
from pipeline.chapters.study import OWN, ROOT, Study, stored_folder
from pipeline.chapters.tuned import tuned_file
from pipeline.runs import own as own_module
from pipeline.runs.jobs import jobs_of
from pipeline.runs.own import CHOICE, Given, digest_of, files_of, name_of, profile_of, run_own
from recsys_core.datasets import load
from recsys_core.errors import StudyError

HEAD = "user,item,rating,timestamp\n"


def ratings_file(folder: Path, name: str = "ratings.csv", text: str = "1,1,4,100\n1,2,3,200\n2,1,5,300\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(HEAD + text)
    return folder / name


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the study's list of chapters and their notebooks."""
    root = tmp_path / "project"
    root.mkdir()
    shutil.copy(ROOT / "study.yaml", root)
    (root / "notebooks").symlink_to(ROOT / "notebooks")
    return root


def given_name(project: Path, ratings: Path) -> str:
    """The name of a file's folder, and the description that `make study` would write there."""
    name = name_of(project, ratings)
    folder = project / "reports/runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"ratings": str(ratings)}))
    return name


def test_a_file_has_one_folder_called_after_it_or_after_its_own_folder_where_its_name_says_nothing(
    project: Path, tmp_path: Path
) -> None:
    books, films = ratings_file(tmp_path / "books"), ratings_file(tmp_path / "films")
    assert given_name(project, books) == "books" and given_name(project, films) == "films"
    assert given_name(project, books) == "books"
    one = ratings_file(tmp_path / "a", "loans.csv.gz")
    assert given_name(project, one) == "loans"
    assert given_name(project, ratings_file(tmp_path / "b", "loans.csv")) == "b-loans"
    assert given_name(project, ratings_file(tmp_path / "c", "smoke.csv")) == "c-smoke"  # a profile is called so
    assert given_name(project, ratings_file(tmp_path / "d", "my <b>.csv")) == "my__b_"


def test_films_and_users_are_found_beside_the_ratings_and_what_is_given_goes_before(tmp_path: Path) -> None:
    ratings = ratings_file(tmp_path)
    assert files_of(Given(str(ratings))) == {"ratings": ratings}
    for name in ("movies.csv", "other.csv"):
        (tmp_path / name).write_text("item,title\n1,One\n")
    assert files_of(Given(str(ratings)))["movies"] == tmp_path / "movies.csv"
    assert files_of(Given(str(ratings), movies=str(tmp_path / "other.csv")))["movies"] == tmp_path / "other.csv"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (Given("nowhere.csv"), r"DATASET=.*nowhere.csv is not a file"),
        (Given("ratings.csv", movies="gone.csv"), r"MOVIES=.*gone.csv is not a file"),
        (Given("ratings.csv", users="gone.csv"), r"USERS=.*gone.csv is not a file"),
        (Given("."), r"DATASET=.* is not a file"),
    ],
)
def test_files_that_are_not_there_are_named(
    given: Given, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ratings_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match=said):
        files_of(given)


def test_a_change_of_any_file_or_of_how_it_is_to_be_read_makes_chapters_run_again(tmp_path: Path) -> None:
    ratings = ratings_file(tmp_path)
    (tmp_path / "movies.csv").write_text("item,title\n1,One\n")
    files = files_of(Given(str(ratings)))
    seen = {digest_of(files)}
    (tmp_path / "ratings.csv.yaml").write_text("keep: last\n")
    seen.add(digest_of(files))
    (tmp_path / "movies.csv").write_text("item,title\n1,Two\n")
    seen.add(digest_of(files))
    ratings_file(tmp_path, text="1,1,4,100\n")
    assert len(seen | {digest_of(files)}) == 4


def test_chapters_that_the_data_are_not_enough_for_are_left_out_with_the_reason(project: Path, tmp_path: Path) -> None:
    plays = tmp_path / "plays.csv"
    plays.write_text("user,item\n1,1\n1,2\n2,1\n")
    study = Study(project)
    found = profile_of(study, load(plays), Given(str(plays)), "plays.yaml")
    assert "12_factorization" not in found["runs"] and "no opinions" in found["left_out"]["12_factorization"]
    assert "no times" in found["left_out"]["33_sequential"] and "MOVIES=" in found["left_out"]["02_eda_movies"]
    assert "MovieLens" in found["left_out"]["41_claims"] and CHOICE in found["runs"]
    assert found["notebooks"]["10_baselines"]["protocols"] == ["random-80-10-10", "loo-full", "loo-sampled"]
    assert {*found["runs"], *found["left_out"]} == set(study.notebooks)
    whole = load(ratings_file(tmp_path / "whole"))
    of_opinions = profile_of(study, whole, Given("x"), "x.yaml")
    assert "12_factorization" in of_opinions["runs"] and "10_baselines" not in of_opinions["notebooks"]


def test_of_many_ratings_only_chapters_run_whose_time_is_known(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_module, "MANY_ROWS", 3)
    found = profile_of(Study(project), load(ratings_file(tmp_path)), Given("x"), "x.yaml")
    assert found["runs"] == ["00_data", CHOICE] and "may take days" in found["left_out"]["13_linear"]


def test_a_quick_study_runs_few_chapters_and_one_that_searches_takes_what_it_found(
    project: Path, tmp_path: Path
) -> None:
    data = load(ratings_file(tmp_path / "whole"))
    quick = profile_of(Study(project), data, Given("x", quick=True, tune=3), "x.yaml")
    assert quick["runs"] == ["00_data", CHOICE] and quick["notebooks"][CHOICE]["settings"] == "tuned"
    assert "settings" not in profile_of(Study(project), data, Given("x"), "x.yaml")["notebooks"][CHOICE]


def own(project: Path, dataset: str, **lines: object) -> Path:
    folder = project / "reports/runs/books"
    folder.mkdir(parents=True)
    (folder / OWN).write_text(yaml.safe_dump({"like": "own-quick", "dataset": dataset, "runs": [CHOICE], **lines}))
    return folder


def test_a_study_of_own_ratings_is_a_profile_with_a_folder_and_a_store_to_itself(project: Path) -> None:
    folder = own(project, "/somewhere/books.yaml")
    (job,) = jobs_of(Study(project), "books")
    assert job.name == CHOICE and job.output == Path("reports/runs/books") and job.redirected
    assert job.overrides["dataset"] == "/somewhere/books.yaml"
    assert Study(project).recognise(CHOICE, Study(project).defaults(CHOICE) | job.overrides) == "books"
    assert stored_folder(project, FOLDER, "books") == folder / "stored/runs"
    assert stored_folder(project, FOLDER, "ml-1m") == project / FOLDER / "ml-1m"
    assert tuned_file(folder, "ease") == folder / "stored/tuning/ease.json"


def test_all_models_are_searched_on_the_rows_on_which_the_choice_is_made(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own(project, "/somewhere/books.yaml")
    asked: list[list[str]] = []

    def noted(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, len(asked) - 1)

    monkeypatch.setattr(subprocess, "run", noted)
    own_module.search(Study(project), "books", 7, 1, explicit=True)
    assert {"--protocol=random-80-10-10", "--trials=7", "svd", "ease"} <= {*asked[0]} and "popularity" not in asked[0]
    with pytest.raises(StudyError, match="The search on books failed"):
        own_module.search(Study(project), "books", 7, 1, explicit=False)
    assert not {"svd", "bias"} & {*asked[1]} and "ease" in asked[1]  # nothing to search them by


def test_a_damaged_profile_of_own_ratings_is_named(project: Path) -> None:
    (own(project, "x") / OWN).write_text("like: nothing\n")
    with pytest.raises(StudyError, match=r"books/profile.yaml is damaged .*delete its folder"):
        Study(project)


def test_a_description_says_where_the_ratings_are_and_how_they_are_read(tmp_path: Path) -> None:
    ratings_file(tmp_path / "files", text="1,1,4,100\n1,1,2,200\n")
    (tmp_path / "films.csv").write_text("item,title\n1,One\n")
    described = tmp_path / "mine.yaml"
    described.write_text("ratings: files/ratings.csv\nkeep: last\nmovies: films.csv\n")
    data = load(described)
    assert data.name == "mine" and data.ratings["rating"].tolist() == [2.0]
    assert data.movies is not None and data.movies["title"].tolist() == ["One"]
    described.write_text("keep: last\n")
    with pytest.raises(StudyError, match=r"mine.yaml does not say where the ratings are"):
        load(described)
    described.write_text("ratings: files/ratings.csv\nwords: 3\n")
    with pytest.raises(StudyError, match=r"mine.yaml: setting='words'"):
        load(described)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--quick", "1"], "QUICK= is for own ratings"),
        (["--movies", "m.csv"], "MOVIES= is for own ratings"),
        (["--dataset", "r.csv", "--profile", "smoke"], "DATASET= makes a study of its own"),
        (["--dataset", "r.csv", "--tune", "no"], "TUNE=no must be a whole number"),
        (["--dataset", "r.csv", "--quick", "yes"], "QUICK=yes must be 1"),
        (["--dataset", "r.csv"], "r.csv is not a file"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_runs(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.__main__ import main

    monkeypatch.chdir(tmp_path)
    assert main(["study", *options]) == 1
    assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A project in which the study was made on invented plays with stars from 1 to 10, and what was printed."""
    root = tmp_path_factory.mktemp("own") / "project"
    root.mkdir()
    for name in ("Snakefile", "study.yaml", "requirements.lock"):
        shutil.copy(ROOT / name, root)
    (root / "notebooks").mkdir()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(path, root / "notebooks")
    for name in ("pipeline", "recsys_core"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    generator = np.random.default_rng(0)
    tastes = generator.integers(0, 4, 150)
    rows = [
        (f"u{user}", f"i{(25 * tastes[user] + place) % 100}", int(generator.integers(2, 11)))
        for user in range(150)
        for place in generator.choice(30, 14, replace=False)
    ]
    plays = pd.DataFrame([*rows, ("u0", "i99", 1)], columns=["reader", "book", "score"])
    (root / "mine").mkdir()
    plays.drop_duplicates(["reader", "book"]).to_csv(root / "mine/loans.csv", index=False, sep=";")
    return root, _make(root)


def _make(root: Path) -> str:
    command = [sys.executable, "-m", "pipeline", "study", "--dataset", "mine/loans.csv", "--quick", "1"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RECSYS_")}
    run = subprocess.run(
        command, cwd=root, env=environment | {"PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=240
    )
    assert run.returncode == 0, run.stderr + run.stdout
    return run.stdout


def test_one_command_reports_on_own_ratings_and_saves_a_model_that_answers(finished: tuple[Path, str]) -> None:
    from recsys_core.app.saved import SavedModel

    root, said = finished
    assert (
        "semicolons" in said
        and "scale from 1 to 10" in said
        and said.rstrip().endswith("reports/runs/loans/report.html")
    )
    folder = root / "reports/runs/loans"
    text = (folder / "report.md").read_text()
    assert text.startswith("# Which recommender for loans?") and "There are no times" in text
    size = sum(file.stat().st_size for file in (folder / "model").iterdir()) / 1e6
    assert f"the model has {size:,.1f} MB" in text and "- **EASE.**" in text.split("## Glossary")[1]
    saved = SavedModel.open(folder / "model")
    assert len(saved.recommend("u7", k=5)) == 5
    rated = set(load(root / "mine/loans.csv").ratings.query("user_id == 'u7'")["item_id"])
    assert not rated & set(saved.recommend("u7", k=5)["item_id"])


def test_the_model_that_is_named_is_the_best_on_validation_rows_and_errors_are_in_the_files_unit(
    finished: tuple[Path, str],
) -> None:
    folder = finished[0] / "reports/runs/loans"
    text = (folder / "report.md").read_text()
    kept = json.loads((folder / "stored/kept/54_choice/validated.json").read_text())["value"]
    values = dict(kept["dict"]) if "dict" in kept else kept
    best = max(values, key=lambda title: values[title])
    assert f"**{best}** has the highest NDCG@10 on validation rows" in text
    results = pd.read_csv(folder / "results/54_choice.csv")
    stars = results.query("model == 'Bias' and metric == 'rmse'")["value"].iloc[0]
    assert f"| Bias | {2.25 * stars:.3f} |" in text  # nine points of the file are four stars


def test_a_study_that_is_made_again_trains_nothing_and_one_of_other_ratings_does(finished: tuple[Path, str]) -> None:
    root, _ = finished
    assert "0 of 2 notebooks run" in _make(root)
    with (root / "mine/loans.csv").open("a") as file:
        file.write("u0;i98;4\n")
    assert "2 of 2 notebooks run" in _make(root)


def test_ratings_of_which_none_can_be_tested_are_refused_before_anything_runs(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("chapters were run")

    monkeypatch.setattr(own_module, "run_profile", never)
    ratings = ratings_file(tmp_path / "once", text="1,1,4,100\n1,2,4,100\n2,1,3,100\n")
    with pytest.raises(StudyError, match=r"In .*ratings.csv no users with 3 ratings or more can be tested"):
        run_own(project, Given(str(ratings)), 1)


def test_of_a_file_that_cannot_be_read_nothing_stays(project: Path, tmp_path: Path) -> None:
    broken = ratings_file(tmp_path / "broken", text="1,1,many,100\n")
    with pytest.raises(StudyError, match="many"):
        run_own(project, Given(str(broken)), 1)
    assert not list((project / "reports/runs").iterdir())
