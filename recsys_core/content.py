"""What is known of films as vectors: item attributes `content_*`, for models that recommend films nobody has rated.

A film's tokens are, by kind, the words of its `title`, its `genres`, its `year` (and decade), facts of the `graph`
("directed_by:m.02vyw"), `tags`, and the words of Wikipedia's paragraph: `text` without its sentences on reception and sequels,
`whole_text` with them. Vectors are TF-IDF over all films of the catalogue, each kind of length 1, by truncated SVD, of length 1:
how much is known of a film tells how popular it is, and must not stay in the vector's length. No rating is looked at.
"""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import sparse

from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError, refuse_unknown
from recsys_core.interactions import Features, Interactions
from recsys_core.releases import films

LEAST_FILMS = 2  # that have a token in common; one that a single film has tells of no other
NOTHING = 1e-6  # a vector shorter than this has no direction
Read = Callable[[MovieLens, pd.Index], pd.Series]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Content:
    """Tokens of I films: `tokens[kind][i]` is a list of texts, and `missing[kind]` says why a kind could not be read."""

    tokens: dict[str, list[list[str]]]
    missing: dict[str, str]

    def vectors(self, dim: int) -> np.ndarray:
        """Return (I, D) float32 vectors of length 1, zeros for a film that shares no token with another.

        D is `dim`, or the number of tokens where that is less. Raises StudyError where no two films share a token.
        """
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        blocks = []
        for films_tokens in self.tokens.values():
            kept = [token for film in films_tokens for token in set(film)]
            if pd.Series(kept, dtype=object).value_counts().max() >= LEAST_FILMS:
                blocks.append(TfidfVectorizer(analyzer=list, min_df=LEAST_FILMS).fit_transform(films_tokens))
        if not blocks:
            raise StudyError(f"The films share no token of {', '.join(self.tokens)}: choose other kinds of content.")
        known = sparse.hstack(blocks).tocsr()
        small = known.shape[1] <= dim
        vectors = known.toarray() if small else TruncatedSVD(dim, random_state=0).fit_transform(known)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors * (lengths > NOTHING) / np.maximum(lengths, NOTHING)).astype(np.float32)

    def amounts(self) -> Features:
        """How much is known of each film and nothing of what it is: log(1 + tokens) by kind, and whether there is any."""
        counts = {kind: np.array([len(film) for film in found]) for kind, found in self.tokens.items()}
        columns = {f"content_amount_{kind}": np.log1p(count) for kind, count in counts.items()}
        columns |= {f"content_has_{kind}": count > 0 for kind, count in counts.items()}
        return Features(np.stack(list(columns.values()), axis=1).astype(np.float32), tuple(columns))


def film_content(data: MovieLens, kinds: Sequence[str]) -> Content:
    """Read these kinds of content of the films of `encode(data)`, in the order of their codes.

    A kind that the data lacks, or that no source has, is left out, logged and named in `missing`.

    Raises:
        StudyError: a kind is not known, or all are missing.
    """
    refuse_unknown("kinds", list(kinds), KINDS)
    item_ids = pd.Index(np.unique(data.ratings["item_id"].to_numpy()))
    tokens: dict[str, list[list[str]]] = {}
    missing: dict[str, str] = {}
    for kind in kinds:
        try:
            found = KINDS[kind](data, item_ids).reindex(item_ids)
            tokens[kind] = [film if isinstance(film, list) else [] for film in found]
        except StudyError as error:
            missing[kind] = str(error)
            log.warning("Films have no %s: %s", kind, error)
    if not tokens:
        raise StudyError(f"{data.name} has no content of films ({'; '.join(missing.values())})")
    return Content(tokens, missing)


def with_content(rows: Interactions, data: MovieLens, kinds: Sequence[str], dim: int) -> Interactions:
    """Return the rows of `encode(data)` with columns such as `content_graph_0` of (I, D) vectors added to the item attributes.

    They are named by the kinds that were found: other content is other columns, so that a run on it is another run.
    """
    content = film_content(data, kinds)
    vectors, name = content.vectors(dim), "_".join(content.tokens)
    return with_columns(rows, Features(vectors, tuple(f"content_{name}_{place}" for place in range(vectors.shape[1]))))


def with_columns(rows: Interactions, added: Features) -> Interactions:
    """Return the rows with these columns added to the item attributes."""
    own = rows.item_features or Features(np.zeros((rows.n_items, 0), np.float32), ())
    return replace(rows, item_features=Features(np.hstack([own.values, added.values]), own.columns + added.columns))


def title_words(titles: pd.Series, n_words: int) -> pd.DataFrame:
    """One 0/1 column for each of the most frequent words and numbers of titles; ties in alphabetical order."""
    words = titles.fillna("").str.lower().str.findall(r"\w+").str.join("|")
    flags = words.str.get_dummies(sep="|").drop(columns="", errors="ignore").sort_index(axis=1)
    return flags[flags.sum().sort_values(ascending=False, kind="stable").index[:n_words]]


def with_title_words(rows: Interactions, data: MovieLens, n_words: int) -> Interactions:
    """Return the rows with columns `title_*` added to the item attributes, for models that read the words themselves.

    The catalogue is that of `encode(data)`. Raises StudyError for data without a movie table.
    """
    titles = _movies(data)["title"].reindex(np.unique(data.ratings["item_id"]))
    flags = title_words(titles, n_words)
    return with_columns(rows, Features(flags.to_numpy(np.float32), tuple(f"title_{word}" for word in flags.columns)))


def _movies(data: MovieLens) -> pd.DataFrame:
    if data.movies is None:
        raise StudyError(f"{data.name} has no movie table; choose a data set with one.")
    return data.movies.set_index("item_id", drop=False)


def _words(texts: pd.Series) -> pd.Series:
    """Lists of the words and numbers of texts, in small letters, without the most common words of English."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    found = texts.fillna("").str.lower().map(lambda text: re.findall(r"[^\W_]{2,}", text))
    return found.map(lambda words: [word for word in words if word not in ENGLISH_STOP_WORDS])


def _title(data: MovieLens, item_ids: pd.Index) -> pd.Series:
    return _words(_movies(data)["title"].str.replace(r"\([0-9][^)]*\)", "", regex=True))


def _genres(data: MovieLens, item_ids: pd.Index) -> pd.Series:
    genres = _movies(data)["genres"].fillna("").str.split("|")
    return genres.map(lambda names: [name for name in names if name not in ("", "unknown")])


def _year(data: MovieLens, item_ids: pd.Index) -> pd.Series:
    return _movies(data)["year"].dropna().map(lambda year: [str(year), f"{year // 10 * 10}s"])


def _graph(data: MovieLens, item_ids: pd.Index) -> pd.Series:
    facts = films.film_triples(films.graph_ids(data.name, item_ids))
    return (facts["relation"] + ":" + facts["entity"]).groupby(facts["item_id"]).agg(list)


def _tags(data: MovieLens, item_ids: pd.Index) -> pd.Series:
    if data.tags is None:
        raise StudyError(f"{data.name} has no tags; choose a data set with some.")
    tags = data.tags["tag"].fillna("").str.strip().str.lower()
    return tags[tags != ""].groupby(data.tags["item_id"]).agg(list)


def _whole_text(data: MovieLens, item_ids: pd.Index) -> pd.Series:
    return _words(films.paragraphs(_movies(data)).set_index("item_id")["extract"])


def _text(data: MovieLens, item_ids: pd.Index) -> pd.Series:
    extracts = films.paragraphs(_movies(data)).set_index("item_id")["extract"]
    return _words(extracts.map(films.without_hindsight))


KINDS: dict[str, Read] = {"title": _title, "genres": _genres, "year": _year, "graph": _graph, "tags": _tags}
KINDS |= {"text": _text, "whole_text": _whole_text}
