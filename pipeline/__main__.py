"""`python -m pipeline`: what the Makefile calls."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline.clean import clean_file
from pipeline.command import exit_status
from pipeline.run import run_profile
from pipeline.study import ROOT, Study


def main(arguments: list[str] | None = None) -> int:
    """Run one command; errors of the user are one sentence and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m pipeline", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    study = commands.add_parser("study", help="run the notebooks of a profile")
    study.add_argument("--profile", default="study")
    study.add_argument("--jobs", type=int, default=2, help="notebooks side by side")
    batch = commands.add_parser("rerun", help="run one notebook with other parameters, once per seed")
    batch.add_argument("notebook")
    batch.add_argument("settings", nargs="*", help="name=value")
    batch.add_argument("--seeds", default="", help="0-9 or 0,2,5")
    cleaner = commands.add_parser("clean", help="clean notebook files in place")
    cleaner.add_argument("files", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    if options.command == "clean":
        return int(any([clean_file(path) for path in options.files]))
    if options.command == "rerun":
        from pipeline.rerun import rerun

        command: Callable[[], object] = partial(rerun, Study(ROOT), options.notebook, options.settings, options.seeds)
    else:
        command = partial(run_profile, Study(ROOT), options.profile, options.jobs)
    return exit_status(command, "stopped; the same command continues from here")


if __name__ == "__main__":
    sys.exit(main())
