"""`python -m pipeline`: what the Makefile calls."""

import argparse
import sys
from functools import partial
from pathlib import Path

from pipeline.clean import clean_file
from pipeline.command import at_least_one, exit_status
from pipeline.run import run_profile
from pipeline.study import ROOT, Study


def main(arguments: list[str] | None = None) -> int:
    """Run one command; errors of the user are one sentence and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    study = commands.add_parser("study", help="run the notebooks of a profile")
    study.add_argument("--profile", default="study")
    study.add_argument("--jobs", default="2", help="notebooks side by side")
    batch = commands.add_parser("rerun", help="run one notebook with other parameters, once per seed")
    batch.add_argument("notebook")
    batch.add_argument("settings", nargs="*", help="name=value")
    batch.add_argument("--seeds", default="", help="0-9 or 0,2,5")
    batch.add_argument("--device", default="", help="cpu, cuda or auto")
    batch.add_argument("--dataset", default="", help="a MovieLens data set by name, or a file of your own")
    cleaner = commands.add_parser("clean", help="clean notebook files in place")
    cleaner.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "clean":
        return int(any([clean_file(path) for path in options.files]))
    command = rerun_command if options.command == "rerun" else study_command
    return exit_status(partial(command, options), "stopped; the same command continues from here")


def study_command(options: argparse.Namespace) -> None:
    """`make study`."""
    jobs_at_once = at_least_one("JOBS", options.jobs)
    run_profile(Study(ROOT), options.profile, jobs_at_once)


def rerun_command(options: argparse.Namespace) -> None:
    """`make rerun`."""
    from pipeline.rerun import rerun

    texts = {"device": options.device, "dataset": options.dataset}
    rerun(Study(ROOT), options.notebook, options.settings, options.seeds, **texts)


if __name__ == "__main__":
    sys.exit(main())
