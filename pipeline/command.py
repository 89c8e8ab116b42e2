"""How a command ends: a mistake of the user is one sentence and exit status 1, an interruption is 130."""

import re
import sys
from collections.abc import Callable

from recsys_core.errors import StudyError


def exit_status(command: Callable[[], object], stopped: str) -> int:
    """Run a command and return its exit status; `stopped` is said when it was interrupted."""
    try:
        command()
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130
    return 0


def at_least_one(name: str, text: str) -> int:
    """The number that an option gives; StudyError names the option where it is no whole number from 1 on."""
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) == 0:
        raise StudyError(f"{name}={text} must be a whole number, 1 or more.")
    return int(text)


def is_on(name: str, text: str) -> bool:
    """Whether a switch is on; StudyError where it is neither 1 nor 0 nor empty."""
    if text not in ("", "0", "1"):
        raise StudyError(f"{name}={text} must be 1 (yes) or 0 (no).")
    return text == "1"
