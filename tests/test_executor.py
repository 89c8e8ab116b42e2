"""`make study EXECUTOR=…`: what is asked is checked first, and a cluster's jobs run, fail and are stopped as chapters do here.

The cluster is a script of a few lines that starts each job apart, with nothing of this process's environment.
"""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from test_pipeline import WRITE, make_runnable, write_notebook

from pipeline.chapters.study import THREAD_VARIABLES, Study
from pipeline.runs import executor
from pipeline.runs.executor import LOCAL, Executor, cancel_left, executor_of, left_jobs, snakemake_arguments
from pipeline.runs.jobs import jobs_of
from pipeline.runs.run import why_failed
from recsys_core.errors import StudyError

needs_plugin = pytest.mark.skipif(
    sys.platform != "linux" or importlib.util.find_spec("snakemake_executor_plugin_cluster_generic") is None,
    reason="the extra `cluster` is not installed",
)
GENERIC = "--cluster-generic-submit-cmd a --cluster-generic-status-cmd=b --cluster-generic-cancel-cmd c"


def test_nothing_asked_is_this_machine_and_takes_turns_on_its_gpu():
    assert executor_of("", "") == executor_of("local", " ") == LOCAL
    assert snakemake_arguments(LOCAL, 3, {}) == ["--cores", "3", "--latency-wait", "1", "--resources", "gpu=1"]


@pytest.fixture
def installed(monkeypatch):
    shares = {"slurm": True, "cluster-generic": True, "kubernetes": False}
    monkeypatch.setattr(executor, "sharing_executors", lambda: shares)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        (
            "lsf",
            "",
            r"EXECUTOR=lsf is not installed \(there is: local, cluster-generic, slurm\).* install -e \"\.\[cluster\]\"",
        ),
        ("dryrun", "", "EXECUTOR=dryrun is not installed"),
        ("kubernetes", "", "EXECUTOR=kubernetes shares no folder between machines, which the chapters need; README"),
        ("", "--jobs 3", "EXECUTOR_ARGS is for a cluster: name its EXECUTOR too"),
        ("slurm", "--a 'b", "EXECUTOR_ARGS=--a 'b is not a line of a shell: No closing quotation"),
        (
            "cluster-generic",
            GENERIC.split(" --cluster-generic-status")[0],
            "needs --cluster-generic-status-cmd, --cluster-gen",
        ),
    ],
)
def test_what_cannot_run_is_refused_in_a_sentence(installed, name, arguments, said):
    with pytest.raises(StudyError, match=said):
        executor_of(name, arguments)


def test_an_executor_gets_the_arguments_that_were_given_and_what_jobs_need_from_here(installed):
    asked = executor_of("slurm", "--default-resources slurm_partition='a b'")
    environment = {"RECSYS_POLICY": "first", "HOME": "/root", "OMP_NUM_THREADS": "1", "PATH": "/bin"}
    line = snakemake_arguments(asked, 100, environment)
    assert line[:4] == ["--executor", "slurm", "--jobs", "100"] and "--resources" not in line
    handed = ["--envvars", "RECSYS_POLICY", "OMP_NUM_THREADS", "PATH"]
    assert line[line.index("--envvars") :] == [*handed, "--default-resources", "slurm_partition=a b"]
    assert executor_of("cluster-generic", GENERIC).arguments == tuple(GENERIC.split())


def test_installed_executors_are_those_of_clusters():
    found = executor.sharing_executors()
    assert not {"local", "dryrun", "touch", "slurm-jobstep"} & set(found)
    if "kubernetes" in found:
        assert not found["kubernetes"]


LOGS = {
    "generic": """rule study_first:
    jobid: 1
Submitted job 1 with external jobid '77'.
rule study_second:
    jobid: 2
Submitted job 2 with external jobid 'job.batch/78'.
rule study_third:
    jobid: 3
Submitted job 3 with external jobid '79'.
Finished jobid: 1 (Rule: study_first)
Error in rule study_third:
    jobid: 3
""",
    "slurm": """rule study_second:
    jobid: 2
Job 2 has been submitted with SLURM jobid 78 (log: /a/.snakemake/slurm_logs/rule_study_second/78.log).
""",
}


@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS)
def test_jobs_that_were_handed_over_and_have_not_ended_are_found_in_the_log(log):
    assert [each.removeprefix("job.batch/") for each in left_jobs(log)] == ["78"]
    assert left_jobs(f"{log}Terminating processes on user request, this might take some time.\n") == []


def test_what_a_killed_run_left_is_cancelled_by_its_executor_and_stops_any_other_run(tmp_path):
    cancel_left(tmp_path, LOCAL)
    (tmp_path / executor.LOG).parent.mkdir(parents=True)
    (tmp_path / executor.LOG).write_text(LOGS["generic"])
    with pytest.raises(StudyError, match=r"Jobs job\.batch/78 of a run that was killed may still be at work"):
        cancel_left(tmp_path, LOCAL)
    cancel_left(tmp_path, Executor("cluster-generic", ("--cluster-generic-cancel-cmd", write_cluster(tmp_path)[2])))
    assert (tmp_path / "cluster/cancelled").read_text() == "job.batch/78\n"


def write_cluster(root):
    """Programs that submit a job, tell how it is and cancel some."""
    programs = {
        "submit": 'id=$(date +%N); cp "$1" $id.sh\n'
        "setsid env -i HOME=/tmp sh -c 'echo $$ > '$id'.pid; sh '$id'.sh; echo $? > '$id'.rc' < /dev/null > $id.log 2>&1 &\n"
        "while [ ! -s $id.pid ]; do sleep 0.05; done; echo $id",
        "status": "if [ -f $1.rc ]; then grep -qx 0 $1.rc && echo success || echo failed\n"
        "elif kill -0 $(cat $1.pid) 2> /dev/null; then echo running; else echo failed; fi",
        "cancel": 'for id in "$@"; do echo $id >> cancelled; kill -9 -$(cat $id.pid); done',
    }
    (root / "cluster").mkdir(exist_ok=True)
    for name, lines in programs.items():
        (root / "cluster" / name).write_text(f'#!/bin/sh\ncd "$(dirname "$0")"\n{lines}\n')
        (root / "cluster" / name).chmod(0o755)
    return [str(root / "cluster" / name) for name in programs]


def on_cluster(root):
    """The line of a study on the cluster of this folder."""
    options = [
        f"--cluster-generic-{name}-cmd {each}"
        for name, each in zip(("submit", "status", "cancel"), write_cluster(root))
    ]
    arguments = " ".join([*options, "--seconds-between-status-checks", "1"])
    return [sys.executable, "-m", "pipeline", "study", "--executor=cluster-generic", f"--executor-args={arguments}"]


def run(root, **variables):
    environment = {**os.environ, "PYTHONPATH": str(root), **variables}
    return subprocess.run(on_cluster(root), cwd=root, env=environment, capture_output=True, text=True, timeout=200)


HANDED = ("PYTHONHASHSEED", "RECSYS_POLICY", "RECSYS_SCRATCH", "RECSYS_REPLACE", "RECSYS_DATA", "CUDA_VISIBLE_DEVICES")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two chapters that have run on the cluster, the first of which notes some of its environment."""
    root = make_runnable(tmp_path_factory.mktemp("project"))
    noted = f"{{k: environment.get(k) for k in {(*HANDED, *THREAD_VARIABLES, 'SHELL')}}}"
    noting = f"__import__('json').dump({noted}, open('noted', 'w'))"
    write_notebook(root, "first", f"{WRITE.format(name='first')}\n{noting}")
    done = run(root, RECSYS_DATA="/data", SHELL="/bin/none")
    assert done.returncode == 0 and "2 of 2 notebooks run" in done.stdout, done.stdout + done.stderr
    return root


@needs_plugin
def test_chapters_run_as_jobs_with_the_variables_of_a_run_here_and_no_others(project):
    assert (project / "reports/results/second.csv").read_text() == "epochs\n20\n"
    log = (project / executor.LOG).read_text()
    assert len(re.findall("external jobid", log)) == 2 and left_jobs(log) == []
    values = ("0", "first", "reports/executed/study/scratch", "0", "/data", "")
    given = dict(zip(HANDED, values)) | dict.fromkeys(THREAD_VARIABLES, "1") | {"SHELL": None}
    assert json.loads((project / "noted").read_text()) == given


WAIT = "import time\nfrom pathlib import Path\n\nPath('begun').touch()\ntime.sleep(0 if Path('go').exists() else 60)\n"


def start(root, name="second"):
    """A study on the cluster, when its job waits in a cell; the job's process group."""
    write_notebook(root, name, f"{WAIT}{WRITE.format(name=name)}\n{time.time_ns()}")  # new code, so it runs
    for each in ("begun", "go"):
        (root / each).unlink(missing_ok=True)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(on_cluster(root), cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, **pipes)
    wait_for(root / "begun")
    (root / "cluster/cancelled").unlink(missing_ok=True)  # what the run before left
    newest = max((root / "cluster").glob("*.pid"), key=lambda path: path.stat().st_mtime)
    return process, int(newest.read_text())


def wait_for(path: Path):
    for _ in range(300):
        if path.exists():
            return
        time.sleep(0.1)
    raise AssertionError(f"no {path}")


def alive(group):
    """Whether a process of this group is left."""
    found = []
    for each in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(each.pid) == group and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found


def wait_until_gone(group):
    for _ in range(300):
        if not alive(group):
            return
        time.sleep(0.1)
    raise AssertionError(f"still there: {alive(group)}")


@needs_plugin
def test_a_killed_job_is_named_and_the_same_command_takes_it_up_again(project):
    process, group = start(project)
    os.killpg(group, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1 and re.search(r"second stopped .*; see its executed copy", said)
    (project / "go").touch()
    again = run(project)
    assert again.returncode == 0, again.stderr
    assert "1 of 2 notebooks run" in again.stdout and "first: started" not in again.stdout


@needs_plugin
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_or_killed_cancels_its_jobs(project, number):
    process, group = start(project)
    process.send_signal(number)
    process.communicate(timeout=90)
    wait_until_gone(group)
    wait_for(project / "cluster/cancelled")


@needs_plugin
def test_jobs_whose_snakemake_was_killed_too_are_cancelled_by_the_next_run(project):
    process, group = start(project)
    (snakemake,) = [each for each in psutil.Process(process.pid).children() if "snakemake" in each.cmdline()]
    snakemake.suspend()  # or it would cancel its jobs at the death of the other
    process.kill()
    snakemake.kill()
    process.communicate(timeout=60)
    assert alive(group) and not (project / "cluster/cancelled").exists()
    (project / "go").touch()
    again = run(project)
    assert again.returncode == 0, again.stderr
    assert "1 of 2 notebooks run" in again.stdout and "second: finished" in again.stdout
    assert re.search(r"cancelling \d+, left by a run that was killed", again.stdout) and not alive(group)


@needs_plugin
def test_a_job_that_never_begins_is_said_to(project):
    write_notebook(project, "second", f"{WRITE.format(name='second')}\n{time.time_ns()}")
    line = on_cluster(project)
    (project / "cluster/submit").write_text("#!/bin/sh\necho no partition of this name >&2; exit 1\n")
    failed = subprocess.run(
        line, cwd=project, env={**os.environ, "PYTHONPATH": str(project)}, capture_output=True, text=True
    )
    assert failed.returncode == 1
    assert "second did not begin; reports/executed/snakemake.log and the log of its job say why" in failed.stderr
    assert "no partition of this name" in (project / executor.LOG).read_text()


def test_elsewhere_a_chapter_that_trains_has_a_gpu_where_the_profile_asks_for_one(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.runs.jobs.cuda_available", lambda: False)
    study = Study(make_runnable(tmp_path).resolve())
    with pytest.raises(StudyError, match="needs a CUDA device"):
        jobs_of(study, "gpu")
    assert [job.device for job in jobs_of(study, "gpu", here=False)] == ["cuda"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    executor.choose_device(LOCAL, None)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    executor.choose_device(Executor("slurm"), None)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    executor.choose_device(Executor("slurm"), "cuda")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize("copy", [None, ""])
def test_a_copy_that_is_empty_or_missing_is_of_a_chapter_that_did_not_begin(tmp_path, copy):
    (job,) = jobs_of(Study(make_runnable(tmp_path)), "study", ["second"])
    if copy is not None:
        (tmp_path / job.copy).parent.mkdir(parents=True)
        (tmp_path / job.copy).write_text(copy)
    assert why_failed(tmp_path, job).startswith("second did not begin; reports/executed/snakemake.log")
