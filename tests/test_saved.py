"""A model saved with its vocabulary answers as before, for one user and for all, and what does not belong together is refused."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from boards import NEW_USER, board_of, fitted
from helpers import Table, random_interactions
from test_menu import NEW, data, typed
from test_storage import files_of_at_most
from torch import Tensor

from recsys_core import __main__
from recsys_core.app import kept, menu, saved
from recsys_core.app.batch import recommend_all
from recsys_core.app.people import person_features
from recsys_core.app.recommend import recommend, recommend_new
from recsys_core.app.saved import MODEL, VOCABULARY, SavedModel, save_model
from recsys_core.datasets import MovieLens, load
from recsys_core.errors import StudyError
from recsys_core.features import encode
from recsys_core.interactions import Interactions, Vocabulary
from recsys_core.models import MODELS, Recommender
from recsys_core.models.base import FitTask
from recsys_core.models.baselines import Bias, Popularity
from recsys_core.models.linear import EASE
from recsys_core.models.segments import DemographicPopularity
from recsys_core.models.traits import Traits


@pytest.fixture(autouse=True)
def invented(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr(menu, "load", lambda name: data())
    monkeypatch.setattr(kept, "FOLDER", tmp_path_factory.mktemp("cache") / "models")


def data_of(rows: Interactions) -> MovieLens:
    """Rows as a data set whose users are called u00, u01 … and whose items have the numbers from 1000 on."""
    users = np.array([f"u{code:02}" for code in range(rows.n_users)], dtype=object)
    ratings = pd.DataFrame({"user_id": users[rows.users], "item_id": rows.items + 1000})
    ratings = ratings.assign(rating=rows.ratings.astype(float), timestamp=rows.times)
    return MovieLens("board", ratings, None, None, None, (1.0, 5.0), True, None, "nowhere", "ab" * 32)


def vocabulary_of(rows: Interactions) -> Vocabulary:
    users = np.array([f"u{code:02}" for code in range(rows.n_users)], dtype=object)
    return Vocabulary(users, np.arange(rows.n_items) + 1000)


def written(folder: Path, model: Recommender | None = None, of: MovieLens | None = None) -> Path:
    """A saved model, of the invented data unless said."""
    made = data() if of is None else of
    rows, vocabulary = encode(made)
    save_model(folder, model or EASE().fit(rows), made, vocabulary)
    return folder


def by_user(lists: pd.DataFrame) -> dict[object, pd.DataFrame]:
    return {user: part.drop(columns="user_id").reset_index(drop=True) for user, part in lists.groupby("user_id")}


@pytest.mark.parametrize("name", MODELS)
def test_every_model_answers_as_before_it_was_saved_for_one_user_and_for_all(name: str, tmp_path: Path) -> None:
    model, rows = fitted(name), board_of(name)
    save_model(tmp_path / "model", model, data_of(rows), vocabulary_of(rows))
    again = SavedModel.open(tmp_path / "model")
    assert type(again.model) is MODELS[name]
    lists = again.recommend_all(k=5)
    assert lists.columns.tolist() == ["user_id", "rank", "item_id", "score"]
    everybody = by_user(lists)
    assert len(everybody) == rows.n_users and lists["user_id"].is_monotonic_increasing
    for code in (0, 7, NEW_USER):  # the last has no training rows
        user, n_left = f"u{code:02}", rows.n_items - int(rows.user_counts[code])
        before = recommend(model, data_of(rows), vocabulary_of(rows), user, 5)
        one, mine = again.recommend(user, k=5), everybody[user]
        pd.testing.assert_frame_equal(one, before)
        assert mine["rank"].tolist() == one.index.tolist() == list(range(1, min(5, n_left) + 1))
        digits = 2 if model.traits.predicts_ratings else 4
        assert np.allclose(mine["score"], one["stars" if digits == 2 else "score"], rtol=1e-4, atol=0.6 * 0.1**digits)
        told = model.told_of(np.array([code]), rows, None)
        scores = model.score(torch.tensor([code]), *told)[0].numpy()  # a batch of many is a batch of one to 1e-5
        assert np.allclose(scores[mine["item_id"] - 1000], scores[one["item_id"] - 1000], rtol=1e-4, atol=1e-5)


@dataclass(kw_only=True)
class Given(Table):
    """Scores that are given and not clipped, and no ratings."""

    traits: ClassVar[Traits] = Traits(form="counts")


def test_lists_of_all_users_are_the_sorted_scores_of_what_is_left_and_ties_go_to_the_lower_id() -> None:
    rows = random_interactions(3, n_users=30, n_items=12, n_rows=200)
    full = replace(rows, users=np.r_[rows.users[rows.users != 4], np.full(12, 4)])
    mine = rows.users != 4
    rows = replace(
        full,
        items=np.r_[rows.items[mine], np.arange(12)],
        ratings=np.r_[rows.ratings[mine], np.ones(12, np.float32)],
        times=np.r_[rows.times[mine], np.arange(12)],
    )
    table = np.random.default_rng(0).integers(0, 4, (30, 12)).astype(np.float32)  # many ties
    model = Given(table=table).fit(rows)
    lists = recommend_all(model, data_of(rows), vocabulary_of(rows), rows, k=6, users_at_once=7)
    expected = []
    for user in range(30):
        seen = set(rows.items[rows.users == user].tolist())
        left = sorted((-float(table[user, item]), item) for item in range(12) if item not in seen)
        expected += [(f"u{user:02}", rank, item + 1000, -score) for rank, (score, item) in enumerate(left[:6], start=1)]
    assert list(lists.itertuples(index=False, name=None)) == expected
    assert "u04" not in set(lists["user_id"]) and lists["user_id"].value_counts().min() < 6


@pytest.mark.parametrize("users_at_once", [1, 3, 1000])
def test_how_many_users_are_answered_at_once_changes_no_list(users_at_once: int) -> None:
    rows, vocabulary = encode(data())
    model = Bias().fit(rows)
    usual = recommend_all(model, data(), vocabulary, rows, 4)
    assert recommend_all(model, data(), vocabulary, rows, 4, users_at_once=users_at_once).equals(usual)


def test_lists_of_some_users_come_in_the_order_in_which_they_are_asked_for(tmp_path: Path) -> None:
    rows, vocabulary = encode(data())
    model = EASE().fit(rows.take(rows.users != 2))  # nobody has trained on user 3
    save_model(tmp_path, model, data(), vocabulary)
    again = SavedModel.open(tmp_path)
    lists = again.recommend_all(k=2, users=[9, 3, 1])
    assert lists["user_id"].tolist() == [9, 9, 3, 3, 1, 1] and lists["rank"].tolist() == [1, 2] * 3
    popular = model.train_.item_counts.argsort(kind="stable")[::-1]
    assert set(lists.loc[lists["user_id"] == 3, "score"]) == set(model.train_.item_counts[popular[:2]])
    assert (
        again.recommend_all(users=[]).columns.tolist() == lists.columns.tolist() and again.recommend_all(users=[]).empty
    )
    with pytest.raises(StudyError, match="Unknown user id 99"):
        again.recommend_all(users=[1, 99])
    with pytest.raises(StudyError, match="k=31: a list can hold 1 to 30 items"):
        again.recommend_all(k=31)
    with pytest.raises(StudyError, match="users_at_once=0: it must be at least 1"):
        again.recommend_all(users_at_once=0)


@dataclass(kw_only=True)
class Product(Recommender):
    """Random vectors, as a large model's: what is measured is everything but the model."""

    traits: ClassVar[Traits] = Traits(form="bilinear", uses_ids=True)

    def _fit(self, task: FitTask) -> None:
        generator = torch.Generator().manual_seed(0)
        self.users_ = torch.randn(task.train.n_users, 16, generator=generator)
        self.items_ = torch.randn(task.train.n_items, 16, generator=generator)

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return self.users_[users] @ self.items_.T


def test_twenty_thousand_users_have_their_lists_within_seconds() -> None:
    generator = np.random.default_rng(0)
    pairs = np.unique(generator.integers(0, 20_000 * 2_000, 1_000_000))
    users, items = np.divmod(np.r_[pairs, np.arange(20_000) * 2_000], 2_000)
    _, first = np.unique(users * 2_000 + items, return_index=True)
    users, items = users[first], items[first]
    rows = Interactions(users, items, np.ones(len(users), np.float32), np.zeros_like(users), 20_000, 2_000)
    made = MovieLens("large", pd.DataFrame(), None, None, None, (1.0, 5.0), False, None, "nowhere", "ab" * 32)
    ids = np.array([f"reader {code:06}" for code in range(20_000)], dtype=object)
    model, start = Product().fit(rows), time.process_time()
    lists = recommend_all(model, made, Vocabulary(ids, np.arange(2_000)), rows)
    assert time.process_time() - start < 10
    assert len(lists) == 200_000 and lists["user_id"].nunique() == 20_000


def test_ids_are_as_they_were_numbers_or_texts(tmp_path: Path) -> None:
    numbers = SavedModel.open(written(tmp_path / "numbers"))
    assert numbers.vocabulary.user_ids.tolist() == list(range(1, 21)) and numbers.vocabulary.user_ids.dtype == np.int64
    made = data()
    texts = replace(
        made,
        ratings=made.ratings.assign(
            user_id=[f"0{user}é ☃" for user in made.ratings["user_id"]],
            item_id=[f"'{item}\u2028" for item in made.ratings["item_id"]],
        ),
        movies=None,
        users=None,
    )
    again = SavedModel.open(written(tmp_path / "texts", of=texts))
    vocabulary = encode(texts)[1]
    assert again.vocabulary.user_ids.tolist() == vocabulary.user_ids.tolist()
    assert again.vocabulary.item_ids.tolist() == vocabulary.item_ids.tolist()
    assert again.recommend("03é ☃", k=1)["item_id"].iloc[0] in set(texts.ratings["item_id"])
    with pytest.raises(StudyError, match="Unknown user id 3"):
        again.recommend(3)


def test_films_and_people_come_back_as_they_were(tmp_path: Path) -> None:
    made = data()
    assert made.movies is not None and made.users is not None
    movies = made.movies.astype({"title": object})
    movies.loc[3, ["title", "year", "genres"]] = ["七人の侍\n", pd.NA, ""]
    users = made.users.copy()
    users.loc[2, "occupation"], users.loc[5, "zip_code"] = "artist|writer", None
    made = replace(made, movies=movies.drop(index=8), users=users, unit=2.25, offset=-1.25)
    again = SavedModel.open(written(tmp_path, of=made)).data
    rows = encode(made)[0]
    back = encode(again)[0]
    assert again.movies is not None and again.users is not None
    assert again.movies.drop(index=8).to_dict("list") == made.movies[again.movies.columns].to_dict("list")
    assert again.movies.loc[8].isna().tolist() == [False, True, True, True]
    pd.testing.assert_frame_equal(again.users, users, check_dtype=False)
    assert again.ratings.to_numpy().tolist() == made.ratings.to_numpy().tolist()
    assert (again.name, again.sha256, again.rating_scale, again.unit, again.offset) == (
        "invented", "ab" * 32, (1.0, 5.0), 2.25, -1.25
    )  # fmt: skip
    for name in ("user_features", "item_features"):
        assert getattr(back, name).columns == getattr(rows, name).columns
        assert np.array_equal(getattr(back, name).values, getattr(rows, name).values)


def test_ratings_are_expected_on_the_scale_of_the_file_that_they_came_from(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    lines = [f"{u},{i},{generator.integers(1, 11)},{u + i}" for u in range(12) for i in range(20) if (u + i) % 3]
    (tmp_path / "ten.csv").write_text("user_id,item_id,rating,timestamp\n" + "\n".join(lines) + "\n7,100,10,1\n")
    made = load(tmp_path / "ten.csv")
    given = [float(line.split(",")[2]) for line in (tmp_path / "ten.csv").read_text().splitlines()[1:]]
    assert np.allclose(made.offset + made.unit * made.ratings["rating"], given)
    rows, vocabulary = encode(made)
    model = Bias().fit(rows)
    again = SavedModel.open(written(tmp_path / "model", model, made))
    one = again.recommend(5, k=4)
    codes = torch.as_tensor(vocabulary.item_codes(one["item_id"]))
    stars = model.predict(torch.full((4,), int(vocabulary.user_codes(5)[0])), codes).numpy()
    assert one["rating"].tolist() == pytest.approx(1 + (stars - 1) * 9 / 4, abs=0.006) and one["rating"].max() > 5
    assert again.recommend_all(k=4, users=[5])["score"].tolist() == pytest.approx(one["rating"].tolist(), abs=0.006)


@dataclass
class Words:
    """What a vocabulary says, to be changed and written again with a checksum that is right."""

    file: Path

    def change(self, change: Callable[[dict[str, Any]], Any]) -> None:
        said = json.loads(self.file.read_text())
        said.pop("sha256")
        change(said)
        self.file.write_text(json.dumps(said | {"sha256": saved._sha256(said)}))


def refused(path: Path) -> str:
    """The one sentence in which a saved model is refused."""
    with pytest.raises(StudyError) as error:
        SavedModel.open(path)
    said = str(error.value)
    assert "\n" not in said and said.endswith(".") and str(path) in said
    return said


def put(name: str, value: object) -> Callable[[dict[str, Any]], Any]:
    return lambda said: said.__setitem__(name, value)


def put_film(name: str, value: object) -> Callable[[dict[str, Any]], Any]:
    return lambda said: said["films"].__setitem__(name, value)


MALFORMED: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (put("format_version", 2), "has format version 2, this code reads 1"),
    (put("format_version", True), "has format version True"),
    (put("format_version", [1]), r"has format version \[1\]"),
    (put("model_sha256", "00" * 32), "was saved with another model than model.safetensors beside it"),
    (put("data", 3), "no data that can be used"),
    (put("unit", "1"), "no unit that can be used"),
    (put("unit", 0.0), "the unit 0.0"),
    (put("offset", None), "no offset"),
    (put("rating_scale", [1]), r"the scale \[1\]"),
    (put("rating_scale", [1, "5"]), "no rating_scale"),
    (put("user_ids", list(range(1, 20))), "19 user_ids for a model of 20"),
    (put("user_ids", []), "0 user_ids for a model of 20"),
    (put("user_ids", [1, *range(1, 20)]), "1 twice among its user_ids"),
    (put("user_ids", [*range(2, 21), 1]), "user_ids that are not in ascending order"),
    (put("user_ids", [*range(1, 20), "20"]), "no user_ids that can be used"),
    (put("user_ids", [*range(1, 20), 20.0]), "no user_ids that can be used"),
    (put("user_ids", [*range(1, 20), True]), "no user_ids that can be used"),
    (put("user_ids", [*range(1, 20), None]), "no user_ids that can be used"),
    (put("user_ids", [*range(1, 20), 2**63]), "user_ids that are too large"),
    (put("user_ids", "1 to 20"), "no user_ids that can be used"),
    (put("user_ids", {str(n): n for n in range(20)}), "no user_ids that can be used"),
    (put("item_ids", [["a"]] * 30), "no item_ids that can be used"),
    (put("item_ids", list("ab") * 15), "item_ids that are not in ascending order"),
    (lambda said: said.pop("item_ids"), "no item_ids that can be used"),
    (put("zip_codes", [10003]), "no zip_codes that can be used"),
    (put("zip_codes", ["00000"]), "1 zip codes, fewer than the model's users have"),
    (put("zip_codes", ["00000"] * 20), "'00000' twice among its zip_codes"),
    (put("films", []), "no films that can be used"),
    (put("films", {}), "no title of 30 films"),
    (put_film("title", ["Heat"]), "no title of 30 films"),
    (put_film("title", [1] * 30), "no title of 30 films"),
    (put_film("year", ["1990"] * 30), "no year of 30 films"),
    (put_film("genres", "Drama"), "no genres of 30 films|no films"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The two files of a saved model."""
    folder = written(tmp_path_factory.mktemp("whole"))
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path, whole: dict[str, bytes]) -> Path:
    """A saved model that may be spoilt."""
    (tmp_path / "model").mkdir()
    for name, content in whole.items():
        (tmp_path / "model" / name).write_bytes(content)
    return tmp_path / "model"


def test_a_saved_model_is_two_files_without_pickle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(file.name for file in folder.iterdir()) == [MODEL, VOCABULARY]
    json.loads((folder / VOCABULARY).read_text("ascii"))
    for name in ("Unpickler", "Pickler", "load", "loads", "dump", "dumps"):
        monkeypatch.setattr(f"pickle.{name}", lambda *_, **__: pytest.fail("pickled"))
    written(folder.parent / "other", SavedModel.open(folder).model)
    assert SavedModel.open(folder.parent / "other" / MODEL).recommend(3, k=2).index.tolist() == [1, 2]


@pytest.mark.parametrize(("change", "said"), MALFORMED)
def test_a_vocabulary_that_cannot_be_is_refused_in_one_sentence(
    change: Callable[[dict[str, Any]], Any], said: str, folder: Path
) -> None:
    Words(folder / VOCABULARY).change(change)
    with pytest.raises(StudyError, match=said):
        SavedModel.open(folder)
    refused(folder)


def test_what_the_tests_write_again_unchanged_is_the_same_saved_model(folder: Path) -> None:
    before = SavedModel.open(folder).recommend_all()
    Words(folder / VOCABULARY).change(lambda said: None)
    assert SavedModel.open(folder).recommend_all().equals(before)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"null", b"{}", b"\xff\xfe", b"[" * 100_000, b"\x80pickle"]
)
def test_a_vocabulary_of_another_program_is_refused(content: bytes, folder: Path) -> None:
    (folder / VOCABULARY).write_bytes(content)
    assert "is no vocabulary of a saved model" in refused(folder)


def test_a_changed_letter_is_told_by_the_checksum(folder: Path) -> None:
    text = (folder / VOCABULARY).read_text()
    (folder / VOCABULARY).write_text(text.replace("Film 3", "Film 4", 1))
    assert "vocabulary.json is damaged" in refused(folder)


def test_halves_of_two_saved_models_are_refused(folder: Path) -> None:
    rows = encode(data())[0]
    EASE(regularisation=3).fit(rows).save(folder / MODEL)
    assert "was saved with another model" in refused(folder)
    (folder / MODEL).write_bytes((folder / MODEL).read_bytes()[:-1])
    assert "is not a model of this study" in refused(folder)


def test_a_missing_half_and_a_place_that_is_gone_are_named(folder: Path, whole: dict[str, bytes]) -> None:
    for name in whole:
        (folder / name).unlink()
        assert f"{name} is missing" in refused(folder)
        (folder / name).write_bytes(whole[name])
    (folder / "gone").mkdir()
    assert f"{MODEL} is missing" in refused(folder / "gone")
    for gone in (folder / "not/there", folder / "x.safetensors", Path("a\0b"), folder / ("x" * 300)):
        assert "is not there: give the folder of a saved model" in refused(gone)


def test_only_a_vocabulary_that_can_be_read_again_is_written(tmp_path: Path) -> None:
    rows, vocabulary = encode(data())
    model = Popularity().fit(rows)
    wrong = [
        (replace(vocabulary, user_ids=vocabulary.user_ids[:-1]), "19 user_ids for a model of 20"),
        (replace(vocabulary, user_ids=vocabulary.user_ids + 0.5), "no user_ids that can be used"),
        (replace(vocabulary, item_ids=vocabulary.item_ids[::-1]), "item_ids that are not in ascending order"),
        (replace(vocabulary, zip_codes=vocabulary.zip_codes[:3]), "3 zip codes, fewer"),
    ]
    for vocabulary_, said in wrong:
        with pytest.raises(StudyError, match=f"The vocabulary of this model has {said}"):
            save_model(tmp_path / "new", model, data(), vocabulary_)
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_it_is_said_and_what_was_there_stays(
    folder: Path, whole: dict[str, bytes]
) -> None:
    rows, vocabulary = encode(data())
    other = EASE(regularisation=3).fit(rows)
    with files_of_at_most(66_000), pytest.raises(StudyError, match=f"cannot be saved as {folder / MODEL}"):
        save_model(folder, with_many_rows(other, 5_000), data(), vocabulary)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == whole
    with pytest.raises(StudyError, match="cannot be saved as"):
        save_model(folder / MODEL, other, data(), vocabulary)
    save_model(folder, other, data(), vocabulary)
    assert SavedModel.open(folder).model.hyperparameters["regularisation"] == 3


def with_many_rows(model: Recommender, n_rows: int) -> Recommender:
    """The model with so many training rows that its file is long."""
    rows = model.train_
    model.train_ = rows.take(np.arange(n_rows) % len(rows))
    return model


def said_by(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    """What the command prints, or its one sentence where it ends with status 1."""
    assert __main__.main(["recommend", *map(str, arguments)]) == status
    shown = capsys.readouterr()
    return shown.err.rsplit("error: ", 1)[1] if status else shown.out


def test_a_saved_model_is_used_on_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = SavedModel.open(folder)
    shown = menu.shown(again.recommend(3, k=4))
    for path in (folder, f"{folder}/", folder / MODEL):
        assert said_by(capsys, "--model", path, "--user", "3", "--k", "4") == shown + "\n"
    assert "Unknown user id 'x'" in said_by(capsys, "--model", folder, "--user", "x", status=1)
    liked = said_by(capsys, "--model", folder, "--like", "film 12", "--k", "2").splitlines()
    assert liked[:2] == ["Like Film 12:", "by EASE"] and len(liked) == 5
    why = said_by(capsys, "--model", folder, "--user", "3", "--k", "2", "--why")
    assert "people who watched Film" in why and "same title word (film)" in why
    assert "knows people by their ratings alone" in said_by(capsys, "--model", folder, *NEW, status=1)


def test_a_saved_model_of_attributes_answers_for_somebody_new(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = data()
    rows, vocabulary = encode(made)
    model = DemographicPopularity().fit(rows)
    assert rows.user_features is not None
    person = {"age": 24, "gender": "M", "occupation": "artist", "zip": "10003"}
    features = person_features(person, vocabulary, rows.user_features.columns)
    expected = menu.shown(recommend_new(model, made, vocabulary, features, 3))
    folder = written(tmp_path / "model", model)
    assert said_by(capsys, "--model", folder, *NEW, "--k", "3") == expected + "\n"


def test_the_menu_runs_on_a_saved_model(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, "2", "3", "2", "3", "5", "film 12", "2", "4")
    shown = said_by(capsys, "--model", folder)
    assert "Age: 22  Gender: F  Occupation: artist  Zip code: 00002" in shown
    assert "The test split has no rows" in shown and shown.count("rank  item_id") == 3


def test_films_that_nobody_rated_do_not_shift_what_is_known_of_the_others(folder: Path, tmp_path: Path) -> None:
    rows, _ = encode(data())
    model = EASE().fit(rows.take(rows.items != 0))
    session = menu.Session.of_saved(written(tmp_path / "fewer", model), explains=True)
    assert session._facts is not None
    genres = dict(zip(session._facts.labels["genre"], session._facts.flags["genre"].toarray().T))
    assert genres["drama" if "drama" in genres else "Drama"].tolist() == [1, 0] * 15


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("by_name", [True, False])
def test_everybodys_lists_are_written_to_a_file(
    form: str, by_name: bool, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / f"lists.{form}"
    said = said_by(capsys, "--model", "ease" if by_name else folder, "--all-users", out, "--k", "3")
    lists = pd.read_parquet(out) if form == "parquet" else pd.read_csv(out)
    assert said == f"{out}: {len(lists)} rows, the lists of 19 users\n" and [out] == list(out.parent.iterdir())
    assert lists.columns.tolist() == ["user_id", "rank", "item_id", "title", "score"]
    assert lists["user_id"].dtype == lists["item_id"].dtype == "int64" and 7 not in set(lists["user_id"])
    assert len(lists) == 19 * 3 and not lists.duplicated(["user_id", "item_id"]).any()
    assert lists.merge(data().ratings, on=["user_id", "item_id"]).empty
    session = menu.Session.open("any", "ease", None, None) if by_name else menu.Session.of_saved(folder)
    one = session.for_user("5", 3)
    mine = lists[lists["user_id"] == 5]
    assert mine[["item_id", "title"]].to_numpy().tolist() == one[["item_id", "title"]].to_numpy().tolist()


def test_mistakes_are_one_sentence_before_anything_is_fitted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EASE, "fit", lambda *_: pytest.fail("fitted"))
    out, model = str(tmp_path / "out.csv"), ["--model", str(folder)]
    mistakes: list[tuple[list[str], str]] = [
        *(
            (["--model", "ease", "--all-users", out, *more], "--all-users writes the lists of everybody: leave out")
            for more in (["--user", "3"], ["--like", "Film 3"], ["--why"], NEW)
        ),
        (["--model", "ease", "--all-users", out[:-4]], "give a file that ends in .parquet or .csv"),
        (["--model", "ease", "--all-users", f"{out}.gz"], "give a file that ends in .parquet or .csv"),
        (["--model", "ease", "--all-users", "/dev/null/x.csv"], "The lists cannot be saved as /dev/null/x.csv"),
        (["--model", "ease", "--all-users", out, "--k", "31"], "--k '31' cannot be used"),
        ([*model, "--user", "3", "--dataset", "ml-100k"], "leave out --dataset, --epochs and --file"),
        ([*model, "--user", "3", "--epochs", "3"], "leave out --dataset, --epochs and --file"),
        ([*model, "--user", "3", "--file", "x"], "leave out --dataset, --epochs and --file"),
        (["--model", "gone/model", "--user", "3"], "gone/model is not there: give the folder of a saved model"),
        (["--model", "gone.safetensors", "--user", "3"], "gone.safetensors is not there"),
        (["--model", "gone", "--user", "3"], "model='gone' is not known"),
        (["--model", str(tmp_path), "--user", "3"], "model.safetensors is missing"),
    ]
    for arguments, said in mistakes:
        sentence = said_by(capsys, *arguments, status=1)
        assert said in sentence and sentence.count("\n") == 1
    assert not Path(out).exists()


def test_a_models_name_is_its_name_even_beside_a_folder_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "bias")
    assert "stars" in said_by(capsys, "--model", "bias", "--user", "3", "--k", "1")
    assert "score" in said_by(capsys, "--model", "./bias", "--user", "3", "--k", "1")
    (tmp_path / "bias").rename(tmp_path / "chosen")
    assert "score" in said_by(capsys, "--model", "chosen", "--user", "3", "--k", "1")
