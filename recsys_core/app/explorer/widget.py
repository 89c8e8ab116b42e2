"""The explorer in JupyterLab: films rated or a user chosen, lists side by side, and a map, recomputed by Python at each change.

    explore(study.data, study.vocabulary, split.refit, split.test, {"Toy Story (1995)": 5, …})

What a notebook keeps of it is a table in HTML, which is there without a kernel; the state of the widgets is not kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from html import escape
from typing import Any

import ipywidgets as widgets
import numpy as np

from recsys_core.app.explorer.facts import shared_facts
from recsys_core.app.explorer.lines import Catalogue, as_html, codes_of, side_by_side
from recsys_core.app.explorer.lists import Weights, best, similar
from recsys_core.app.explorer.page import film_map
from recsys_core.app.explorer.tables import Table
from recsys_core.app.explorer.weights import learn, most_watched
from recsys_core.app.recommend import titles_of
from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions, Vocabulary

NOBODY, N_WELL_KNOWN, N_ALIKE = "nobody: rate films", 12, 10
WIDTH, HEIGHT = 720, 420  # of the map, in pixels


def explore(
    data: MovieLens, vocabulary: Vocabulary, rows: Interactions, later: Interactions, stars: Mapping[str, float]
) -> Explorer:
    """An explorer whose models are fitted on `rows`; films of the rows `later` are marked where a user's list has them.

    It begins with `stars` of somebody who is invented, by title; where the data lacks these films, with the best known ones.
    """
    kept, codes = most_watched(rows)
    catalogue = Catalogue(titles_of(data, vocabulary, codes), shared_facts(data, codes))
    weights = learn(kept).quantised()
    try:
        begun = codes_of(catalogue, stars)
    except StudyError:
        begun = {int(film): 5.0 for film in best(weights.known, np.arange(kept.n_items), 5)}
    places = np.full(rows.n_items, -1)
    places[codes] = np.arange(len(codes))
    return Explorer(weights, catalogue, kept, _histories(later, places), vocabulary.user_ids, begun)


def _histories(rows: Interactions, places: np.ndarray) -> dict[int, set[int]]:
    """Films of each user, in other codes: `places` of items."""
    found: dict[int, set[int]] = {}
    for user, film in zip(rows.users.tolist(), places[rows.items].tolist()):
        found.setdefault(user, set()).add(film)
    return found


class Explorer(widgets.VBox):
    """Controls and what they show; `stars` are the ratings from which the lists are made, by the code of a film.

    `kept` is what a reader without a kernel sees, in HTML; where it is empty, the lists as they are.
    """

    def __init__(
        self,
        weights: Weights,
        catalogue: Catalogue,
        rows: Interactions,
        later: Mapping[int, set[int]],
        user_ids: np.ndarray,
        stars: Mapping[int, float],
    ) -> None:
        self.weights, self.catalogue, self.rows, self.later = weights, catalogue, rows, later
        self.stars: dict[int, float] = dict(stars)
        self.kept = ""
        self.by_known = best(weights.known, np.arange(len(weights.known)), len(weights.known))
        self._make_controls([str(user) for user in user_ids])
        self.lists, self.alike, self.map = widgets.HTML(), widgets.HTML(), widgets.HTML()
        super().__init__(self._layout())
        self._listen()
        self.update()

    def _make_controls(self, user_ids: list[str]) -> None:
        titles = [str(self.catalogue.titles[film]) for film in self.by_known]
        models = [model.title for model in self.weights.models]
        self.user = widgets.Dropdown(options=[NOBODY, *user_ids], description="User")
        self.film = widgets.Combobox(options=titles, placeholder="type a title", description="Film", ensure_option=True)
        self.given = widgets.Dropdown(
            options=[("no stars", 0), *((f"{n} ★", n) for n in range(1, 6))], description="Stars"
        )
        self.models = [widgets.Checkbox(value=True, description=title, indent=False) for title in models]
        self.popularity = widgets.FloatSlider(min=-1, max=1, step=0.1, description="less known")
        self.diversity = widgets.FloatSlider(min=0, max=1, step=0.1, description="diverse")
        self.well_known = {
            int(film): widgets.Dropdown(options=self.given.options) for film in self.by_known[:N_WELL_KNOWN]
        }

    def _layout(self) -> list[widgets.Widget]:
        cells = [
            widgets.VBox([widgets.Label(str(self.catalogue.titles[film])), control])
            for film, control in self.well_known.items()
        ]
        grid = widgets.GridBox(
            cells, layout=widgets.Layout(grid_template_columns="repeat(auto-fill, minmax(220px, 1fr))")
        )
        self.folds = widgets.Accordion([grid, widgets.VBox([self.map])], titles=["Well-known films", "Map of films"])
        controls = [widgets.HBox([self.film, self.given]), self.user, widgets.HBox(self.models)]
        sliders = widgets.HBox([self.popularity, self.diversity])
        return [*controls, sliders, self.lists, self.alike, self.folds]

    def _listen(self) -> None:
        self.user.observe(lambda _: self._take_user(), "value")
        self.film.observe(lambda _: self._show_film(), "value")
        self.given.observe(lambda change: self._rate(self.chosen, change["new"]), "value")
        for film, control in self.well_known.items():
            control.observe(lambda change, film=film: self._rate(film, change["new"]), "value")
        for each in (*self.models, self.popularity, self.diversity):
            each.observe(lambda _: self.update(), "value")
        self.folds.observe(lambda _: self._draw_map(), "selected_index")

    @property
    def chosen(self) -> int | None:
        """The code of the film whose title stands in the search box."""
        found = np.flatnonzero(self.catalogue.titles == self.film.value)
        return int(found[0]) if len(found) else None

    @property
    def user_code(self) -> int | None:
        """The code of the user who is chosen."""
        return None if self.user.index in (0, None) else self.user.index - 1

    def _rate(self, film: int | None, given: float) -> None:
        if film is None or self._given_to(film) == given:
            return
        self.stars.pop(film, None)
        if given:
            self.stars[film] = given
        self.update()

    def _given_to(self, film: int) -> int:
        """Stars of a film, whole ones, 0 for none."""
        return min(5, int(np.ceil(self.stars.get(film, 0))))

    def _take_user(self) -> None:
        mine = self.rows.take(self.rows.users == self.user_code)
        self.stars = dict(zip(mine.items.tolist(), mine.ratings.tolist()))
        self.update()

    def update(self) -> None:
        """Compute and show the lists for the present ratings, models and sliders."""
        chosen = [model.description for model in self.models if model.value]
        settings = {"popularity": round(self.popularity.value, 1), "diversity": round(self.diversity.value, 1)}
        later = self.later.get(self.user_code, set()) if self.user_code is not None else set()
        if not (self.stars and chosen):
            self.lists.value = "Rate a film and choose a model: the lists stand here."
        else:
            self.lists.value = self._rated() + as_html(
                side_by_side(self.weights, self.catalogue, self.stars, chosen, later=later, **settings)
            )
        for film, control in self.well_known.items():
            control.value = self._given_to(film)
        self._draw_map()

    def _rated(self) -> str:
        latest = list(self.stars.items())[::-1][:N_ALIKE]
        told = ", ".join(f"{escape(str(self.catalogue.titles[film]))} ({given:g})" for film, given in latest)
        more = "" if len(self.stars) <= N_ALIKE else f" and {len(self.stars) - N_ALIKE} more"
        return f"<p>Rated: {told}{more}. ● on all lists, ✓ watched later.</p>"

    def _show_film(self) -> None:
        film = self.chosen
        if film is None:
            self.alike.value = ""
            return
        self.given.value = self._given_to(film)
        told = [f"<b>{escape(model.title)}</b>: {self._alike(model, film)}" for model in self.weights.models]
        self.alike.value = f"<p>More like {escape(str(self.catalogue.titles[film]))}</p>{'<br>'.join(told)}"
        self._draw_map()

    def _alike(self, model: Table, film: int) -> str:
        return ", ".join(escape(str(title)) for title in self.catalogue.titles[similar(model, film, 5)]) or "none"

    @cached_property
    def places(self) -> np.ndarray:
        """(I, 2) places of the films on the map, in pixels; computed when the map is first opened."""
        return np.stack(film_map(self.weights.vectors.vectors), axis=1) / 65535 * [WIDTH - 20, HEIGHT - 20] + 10

    def _draw_map(self) -> None:
        if self.folds.selected_index == 1:
            self.map.value = self._picture(self.chosen)

    def _picture(self, film: int | None) -> str:
        near = set() if film is None else {film, *similar(self.weights.vectors, film, N_ALIKE).tolist()}
        dots = []
        for place, (x, y) in enumerate(self.places):
            colour, radius = (
                ("#c5221f", 6) if place in near else ("#b06000", 5) if place in self.stars else ("#9aa0a6", 2)
            )
            title = escape(str(self.catalogue.titles[place]))
            dots.append(
                f"<circle cx='{x:.0f}' cy='{y:.0f}' r='{radius}' fill='{colour}'><title>{title}</title></circle>"
            )
        return f"<svg width='{WIDTH}' height='{HEIGHT}' role='img' aria-label='Map of films'>{''.join(dots)}</svg>"

    def _repr_mimebundle_(self, **settings: Any) -> dict[str, Any]:
        """What is displayed: the controls, and for a reader without a kernel a table."""
        shown = super()._repr_mimebundle_(**settings)
        return {**shown, "text/plain": "the explorer", "text/html": self.kept or self.lists.value}
