"""`make peers [PEERS="surprise cornac"]`: install each peer, measure it beside the study's own code, store the ratios.

Everything runs with one thread unless a case says otherwise, theirs and ours in turns, one fold or seed after the other. Measures
are `fit` and `epoch` (seconds; the best of the rounds, as a busy machine can only add to a time), `memory` (MB, the most of the
rounds), `rmse`, and of each test user `hit_ratio` and `ndcg` (at 10; rounds are seeds, and the interval is of ours - theirs).
"""

import argparse
import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.bench.peers.rows import FILES, N_FOLDS, best, measured_lists, write_folds
from pipeline.bench.timings import machine_name
from pipeline.chapters.notebook import PEER_COLUMNS
from pipeline.chapters.results import public_versions
from pipeline.chapters.study import ROOT, THREAD_VARIABLES
from pipeline.command import exit_status
from recsys_core.datasets import load
from recsys_core.errors import StudyError, refuse_unknown
from recsys_core.files import atomic_path

OF_LISTS = ["hit_ratio", "ndcg"]  # what is measured where a case does not say it
FOLDER = Path(__file__).parent
OURS = FOLDER / "study.py"
TABLE = ROOT / "reports" / "timings_peers.csv"
Measured = dict[str, Any]


@dataclass(frozen=True)
class Peer:
    """What a script says of itself; see the package's docstring."""

    name: str
    script: Path
    requirements: list[str]
    cases: dict[str, dict[str, Any]]

    @property
    def version(self) -> str:
        """Name and version of the library, as pinned."""
        return self.requirements[0].replace("==", " ")

    @classmethod
    def read(cls, script: Path) -> "Peer | None":
        """Read the constants of a script without running it, as its imports exist in its own environment alone."""
        found = {}
        for node in ast.parse(script.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                found[node.targets[0].id] = node.value
        if "REQUIREMENTS" not in found:
            return None
        requirements, cases = (ast.literal_eval(found[name]) for name in ("REQUIREMENTS", "CASES"))
        return cls(script.stem, script, requirements, dict(_with_changed(cases)))


def _with_changed(cases: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every case with the settings of both sides in each, and behind it the same with each change of their side by label."""
    for name, given in cases.items():
        case = {"measures": OF_LISTS, "goal": {}} | given
        changes, both = case.pop("changed", {}), case.pop("both", {})
        ours = {label: both | settings for label, settings in case["ours"].items()}
        case |= {"theirs": both | case["theirs"], "ours": ours}
        yield name, case
        for label, settings in changes.items():
            yield f"{name}, {label}", case | {"theirs": case["theirs"] | settings}


def read_peers(folder: Path = FOLDER) -> dict[str, Peer]:
    """All peers of a folder by name."""
    found = [Peer.read(script) for script in sorted(folder.glob("*.py"))]
    return {peer.name: peer for peer in found if peer is not None}


def install(peer: Peer, root: Path = ROOT, pip_arguments: Sequence[str] = ()) -> Path:
    """Return the interpreter of the peer's environment in `.peers/<name>`, made and completed where it has to be.

    Raises:
        StudyError: pip could not install it; the message ends with pip's own words.
    """
    home = root / ".peers" / peer.name
    python, stamp = home / "bin" / "python", home / "requirements.txt"
    wanted = "\n".join(peer.requirements) + "\n"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"{peer.name}: installing {peer.version} into {home.relative_to(root)}", flush=True)
    if not python.exists():
        venv.create(home, with_pip=True)
    line = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pip_arguments]
    done = subprocess.run([*line, *peer.requirements], capture_output=True, text=True)
    if done.returncode:
        errors = [text for text in done.stderr.splitlines() if text.startswith("ERROR")]
        raise StudyError(f"{peer.name} cannot be installed: {_last(errors or [done.stderr])}")
    stamp.write_text(wanted)
    return python


def _last(lines: Iterable[str]) -> str:
    return ([line.strip() for line in lines if line.strip()] or ["no reason given"])[-1]


def run(
    python: Path | str, script: Path, folder: Path, fold: int, settings: dict[str, Any], threads: int = 1
) -> Measured:
    """One fit in a process of its own: seconds of processor time and of wall time, epochs, memory, and the RMSE or NaN.

    Lists of films are measured here, and scores made lists of, by the same code for all.

    Raises:
        StudyError: the script failed; the message ends with the last line that it wrote.
    """
    line = [python, "-P", FOLDER / "worker.py", script, folder, str(fold), json.dumps(settings)]
    limits = dict.fromkeys((*THREAD_VARIABLES, "NUMBA_NUM_THREADS"), str(threads))
    environment = os.environ | limits | {"PYTHONPATH": str(ROOT) if script == OURS else ""}
    done = subprocess.run(line, capture_output=True, text=True, env=environment, cwd=folder)
    if done.returncode:
        said = re.sub(r"^[\w.]+: ", "", _last(done.stderr.splitlines()))  # without the kind of error
        raise StudyError(f"{script.stem} stopped: {said}")
    measured = json.loads(done.stdout.splitlines()[-1])
    if scores := measured.pop("scores", ""):
        measured["lists"] = best(np.load(folder / scores), folder / settings["rows"])
    if "lists" in measured:
        measured |= measured_lists(measured.pop("lists"), folder / settings["rows"])
    return {name: float("nan") if value is None else value for name, value in measured.items()}


def compare(
    peer: Peer, python: Path | str, folder: Path, ours: Path = OURS, rounds: int = N_FOLDS, only: str = ""
) -> list[dict[str, Any]]:
    """Run the cases of a peer, those with `only` in their name, and return a row for each measure: theirs, ours and their ratio.

    A case with `rounds` of its own has these, unless fewer than `N_FOLDS` are asked for here. What cannot be run of ours, such as
    settings that have not been searched for, is said and left out.
    """
    rows = []
    for name, case in peer.cases.items():
        if only not in name:
            continue
        labels, threads = {}, case.get("threads", 1)
        if file := case["theirs"].get("rows"):
            labels["data"] = FILES[file](folder / file)
        if threads > 1:
            labels["device"] = f"cpu, {threads} threads"
        theirs: list[Measured] = []
        own: dict[str, list[Measured]] = {label: [] for label in case["ours"]}
        asked = case.get("rounds", rounds) if rounds == N_FOLDS else rounds
        for fold in range(1, asked + 1):
            theirs.append(run(python, peer.script, folder, fold, case["theirs"], threads))
            for label, settings in case["ours"].items():
                if label in own:
                    try:
                        own[label].append(run(sys.executable, ours, folder, fold, settings, threads))
                    except StudyError as error:
                        print(f"{name}, {label}: {error}", file=sys.stderr)
                        del own[label]
        for label, measured in own.items():
            for measure in case["measures"]:
                row = {"what": name, "settings": label, "measure": measure, "goal": case["goal"].get(measure)}
                rows.append(row | _summary(measure, theirs, measured, threads) | {"rounds": asked} | labels)
    return rows


def _summary(measure: str, theirs: list[Measured], ours: list[Measured], threads: int) -> dict[str, float]:
    """Of times the best (wall times with several threads) and their ratio, of memory the most; else means and an interval."""
    sides = [[one[measure] for one in runs] for runs in (theirs, ours)] if measure in theirs[0] else []
    if measure == "memory":
        most = [max(side) for side in sides]
        return {"theirs": most[0], "ours": most[1], "ratio": most[0] / most[1]}
    if sides:
        return {"theirs": float(np.mean(sides[0])), "ours": float(np.mean(sides[1]))} | _difference(*sides)
    found = {}
    for column, kind in (("", "processor" if threads == 1 else "wall"), ("_wall", "wall")):
        for side, runs in (("theirs", theirs), ("ours", ours)):
            found[side + column] = min(one[kind] / (one["epochs"] if measure == "epoch" else 1) for one in runs)
    return found | {"ratio": found["theirs"] / found["ours"]}


def _difference(theirs: list[Any], ours: list[Any]) -> dict[str, float]:
    """The 95 % interval of the mean of (S, U) values of ours - theirs; none where rounds are no seeds or are too few.

    Users and seeds are drawn, and their variances are added: what seeds change for a user is counted in both, so that the interval
    is too wide rather than too narrow.
    """
    if np.ndim(theirs) < 2 or len(theirs) < 2:
        return {}
    sides = [np.asarray(side) for side in (theirs, ours)]
    users = sides[1].mean(axis=0) - sides[0].mean(axis=0)
    variance = users.var(ddof=1) / len(users) + sum(side.mean(axis=1).var(ddof=1) / len(side) for side in sides)
    half = 1.96 * float(np.sqrt(variance))
    return {"low": float(users.mean()) - half, "high": float(users.mean()) + half}


def store(rows: list[dict[str, Any]], table: Path = TABLE, cases: bool = False) -> None:
    """Replace the rows of this machine and these peers, with `cases` only those of the same cases; others stay."""
    fresh = pd.DataFrame(rows).reindex(columns=PEER_COLUMNS)
    for column in fresh.select_dtypes("float"):
        fresh[column] = fresh[column].map(lambda value: float(f"{value:.4g}"))
    key = ["machine", "peer", "what"] if cases else ["machine", "peer"]
    if table.exists():
        old = pd.read_csv(table)
        replaced = pd.MultiIndex.from_frame(old[key]).isin(pd.MultiIndex.from_frame(fresh[key]))
        replaced |= (
            old["peer"].isin(fresh["peer"]) & (old["what"] == "not measured") & old["machine"].isin(fresh["machine"])
        )
        fresh = pd.concat([old[~replaced], fresh]) if not replaced.all() else fresh
    with atomic_path(table) as path:
        ordered = fresh.sort_values(["machine", "peer", "what", "settings", "measure"], kind="stable")
        ordered.to_csv(path, index=False, columns=PEER_COLUMNS)


def measure_peers(
    names: Iterable[str],
    rounds: int = N_FOLDS,
    pip_arguments: Sequence[str] = (),
    table: Path = TABLE,
    only: str = "",
) -> None:
    """Install and measure the named peers, all where none is named; one that fails is stored with its reason.

    Raises:
        StudyError: a name that is no peer; ML-100K cannot be had.
    """
    known = read_peers()
    chosen = list(names) or list(known)
    refuse_unknown("PEERS", chosen, known)
    cases = [name for peer in chosen for name in known[peer].cases]
    if not any(only in name for name in cases):
        raise StudyError(
            f"ONLY={only}: no case of {', '.join(chosen)} has this in its name; there are {', '.join(cases)}."
        )
    chosen = [peer for peer in chosen if any(only in name for name in known[peer].cases)]
    with tempfile.TemporaryDirectory() as folder:
        data = load("ml-100k")
        write_folds(data, Path(folder))
        for peer in (known[name] for name in chosen):
            labels = {
                "machine": machine_name(torch.device("cpu")),
                "device": "cpu, 1 thread",
                "peer": peer.name,
                "version": peer.version,
                "data": f"{data.name}, rating-5fold",
                "versions": public_versions(),
            }
            try:
                python = install(peer, pip_arguments=pip_arguments)
                rows = compare(peer, python, Path(folder), rounds=rounds, only=only)
            except StudyError as error:
                print(f"not measured: {error}", file=sys.stderr)
                rows = [{"what": "not measured", "note": str(error)}]
            store([labels | row for row in rows], table, cases=bool(only))
            print(pd.DataFrame(rows).to_string(index=False), flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; errors of the user are one sentence and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.bench.peers", description=__doc__)
    parser.add_argument("peers", nargs="*", help="names of scripts in pipeline/bench/peers; none: all")
    parser.add_argument("--rounds", type=int, default=N_FOLDS, choices=range(1, N_FOLDS + 1), help="folds to run")
    parser.add_argument("--pip-args", default="", help="handed to pip install")
    parser.add_argument("--only", default="", help="only cases with this text in their name; rows of the others stay")
    options = parser.parse_args(arguments)
    measure = partial(measure_peers, options.peers, options.rounds, options.pip_args.split(), only=options.only)
    return exit_status(measure, "stopped; peers that were done are stored")


if __name__ == "__main__":
    sys.exit(main())
