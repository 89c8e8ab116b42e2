"""`python -m pipeline`: what the Makefile calls."""

import argparse
import sys
from pathlib import Path

from pipeline.clean import clean_file
from pipeline.run import run_profile
from pipeline.study import ROOT, Study
from recsys_core.errors import StudyError


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
    try:
        if options.command == "clean":
            return int(any([clean_file(path) for path in options.files]))
        if options.command == "rerun":
            from pipeline.rerun import rerun

            rerun(Study(ROOT), options.notebook, options.settings, options.seeds)
        else:
            run_profile(Study(ROOT), options.profile, options.jobs)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command continues from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
