"""Models whose lists are measured in many ways: their ranks from the store, or trained once a split and seed to be stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd

from pipeline.chapters.experiment import Experiments
from pipeline.chapters.fits import with_chosen
from pipeline.chapters.multiverse import Place, Specification, measured, specifications
from pipeline.chapters.ranks import RankFile, Run, twice_ranks
from pipeline.chapters.store import Identity, Selection
from pipeline.chapters.study import STATED, TUNED, TUNED_WIDELY
from pipeline.chapters.tuned import PARTS, searches_by_title, validation_value
from recsys_core.models.base import Recommender
from recsys_core.models.registry import MODELS, SEARCHES, WIDE_SEARCHES
from recsys_core.protocols import PROTOCOLS
from recsys_core.splits import Split


class RankedModel:
    """A model with its settings, and its ranks of test rows by place and seed.

    Under policies that write (`make store`) what is not stored is trained, and stored at once, so that a run that is stopped goes
    on where it was. Where a reader has changed something it is trained and not stored. Where the study is made or checked nothing
    is trained. Epochs are those that a split's own validation rows choose where its protocol is
    that of the first split, and on all others those of the first split.
    """

    def __init__(self, study: Experiments, name: str, settings: str, device: str) -> None:
        """`name` is that of a search or of a model without one; `settings` see `Notebook.hyperparameters`.

        A search that there is in a wide space alone is tuned widely.
        """
        self.study, self.name = study, name
        self.settings = TUNED_WIDELY if name in WIDE_SEARCHES.keys() - SEARCHES.keys() else settings
        search = (WIDE_SEARCHES if self.settings == TUNED_WIDELY else SEARCHES).get(name)
        kind, chosen = MODELS[name] if search is None else search.kind, {}
        if search is not None:
            chosen = search.fixed | study.hyperparameters(name, self.settings)
        titles = {(each.name, each.settings): title for title, each in searches_by_title().items()}
        self.title = titles.get((name, self.settings), kind.title if search is None else search.title)
        self.family, self.is_searched = kind.family, search is not None
        takes_device = "device" in {each.name for each in fields(kind)}  # type: ignore[arg-type]
        self.model: Recommender = kind(**chosen | ({"device": device} if takes_device else {}))

    @property
    def form(self) -> str:
        """What its settings make of it, one of `traits.FORMS`."""
        return self.model.own_traits.form

    @property
    def validated(self) -> float:
        """What its search reached on validation rows, with seeds that chose nothing where it scored these.

        Raises StudyError for a model that was not searched.
        """
        return validation_value(self.study.notebook.root, self.name, self.settings)

    def wanted(self, places: Sequence[Place]) -> list[tuple[int, int]]:
        """Place and seed of all runs: those of splits whose users the model can rank, seed 0 alone of a model without chance."""
        traits = self.model.own_traits
        ranked = [at for at, place in enumerate(places) if traits.folds_in or not place.split.held_out]
        return [(at, seed) for at in ranked for seed in (places[at].seeds if traits.stochastic else (0,))]

    def ranks(self, places: Sequence[Place]) -> dict[tuple[int, int], np.ndarray]:
        """What is stored of the wanted runs, after training what is not where the policy says so.

        By place and, from 0, the number of the seed among those of its place: which number it has elsewhere means nothing there.
        """
        identities = [self.study.runs.identity(self.model, place.split) for place in places]
        is_usual = self.settings in (STATED, TUNED) or self.name not in SEARCHES
        of_file = self.name if is_usual else f"{self.name}_{PARTS[self.settings]}"
        file = RankFile(self.study.notebook.root, of_file, identities[0])
        found, wanted = file.runs(), self.wanted(places)
        missing = [(at, seed) for at, seed in wanted if (identities[at].split, seed) not in found]
        if self.study.notebook.policy in ("free", "write", "resume"):
            for identity, run in self._trained(identities, places, missing):
                found[identity.split, run.seed] = run
                if self.study.notebook.writes:
                    file.add(identity, run)
        if file.path.exists():
            self.study.notebook.uses("", file.path)
        numbers = [places[at].seeds.index(seed) if self.model.own_traits.stochastic else 0 for at, seed in wanted]
        stored = {(at, k): found.get((identities[at].split, seed)) for (at, seed), k in zip(wanted, numbers)}
        return {key: run.twice for key, run in stored.items() if run is not None}

    def _trained(
        self, identities: Sequence[Identity], places: Sequence[Place], missing: list[tuple[int, int]]
    ) -> Iterator[tuple[Identity, Run]]:
        """Train the missing runs, one after the other; splits that train on the same rows share one fit."""
        last: tuple[bytes, int] | None = None
        for at, seed in sorted(missing, key=lambda each: (places[each[0]].split.roles.tobytes(), each[1], each[0])):
            split = places[at].split
            if last != (last := (split.roles.tobytes(), seed)):
                chosen = self._chosen(split if split.protocol == places[0].split.protocol else places[0].split)
                fitted = with_chosen(self.model, chosen).fit(PROTOCOLS[split.protocol].final_rows(split), None, seed)
            yield identities[at], Run(seed, twice_ranks(fitted, split), chosen.chosen)

    def _chosen(self, split: Split) -> Selection:
        """What the validation rows of a split choose."""
        return self.study.validated(self.title, self.model, split) if self.model.chooses else Selection({})


def places_of(study: Experiments, splits: Sequence[Sequence[Any]]) -> list[Place]:
    """The splits of a notebook's parameter: [protocol, its options, seeds] each."""
    found = []
    for protocol, options, seeds in splits:
        label = ", ".join(f"{name} {value}" for name, value in options.items())
        found.append(Place(PROTOCOLS[protocol].split(study.rows, **options), label or "one split", tuple(seeds)))
    return found


def ranked(study: Experiments, names: Sequence[str], settings: str, device: str) -> list[RankedModel]:
    """The models of these names."""
    return [RankedModel(study, name, settings, device) for name in names]


def values_of(models: Sequence[RankedModel], places: Sequence[Place]) -> dict[str, dict[tuple[int, int], np.ndarray]]:
    """By title, the values of every specification for every user; models of which a wanted run is not stored are left out."""
    asked, found = [specifications(place.split) for place in places], {}
    for model in models:
        stored = model.ranks(places)
        if len(stored) == len(model.wanted(places)):
            found[model.title] = {
                (at, seed): measured(places[at].split, twice, asked[at]) for (at, seed), twice in stored.items()
            }
    return found


def users_of(models: Sequence[RankedModel], places: Sequence[Place], asked: Specification, column: str) -> pd.DataFrame:
    """Users' values of one specification: columns model, split (the place's label), seed (its number there), user, `column`.

    Models of which a wanted run is not stored are left out.
    """
    parts = [pd.DataFrame(columns=["model", "split", "seed", "user", column])]
    for model in models:
        stored = model.ranks(places)
        for (at, seed), twice in stored.items() if len(stored) == len(model.wanted(places)) else ():
            split = places[at].split
            known = {"model": model.title, "split": places[at].label, "seed": seed, "user": np.unique(split.test.users)}
            parts.append(pd.DataFrame({**known, column: measured(split, twice, [asked])[0]}))
    return pd.concat(parts, ignore_index=True)


def lacking(models: Sequence[RankedModel], values: Mapping[str, object], notebook: str) -> str:
    """A sentence that names the models without stored ranks and says how to get them; that there are none, where all are there."""
    names = [model.title for model in models if model.title not in values]
    if not names:
        return f"Ranks are stored of all {len(models)} models."
    return (
        f"Of {len(models)} models, {len(names)} have no ranks stored for these data, settings and splits: {', '.join(names)}. "
        f"`make store NOTEBOOK={notebook}` trains them and stores their ranks."
    )
