"""Film recommendations on the command line, and a page of them."""

import argparse
import io
import os
import sys
from pathlib import Path

from recsys_core.app import menu
from recsys_core.app.batch import FORMATS, check_lists_place, write_lists
from recsys_core.app.explorer.page import write_explorer
from recsys_core.app.people import QUESTIONS, Person, ask_person, whole_number
from recsys_core.app.similar import require_likeness
from recsys_core.datasets import load
from recsys_core.errors import StudyError
from recsys_core.models import ALSO_WATCHED, EXPLORED, FOR_FILMS, FOR_PEOPLE, MODELS
from recsys_core.models.storage import check_place

DATASET = "ml-100k"
MOST_EPOCHS = 100_000


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m recsys_core", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    page = commands.add_parser("explorer", help="write the explorer, one file for a browser")
    page.add_argument("--dataset", default="ml-100k", help="a MovieLens release or the path of a file of ratings")
    page.add_argument("--out", type=Path, default=Path("explorer.html"), help="the file (default explorer.html)")
    command = commands.add_parser(
        "recommend",
        help="films for a user of the data (--user), for somebody new, or like a film (--like); without any, a menu asks",
    )
    command.add_argument("--user", help="a user id of the data")
    command.add_argument("--like", metavar="TITLE", help="a film's title, for films like it")
    command.add_argument("--why", action="store_true", help="say what in a user's history speaks for each film")
    for name in QUESTIONS:
        command.add_argument(f"--{name}", help=f"{name} of somebody new; give all of {', '.join(QUESTIONS)}")
    command.add_argument(
        "--all-users", type=Path, metavar="OUT", help=f"write everybody's list: {' or '.join(FORMATS)}"
    )
    command.add_argument("--k", help="how many films (default 10)")
    said = f"a MovieLens release or the path of a file of ratings (default {DATASET})"
    command.add_argument("--dataset", help=said)
    models = f"{', '.join(MODELS)} (default {FOR_PEOPLE}, with --like {FOR_FILMS} and {ALSO_WATCHED}), or a saved model"
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
        (_explorer if options.command == "explorer" else _recommend)(options)
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


def _explorer(options: argparse.Namespace) -> None:
    """Write the page; whether it can be written is known before a model is fitted."""
    check_place(options.out)
    menu.tell(f"Reading {options.dataset}, and fitting {', '.join(EXPLORED)} on all of its ratings …")
    write_explorer(load(options.dataset), options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB, to be opened in a browser")


def _recommend(options: argparse.Namespace) -> None:
    """Everything that was said is checked before a model is fitted."""
    given = {name: getattr(options, name) for name in QUESTIONS if getattr(options, name) is not None}
    _check_options(options, given)
    session = _session(options)
    n_films = len(session.vocabulary.item_ids) - (options.like is not None)
    k = min(10, n_films) if options.k is None else whole_number(options.k, "--k", 1, n_films)
    if options.all_users is not None:
        lists = session.everybody(k)
        write_lists(lists, options.all_users)
        print(f"{options.all_users}: {len(lists):,} rows, the lists of {lists['user_id'].nunique():,} users")
    elif options.like is not None:
        models = (FOR_FILMS, ALSO_WATCHED) if options.model is None else (session.unfitted.name,)
        print(session.like(options.like, k, models))
    elif options.user is not None:
        print(session.list_of(options.user, k))
    elif given:
        person: Person = ask_person(session.data, lambda name, check: check(given[name]))
        print(menu.shown(session.for_person(person, k)))
    else:
        menu.run(session)


def _check_options(options: argparse.Namespace, given: dict[str, str]) -> None:
    """Raise StudyError for options that do not go together, and for a place where everybody's lists could not be written."""
    if options.all_users is not None:
        if options.user is not None or options.like is not None or options.why or given:
            raise StudyError(
                "--all-users writes the lists of everybody: leave out --user, --like, --why and attributes."
            )
        check_lists_place(options.all_users)
    if options.like is not None and (options.user is not None or given):
        raise StudyError(
            "Give a film (--like), a user of the data (--user) or the attributes of somebody new, one of them."
        )
    if options.user is not None and given:
        raise StudyError("Give a user of the data (--user) or the attributes of somebody new, not both.")
    if given and (missing := [f"--{name}" for name in QUESTIONS if name not in given]):
        raise StudyError(f"Somebody new needs all attributes; missing: {', '.join(missing)}.")
    if options.k is not None and not given and (options.user, options.like, options.all_users) == (None, None, None):
        raise StudyError(
            "--k belongs to --user or to the attributes of somebody new, to --like or to --all-users: "
            "the menu asks for the number itself."
        )
    if options.why and (given or options.like is not None):
        raise StudyError("--why belongs to --user, or to the menu: it names films that a user of the data has rated.")


def _session(options: argparse.Namespace) -> menu.Session:
    """The data, and the model by its name or as it was saved."""
    epochs = None if options.epochs is None else whole_number(options.epochs, "--epochs", 1, MOST_EPOCHS)
    model = options.model or (FOR_PEOPLE if options.like is None else FOR_FILMS)
    if _is_path(model):
        if not (options.dataset is None and options.epochs is None and options.file is None):
            raise StudyError(
                f"{model} is a saved model, fitted on data of its own: leave out --dataset, --epochs and --file."
            )
        return menu.Session.of_saved(Path(model), options.why)
    if options.like is not None and model in MODELS:  # an unknown one is refused by the session
        require_likeness(MODELS[model])
    dataset = DATASET if options.dataset is None else options.dataset
    return menu.Session.open(dataset, model, options.file, epochs, options.why)


def _is_path(model: str) -> bool:
    """Whether this is the place of a saved model rather than a model's name."""
    looks_so = Path(model).suffix != "" or len(Path(model).parts) > 1 or model.endswith(os.sep)
    return model not in MODELS and (looks_so or os.path.exists(model))
