"""The models of a run: what validation chooses for them, and each of them fitted once."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from pathlib import Path
from time import process_time

import pandas as pd

from pipeline.chapters.store import Selection
from recsys_core.interactions import Interactions
from recsys_core.judging import judge, judge_among
from recsys_core.models.base import Recommender
from recsys_core.protocols import PROTOCOLS
from recsys_core.splits import Split


class Fits:
    """The models of one run by seed, each fitted when it is first asked for.

    Validation chooses on the training rows of `chooser` (None: of `split` itself) with seed 0; the models learn from the training
    and validation rows of `split`. Under a protocol that leaks as a report did, validation chooses for each seed, and the model
    learns from the training rows alone. What is chosen already is given as `selections`; `stop_after` see `Recommender.fit`;
    `checkpoint` says where a training keeps how far it is, so that it can go on when it was stopped.
    """

    def __init__(
        self,
        model: Recommender,
        split: Split,
        selections: dict[int, Selection],
        stop_after: int | None,
        checkpoint: Callable[[str], Path | None] = lambda what: None,
        chooser: Split | None = None,
    ) -> None:
        self.model, self.split, self.stop_after, self.checkpoint = model, split, stop_after, checkpoint
        self.chooser = chooser or split
        self.protocol = PROTOCOLS[split.protocol]
        self.selections = dict(selections)
        self.fitted: dict[int, Recommender] = {}
        self.seconds: dict[int, float | None] = {}

    def forget(self) -> None:
        """Drop what was chosen and fitted."""
        self.selections, self.fitted = {}, {}

    def selection(self, seed: int) -> Selection:
        """What validation chooses for a seed."""
        key = self.selecting(seed)
        if key not in self.selections:
            self.selections[key] = selected(self.model, self.chooser, key, self.checkpoint(f"selection-{key}"))
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
            model, checkpoint = with_chosen(self.model, self.selection(seed)), self.checkpoint(f"{seed}")
            fit = partial(model.fit, self.rows, None, seed, checkpoint=checkpoint, stop_after=self.stop_after)
            self.fitted[seed], self.seconds[seed] = timed(fit, checkpoint)
        return self.fitted[seed]


def with_chosen(model: Recommender, selection: Selection) -> Recommender:
    """An unfitted copy of a model with what validation chose."""
    settings = {name: getattr(model, name) for name in model.hyperparameters}  # nested models stay models
    return type(model)(**settings | selection.chosen)


def timed(fit: Callable[[], Recommender], checkpoint: Path | None) -> tuple[Recommender, float | None]:
    """A fitted model and the processor time that it took; None where it went on from a checkpoint, of which the rest is known."""
    resumed, start = checkpoint is not None and checkpoint.exists(), process_time()
    fitted = fit()
    return fitted, None if resumed else process_time() - start


def selected(model: Recommender, split: Split, seed: int, checkpoint: Path | None = None) -> Selection:
    """Fit on the training rows, validated, and return what the validation rows chose."""
    if not model.chooses or not len(split.validation):
        return Selection({})
    rows = (split.train, split.validation, seed, split.validation_history)
    drawn = split.negatives if split.among_negatives else None
    judges = judge if drawn is None else partial(judge_among, drawn)
    fitted, seconds = timed(partial(copy(model).fit, *rows, checkpoint=checkpoint, judge=judges), checkpoint)
    history = fitted.history_
    curve = None if history is None or not history.epochs else pd.DataFrame(history.epochs)
    return Selection(fitted.chosen, curve, {} if history is None else history.path, seconds)
