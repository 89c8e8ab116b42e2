"""The command-line recommender: what a new user types, what they see, and what they are told when they are wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys_core import __main__, menu
from recsys_core.datasets import MovieLens
from recsys_core.features import encode
from recsys_core.models import Bias, DemographicPopularity
from recsys_core.recommend import reasons

NEW = ["--age", "24", "--gender", "m", "--occupation", "artist", "--zip", "10003"]


def data(seed: int = 0) -> MovieLens:
    """20 users who rated 12 of 30 films each; user 7 rated all."""
    generator = np.random.default_rng(seed)
    items = [np.arange(30) if user == 7 else generator.choice(30, 12, replace=False) for user in range(1, 21)]
    users = np.repeat(np.arange(1, 21), [len(mine) for mine in items])
    stars = generator.integers(1, 6, len(users)).astype(float)
    codes = np.concatenate(items) + 100
    ratings = pd.DataFrame({"user_id": users, "item_id": codes, "rating": stars, "timestamp": np.arange(len(users))})
    movies = pd.DataFrame({"item_id": np.arange(100, 130), "title": [f"Film {n}" for n in range(30)]})
    movies = movies.assign(year=pd.array([1990] * 30, "Int64"), genres=["Drama", "Comedy"] * 15)
    people = pd.DataFrame({"user_id": np.arange(1, 21), "age": 20 + np.arange(20), "gender": ["F", "M"] * 10})
    people = people.assign(occupation=["artist", "writer"] * 10, zip_code=[f"{n:05}" for n in range(20)])
    return MovieLens("invented", ratings, movies, people, None, (1.0, 5.0), True, None, "nowhere", "ab" * 32)


@pytest.fixture(autouse=True)
def invented(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(menu, "load", lambda name: data())


def typed(monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
    """Answer the menu's questions in order; after the last the input ends."""
    left = iter(answers)

    def answer(prompt: str) -> str:
        print(prompt)
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", answer)


def test_a_known_user_gets_films_that_they_have_not_rated(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["recommend", "--model", "bias", "--user", "3", "--k", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["rank", "item_id", "title", "stars"] and len(lines) == 6
    rated = data().ratings.query("user_id == 3")["item_id"]
    assert not {int(line.split()[1]) for line in lines[1:]} & set(rated)


def test_somebody_new_gets_films_from_their_attributes(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["recommend", "--model", "demographic_popularity", *NEW, "--k", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--user", "99"], "Unknown user id 99: the data has 20 user ids from 1 to 20"),
        (["--user", "x"], "Unknown user id 'x'"),
        (["--user", "7"], "has rated every film of the catalogue"),
        (["--user", "3", "--k", "31"], "k=31"),
        (["--user", "3", *NEW], "not both"),
        (["--age", "24", "--zip", "10003"], "missing: --gender, --occupation"),
        (NEW, "Bias knows people by their ratings alone"),
        (["--age", "0", *NEW[2:]], "Age '0' cannot be used: give a whole number from 1 to 120"),
        (["--age", "young", *NEW[2:]], "Age 'young'"),
        ([*NEW[:2], "--gender", "x", *NEW[4:]], "Gender 'X' is unknown. Allowed: F, M"),
        ([*NEW[:5], "artst", *NEW[6:]], "Did you mean artist? Allowed: artist, writer"),
        ([*NEW[:7], "123"], "Zip code '123' cannot be used: give five"),
        (["--user", "3", "--model", "bais"], "bais"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_status_1(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main(["recommend", "--model", "bias", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and said in error and error.count("\n") == 1


def test_the_menu_asks_again_until_it_can_use_the_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, "5", "1", "old", "24", "M", "artist", "10003", "many", "2", "2", "x", "3", "1", "3", "4")
    assert __main__.main(["recommend", "--model", "demographic_popularity"]) == 0
    shown = capsys.readouterr().out
    for part in ("Entry '5' is unknown", "Age 'old'", "Number 'many' cannot be used", "Unknown user id 'x'"):
        assert part in shown
    assert "Age: 22  Gender: F  Occupation: artist  Zip code: 00002" in shown


def test_the_menu_tells_the_error_on_seen_and_on_unseen_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, "3", "4")
    __main__.main(["recommend", "--model", "bias"])
    shown = capsys.readouterr().out
    assert "rows it was fitted on: " in shown and "rows it has not seen: " in shown


def test_the_end_of_input_leaves_the_menu_cleanly(monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "1", "24")
    assert __main__.main(["recommend", "--model", "demographic_popularity"]) == 0


def test_a_model_that_only_ranks_has_no_rmse_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, "3", "4")
    assert __main__.main(["recommend", "--model", "popularity"]) == 0
    assert "does not predict ratings" in capsys.readouterr().out


def test_a_model_file_is_written_once_and_read_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "bias.safetensors"
    first = menu.Session.open("any", "bias", file, None)
    monkeypatch.setattr(Bias, "fit", lambda *_: pytest.fail("fitted again"))
    assert menu.Session.open("any", "bias", file, None).for_user("3", 4).equals(first.for_user("3", 4))


def test_a_model_file_of_other_data_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "bias.safetensors")
    assert __main__.main(["recommend", "--model", "bias", "--user", "3", "--file", file]) == 0
    monkeypatch.setattr(menu, "load", lambda name: data(seed=1))
    assert __main__.main(["recommend", "--model", "bias", "--user", "3", "--file", file]) == 1
    assert "holds a model of other data" in capsys.readouterr().err


def test_the_reason_is_the_liked_film_with_the_most_similar_audience() -> None:
    rows, _ = encode(data())
    liked = np.unique(rows.items[(rows.users == 2) & (rows.ratings >= 4)])
    seen = rows.binary.toarray()
    found = reasons(rows, 2, np.array([5, 9]))
    for item, reason in zip((5, 9), found):
        cosines = [seen[:, item] @ seen[:, other] / np.linalg.norm(seen[:, other]) for other in liked]
        assert reason in liked and np.isclose(cosines[list(liked).index(reason)], max(cosines))


def test_demographic_models_give_no_reason_from_ratings() -> None:
    session = menu.Session.open("any", "demographic_popularity", None, None)
    assert isinstance(session.model, DemographicPopularity) and "because" not in session.for_user("3", 3)
