"""The module is small, and data flows one way through it."""

import ast
from pathlib import Path

from pipeline.study import ROOT

FILES = sorted((ROOT / "recsys_core").rglob("*.py"))
MOST_LINES, MOST_LINES_A_FILE = 3500, 300
WITH_DOCSTRING = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_lines(path: Path) -> int:
    """Lines that are neither blank nor comment nor docstring."""
    source = path.read_text(encoding="utf-8")
    prose: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, WITH_DOCSTRING) and ast.get_docstring(node) is not None:
            prose |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines = enumerate(source.splitlines(), start=1)
    return sum(bool(line.strip()) and not line.strip().startswith("#") and n not in prose for n, line in lines)


def test_the_module_and_each_of_its_files_are_small() -> None:
    sizes = {path.name: code_lines(path) for path in FILES}
    assert sum(sizes.values()) < MOST_LINES
    assert not {name: size for name, size in sizes.items() if size >= MOST_LINES_A_FILE}


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
    imported = imported_by(sorted((ROOT / "releases").rglob("*.py")))
    assert {name for name in imported if name.startswith("recsys_core")} == {"recsys_core.errors", "recsys_core.files"}


def test_the_module_knows_neither_the_pipeline_nor_any_notebook() -> None:
    imported = imported_by(FILES)
    assert "recsys_core.errors" in imported
    assert not {name for name in imported if name.split(".")[0] in ("pipeline", "notebooks", "tests", "matplotlib")}
