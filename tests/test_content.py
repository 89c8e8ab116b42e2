from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers import invented_movielens

from recsys_core import content
from recsys_core.content import Content, film_content, with_columns, with_content
from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.features import encode
from recsys_core.releases import films


def described(tags=None):
    """The invented data with a movie table that lacks film 130, and says nothing of film 3."""
    movies = pd.DataFrame({"item_id": np.arange(1, 130)})
    movies["title"] = [f"Space Film {item % 7} (1995)" for item in movies["item_id"]]
    movies["year"] = pd.array([1990 + item % 5 for item in movies["item_id"]], dtype="Int64")
    movies["genres"] = ["Action|Drama" if item % 2 else "Comedy" for item in movies["item_id"]]
    movies = movies.astype({"title": "str", "genres": "str"})
    movies.loc[movies["item_id"] == 3, ["title", "genres"]] = ["", ""]
    movies.loc[movies["item_id"] == 3, "year"] = pd.NA
    return replace(invented_movielens(), movies=movies, tags=tags)


def place(data: MovieLens, item: int) -> int:
    return encode(data)[1].item_codes(item)[0]


@pytest.fixture
def no_sources(tmp_path, monkeypatch):
    monkeypatch.setattr(films.read_tables.__globals__["sources"], "DATA", tmp_path)
    monkeypatch.delenv("RECSYS_DATA", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")


def test_vectors_have_length_one_however_much_is_known():
    data = described()
    vectors = film_content(data, ["title", "genres", "year"]).vectors(8)
    lengths = np.linalg.norm(vectors, axis=1)
    known = np.delete(np.arange(len(vectors)), [place(data, 3), place(data, 130)])
    np.testing.assert_allclose(lengths[known], 1, rtol=1e-5)
    assert vectors.dtype == np.float32


def test_a_film_of_which_nothing_is_known_has_a_vector_of_zeros():
    data = described()
    vectors = film_content(data, ["title", "genres", "year"]).vectors(8)
    assert not vectors[[place(data, 3), place(data, 130)]].any()


def test_films_with_the_same_tokens_have_the_same_vector_and_films_without_a_common_one_are_orthogonal():
    data = described()
    vectors = film_content(data, ["genres"]).vectors(8)
    assert vectors.shape[1] == 3  # Action, Comedy, Drama
    alike, other = vectors[place(data, 1)], vectors[place(data, 2)]
    np.testing.assert_allclose(alike, vectors[place(data, 5)], atol=1e-6)
    assert abs(alike @ other) < 1e-6


def test_tokens_are_words_genres_year_and_decade():
    data = described()
    tokens = film_content(data, ["title", "genres", "year"]).tokens
    assert [tokens[kind][place(data, 8)] for kind in tokens] == [["space", "film"], ["Comedy"], ["1993", "1990s"]]


def test_the_same_content_has_the_same_bits():
    data = described()
    assert np.array_equal(*(film_content(data, ["title", "genres"]).vectors(4) for _ in range(2)))


def test_content_is_columns_beside_the_other_attributes():
    data = described()
    rows, _ = encode(data)
    features = with_content(rows, data, ["genres", "year"], 4).item_features
    assert features.columns == (*rows.item_features.columns, *(f"content_genres_year_{place}" for place in range(4)))
    assert np.array_equal(features.select("content_"), film_content(data, ["genres", "year"]).vectors(4))
    alone = with_columns(replace(rows, item_features=None), film_content(data, ["genres"]).amounts())
    assert alone.item_features.columns == ("content_amount_genres", "content_has_genres")


def test_ratings_are_not_looked_at():
    data = described()
    other = replace(data, ratings=data.ratings.assign(rating=1.0, user_id=1))
    assert np.array_equal(*(film_content(each, ["title"]).vectors(4) for each in (data, other)))


def test_amounts_are_how_much_is_known_and_nothing_of_what():
    data = described()
    amounts = film_content(data, ["genres", "year"]).amounts()
    assert amounts.columns == ("content_amount_genres", "content_amount_year", "content_has_genres", "content_has_year")
    np.testing.assert_allclose(amounts.values[place(data, 1)], [np.log(3), np.log(3), 1, 1], rtol=1e-6)
    assert not amounts.values[place(data, 3)].any()


def test_tags_without_text_and_of_unknown_films_say_nothing():
    rows = [(1, 1, " Space "), (2, 1, "space"), (1, 2, "space"), (1, 3, ""), (1, 4, None), (1, 999, "space")]
    tags = pd.DataFrame(rows, columns=["user_id", "item_id", "tag"]).assign(timestamp=0)
    found = film_content(described(tags), ["tags"])
    assert found.tokens["tags"][place(described(), 1)] == ["space", "space"]
    assert sum(map(len, found.tokens["tags"])) == 3
    assert (np.linalg.norm(found.vectors(5), axis=1) > 0).sum() == 2


def test_a_table_without_tags_leaves_no_content():
    tags = pd.DataFrame({"user_id": [1], "item_id": [1], "tag": [""], "timestamp": [0]})
    with pytest.raises(StudyError, match="The films share no token of tags: choose other kinds of content"):
        film_content(described(tags), ["tags"]).vectors(5)


def test_a_token_that_one_film_has_tells_of_no_other():
    with pytest.raises(StudyError, match="share no token of title"):
        Content({"title": [["alone", "alone"], ["other"]]}, {}).vectors(2)
    assert not Content({"title": [["alone"], ["both"], ["both"]]}, {}).vectors(2)[0].any()


def test_what_is_missing_is_named_logged_and_left_out(no_sources, caplog):
    found = film_content(described(), ["genres", "graph", "tags", "text"])
    assert list(found.tokens) == ["genres"]
    assert list(found.missing) == ["graph", "tags", "text"]
    assert "MovieLens's ids of films, and those of invented are others" in found.missing["graph"]
    assert found.missing["tags"] == "invented has no tags; choose a data set with some."
    assert "wikipedia-movies could not be loaded" in found.missing["text"]
    assert [record.getMessage().split(":")[0] for record in caplog.records if record.levelname == "WARNING"] == [
        "Films have no graph",
        "Films have no tags",
        "Films have no text",
    ]


def test_a_film_without_a_paragraph_or_a_place_in_the_graph_has_no_vector_of_it(monkeypatch):
    told = pd.DataFrame({"item_id": [1, 2], "extract": ["A cat sleeps. It won an award.", "One cat. It won an award."]})
    facts = pd.DataFrame({"item_id": [1, 2, 2], "relation": "genre", "entity": ["w", "w", "v"]})
    monkeypatch.setattr(films, "paragraphs", lambda movies: told)
    monkeypatch.setattr(films, "graph_ids", lambda name, item_ids: None)
    monkeypatch.setattr(films, "film_triples", lambda ids: facts)
    data = described()
    for kind, tokens in (("text", ["cat"]), ("whole_text", ["cat", "award"]), ("graph", ["genre:w"])):
        found = film_content(data, [kind])
        assert set(tokens) <= set(found.tokens[kind][place(data, 2)])
        has = found.amounts().select("content_has_")[:, 0] > 0
        assert np.flatnonzero(has).tolist() == [place(data, 1), place(data, 2)]
        np.testing.assert_allclose(np.linalg.norm(found.vectors(5), axis=1), has, atol=1e-5)
    assert "award" not in film_content(data, ["text"]).tokens["text"][place(data, 2)]


def test_a_graph_of_another_version_is_left_out_with_its_reason_and_makes_no_column_of_its_name(no_sources, tmp_path):
    folder = tmp_path / "film-graph"
    folder.mkdir()
    for file in ("ml-100k.kg", "ml-100k.link"):
        (folder / file).write_text("of another version")
    data = replace(described(), name="ml-latest-small")
    found = film_content(data, ["genres", "graph"])
    assert list(found.tokens) == ["genres"]
    assert f"{folder / 'ml-100k.kg'} is not as published, its sha256 is" in found.missing["graph"]
    assert found.missing["graph"].endswith("replace it, or remove it to have it fetched.")
    rows, _ = encode(data)
    added = with_content(rows, data, ["genres", "graph"], 4).item_features.columns[len(rows.item_features.columns) :]
    assert added == with_content(rows, data, ["genres"], 4).item_features.columns[len(rows.item_features.columns) :]


def test_data_without_films_and_unknown_kinds_are_refused():
    with pytest.raises(StudyError, match=r"invented has no content of films \(invented has no movie table"):
        film_content(invented_movielens(), ["title"])
    with pytest.raises(StudyError, match="kinds='plot' is not known"):
        film_content(described(), ["plot"])


def test_paragraphs_are_read_for_their_kinds_alone(monkeypatch):
    def never(*arguments):
        raise AssertionError

    monkeypatch.setattr(films, "paragraphs", never)
    film_content(described(), [kind for kind in content.KINDS if "text" not in kind])
