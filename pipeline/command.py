"""How a command ends: a mistake of the user is one sentence and exit status 1, an interruption is 130."""

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
