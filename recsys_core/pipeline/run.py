"""Runs a profile: Snakemake under a lock, its progress in one line per notebook, and nothing left behind by a kill."""

import ctypes
import fcntl
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from recsys_core.errors import StudyError
from recsys_core.pipeline.clean import write_back
from recsys_core.pipeline.prepare import error_of, is_recorded, prepare, record, remove_leftovers
from recsys_core.pipeline.study import Job, Study, cuda_available

MARK = "RECSYS_PIPELINE"  # environment variable of every process that a run starts
STARTED = re.compile(r"^(?:local)?rule (\S+):$")
FINISHED = re.compile(r"^Finished jobid: \d+ \(Rule: (\S+)\)$")
FAILED = re.compile(r"^Error in rule (\S+):$")


def child_environment(root: Path) -> dict[str, str]:
    """Environment of notebooks: one thread each, fixed hashing, this project's package and programs, the mark."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    own = {"PATH": search, "PYTHONPATH": str(root), "PYTHONHASHSEED": "0", "JUPYTER_PREFER_ENV_PATH": "1"}
    inherited = {k: v for k, v in os.environ.items() if k not in ("RECSYS_OUTPUT", "RECSYS_CHECK")}
    return {**inherited, **threads, **own, MARK: str(root)}


def die_with_parent(number: int) -> None:
    """Ask Linux to send this process signal `number` when its parent dies, so that a killed make leaves nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, number)


def end_marked(root: Path) -> None:
    """End every process that a run of this project started."""
    marked = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == str(root):
                process.kill()
                marked.append(process)
        except psutil.Error:
            continue
    psutil.wait_procs(marked, timeout=10)


@contextmanager
def alone(root: Path, patience_s: float = 5.0) -> Iterator[None]:
    """Hold the lock of this project; what an earlier, killed run left is ended first, and all is ended on leaving.

    Raises:
        StudyError: another run is alive.
    """
    path = root / "reports/executed/.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as lock:
        deadline = time.monotonic() + patience_s
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StudyError(
                        "Another run of this project is at work here: wait for it or stop it first."
                    ) from None
                time.sleep(0.2)
        end_marked(root)
        remove_leftovers(root)
        try:
            yield
        finally:
            end_marked(root)


def stop(*_: Any) -> None:
    """Signal handler: unwind, so that everything started is ended."""
    raise KeyboardInterrupt


def run_profile(study: Study, profile: str, jobs_at_once: int = 2) -> None:
    """Run what must be run of `profile`, and write the executed notebooks of the study back.

    Raises:
        StudyError: a notebook failed (named, with its cell and error), or another run is alive.
    """
    jobs = study.jobs(profile)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    die_with_parent(signal.SIGTERM)
    with alone(study.root):
        prepare(study, jobs)
        failed = Progress(study, jobs).follow(snakemake(study, profile, jobs_at_once))
        if profile == "study":
            _write_back(study, jobs)
    if failed:
        raise StudyError("\n".join(failed))


def snakemake(study: Study, profile: str, jobs_at_once: int) -> "subprocess.Popen[str]":
    """Start Snakemake; its own lock is not needed beside ours."""
    gpu = "gpu=True" if Path("/dev/nvidiactl").exists() and cuda_available() else "gpu=False"
    command = [sys.executable, "-m", "snakemake", "--nolock", "--rerun-incomplete", "--latency-wait", "1"]
    command += ["--cores", str(jobs_at_once), "--resources", "gpu=1", "--config", f"profile={profile}", gpu]
    return subprocess.Popen(
        command,
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
        self.started: dict[str, float] = {}
        self.finished: list[str] = []
        self.failed: list[str] = []
        self.log = study.root / jobs[0].executed / "snakemake.log"

    def follow(self, process: "subprocess.Popen[str]") -> list[str]:
        """Print progress until Snakemake ends; one sentence for each notebook that failed."""
        assert process.stdout is not None
        with open(self.log, "w") as log:
            for line in process.stdout:
                log.write(line)
                log.flush()
                self.message(line.strip())
        if process.wait() != 0 and not self.failed:
            shown = self.log.relative_to(self.study.root)
            self.failed.append(f"Snakemake stopped with exit status {process.returncode}; {shown} says why.")
        if not self.failed:
            print(f"{len(self.finished)} of {len(self.jobs)} notebooks run, all are up to date", flush=True)
        return self.failed

    def message(self, line: str) -> None:
        """Act on one line of Snakemake's output."""
        if (match := STARTED.match(line)) and match[1] in self.jobs:
            self.started[match[1]] = time.monotonic()
            print(f"{self.jobs[match[1]].name}: started", flush=True)
        elif (match := FINISHED.match(line)) and match[1] in self.jobs:
            self.finished.append(match[1])
            record(self.study, self.jobs[match[1]])
            print(f"{self.jobs[match[1]].name}: finished, {self._seconds(match[1])}", flush=True)
        elif (match := FAILED.match(line)) and match[1] in self.jobs:
            job = self.jobs[match[1]]
            error = error_of(self.study.root / job.copy)
            sentence = f"{job.name} failed in {error}; the executed copy with the traceback is {job.copy}."
            self.failed.append(sentence)
            print(f"{job.name}: failed, {self._seconds(match[1])}", flush=True)

    def _seconds(self, rule: str) -> str:
        """Seconds since the start, and how far the run is."""
        done = f"{len(self.finished)} of {len(self.jobs)}"
        return f"{time.monotonic() - self.started[rule]:.0f} s ({done})"


def _write_back(study: Study, jobs: list[Job]) -> None:
    """Write the outputs of every finished notebook back; name those that were edited meanwhile."""
    for job in jobs:
        if (
            (study.root / job.state("done")).exists()
            and is_recorded(study, job)
            and not write_back(study, job)
        ):
            print(
                f"{job.name}: edited while it ran, its stored outputs stay; run make study again", flush=True
            )
