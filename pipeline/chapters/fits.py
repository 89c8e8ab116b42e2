"""The models of a run: what validation chooses for them, and each of them fitted once."""

from __future__ import annotations

from copy import copy

import pandas as pd

from pipeline.chapters.store import Selection
from recsys_core.interactions import Interactions
from recsys_core.judging import judge
from recsys_core.models.base import Recommender
from recsys_core.protocols import PROTOCOLS
from recsys_core.splits import Split


class Fits:
    """The models of one run by seed, each fitted when it is first asked for.

    Validation chooses on the training rows with seed 0; the models learn from these and the validation rows. Under a protocol that
    leaks as a report did, validation chooses for each seed, and the model learns from the training rows alone. What is chosen
    already is given as `selections`; `stop_after` see `Recommender.fit`.
    """

    def __init__(
        self, model: Recommender, split: Split, selections: dict[int, Selection], stop_after: int | None
    ) -> None:
        self.model, self.split, self.stop_after = model, split, stop_after
        self.protocol = PROTOCOLS[split.protocol]
        self.selections = dict(selections)
        self.fitted: dict[int, Recommender] = {}

    def forget(self) -> None:
        """Drop what was chosen and fitted."""
        self.selections, self.fitted = {}, {}

    def selection(self, seed: int) -> Selection:
        """What validation chooses for a seed."""
        key = self.selecting(seed)
        if key not in self.selections:
            self.selections[key] = selected(self.model, self.split, key)
        return self.selections[key]

    def selecting(self, seed: int) -> int:
        """The seed with which validation chooses for a seed."""
        return seed if self.protocol.leaks else 0

    @property
    def rows(self) -> Interactions:
        """What the models learn from."""
        return self.protocol.final_rows(self.split)

    def of(self, seed: int) -> Recommender:
        """The model of a seed."""
        if seed not in self.fitted:
            model = with_chosen(self.model, self.selection(seed))
            self.fitted[seed] = model.fit(self.rows, None, seed, stop_after=self.stop_after)
        return self.fitted[seed]


def with_chosen(model: Recommender, selection: Selection) -> Recommender:
    """An unfitted copy of a model with what validation chose."""
    settings = {name: getattr(model, name) for name in model.hyperparameters}  # nested models stay models
    return type(model)(**settings | selection.chosen)


def selected(model: Recommender, split: Split, seed: int) -> Selection:
    """Fit on the training rows, validated, and return what the validation rows chose."""
    if not model.chooses or not len(split.validation):
        return Selection({})
    fitted = copy(model).fit(split.train, split.validation, seed, split.validation_history, judge=judge)
    history = fitted.history_
    curve = None if history is None or not history.epochs else pd.DataFrame(history.epochs)
    return Selection(fitted.chosen, curve, {} if history is None else history.path)
