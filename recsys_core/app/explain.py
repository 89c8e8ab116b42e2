"""What speaks for a film in what somebody has watched: who else watched both, and what both are.

    score(u, i) = Σ_j c_ji         over the films j of u's history; c_ji is the score of i for somebody who has watched j alone

holds for models with the trait `linear`, such as EASE, c_ji = B_ji, and item kNN, c_ji = s_ij: the largest c_ji names the film to
which i owes most. A fact that two films share, such as a director, is no cause of such a score, for the model knows nothing of
films; chapter 34 measures how many films it would explain as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from recsys_core.app.recommend import LIKED, reasons, titles_of
from recsys_core.content import film_content
from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions, Vocabulary
from recsys_core.models import Recommender
from recsys_core.models.registry import names_with
from recsys_core.releases import films, sources

# Kinds of facts as a reader knows them → what the content calls them, in the order in which they are looked for.
FACTS = {
    "director": "directed_by",
    "writer": "written_by",
    "actor": "actor",
    "producer": "produced_by",
    "subject": "subjects",
    "fine genre": "genre",
    "title word": "title",
    "genre": "genres",
    "year": "year",
}
PARAGRAPHS = sources.FILM_SOURCES["wikipedia-movies"]


@dataclass(frozen=True)
class Facts:
    """What is known of I films: `flags[kind]` is an (I, F) matrix of ones, `labels[kind]` the F names of its columns."""

    flags: dict[str, sparse.csr_matrix]
    labels: dict[str, list[str]]

    def shared(self, kind: str, watched: np.ndarray) -> np.ndarray:
        """Mark (I,) the films that have a fact of this kind in common with one of (H,) films."""
        flags = self.flags[kind]
        known = np.asarray(flags[watched].sum(axis=0)).ravel() > 0
        return flags @ known > 0

    def closest(self, item: int, watched: np.ndarray) -> tuple[str, str, int] | None:
        """The kind and label of a fact that an item shares with (H,) films, and the first film that has it; None without any.

        Kinds in the order of `FACTS`; of a kind, a fact with a label, and of these the one that fewest films of the catalogue have.
        """
        for kind, flags in self.flags.items():
            facts = flags[[item]].indices
            common = flags[watched][:, facts].toarray() > 0  # (H, f)
            if shared := np.flatnonzero(common.any(axis=0)).tolist():
                n_films, labels = flags[:, facts].sum(axis=0).tolist()[0], [self.labels[kind][fact] for fact in facts]
                fact = min(shared, key=lambda place: (not labels[place], n_films[place]))
                return kind, labels[fact], int(watched[common[:, fact].argmax()])
        return None


def film_facts(data: MovieLens, names: Mapping[str, str] | None = None) -> Facts:
    """The facts of all films of `encode(data)`; `names` of people in the graph as `names_at_hand` gives them.

    A kind that the data lacks is left out. Raises StudyError for data without any content of films.
    """
    if data.movies is None:
        raise StudyError(f"{data.name} has no movie table: nothing is known of what its films are.")
    content = film_content(data, ["graph", "title", "genres", "year"])
    graph = content.tokens.get("graph", [])
    flags, labels = {}, {}
    for kind, source in FACTS.items():
        if source in content.tokens:
            tokens = content.tokens[source]
            tokens = [film[:1] for film in tokens] if kind == "year" else tokens  # without its decade
        else:
            start = f"{source}:"
            tokens = [[fact.removeprefix(start) for fact in film if fact.startswith(start)] for film in graph]
        if any(tokens):
            flags[kind], found = _flags(tokens)
            labels[kind] = found if source in content.tokens else [(names or {}).get(each, "") for each in found]
    return Facts(flags, labels)


def _flags(tokens: list[list[str]]) -> tuple[sparse.csr_matrix, list[str]]:
    """The (I, F) matrix of ones of I films' tokens, and the F tokens in alphabetical order."""
    films_of = np.repeat(np.arange(len(tokens)), [len(set(film)) for film in tokens])
    codes, found = pd.factorize(np.array([token for film in tokens for token in set(film)], object), sort=True)
    shape = len(tokens), len(found)
    return sparse.csr_matrix((np.ones(len(codes)), (films_of, codes)), shape), list(found)


def names_at_hand(data: MovieLens) -> dict[str, str]:
    """Names of directors and actors of the graph, where Wikipedia's paragraphs are on this machine: they are not fetched for it.

    Who shows one names the source, `PARAGRAPHS.attribution`. Empty where the graph or the paragraphs are missing.
    """
    here = sources.find_local(PARAGRAPHS)[0] or (sources.DATA / "cache" / PARAGRAPHS.folder).exists()
    if data.movies is None or not here:
        return {}
    try:
        triples = films.film_triples(films.graph_ids(data.name, pd.Index(np.unique(data.ratings["item_id"]))))
        return films.entity_names(triples, films.paragraphs(data.movies))
    except StudyError:
        return {}


def contributions(model: Recommender, user: int, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The (H,) films of a training user's history, and what each adds to the scores of (K,) items: (H, K), whose sum is the score.

    Raises StudyError for a model that is not linear in the history, and for a user without training rows.
    """
    if not model.own_traits.adds_up:
        names = ", ".join(names_with(adds_up=True))
        raise StudyError(
            f"The score of {type(model).__name__} is not split into films of a history: choose a model whose is, one of {names}."
        )
    rows = model.train_
    watched = rows.items[rows.users == user]
    if not len(watched):
        raise StudyError(f"User code {user} has no training rows: no film adds to a score.")
    return watched, alone(model, watched)[:, torch.as_tensor(items)].numpy()


def alone(model: Recommender, watched: np.ndarray) -> torch.Tensor:
    """(H, I) scores for H people each of whom has watched one of (H,) films and no other."""
    each, rows = np.arange(len(watched)), model.train_
    history = Interactions(each, watched, np.ones(len(each), np.float32), np.zeros_like(each), len(each), rows.n_items)
    return model.score(torch.from_numpy(each), history)


def explained(
    model: Recommender, data: MovieLens, vocabulary: Vocabulary, facts: Facts | None, user_id: object, items: np.ndarray
) -> pd.DataFrame:
    """What in a known user's history speaks for (K,) items: columns title, by people, by content; an empty text for nothing.

    By people: the film that adds most to the score, and how much of it; for models that are no such sum, the liked film (4 stars or
    more) whose raters are most alike. By content: the fact that is shared with a liked film, the best rated and then the latest of
    those that have it, and of how many films that the user has not rated this kind of reason is true: one that fits all of them
    says nothing. Raises StudyError for an unknown user.
    """
    user = int(vocabulary.user_codes(user_id)[0])
    rated = vocabulary.item_codes(data.ratings.loc[data.ratings["user_id"] == vocabulary.user_ids[user], "item_id"])
    titles = titles_of(data, vocabulary, np.arange(len(vocabulary.item_ids)))
    told = _Teller(model.train_, user, titles, rated, (data.offset, data.unit))
    table = pd.DataFrame({"title": told.titles[items], "by people": told.by_people(model, items)})
    table["by content"] = ["" if facts is None else told.by_content(facts, int(item)) for item in items]
    return table.set_index(pd.RangeIndex(1, len(items) + 1, name="rank"))


class _Teller:
    """Says in words what films of a user's history have to do with others."""

    def __init__(
        self, train: Interactions, user: int, titles: np.ndarray, rated: np.ndarray, scale: tuple[float, float]
    ) -> None:
        """`scale` is what 0 stars are and what a star is, in the unit in which ratings are told."""
        mine = train.take(train.users == user)
        best = np.lexsort((-mine.times, -mine.ratings))
        self.train, self.user, self.titles = train, user, titles
        self.others = train.item_counts > 0
        self.others[rated] = False
        told = scale[0] + scale[1] * mine.ratings.astype(float)
        self.ratings = dict(zip(mine.items.tolist(), told.round(3).tolist()))
        self.liked = mine.items[best][mine.ratings[best] >= LIKED] if train.explicit else mine.items[best]

    def film(self, item: int) -> str:
        rated = f"you rated {self.ratings[item]:g}" if self.train.explicit else "you watched"
        return f"{self.titles[item]}, which {rated}"

    def by_people(self, model: Recommender, items: np.ndarray) -> list[str]:
        if model.own_traits.adds_up and self.ratings:
            watched, added = contributions(model, self.user, items)
            most, largest, total = watched[added.argmax(axis=0)], added.max(axis=0), added.sum(axis=0)
            parts = [f" ({part:.3f} of its score {whole:.3f})" for part, whole in zip(largest, total)]
            most = np.where(largest > 0, most, -1)
        else:
            personal = model.own_traits.personalised and (model.own_traits.uses_ids or model.own_traits.folds_in)
            most = reasons(self.train, self.user, items) if personal else np.full(len(items), -1)
            parts = [""] * len(items)
        told = [f"people who watched {self.film(film)}, watched it too" if film >= 0 else "" for film in most]
        return [f"{reason}{part}" if reason else "" for reason, part in zip(told, parts)]

    def by_content(self, facts: Facts, item: int) -> str:
        found = facts.closest(item, self.liked) if len(self.liked) else None
        if found is None:
            return ""
        kind, label, film = found
        said = f"same {kind}{f' ({label})' if label else ''} as {self.film(film)}"
        if not self.others.any():
            return said
        fits = facts.shared(kind, self.liked)[self.others].mean()
        return f"{said} ({fits:.0%} of what you have not watched shares one with a film that you liked)"
