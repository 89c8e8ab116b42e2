"""What every notebook of the study keeps; nbval compares the outputs themselves."""

import ast
import re
from statistics import median

import nbformat
import pytest

from pipeline.chapters.study import ROOT, Study
from pipeline.runs.clean import clean
from recsys_core.models import MODELS

PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST_BYTES = 300_000
COMPARED_CELLS = 2
MOST_IGNORED = 60  # that show progress, or what an unfinished model says
CHAOTIC = {kind.__name__ for kind in MODELS.values() if kind().chaotic}  # networks, and what samples for long
WITHOUT_CHANCE = {kind.__name__ for kind in MODELS.values() if not kind().own_traits.stochastic}
DEVICES = re.compile(r"\.cuda\(|['\"](cuda|mps):\d|device\s*=\s*['\"](cuda|mps)|\.to\(\s*['\"](cuda|mps)")
DURATIONS = re.compile(r"\d\.\d+ ?s\b|\d+ ?(ms|seconds|minutes|it/s|MB|MiB|GB|GiB)\b")
TYPED_RESULTS = re.compile(r"(?<![\w.])\d*\.\d{2,}(?![\w.])")
NOT_PROSE = re.compile(r"```.*?```|`[^`]*`|\$[^$]*\$|\]\([^)]*\)|https?://\S+|arXiv:\S+|doi:\S+", re.DOTALL)


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code(notebook) for output in cell.outputs]


def texts(notebook):
    return [output.get("text", "") + output.get("data", {}).get("text/plain", "") for output in outputs(notebook)]


def test_execution_counts_are_1_to_n_in_order(notebook):
    assert [cell.execution_count for cell in code(notebook)] == list(range(1, len(code(notebook)) + 1))


def test_no_output_is_an_error_or_goes_to_stderr_or_is_widget_state(notebook):
    assert not [each for each in outputs(notebook) if each.output_type == "error" or each.get("name") == "stderr"]
    assert not [each for each in outputs(notebook) if any("widget" in kind for kind in each.get("data", {}))]
    assert "widgets" not in notebook.metadata


def test_exactly_one_cell_holds_the_parameters_and_the_run_is_opened_right_after_it(path, notebook):
    Study().defaults(path.stem)
    tagged = ["parameters" in cell.metadata.get("tags", []) for cell in code(notebook)]
    opened = code(notebook)[tagged.index(True) + 1].source
    assert re.search(rf'(Notebook\.open|open_study)\("{path.stem}", globals\(\)', opened)


def test_the_kernel_is_python3(notebook):
    assert notebook.metadata.kernelspec.name == "python3"


def test_enough_cells_are_compared_with_their_stored_output(notebook):
    skipped = {"nbval-ignore-output", "nbval-skip"}
    cells = [cell for cell in code(notebook) if not skipped & set(cell.metadata.get("tags", []))]
    assert sum(bool(cell.outputs) for cell in cells) >= COMPARED_CELLS


def test_no_result_is_typed_into_prose(notebook):
    prose = [NOT_PROSE.sub("", cell.source) for cell in notebook.cells if cell.cell_type == "markdown"]
    assert not [match for text in prose for match in TYPED_RESULTS.findall(text)]


def test_no_stored_output_holds_a_duration_a_rate_or_a_memory_figure(path, notebook):
    if path.stem == "70_performance":
        pytest.skip("it shows the timings that are tracked in reports/")
    assert not [match.group() for text in texts(notebook) for match in DURATIONS.finditer(text)]


def test_no_sentence_says_nan(notebook):
    sentences = [output.get("data", {}).get("text/markdown", "") for output in outputs(notebook)]
    assert not [text for text in sentences if re.search(r"\bnan\b", text) and not text.startswith("`")]


def test_no_stored_output_holds_a_path_of_a_machine_or_the_name_of_a_plot_object(notebook):
    assert not [text for text in texts(notebook) if re.search(r"(^|[\s'\"(])/(home|root|tmp|Users)/|<Axes", text)]


def test_the_file_is_small_and_as_the_cleaner_leaves_it(path, notebook):
    text = path.read_text(encoding="utf-8")
    assert len(text.encode()) < LARGEST_BYTES
    assert nbformat.writes(clean(notebook)) + "\n" == text, "run make study, it stores clean notebooks"


def test_code_cells_are_short_and_hold_no_classes_or_training_loops(notebook):
    lines = [len(cell.source.splitlines()) for cell in code(notebook)]
    assert median(lines) <= 6 and max(lines) <= 25
    for cell in code(notebook):
        assert not [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.ClassDef)]
        assert ".backward(" not in cell.source and "optimizer.step(" not in cell.source


def test_it_has_a_title_and_says_what_was_learnt(notebook):
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    assert any(re.search(r"^## .*What we learnt", cell.source, re.MULTILINE) for cell in notebook.cells)


@pytest.mark.parametrize("source", sorted(ROOT.glob("recsys_core/**/*.py")), ids=lambda path: path.name)
def test_no_module_hard_codes_a_device(source):
    assert not DEVICES.findall(source.read_text(encoding="utf-8"))


def test_no_notebook_hard_codes_a_device(notebook):
    assert not [cell.source for cell in code(notebook) if DEVICES.search(cell.source)]


@pytest.mark.parametrize("line", ['x.cuda()', 'd = "cuda:0"', 'fit(device="cuda")', "x.to('mps')"])  # fmt: skip
def test_the_guard_sees_a_hard_coded_device(line):
    assert DEVICES.search(line)


def test_results_and_the_store_stay_small():
    reports = ROOT / "reports"
    files = [file for file in reports.rglob("*") if file.is_file()]
    tracked = [file for file in files if file.relative_to(reports).parts[0] not in ("executed", "runs")]
    assert sum(file.stat().st_size for file in tracked) < 40_000_000


def test_nearly_all_cells_are_compared():
    cells = [cell for path in PATHS for cell in code(nbformat.read(path, as_version=4))]
    ignored = [cell for cell in cells if "nbval-ignore-output" in cell.metadata.get("tags", [])]
    assert len(ignored) <= MOST_IGNORED


def test_no_cell_of_a_chapter_that_trains_networks_fits_a_model_that_draws_at_random(notebook):
    nodes = [node for cell in code(notebook) for node in ast.walk(ast.parse(cell.source))]
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    for call in nodes if names & (CHAOTIC | {"MODELS"}) else []:
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "fit":
            fitted = call.func.value.func if isinstance(call.func.value, ast.Call) else None
            name = getattr(fitted, "id", getattr(fitted, "attr", ""))
            assert name in WITHOUT_CHANCE, (
                f"{ast.unparse(call)}: ask for a run (study.run, study.validated, study.train)"
            )


def test_the_guard_knows_networks_from_closed_forms():
    assert {"NCF", "BayesianFM", "ItemAutoRec"} <= CHAOTIC and not CHAOTIC & WITHOUT_CHANCE
    assert {"EASE", "Bias", "Popularity"} <= WITHOUT_CHANCE
