"""`python -m recsys_core recommend`: film recommendations on the command line."""

import argparse
import sys
from pathlib import Path

from recsys_core import menu
from recsys_core.errors import StudyError
from recsys_core.models import MODELS
from recsys_core.people import QUESTIONS, ask_person


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m recsys_core", description=__doc__)
    command = parser.add_subparsers(dest="command", required=True).add_parser(
        "recommend", help="films for a user of the data (--user) or for somebody new; without either, a menu asks"
    )
    command.add_argument("--user", help="a user id of the data")
    for name in QUESTIONS:
        command.add_argument(f"--{name}", help=f"{name} of somebody new; give all of {', '.join(QUESTIONS)}")
    command.add_argument("--k", type=int, default=10, help="how many films (default 10)")
    command.add_argument("--dataset", default="ml-100k", help="a MovieLens release or the path of a CSV file")
    command.add_argument("--model", default="recommender_net", help=", ".join(MODELS))
    command.add_argument("--file", type=Path, help="model file: read if it exists, else written after fitting")
    command.add_argument("--epochs", type=int, default=20, help="epochs of a network that is fitted now (default 20)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the command; a mistake of the user is one sentence and exit status 1."""
    options = _parser().parse_args(arguments)
    given = {name: getattr(options, name) for name in QUESTIONS if getattr(options, name) is not None}
    try:
        if options.user is not None and given:
            raise StudyError("Give a user of the data (--user) or the attributes of somebody new, not both.")
        if given and (missing := [f"--{name}" for name in QUESTIONS if name not in given]):
            raise StudyError(f"Somebody new needs all attributes; missing: {', '.join(missing)}.")
        session = menu.Session.open(options.dataset, options.model, options.file, options.epochs)
        if options.user is not None:
            print(menu.shown(session.for_user(options.user, options.k)))
        elif given:
            person = ask_person(session.data, lambda name, check: check(given[name]))
            print(menu.shown(session.for_person(person, options.k)))
        else:
            menu.run(session)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
