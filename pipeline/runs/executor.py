"""Where chapters run: on this machine, or as jobs of a cluster, by Snakemake's own executor plugins.

A cluster's jobs see the same folder as the machine that hands them over, and the environment at the same path; what else they need
from here is named by `handed_on`. Snakemake cancels its jobs when a run is stopped; where Snakemake itself was killed, the next run
does, by the ids in its log.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from pipeline.chapters.study import THREAD_VARIABLES
from recsys_core.errors import StudyError

HERE, CUDA = "local", "CUDA_VISIBLE_DEVICES"
LOG = Path("reports/executed/snakemake.log")
GENERIC = "cluster-generic"
NEEDED = {  # what a job would be lost without: Snakemake waits for ever for one that was killed, and leaves what it cannot cancel
    GENERIC: tuple(f"--cluster-generic-{part}-cmd" for part in ("submit", "status", "cancel"))
}
HANDED_ON = (
    "PATH",
    "PYTHONPATH",
    "PYTHONHASHSEED",
    "JUPYTER_PREFER_ENV_PATH",
    CUDA,
    *THREAD_VARIABLES,
)
MEMORY_MB = (
    8000  # of a job; Snakemake would ask for 1,000 by the size of its input files, and PyTorch alone takes half of that
)
LATENCY_S = 60  # by which files that a job wrote are seen here; what a network file system takes at most by default
PATIENCE_S = 60.0  # for cancelling
SUBMITTED = re.compile(r"[Jj]ob (\d+) .*(?:external jobid '|SLURM jobid )([^' ]+)")
ENDED = re.compile(r"\bjobid: (\d+)")  # also stands in what is said before a job is submitted
CANCELLED = "Terminating processes on user request"


class Executor(NamedTuple):
    """One of Snakemake's executors by its name, with further arguments of Snakemake."""

    name: str = HERE
    arguments: tuple[str, ...] = ()

    @property
    def is_here(self) -> bool:
        """Whether chapters run on this machine."""
        return self.name == HERE


LOCAL = Executor()


def executor_of(name: str, arguments: str) -> Executor:
    """The executor that EXECUTOR and EXECUTOR_ARGS ask for; none is this machine.

    Raises:
        StudyError: it is not installed, or needs what this study cannot give; arguments that lack something or have no executor.
    """
    try:
        further = tuple(shlex.split(arguments))
    except ValueError as error:
        raise StudyError(f"EXECUTOR_ARGS={arguments} is not a line of a shell: {error}.") from None
    if name in ("", HERE):
        if further:
            raise StudyError("EXECUTOR_ARGS is for a cluster: name its EXECUTOR too, for instance EXECUTOR=slurm.")
        return LOCAL
    shares = sharing_executors()
    if name not in shares:
        install = f'{sys.executable} -m pip install -e ".[cluster]"'
        known = ", ".join([HERE, *sorted(each for each, is_shared in shares.items() if is_shared)])
        raise StudyError(
            f"EXECUTOR={name} is not installed (there is: {known}); slurm and {GENERIC} come by `{install}`."
        )
    if not shares[name]:
        raise StudyError(
            f"EXECUTOR={name} shares no folder between machines, which the chapters need; "
            f"README.md says how EXECUTOR={GENERIC} hands them to such a cluster."
        )
    lacking = [each for each in NEEDED.get(name, ()) if option(further, each) is None]
    if lacking:
        raise StudyError(f"EXECUTOR={name} needs {', '.join(lacking)} in EXECUTOR_ARGS; README.md has an example.")
    return Executor(name, further)


def sharing_executors() -> dict[str, bool]:
    """The installed executors of clusters, and whether their machines may share a folder."""
    from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

    found = {name: plugin.common_settings for name, plugin in ExecutorPluginRegistry().plugins.items()}
    return {
        name: not its.implies_no_shared_fs
        for name, its in found.items()
        if its.non_local_exec and not its.spawned_jobs_assume_shared_fs  # these start what is in a job already
    }


def option(arguments: Sequence[str], name: str) -> str | None:
    """The value that a line of arguments gives an option, if it does."""
    for place, each in enumerate(arguments):
        if each == name:
            return "".join(arguments[place + 1 : place + 2])
        if each.startswith(f"{name}="):
            return each.removeprefix(f"{name}=")
    return None


def snakemake_arguments(executor: Executor, jobs_at_once: int, environment: Mapping[str, str]) -> list[str]:
    """What tells Snakemake where jobs run and how many at once; here they take turns on the GPU, elsewhere each has its own."""
    if executor.is_here:
        return ["--cores", str(jobs_at_once), "--latency-wait", "1", "--resources", "gpu=1"]
    line = ["--executor", executor.name, "--jobs", str(jobs_at_once), "--latency-wait", str(LATENCY_S)]
    memory = ["--default-resources", f"mem_mb={MEMORY_MB}"]
    return [*line, *memory, "--envvars", *handed_on(environment), *executor.arguments]


def choose_device(executor: Executor, device: str | None) -> None:
    """Elsewhere chapters that train have a GPU where the profile's device asks for it, and none that a machine happens to have."""
    if not executor.is_here:
        os.environ.pop(CUDA, None)
        os.environ.update({} if device == "cuda" else {CUDA: ""})


def handed_on(environment: Mapping[str, str]) -> list[str]:
    """The variables that a job on another machine gets from here; plugins do not hand on the whole environment."""
    return [name for name in environment if name in HANDED_ON or name.startswith("RECSYS_")]


@contextmanager
def cancelling(root: Path, executor: Executor, process: "subprocess.Popen[str]") -> Iterator[None]:
    """Let Snakemake cancel what it handed to a cluster when the run is stopped before it ended."""
    try:
        yield
    finally:
        if not executor.is_here and process.poll() is None:
            print("cancelling the jobs of this run", flush=True)
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired), open(root / LOG, "a", encoding="utf-8") as log:
                log.write(process.communicate(timeout=PATIENCE_S)[0] or "")


def cancel_left(root: Path, executor: Executor) -> None:
    """Cancel the jobs of a run whose Snakemake was killed, or whose machine went down.

    Raises:
        StudyError: this executor does not say how.
    """
    path = root / LOG
    left = left_jobs(path.read_text(encoding="utf-8")) if path.exists() else []
    if not left:
        return
    names = ", ".join(left)
    command = "scancel" if executor.name == "slurm" else option(executor.arguments, "--cluster-generic-cancel-cmd")
    if not command:
        raise StudyError(
            f"Jobs {names} of a run that was killed may still be at work: run it again with its EXECUTOR, "
            f"or end them and remove {LOG}."
        )
    print(f"cancelling {names}, left by a run that was killed", flush=True)
    subprocess.run([command, *left], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def left_jobs(log: str) -> list[str]:
    """A cluster's ids of the jobs that Snakemake handed over and of whose end its log does not speak."""
    left: dict[str, str] = {}
    for line in log.splitlines():
        if CANCELLED in line:
            left.clear()
        elif submitted := SUBMITTED.search(line):
            left[submitted[1]] = submitted[2]
        elif ended := ENDED.search(line):
            left.pop(ended[1], None)
    return list(left.values())
