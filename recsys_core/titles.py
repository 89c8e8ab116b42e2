"""Words of film titles as attributes, for models that read them (`title_words`)."""

import numpy as np
import pandas as pd

from recsys_core.content import with_columns
from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.interactions import Features, Interactions


def title_words(titles: pd.Series, n_words: int) -> pd.DataFrame:
    """One 0/1 column for each of the most frequent words and numbers of titles; ties in alphabetical order."""
    words = titles.fillna("").str.lower().str.findall(r"\w+").str.join("|")
    flags = words.str.get_dummies(sep="|").drop(columns="", errors="ignore").sort_index(axis=1)
    return flags[flags.sum().sort_values(ascending=False, kind="stable").index[:n_words]]


def with_title_words(rows: Interactions, data: MovieLens, n_words: int) -> Interactions:
    """Return the rows with columns `title_*` added to the item attributes; the catalogue is that of `encode(data)`.

    Raises StudyError for data without titles.
    """
    if data.movies is None or rows.item_features is None:
        raise StudyError(f"{data.name} has no film titles to take words from: choose a data set with a movie table.")
    titles = data.movies.set_index("item_id")["title"].reindex(np.unique(data.ratings["item_id"]))
    flags = title_words(titles, n_words)
    return with_columns(rows, Features(flags.to_numpy(np.float32), tuple(f"title_{word}" for word in flags.columns)))
