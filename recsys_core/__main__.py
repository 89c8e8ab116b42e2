"""`python -m recsys_core recommend` and `python -m recsys_core explorer`, see `app.command`."""

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command; a mistake of the user is one sentence and exit status 1."""
    print("Starting …", file=sys.stderr, flush=True)
    from recsys_core.app import command  # the libraries take seconds to load

    return command.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
