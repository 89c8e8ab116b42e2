"""Several settings of one model: each is judged on validation rows, all of it is kept, and the best goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from time import process_time
from typing import Any

import pandas as pd

from pipeline.chapters.experiment import Experiments
from pipeline.chapters.store import described
from recsys_core import evaluate
from recsys_core.models.base import Recommender
from recsys_core.splits import Split

TRIED, CURVE = "tried", "curve"  # roles of rows
LENGTH = ("epochs", "patience", "validation_users")  # settings that say how long to train, and how that is judged
COLUMNS = ["model", "settings", "epochs", "ndcg@10", "minutes", "chosen"]


@dataclass(frozen=True)
class Choice:
    """The best of several candidates, unfitted, a line for each of them (see `COLUMNS`; minutes of processor time), and its curve.

    The curve is that of a network by epoch, None for a model that has no epochs.
    """

    model: Recommender
    lines: pd.DataFrame
    curve: pd.DataFrame | None = None

    def note(self, study: Experiments, name: str, split: Split) -> None:
        """Add what was tried to the notebook's results, and the curve of the best, as rows of the roles `TRIED` and `CURVE`."""
        study.note(
            name,
            split,
            TRIED,
            self.lines.set_index("settings")[["epochs", "ndcg@10", "minutes", "chosen"]].astype(float),
        )
        if self.curve is not None:
            epochs = [f"epoch {epoch:03.0f}" for epoch in self.curve["epoch"]]
            study.note(name, split, CURVE, self.curve.drop(columns="epoch").set_axis(epochs))


def choose(study: Experiments, name: str, candidates: Sequence[Recommender], split: Split) -> Choice:
    """The candidate with the best NDCG@10 on the split's validation rows, among all films not seen or as the split says.

    A network counts with its best epoch. Nothing is measured on test, and what was found is kept, so that nothing is fitted twice.
    """
    found = [_judged(study, name, place, model, split) for place, model in enumerate(candidates)]
    best = max(range(len(found)), key=lambda place: found[place]["ndcg@10"])
    lines = [
        {"model": name, "settings": told(described(model)["settings"])} | line | {"chosen": place == best}
        for place, (model, line) in enumerate(zip(candidates, found))
    ]
    curve = study.validated(name, candidates[best], split).curve if candidates[best].chooses else None
    return Choice(candidates[best], pd.DataFrame(lines, columns=COLUMNS), curve)


def _judged(study: Experiments, name: str, place: int, model: Recommender, split: Split) -> dict[str, float]:
    """Epochs (0: there are none), NDCG@10 on validation and minutes of one candidate."""
    if not model.chooses:
        made_from = [described(model), split.sha256, study.data.sha256]
        kept_as = f"{name}, candidate {place}"
        return dict(study.keep(kept_as, lambda: _solved(model, split), made_from=made_from))
    selection = study.validated(name, model, split)
    assert selection.curve is not None
    best = selection.curve.sort_values("ndcg@10", kind="stable").iloc[-1].to_dict()
    minutes = float("nan") if selection.seconds is None else selection.seconds / 60
    return {"epochs": int(best["epoch"]), "ndcg@10": float(best["ndcg@10"]), "minutes": minutes}


def _solved(model: Recommender, split: Split) -> dict[str, float]:
    start = process_time()
    fitted = copy(model).fit(split.train)
    minutes = (process_time() - start) / 60
    negatives = split.negatives if split.among_negatives else None
    task = evaluate.RankingTask(split.train, split.validation, negatives=negatives, cutoffs=(10,))
    return {"epochs": 0, "ndcg@10": evaluate.mean_ndcg(fitted, task), "minutes": minutes}


def told(settings: Mapping[str, Any]) -> str:
    """Settings in words, those that are not at their default as the store describes a model, without `LENGTH`."""
    words = [f"{name.replace('_', ' ')} {value}" for name, value in settings.items() if name not in LENGTH]
    return ", ".join(words) or "defaults"
