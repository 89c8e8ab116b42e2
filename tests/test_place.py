"""What a notebook has written is confirmed, or takes the place of what is kept; nothing tracked changes otherwise."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from pipeline.chapters.study import Study
from pipeline.runs import confirmed, place
from pipeline.runs.confirmed import Row
from pipeline.runs.jobs import jobs_of
from pipeline.runs.prepare import prepare
from pipeline.runs.run import forget, report_confirmed, run_profile, variables_of
from recsys_core.errors import StudyError

ENTRIES = {"first": {"outputs": ["results", "figures"]}, "second": {"outputs": ["results"]}}
READS = {"first": "pass", "second": "read = 'first'"}
KEPT = "model,seed,versions,value\nease,0,numpy 1,0.250000\nease,1,numpy 1,12.5\n"


@pytest.fixture
def study(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "requirements.lock").write_text("")
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"notebooks": ENTRIES, "profiles": {"study": None}}))
    for name in ENTRIES:
        write_notebook(tmp_path, name, READS[name])
    return Study(tmp_path)


def write_notebook(root, name, code):
    """A notebook of a parameters cell and a cell that reads."""
    cells = [
        {"cell_type": "code", "metadata": {"tags": tags}, "source": [source], "outputs": []}
        for tags, source in ((["parameters"], "epochs = 20"), ([], code))
    ]
    (root / f"notebooks/{name}.ipynb").write_text(json.dumps({"cells": cells}))


def ran(study, kind="study", table=KEPT, figures=("a", "b"), used=""):
    """The first notebook has just ended: its job, with what it wrote in the scratch folder."""
    job = jobs_of(study, kind)[0]
    prepare(study, [job])
    files = {"reports/results/first.csv": table, "used/first.txt": used} | {
        f"figures/first/{n}.png": n for n in figures
    }
    for path, text in files.items():
        (study.root / job.scratch / path).parent.mkdir(parents=True, exist_ok=True)
        (study.root / job.scratch / path).write_text(text)
    return job


def tracked(study):
    folders = [study.root / name for name in ("reports/results", "reports/stored", "figures", "notebooks")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(study.root).as_posix(): path.read_bytes() for path in files}


def test_where_nothing_is_kept_fresh_files_take_their_places_with_their_fingerprint(study):
    job = ran(study)
    place.place(study, job, replace=False)
    assert {path for path in tracked(study) if "notebooks" not in path} == {
        "reports/results/first.csv",
        "reports/results/fingerprints/first.sha256",
        "figures/first/a.png",
        "figures/first/b.png",
    }
    assert (study.root / job.state("placed")).exists()
    assert not [path for path in (study.root / job.scratch).rglob("*") if path.is_file()]


def test_what_is_kept_stays_byte_for_byte_where_a_run_of_the_same_code_agrees(study):
    place.place(study, ran(study), replace=False)
    before = tracked(study)
    (study.root / jobs_of(study, "study")[0].state("placed")).unlink()
    again = KEPT.replace("0.250000", "0.250001").replace("12.5", "12.50001").replace("numpy 1", "numpy 2")
    job = ran(study, table=again, figures=("a",))
    place.place(study, job, replace=False)
    assert tracked(study) == before and not (study.root / job.state("placed")).exists()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (
            KEPT.replace("0.250000", "0.250002"),
            "value of ease, seed 0 is 0.250002 now and 0.250000 as kept, and 1 of 6",
        ),
        (
            KEPT.replace("0.250000", "0.26").replace("12.5", "12.6"),
            "seed 0 is 0.26 now and 0.250000 as kept, and 2 of 6",
        ),
        (KEPT.replace("ease,1", "bias,1"), "model of seed 1|model, seed 1 is bias now"),
        (KEPT.replace("12.5", ""), "is empty now and 12.5 as kept"),
        (KEPT.replace("12.5", "nan"), "is nan now and 12.5 as kept"),
        (KEPT + "ease,2,numpy 1,1.0\n", "the table is 3 rows of model, seed, versions, value now and 2 rows"),
        (KEPT.replace("value", "score"), "the table is 2 rows of model, seed, versions, score now"),
    ],
)
def test_a_contradiction_names_its_number_and_changes_nothing(study, table, says):
    place.place(study, ran(study), replace=False)
    before = tracked(study)
    with pytest.raises(StudyError, match=f"contradicts reports/results/first.csv: .*(?:{says})"):
        place.place(study, ran(study, table=table), replace=False)
    assert tracked(study) == before


@pytest.mark.parametrize("reason", ["replace", "code", "lost figure", "lost note", "stopped while moving", "upstream"])
def test_fresh_files_take_the_place_where_they_must_and_old_figures_go(study, reason):
    place.place(study, ran(study), replace=False)
    note = study.root / jobs_of(study, "study")[0].kept_fingerprint
    if reason == "code":
        path = study.root / "notebooks/first.ipynb"
        path.write_text(path.read_text().replace("20", "21"))
    elif reason == "lost figure":
        (study.root / "figures/first/a.png").unlink()
    elif reason == "lost note":
        note.unlink()
    elif reason == "upstream":
        write_notebook(study.root, "first", "read = 'second'")
        write_notebook(study.root, "second", "pass")
        first = [job for job in jobs_of(study, "study") if job.name == "first"]
        prepare(study, first)
        place.place(study, ran(study), replace=True)
        (study.root / "reports/results/second.csv").write_text("changed\n")
    job = ran(study, table=KEPT.replace("12.5", "13"), figures=("a",))
    if reason == "stopped while moving":
        (study.root / job.state("moving")).touch()
    place.place(study, job, replace=reason == "replace")
    assert "13" in (study.root / "reports/results/first.csv").read_text()
    assert [path.name for path in (study.root / "figures/first").iterdir()] == ["a.png"]
    assert not (study.root / job.state("moving")).exists() and note.exists()


def test_a_run_that_lacks_a_file_changes_nothing(study):
    place.place(study, ran(study), replace=False)
    before, job = tracked(study), ran(study, figures=())
    with pytest.raises(StudyError, match="did not write figures/first"):
        place.place(study, job, replace=True)
    assert tracked(study) == before
    forget(study, job)
    assert not [path for path in (study.root / job.scratch).rglob("*") if path.is_file()]


def test_files_of_the_store_that_were_read_are_part_of_the_fingerprint_and_others_are_not(study):
    runs = study.root / "reports/stored/runs"
    runs.mkdir(parents=True)
    for name in ("read", "other"):
        (runs / f"{name}.json").write_text("1")
    place.place(study, ran(study, used="reports/stored/runs/read.json\n"), replace=False)
    job = jobs_of(study, "study")[0]
    noted = (study.root / job.state("fingerprint")).read_text()
    for name, changed in (("other", False), ("read", True)):
        (runs / f"{name}.json").write_text("2")
        prepare(study, [job])
        assert ((study.root / job.state("fingerprint")).read_text() != noted) is changed


def test_a_verification_places_nothing_and_reports_what_it_compared(study, monkeypatch, capsys):
    place.place(study, ran(study), replace=False)
    before = tracked(study)
    monkeypatch.setenv("RECSYS_LOG", "log")
    place.place(study, ran(study, "verify", table=KEPT.replace("0.250000", "0.250001")), replace=False)
    with pytest.raises(StudyError, match="contradicts"):
        place.place(study, ran(study, "verify-full", table=KEPT.replace("12.5", "13")), replace=False)
    assert tracked(study) == before
    (row,) = confirmed.read_rows(study.root / "log", ["first"])
    assert row.verdict == "contradicted" and row.deviation == 0.5 and "seed 1" in row.what
    assert "contradicted" in confirmed.table([row])


def test_a_verification_does_not_wait_for_other_notebooks_and_runs_only_those_that_are_named(study):
    assert [job.after for job in jobs_of(study, "verify")] == [[], []]
    assert [job.after for job in jobs_of(study, "store")] == [[], ["first"]]
    assert [(job.name, job.after) for job in jobs_of(study, "store", ["second"])] == [("second", [])]
    with pytest.raises(StudyError, match="no notebook 'third'"):
        jobs_of(study, "verify", ["third"])
    with pytest.raises(StudyError, match="REPLACE=1 is for the profile study"):
        run_profile(study, "verify", replace=True)


def test_each_kind_of_run_tells_notebooks_its_policy(monkeypatch):
    monkeypatch.delenv("RECSYS_POLICY", raising=False)
    kinds = ("study", "store", "verify", "verify-full")
    assert [variables_of(kind, False)["RECSYS_POLICY"] for kind in kinds] == ["first", "write", "main", "all"]
    assert "RECSYS_POLICY" not in variables_of("smoke", False) and variables_of("study", True)["RECSYS_REPLACE"] == "1"
    monkeypatch.setenv("RECSYS_POLICY", "prefix")
    assert [variables_of(kind, False)["RECSYS_POLICY"] for kind in kinds] == ["prefix", "write", "main", "all"]


def test_comparisons_are_read_as_notebooks_write_them_and_summed_up(tmp_path):
    columns = {"kind": "end", "stored": 0.5, "now": 0.4}
    rows = [
        {"what": f"run {i}", **columns, "deviation": d, "allowed": 0.4, "z": z}
        for i, (d, z) in enumerate([(0.1, 3), (0.2, 2)])
    ]
    pd.DataFrame(rows).assign(verdict="confirmed")[confirmed.COLUMNS].to_csv(tmp_path / "first.csv", index=False)
    read = confirmed.read_rows(tmp_path, ["first", "second"])
    assert [row.share for row in read] == [0.25, 0.5] and [row.z for row in read] == [3, 2]
    assert (
        "2 of 2 comparisons" in (text := confirmed.summary(read, tmp_path))
        and "50% of what is allowed: first, run 1" in text
    )
    mean = confirmed.with_mean_z(read)[-1]
    assert mean.verdict == "contradicted" and mean.deviation == 2.5
    assert Row("a", "w", "exact", "", "", 1.0, 0.0, None, "contradicted").share == float("inf")


def test_a_study_whose_runs_are_all_a_little_off_fails(tmp_path, monkeypatch):
    rows = [Row("first", f"run {i}, ndcg@10", "end", "0.5", "0.6", 0.1, 0.4, 1.5, "confirmed") for i in range(9)]
    monkeypatch.setattr("pipeline.runs.run.read_rows", lambda *_: rows)
    job, study = SimpleNamespace(name="first"), SimpleNamespace(root=tmp_path)
    assert report_confirmed(study, "study", [job]) == [
        "mean z of 9 runs is 1.5, 0.86 is allowed: each run is within its interval, all together are not."
    ]
    assert report_confirmed(study, "store", [job]) == []
