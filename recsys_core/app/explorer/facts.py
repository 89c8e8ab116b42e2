"""Facts that films have in common and that tell somebody something: those with names, and people without them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from recsys_core.app.explain import Facts, film_facts
from recsys_core.datasets import MovieLens

PEOPLE = ("director", "writer", "actor", "producer")


def shared_facts(data: MovieLens, codes: np.ndarray, names: Mapping[str, str] | None = None) -> Facts | None:
    """Facts of the films with (I,) `codes` that two of them share; None for data without a table of films.

    `names` of people as `explain.film_facts` takes them; a fine genre and a subject without a name are left out.
    """
    if data.movies is None:
        return None
    facts, flags, labels = film_facts(data, names), {}, {}
    for kind, found in facts.flags.items():
        mine = found[codes].tocsc()
        told = np.array([bool(label) or kind in PEOPLE for label in facts.labels[kind]], bool)
        kept = np.flatnonzero((np.diff(mine.indptr) > 1) & told)
        flags[kind], labels[kind] = mine[:, kept].tocsr(), [facts.labels[kind][place] for place in kept]
        flags[kind].sort_indices()
    return Facts(flags, labels)
