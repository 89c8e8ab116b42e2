"""The code is what a reader can hold, and data flows one way through it."""

import ast
import re
from pathlib import Path

from pipeline.chapters.study import ROOT
from recsys_core.models import MODELS
from recsys_core.protocols import PROTOCOLS

FILES = sorted((ROOT / "recsys_core").rglob("*.py"))
ALL_FILES = [path for folder in ("recsys_core", "pipeline") for path in sorted((ROOT / folder).rglob("*.py"))]
APART = ("app", "models", "releases")
MOST_LINES_OF_THE_CORE, MOST_LINES_A_FILE, MOST_LINES_A_MODEL, MOST_LINES_A_FUNCTION = 1500, 300, 200, 60
MOST_LINES_TO_READ = 900  # to know what one model does
READ_WITH_A_MODEL = ("models", "losses", "sampling", "train")
DECLARED = {
    f"recsys_core.models.{name}" for name in ("registry", "settings", "storage", "traits")
}  # says nothing about what a model does
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
    core = [path for path in FILES if path.relative_to(ROOT / "recsys_core").parts[0] not in APART]
    assert sum(sizes(core).values()) <= MOST_LINES_OF_THE_CORE


def test_no_file_is_longer_than_a_reader_holds() -> None:
    assert not {name: size for name, size in sizes(ALL_FILES).items() if size > MOST_LINES_A_FILE}


def test_no_models_file_is_longer_than_a_model_needs() -> None:
    models = list((ROOT / "recsys_core/models").glob("*.py"))
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


def reading_path(module: str) -> set[str]:
    """A model's module and all that it imports of the models' room, the losses, the sampling and the loop, directly or not."""
    found, waiting = set(), {module}
    while waiting:
        found |= waiting
        paths = [(ROOT / name.replace(".", "/")).with_suffix(".py") for name in waiting]
        imported = {name for path in paths for name in imported_by([path])} - found - DECLARED
        waiting = {
            name
            for name in imported
            if name.startswith("recsys_core.")
            and name.split(".")[1] in READ_WITH_A_MODEL
            and name != "recsys_core.models"
        }
    return found


def test_what_a_model_does_is_read_in_an_hour() -> None:
    totals = {}
    for name, kind in MODELS.items():
        files = [(ROOT / module.replace(".", "/")).with_suffix(".py") for module in reading_path(kind.__module__)]
        assert len(files) > 2
        totals[name] = sum(sizes(files).values())
    assert not {name: total for name, total in totals.items() if total > MOST_LINES_TO_READ}


def test_published_files_are_read_without_the_study() -> None:
    imported = imported_by(sorted((ROOT / "recsys_core/releases").rglob("*.py")))
    own = {name for name in imported if name.startswith("recsys_core") and not name.startswith("recsys_core.releases")}
    assert own == {"recsys_core.errors", "recsys_core.files"}


def test_the_module_knows_neither_the_pipeline_nor_any_notebook() -> None:
    imported = imported_by(FILES)
    assert "recsys_core.errors" in imported
    assert not {name for name in imported if name.split(".")[0] in ("pipeline", "notebooks", "tests", "matplotlib")}


def test_what_a_chapter_calls_knows_neither_what_runs_it_nor_what_is_measured_apart() -> None:
    imported = {room: imported_by(sorted((ROOT / "pipeline" / room).rglob("*.py"))) for room in ("chapters", "runs")}
    assert "pipeline.chapters.study" in imported["runs"]
    assert not {name for name in imported["chapters"] if name.startswith(("pipeline.runs", "pipeline.bench"))}
    assert not {name for name in imported["runs"] if name.startswith("pipeline.bench")}


# Words that are also something else: item popularity, a bias, and the papers whose published files are read.
COMMON_WORDS = {"bias", "popularity", "ncf", "sasrec"}


def words_of_code(source: str) -> set[str]:
    """Words of names and texts, those with hyphens whole, without docstrings and comments."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, WITH_DOCSTRING) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return set(re.findall(r"[\w-]+", ast.unparse(tree)))


def test_words_of_code_are_those_of_names_and_texts() -> None:
    source = '"""One."""\n\ndef two(three):\n    """Four."""\n    return "five six-seven"  # eight\n'
    assert words_of_code(source) == {"def", "two", "three", "return", "five", "six-seven"}


def test_only_models_name_models() -> None:
    names = {*MODELS, *(kind.__name__ for kind in MODELS.values())} - COMMON_WORDS
    others = [path for path in FILES if ROOT / "recsys_core/models" not in path.parents]
    found = {path.name: words_of_code(path.read_text(encoding="utf-8")) & names for path in others}
    assert not {name: words for name, words in found.items() if words}


def names_a_protocol(node: ast.AST | None, call: str = "") -> bool:
    """Whether a literal, or one of a literal list, is a protocol's name; its beginning for `startswith`, or in a `query`."""
    parts = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
    texts = [each.value for each in parts if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    if call == "startswith":
        return any(len(text) > 2 and name.startswith(text) for text in texts for name in PROTOCOLS)
    return any(text == name or (call == "query" and name in text) for text in texts for name in PROTOCOLS)


def decides_by_protocol(node: ast.AST) -> bool:
    """Whether a piece of code compares with a protocol's name, or has it as a key."""
    if isinstance(node, ast.Compare):
        return any(map(names_a_protocol, [node.left, *node.comparators]))
    if isinstance(node, ast.Dict):
        return any(map(names_a_protocol, node.keys))
    if isinstance(node, ast.MatchValue):
        return names_a_protocol(node.value)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        call = node.func.attr
        comparing = ("eq", "ne", "isin", "startswith", "removeprefix", "query")
        return call in comparing and any(names_a_protocol(argument, call) for argument in node.args)
    return False


def test_what_decides_by_a_protocols_name_is_found() -> None:
    found = (
        'split.protocol == "loo-full"',
        'protocol in ("temporal", "other")',
        'protocol.startswith("loo")',
        '{"rating-5fold": 1}',
        "rows.query(\"protocol == 'as-reported'\")",
        'rows["protocol"].isin(["user-holdout"])',
        'match protocol:\n    case "temporal": pass',
    )
    fine = ('make_split("loo-full", rows)', "PROTOCOLS[split.protocol].leaks", 'SPLIT = "temporal"', 'name == "rmse"')
    for sources, expected in ((found, True), (fine, False)):
        for source in sources:
            assert any(map(decides_by_protocol, ast.walk(ast.parse(source)))) == expected, source


def test_only_the_protocols_know_what_sets_them_apart() -> None:
    deciding = {
        f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', '')}"
        for path in ALL_FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if decides_by_protocol(node)
    }
    assert not deciding
