"""Shows the source of what a chapter teaches, read from the module that runs: what is read is what runs."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

from IPython.display import Markdown

from pipeline.chapters.study import ROOT
from recsys_core.errors import StudyError


def show(*things: Callable[..., Any] | type, docstrings: bool = True) -> Markdown:
    """The source of functions, methods and classes, each below the name of its file; without docstrings if so wished.

    Raises StudyError for what has no source of this project, such as a function of numpy.
    """
    return Markdown("\n\n".join(_shown(thing, docstrings) for thing in things))


def _shown(thing: Callable[..., Any] | type, docstrings: bool) -> str:
    plain = inspect.unwrap(thing)
    name = getattr(plain, "__qualname__", repr(plain))
    try:
        path = Path(inspect.getsourcefile(plain) or "").resolve()
        source = dedent(inspect.getsource(plain))
    except (OSError, TypeError):
        path, source = Path(), ""
    if not path.is_relative_to(ROOT) or not source:
        raise StudyError(
            f"{name} has no source in this project: show a function, method or class of recsys_core or pipeline."
        )
    text = source.rstrip() if docstrings else without_docstrings(source)
    return f"`{path.relative_to(ROOT).as_posix()}`, `{name}`\n\n```python\n{text}\n```"


def without_docstrings(source: str) -> str:
    """Source of one function or class without its docstring and those within it; comments and layout stay."""
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.FunctionDef | ast.ClassDef)
            and ast.get_docstring(node) is not None
            and len(node.body) > 1
        ):
            docstring = node.body[0]
            left_out |= set(range(docstring.lineno, (docstring.end_lineno or 0) + 1))
    lines = source.rstrip().splitlines()
    left_out |= {n + 1 for n in left_out if n < len(lines) and n + 1 not in left_out and not lines[n].strip()}
    return "\n".join(line for number, line in enumerate(lines, 1) if number not in left_out)
