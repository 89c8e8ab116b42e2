"""The pinned environment: exact, installable anywhere, nothing missing and nothing that is not used."""

import json
import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TOP = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]
LOCK = [Requirement(line) for line in (ROOT / "requirements.lock").read_text().splitlines()]
HERE = [each for each in LOCK if each.marker is None or each.marker.evaluate()]
PINS = {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in HERE}
IMPORTED_AS = {"scikit-learn": "sklearn", "pyyaml": "yaml", "pillow": "PIL"}
# Used without being imported: a program that is called, a plugin of pytest, what a method of pandas needs, type stubs.
CALLED = {
    "jupyterlab": ("Makefile", "jupyter lab"),
    "papermill": ("pipeline/jobs.py", "papermill {"),
    "snakemake": ("pipeline/run.py", "-m snakemake"),
    "ruff": ("Makefile", "/ruff check"),
    "mypy": ("Makefile", "/mypy"),
    "pytest-xdist": ("Makefile", "-n 2"),
    "nbval": ("Makefile", "--nbval"),
    "pre-commit": (".pre-commit-config.yaml", "repos:"),
    "pyarrow": ("pipeline/notebook.py", "to_parquet"),
    "pandas-stubs": ("pyproject.toml", "mypy"),
    "types-pyyaml": ("pyproject.toml", "mypy"),
}


def test_every_line_of_the_lock_is_an_exact_pin_that_installs_anywhere():
    for each in LOCK:
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(each.specifier)), each
        assert not each.name.lower().startswith(("nvidia", "triton")) and not each.url
    assert PINS["torch"] == "2.13.0"


def needed(requirements: list[str], extras: frozenset[str] = frozenset()) -> set[str]:
    """Names of the packages that these requirements bring on this machine."""
    found: set[str] = set()
    waiting = [(Requirement(each), frozenset(Requirement(each).extras)) for each in requirements]
    while waiting:
        requirement, wanted = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, wanted) in found:
            continue
        found.add((name, wanted))
        for text in metadata.requires(name) or []:
            each = Requirement(text)
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in wanted | {""}):
                waiting.append((each, frozenset(each.extras)))
    return {name for name, _ in found}


def test_the_lock_holds_what_the_dependencies_need_and_nothing_else():
    foreign = ("nvidia", "triton", "cuda-")  # what torch brings along where there is a GPU
    own = {name for name in needed(TOP) if not name.startswith(foreign)}
    assert own == set(PINS)


@pytest.mark.parametrize("name", sorted(PINS))
def test_the_installed_version_is_the_pinned_one(name):
    assert Version(metadata.version(name)).public == PINS[name]


def python_sources():
    yield (ROOT / "Snakefile").read_text()
    for folder in ("recsys_core", "releases", "pipeline", "tests"):
        yield from (path.read_text() for path in (ROOT / folder).rglob("*.py"))
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        yield from ("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])


@pytest.mark.parametrize("requirement", TOP)
def test_every_dependency_is_used(requirement):
    name = Requirement(requirement).name.lower()
    if name in CALLED:
        place, text = CALLED[name]
        assert text in (ROOT / place).read_text()
    else:
        module = IMPORTED_AS.get(name, name)
        assert any(re.search(rf"^\s*(import|from) {module}\b", source, re.MULTILINE) for source in python_sources())


def test_the_conda_environment_is_python_and_pip_and_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python, pip, packages = environment["dependencies"]
    assert pip == "pip" and packages == {"pip": ["-r requirements.lock"]}
    assert python.removeprefix("python").split(",")[0] == PROJECT["requires-python"]
