"""Film recommendations on the command line."""

import argparse
import io
import os
import sys
from pathlib import Path

from recsys_core.app import menu
from recsys_core.app.people import QUESTIONS, Person, ask_person, whole_number
from recsys_core.app.similar import require_likeness
from recsys_core.errors import StudyError
from recsys_core.models import ALSO_WATCHED, FOR_FILMS, FOR_PEOPLE, MODELS

MOST_EPOCHS = 100_000


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m recsys_core", description=__doc__)
    command = parser.add_subparsers(dest="command", required=True).add_parser(
        "recommend",
        help="films for a user of the data (--user), for somebody new, or like a film (--like); without any, a menu asks",
    )
    command.add_argument("--user", help="a user id of the data")
    command.add_argument("--like", metavar="TITLE", help="a film's title, for films like it")
    command.add_argument("--why", action="store_true", help="say what in a user's history speaks for each film")
    for name in QUESTIONS:
        command.add_argument(f"--{name}", help=f"{name} of somebody new; give all of {', '.join(QUESTIONS)}")
    command.add_argument("--k", help="how many films (default 10)")
    command.add_argument("--dataset", default="ml-100k", help="a MovieLens release or the path of a file of ratings")
    models = f"{', '.join(MODELS)} (default {FOR_PEOPLE}, with --like {FOR_FILMS} and {ALSO_WATCHED})"
    command.add_argument("--model", help=models)
    command.add_argument("--file", type=Path, help="model file: read if it exists, else written after fitting")
    command.add_argument("--epochs", help=f"epochs of a network that is fitted now (default {menu.EPOCHS})")
    return parser


def run(arguments: list[str] | None = None) -> int:
    """Run the command; a mistake of the user is one sentence and exit status 1."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # titles and answers that the terminal's encoding lacks
    options = _parser().parse_args(arguments)
    try:
        _recommend(options)
        print(end="", flush=True)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python tries again at its end
        if not isinstance(error, BrokenPipeError):  # whoever reads has read enough
            print(f"error: Reading or writing failed ({error}): free space, or name another place.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()
        return 130
    return 0


def _recommend(options: argparse.Namespace) -> None:
    """Everything that was said is checked before a model is fitted."""
    given = {name: getattr(options, name) for name in QUESTIONS if getattr(options, name) is not None}
    if options.like is not None and (options.user is not None or given):
        raise StudyError(
            "Give a film (--like), a user of the data (--user) or the attributes of somebody new, one of them."
        )
    if options.user is not None and given:
        raise StudyError("Give a user of the data (--user) or the attributes of somebody new, not both.")
    if given and (missing := [f"--{name}" for name in QUESTIONS if name not in given]):
        raise StudyError(f"Somebody new needs all attributes; missing: {', '.join(missing)}.")
    if options.k is not None and (options.user, options.like) == (None, None) and not given:
        raise StudyError(
            "--k belongs to --user or to the attributes of somebody new, or to --like: the menu asks for the number itself."
        )
    if options.why and (given or options.like is not None):
        raise StudyError("--why belongs to --user, or to the menu: it names films that a user of the data has rated.")
    epochs = None if options.epochs is None else whole_number(options.epochs, "--epochs", 1, MOST_EPOCHS)
    model = options.model or (FOR_PEOPLE if options.like is None else FOR_FILMS)
    if options.like is not None and model in MODELS:  # an unknown one is refused by the session
        require_likeness(MODELS[model])
    session = menu.Session.open(options.dataset, model, options.file, epochs, options.why)
    n_films = len(session.vocabulary.item_ids) - (options.like is not None)
    k = min(10, n_films) if options.k is None else whole_number(options.k, "--k", 1, n_films)
    if options.like is not None:
        models = (FOR_FILMS, ALSO_WATCHED) if options.model is None else (options.model,)
        print(session.like(options.like, k, models))
    elif options.user is not None:
        print(session.list_of(options.user, k))
    elif given:
        person: Person = ask_person(session.data, lambda name, check: check(given[name]))
        print(menu.shown(session.for_person(person, k)))
    else:
        menu.run(session)
