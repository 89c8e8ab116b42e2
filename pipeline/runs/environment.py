"""Makes or completes the Python environment that the Makefile uses, and never harms what is in its place.

`python3 pipeline/runs/environment.py VENV [PIP_ARGS]` runs before anything is installed, on whatever Python there is: the standard
library alone, in the words of Python 3.8.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST = (3, 11)
STAMP, UNFINISHED = ".complete", ".unfinished"  # in an environment that was made here: whole, or not yet
WHO = "import sys; print(*sys.version_info[:2]); print(sys.prefix)"


class Refused(Exception):
    """Says in one sentence why a folder is left as it is, or what failed."""


def prepare_environment(root: Path, given: str, pip_args: list[str]) -> None:
    """Make VENV (`given`; none is `.venv` below `root`) an environment that has every pinned package.

    A missing or empty folder becomes one, and then follows the lock file; somebody's own gets what it lacks. Only the project's
    `.venv`, when it was made here and is not whole, is emptied and made anew.

    Raises:
        Refused: VENV is anything else, which stays untouched; a Python that is too old; a program that failed.
    """
    folder = place_of(root, given)
    python, own = python_of(folder), is_own(folder, root)
    whole, begun = is_marked(folder / STAMP, root, own), is_marked(folder / UNFINISHED, root, own)
    moved = own and not whole and (folder / STAMP).is_file()  # the programs in it name the old place
    if python and not (whole or begun or moved):
        return complete(python, root / "requirements.lock", pip_args)
    if begun or not (python and whole):
        make(folder, root, empty_first=own and (whole or begun or moved), begun=begun)
    if not is_newer(folder / STAMP, [root / "requirements.lock", root / "pyproject.toml"]):
        install(folder, root, pip_args)


def place_of(root: Path, given: str) -> Path:
    """The folder that VENV names, seen from `root`."""
    folder = root / (given.strip() or ".venv")
    if os.pathsep in str(folder):
        raise Refused(
            f"'{folder}' has a '{os.pathsep}' in its name, which search paths cannot hold; use another folder."
        )
    if given.startswith("~"):
        raise Refused(f"VENV={given} was not expanded by the shell; write the folder out.")
    return folder


def is_own(folder: Path, root: Path) -> bool:
    """Whether a folder is the project's own `.venv`, however it is written, and not a link to somewhere else."""
    own = root.resolve() / ".venv"
    return folder.resolve() == own and not own.is_symlink()


def python_of(folder: Path) -> Path | None:
    """The Python of an environment, if one is there that runs and says that this folder is its own."""
    python = folder / "bin" / "python"
    if not os.access(str(python), os.X_OK) or python.is_dir():
        return None
    try:
        said = subprocess.run([str(python), "-c", WHO], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    version, _, prefix = said.strip().partition("\n")
    if not os.path.isdir(prefix) or not os.path.samefile(prefix, str(folder)):
        return None
    if tuple(int(part) for part in version.split()) < OLDEST:
        raise Refused(f"{python} is older than Python {OLDEST[0]}.{OLDEST[1]}; give another VENV.")
    return python


def is_marked(mark: Path, root: Path, own: bool) -> bool:
    """Whether the mark in an environment says that this project made it; an empty one, of an older version, only in `.venv`."""
    return mark.is_file() and mark.read_text(encoding="utf-8") in ([str(root), ""] if own else [str(root)])


def is_newer(stamp: Path, sources: list[Path]) -> bool:
    """Whether a stamp was written after its sources."""
    return stamp.is_file() and all(stamp.stat().st_mtime >= source.stat().st_mtime for source in sources)


def make(folder: Path, root: Path, empty_first: bool, begun: bool) -> None:
    """Make an environment in a missing or empty folder, or in one where that was begun here."""
    there = os.path.lexists(str(folder))
    if not (empty_first or begun) and there and not (folder.is_dir() and not os.listdir(str(folder))):
        raise Refused(
            f"{folder} is neither an environment nor an empty folder, so it is left as it is; give another VENV."
        )
    if sys.version_info[:2] < OLDEST:
        raise Refused(
            f"{sys.executable} is older than Python {OLDEST[0]}.{OLDEST[1]}; name a newer one: make study PYTHON=python3.12"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / UNFINISHED).write_text(str(root), encoding="utf-8")
    for each in list(folder.iterdir()) if empty_first else []:
        if each.is_dir() and not each.is_symlink():
            shutil.rmtree(str(each))
        elif each.name != UNFINISHED:
            each.unlink()
    run(sys.executable, "-m", "venv", str(folder))


def install(folder: Path, root: Path, pip_args: list[str]) -> None:
    """Install the pinned packages and this project into an environment that was made here."""
    print(f"installing pinned packages into {folder}", flush=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pip_args]
    run(*pip, "-r", str(root / "requirements.lock"))
    run(*pip, "--no-deps", "--editable", str(root))
    (folder / STAMP).write_text(str(root), encoding="utf-8")
    if (folder / UNFINISHED).exists():
        (folder / UNFINISHED).unlink()


def complete(python: Path, lock: Path, pip_args: list[str]) -> None:
    """Install the pins whose packages somebody's own environment lacks; nothing else is changed in it."""
    if found := missing_in(python, lock):
        run(str(python), "-m", "pip", "install", "--disable-pip-version-check", *pip_args, *found)


def missing_in(python: Path, lock: Path) -> list[str]:
    """The pins whose packages an environment lacks."""
    script = str(Path(__file__).with_name("missing.py"))
    return subprocess.run([str(python), script, str(lock)], capture_output=True, text=True, check=True).stdout.split()


def run(*command: str) -> None:
    """Run a program that shows its own messages; Refused where it fails."""
    if status := subprocess.run(command, check=False).returncode:
        raise Refused(f"'{shlex.join(command)}' failed with exit status {status}; its messages are above.")


def main(arguments: list[str]) -> int:
    """Exit status 0, or 1 after one sentence."""
    given, pip_args = [*arguments, "", ""][:2]
    try:
        prepare_environment(Path(__file__).resolve().parents[2], given, shlex.split(pip_args))
    except (Refused, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
