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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from pipeline.chapters.study import THREAD_VARIABLES, Study, cuda_available
from pipeline.runs.clean import write_back
from pipeline.runs.confirmed import read_rows, summary, table, with_mean_z, write_log
from pipeline.runs.executor import LOCAL, LOG, Executor, cancel_left, cancelling, choose_device, snakemake_arguments
from pipeline.runs.jobs import KINDS, Job, jobs_of
from pipeline.runs.place import fresh_files
from pipeline.runs.prepare import error_of, is_done, prepare, progress_of, record, remove_leftovers
from recsys_core.datasets import load
from recsys_core.errors import StudyError

MARK = "RECSYS_PIPELINE"  # environment variable of every process that a run starts
REDIRECTING = ("RECSYS_OUTPUT", "RECSYS_SCRATCH", "RECSYS_LOG")  # each notebook is told its own
SILENCE_S = 30.0  # after which a running notebook says how far it is
EVENT = re.compile(r"^((?:local)?rule|Finished jobid: \d+ \(Rule:|Error in rule) ([\w-]+)")


def run_profile(
    study: Study,
    profile: str,
    jobs_at_once: int = 2,
    names: Sequence[str] = (),
    replace: bool = False,
    executor: Executor = LOCAL,
) -> None:
    """Run what must be run of `profile` or one of `KINDS`, and write executed notebooks back whose results took their place.

    Args:
        study, profile: what to run.
        jobs_at_once: notebooks side by side.
        names: only these notebooks.
        replace: run everything, and let fresh results take the place of the kept ones.
        executor: where they run.

    Raises:
        StudyError: a notebook failed (named, with its cell and error) or contradicts what is stored; another run is alive.
    """
    choose_device(executor, device_of(study, profile))
    jobs = jobs_of(study, profile, names, executor.is_here)
    if replace and profile != "study":
        raise StudyError(f"REPLACE=1 is for the profile study, not for {profile}, which compares nothing.")
    with alone(study.root):
        cancel_left(study.root, executor)
        fetch_data(study.defaults(job.name) | job.overrides for job in jobs)
        for job in jobs:
            forget(study, job)
        prepare(study, jobs)
        snakemake = start_snakemake(study, profile, jobs_at_once, names, replace, executor)
        with cancelling(study.root, executor, snakemake):
            failed = Progress(study, jobs).follow(snakemake)
        write_back_placed(study, jobs)
        contradicted = report_confirmed(study, profile, jobs) if profile in KINDS else []
    if failed + contradicted:
        raise StudyError("\n".join(failed + contradicted))


def forget(study: Study, job: Job) -> None:
    """Remove what an earlier run that did not end well left in the scratch folder and noted."""
    if not is_done(study, job):
        begin(study, job)
        for path in fresh_files(study, job) if job.scratch else []:
            path.unlink()


def begin(study: Study, job: Job) -> None:
    """Remove what an earlier run of a notebook noted: its error, and what it compared."""
    log = study.root / job.executed / "confirmed"
    for path in (study.root / job.state("error"), log / f"{job.name}.csv", log / f"{job.name}.tables.csv"):
        path.unlink(missing_ok=True)


def write_back_placed(study: Study, jobs: list[Job]) -> None:
    """Store the outputs of the executed notebooks whose results have become those that are kept."""
    placed = [job for job in jobs if (study.root / job.state("placed")).exists() and is_done(study, job)]
    for job in placed:
        if write_back(study, job):
            (study.root / job.state("placed")).unlink()
        else:
            print(f"{job.name}: edited while it ran, so not written back; run make study again")
    if placed:
        print(f"what is kept was made anew by {', '.join(job.name for job in placed)}")


def report_confirmed(study: Study, profile: str, jobs: list[Job]) -> list[str]:
    """Print what was compared with what is stored; sentences that say why a verification did not succeed."""
    folder = Path("reports/executed") / profile
    rows = with_mean_z(read_rows(study.root / folder / "confirmed", [job.name for job in jobs]))
    write_log(study.root / folder / "confirmed.csv", rows)
    if KINDS[profile].places:
        print(summary(rows, folder / "confirmed.csv"), flush=True)
        moved = [row for row in rows if row.kind == "mean" and row.verdict == "contradicted" and profile == "study"]
        return [
            f"{row.what} is {row.now}, {row.allowed:.2g} is allowed: each run is within its interval, all together are not."
            for row in moved
        ]
    print(table(rows), flush=True)
    unchecked = [job.name for job in jobs if not any(row.notebook == job.name for row in rows)]
    wrong = [row for row in rows if row.verdict == "contradicted"]
    agree = sum(row.verdict == "confirmed" for row in rows)
    print(
        f"\n{agree:,} of {len(rows):,} confirmed" + (f"; not checked: {', '.join(unchecked)}" if unchecked else ""),
        flush=True,
    )
    return (
        [f"{len(wrong)} of {len(rows)} were contradicted, the first by {wrong[0].notebook}: {wrong[0].what}."]
        if wrong
        else []
    )


def fetch_data(runs: Iterable[dict[str, Any]]) -> None:
    """Get the data sets that runs with these parameters read, once and before any of them; StudyError where one cannot be had."""
    for dataset in sorted({values["dataset"] for values in runs if "dataset" in values}):
        print(f"{dataset}: {len(load(dataset).ratings):,} ratings", flush=True)


def start_snakemake(
    study: Study, profile: str, jobs_at_once: int, names: Sequence[str], replace: bool, executor: Executor
) -> "subprocess.Popen[str]":
    """Start Snakemake; its own lock is not needed beside ours. Killed with us, it cancels what it handed to a cluster."""
    environment = child_environment(study.root) | variables_of(profile, replace, is_stored(study, profile))
    if executor.is_here:
        gpu, last_signal = Path("/dev/nvidiactl").exists() and cuda_available(), signal.SIGKILL
    else:
        gpu, last_signal = device_of(study, profile) == "cuda", signal.SIGINT
    forced = "--forceall" if replace or profile == "store" else ""
    command = f"-m snakemake --nolock --rerun-incomplete --keep-going {forced}".split()
    config = [
        f"profile={profile}",
        f"gpu={gpu}",
        f"here={executor.is_here}",
        *([f"names={','.join(names)}"] if names else []),
    ]
    where = snakemake_arguments(executor, jobs_at_once, environment)

    def before() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background ignores it
        die_with_parent(last_signal)

    return subprocess.Popen(
        [sys.executable, *command, *where, "--config", *config],
        cwd=study.root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=before,
    )


def device_of(study: Study, profile: str) -> str | None:
    """The device that a profile asks for, if it does."""
    return study.profiles.get(profile, {}).get("device")


def is_stored(study: Study, profile: str) -> bool:
    """Whether what a profile, or the profiles that it runs, train is stored."""
    return any(
        map(study.part, study.profiles.get(profile, {}).get("profiles", [profile] if profile in study.profiles else []))
    )


def variables_of(profile: str, replace: bool, stored: bool = False) -> dict[str, str]:
    """What tells notebooks which runs to train, whether to replace what is stored, and where to note what they compared."""
    log = {"RECSYS_LOG": f"reports/executed/{profile}/confirmed", "RECSYS_REPLACE": str(int(replace))}
    if profile not in KINDS:
        return log | ({"RECSYS_POLICY": "resume"} if stored else {})
    asked = os.environ.get("RECSYS_POLICY") if profile == "study" else None
    return log | {"RECSYS_POLICY": asked or KINDS[profile].policy}


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
        assert process.stdout is not None
        threading.Thread(target=self._remind, daemon=True).start()
        threading.Thread(target=self._end_orphans, args=(process,), daemon=True).start()
        with open(self.study.root / LOG, "w", buffering=1) as log:
            for line in process.stdout:
                log.write(line)
                if (match := EVENT.match(line.strip())) and match[2] in self.jobs:
                    self.event(match[1], match[2])
        self.over.set()
        if process.wait() != 0 and not self.failed:
            self.failed.append(f"Snakemake stopped with exit status {process.returncode}; {LOG} says why.")
        if not self.failed:
            print(f"{self.finished} of {len(self.jobs)} notebooks run, all are up to date", flush=True)
        return self.failed

    def event(self, kind: str, rule: str) -> None:
        """Act on what happened to one job."""
        job = self.jobs[rule]
        if kind in ("rule", "localrule"):
            self.started_s[rule] = time.monotonic()
            begin(self.study, job)
            if kind == "rule":  # elsewhere, where a job that does not begin would leave the copy of an earlier run
                (self.study.root / job.copy).unlink(missing_ok=True)
            return print(f"{job.name}: started", flush=True)
        finished = kind.startswith("Finished")
        if finished:
            self.finished += 1
            record(self.study, job)
        else:
            self.failed.append(why_failed(self.study.root, job))
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


def why_failed(root: Path, job: Job) -> str:
    """What is known of a notebook that failed: what was noted, else what its executed copy says."""
    note, copy = root / job.state("error"), root / job.copy
    begun = copy.exists() and copy.stat().st_size > 0  # Snakemake makes an empty one before a job is submitted
    if not (note.exists() or begun):
        return f"{job.name} did not begin; {LOG} and the log of its job say why."
    error = note.read_text(encoding="utf-8") if note.exists() else error_of(copy)
    return f"{job.name} {error}; see its executed copy, {job.copy}."


def child_environment(root: Path) -> dict[str, str]:
    """Environment of notebooks: one thread each, fixed hashing, this package and its programs, the mark."""
    threads = dict.fromkeys(THREAD_VARIABLES, "1")
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    own = {"PATH": search, "PYTHONPATH": str(root), "PYTHONHASHSEED": "0", "JUPYTER_PREFER_ENV_PATH": "1"}
    inherited = {k: v for k, v in os.environ.items() if k not in REDIRECTING}
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
