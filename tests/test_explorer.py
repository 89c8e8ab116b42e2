"""The explorer recommends as the models do, from small tables, and its page holds what it may and runs no title."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup

from recsys_core.app import command
from recsys_core.app.explorer import page
from recsys_core.app.explorer import weights as explorer_weights
from recsys_core.app.explorer.lists import Weights, reasons, recommend, similar
from recsys_core.app.explorer.page import LARGEST_BYTES, as_script, film_map, page_of, payload, write_explorer
from recsys_core.app.explorer.tables import Folded, Summed
from recsys_core.app.explorer.weights import MOST_PAIRS, learn, most_watched, strongest
from recsys_core.errors import StudyError
from recsys_core.features import encode
from recsys_core.models import EXPLORED, MODELS
from tests.explorer_data import EVIL, invented_films, payload_of, unpacked, weights_of
from tests.helpers import make_interactions

USERS = range(0, 943, 94)


@pytest.fixture(scope="module")
def data():
    return invented_films(n_users=60, n_items=40, n_each=12)


@pytest.fixture(scope="module")
def content(data):
    return payload(data)


@pytest.fixture(scope="module")
def large(ml_100k_rows):
    """ML-100K's rows, coded, and the exact tables of their models."""
    rows = most_watched(ml_100k_rows)[0]
    return rows, learn(rows)


def by_hand(weights, known=None):
    """A model of given (I, I) weights."""
    table = np.asarray(weights, float)
    vectors = Folded(
        "fold", "Fold", np.eye(len(table)), np.ones(len(table)), np.eye(len(table)), np.ones(len(table) + 1)
    )
    return Weights(
        (Summed("sum", "Sum", table, np.ones(len(table))), vectors), np.asarray(known or [0] * len(table), float)
    )


def test_exact_tables_make_the_lists_of_the_models(large):
    rows, weights = large
    for place, name in enumerate(EXPLORED):
        model = MODELS[name]().fit(rows)
        for user in USERS:
            history = rows.items[rows.users == user]
            scores = model.score(torch.tensor([user]))[0].numpy().copy()
            np.testing.assert_allclose(
                weights.models[place].scores(np.sort(history)), scores, atol=2e-4 * np.abs(scores).max()
            )
            scores[history] = -np.inf
            expected = np.argsort(-scores, kind="stable")[:10]
            assert recommend(weights, history)[place].tolist() == expected.tolist()


def test_of_ten_films_nine_stay_on_the_list_when_weights_are_rounded_to_int8(large):
    rows, weights = large
    small = weights.quantised()
    for user in USERS:
        history = rows.items[rows.users == user]
        for exact, rounded in zip(recommend(weights, history), recommend(small, history)):
            assert len(set(exact) & set(rounded)) >= 9


def test_rounding_moves_no_weight_by_more_than_half_a_step(large):
    _, weights = large
    for exact, rounded in zip(weights.models, weights.quantised().models):
        assert rounded.values.dtype == np.int8
        for item in (0, 500, 1681):
            one, other = (
                model.vectors[item] if isinstance(model, Folded) else model.row(item) for model in (exact, rounded)
            )
            assert 0 < np.abs(one - other).max() <= np.abs(one).max() / 127 * 0.5001


def test_a_history_is_folded_in_as_linear_algebra_says_and_its_films_add_up_to_the_score():
    generator = np.random.default_rng(0)
    vectors, everywhere, ridge = generator.normal(size=(9, 4)), np.diag([1.0, 2, 3, 4]), np.arange(1.0, 11)
    model = Folded("fold", "Fold", vectors, np.ones(9), everywhere, ridge)
    history, q = np.array([1, 4, 6]), vectors[[1, 4, 6]]
    inverse = np.linalg.inv(everywhere + q.T @ q + ridge[3] * np.eye(4))
    np.testing.assert_allclose(model.scores(history), vectors @ inverse @ q.sum(axis=0))
    np.testing.assert_allclose(model.parts(history, np.array([0, 8])), q @ inverse @ vectors[[0, 8]].T)
    cosines = vectors @ vectors[2] / np.linalg.norm(vectors, axis=1) / np.linalg.norm(vectors[2])
    np.testing.assert_allclose(model.likeness(2), cosines)


def test_a_sum_of_stored_weights_is_the_sum_of_all():
    dense = np.random.default_rng(1).normal(size=(7, 7)) * (np.random.default_rng(2).random((7, 7)) < 0.4)
    stored = strongest(dense, 7)
    whole = Summed("a", "A", dense, np.ones(7))
    some = Summed("a", "A", stored.data, np.ones(7), stored.indptr, stored.indices)
    history = np.array([0, 3, 5])
    np.testing.assert_array_equal(whole.scores(history), some.scores(history))
    np.testing.assert_array_equal(whole.quantised().scores(history), some.quantised().scores(history))
    np.testing.assert_allclose(whole.parts(history, np.arange(7)).sum(axis=0), dense[history].sum(axis=0))


def test_ties_go_to_the_lower_id_and_no_film_of_the_history_or_seen_is_listed():
    weights = by_hand([[9, 1, 2, 2, 2], *[[0] * 5] * 4])
    assert recommend(weights, [0], k=3)[0].tolist() == [2, 3, 4]
    assert recommend(weights, [0], k=9, seen=[3])[0].tolist() == [2, 4, 1]


def test_the_order_in_which_films_were_rated_changes_nothing(large):
    weights = large[1].quantised()
    forth, back = (recommend(weights, order) for order in ([5, 9, 700, 41], [41, 700, 9, 5]))
    assert [each.tolist() for each in forth] == [each.tolist() for each in back]


def test_the_slider_of_popularity_takes_what_it_says_from_each_score():
    weights = by_hand([[0, 10, 8, 5], *[[0] * 4] * 3], known=[1, 1, 0.5, 0])
    assert recommend(weights, [0], popularity=0.2)[0].tolist() == [1, 2, 3]  # 0.8 0.7 0.5
    assert recommend(weights, [0], popularity=0.6)[0].tolist() == [2, 3, 1]  # 0.4 0.5 0.5
    assert recommend(weights, [0], popularity=-1)[0].tolist() == [1, 2, 3]


def test_the_slider_of_diversity_prefers_a_film_that_is_unlike_those_before_it():
    sums = Summed("sum", "Sum", np.array([[0, 10, 9, 8.0], *[[0] * 4] * 3]), np.ones(4))
    vectors = np.array([[1.0, 1], [1, 0], [1, 0.0], [0, 1]])  # the second is the first again
    weights = Weights((sums, Folded("f", "F", vectors, np.ones(4), np.eye(2), np.ones(5))), np.zeros(4))
    assert recommend(weights, [0])[0].tolist() == [1, 2, 3]
    assert recommend(weights, [0], diversity=0.5)[0].tolist() == [1, 3, 2]


def test_sliders_move_lists_of_real_models_where_they_say(large):
    weights, history = large[1].quantised(), [0, 49, 68, 171, 180]

    def alike(films):
        return np.mean([weights.vectors.likeness(int(film))[films].mean() for film in films])

    for plain, rare, varied in zip(
        recommend(weights, history),
        recommend(weights, history, popularity=1),
        recommend(weights, history, diversity=0.7),
    ):
        assert weights.known[rare].mean() < weights.known[plain].mean()
        assert alike(varied) < alike(plain) and varied[0] == plain[0]


def test_the_reason_for_a_film_is_the_one_of_the_history_that_adds_most():
    weights = by_hand([[0, 0, 3, 1], [0, 0, 2, 4], [0] * 4, [0] * 4])
    films, parts = reasons(weights.models[0], [1, 0], np.array([2, 3]))
    assert films.tolist() == [0, 1] and parts.tolist() == [3, 4]


def test_films_like_a_film_are_others_with_something_in_common():
    assert similar(by_hand([[5, 0, 2, -1, 3], *[[0] * 5] * 4]).models[0], 0).tolist() == [4, 2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"history": []}, "history is empty"),
        ({"popularity": 1.5}, "popularity=1.5"),
        ({"diversity": -0.1}, "diversity=-0.1"),
    ],
)
def test_what_no_list_can_be_made_of_is_refused(settings, message):
    with pytest.raises(StudyError, match=message):
        recommend(by_hand(np.eye(3)), **({"history": [0]} | settings))


def test_the_strongest_weights_are_those_furthest_from_0_ties_by_column():
    kept = strongest(np.array([[1.0, -3, 2, 2, 0], [0, 0, 0, 0, 4]]), 2).toarray()
    assert kept.tolist() == [[0, -3, 2, 0, 0], [0, 0, 0, 0, 4]]


def test_of_a_large_catalogue_the_films_with_the_most_ratings_remain():
    rows = make_interactions([(0, 0), (0, 2), (1, 2), (1, 3), (2, 3), (2, 1)], 3, 4)
    kept, codes = most_watched(rows, 3)
    assert codes.tolist() == [0, 2, 3] and kept.n_items == 3
    assert sorted(zip(kept.users, kept.items)) == [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]


def test_a_page_of_4000_films_is_under_8_mb_and_keeps_the_strongest_neighbours_of_each(tmp_path):
    data = invented_films(n_users=400, n_items=4000, n_each=40)
    data.ratings.loc[:3999, "item_id"] = np.arange(1, 4001)  # each film by somebody
    data = replace(data, ratings=data.ratings.drop_duplicates(["user_id", "item_id"], ignore_index=True))
    write_explorer(data, tmp_path / "explorer.html")
    assert (tmp_path / "explorer.html").stat().st_size < LARGEST_BYTES
    weights = weights_of(payload_of((tmp_path / "explorer.html").read_text(encoding="utf-8")))
    n_neighbours = MOST_PAIRS // 4000
    assert len(weights.known) == 4000 and set(np.diff(weights.models[0].starts)) == {n_neighbours}
    assert [len(films) for films in recommend(weights, [0, 5, 9, 100, 2000])] == [10, 10, 10]


def test_whole_tables_are_the_largest_that_fit():
    assert 0.75 * LARGEST_BYTES > explorer_weights.MOST_WHOLE**2 * 4 / 3 + explorer_weights.MOST_WHOLE * 64 * 4 / 3
    assert (
        0.85 * LARGEST_BYTES
        > 2 * explorer_weights.MOST_PAIRS * explorer_weights.BYTES_OF_A_PAIR * 4 / 3
        + explorer_weights.MOST_FILMS * 64 * 4 / 3
    )


def test_no_title_ends_the_script_element_or_begins_one(data, content):
    text = page_of(content)
    scripts = BeautifulSoup(text, "html.parser").find_all("script")
    assert [script.get("type") for script in scripts] == ["application/json", None]
    assert json.loads(scripts[0].text)["films"]["titles"][0] == EVIL
    assert "<" not in as_script(content) and EVIL not in text
    assert not BeautifulSoup(text, "html.parser").find_all("img")


def test_the_script_writes_data_as_text_alone(content):
    script = BeautifulSoup(page_of(content), "html.parser").find_all("script")[1].text
    assert "textContent" in script
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "fetch(",
        "http",
    ):
        assert way not in script


def test_the_page_holds_the_rounded_weights_of_its_models(data, content):
    weights = weights_of(content)
    expected = learn(most_watched(encode(data)[0])[0]).quantised()
    for mine, theirs in zip(weights.models, expected.models):
        assert (mine.name, mine.title) == (theirs.name, theirs.title)
        np.testing.assert_array_equal(mine.scores(np.array([1, 5, 9])), theirs.scores(np.array([1, 5, 9])))


def test_of_own_data_the_page_holds_histories_in_the_order_of_time(data, content):
    users = content["users"]
    mine = data.ratings[data.ratings["user_id"] == 7]
    start, end = unpacked(users["starts"])[6:8]
    assert users["ids"][6] == "7"
    assert (unpacked(users["films"])[start:end] + 1).tolist() == mine["item_id"].tolist()
    assert unpacked(users["stars"])[start:end].tolist() == mine["rating"].tolist()
    assert "Histories of people" in content["sources"][0]


def test_histories_are_those_of_the_first_users_until_there_are_enough(data, monkeypatch):
    monkeypatch.setattr(page, "MOST_RATINGS_SHOWN", 30)
    users = payload(data)["users"]
    assert users["ids"] == ["1", "2"] and unpacked(users["starts"]).tolist() == [0, 12, 24]
    assert len(unpacked(users["films"])) == 24


def test_of_a_published_release_the_page_holds_no_history(data):
    released = payload(replace(data, name="sasrec-ml-1m"))
    assert released["users"] is None and "GroupLens does not allow" in released["sources"][0]


def test_facts_are_those_that_two_films_share(content):
    found = {kind["kind"]: kind for kind in content["facts"]}
    assert found["genre"]["labels"] == ["Action", "Comedy", "Drama"]
    assert unpacked(found["genre"]["starts"])[:4].tolist() == [0, 2, 3, 5]
    assert unpacked(found["genre"]["codes"])[:5].tolist() == [0, 2, 1, 0, 2]
    assert "window" not in found["title word"]["labels"]


def test_films_without_a_table_are_called_by_their_ids(data):
    bare = payload(replace(data, movies=None))
    assert bare["films"]["titles"][:2] == ["1", "2"] and bare["facts"] == []


def test_a_single_film_is_refused(data):
    one = replace(data, ratings=data.ratings[data.ratings["item_id"] == 1].reset_index(drop=True))
    with pytest.raises(StudyError, match="nothing can be recommended"):
        payload(one)


def test_films_with_audiences_alike_stand_near_each_other_on_the_map():
    generator = np.random.default_rng(0)
    side = np.repeat([0, 1], 80)
    x, y = film_map(np.eye(2)[side] + generator.normal(scale=0.05, size=(160, 2)))
    centres = np.array([[x[side == each].mean(), y[side == each].mean()] for each in (0, 1)])
    places = np.stack([x, y], axis=1).astype(float)
    nearest = np.linalg.norm(places[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == side).mean() > 0.95 and x.max() == 65535 and x.min() == 0


def test_the_command_writes_a_page_of_own_ratings(data, tmp_path, capsys):
    data.ratings.to_csv(tmp_path / "mine.csv", index=False)
    assert command.run(["explorer", "--dataset", str(tmp_path / "mine.csv"), "--out", str(tmp_path / "page.html")]) == 0
    assert "page.html" in capsys.readouterr().out
    content = payload_of((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert content["name"] == "mine" and len(content["users"]["ids"]) == 60


def test_a_place_that_cannot_be_written_is_one_sentence_before_anything_is_fitted(tmp_path, capsys):
    assert command.run(["explorer", "--dataset", "none", "--out", str(tmp_path)]) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and "it is a folder" in error[0]


def test_films_that_one_person_alone_has_seen_lie_in_one_place_of_the_map() -> None:
    across, down = page.film_map(np.ones((150, 4)))
    assert set(across) == set(down) == {0}
