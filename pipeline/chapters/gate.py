"""The gate between a fresh run and the stored one: what must agree, how closely, and the log of what was compared.

Networks are chaotic: the seventh digit, in which processors differ, moves a final metric by hundredths. What gates is therefore

    exact    hashes of the rows as fitted and of the first batch; metrics of given scores, to 1e-9; models without chance,
             to 1e-6 of the value (files hold six decimals); solved ones (alternating least squares, the trace of a sampler), 1e-4
    path     the loss after 1, 10 and 100 updates and after the first epoch, within 3 × the largest spread that was measured over
             three settings of floating-point arithmetic (`reports/stored/tolerances.json`)
    end      one main metric a run, within the prediction interval of a further seed: mean ± t · s · √(1 + 1/n), with the deviation
             s pooled over the stored seeds of the model's family and the level 1 % shared (Bonferroni, which is the first step of
             Holm's method) by all runs that are compared

and, at the end of a study, the mean of all z of `end`, which a systematic error moves although each run stays within its interval.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pipeline.chapters.store import Cell, Run, Store
from recsys_core.interactions import Interactions
from recsys_core.models.base import FitTask, Recommender
from recsys_core.models.registry import class_named
from recsys_core.models.traits import Traits
from recsys_core.protocols import PROTOCOLS

GIVEN, EXACT, SOLVED = 1e-9, 1e-6, 1e-4  # relative
ROUNDING = 1.1e-6  # imported runs have six decimals
LEVEL = 0.01
LEAST_FREEDOM = 12
PAIR = ["variant", "metric", "value stored", "value now"]
TOLERANCES = Path("reports/stored/tolerances.json")


@dataclass(frozen=True)
class Check:
    """One comparison: `deviation` and `allowed` are in the unit of `stored` and `now`."""

    what: str
    kind: str
    stored: float | str
    now: float | str
    deviation: float
    allowed: float
    z: float = np.nan

    @property
    def confirmed(self) -> bool:
        """Whether the two agree as closely as they must."""
        return self.deviation <= self.allowed

    def __str__(self) -> str:
        shown = [each if isinstance(each, str) else f"{each:.6g}" for each in (self.now, self.stored)]
        return f"{self.what}: {shown[0]} now, {shown[1]} stored, {self.deviation:.2g} apart, {self.allowed:.2g} allowed"


def number(what: str, kind: str, stored: float, now: float, allowed: float, z: float = np.nan) -> Check:
    """Compare two numbers of which both may be NaN, where a share of the stored one is allowed, too."""
    same = np.isnan(stored) and np.isnan(now)
    deviation = 0.0 if same else abs(now - stored)
    deviation, allowed = np.inf if np.isnan(deviation) else deviation, 0.0 if np.isnan(allowed) else allowed
    return Check(what, kind, stored, now, deviation, allowed, z)


def identical(what: str, stored: str, now: str) -> Check:
    """Compare two hashes, of which the first digits are shown."""
    return Check(what, "exact", stored[:12], now[:12], float(stored != now), 0.0)


@dataclass(kw_only=True)
class GivenScores(Recommender):
    """Scores and stars that follow from the codes of user and item by whole numbers, the same on every machine and without ties."""

    traits: ClassVar[Traits] = Traits(form="counts", folds_in=True, predicts_ratings=True)

    def _fit(self, task: FitTask) -> None:
        self.n_items = task.train.n_items

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        codes = users.cpu().double()[:, None] * self.n_items + torch.arange(self.n_items)
        return (codes * 7_919 + 13) % 1_000_003 / 1_000_003

    def _ratings(self, users: Tensor, items: Tensor, history: Interactions) -> Tensor:
        return 1 + 4 * ((users.cpu().double() * self.n_items + items.cpu()) * 7_919 % 1_000_003 / 1_000_003)


class Gate:
    """Compares fresh runs with those of a store; `note` is told of each comparison."""

    def __init__(self, root: Path, store: Store, note: Callable[[list[dict[str, Any]]], None]) -> None:
        self.store, self.note = store, note
        path = root / TOLERANCES
        self.tolerances: dict[str, float] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def passes(self, checks: list[Check]) -> list[Check]:
        """Note the checks; return those that contradict what is stored."""
        self.note([asdict(check) for check in checks])
        return [check for check in checks if not check.confirmed]

    def beginning(self, what: str, stored: Run, fresh: Run) -> list[Check]:
        """Compare what two trainings were made of and how they began: rows, first batch, epochs, parameters, path of the loss."""
        checks = [
            identical(f"{what}, {name}", stored.exact[name], fresh.exact[name])
            for name in sorted(stored.exact.keys() & fresh.exact.keys())
        ]
        counts = [(name, stored.facts.get(name), np.nan if now is None else now) for name, now in fresh.facts.items()]
        checks += [number(f"{what}, {name}", "exact", old, now, 0) for name, old, now in counts if old is not None]
        return checks + self.paths(what, stored.path, fresh.path)

    def paths(self, what: str, stored: dict[str, float], fresh: dict[str, float]) -> list[Check]:
        """Compare two paths of the loss; a stored step that the fresh one lacks contradicts."""
        shares = {step: SOLVED if step.startswith("noise") else self.tolerances.get(step, 0) for step in stored}
        allowed = {step: abs(value) * shares[step] for step, value in stored.items()}
        return [
            number(f"{what}, {step}", "path", value, fresh.get(step, np.nan), allowed[step])
            for step, value in stored.items()
        ]

    def given(self, what: str, stored: Run, fresh: Run) -> list[Check]:
        """Compare what the same scores are worth, metric by metric, and the rows."""
        checks = [identical(f"{what}, rows", stored.exact["rows"], fresh.exact["rows"])]
        pairs = stored.metrics.merge(fresh.metrics, "outer", ["variant", "metric"], suffixes=(" stored", " now"))
        return checks + [
            number(f"{what} {variant}, {metric}", "exact", old, now, GIVEN * max(1.0, abs(old)))
            for variant, metric, old, now in pairs[PAIR].itertuples(index=False)
        ]

    def end(self, what: str, model: Recommender, cell: Cell, fresh: Run) -> list[Check]:
        """Compare what was measured: every metric of a model without chance, the main one of any other."""
        stored, protocol = cell.runs[fresh.seed], PROTOCOLS[cell.identity.protocol]
        main = protocol.main_of(set(fresh.metrics["metric"]))
        if model.chaotic:
            return [self.predicted(f"{what}, {main}", main, cell, fresh)]
        share = SOLVED if model.own_traits.stochastic else EXACT
        pairs = stored.metrics.merge(fresh.metrics, "left", ["variant", "metric"], suffixes=(" stored", " now"))
        pairs = pairs[(pairs["metric"] == main) | (not model.own_traits.stochastic)]
        return [
            number(f"{what} {variant}, {metric}", "exact", old, now, share * abs(old) + ROUNDING)
            for variant, metric, old, now in pairs[PAIR].itertuples(index=False)
        ]

    def predicted(self, what: str, metric: str, cell: Cell, fresh: Run) -> Check:
        """Whether another seed's value of this cell could be that of the fresh run."""
        from scipy import stats

        values = np.array([run.value(metric) for run in cell.runs.values()])
        deviation, freedom = self.spread(cell.identity.protocol, metric, cell.identity.model)
        error = deviation * np.sqrt(1 + 1 / len(values))
        now, mean = fresh.value(metric), float(values.mean())
        quantile = float(stats.t.ppf(1 - LEVEL / self.n_compared / 2, freedom))
        return number(what, "end", mean, now, quantile * error + ROUNDING, (now - mean) / error if error else np.nan)

    def spread(self, protocol: str, metric: str, model: str) -> tuple[float, int]:
        """Standard deviation of a metric over seeds and its degrees of freedom: pooled over the family's cells under the protocol.

        A model says its family where it is registered. Where its seeds are too few, all models under the protocol are pooled.
        """
        found = [each for each in self._deviations if each[:2] == (protocol, metric)]
        family = [each for each in found if each[2] == _family(model)]
        mine = family if sum(n - 1 for *_, n in family) >= LEAST_FREEDOM else found
        freedom = sum(n - 1 for *_, n in mine)
        squares = sum((n - 1) * variance for *_, variance, n in mine)
        return (float(np.sqrt(squares / freedom)), freedom) if freedom else (0.0, 1)

    @cached_property
    def _deviations(self) -> list[tuple[str, str, str, float, int]]:
        """Protocol, main metric, family, variance over seeds and number of seeds of every cell of a network with several."""
        rows = []
        for content in self.store.contents():
            runs, protocol = content["runs"], content["identity"]["protocol"]
            if len(runs) < 2 or protocol not in PROTOCOLS:
                continue
            metrics = [_by_metric(run["metrics"]) for run in runs.values()]
            metric = PROTOCOLS[protocol].main_of(metrics[0])
            values = [each[metric] for each in metrics if each.get(metric) is not None]
            if len(values) > 1:
                family = _family(content["identity"]["model"])
                rows.append((protocol, metric, family, float(np.var(values, ddof=1)), len(values)))
        return rows

    @cached_property
    def n_compared(self) -> int:
        """Cells whose end is compared when a study is made: those of networks whose beginning is stored."""
        contents = (each for each in self.store.contents() if each["identity"]["protocol"] in PROTOCOLS)
        cells = (content["runs"].values() for content in contents)
        return max(1, sum(any(run["path"] for run in runs) for runs in cells))


def _by_metric(metrics: dict[str, dict[str, list[float]]]) -> dict[str, float]:
    """Metric → value of the first variant by name that has it, as `Run.value` takes it."""
    return {name: values[0] for variant in sorted(metrics, reverse=True) for name, values in metrics[variant].items()}


def _family(model: str) -> str:
    """The family of a registered class of this name; any other model is a family of its own."""
    kind = class_named(model)
    return model if kind is None else kind.family
