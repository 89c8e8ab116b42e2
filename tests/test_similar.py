"""More like this: titles as people type them, and films by a model's vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from recsys_core import __main__
from recsys_core.app import kept, menu
from recsys_core.app.similar import find_film, more_like_this
from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.features import encode
from recsys_core.models import MODELS
from recsys_core.models.registry import names_with

TITLES = [
    "Toy Story (1995)",
    "Godfather, The (1972)",
    "Sabrina (1954)",
    "Sabrina (1995)",
    "Dr. Strangelove or: How (1963)",
]
TITLES += ["Godfather: Part II, The (1974)", "Alien (1979)", "Aliens (1986)", "Amélie (2001)", "Nameless"]
GENRES = ["Animation|Comedy", "Crime", "Comedy", "Comedy", "War", "Crime|Drama", "Horror", "Horror|War", "Comedy", ""]


def data() -> MovieLens:
    """Six users who rated all ten films."""
    users, items = np.divmod(np.arange(60), 10)
    stars = 1.0 + (users * 3 + items) % 5
    ratings = pd.DataFrame({"user_id": users, "item_id": items + 1, "rating": stars, "timestamp": np.arange(60)})
    movies = pd.DataFrame({"item_id": np.arange(10) + 1, "title": TITLES, "genres": GENRES})
    movies["year"] = pd.array([1990] * 10, "Int64")
    return MovieLens("invented", ratings, movies, None, None, (1.0, 5.0), True, None, "nowhere", "ab" * 32)


def found(title: str) -> str:
    films = data()
    return TITLES[find_film(films, encode(films)[1], title)]


def found_among(title: str, added: str) -> str:
    """The film that is found where the catalogue has one more in the place of the last."""
    films = data()
    assert films.movies is not None
    films = replace(films, movies=films.movies.assign(title=[*TITLES[:-1], added]))
    return [*TITLES[:-1], added][find_film(films, encode(films)[1], title)]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("Toy Story", 0),
        ("toy story (1995)", 0),
        ("  TOY   STORY ", 0),
        ("Toy Stroy", 0),
        ("The Godfather", 1),
        ("godfather, the", 1),
        ("Godfather Part II", 5),
        ("Sabrina (1954)", 2),
        ("strangelove", 4),
        ("alien", 6),
        ("Aliens", 7),
        ("amélie", 8),
        ("nameless", 9),
    ],
)
def test_a_title_is_found_as_people_type_it(asked: str, meant: int) -> None:
    assert found(asked) == TITLES[meant]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("Sabrina", r"2 films have the title 'Sabrina': Sabrina \(1954\); Sabrina \(1995\). Give one with its year"),
        (
            "Sabrina (1970)",
            r"No film has the title 'Sabrina \(1970\)'. The closest are: Sabrina \(1954\); Sabrina \(1995\)",
        ),
        ("Alien Storie", "No film has the title 'Alien Storie'. The closest are: "),
        ("Toy Story (1972)", r"The closest are: Toy Story \(1995\)"),
        ("", "The title is empty: give one"),
        ("   ", "The title is empty: give one"),
        (" (1995) ", "The title is empty"),
        ("?!", "The title is empty"),
    ],
)
def test_a_title_that_means_no_one_film_is_refused_with_those_that_are_close(asked: str, said: str) -> None:
    with pytest.raises(StudyError, match=said):
        found(asked)


def test_of_films_spelt_nearly_so_the_clearly_nearest_is_meant() -> None:
    assert found("Toy Storry") == found_among("Toy Storry", "Toy Story 2 (1999)") == TITLES[0]
    with pytest.raises(StudyError, match=r"The closest are: Toy Story \(1995\); Toy Storey \(1999\)"):
        found_among("Toy Storyy", "Toy Storey (1999)")


def test_a_film_under_two_ids_is_the_one_with_more_ratings() -> None:
    films = data()
    assert films.movies is not None
    twice = replace(films, movies=films.movies.assign(title=["Alien (1979)", *TITLES[1:]]))
    fewer = replace(twice, ratings=twice.ratings[(twice.ratings["item_id"] != 1) | (twice.ratings["user_id"] < 3)])
    vocabulary = encode(twice)[1]
    assert find_film(twice, vocabulary, "Alien") == 0 and find_film(fewer, vocabulary, "Alien (1979)") == 6


def test_data_without_titles_are_refused() -> None:
    films = replace(data(), movies=None)
    with pytest.raises(StudyError, match="invented has no film titles"):
        find_film(films, encode(films)[1], "Toy Story")


@pytest.mark.parametrize("name", [name for name, kind in MODELS.items() if hasattr(kind, "item_vectors")])
def test_films_like_one_are_others_best_first_for_every_model_with_vectors_of_films(name: str) -> None:
    films = data()
    people = pd.DataFrame({"user_id": np.arange(6), "age": 20 + np.arange(6), "gender": ["F", "M"] * 3})
    films = replace(films, users=people.assign(occupation=["artist", "writer"] * 3, zip_code="00001"))
    rows, vocabulary = encode(films)
    settings: dict[str, Any] = {"epochs": 1, "device": "cpu"} if hasattr(MODELS[name], "epochs") else {}
    table = more_like_this(MODELS[name](**settings).fit(rows), films, vocabulary, "Toy Story", 9)
    others = [
        code for code in range(1, 10) if "Comedy" in GENRES[code] or name != "content_based"
    ]  # else with a genre in common
    assert sorted(table["item_id"] - 1) == others and table.index.tolist() == list(range(1, len(others) + 1))
    assert table["similarity"].is_monotonic_decreasing
    assert table["title"].tolist() == [TITLES[item - 1] for item in table["item_id"]]


def test_models_without_vectors_of_films_and_lists_that_are_too_long_are_refused() -> None:
    films = data()
    rows, vocabulary = encode(films)
    with pytest.raises(StudyError, match=r"Popularity does not compare films: choose .* one of .*content_based"):
        more_like_this(MODELS["popularity"]().fit(rows), films, vocabulary, "Toy Story")
    with pytest.raises(StudyError, match="k=10: there are 1 to 9 other films"):
        more_like_this(MODELS["content_based"]().fit(rows), films, vocabulary, "Toy Story")


@pytest.fixture
def invented(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr(menu, "load", lambda name: data())
    monkeypatch.setattr(kept, "FOLDER", tmp_path_factory.mktemp("cache") / "models")


@pytest.mark.usefixtures("invented")
def test_the_command_says_which_film_it_understood(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["recommend", "--like", "toy stroy", "--k", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Like Toy Story (1995):", "by what the films are"] and lines[6] == "by who watched them"
    assert lines[2].split() == lines[7].split() == ["rank", "item_id", "title", "similarity"]
    assert len(lines) == 11 and "Sabrina" in lines[3] + lines[4] + lines[5]


@pytest.mark.usefixtures("invented")
def test_a_model_that_is_named_lists_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["recommend", "--like", "Toy Story", "--k", "3", "--model", "ease"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["Like Toy Story (1995):", "by EASE"] and len(lines) == 6


@pytest.mark.usefixtures("invented")
def test_a_film_without_content_is_known_by_who_watched_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["recommend", "--like", "nameless", "--k", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "Like Nameless:",
        "by what the films are",
        "Nameless is a film without content: no other is like it.",
    ]
    assert lines[3] == "by who watched them" and len(lines) == 7
    assert __main__.main(["recommend", "--like", "nameless", "--model", "content_based"]) == 1
    assert "Nameless is a film without content" in capsys.readouterr().err


@pytest.mark.parametrize("name", names_with(adds_up=True))
def test_by_a_linear_model_films_like_one_are_what_who_watched_it_alone_is_shown(name: str) -> None:
    films = data()
    films = replace(films, ratings=films.ratings[films.ratings["user_id"] > films.ratings["item_id"] % 5])
    rows, vocabulary = encode(films)
    model = MODELS[name]().fit(rows)
    alone = rows.take(np.zeros(1, int))
    scores = model.score(torch.tensor([alone.users[0]]), alone)[0].numpy()
    scores[alone.items[0]] = 0  # a film that was watched is not shown
    table = more_like_this(model, films, vocabulary, TITLES[alone.items[0]], 9)
    assert table["similarity"].tolist() == pytest.approx(np.sort(scores[scores > 0])[::-1], abs=1e-4)
    assert alone.items[0] + 1 not in table["item_id"].tolist()


def test_a_film_that_nobody_of_the_training_rows_watched_is_like_no_other() -> None:
    films = data()
    rows, vocabulary = encode(films)
    model = MODELS["ease"]().fit(rows.take(rows.items != 6))
    with pytest.raises(StudyError, match=r"Alien \(1979\) is watched by nobody: no other is like it"):
        more_like_this(model, films, vocabulary, "Alien", 3)


@pytest.mark.usefixtures("invented")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--like", "Solaris"], "No film has the title 'Solaris'. The closest are:"),
        (["--like", ""], "The title is empty"),
        (["--like", "  "], "The title is empty"),
        (["--like", "Alien", "--why"], "--why belongs to --user, or to the menu"),
        (["--like", "Sabrina"], "2 films have the title"),
        (["--like", "Alien", "--user", "1"], "one of them"),
        (["--like", "Alien", "--age", "3"], "one of them"),
        (["--like", "Alien", "--k", "10"], "--k '10' cannot be used: give a whole number from 1 to 9"),
        (["--like", "Alien", "--model", "bias"], "Bias does not compare films"),
        (["--like", "Alien", "--epochs", "3"], "is not trained in epochs"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_is_fitted(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main(["recommend", *arguments]) == 1
    shown = capsys.readouterr().err
    assert said in shown.rsplit("error: ", 1)[1] and "Fitting" not in shown


@pytest.mark.parametrize(
    ("model", "said"), [("bias", "Bias does not compare films"), ("beige", "model='beige' is not known")]
)
def test_a_model_that_compares_no_films_is_refused_before_the_data_are_read(
    model: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main(["recommend", "--dataset", "nowhere.csv", "--like", "Alien", "--model", model]) == 1
    shown = capsys.readouterr().err
    assert said in shown and "Reading" not in shown
