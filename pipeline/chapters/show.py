"""Shows the source of what a chapter teaches, read from the module that runs: what is read is what runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

from IPython.display import Markdown

from pipeline.chapters.study import ROOT
from recsys_core.errors import StudyError


def show(*things: Callable[..., Any] | type) -> Markdown:
    """The source of functions, methods and classes, each below the name of its file.

    Raises StudyError for what has no source of this project, such as a function of numpy.
    """
    return Markdown("\n\n".join(_shown(thing) for thing in things))


def _shown(thing: Callable[..., Any] | type) -> str:
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
    return f"`{path.relative_to(ROOT).as_posix()}`, `{name}`\n\n```python\n{source.rstrip()}\n```"
