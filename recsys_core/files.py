"""Files that are either whole or not there."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\..+", re.DOTALL)


def temporary_beside(path: Path) -> Path:
    """A new name in the same folder, with the same suffix, that `is_temporary` knows."""
    return path.with_name(f".{uuid4().hex}.{path.name}")


def is_temporary(path: Path) -> bool:
    """Whether a path is named as `temporary_beside` does: what is called so was left by a killed process."""
    return _TEMPORARY.fullmatch(path.name) is not None


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes its place in one step, on failure nothing is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
