"""Whether what a model holds for all pairs of items fits in memory, asked before it is computed."""

import psutil

from recsys_core.errors import StudyError

N_TABLES = 5  # of pairs of items that are held at once while an inverse is computed
BYTES = 8  # a number


class DoesNotFitError(StudyError):
    """A model that needs more memory than is free."""


def check_pairs_fit(n_items: int) -> None:
    """Raise DoesNotFitError where tables of all pairs of items need more memory than is free."""
    needed, free = N_TABLES * BYTES * n_items**2, psutil.virtual_memory().available
    if needed > free:
        raise DoesNotFitError(
            f"{n_items:,} items have {n_items**2:,} pairs, and a weight for each takes {needed / 2**30:,.1f} GiB while it "
            f"learns, of which {free / 2**30:,.1f} are free: take a model with vectors, such as iALS, or leave rare items out."
        )
