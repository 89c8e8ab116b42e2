import os

import matplotlib.pyplot as plt
import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from pipeline.chapters.notebook import Notebook
from recsys_core.errors import StudyError

STUDY = """
notebooks:
  one: {outputs: [results]}
  two: {outputs: [results]}
profiles:
  study:
  smoke: {every: {epochs: 1}}
  large:
    stored: true
    notebooks:
      one: {dataset: large}
"""
PARAMETERS = 'dataset = "small"\nepochs = 20\nrate = 0.5\ndevice = "cpu"\nseeds = [0, 1]'
READS = {"one": "", "two": 'chapters = ("one",)\nnotebook.read_references()'}
DEFAULTS = {"dataset": "small", "epochs": 20, "rate": 0.5, "device": "cpu", "seeds": [0, 1]}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    (tmp_path / "notebooks").mkdir()
    for name in ("one", "two"):
        cells = [new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]}), new_code_cell(READS[name])]
        nbformat.write(new_notebook(cells=cells), tmp_path / f"notebooks/{name}.ipynb")
    return tmp_path


def opened(root, name="one", injected="", **overrides):
    return Notebook.open(name, {**DEFAULTS, **overrides, "In": ["", injected]}, root=root)


def test_default_parameters_write_to_the_tracked_places(root):
    notebook = opened(root)
    assert notebook.is_default and notebook.profile == "study"
    assert notebook.output == root / "reports" and notebook.figures == root / "figures/one"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_parameters_of_a_stored_profile_write_to_its_folder_by_class_of_device(root, device):
    notebook = opened(root, dataset="large", device=device)
    assert (notebook.profile, notebook.output) == ("large", root / "reports/stored/large" / device)
    assert not notebook.is_default


def test_parameters_of_a_profile_that_is_not_stored_write_to_ignored_runs(root):
    assert opened(root, epochs=1).output == root / "reports/runs/smoke"


def test_other_parameters_write_to_ignored_runs_each_to_its_own(root):
    outputs = {opened(root, epochs=epochs).output for epochs in (2, 3, 3)}
    assert len(outputs) == 2 and {output.parent for output in outputs} == {root / "reports/runs"}
    assert opened(root, epochs=2).profile is None


def test_a_named_output_folder_wins(root, monkeypatch):
    monkeypatch.setenv("RECSYS_OUTPUT", "elsewhere")
    notebook = opened(root)
    assert notebook.output == root / "elsewhere" and notebook.figures == root / "elsewhere/figures/one"


def test_an_unknown_parameter_from_papermill_is_refused_with_the_allowed_ones(root):
    with pytest.raises(StudyError, match=r"Unknown parameter 'epoch' for one; allowed: dataset, epochs, rate"):
        opened(root, injected="# Parameters\nepoch = 3\n")


def test_a_parameter_of_another_type_from_papermill_is_refused(root):
    with pytest.raises(StudyError, match="epochs='3' of one must be of type int"):
        opened(root, injected='# Parameters\nepochs = "3"\n', epochs="3")


def test_an_integer_is_accepted_where_the_default_is_a_float(root):
    assert opened(root, injected="# Parameters\nrate = 1\n", rate=1).parameters["rate"] == 1


def test_a_notebook_opened_before_its_parameters_cell_is_refused(root):
    with pytest.raises(StudyError, match="run the parameters cell first"):
        Notebook.open("one", {}, root=root)


def test_results_are_sorted_by_their_keys_rounded_and_end_lines_alike(root):
    frame = pd.DataFrame({"model": ["b", "a"], "seed": [0, 1], "ndcg": [1 / 3, -1e-9]})
    opened(root).save_results(frame)
    assert (root / "reports/results/one.csv").read_bytes() == b"model,seed,ndcg\na,1,0.0\nb,0,0.333333\n"


def test_rows_in_another_order_give_the_same_bytes(root):
    frame = pd.DataFrame({"user_id": [2, 1, 3], "model": "a", "ndcg": [0.123456789, 0.2, 0.3]})
    written = []
    for rows in (frame, frame.iloc[::-1]):
        opened(root).save_users(rows)
        written.append((root / "reports/results/users/one.parquet").read_bytes())
    users = opened(root).read_users("one")
    assert written[0] == written[1]
    assert users["ndcg"].dtype == "float32" and users["ndcg"][1] == pytest.approx(0.12346, abs=1e-7)


def test_a_figure_is_saved_with_the_same_bytes_each_time_and_is_not_open_any_more(root):
    written = []
    for _ in range(2):
        figure, axes = plt.subplots()
        axes.plot([1, 2])
        assert opened(root).save_figure(figure, "line") is figure and not plt.get_fignums()
        written.append((root / "figures/one/line.png").read_bytes())
    assert written[0] == written[1] and b"Software" not in written[0]


def test_results_that_are_missing_upstream_name_the_notebook_to_run(root):
    with pytest.raises(StudyError, match=r"two reads reports/results/one.csv, which is missing: run notebook one"):
        opened(root, "two").read_results("one")


def test_upstream_results_come_from_the_same_run(root):
    opened(root, epochs=1).save_results(pd.DataFrame({"model": ["a"]}))
    assert len(opened(root, "two", epochs=1).read_results("one")) == 1
    with pytest.raises(StudyError):
        opened(root, "two").read_results("one")


def test_a_run_with_other_parameters_falls_back_to_committed_results_of_its_own_dataset(root):
    opened(root).save_results(pd.DataFrame({"dataset": ["small", "large"], "model": ["a", "b"]}))
    assert list(opened(root, "two", epochs=3).read_results("one")["model"]) == ["a"]
    assert opened(root, "two", epochs=3, dataset="other").read_results("one").empty


def test_a_rerun_with_the_default_parameters_falls_back_to_committed_results_and_figures_too(root, monkeypatch):
    opened(root).save_results(pd.DataFrame({"model": ["a"]}))
    monkeypatch.setenv("RECSYS_OUTPUT", "elsewhere")
    assert list(opened(root, "two").read_results("one")["model"]) == ["a"]
    assert opened(root, "two").figure_path("one/line") == root / "figures/one/line.png"


def test_a_run_in_a_scratch_folder_writes_there_and_reads_what_is_kept(root, monkeypatch):
    opened(root).save_results(pd.DataFrame({"model": ["a"]}))
    monkeypatch.setenv("RECSYS_SCRATCH", "scratch")
    notebook = opened(root)
    notebook.save_results(pd.DataFrame({"model": ["a", "b"]}))
    assert len(opened(root, "two").read_results("one")) == 1
    assert len(notebook.read_results("one")) == 2, "of its own results a notebook reads what it has just saved"
    assert len(pd.read_csv(root / "scratch/reports/results/one.csv")) == 2
    assert notebook.figures == root / "scratch/figures/one"
    assert notebook.figure_path("one/a") == root / "scratch/figures/one/a.png"
    assert notebook.figure_path("two/a") == root / "figures/two/a.png"
    assert [str(notebook.final(each)) for each in (notebook.output, root / "figures")] == ["reports", "figures"]


def test_what_the_pipeline_cannot_find_in_the_code_is_not_read_in_the_studys_own_runs(root, monkeypatch):
    (root / "reports").mkdir()
    (root / "reports/references.csv").write_text("reported\n1\n")
    opened(root, "two").save_results(pd.DataFrame({"model": ["a"]}))
    assert len(opened(root).read_results("two")) == len(opened(root).read_references()) == 1
    monkeypatch.setenv("RECSYS_SCRATCH", "scratch")
    with pytest.raises(StudyError, match="one reads two, whose name stands in none of its code cells"):
        opened(root).read_results("two")
    for read in (lambda: opened(root).hyperparameters("ease"), opened(root).read_references, opened(root).read_timings):
        with pytest.raises(StudyError, match=r"one reads reports/.* by a call that `pipeline.chapters.reads` does not"):
            read()
    assert len(opened(root, "two").read_references()) == 1


def test_a_notebook_that_has_saved_nothing_yet_reads_no_earlier_results_of_its_own(root, monkeypatch):
    opened(root).save_results(pd.DataFrame({"model": ["a"]}))
    monkeypatch.setenv("RECSYS_SCRATCH", "scratch")
    with pytest.raises(StudyError, match="which is missing: run notebook one first"):
        opened(root).read_results("one")


def test_an_unknown_policy_is_refused(root, monkeypatch):
    monkeypatch.setenv("RECSYS_POLICY", "everything")
    with pytest.raises(StudyError, match="RECSYS_POLICY='everything' is not known: allowed are free, first"):
        opened(root)


def under(root, monkeypatch, policy, runs=("a",), **environment):
    """A notebook under a policy that has asked for these runs."""
    for name, value in {"RECSYS_POLICY": policy, **environment}.items():
        monkeypatch.setenv(name, value)
    notebook = opened(root)
    notebook.used.update(runs)
    return notebook


def test_a_kept_value_is_handed_back_where_the_fresh_one_agrees(root, monkeypatch):
    assert under(root, monkeypatch, "write").keep("share", 0.25, 0.01) == 0.25
    for policy in ("first", "prefix", "main", "all", "free", "write"):
        assert under(root, monkeypatch, policy).keep("share", 0.255, 0.01) == 0.25, policy
        assert under(root, monkeypatch, policy).keep("share", 0.9) == 0.25, policy  # cannot be compared


def test_a_kept_value_that_differs_is_an_error_that_says_by_how_much(root, monkeypatch):
    under(root, monkeypatch, "write").keep("share", 0.25, 0.01)
    for policy in ("first", "main", "all"):
        with pytest.raises(StudyError, match=r"one, 'share': fresh and kept value are 0.05 apart, 0.01 are allowed"):
            under(root, monkeypatch, policy).keep("share", 0.3, 0.01)
    assert under(root, monkeypatch, "prefix").keep("share", 0.3, 0.01) == 0.25  # of an unfinished model
    assert under(root, monkeypatch, "free").keep("share", 0.3, 0.01) == 0.3
    assert under(root, monkeypatch, "first", RECSYS_REPLACE="1").keep("share", 0.3, 0.01) == 0.3
    monkeypatch.delenv("RECSYS_REPLACE")
    assert under(root, monkeypatch, "first").keep("share", 0.3, 0.01) == 0.3


def test_a_function_is_called_only_where_nothing_is_kept_or_all_is_verified(root, monkeypatch):
    calls = []

    def value():
        calls.append(1)
        return 0.25

    for policy, expected in (
        ("write", 1),
        ("first", 0),
        ("prefix", 0),
        ("free", 0),
        ("write", 0),
        ("main", 1),
        ("all", 1),
    ):
        calls.clear()
        assert under(root, monkeypatch, policy).keep("share", value, 0.01) == 0.25
        assert len(calls) == expected, policy


def test_fresh_values_of_a_function_replace_kept_ones_where_that_is_asked_for(root, monkeypatch):
    under(root, monkeypatch, "write").keep("share", 0.25, 0.01)
    assert under(root, monkeypatch, "first", RECSYS_REPLACE="1").keep("share", lambda: 0.3, 0.01) == 0.3
    monkeypatch.delenv("RECSYS_REPLACE")
    assert under(root, monkeypatch, "first").keep("share", lambda: 0.9, 0.01) == 0.3


def test_runs_that_a_function_asks_for_do_not_count_since_it_is_not_always_called(root, monkeypatch):
    for policy in ("write", "first"):
        notebook = under(root, monkeypatch, policy)
        notebook.keep("share", lambda: notebook.uses("inner") or 0.25, 0.01)  # noqa: B023
        assert notebook.keep("another", 1.0, 0.01) == 1.0


def test_a_value_made_from_other_runs_is_new(root, monkeypatch):
    under(root, monkeypatch, "write").keep("share", 0.25, 0.01)
    with pytest.raises(StudyError, match="'share' is not kept of these runs: run `make store NOTEBOOK=one`"):
        under(root, monkeypatch, "first", runs=("a", "b")).keep("share", 0.25, 0.01)
    assert under(root, monkeypatch, "write", runs=("a", "b")).keep("share", 0.3, 0.01) == 0.3
    assert under(root, monkeypatch, "first", runs=("a", "b")).keep("share", 0.3, 0.01) == 0.3


def test_a_value_made_under_other_default_parameters_is_new(root, monkeypatch):
    under(root, monkeypatch, "write").keep("share", 0.25, 0.01)
    path = root / "notebooks/one.ipynb"
    path.write_text(path.read_text().replace("epochs = 20", "epochs = 30"))
    monkeypatch.setitem(DEFAULTS, "epochs", 30)
    with pytest.raises(StudyError, match="'share' is not kept of these runs"):
        under(root, monkeypatch, "first").keep("share", 0.25, 0.01)


def test_values_of_other_parameters_are_neither_kept_nor_read(root, monkeypatch):
    monkeypatch.setenv("RECSYS_POLICY", "write")
    assert opened(root, epochs=3).keep("share", lambda: 0.25, 0.01) == 0.25
    assert not (root / "reports/stored").exists()


def test_stored_results_are_joined_over_classes_of_device(root):
    assert opened(root).read_stored("large", "one").empty
    for device in ("cpu", "cuda"):
        opened(root, dataset="large", device=device).save_results(pd.DataFrame({"model": ["a"]}))
    assert list(opened(root).read_stored("large", "one")["device_class"]) == ["cpu", "cuda"]
    assert opened(root).read_stored_users("large", "one").empty
    opened(root, dataset="large", device="cpu").save_users(pd.DataFrame({"user": [3]}))
    assert opened(root).read_stored_users("large", "one").to_dict("records") == [{"user": 3, "device_class": "cpu"}]


def test_opening_binds_the_numerical_libraries_to_one_thread_unless_told(root):
    import torch

    opened(root)
    assert torch.get_num_threads() == 1 and os.environ["OMP_NUM_THREADS"] == "1"


def test_a_table_of_an_analysis_has_a_row_per_name_and_a_column_per_measure(root):
    first = opened(root)
    rows = [("genres", "Drama", "films", 725.0), ("genres", "Drama", "ratings", 9.0), ("genres", "War", "films", 71.0)]
    first.save_results(pd.DataFrame(rows, columns=["table", "name", "measure", "value"]))
    genres = opened(root, "two").read_table("one", "genres")
    assert genres.loc["Drama"].to_dict() == {"films": 725.0, "ratings": 9.0} and pd.isna(genres.loc["War", "ratings"])
    with pytest.raises(StudyError, match="no table 'years'; there are genres"):
        opened(root, "two").read_table("one", "years")
