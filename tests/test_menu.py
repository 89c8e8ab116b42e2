"""The command-line recommender: what a new user types, what they see, and what they are told when they are wrong."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from boards import is_neural

from pipeline.chapters.study import ROOT
from recsys_core import __main__
from recsys_core.app import kept, menu
from recsys_core.app.people import ask_person, person_features
from recsys_core.app.recommend import reasons
from recsys_core.datasets import MovieLens, load
from recsys_core.errors import StudyError
from recsys_core.features import encode
from recsys_core.models import MODELS
from recsys_core.models.baselines import Bias
from recsys_core.models.segments import DemographicPopularity
from recsys_core.models.svd import SVD

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
def invented(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr(menu, "load", lambda name: data())
    monkeypatch.setattr(kept, "FOLDER", tmp_path_factory.mktemp("cache") / "models")


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
        (["--user", "3", "--k", "31"], "--k '31' cannot be used: give a whole number from 1 to 30"),
        (["--user", "3", "--k", "0"], "--k '0' cannot be used"),
        (["--user", "3", "--k", "-1"], "--k '-1' cannot be used"),
        (["--user", "3", "--k", "1e3"], "--k '1e3' cannot be used"),
        (["--k", "3"], "--k belongs to --user or to the attributes of somebody new"),
        (["--user", "-3"], "Unknown user id '-3'"),
        (["--user", ""], "Unknown user id ''"),
        (["--user", "9" * 30], f"Unknown user id {'9' * 30}"),
        (["--user", "3", "--epochs", "3"], "Bias is not trained in epochs: leave out --epochs"),
        (["--user", "3", "--model", "svd", "--epochs", "0"], "--epochs '0' cannot be used: give a whole number from 1"),
        (["--user", "3", "--model", "svd", "--epochs", "-1"], "--epochs '-1' cannot be used"),
        (["--user", "3", "--model", "svd", "--epochs", "two"], "--epochs 'two' cannot be used"),
        (["--user", "3", "--file", "/dev/null/model"], "The model cannot be saved as /dev/null/model"),
        (["--user", "3", "--file", "m" * 300], "The model cannot be saved as"),
        (["--user", "3", "--file", "/"], "/ is not a model of this study"),
        (["--user", "3", *NEW], "not both"),
        (["--age", "24", "--zip", "10003"], "missing: --gender, --occupation"),
        (NEW, "Bias knows people by their ratings alone"),
        ([*NEW, "--why"], "--why belongs to --user, or to the menu"),
        (["--age", "0", *NEW[2:]], "Age '0' cannot be used: give a whole number from 1 to 120"),
        (["--age", "young", *NEW[2:]], "Age 'young'"),
        ([*NEW[:2], "--gender", "x", *NEW[4:]], "Gender 'x' is unknown. Allowed: F, M"),
        ([*NEW[:5], "artst", *NEW[6:]], "Did you mean artist? Allowed: artist, writer"),
        ([*NEW[:7], "123"], "Zip code '123' cannot be used: give five"),
        (["--user", "3", "--model", "bais"], "bais"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_status_1(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert __main__.main(["recommend", "--model", "bias", *arguments]) == 1
    said_first, error = capsys.readouterr().err.rsplit("error: ", 1)
    assert said in error and error.count("\n") == 1
    assert "Fitting" not in said_first or "every film" in error


def test_the_menu_asks_again_until_it_can_use_the_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, "6", "1", "old", "24", "M", "artist", "10003", "many", "2", "2", "x", "3", "1", "3", "4")
    assert __main__.main(["recommend", "--model", "demographic_popularity"]) == 0
    shown = capsys.readouterr().out
    for part in ("Entry '6' is unknown", "Age 'old'", "Number 'many' cannot be used", "Unknown user id 'x'"):
        assert part in shown
    assert "Age: 22  Gender: F  Occupation: artist  Zip code: 00002" in shown


def test_the_menu_lists_films_like_a_film_and_asks_again_for_a_title_that_it_does_not_find(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, "5", "", "Solaris", "film 12", "30", "2", "4")
    assert __main__.main(["recommend", "--model", "bias"]) == 0
    shown = capsys.readouterr().out
    assert "The title is empty" in shown and "No film has the title 'Solaris'. The closest are: Film" in shown
    assert "Number '30' cannot be used: give a whole number from 1 to 29" in shown and "Like Film 12:" in shown
    assert shown.count("rank  item_id") == 2


def test_the_menu_goes_on_where_films_have_no_titles(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = data()
    monkeypatch.setattr(menu, "load", lambda name: replace(made, movies=None))
    typed(monkeypatch, "5", "4")
    assert __main__.main(["recommend", "--model", "bias"]) == 0
    assert "invented has no film titles: choose a data set with a movie table" in capsys.readouterr().out


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
    shown = capsys.readouterr().out
    assert "Popularity ranks films and does not predict ratings, so there is no RMSE" in shown and "NDCG@10 0." in shown


def test_data_without_opinions_have_lists_and_no_rmse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = data()
    monkeypatch.setattr(menu, "load", lambda name: replace(made, ratings=made.ratings.assign(rating=1.0)))
    typed(monkeypatch, "2", "3", "4", "3", "4")
    assert __main__.main(["recommend", "--model", "svd", "--epochs", "1"]) == 0
    shown = capsys.readouterr().out
    assert "score" in shown and "stars  because" not in shown and "NDCG@10" in shown and "score()" not in shown


def test_a_model_file_is_written_once_and_read_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "bias.safetensors"
    first = menu.Session.open("any", "bias", file, None).for_user("3", 4)
    monkeypatch.setattr(Bias, "fit", lambda *_: pytest.fail("fitted again"))
    monkeypatch.setattr(kept, "take", lambda *_: pytest.fail("not read from its file"))
    assert menu.Session.open("any", "bias", file, None).for_user("3", 4).equals(first)


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


@pytest.mark.parametrize("name", MODELS)
def test_every_entry_of_the_menu_answers_for_every_model(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    attributes = ["24", "m", "Artist", "10003", "3"] if MODELS[name].traits.uses_features else []
    typed(monkeypatch, "1", *attributes, "2", "3", "4", "3", "4")
    assert __main__.main(["recommend", "--model", name, *(["--epochs", "1"] if is_neural(name) else [])]) == 0
    shown = capsys.readouterr().out
    by_ratings = "knows people by their ratings alone: choose a user of the data, or a model that uses attributes"
    kind = MODELS[name]().traits
    assert shown.count("rank  item_id") == 1 + kind.uses_features and (by_ratings in shown) != kind.uses_features
    assert ("RMSE on" in shown) == kind.predicts_ratings != ("so there is no RMSE" in shown)
    assert "score()" not in shown


def test_the_menu_says_what_it_does_before_its_first_question(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def leave(prompt: str) -> str:
        said.append(capsys.readouterr().err)
        return "4"

    monkeypatch.setattr("builtins.input", leave)
    assert __main__.main(["recommend", "--model", "bias"]) == 0
    assert said[0].splitlines()[:3] == [
        "Starting …",
        "Reading ml-100k …",
        "Fitting Bias on 236 ratings, for this time and later ones …",
    ]


def test_a_fitted_model_is_kept_for_the_next_time_and_its_lists_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    first = menu.Session.open("any", "svd", None, 1).for_user("3", 4)
    monkeypatch.setattr(SVD, "fit", lambda *_: pytest.fail("fitted again"))
    assert menu.Session.open("any", "svd", None, 1).for_user("3", 4).equals(first)


def refitted(monkeypatch: pytest.MonkeyPatch, model: str = "svd", epochs: int | None = 1) -> bool:
    """Whether the model is fitted anew, when a list is asked for."""
    before, fits = MODELS[model].fit, []
    with monkeypatch.context() as watched:
        watched.setattr(MODELS[model], "fit", lambda self, rows: (fits.append(1), before(self, rows))[1])
        menu.Session.open("any", model, None, epochs).for_user("3", 4)
    return bool(fits)


@pytest.mark.parametrize("change", ["data", "model", "epochs", "code", "damage", "rows", "folder"])
def test_a_kept_model_of_anything_else_is_fitted_anew(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refitted(monkeypatch) and not refitted(monkeypatch)
    file = next(kept.FOLDER.rglob("*.safetensors"))
    if change == "data":
        monkeypatch.setattr(menu, "load", lambda name: replace(data(seed=1), sha256="cd" * 32))
    elif change == "code":
        monkeypatch.setattr(kept, "code_sha256", lambda: "0" * 64)
    elif change == "damage":
        file.write_bytes(file.read_bytes()[:-1])
    elif change == "rows":  # of the same name
        SVD(epochs=1).fit(encode(data(seed=1))[0]).save(file)
    elif change == "folder":
        file.unlink()
        file.mkdir()
    model, epochs = ("bias", None) if change == "model" else ("svd", 2 if change == "epochs" else 1)
    assert refitted(monkeypatch, model, epochs)
    assert refitted(monkeypatch, model, epochs) == (change == "folder")


def test_what_other_code_has_kept_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    refitted(monkeypatch)
    monkeypatch.setattr(kept, "code_sha256", lambda: "0" * 64)
    refitted(monkeypatch)
    assert len(list(kept.FOLDER.rglob("*.safetensors"))) == 1


def test_where_nothing_can_be_kept_the_list_comes_all_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kept, "FOLDER", Path("/dev/null/models"))
    assert __main__.main(["recommend", "--model", "bias", "--user", "3"]) == 0
    said = capsys.readouterr()
    assert "It is not kept for later ones." in said.err and "item_id" in said.out


def test_epochs_that_a_model_file_does_not_have_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["recommend", "--model", "svd", "--user", "3", "--file", str(tmp_path / "svd")]
    assert __main__.main([*ask, "--epochs", "1"]) == __main__.main([*ask, "--epochs", "1"]) == __main__.main(ask) == 0
    assert __main__.main([*ask, "--epochs", "2"]) == 1
    assert "holds a model of 1 epochs: leave out --epochs" in capsys.readouterr().err


def titled(*titles: str | None) -> MovieLens:
    """The data with other titles of its first films; None takes a film out of the table of films."""
    made = data()
    assert made.movies is not None
    movies = made.movies.astype({"title": object})
    movies.loc[: len(titles) - 1, "title"] = list(titles)
    return replace(made, movies=movies.dropna(subset="title"))


def test_titles_of_any_characters_stand_on_their_line(monkeypatch: pytest.MonkeyPatch) -> None:
    titles = (
        "七人の侍",
        "Two\nlines",
        "\x1b[31mred",
        "<script>",
        "a | b",
        "{0} $x %s",
        "Léon 🎬",
        "\u202eright to left",
    )
    monkeypatch.setattr(menu, "load", lambda name: titled(*titles, None))
    lines = menu.shown(menu.Session.open("any", "demographic_popularity", None, None).for_user("3", 18)).splitlines()
    assert len(lines) == 19 and "\x1b" not in "".join(lines) and "nan" not in "".join(lines)
    everything = recommend_everything()
    assert {"七人の侍", "Two lines", " [31mred", "<script>", "a | b", "{0} $x %s", "Léon 🎬", "108"} <= everything


def recommend_everything() -> set[str]:
    session = menu.Session.open("any", "demographic_popularity", None, None)
    person = {"age": 24, "gender": "M", "occupation": "artist", "zip": "10003"}
    return {menu.printable(title) for title in session.for_person(person, 30)["title"]}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_that_lacks_characters_is_no_error(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(menu, "load", lambda name: titled("七人の侍", *["Léon"] * 29))
    output = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(output, encoding))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"1\n\xff\xfe\n\n2\n3\n30\n4\n"), "utf-8"))
    assert __main__.main(["recommend", "--model", "bias"]) == 0
    assert b"on" in output.getvalue()


def test_attributes_are_found_whatever_their_case(monkeypatch: pytest.MonkeyPatch) -> None:
    made = data()
    assert made.users is not None
    users = made.users.assign(occupation=["Artist|Writer", "Chef"] * 10, zip_code=["SW1A 1AA"] * 20)
    answers = {"age": " 24 ", "gender": "f", "occupation": "artist|WRITER", "zip": "SW1A 1AA"}
    person = ask_person(replace(made, users=users), lambda name, check: check(answers[name]))
    assert person == {"age": 24, "gender": "F", "occupation": "Artist|Writer", "zip": "SW1A 1AA"}
    rows, vocabulary = encode(replace(made, users=users))
    assert rows.user_features is not None
    features = person_features(person, vocabulary, rows.user_features.columns)
    assert dict(zip(features.columns, features.values[0])) == {
        "age": 24, "gender": 0, "occupation_Artist": 1, "occupation_Chef": 0, "occupation_Writer": 1, "zip": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("user", "streams", "status", "said"),
    [
        ("'--user', '3'", ">/dev/full", 1, "error: Reading or writing failed ([Errno 28]"),
        ("'--user', '3'", "| head -c 0", 0, "Starting"),
        ("'--user', '3'", ">&-", 0, "Starting"),
        ("", "<&-", 0, "Starting"),
    ],
)
def test_streams_that_are_full_closed_or_no_longer_read_are_no_traceback(
    user: str, streams: str, status: int, said: str, tmp_path: Path
) -> None:
    code = (
        "import sys; sys.path.insert(0, 'tests'); import test_menu; from pathlib import Path\n"
        "from recsys_core import __main__\nfrom recsys_core.app import kept, menu\n"
        "menu.load, kept.FOLDER = lambda name: test_menu.data(), Path(sys.argv[1])\n"
        f"sys.exit(__main__.main(['recommend', '--model', 'bias', {user}]))"
    )
    script = f'"$0" -c "$1" "$2" {streams}'
    command = ["sh", "-c", script, sys.executable, code, str(tmp_path / "kept")]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert done.returncode == status and "Traceback" not in done.stderr and said in done.stderr


def test_a_model_for_stars_is_refused_where_all_ratings_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(menu, "load", load)
    rows = [f"{user},{item},1,{user + item}" for user in range(1, 9) for item in range(user, user + 6)]
    (tmp_path / "seen.csv").write_text("user_id,item_id,rating,timestamp\n" + "\n".join(rows) + "\n")
    with pytest.raises(StudyError, match=r"one and the same rating in every row, and svd learns .* --model .*ease"):
        menu.Session.open(str(tmp_path / "seen.csv"), "svd", None, None)
    assert menu.Session.open(str(tmp_path / "seen.csv"), "ease", None, None).model.train_.n_users == 8
