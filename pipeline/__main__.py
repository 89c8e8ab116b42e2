"""`python -m pipeline`: what the Makefile calls."""

import argparse
import sys
from functools import partial
from pathlib import Path

from pipeline.chapters.study import ROOT, Study
from pipeline.command import at_least_one, exit_status, is_on
from pipeline.runs.clean import clean_file
from pipeline.runs.executor import Executor, executor_of
from pipeline.runs.run import run_profile
from recsys_core.errors import StudyError, refuse_unknown


def main(arguments: list[str] | None = None) -> int:
    """Run one command; errors of the user are one sentence and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    study = commands.add_parser("study", help="run the notebooks of a profile")
    study.add_argument("--profile", default="study")
    study.add_argument("--replace", default="", help="1: fresh results take the place of the kept ones")
    study.add_argument("--dataset", default="", help="a file of own ratings, for a study of its own below reports/runs")
    study.add_argument("--movies", default="", help="a table of what was rated, for own ratings")
    study.add_argument("--users", default="", help="a table of users, for own ratings")
    study.add_argument("--quick", default="", help="1: few models with stated settings, on own ratings")
    study.add_argument("--tune", default="", help="trials of a search of settings, on own ratings")
    store = commands.add_parser("store", help="run notebooks, and store what they train")
    verify = commands.add_parser("verify", help="train what is stored again and compare, changing nothing")
    verify.add_argument("--full", default="", help="1: every seed of every protocol")
    for each in (study, store, verify):
        each.add_argument("--jobs", default="2", help="notebooks side by side")
        each.add_argument(
            "--executor", default="", help="a cluster that they are handed to, by its plugin of Snakemake"
        )
        each.add_argument("--executor-args", default="", help="further arguments of Snakemake, for that cluster")
    for each in (study, store, verify):
        each.add_argument("--notebooks", default="", help="names, separated by spaces; none: all")
    batch = commands.add_parser("rerun", help="run one notebook with other parameters, once per seed")
    batch.add_argument("notebook")
    batch.add_argument("parameters", nargs="*", help="name=value")
    batch.add_argument("--seeds", default="", help="0-9 or 0,2,5")
    batch.add_argument("--device", default="", help="cpu, cuda or auto")
    batch.add_argument("--dataset", default="", help="a MovieLens data set by name, or a file of your own")
    cleaner = commands.add_parser("clean", help="clean notebook files in place")
    cleaner.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "clean":
        return int(any([clean_file(path) for path in options.files]))
    command = {"rerun": rerun_command, "study": study_command}.get(options.command, stored_command)
    return exit_status(partial(command, options), "stopped; the same command continues from here")


def study_command(options: argparse.Namespace) -> None:
    """`make study`."""
    jobs_at_once, replace = at_least_one("JOBS", options.jobs), is_on("REPLACE", options.replace)
    executor = executor_of(options.executor, options.executor_args)
    if options.dataset:
        return own_study(options, jobs_at_once, executor)
    for name in ("movies", "users", "quick", "tune"):
        if getattr(options, name):
            raise StudyError(f"{name.upper()}= is for own ratings: name their file, too, by DATASET=.")
    study = Study(ROOT)
    known = [name for name, content in study.profiles.items() if not content.get("own")]  # these need DATASET=
    refuse_unknown("PROFILE", options.profile, known)  # `store` and `verify` are commands of their own
    run_profile(study, options.profile, jobs_at_once, options.notebooks.split(), replace, executor)


def own_study(options: argparse.Namespace, jobs_at_once: int, executor: Executor) -> None:
    """`make study DATASET=`."""
    from pipeline.runs.own import Given, run_own

    if options.profile != "study" or options.replace or options.notebooks:
        raise StudyError("DATASET= makes a study of its own: leave PROFILE=, REPLACE= and NOTEBOOK= out.")
    tune = at_least_one("TUNE", options.tune) if options.tune else 0
    given = Given(options.dataset, options.movies, options.users, is_on("QUICK", options.quick), tune)
    print(f"the report: {run_own(ROOT, given, jobs_at_once, executor)}", flush=True)


def stored_command(options: argparse.Namespace) -> None:
    """`make store` and `make verify`."""
    full = options.command == "verify" and is_on("FULL", options.full)
    profile = "verify-full" if full else options.command
    executor = executor_of(options.executor, options.executor_args)
    names, jobs_at_once = options.notebooks.split(), at_least_one("JOBS", options.jobs)
    run_profile(Study(ROOT), profile, jobs_at_once, names, executor=executor)


def rerun_command(options: argparse.Namespace) -> None:
    """`make rerun`."""
    from pipeline.runs.rerun import rerun

    texts = {"device": options.device, "dataset": options.dataset}
    rerun(Study(ROOT), options.notebook, options.parameters, options.seeds, **texts)


if __name__ == "__main__":
    sys.exit(main())
