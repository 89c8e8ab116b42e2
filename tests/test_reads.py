"""What a chapter reads is found in its code."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from pipeline.chapters.reads import FILES, STORED, Code
from pipeline.chapters.study import ROOT, Chapter, Study
from pipeline.runs.jobs import jobs_of
from recsys_core.errors import StudyError

ORDER = {
    "10_counts": "",
    "11_linear": "{outputs: [results]}",
    "20_network": "",
    "41_claims": "{outputs: [claims.csv]}",
    "50_report": "{outputs: [report.md]}",
}


def study_of(root, device="cpu", **cells):
    """A study whose notebooks have these further cells, and else none."""
    (root / "notebooks").mkdir(exist_ok=True)
    lines = "".join(f"  {name}: {entry}\n" for name, entry in ORDER.items())
    (root / "study.yaml").write_text(f"notebooks:\n{lines}profiles:\n  study:\n  smoke: {{every: {{epochs: 1}}}}\n")
    for name in ORDER:
        parameters = new_code_cell(f"epochs = 2\ndevice = '{device}'", metadata={"tags": ["parameters"]})
        notebook = new_notebook(cells=[parameters, new_code_cell(cells.get(f"c{name}", ""))])
        nbformat.write(notebook, root / f"notebooks/{name}.ipynb")
    return Study(root)


@pytest.mark.parametrize(
    "cell",
    [
        "notebook.read_results('10_counts')",
        "others = ('10_counts', 'else')\nframes = [notebook.read_users(name) for name in others]",
        "study.beside('10_counts').board()",
        "read = {'counts': ['10_counts']}",
        "report.figure('10_counts/stars')",
        "%matplotlib inline\nshown = f\"{notebook.read_table('10_counts', 'facts').size} facts\"",
    ],
)
def test_a_chapter_comes_after_those_whose_names_stand_in_its_code(tmp_path, cell):
    assert study_of(tmp_path, c20_network=cell).chapter("20_network").after == ("10_counts",)


def test_its_own_name_words_and_comments_are_no_reading(tmp_path):
    cell = "notebook.read_results('20_network')\n# '10_counts'\nprint('see 10_counts')"
    assert study_of(tmp_path, c20_network=cell).chapter("20_network").after == ()


def test_reading_every_chapter_comes_after_all_before_that_save_per_user_values(tmp_path):
    study = study_of(tmp_path, c41_claims="rows = notebook.read_every()")
    assert study.chapter("41_claims").after == ("10_counts", "20_network")


def test_the_ledger_comes_after_the_chapters_that_settle_claims_and_the_report_after_the_ledger(tmp_path):
    settles = "from pipeline.chapters.claims import Ledger\nledger = Ledger(notebook)"
    gathers = "from pipeline.chapters.claims import gathered\ngathered(notebook)"
    cells = {"c11_linear": settles, "c41_claims": gathers, "c50_report": "notebook.read_claims()"}
    study = study_of(tmp_path, **cells)
    assert [study.chapter(name).after for name in ("41_claims", "50_report")] == [("11_linear",), ("41_claims",)]


def test_a_chapter_that_settles_claims_must_write_them_with_the_studys_own_parameters_only(tmp_path):
    study = study_of(tmp_path, c11_linear="from pipeline.chapters.claims import Ledger\nledger = Ledger(notebook)")
    files = {profile: jobs_of(study, profile, ["11_linear"])[0].files for profile in ("study", "smoke")}
    assert [str(path) for path in files["study"]] == [
        "reports/results/11_linear.csv",
        "reports/results/claims/11_linear.csv",
    ]
    assert [str(path) for path in files["smoke"]] == ["reports/runs/smoke/results/11_linear.csv"]


def test_a_chapter_runs_again_for_the_files_that_its_calls_read(tmp_path):
    cell = "notebook.hyperparameters('ease'), notebook.read_timings(), notebook.read_stored('full', '20_network')"
    chapter = study_of(tmp_path, c10_counts=cell).chapter("10_counts")
    assert chapter.inputs == ("reports/stored/full", "reports/stored/tuning", "reports/timings.csv")


def test_what_is_stored_of_a_later_chapter_does_not_make_it_run_first(tmp_path):
    cell = "notebook.read_stored_rows('full', '20_network'), notebook.read_results('11_linear')"
    study = study_of(tmp_path, c10_counts=cell, c20_network="notebook.read_results('10_counts')")
    assert study.chapter("10_counts").inputs == ("reports/stored/full",)
    assert Code.of([cell]).strings == {"11_linear"}


def test_stored_results_of_a_profile_that_is_not_written_out_are_refused(tmp_path):
    study = study_of(tmp_path, c10_counts="[notebook.read_stored(profile, 'x') for profile in ('full', 'ml-1m')]")
    with pytest.raises(StudyError, match=r"read_stored\(profile, 'x'\) must name its profile as a literal"):
        study.chapter("10_counts")


def test_a_chapter_trains_where_the_device_is_chosen_for_it(tmp_path):
    assert study_of(tmp_path, device="auto").chapter("10_counts").trains
    assert study_of(tmp_path).chapter("10_counts") == Chapter((), (), ("results", "users", "figures"), trains=False)


def test_chapters_that_read_one_another_are_refused(tmp_path):
    study = study_of(tmp_path, c10_counts="read = '11_linear'", c11_linear="read = '10_counts'")
    with pytest.raises(StudyError, match=r"These chapters read one another: 1._\w+, 1._\w+, 1._\w+\."):
        jobs_of(study, "study")


def test_the_studys_own_chapters_read_other_chapters_and_files_that_there_are():
    study = Study()
    jobs = {job.name: job for job in jobs_of(study, "study")}
    for job in jobs.values():
        assert set(job.chapter.after) <= jobs.keys()
        assert not [place for place in job.chapter.inputs if not (ROOT / place).exists()]
    assert set(jobs["50_report"].chapter.after) >= {"41_claims", "45_ranking", "00_data"}
    settling = {name for name in jobs if "claims" in jobs[name].chapter.outputs}
    assert settling and settling == set(jobs["41_claims"].chapter.after)


def test_every_call_that_is_known_to_read_is_one_of_the_study():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "pipeline/chapters").glob("*.py")]
    for call in (*FILES, *STORED, "read_every", "read_claims"):
        assert any(f"def {call}(" in text or f"class {call}:" in text for text in sources), call


def test_an_import_from_elsewhere_is_no_call_of_the_study():
    assert not Code.of(["from somewhere import Ledger, gathered"]).calls
    assert Code.of(["from pipeline.chapters.claims import Ledger, within"]).calls == {"Ledger", "within"}
