"""How many films a reason fits, on a world small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers import Table, make_interactions
from scipy import sparse

from pipeline.chapters import explanations
from recsys_core.app.explain import Facts
from recsys_core.errors import StudyError
from recsys_core.models.linear import EASE
from recsys_core.splits import Role, Split

N_FILMS = 24


def world() -> Split:
    """User 0 has watched film 0 and the other users films 1 to 22: film i by 23 - i of them; nobody has watched film 23."""
    pairs = [(0, 0)] + [(1 + user, film) for film in range(1, 23) for user in range(23 - film)]
    test = [(0, 5)] + [(user, 0) for user in range(1, 23)]
    roles = np.array([Role.TRAIN] * len(pairs) + [Role.TEST] * len(test), np.uint8)
    return Split(make_interactions(pairs + test, 23, N_FILMS), roles, "random-80-10-10")


def facts(directed: list[int]) -> Facts:
    """Film 0 and these have one director, film 0 and no other one writer."""
    flags = {name: np.zeros((N_FILMS, 1)) for name in ("director", "writer")}
    flags["director"][[0, *directed]], flags["writer"][0] = 1, 1
    return Facts({name: sparse.csr_matrix(each) for name, each in flags.items()}, {"director": [""], "writer": [""]})


def of_user_0(directed: list[int], some: tuple[str, ...] = ()) -> pd.DataFrame:
    """The shares of user 0, to whom the films 1 to 10 are shown."""
    scores = np.tile(-np.arange(N_FILMS, dtype=float), (23, 1))
    shares = explanations.explained_shares(Table(table=scores).fit(world().refit), facts(directed), world(), some)
    return shares[shares["user"] == 0].set_index("kind")


def test_shares_are_of_the_films_shown_and_of_others() -> None:
    found = of_user_0([1, 2, 15])
    assert found.loc["director", ["recommended", "n_liked"]].tolist() == [0.2, 1]
    assert found.loc["director", "unseen"] == pytest.approx(1 / 12)  # films 11 to 22: nobody knows film 23
    assert found.loc["writer", ["recommended", "as popular", "unseen"]].tolist() == [0, 0, 0]


def test_those_as_popular_are_the_nearest_in_ratings_to_each_film_shown() -> None:
    assert of_user_0([11]).loc["director", "as popular"] == pytest.approx(0.1)  # one of the films 11 to 20, ten times
    assert of_user_0([21, 22]).loc["director", "as popular"] == 0
    unseen, near = explanations._others(np.array([9, 8, 7, 0, 5]), np.array([0]), np.array([1]))
    assert unseen.tolist() == [2, 4] == near.tolist()


def test_some_kinds_come_first_and_together() -> None:
    found = of_user_0([1], ("writer", "director"))
    assert found.index.tolist() == ["writer", "director", "any of these 2"]
    assert found["recommended"].tolist() == [0, 0.1, 0.1]


def test_shares_are_compared_user_by_user() -> None:
    shares = pd.DataFrame({"kind": "actor", "recommended": [0.5, 0.7], "as popular": [0.4, 0.6], "unseen": [0.1, 0.2]})
    line = explanations.compare_shares(shares).loc["actor"]
    assert line.tolist() == pytest.approx([0.6, 0.5, 0.15, 0.1, 0.1, 0.1])


def test_the_largest_part_is_of_the_score_of_each_film_shown() -> None:
    model = EASE(regularisation=1.0).fit(world().refit)
    parts = explanations.largest_parts(model, world())
    assert np.isnan(parts[0])  # nobody else has watched film 0, so that it adds nothing to others
    assert parts[22] == pytest.approx(1) and 0 < parts[5] < 1  # user 22 has watched one film, user 5 many
    with pytest.raises(StudyError, match="not split into films"):
        explanations.largest_parts(Table(table=np.ones((23, N_FILMS))).fit(world().refit), world())


def test_the_place_of_a_reason_is_among_the_parts_of_the_score() -> None:
    split, model = world(), EASE(regularisation=1.0).fit(world().refit)
    user, films = 5, np.arange(1, 19)  # who has watched these, to whom 19 is shown first
    added = model.weights[films, 19]
    most, least = int(films[added.argmax()]), int(films[added.argmin()])
    for film, place in ((most, 1), (least, 0)):
        flags = np.zeros((N_FILMS, 1))
        flags[[film, 19]] = 1
        found = explanations.parts_of_reasons(model, Facts({"actor": sparse.csr_matrix(flags)}, {"actor": [""]}), split)
        of_user = found[found["user"] == user].set_index("kind")
        assert of_user.loc["actor", "place"] == place
        assert of_user.loc["actor", "part"] == pytest.approx(added[film - 1] / added.sum(), abs=1e-6)
        assert of_user.loc["a liked film", ["place", "part"]].tolist() == pytest.approx([0.5, 1])


def test_the_figure_has_a_line_for_each_kind() -> None:
    shares = pd.DataFrame({"kind": ["actor", "year"], "recommended": 0.5, "as popular": 0.4, "unseen": 0.1})
    figure = explanations.reasons_figure(explanations.compare_shares(shares))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["actor", "year"]
    titles = [figure.axes[0].get_title(loc=side) for side in ("left", "center")]  # the style says which
    assert "Same actor: 50% of those shown, 40% of those as popular" in titles
