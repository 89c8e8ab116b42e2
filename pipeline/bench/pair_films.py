"""The same films in ML-100K and ML-1M, by id: `python -m pipeline.bench.pair_films` writes `recsys_core/releases/film_pairs.csv`.

It needs ML-1M's `movies.dat` in a local folder (RECSYS_DATA or `data/`), which the package index does not have; the table of ids is
all that is taken from it.
"""

import os
import sys
from pathlib import Path

import pandas as pd

from pipeline.command import exit_status
from recsys_core.datasets import load
from recsys_core.errors import StudyError
from recsys_core.files import atomic_path
from recsys_core.releases import sources
from recsys_core.releases.films import PAIRS, matched
from recsys_core.releases.formats import FORMATS, read_table, with_year

# ML-1M names the episodes: Star Wars, The Empire Strikes Back, Return of the Jedi.
BY_HAND = {50: 260, 172: 1196, 181: 1210}


def films_of_ml_1m() -> pd.DataFrame | None:
    """ML-1M's movie table, or None where no local folder has it."""
    own = os.environ.get("RECSYS_DATA")
    for root in (*([Path(own)] if own else []), sources.DATA):
        if (path := root / "ml-1m" / "movies.dat").is_file():
            return with_year(read_table(path, FORMATS["dat-1m"]["movies"]))
    return None


def pair_films(ml_100k: pd.DataFrame, ml_1m: pd.DataFrame) -> pd.Series:
    """Return ML-100K's id → ML-1M's id of two movie tables, in ascending order: by title and year, and three by hand."""
    by_id = ml_1m.set_index("item_id", drop=False)
    pairs = matched(ml_100k, by_id)
    named = {item: other for item, other in BY_HAND.items() if item in set(ml_100k["item_id"]) and other in by_id.index}
    return pd.Series(pairs.to_dict() | named, name="ml_1m").rename_axis("ml_100k").sort_index()


def main() -> None:
    """Write the table."""
    ml_1m, ml_100k = films_of_ml_1m(), load("ml-100k").movies
    if ml_1m is None or ml_100k is None:
        raise StudyError(f"No folder has ml-1m/movies.dat: unpack ML-1M into {sources.DATA}, or set RECSYS_DATA.")
    pairs = pair_films(ml_100k, ml_1m)
    with atomic_path(PAIRS) as temporary:
        pairs.to_csv(temporary)
    print(f"{len(pairs):,} of {len(ml_100k):,} films of ML-100K are in ML-1M, written to {PAIRS}")


if __name__ == "__main__":
    sys.exit(exit_status(main, "interrupted"))
