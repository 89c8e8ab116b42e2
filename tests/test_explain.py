"""What speaks for a film: parts of a score that sum to it, and facts that films share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from test_similar import data

from recsys_core import __main__
from recsys_core.app import explain, kept, menu
from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.features import encode
from recsys_core.interactions import Interactions
from recsys_core.models import MODELS
from recsys_core.models.linear import EASE
from recsys_core.models.registry import names_with
from recsys_core.releases import films, sources

TRIPLES = pd.DataFrame(
    [
        (1, "directed_by", "m.lasseter"),
        (2, "directed_by", "m.coppola"),
        (6, "directed_by", "m.coppola"),
        (2, "actor", "m.duvall"),
        (6, "actor", "m.duvall"),
        (7, "actor", "m.weaver"),
        (8, "actor", "m.weaver"),
        (7, "actor", "m.extra"),
        (8, "actor", "m.extra"),
        (1, "actor", "m.weaver"),
        (9, "country", "m.france"),
        (1, "country", "m.france"),
    ],
    columns=["item_id", "relation", "entity"],
)


@pytest.fixture(autouse=True)
def invented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A small graph, no paragraphs, and no models kept from elsewhere."""
    monkeypatch.setattr(films, "film_triples", lambda ids: TRIPLES)
    monkeypatch.setattr(films, "graph_ids", lambda name, ids: pd.Series(ids, ids))
    monkeypatch.setattr(explain, "names_at_hand", lambda made: {})
    monkeypatch.setattr(menu, "load", lambda name: some())
    monkeypatch.setattr(kept, "FOLDER", tmp_path / "models")


def some() -> MovieLens:
    """The data without a part of the ratings: user 2 has rated all but the films 4, 6 and 9."""
    made = data()
    left_out = (made.ratings["user_id"] + made.ratings["item_id"]) % 5 == made.ratings["user_id"] % 5 - 1
    return replace(
        made, ratings=made.ratings[~left_out & ~((made.ratings["user_id"] == 2) & (made.ratings["item_id"] == 6))]
    )


def rows_of(n_users: int = 40, n_items: int = 25) -> Interactions:
    pairs = np.argwhere(np.random.default_rng(0).random((n_users, n_items)) < 0.3)
    stars = np.random.default_rng(1).integers(1, 6, len(pairs)).astype(np.float32)
    return Interactions(pairs[:, 0], pairs[:, 1], stars, np.arange(len(pairs)), n_users, n_items)


def parts_and_scores(name: str, rows: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """What each film of a user's history adds, for ten users, summed; and the model's scores."""
    model = MODELS[name]().fit(rows)
    summed = [explain.alone(model, rows.items[rows.users == user]).sum(dim=0).numpy() for user in range(10)]
    return np.array(summed), model.score(torch.arange(10)).numpy()


@pytest.mark.parametrize("name", names_with(adds_up=True))
def test_what_the_films_of_a_history_add_sums_to_the_models_score(name: str) -> None:
    summed, scores = parts_and_scores(name, rows_of())
    assert summed == pytest.approx(scores, abs=1e-5) and np.abs(scores).max() > 0.01


@pytest.mark.parametrize("name", ["popularity", "implicit_user_knn", "markov_chain", "item_knn"])
def test_models_that_are_not_called_linear_are_not(name: str) -> None:
    summed, scores = parts_and_scores(name, rows_of())
    assert not np.allclose(summed, scores, atol=1e-3)


def test_contributions_name_the_films_of_the_history() -> None:
    rows = rows_of()
    model, items = EASE().fit(rows), np.array([1, 4])
    watched, added = explain.contributions(model, 3, items)
    assert set(watched) == set(rows.items[rows.users == 3]) and added.shape == (len(watched), 2)
    assert added == pytest.approx(model.weights[np.ix_(watched, items)], abs=1e-6)


def test_contributions_are_refused_where_they_do_not_exist() -> None:
    rows = rows_of()
    with pytest.raises(StudyError, match=r"The score of Popularity is not split .* one of .*ease"):
        explain.contributions(MODELS["popularity"]().fit(rows), 0, np.array([1]))
    with pytest.raises(StudyError, match="User code 0 has no training rows"):
        explain.contributions(MODELS["ease"]().fit(rows.take(rows.users > 0)), 0, np.array([1]))


def test_the_fact_that_tells_most_comes_first_and_then_the_one_with_a_name() -> None:
    facts = explain.film_facts(data(), {"m.weaver": "Sigourney Weaver"})
    assert facts.closest(5, np.array([2, 1])) == ("director", "", 1)  # an actor too
    assert facts.closest(7, np.array([0, 6])) == (
        "actor",
        "Sigourney Weaver",
        0,
    )  # the other has fewer films, and no name
    assert explain.film_facts(data()).closest(7, np.array([0, 6])) == ("actor", "", 6)
    assert facts.closest(3, np.array([1, 2])) == ("title word", "sabrina", 2)
    assert facts.closest(4, np.array([1, 7])) == ("genre", "War", 7)
    assert facts.closest(8, np.array([2])) == ("genre", "Comedy", 2)
    assert facts.closest(4, np.array([1])) == ("year", "1990", 1)
    assert "m.france" not in {label for labels in facts.labels.values() for label in labels}  # a country tells nothing


def test_shared_facts_are_those_of_any_film_of_the_history() -> None:
    facts = explain.film_facts(data())
    assert np.flatnonzero(facts.shared("director", np.array([1, 6]))).tolist() == [1, 5]
    assert np.flatnonzero(facts.shared("actor", np.array([1, 6]))).tolist() == [0, 1, 5, 6, 7]
    assert not facts.shared("actor", np.array([], int)).any()


def reasons(stars: dict[int, float], name: str = "ease", made: MovieLens | None = None) -> pd.DataFrame:
    """What speaks for the film 6, the second Godfather, in the history of user 2, who gives these stars."""
    made = some() if made is None else made
    mine = made.ratings["user_id"] == 2
    ratings = made.ratings.assign(
        rating=made.ratings["rating"].mask(mine, made.ratings["item_id"].map(stars).fillna(3.0))
    )
    made = replace(made, ratings=ratings)
    rows, vocabulary = encode(made)
    facts = None if made.movies is None else explain.film_facts(made)
    return explain.explained(MODELS[name]().fit(rows), made, vocabulary, facts, 2, np.array([5]))


def test_reasons_are_sentences_about_films_that_the_user_rated() -> None:
    told = reasons({2: 5.0}).iloc[0]
    assert told["title"] == "Godfather: Part II, The (1974)"
    reason = "same director as Godfather, The (1972), which you rated 5"
    fits = " (33% of what you have not watched shares one with a film that you liked)"  # one of the films 4, 6 and 9
    assert told["by content"] == reason + fits
    assert told["by people"].startswith("people who watched ") and "watched it too (0." in told["by people"]


def test_only_liked_films_speak_by_what_they_are() -> None:
    assert reasons({}).iloc[0]["by content"] == ""
    assert (
        reasons({2: 2.0, 8: 4.0})
        .iloc[0]["by content"]
        .startswith("same year (1990) as Aliens (1986), which you rated 4 (")
    )


def test_without_content_of_films_who_watched_them_speaks_alone() -> None:
    told = reasons({2: 5.0}, made=replace(some(), movies=None)).iloc[0]
    assert told["title"] == "6" and told["by content"] == "" and told["by people"]


def test_a_model_that_knows_nobody_has_no_reason_from_people() -> None:
    told = reasons({2: 5.0}, "popularity").iloc[0]
    assert told["by people"] == "" and told["by content"]


def test_other_models_name_the_liked_film_with_the_most_similar_audience() -> None:
    told = reasons({2: 5.0}, "ials").iloc[0]
    assert told["by people"] == "people who watched Godfather, The (1972), which you rated 5, watched it too"


def test_ratings_that_are_all_the_same_are_watched_films() -> None:
    made = some()
    rows, vocabulary = encode(replace(made, ratings=made.ratings.assign(rating=1.0)))
    model = MODELS["ease"]().fit(rows)
    told = explain.explained(model, made, vocabulary, explain.film_facts(made), 2, np.array([5])).iloc[0]
    assert told["by content"].startswith("same director as Godfather, The (1972), which you watched (")


def test_the_command_says_what_speaks_for_each_film(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["recommend", "--model", "ease", "--user", "2", "--k", "1", "--why"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "What speaks for them in the history:" and "because" not in lines[0]
    assert lines[3].split()[0] == "1" and len(lines) > 4


def test_the_command_says_so_where_nothing_speaks_for_a_film(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(menu, "load", lambda name: replace(some(), movies=None))
    assert __main__.main(["recommend", "--model", "popularity", "--user", "2", "--k", "1", "--why"]) == 0
    said = capsys.readouterr()
    assert "nothing that can be told" in said.out
    assert "invented has no movie table: nothing is known of what its films are" in said.err


def test_names_are_not_fetched_for_a_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    monkeypatch.delenv("RECSYS_DATA", raising=False)
    monkeypatch.setattr(sources, "DATA", tmp_path)
    monkeypatch.setattr(films, "paragraphs", lambda movies: pytest.fail("fetched"))
    assert explain.names_at_hand(data()) == {}
