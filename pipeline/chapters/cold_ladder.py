"""The ladder of content: models that differ only in what they know of films, on every part of the films in turn.

A rung is what is known of films. On each part of them, which is out of training, a model is fitted on a rung; its settings are
chosen on the films of the next part. What is measured on the parts is put together: every film is cold once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.chapters import cold_films
from pipeline.chapters.comparisons import compare
from pipeline.chapters.fits import with_chosen
from pipeline.chapters.sentences import sentence_vectors
from pipeline.chapters.store import Selection
from recsys_core.content import Content, film_content, with_columns
from recsys_core.datasets import MovieLens
from recsys_core.interactions import Features, Interactions
from recsys_core.models.base import FitTask, Recommender
from recsys_core.models.content_based import ContentBased
from recsys_core.models.linear import EASE
from recsys_core.models.traits import Traits
from recsys_core.splits import Split
from recsys_core.statistics import bootstrap_interval

AMOUNTS, CUTOFF = "amount known", 10
SENTENCES = {"sentences": False, "whole_sentences": True}  # kinds that an encoder made vectors of → with all sentences
RIDGE, TOWERS, TASTE = "ridge", "towers", "towers without q"
WRONG, HYBRID = "another film's content", "hybrid"
POPULAR, RULE, WARM = "held-out popularity", "genres, S4's rule", "EASE"


def rung_features(data: MovieLens, rungs: Mapping[str, Sequence[str]], dim: int) -> tuple[dict[str, Features], Content]:
    """Columns `content_*` of each rung, from the kinds of content that it names, and the tokens that they were made from.

    Kinds are those of `film_content`, which a rung turns into `dim` numbers together, and `SENTENCES`. Before all rungs comes
    `AMOUNTS`: how much is known of a film by all tokens, and nothing of what it is. A rung of which no kind can be read is left
    out. Raises StudyError where no kind can be.
    """
    kinds = dict.fromkeys(kind for named in rungs.values() for kind in named if kind not in SENTENCES)
    content = film_content(data, tuple(kinds))
    found = {AMOUNTS: content.amounts()}
    for name, named in rungs.items():
        blocks = [sentence_vectors(data, SENTENCES[kind]) for kind in named if kind in SENTENCES]
        tokens = {kind: content.tokens[kind] for kind in named if kind in content.tokens}
        if tokens:
            vectors, label = replace(content, tokens=tokens).vectors(dim), "_".join(tokens)
            blocks.append(Features(vectors, tuple(f"content_{label}_{place}" for place in range(vectors.shape[1]))))
        if blocks:
            columns = tuple(column for block in blocks for column in block.columns)
            found[name] = Features(np.hstack([block.values for block in blocks]), columns)
    return found, content


def swapped(features: Features, films: np.ndarray, seed: int) -> Features:
    """The features with those of `films` (codes) given to one another at random, none to its own film."""
    order = np.random.default_rng(seed).permutation(films)
    values = features.values.copy()
    values[order] = features.values[np.roll(order, 1)]
    return Features(values, features.columns)


@dataclass
class GivenCounts(Recommender):
    """Ranks all films by given numbers (I,), the same for every user."""

    traits = Traits(form="counts", personalised=False, folds_in=True)
    counts: np.ndarray

    def _fit(self, task: FitTask) -> None:
        pass

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return torch.as_tensor(self.counts, dtype=torch.float32).repeat(len(users), 1)


def held_out_popularity(split: Split) -> Recommender:
    """Ranks by the number of held-out rows themselves, which no model may see: what popularity alone can reach."""
    return GivenCounts(split.test.item_counts).fit(split.refit)


def validated(model: Recommender, split: Split, seed: int = 0) -> tuple[float, Recommender]:
    """NDCG@10 among the cold films of the validation rows, and the unfitted model with what they choose: a network's best epoch."""
    tried = copy(model).fit(split.train, split.validation, seed, judge=cold_films.judge)
    judged = cold_films.judge(tried, split.train, split.validation, None)
    curve = [] if tried.history_ is None else [epoch[judged.metric] for epoch in tried.history_.epochs]
    return max(curve) if curve else judged.measure(), with_chosen(model, Selection(tried.chosen))


def best_on_cold(candidates: Sequence[Recommender], split: Split, seed: int = 0) -> Recommender:
    """The candidate that is best by `validated`, fitted again on all but the test rows."""
    tried = [validated(model, split, seed) for model in candidates]
    return max(tried, key=lambda each: each[0])[1].fit(split.refit, None, seed)


@dataclass
class Measured:
    """What a model is worth on the parts that were measured so far: lines of users and of films, with a column `part`."""

    users: list[pd.DataFrame] = field(default_factory=list)
    films: list[pd.DataFrame] = field(default_factory=list)

    def add(self, model: Recommender, split: Split, part: int, among_all: bool = False) -> Measured:
        """Measure a fitted model on a part: among the cold films, and if asked for among all unseen films. Returns itself."""
        users = cold_films.among_cold_films(model, split, (CUTOFF,))
        if among_all:
            users = users.merge(cold_films.among_all_films(model, split, CUTOFF), on="user")
        self.users.append(users.assign(part=part))
        self.films.append(cold_films.auc_by_film(model, split).assign(part=part))
        return self

    def by_user(self) -> pd.DataFrame:
        """One row a user: means over the parts where there is something to measure."""
        return pd.concat(self.users).drop(columns="part").groupby("user").mean().reset_index()

    def by_film(self) -> pd.DataFrame:
        """One row a film: item, n_users, auc."""
        return pd.concat(self.films).drop(columns="part").sort_values("item", ignore_index=True)

    def of_parts(self, parts: Sequence[int]) -> Measured:
        """What was measured on these parts alone."""
        kept = [[each for each in frames if each["part"].iloc[0] in parts] for frames in (self.users, self.films)]
        return Measured(*kept)

    def and_of(self, other: Measured) -> Measured:
        """This and what another model has on other parts."""
        return Measured(self.users + other.users, self.films + other.films)


@dataclass(frozen=True)
class Ladder:
    """Splits of rows with the films of one part cold, for rungs of content; `base` is a split of the rows without content."""

    base: Split
    part_of: np.ndarray
    features: Mapping[str, Features]

    def split(self, rung: str | None, part: int, swap: bool = False) -> Split:
        """The split of a part with a rung's content (None: none); `swap` gives cold films the content of one another."""
        rows = self.base.interactions
        if rung is not None:
            features = self.features[rung]
            cold = np.flatnonzero(self.part_of == part)
            rows = with_columns(rows, swapped(features, cold, part) if swap else features)
        return cold_films.with_cold_films(replace(self.base, interactions=rows), self.part_of, part)


def on_parts(
    ladder: Ladder,
    parts: Sequence[int],
    fit: Callable[[Split], Recommender],
    rung: str | None = None,
    swap: bool = False,
    among_all: bool = False,
) -> Measured:
    """Measure what `fit` makes of each part's split, see `Ladder.split` and `Measured.add`."""
    measured = Measured()
    for part in parts:
        split = ladder.split(rung, part, swap)
        measured.add(fit(split), split, part, among_all)
    return measured


def named(rung: str, method: str) -> str:
    """What a rung by one of the models is called in tables."""
    return f"{rung}, {method}"


@dataclass
class Climb:
    """Everything that is measured on a ladder, each when it is first asked for.

    Attributes:
        methods: a model for all rungs by its name, in all settings to choose from.
        whole: the rung with all content, which also hybrids have; of `WRONG` the cold films have it swapped.
        hybrids: models to choose from on that rung, by a name each.
        further: models that are measured on that rung alone, as `methods`.
    """

    ladder: Ladder
    parts: Sequence[int]
    methods: Mapping[str, Sequence[Recommender]]
    whole: str
    hybrids: Mapping[str, Recommender]
    further: Mapping[str, Sequence[Recommender]] = field(default_factory=dict)
    done: dict[str, Measured] = field(default_factory=dict)

    @property
    def rungs(self) -> list[str]:
        """From the lowest up."""
        return [WRONG, *self.ladder.features]

    def names(self, rungs: Sequence[str] | None = None) -> list[str]:
        """Rungs (None: all) by each model."""
        return [named(rung, method) for rung in rungs or self.rungs for method in self.methods]

    def of(self, name: str) -> Measured:
        """What a rung by a model, POPULAR, RULE, WARM or HYBRID is worth."""
        if name not in self.done:
            self.done[name] = self._measured(name)
        return self.done[name]

    def _measured(self, name: str) -> Measured:
        if name == HYBRID:
            measured, best = self.by_hybrid
            return as_chosen(measured, self.parts, best)
        alone: dict[str, Callable[[Split], Recommender]] = {
            POPULAR: held_out_popularity,
            RULE: lambda split: ContentBased().fit(split.refit),
            WARM: lambda split: EASE().fit(split.refit),
        }
        if name in alone:
            return on_parts(self.ladder, self.parts, alone[name], among_all=name == WARM)
        rung, method = name.rsplit(", ", 1)
        source = self.whole if rung == WRONG else rung
        candidates = (dict(self.methods) | dict(self.further))[method]
        return on_parts(
            self.ladder,
            self.parts,
            lambda split: best_on_cold(candidates, split),
            source,
            rung == WRONG,
            rung == self.whole,
        )

    @cached_property
    def by_hybrid(self) -> tuple[dict[str, Measured], list[str]]:
        """All hybrids on every part, also among all unseen films, and the name of the best by `validated` for each part."""
        measured: dict[str, Measured] = {name: Measured() for name in self.hybrids}
        best = []
        for part in self.parts:
            split = self.ladder.split(self.whole, part)
            tried = {name: validated(model, split) for name, model in self.hybrids.items()}
            best.append(max(tried, key=lambda name: tried[name][0]))
            for name, (_, model) in tried.items():
                measured[name].add(model.fit(split.refit, None, 0), split, part, among_all=True)
        return measured, best

    def table(self, names: Sequence[str]) -> pd.DataFrame:
        """A row for each name, see `line_of`."""
        return pd.DataFrame({name: line_of(self.of(name)) for name in names}).T

    def hybrid_table(self) -> pd.DataFrame:
        """The same for each hybrid, and how many parts chose it."""
        measured, best = self.by_hybrid
        lines = {name: line_of(each) | {"chosen by": best.count(name)} for name, each in measured.items()}
        return pd.DataFrame(lines).T

    def compared(self, pairs: Sequence[tuple[str, str]], metric: str) -> pd.DataFrame:
        """Differences of pairs: of "auc" film by film, of all else user by user; rows "model | rival".

        Columns difference, low, high (95 %), p, adjusted over the pairs (see `comparisons.compare`), and in how many parts the
        first of a pair is ahead on average.
        """
        frames, by_part = [], {}
        for name in dict.fromkeys(name for pair in pairs for name in pair):
            found = self.of(name)
            lines = found.by_film().rename(columns={"item": "user"}) if metric == "auc" else found.by_user()
            frames.append(lines[["user", metric]].assign(model=name))
            by_part[name] = pd.concat(found.films if metric == "auc" else found.users).groupby("part")[metric].mean()
        table = compare(pd.concat(frames), metric, pairs).table()
        table["parts ahead"] = [(by_part[model] > by_part[rival]).sum() for model, rival in pairs]
        columns = ["difference", "low", "high", "p", "parts ahead"]
        return table.set_index(table["model"] + " | " + table["rival"])[columns]

    def grouped(self, names: Sequence[str], groups: pd.Series) -> pd.DataFrame:
        """Mean AUC by group of films, see `means_by_group`, indexed by name and group."""
        found = {name: means_by_group(self.of(name).by_film(), groups) for name in names}
        return pd.concat(found, names=["model", "films"])


def as_chosen(measured: Mapping[str, Measured], parts: Sequence[int], best: Sequence[str]) -> Measured:
    """What was measured on each part of the model that is best there."""
    found = Measured()
    for name in measured:
        found = found.and_of(measured[name].of_parts([part for part, chosen in zip(parts, best) if chosen == name]))
    return found


def line_of(measured: Measured) -> dict[str, float]:
    """Means of a model with 95 % intervals: of AUC over films; of NDCG, recall and what else was measured over users."""
    users, films = measured.by_user(), measured.by_film()
    columns = [str(column) for column in users if column not in ("user", "n_relevant", "n_cold", "n_warm")]
    values = {column: users[column] for column in columns} | {"auc": films["auc"]}
    line: dict[str, float] = {}
    for name, column in values.items():
        low, high = bootstrap_interval(column.to_numpy(float))
        line |= {name: float(column.mean()), f"{name} low": low, f"{name} high": high}
    return line


def means_by_group(films: pd.DataFrame, groups: pd.Series) -> pd.DataFrame:
    """Mean AUC of each group of films: estimate, low, high (95 %, bootstrap over films), films. `groups` is indexed by item."""
    lines = {}
    for group, mine in films.groupby(films["item"].map(groups), observed=True):
        auc = mine["auc"].dropna().to_numpy(float)
        low, high = bootstrap_interval(auc)
        lines[group] = {"estimate": auc.mean(), "low": low, "high": high, "films": len(auc)}
    return pd.DataFrame(lines).T
