"""Which files of the project a piece of code runs, found by its imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

from pipeline.chapters.reads import parsed

PACKAGES = ("pipeline", "recsys_core")
DATA = (".yaml", ".html", ".mplstyle")  # beside a module, read by it


class Imports:
    """Follows imports below `root`; each file is read once."""

    def __init__(self, root: Path):
        self.root = root
        self.direct: dict[Path, set[Path]] = {}

    def of(self, sources: list[str]) -> list[Path]:
        """Modules that these sources run, with the packages they are in, and the data files beside them, in order.

        An import inside a function counts like any other; a package that is imported whole counts whole, and so does one that
        imports all of its files itself, see `_walked`.
        """
        found: set[Path] = set()
        waiting = {path for source in sources for path in self._imported(source, ())}
        while waiting:
            path = waiting.pop()
            found.add(path)
            if path not in self.direct:
                package = path.relative_to(self.root).parent.parts
                source = path.read_text(encoding="utf-8")
                self.direct[path] = {*self._imported(source, package), *_walked(path, source)}
            waiting |= self.direct[path] - found
        folders = {path.parent for path in found}
        return sorted(found | {path for each in folders for path in each.iterdir() if path.suffix in DATA})

    def _imported(self, source: str, package: tuple[str, ...]) -> Iterator[Path]:
        """Files that a source in this package imports itself."""
        for node in ast.walk(parsed(source)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield from self._files(tuple(alias.name.split(".")))
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) + 1 - node.level] if node.level else ()
                module = (*above, *(node.module or "").split(".")) if node.module else above
                for alias in node.names:
                    whole = not self._module((*module, alias.name))
                    yield from self._files(module if whole else (*module, alias.name))

    def _files(self, module: tuple[str, ...]) -> Iterator[Path]:
        """The file of a module, or all files of a package, and the packages around it; nothing where it is not of the project."""
        if not module or module[0] not in PACKAGES or not (path := self._module(module)):
            return
        for depth in range(1, len(module)):
            if around := self._module(module[:depth]):
                yield around
        yield path
        if path.name == "__init__.py":
            yield from path.parent.rglob("*.py")

    def _module(self, module: tuple[str, ...]) -> Path | None:
        place = self.root.joinpath(*module)
        candidates = (place.with_name(f"{place.name}.py"), place / "__init__.py")
        return next((path for path in candidates if path.is_file()), None)


def _walked(path: Path, source: str) -> list[Path]:
    """The files of a package that imports each of them by name as it walks over its own folder; none of any other module."""
    return list(path.parent.glob("*.py")) if "iter_modules(__path__)" in source else []
