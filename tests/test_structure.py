"""The code is what a reader can hold, and data flows one way through it."""

import ast
from pathlib import Path

from pipeline.chapters.study import ROOT

FILES = sorted((ROOT / "recsys_core").rglob("*.py"))
ALL_FILES = [path for folder in ("recsys_core", "pipeline") for path in sorted((ROOT / folder).rglob("*.py"))]
APART = ("app", "models", "releases")
MOST_LINES_OF_THE_CORE, MOST_LINES_A_FILE, MOST_LINES_A_MODEL, MOST_LINES_A_FUNCTION = 1500, 300, 200, 60
SHARED_BY_MODELS = ("base.py", "storage.py")
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
WITH_DOCSTRING = (ast.Module, ast.ClassDef, *FUNCTION)


def code_line_numbers(source: str) -> set[int]:
    """Numbers of the lines that are neither blank nor comment nor docstring."""
    prose: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, WITH_DOCSTRING) and ast.get_docstring(node) is not None:
            prose |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(source.splitlines(), start=1)
    return {n for n, line in lines if line.strip() and not line.strip().startswith("#")} - prose


def sizes(files: list[Path]) -> dict[str, int]:
    """Code lines by the path below the project's folder."""
    return {
        path.relative_to(ROOT).as_posix(): len(code_line_numbers(path.read_text(encoding="utf-8"))) for path in files
    }


def test_lines_are_counted_without_blank_lines_comments_and_docstrings() -> None:
    source = '"""One.\n\ntwo."""\n\n# three\ndef f():\n    """Four."""\n    return "#"  # five\n'
    assert code_line_numbers(source) == {6, 8}


def test_the_core_that_everything_stands_on_can_be_read_in_an_afternoon() -> None:
    core = [path for path in FILES if path.parent.name not in APART]
    assert sum(sizes(core).values()) <= MOST_LINES_OF_THE_CORE


def test_no_file_is_longer_than_a_reader_holds() -> None:
    assert not {name: size for name, size in sizes(ALL_FILES).items() if size > MOST_LINES_A_FILE}


def test_no_models_file_is_longer_than_a_model_needs() -> None:
    models = [path for path in (ROOT / "recsys_core/models").glob("*.py") if path.name not in SHARED_BY_MODELS]
    assert len(models) > 15
    assert not {name: size for name, size in sizes(models).items() if size > MOST_LINES_A_MODEL}


def test_no_function_is_longer_than_a_screen() -> None:
    longer = {}
    for path in ALL_FILES:
        source = path.read_text(encoding="utf-8")
        counted = code_line_numbers(source)
        functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, FUNCTION)]
        lengths = {f.name: len(counted & set(range(f.lineno, (f.end_lineno or 0) + 1))) for f in functions}
        longer |= {(path.name, name): length for name, length in lengths.items() if length > MOST_LINES_A_FUNCTION}
    assert not longer


def imported_by(files: list[Path]) -> set[str]:
    """Names of the modules that these files import."""
    return {
        name
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }


def test_published_files_are_read_without_the_study() -> None:
    imported = imported_by(sorted((ROOT / "recsys_core/releases").rglob("*.py")))
    own = {name for name in imported if name.startswith("recsys_core") and not name.startswith("recsys_core.releases")}
    assert own == {"recsys_core.errors", "recsys_core.files"}


def test_the_module_knows_neither_the_pipeline_nor_any_notebook() -> None:
    imported = imported_by(FILES)
    assert "recsys_core.errors" in imported
    assert not {name for name in imported if name.split(".")[0] in ("pipeline", "notebooks", "tests", "matplotlib")}
