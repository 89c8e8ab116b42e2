import fnmatch
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from pipeline.__main__ import main
from pipeline.chapters.study import OUTPUTS, ROOT, Study, check_overrides
from pipeline.runs.clean import clean, clean_file, clean_on_save, write_back
from pipeline.runs.imports import Imports
from pipeline.runs.jobs import jobs_of
from pipeline.runs.missing import missing
from pipeline.runs.own import LACKING
from pipeline.runs.prepare import error_of, prepare, record, remove_leftovers
from pipeline.runs.rerun import errors_of, parameters_of, parse_parameters, parse_seeds, rerun, summary
from recsys_core.errors import StudyError
from recsys_core.files import atomic_path

STUDY = """
notebooks:
  first: {outputs: [results]}
  second: {outputs: [results]}
profiles:
  study:
  smoke: {every: {epochs: 1}, notebooks: {second: {epochs: 2}}}
  large: {stored: true, notebooks: {second: {epochs: 9}}}
  wrong: {stored: true, notebooks: {second: {epoch: 9}}}
  gpu: {profiles: [large], device: cuda}
"""
WRITE = """from pathlib import Path
environment = __import__("os").environ
folder = Path(environment.get("RECSYS_SCRATCH", ".")) / environment.get("RECSYS_OUTPUT", "reports") / "results"
folder.mkdir(parents=True, exist_ok=True)
(folder / "{name}.csv").write_text(f"epochs\\n{{epochs}}\\n")
print(epochs)"""


def write_notebook(root, name, code):
    cells = [new_markdown_cell(f"# {name}"), new_code_cell("epochs = 20", metadata={"tags": ["parameters"]})]
    notebook = new_notebook(cells=[*cells, new_code_cell(code)])
    for number, cell in enumerate(notebook.cells):
        cell.id = str(number)
    nbformat.write(clean(notebook), root / f"notebooks/{name}.ipynb")


def make_project(root):
    (root / "notebooks").mkdir()
    (root / "study.yaml").write_text(STUDY)
    (root / "requirements.lock").write_text("")
    for name in ("first", "second"):
        write_notebook(root, name, WRITE.format(name=name) + ("" if name == "first" else '\nread = ("first",)'))
    return Study(root)


@pytest.fixture
def study(tmp_path):
    return make_project(tmp_path)


def test_an_unknown_profile_is_refused_with_the_known_ones(study):
    with pytest.raises(StudyError, match="Unknown profile 'fast'; allowed: study, smoke, large, wrong, gpu"):
        jobs_of(study, "fast")


def test_an_unknown_parameter_of_a_profile_is_refused_before_anything_runs(study):
    with pytest.raises(StudyError, match="Unknown parameter 'epoch' for second; allowed: epochs"):
        jobs_of(study, "wrong")


def test_a_profile_for_cuda_is_refused_without_a_device(study, monkeypatch):
    monkeypatch.setattr("pipeline.runs.jobs.cuda_available", lambda: False)
    with pytest.raises(StudyError, match="needs a CUDA device"):
        jobs_of(study, "gpu")


def test_the_gpu_profile_runs_other_profiles_and_stores_by_class_of_device(study, monkeypatch):
    monkeypatch.setattr("pipeline.runs.jobs.cuda_available", lambda: True)
    write_notebook(study.root, "second", 'device = "auto"')
    path = study.root / "notebooks/second.ipynb"
    path.write_text(path.read_text().replace('"epochs = 20"', '"epochs = 20\\n", "device = \'auto\'"'))
    (job,) = jobs_of(study, "gpu")
    assert job.overrides == {"epochs": 9, "device": "cuda"} and str(job.output) == "reports/stored/large/cuda"
    assert str(job.executed) == "reports/executed/large-cuda"


@pytest.mark.parametrize("tags", [[], [["parameters"], ["parameters"]]])
def test_a_notebook_needs_exactly_one_parameters_cell(study, tags):
    cells = [new_code_cell("a = 1", metadata={"tags": each}) for each in tags]
    nbformat.write(new_notebook(cells=cells), study.root / "notebooks/first.ipynb")
    with pytest.raises(StudyError, match=f"has {len(tags)} cells tagged 'parameters'"):
        jobs_of(study, "study")


def test_a_parameter_that_is_computed_is_refused(study):
    cell = new_code_cell("a = 1 + len('x')", metadata={"tags": ["parameters"]})
    nbformat.write(new_notebook(cells=[cell]), study.root / "notebooks/first.ipynb")
    with pytest.raises(StudyError, match=r"first.ipynb is not all name = literal"):
        study.defaults("first")


def test_the_default_profile_passes_no_parameters_and_others_a_file(study):
    line = "papermill notebooks/first.ipynb reports/executed/study/first.ipynb"
    assert jobs_of(study, "study")[0].command == f"RECSYS_SCRATCH=reports/executed/study/scratch {line}"
    assert jobs_of(study, "large")[0].command.endswith("-f reports/executed/large/state/second.yaml")
    assert jobs_of(study, "smoke")[0].command.startswith("RECSYS_OUTPUT=reports/runs/smoke papermill ")


def test_a_stored_profile_runs_what_it_names_with_upstream_notebooks_of_its_own(study):
    assert [(job.name, job.after) for job in jobs_of(study, "large")] == [("second", [])]
    for profile in ("study", "smoke"):
        assert [(job.name, job.after) for job in jobs_of(study, profile)] == [("first", []), ("second", ["first"])]


def fingerprints(study, profile="study"):
    jobs = jobs_of(study, profile)
    prepare(study, jobs)
    return [(study.root / job.state("fingerprint")).read_text() for job in jobs]


def test_prose_outputs_and_metadata_do_not_make_a_notebook_run_again_but_code_does(study):
    before = fingerprints(study)
    path = study.root / "notebooks/first.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = "# Another title"
    notebook.cells[2].outputs = [new_output("stream", text="20\n")]
    notebook.metadata.anything = 1
    nbformat.write(notebook, path)
    assert fingerprints(study) == before
    notebook.cells[2].source += "\nepochs"
    nbformat.write(notebook, path)
    assert [a == b for a, b in zip(fingerprints(study), before)] == [False, True]


@pytest.mark.parametrize(
    ("place", "changed"),
    [
        ("recsys_core/used.py", [True, False]),
        ("recsys_core/models/inner.py", [True, False]),
        ("recsys_core/models/__init__.py", [True, False]),
        ("recsys_core/deep/__init__.py", [True, False]),
        ("recsys_core/deep/late.py", [True, False]),
        ("recsys_core/unused.py", [False, False]),
        ("pipeline/whole/part.py", [False, True]),
        ("pipeline/whole/page.html", [False, True]),
        ("pipeline/runs/run.py", [False, False]),
        ("recsys_core/releases/releases.yaml", [False, False]),
        ("requirements.lock", [True, True]),
        ("reports/stored/large/cpu/results/second.csv", [True, True]),
        ("reports/stored/kept/second/map.json", [False, True]),
        ("reports/stored/runs/abc.json", [False, False]),
        ("reports/stored/large/other.json", [True, False]),
        ("reports/stored/tuning/ease.json", [True, False]),
        ("reports/stored/other.json", [False, False]),
    ],
)
def test_what_a_notebook_imports_and_reads_makes_it_run_again_and_nothing_else(study, place, changed):
    modules = {
        "recsys_core/__init__.py": "",
        "recsys_core/used.py": "def f():\n    from .deep import late\n",
        "recsys_core/models/__init__.py": "from .inner import X",
        "recsys_core/models/inner.py": "X = 1\nimport numpy.linalg",
        "recsys_core/deep/__init__.py": "",
        "recsys_core/deep/late.py": "",
        "recsys_core/unused.py": "",
        "pipeline/__init__.py": "",
        "pipeline/runs/run.py": "",
        "pipeline/whole/__init__.py": "VALUE = 1",
        "pipeline/whole/part.py": "",
        "pipeline/whole/page.html": "",
        "recsys_core/releases/releases.yaml": "",
        "reports/stored/tuning/ease.json": "{}",
    }
    for path, source in modules.items():
        (study.root / path).parent.mkdir(parents=True, exist_ok=True)
        (study.root / path).write_text(source)
    code = "%matplotlib inline\nfrom recsys_core.used import f\nimport recsys_core.models.inner"
    reading = "notebook.read_stored('large', 'second'), notebook.hyperparameters('ease')"
    write_notebook(study.root, "first", f"{code}\n{reading}")
    write_notebook(study.root, "second", "from pipeline.whole import VALUE")
    before = fingerprints(study)
    (study.root / place).parent.mkdir(parents=True, exist_ok=True)
    (study.root / place).write_text("changed = 1\n")
    assert [a != b for a, b in zip(fingerprints(study), before)] == changed


def test_every_module_that_a_notebook_runs_is_found():
    listed = "print(*[m.__file__ for n, m in sys.modules.items() if n.split('.')[0] in ('pipeline', 'recsys_core')])"
    code = f"import sys, pipeline.chapters.experiment\n{listed}"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {Path(path) for path in loaded.split()} <= set(Imports(ROOT).of(["import pipeline.chapters.experiment"]))


def test_a_package_that_imports_its_own_files_counts_whole_wherever_one_of_them_is_imported():
    models = set((ROOT / "recsys_core" / "models").glob("*.py"))
    assert "iter_modules(__path__)" in (ROOT / "recsys_core" / "models" / "__init__.py").read_text()
    assert models <= set(Imports(ROOT).of(["from recsys_core.models.linear import EASE"]))


def test_a_stored_profile_does_not_run_again_because_of_what_it_stored(study):
    before = fingerprints(study, "large")
    (study.root / "reports/stored/large/cpu/results").mkdir(parents=True)
    (study.root / "reports/stored/large/cpu/results/second.csv").write_text("epochs\n9\n")
    assert fingerprints(study, "large") == before


@pytest.mark.parametrize("harm", ["remove", "edit", "unrecorded"])
def test_a_stamp_without_its_outputs_is_dropped(study, harm):
    job = jobs_of(study, "study")[0]
    result, stamp = study.root / job.files[0], study.root / job.state("done")
    for path in (result, study.root / job.copy, stamp):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    if harm != "unrecorded":
        record(study, job)
        prepare(study, [job])
        assert stamp.exists()
    if harm == "remove":
        result.unlink()
    elif harm == "edit":
        result.write_text("epochs\n3\n")
    prepare(study, [job])
    assert not stamp.exists()


def test_temporary_files_of_a_killed_run_are_removed_and_nothing_else(study):
    folder = study.root / "reports/results"
    folder.mkdir(parents=True)
    for name in ("first.csv", ".gitignore"):
        (folder / name).touch()
    writing = [atomic_path(folder / name) for name in ("first.csv", "no_suffix", "a b.tar.gz")]
    for each in writing:
        each.__enter__().touch()  # and is killed here
    assert len(list(folder.iterdir())) == 5
    remove_leftovers(study.root)
    assert sorted(path.name for path in folder.iterdir()) == [".gitignore", "first.csv"]


def executed(notebook):
    """As papermill leaves it: metadata with times, one more key per cell, text in several messages."""
    notebook = nbformat.from_dict(json.loads(json.dumps(notebook)))
    notebook.metadata.papermill = {"duration": 3.2}
    notebook.metadata.language_info = {"name": "python", "version": "3.11.7"}
    for number, cell in enumerate([cell for cell in notebook.cells if cell.cell_type == "code"], start=1):
        cell.metadata.papermill = {"duration": 1.2}
        cell.execution_count = number
        cell.outputs = [new_output("stream", text="a\n"), new_output("stream", text="b\n")]
    return notebook


def stored(study, job):
    path = study.root / job.copy
    path.parent.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(study.root / job.notebook, as_version=4)
    nbformat.write(executed(notebook), path)
    return path


def test_write_back_stores_outputs_and_counts_and_no_times_and_is_idempotent(study):
    job = jobs_of(study, "study")[0]
    stored(study, job)
    assert write_back(study, job)
    text = (study.root / job.notebook).read_text()
    notebook = nbformat.reads(text, as_version=4)
    assert [cell.get("execution_count") for cell in notebook.cells] == [None, 1, 2]
    assert [output.text for output in notebook.cells[2].outputs] == ["a\nb\n"]
    assert "papermill" not in text and "duration" not in text and "3.11" not in text
    assert write_back(study, job) and (study.root / job.notebook).read_text() == text


def test_write_back_keeps_prose_that_was_edited_meanwhile(study):
    job = jobs_of(study, "study")[0]
    stored(study, job)
    path = study.root / job.notebook
    path.write_text(path.read_text().replace("# first", "# Edited"))
    assert write_back(study, job) and "# Edited" in path.read_text()


def test_write_back_skips_a_notebook_whose_code_was_edited_meanwhile(study):
    job = jobs_of(study, "study")[0]
    stored(study, job)
    write_notebook(study.root, "first", "another = 1")
    before = (study.root / job.notebook).read_bytes()
    assert not write_back(study, job) and (study.root / job.notebook).read_bytes() == before


def test_the_cleaner_changes_a_file_once_and_the_save_hook_agrees_with_it(study):
    path = stored(study, jobs_of(study, "study")[0])
    model = {"type": "notebook", "content": json.loads(path.read_text())}
    assert clean_file(path) and not clean_file(path)
    clean_on_save(model)
    assert nbformat.writes(nbformat.from_dict(model["content"])) + "\n" == path.read_text()


def test_the_cleaner_makes_a_picture_smaller_once_and_keeps_its_colours():
    figure, axes = plt.subplots()
    axes.bar([1, 2, 3], [3, 1, 2], color=["#0072B2", "#E69F00", "#009E73"])
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    picture = new_output("display_data", {"image/png": b64encode(buffer.getvalue()).decode()})
    once = clean(new_notebook(cells=[new_code_cell("1", outputs=[picture])])).cells[0].outputs[0].data["image/png"]
    again = new_notebook(cells=[new_code_cell("1", outputs=[new_output("display_data", {"image/png": once})])])
    assert clean(again).cells[0].outputs[0].data["image/png"] == once
    before, after = (np.asarray(Image.open(file).convert("RGB"), int) for file in (buffer, BytesIO(b64decode(once))))
    assert np.abs(before - after).mean() < 0.1 and len(b64decode(once)) < len(buffer.getvalue()) / 2


@pytest.mark.parametrize(
    ("counts", "cleaned"), [([8, 9], [1, 2]), ([2, 1], [2, 1]), ([4, None], [4, None]), ([None, None], [None, None])]
)
def test_the_cleaner_renumbers_a_whole_run_in_order_and_only_that(counts, cleaned):
    cells = [new_code_cell("1", execution_count=count) for count in counts]
    cells[0].outputs = [new_output("execute_result", execution_count=counts[0])]
    notebook = clean(new_notebook(cells=cells))
    assert [cell.execution_count for cell in notebook.cells] == cleaned
    assert notebook.cells[0].outputs[0].execution_count == cleaned[0]


def test_the_error_of_failed_notebooks_is_one_line_with_its_cell(study, tmp_path):
    notebook = executed(nbformat.read(study.root / "notebooks/first.ipynb", as_version=4))
    notebook.cells[2].outputs = [new_output("error", ename="ValueError", evalue="no rows", traceback=[])]
    nbformat.write(notebook, tmp_path / "failed.ipynb")
    assert error_of(tmp_path / "failed.ipynb") == "failed in code cell 2: ValueError: no rows"
    copy = tmp_path / "failed.ipynb"
    assert errors_of(study, [copy, copy]) == [f"{copy} and 1 more failed in code cell 2: ValueError: no rows"]


def test_seeds_are_a_range_or_a_list():
    assert parse_seeds("0-3") == [0, 1, 2, 3] and parse_seeds("0,2,5-6") == [0, 2, 5, 6]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("all", "allowed: 0-9 or 0,2,5"),
        ("-1", "allowed: 0-9 or 0,2,5"),
        ("0,", "allowed: 0-9 or 0,2,5"),
        ("5-2", "SEEDS=5-2 has a range that ends before it begins"),
        ("0-99999999", "100,000,000 runs; at most 1,000"),
    ],
)
def test_seeds_that_cannot_be_run_are_refused(text, says):
    with pytest.raises(StudyError, match=says):
        parse_seeds(text)


def test_parameters_are_read_as_values():
    typed = ["rate=1e-3", "models=[popularity, ease]  dataset=ml-20m", "on=true", ""]
    expected = {"rate": 0.001, "models": ["popularity", "ease"], "dataset": "ml-20m", "on": True}
    assert parse_parameters(typed) == expected


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("epochs", "'epochs' sets nothing; allowed: name=value"),
        ("models=[a", r"'models=\[a' cannot be read; allowed: JSON or YAML"),
        ("a={b: [c}", "cannot be read"),
        ("day=2020-99-99", "cannot be read"),
        ("epochs=3 epochs=4", "'epochs' is set twice"),
    ],
)
def test_parameters_that_cannot_be_read_are_refused(setting, says):
    with pytest.raises(StudyError, match=says):
        parse_parameters([setting])


DEFAULTS = {
    "epochs": 5,
    "rate": 0.1,
    "seeds": [0, 1],
    "layers": [64, 0.5],
    "name": "x",
    "on": False,
    "any": [],
    "none": None,
    "protocols": ["rating-5fold"],
    "settings": ["stated"],
}


@pytest.mark.parametrize(
    "setting",
    [
        {"seeds": [7]},
        {"rate": 1},
        {"layers": [1, 2.5]},
        {"any": ["a", 1]},
        {"none": "x"},
        {"layers": []},
        {"epochs": 0},
    ],
)
def test_values_like_the_default_are_accepted(setting):
    check_overrides("first", setting, DEFAULTS)


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"seeds": "zero"}, "of type list"),
        ({"seeds": ["zero"]}, "a list of int"),
        ({"seeds": [0.5]}, "a list of int"),
        ({"seeds": [True]}, "a list of int"),
        ({"seeds": [3, -1]}, "0 or more"),
        ({"seeds": []}, "at least one seed"),
        ({"epochs": -1}, "0 or more"),
        ({"epochs": True}, "of type int"),
        ({"on": 1}, "of type bool"),
        ({"rate": float("nan")}, "0 or more"),
        ({"layers": ["wide"]}, "a list of float or int"),
        ({"protocols": ["random"]}, "protocols='random' is not known: allowed are rating-5fold"),
        ({"settings": ["guessed"]}, "settings='guessed' is not known: allowed are stated, tuned"),
    ],
)
def test_values_unlike_the_default_are_refused(setting, says):
    with pytest.raises(StudyError, match=says):
        check_overrides("first", setting, DEFAULTS)


def test_every_seed_that_is_named_is_run_and_no_other(study):
    text = "epochs = 2\nseeds = [0, 1]\ndevice = 'cpu'"
    cells = [new_code_cell(text, metadata={"tags": ["parameters"]})]
    nbformat.write(new_notebook(cells=cells), study.root / "notebooks/first.ipynb")
    asked = [([], ""), (["seeds=[7]"], ""), (["epochs=3"], "5-6")]
    runs = [[run["seeds"] for run in parameters_of(study, "first", *each)] for each in asked]
    assert runs == [[[0], [1]], [[7]], [[5], [6]]]
    with pytest.raises(StudyError, match="SEEDS= and PARAMS= both give 'seeds'"):
        parameters_of(study, "first", ["seeds=[7]"], "0-1")
    with pytest.raises(StudyError, match="device='gpu' is unknown"):
        parameters_of(study, "first", [], device="gpu")


def test_a_missing_data_set_is_found_before_anything_runs(study, tmp_path):
    text = "epochs = 2\ndataset = 'ml-100k'"
    nbformat.write(
        new_notebook(cells=[new_code_cell(text, metadata={"tags": ["parameters"]})]),
        study.root / "notebooks/first.ipynb",
    )
    with pytest.raises(StudyError, match=r"no such\.csv"):
        rerun(study, "first", [], "", dataset=str(tmp_path / "no such.csv"))
    assert not (study.root / "reports").exists()


@pytest.mark.parametrize("jobs", ["0", "-1", "x", "1.5", ""])
def test_a_number_of_jobs_that_is_none_is_refused_before_anything_starts(jobs, capsys):
    assert main(["study", f"--jobs={jobs}"]) == 1
    assert capsys.readouterr().err == f"error: JOBS={jobs} must be a whole number, 1 or more.\n"


@pytest.mark.parametrize("profile", ["store", "verify", "nonsense"])
def test_a_profile_that_is_none_of_study_yaml_is_refused_before_anything_starts(profile, capsys):
    assert main(["study", f"--profile={profile}"]) == 1
    assert capsys.readouterr().err.startswith(f"error: PROFILE={profile!r} is not known: allowed are study, smoke,")


def test_a_rerun_with_an_unknown_parameter_or_notebook_is_refused_before_anything_runs(study):
    with pytest.raises(StudyError, match="Unknown parameter 'seeds' for first; allowed: epochs"):
        rerun(study, "first", [], "0-9")
    with pytest.raises(StudyError, match="no notebook 'third'; allowed: first, second"):
        rerun(study, "third", [], "")
    (study.root / "notebooks" / "third.ipynb").touch()
    with pytest.raises(
        StudyError, match=r"study\.yaml does not list third\.ipynb: add the line 'third:' below notebooks"
    ):
        rerun(study, "third", [], "")
    assert not (study.root / "reports").exists()


def test_a_summary_gives_mean_and_spread_of_each_number_by_what_all_runs_share():
    frames = [
        pd.DataFrame({"model": ["a", "b"], "seed": s, "sha256": f"{s}", "best_epoch": [s, 2], "ndcg": [0.1 * s, 0.5]})
        for s in (1, 3)
    ]
    table = summary(frames)
    assert list(table["model"]) == ["a", "b"] and list(table["best_epoch_mean"]) == [2, 2]
    assert table["ndcg_mean"].tolist() == pytest.approx([0.2, 0.5])
    assert table["ndcg_std"].tolist() == pytest.approx([0.2 / 2**0.5, 0.0])


def test_only_packages_that_are_absent_are_named_missing(tmp_path):
    (tmp_path / "lock").write_text('PyYAML==1.0\nnot-a-package==2.0\nnor-this==1 ; python_version == "3.5"\n')
    assert missing(tmp_path / "lock") == ["not-a-package==2.0"]


def run(root, *arguments):
    command = [sys.executable, "-m", "pipeline", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return make_runnable(tmp_path_factory.mktemp("project"))


def make_runnable(root):
    """A project of two small notebooks with its own copy of the package."""
    make_project(root)
    shutil.copy(ROOT / "Snakefile", root)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "pipeline", root / "pipeline", ignore=ignored)
    shutil.copytree(ROOT / "recsys_core/releases", root / "recsys_core/releases", ignore=ignored)
    for name in ("__init__.py", "datasets.py", "errors.py", "files.py"):
        shutil.copy(ROOT / "recsys_core" / name, root / "recsys_core")
    return root


def test_a_failed_notebook_names_itself_keeps_its_copy_and_the_next_run_continues(project):
    write_notebook(project, "second", 'raise ValueError("no rows")')
    failed = run(project, "study")
    assert failed.returncode == 1
    assert "second failed in code cell 2: ValueError: no rows" in failed.stderr
    assert "Traceback" in (project / "reports/executed/study/second.ipynb").read_text()
    write_notebook(project, "second", "import os\n\nos.kill(os.getpid(), 9)")
    died = run(project, "study").stderr
    assert "second stopped because its kernel died in code cell 2, for instance for lack of memory; see its" in died
    write_notebook(project, "second", "epochs")
    assert "second did not write reports/results/second.csv; see its" in run(project, "study").stderr
    write_notebook(project, "second", WRITE.format(name="second"))
    continued = run(project, "study")
    assert continued.returncode == 0 and "1 of 2 notebooks run" in continued.stdout
    assert "first: started" not in continued.stdout and "second: finished" in continued.stdout
    assert nbformat.read(project / "notebooks/second.ipynb", as_version=4).cells[2].outputs[0].text == "20\n"
    assert "0 of 2 notebooks run" in run(project, "study").stdout


def test_the_smoke_profile_runs_every_notebook_and_touches_nothing_tracked(project):
    before = {path: path.read_bytes() for path in project.glob("notebooks/*")}
    assert run(project, "study", "--profile", "smoke").returncode == 0
    for name, epochs in (("first", 1), ("second", 2)):
        assert (project / f"reports/runs/smoke/results/{name}.csv").read_text() == f"epochs\n{epochs}\n"
    assert {path: path.read_bytes() for path in project.glob("notebooks/*")} == before


def test_a_rerun_keeps_its_executed_notebook_and_prints_and_saves_a_summary(project):
    done = run(project, "rerun", "first", "epochs=3")
    assert done.returncode == 0 and "epochs" in done.stdout
    (summary_file,) = project.glob("reports/runs/*/summary.csv")
    assert summary_file.read_text() == "epochs\n3\n" and str(summary_file.relative_to(project)) in done.stdout
    (copy,) = project.glob("reports/runs/*/first.ipynb")
    assert (copy.parent / "results/first.csv").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="processes are followed as Linux does")
def test_a_killed_run_leaves_what_the_next_one_ends_and_repeats(project):
    wait = "import time\nfrom pathlib import Path\n\ntime.sleep(0 if Path('go').exists() else 60)\n"
    write_notebook(project, "second", wait + WRITE.format(name="second"))
    folders = ("reports/results/**/*", "notebooks/*")
    tracked = {path: path.read_bytes() for each in folders for path in project.glob(each) if path.is_file()}
    killed, kernels = start_and_wait_for_a_kernel(project)
    assert "at work in this folder" in run(project, "study").stderr
    killed.send_signal(signal.SIGKILL)
    assert {path: path.read_bytes() for path in tracked} == tracked and len(tracked) > 3
    (project / "go").touch()
    again = run(project, "study")
    assert again.returncode == 0 and "second: finished" in again.stdout
    assert not [each for each in kernels if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    assert (project / "reports/results/second.csv").read_text() == "epochs\n20\n"


def start_and_wait_for_a_kernel(project):
    """A started study, and the processes below it once a kernel is among them."""
    command = [sys.executable, "-m", "pipeline", "study"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=project, env={**os.environ, "PYTHONPATH": str(project)}, **pipes)
    for _ in range(400):
        below = psutil.Process(process.pid).children(recursive=True)
        with suppress(psutil.Error):
            if any("ipykernel_launcher" in each.cmdline() for each in below):
                return process, below
        time.sleep(0.1)
    raise AssertionError("no kernel was started")


@pytest.mark.skipif(sys.platform != "linux", reason="processes are followed as Linux does")
def test_a_killed_snakemake_ends_the_run_at_once_with_its_notebooks(project):
    write_notebook(project, "second", "import time\n\ntime.sleep(60)")
    process, below = start_and_wait_for_a_kernel(project)
    (snakemake,) = [each for each in below if "snakemake" in each.cmdline()]
    snakemake.kill()
    _, said = process.communicate(timeout=20)
    assert process.returncode == 1 and "Snakemake stopped with exit status -9" in said
    assert not [each for each in below if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def test_the_plain_papermill_line_is_what_snakemake_shows(project):
    shown = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "-p", "-F"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
    )
    line = "papermill notebooks/first.ipynb reports/executed/study/first.ipynb && python -m pipeline.runs.place first\n"
    assert f"Shell command: RECSYS_SCRATCH=reports/executed/study/scratch {line}" in shown.stdout


def test_rules_of_a_profile_give_parameters_values_and_cut_lists_and_what_it_says_of_a_notebook_goes_before(study):
    lines = [f"{name} = {value!r}" for name, value in (("epochs", 20), ("pretrain_epochs", 1), ("seeds", [3, 4, 5]))]
    cell = new_code_cell("\n".join([*lines, "sweep = [5, 6]", "seeds_of = 'all'"]), metadata={"tags": ["parameters"]})
    for name in ("first", "second"):
        nbformat.write(new_notebook(cells=[cell]), study.root / f"notebooks/{name}.ipynb")
    rules = 'smoke: {every: {"*epochs": 1}, shortened: {"seeds*": 2, sweep: 0, other: 1}, notebooks: {second: {seeds: [9]}}}'
    text = STUDY.replace("smoke: {every: {epochs: 1}, notebooks: {second: {epochs: 2}}}", rules)
    (study.root / "study.yaml").write_text(text)
    ruled = {"epochs": 1, "seeds": [3, 4], "sweep": []}
    study = Study(study.root)
    assert study.overrides("smoke", "first") == ruled and study.overrides("smoke", "second") == ruled | {"seeds": [9]}


def test_the_quick_profile_goes_by_rules_and_names_few_notebooks():
    study, quick = Study(), Study().profiles["smoke"]
    assert len(quick["notebooks"]) <= 8
    for name in study.notebooks:
        values = study.defaults(name) | study.overrides("smoke", name)
        assert all(values[key] == 1 for key in values if key.endswith("epochs"))
        assert all(len(values[key]) == 1 for key in values if key.endswith("seeds"))


def test_the_studys_own_file_is_consistent():
    study = Study()
    content = yaml.safe_load((ROOT / "study.yaml").read_text())
    assert set(content) == {"notebooks", "profiles"}
    files = {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert set(study.notebooks) == files
    for entry in study.notebooks.values():
        assert set(entry) <= {"outputs"} and entry.get("outputs") != [*OUTPUTS], "what is said by default is not listed"
    for name in content["profiles"]:
        profile = study.profiles[name]
        assert set(profile) <= {"every", "shortened", "stored", "notebooks", "profiles", "device", "own", "needs"}
        assert set(profile.get("needs", {})) <= files and bool(profile.get("needs")) == bool(profile.get("own"))
        assert {need for needs in profile.get("needs", {}).values() for need in needs} <= set(LACKING)
        assert set(profile.get("notebooks", {})) <= files and set(profile.get("profiles", [])) <= set(study.profiles)
        for notebook in study.notebooks:
            check_overrides(notebook, study.overrides(name, notebook), study.defaults(notebook))
        names = {key for n in files for key in study.defaults(n)}
        for pattern in [*profile.get("every", {}), *profile.get("shortened", {})]:
            assert fnmatch.filter(names, pattern), f"no notebook has a parameter {pattern}"
        if profile.get("stored"):
            assert all({**study.defaults(n), **o} != study.defaults(n) for n, o in profile["notebooks"].items())
