"""`python -m pipeline.bench.tolerances`: how far arithmetic alone moves the beginning of training, and what is allowed.

Every chapter that trains is run under each of ARITHMETICS, which round differently in every network, with the policy `measure`.
What the gate allows at a step of the path is FACTOR times the largest spread over the kinds of arithmetic, as a share of the loss,
that any run shows there; it goes to `reports/stored/tolerances.json` with what it was measured on."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

from pipeline.chapters.gate import TOLERANCES
from pipeline.chapters.study import ROOT, Study, code_cells
from pipeline.command import exit_status
from pipeline.runs.run import child_environment
from recsys_core.errors import StudyError
from recsys_core.files import atomic_path

ARITHMETICS = {  # of PyTorch's vector units and of MKL's code paths
    "native": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "compatible": {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"},
}
FACTOR = 3
FOLDER = Path("reports/executed/tolerances")


def run(root: Path, arithmetic: str, name: str) -> str:
    """Run one notebook under one kind of arithmetic; its name and exit status."""
    folder = FOLDER / arithmetic
    log = root / folder / "log" / f"{name}.csv"
    log.unlink(missing_ok=True)
    places = {"RECSYS_LOG": str(folder / "log"), "RECSYS_SCRATCH": str(folder / "scratch"), "RECSYS_POLICY": "measure"}
    (root / folder / "log").mkdir(parents=True, exist_ok=True)
    command = ["papermill", f"notebooks/{name}.ipynb", f"{folder}/{name}.ipynb"]
    environment = child_environment(root) | places | ARITHMETICS[arithmetic]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, check=False)
    if done.returncode:
        raise StudyError(f"{name} failed with {arithmetic} arithmetic: see {folder}/{name}.ipynb.")
    return f"{name}, {arithmetic}"


def spreads(root: Path) -> pd.Series:
    """Largest spread over the kinds of arithmetic, and that of the store, at each step of the path: a share of the loss."""
    logs = [
        pd.read_csv(path).assign(arithmetic=arithmetic)
        for arithmetic in ARITHMETICS
        for path in sorted((root / FOLDER / arithmetic / "log").glob("*.csv"))
    ]
    steps = pd.concat(logs, ignore_index=True).query("kind == 'path' and not what.str.contains('noise after')")
    stored = steps.drop_duplicates("what").assign(arithmetic="stored", now=steps["stored"])
    both = pd.concat([steps, stored]).astype({"now": float})
    values = both.pivot_table(index="what", columns="arithmetic", values="now")
    shares = (values.max(axis=1) - values.min(axis=1)) / values.abs().max(axis=1)
    return shares.groupby(values.index.str.rsplit(", ", n=1).str[-1]).max()


def measure(root: Path, names: list[str], arithmetics: list[str], jobs: int) -> None:
    """Run the notebooks with these kinds of arithmetic, and write what is allowed from these runs and those that are there."""
    with ThreadPoolExecutor(jobs) as pool:
        for line in pool.map(lambda pair: run(root, *pair), [(each, name) for name in names for each in arithmetics]):
            print(line, flush=True)
    found = spreads(root)
    allowed = {step: float(f"{FACTOR * share:.2g}") for step, share in found.items()}
    with atomic_path(root / TOLERANCES) as path:
        path.write_text(json.dumps(allowed, indent=1) + "\n", encoding="utf-8")
    print(pd.DataFrame({"spread": found, "allowed": pd.Series(allowed)}).to_string())


def main(arguments: list[str] | None = None) -> int:
    """Measure; errors are one sentence."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.bench.tolerances", description=__doc__)
    parser.add_argument("notebooks", nargs="*", help="all that train, unless named")
    parser.add_argument("--arithmetics", nargs="+", choices=list(ARITHMETICS), default=list(ARITHMETICS))
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args(arguments)
    study = Study(ROOT)
    names = options.notebooks or [name for name in study.notebooks if asks_for_runs(study, name)]
    return exit_status(lambda: measure(ROOT, names, options.arithmetics, options.jobs), "stopped; nothing was changed")


def asks_for_runs(study: Study, name: str) -> bool:
    """Whether a notebook runs models."""
    cells = code_cells(study.root / "notebooks" / f"{name}.ipynb")
    return any("open_study(" in source or "Experiments(" in source for source, _ in cells)


if __name__ == "__main__":
    sys.exit(main())
