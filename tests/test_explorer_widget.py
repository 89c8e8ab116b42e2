"""The explorer in JupyterLab: what is shown follows the controls, and titles are text."""

import time

import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from pipeline.runs.clean import WIDGET, clean
from recsys_core.app.explorer import widget as explorer_widget
from recsys_core.app.explorer.lines import Catalogue, as_html, as_reasons, as_table, codes_of, side_by_side
from recsys_core.app.explorer.lists import recommend
from recsys_core.app.explorer.widget import NOBODY, explore
from recsys_core.errors import StudyError
from recsys_core.features import encode
from recsys_core.protocols import make_split
from tests.explorer_data import EVIL, invented_films

ESCAPED = "Evil &lt;/script&gt;"


@pytest.fixture(scope="module")
def data():
    return invented_films(n_users=60, n_items=120, n_each=20)


@pytest.fixture(scope="module")
def split(data):
    return make_split("random-80-10-10", encode(data)[0])


@pytest.fixture
def explorer(data, split):
    return explore(
        data, encode(data)[1], split.refit, split.test, {EVIL: 5, "Film 2, The (1912)": 4, "Film 3, The (1913)": 2}
    )


def listed(explorer, **settings):
    """What `side_by_side` says for the explorer's ratings."""
    return as_html(side_by_side(explorer.weights, explorer.catalogue, explorer.stars, **settings))


def test_it_begins_with_the_ratings_that_are_named(explorer):
    assert explorer.stars == {0: 5, 1: 4, 2: 2}
    assert listed(explorer) in explorer.lists.value
    assert [explorer.well_known[film].value for film in (0, 1, 2)] == [5, 4, 2]


def test_without_these_films_it_begins_with_well_known_ones(data, split):
    explorer = explore(data, encode(data)[1], split.refit, split.test, {"Unheard Of (2001)": 5})
    assert set(explorer.stars) == set(explorer.by_known[:5])


def test_lists_are_those_of_the_reference_and_each_line_says_why(explorer):
    lists = side_by_side(explorer.weights, explorer.catalogue, explorer.stars)
    expected = recommend(explorer.weights, [0, 1, 2])
    assert [[line.film for line in lines] for lines in lists.values()] == [each.tolist() for each in expected]
    for line in next(iter(lists.values())):
        assert "adds 0." in line.by_people and line.by_content.startswith("same ")
        assert set(line.others) == {
            name for name, lines in list(lists.items())[1:] if line.film in [o.film for o in lines]
        }


def test_every_control_changes_what_is_shown(explorer):
    seen = [explorer.lists.value]
    for control, value in (
        (explorer.popularity, 0.7),
        (explorer.diversity, 0.8),
        (explorer.models[1], False),
        (explorer.well_known[3], 5),
        (explorer.user, "7"),
    ):
        control.value = value
        assert explorer.lists.value not in seen, control
        seen.append(explorer.lists.value)
    explorer.film.value = "Film 5, The (1915)"
    assert "More like Film 5, The (1915)" in explorer.alike.value


def test_a_film_found_by_title_is_rated_and_unrated(explorer):
    explorer.film.value = "Film 9, The (1919)"
    explorer.given.value = 4
    assert explorer.stars[8] == 4
    explorer.given.value = 0
    assert 8 not in explorer.stars


def test_half_stars_of_a_history_stay_what_they_are(explorer):
    explorer.stars[0] = 4.5
    explorer.update()
    explorer.film.value = EVIL
    assert explorer.stars[0] == 4.5 and explorer.well_known[0].value == 5


def test_what_a_user_watched_later_is_marked(explorer, split):
    explorer.user.value = "7"
    mine = split.refit.items[split.refit.users == 6]
    assert set(explorer.stars) == set(mine)
    later = set(split.test.items[split.test.users == 6].tolist())
    found = {film for films in recommend(explorer.weights, mine) for film in films.tolist()}
    assert ("✓</b>" in explorer.lists.value) == bool(found & later)
    lists = side_by_side(explorer.weights, explorer.catalogue, explorer.stars, later=found)
    assert all(line.watched for lines in lists.values() for line in lines)
    explorer.user.value = NOBODY
    assert not explorer.stars and "Rate a film" in explorer.lists.value


def test_the_map_is_drawn_when_it_is_opened_and_marks_those_like_the_chosen_film(explorer):
    assert explorer.map.value == ""
    explorer.folds.selected_index = 1
    assert explorer.map.value.count("<circle") == 120 and explorer.map.value.count("#c5221f") == 0
    explorer.film.value = "Film 9, The (1919)"
    assert explorer.map.value.count("#c5221f") == 11


def test_a_title_that_is_a_script_is_text_everywhere(explorer):
    explorer.film.value = EVIL
    explorer.folds.selected_index = 1
    for shown in (explorer.lists.value, explorer.alike.value, explorer.map.value):
        assert ESCAPED in shown and "<script" not in shown and "<img" not in shown
    catalogue = Catalogue(np.full(120, EVIL, object))
    lists = side_by_side(explorer.weights, catalogue, explorer.stars)
    assert "<script" not in as_html(lists) and as_html(lists).count(ESCAPED) >= 30


def test_what_a_notebook_keeps_is_the_lists_without_the_state_of_widgets(explorer):
    shown = explorer._repr_mimebundle_()
    assert shown["text/html"] == explorer.lists.value and WIDGET in shown
    assert "VBox" not in shown["text/plain"]
    explorer.kept = "<p>what is stored</p>"
    assert explorer._repr_mimebundle_()["text/html"] == "<p>what is stored</p>"


def test_a_cleaned_notebook_keeps_the_table_and_not_the_widget():
    shown = {WIDGET: {"model_id": "1f"}, "text/html": "<table></table>", "text/plain": "the explorer"}
    cell = new_code_cell("explorer", outputs=[new_output("display_data", shown)])
    assert set(clean(new_notebook(cells=[cell])).cells[0].outputs[0].data) == {"text/html", "text/plain"}


def test_tables_mark_films_on_all_lists_and_those_watched_later(explorer):
    lists = side_by_side(explorer.weights, explorer.catalogue, explorer.stars, later={3})
    table = as_table(lists)
    in_all = set.intersection(*({line.film for line in lines} for lines in lists.values()))
    for model, lines in lists.items():
        for line, text in zip(lines, table[model]):
            assert text == line.title + " ●" * (line.film in in_all) + " ✓" * (line.film == 3)
    assert as_reasons(lines).columns.tolist() == ["title", "by people", "by content"]


def test_too_few_known_titles_and_unknown_models_are_refused(explorer):
    with pytest.raises(StudyError, match="no films called Unheard Of"):
        codes_of(explorer.catalogue, {EVIL: 5, "Unheard Of": 3})
    with pytest.raises(StudyError, match="chosen='Other'"):
        side_by_side(explorer.weights, explorer.catalogue, {0: 5}, ["Other"])


def test_a_change_is_answered_in_a_tenth_of_a_second(explorer):
    taken = []
    for value in (0.1, 0.2, 0.3, 0.4, 0.5):
        started = time.perf_counter()
        explorer.popularity.value = value
        taken.append(time.perf_counter() - started)
    assert min(taken) < 0.1


def test_the_controls_are_of_the_catalogue(explorer):
    assert len(explorer.well_known) == explorer_widget.N_WELL_KNOWN and len(explorer.film.options) == 120
