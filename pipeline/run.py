"""Runs a profile: Snakemake under a lock, its progress in short, and nothing left behind by a kill."""

import ctypes
import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from pipeline.clean import write_back
from pipeline.jobs import Job, jobs_of
from pipeline.prepare import error_of, is_done, prepare, progress_of, record, remove_leftovers
from pipeline.study import Study, cuda_available
from recsys_core.datasets import load
from recsys_core.errors import StudyError

MARK = "RECSYS_PIPELINE"  # environment variable of every process that a run starts
SILENCE_S = 30.0  # after which a running notebook says how far it is
EVENT = re.compile(r"^(localrule|Finished jobid: \d+ \(Rule:|Error in rule|MissingOutputException in rule) ([\w-]+)")


def run_profile(study: Study, profile: str, jobs_at_once: int = 2) -> None:
    """Run what must be run of `profile`, and write the executed notebooks of the study back.

    Raises:
        StudyError: a notebook failed (named, with its cell and error), or another run is alive.
    """
    jobs = jobs_of(study, profile)
    with alone(study.root):
        fetch_data(study.defaults(job.name) | job.overrides for job in jobs)
        prepare(study, jobs)
        failed = Progress(study, jobs).follow(start_snakemake(study, profile, jobs_at_once))
        for job in jobs if profile == "study" else []:
            if is_done(study, job) and not write_back(study, job):
                print(f"{job.name}: edited while it ran, so not written back; run make study again")
    if failed:
        raise StudyError("\n".join(failed))


def fetch_data(runs: Iterable[dict[str, Any]]) -> None:
    """Get the data sets that runs with these parameters read, once and before any of them; StudyError where one cannot be had."""
    for dataset in sorted({values["dataset"] for values in runs if "dataset" in values}):
        print(f"{dataset}: {len(load(dataset).ratings):,} ratings", flush=True)


def start_snakemake(study: Study, profile: str, jobs_at_once: int) -> "subprocess.Popen[str]":
    """Start Snakemake; its own lock is not needed beside ours."""
    gpu = Path("/dev/nvidiactl").exists() and cuda_available()
    command = f"-m snakemake --nolock --rerun-incomplete --keep-going --latency-wait 1 --cores {jobs_at_once} "
    command += f"--resources gpu=1 --config profile={profile} gpu={gpu}"
    return subprocess.Popen(
        [sys.executable, *command.split()],
        cwd=study.root,
        env=child_environment(study.root),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: die_with_parent(signal.SIGKILL),
    )


class Progress:
    """Turns Snakemake's messages into one line per event and notes what finished."""

    def __init__(self, study: Study, jobs: list[Job]):
        self.study = study
        self.jobs = {f"{job.profile}_{job.name}": job for job in jobs}
        self.started_s: dict[str, float] = {}
        self.failed: list[str] = []
        self.finished = 0
        self.over = threading.Event()

    def follow(self, process: "subprocess.Popen[str]") -> list[str]:
        """Print progress until Snakemake ends; one sentence for each notebook that failed."""
        path = Path("reports/executed/snakemake.log")
        assert process.stdout is not None
        threading.Thread(target=self._remind, daemon=True).start()
        threading.Thread(target=self._end_orphans, args=(process,), daemon=True).start()
        with open(self.study.root / path, "w", buffering=1) as log:
            for line in process.stdout:
                log.write(line)
                if (match := EVENT.match(line.strip())) and match[2] in self.jobs:
                    self.event(match[1], match[2])
        self.over.set()
        if process.wait() != 0 and not self.failed:
            self.failed.append(f"Snakemake stopped with exit status {process.returncode}; {path} says why.")
        if not self.failed:
            print(f"{self.finished} of {len(self.jobs)} notebooks run, all are up to date", flush=True)
        return self.failed

    def event(self, kind: str, rule: str) -> None:
        """Act on what happened to one job."""
        job = self.jobs[rule]
        if kind == "localrule":
            self.started_s[rule] = time.monotonic()
            return print(f"{job.name}: started", flush=True)
        finished = kind.startswith("Finished")
        if finished:
            self.finished += 1
            record(self.study, job)
        else:
            lacking = f"did not write all of {', '.join(job.entry['outputs'])}"
            error = lacking if kind.startswith("Missing") else error_of(self.study.root / job.copy)
            self.failed.append(f"{job.name} {error}; see its executed copy, {job.copy}.")
        seconds = time.monotonic() - self.started_s.pop(rule)
        progress = f"{seconds:.0f} s ({self.finished} of {len(self.jobs)})"
        print(f"{job.name}: {'finished' if finished else 'failed'}, {progress}", flush=True)

    def _end_orphans(self, process: "subprocess.Popen[str]") -> None:
        """Notebooks of a killed Snakemake hold its output open; without them the run ends and says so."""
        if process.wait() < 0:
            end_marked(self.study.root)

    def _remind(self) -> None:
        while not self.over.wait(SILENCE_S):
            for rule, started_s in list(self.started_s.items()):
                job, seconds = self.jobs[rule], time.monotonic() - started_s
                if seconds > SILENCE_S / 2:
                    print(f"{job.name}: {progress_of(self.study.root / job.copy)}, {seconds:.0f} s", flush=True)


def child_environment(root: Path) -> dict[str, str]:
    """Environment of notebooks: one thread each, fixed hashing, this package and its programs, the mark."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    own = {"PATH": search, "PYTHONPATH": str(root), "PYTHONHASHSEED": "0", "JUPYTER_PREFER_ENV_PATH": "1"}
    inherited = {k: v for k, v in os.environ.items() if k not in ("RECSYS_OUTPUT", "RECSYS_CHECK")}
    return inherited | threads | own | {MARK: str(root)}


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Hold the lock of this project; ends what a killed run left on entering, what this one left on leaving.

    Raises:
        StudyError: another run is alive.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    die_with_parent(signal.SIGTERM)
    path = root / "reports/executed/.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as lock:
        _take(lock.fileno(), patience_s=5.0)
        end_marked(root)
        remove_leftovers(root)
        try:
            yield
        finally:
            end_marked(root)


def _take(lock: int, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StudyError("Another run is at work in this folder: wait for it or stop it first.") from None
            time.sleep(0.2)


def end_marked(root: Path) -> None:
    """End every process that a run of this project started."""
    while marked := [process for process in psutil.process_iter() if _is_marked(process, root)]:
        for process in marked:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(marked, timeout=10)


def _is_marked(process: psutil.Process, root: Path) -> bool:
    with suppress(psutil.Error):
        return process.pid != os.getpid() and process.environ().get(MARK) == str(root)
    return False


def die_with_parent(number: int) -> None:
    """Ask Linux for signal `number` when the parent dies, so that a killed make leaves nothing running."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, number)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
