"""The pinned environment: exact, installable anywhere, nothing missing and nothing that is not used."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from pipeline.runs import environment
from pipeline.runs.environment import STAMP, UNFINISHED, Refused, prepare_environment

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TOP = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]
LINES = (ROOT / "requirements.lock").read_text().splitlines()
LOCK = [Requirement(line) for line in LINES if not line.startswith("#")]
HERE = [each for each in LOCK if each.marker is None or each.marker.evaluate()]
PINS = {canonicalize_name(each.name): str(each.specifier).removeprefix("==") for each in HERE}
IMPORTED_AS = {"beautifulsoup4": "bs4", "scikit-learn": "sklearn", "pyyaml": "yaml", "pillow": "PIL"}
# Used without being imported: a program that is called, a plugin of pytest, what a method of pandas needs, type stubs.
CALLED = {
    "jupyterlab": ("Makefile", "jupyter lab"),
    "papermill": ("pipeline/runs/jobs.py", "papermill {"),
    "snakemake": ("pipeline/runs/run.py", "-m snakemake"),
    "ruff": ("Makefile", "/ruff check"),
    "mypy": ("Makefile", "/mypy"),
    "pytest-xdist": ("Makefile", "-n 2"),
    "nbval": ("Makefile", "--nbval"),
    "pre-commit": (".pre-commit-config.yaml", "repos:"),
    "pyarrow": ("pipeline/chapters/notebook.py", "to_parquet"),
    "pandas-stubs": ("pyproject.toml", "mypy"),
    "types-pyyaml": ("pyproject.toml", "mypy"),
}


def test_every_line_of_the_lock_is_an_exact_pin_that_installs_anywhere():
    for each in LOCK:
        assert re.fullmatch(r"==[0-9][0-9a-z.]*", str(each.specifier)), each
        assert not each.name.lower().startswith(("nvidia", "triton")) and not each.url
    assert PINS["torch"] == "2.13.0"


def test_the_lock_has_no_hashes_and_says_why():
    assert LINES[0].startswith("# Exact versions without hashes.") and not any("--hash" in line for line in LINES)


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


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A root with a lock, and the programs that would be run instead of running them."""
    root = tmp_path / "a project of $HOME"
    (root / "notes").mkdir(parents=True)
    for name in ("requirements.lock", "pyproject.toml", "notes/mine.txt"):
        (root / name).touch()
    ran = []
    monkeypatch.setattr(environment, "run", lambda *command: ran.append(command))
    return root, ran


def own_environment(folder):
    """A folder whose Python says that the folder is its own, as in every environment."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").write_text(f"#!/bin/sh\necho 3 11\necho '{folder}'\n")
    (folder / "bin/python").chmod(0o755)
    return folder


def everything_below(root):
    return {path: path.is_file() and path.read_bytes() for path in sorted(root.rglob("*"))}


@pytest.mark.parametrize(
    "given", ["notes", "./notes/", ".", "..", "/", "notes/mine.txt", "bin", "~/env", "a:b", ".venv"]
)
def test_what_is_no_environment_and_not_empty_is_refused_and_untouched(project, given):
    root, ran = project
    for folder in ("bin", ".venv"):
        (root / folder).mkdir()
        (root / folder / "python").write_text("mine")
    before = everything_below(root.parent)
    with pytest.raises(
        Refused, match=r"is neither an environment nor an empty folder|was not expanded|has a ':' in its"
    ):
        prepare_environment(root, given, [])
    assert everything_below(root.parent) == before and not ran


@pytest.mark.parametrize(
    ("given", "place"), [("", ".venv"), (" ", ".venv"), ("new/one", "new/one"), ("my own $x", "my own $x")]
)
@pytest.mark.parametrize("there", [True, False])
def test_a_missing_or_empty_folder_becomes_an_environment_and_then_stays(project, given, place, there):
    root, ran = project
    if there:
        (root / place).mkdir(parents=True)
    prepare_environment(root, given, ["--quiet"])
    assert ran[0][1:] == ("-m", "venv", str(root / place)) and "--quiet" in ran[1] and len(ran) == 3
    assert (root / place / STAMP).exists() and not (root / place / UNFINISHED).exists()
    own_environment(root / place)
    prepare_environment(root, given, [])
    assert len(ran) == 3


def test_a_folder_in_which_making_was_interrupted_is_made_over_and_only_the_own_one_is_emptied(project):
    root, _ = project
    for place, emptied in ((".venv", True), ("other", False)):
        (root / place).mkdir()
        (root / place / UNFINISHED).write_text(str(root))
        (root / place / "lib").mkdir()
        (root / place / "lib/half.py").touch()
        prepare_environment(root, place, [])
        assert (root / place / STAMP).exists() and (root / place / "lib").exists() is not emptied


@pytest.mark.parametrize("given", ["", "./.venv", "/absolute"])
def test_the_own_environment_follows_the_lock_and_is_emptied_only_when_its_python_has_gone(project, given):
    root, ran = project
    given = str(root / ".venv") if given == "/absolute" else given
    own_environment(root / ".venv")
    (root / ".venv" / STAMP).touch()
    os.utime(root / ".venv" / STAMP, (0, 0))
    prepare_environment(root, given, [])
    assert [command[3] for command in ran] == ["install", "install"] and (root / ".venv/bin/python").exists()
    (root / ".venv/bin/python").chmod(0o644)
    prepare_environment(root, given, [])
    assert ran[2][1:3] == ("-m", "venv") and not (root / ".venv/bin").exists()


@pytest.mark.parametrize("place", ["own env", ".venv", "linked"])
def test_somebodys_own_environment_is_completed_and_nothing_else(project, monkeypatch, place):
    root, ran = project
    folder = own_environment(root.parent / "elsewhere" if place == "linked" else root / place)
    if place == "linked":
        (folder / STAMP).write_text("/another/project")
        (root / ".venv").symlink_to(folder)
    before = everything_below(folder)
    monkeypatch.setattr(environment, "missing_in", lambda *_: ["a==1"])
    prepare_environment(root, "" if place == "linked" else place, [])
    assert [command[3:] for command in ran] == [("install", "--disable-pip-version-check", "a==1")]
    assert everything_below(folder) == before


def test_an_environment_of_an_older_python_is_refused(project):
    root, _ = project
    python = own_environment(root / "old") / "bin/python"
    python.write_text(python.read_text().replace("3 11", "3 8"))
    with pytest.raises(Refused, match=r"is older than Python 3.11; give another VENV"):
        prepare_environment(root, "old", [])


def test_the_running_environment_is_recognised_and_lacks_nothing_of_the_lock():
    assert environment.python_of(Path(sys.prefix)) == Path(sys.prefix) / "bin/python"
    assert environment.missing_in(Path(sys.executable), ROOT / "requirements.lock") == []


def make(folder, *arguments):
    """What `make` passes on: a program in the place of Python prints its words, one a line."""
    program = folder / "python"
    program.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    program.chmod(0o755)
    command = ["make", "--silent", "--file", str(ROOT / "Makefile"), f"PYTHON={program}", *arguments]
    return subprocess.run(command, cwd=folder, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_passes_on_what_was_typed_spaces_and_dollars_included(tmp_path):
    folder = tmp_path / "a folder"
    (folder / "my $x env/bin").mkdir(parents=True)
    done = make(folder, "environment", "VENV=my $x env", "PIP_ARGS=--one 'a b'")
    assert done.stdout.splitlines() == ["pipeline/runs/environment.py", "my $x env", "--one 'a b'"]
    shutil.copy(folder / "python", folder / "my $x env/bin/python")
    shutil.copy(folder / "python", folder / "my $x env/bin/jupyter")
    given = {
        "NOTEBOOK": "30 ncf",
        "DATASET": "/a/my own $x ratings.csv",
        "PARAMS": "models=[a, *]  x=1",
        "DEVICE": "",
        "SEEDS": "0-1",
    }
    done = make(folder, "rerun", "VENV=my $x env", *[f"{name}={value}" for name, value in given.items()])
    words = ["--seeds=0-1", "--device=", "--dataset=/a/my own $x ratings.csv", "--", "30 ncf", "models=[a, *]  x=1"]
    assert done.stdout.splitlines()[3:] == ["-m", "pipeline", "rerun", *words]
    assert f"--ServerApp.root_dir={folder}" in make(folder, "lab", "VENV=my $x env").stdout.splitlines()
    own = {"DATASET": "my $x.csv", "MOVIES": "", "USERS": "u v.csv", "QUICK": "1", "TUNE": ""}
    where = ["--executor=slurm", "--executor-args=--a 'b $x'"]
    typed = ["PROFILE=a b", "JOBS=$x", "REPLACE=1", "EXECUTOR=slurm", "EXECUTOR_ARGS=--a 'b $x'"]
    done = make(folder, "study", "VENV=my $x env", *typed, *[f"{name}={value}" for name, value in own.items()])
    words = ["--profile=a b", "--notebooks=", "--jobs=$x", "--replace=1"]
    words += [f"--{name.lower()}={value}" for name, value in own.items()]
    assert done.stdout.splitlines()[3:] == ["-m", "pipeline", "study", *words, *where]
    done = make(folder, "verify", "VENV=my $x env", "NOTEBOOK=30_ncf 36_neumf", "JOBS=")
    words = ["--notebooks=30_ncf 36_neumf", "--full=", "--jobs=2", "--executor=", "--executor-args="]
    assert done.stdout.splitlines()[3:] == ["-m", "pipeline", "verify", *words]


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_says_in_one_sentence_that_there_is_no_python(tmp_path):
    done = make(tmp_path, "study", "PYTHON=/not there")
    assert done.returncode == 2 and "error: there is no program /not there" in done.stderr
