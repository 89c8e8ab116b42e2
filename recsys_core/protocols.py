"""The protocols: how each one splits, what is measured under it, what validates, and what else sets it apart from the others.

A number means nothing without its protocol. Under all but `as-reported` the epoch is chosen on validation with seed 0 (whose
says `epochs_of`), every seed is then refitted on training + validation rows for that many epochs, and test is read once.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from inspect import signature
from typing import Any

import numpy as np

from recsys_core import splits
from recsys_core.datasets import Benchmark
from recsys_core.errors import StudyError, refuse_unknown
from recsys_core.interactions import Interactions
from recsys_core.splits import Split

RANKING = ("hit_ratio", "ndcg", "mrr", "map", "recall", "recall_capped", "precision")
BEYOND_ACCURACY = ("diversity", "coverage", "exposure_gini", "novelty", "popularity_bias")


def _at(names: tuple[str, ...], *cutoffs: int) -> tuple[str, ...]:
    return tuple(f"{name}@{cutoff}" for cutoff in cutoffs for name in names)


@dataclass(frozen=True)
class Protocol:
    """One way to evaluate a model, from the split to the numbers.

    `splitter` makes a split of coded rows, and `variants` holds the options of each split that is measured. On test rows, lists
    are measured by the metrics of `ranking` and, if `rating`, predicted stars by their errors; `main` is the metric that is checked
    and compared. `validation` tells settings apart on validation rows: "rmse" or "ndcg@K". Each pair of `relevance` is a suffix of
    the variant and the least number of stars of a relevant row. `published` names the options that a data set with published test
    rows fills.
    """

    name: str
    splitter: Callable[..., Split]
    ranking: tuple[str, ...] = ()
    rating: bool = False
    main: str = "ndcg@10"
    validation: str = "ndcg@10"
    relevance: tuple[tuple[str, float], ...] = (("", 0.0),)
    variants: tuple[dict[str, Any], ...] = ({},)
    published: tuple[str, ...] = ()
    epochs_of: str = (
        ""  # the protocol whose validation rows choose epochs, of models that read no order; empty: this one's own
    )
    replicates: bool = False  # the variants are replicates, so that one seed each is enough
    # does as a report did: test rows may train, every seed validates, and validation rows do not train
    leaks: bool = False
    cold_apart: bool = False  # users with and without training rows are measured apart, too

    @property
    def cutoffs(self) -> tuple[int, ...]:
        """Cut-offs of the ranking metrics, ascending."""
        return tuple(sorted({int(name.split("@")[1]) for name in self.ranking}))

    def split(self, rows: Interactions, **options: object) -> Split:
        """Split coded rows; `options` are the protocol's own. Raises StudyError for one that it does not have and one it lacks."""
        _, *known = signature(self.splitter).parameters.values()
        allowed = [each.name for each in known]
        if unknown := sorted(options.keys() - allowed):
            raise StudyError(f"Protocol {self.name} has no option {unknown[0]!r}: allowed are {', '.join(allowed)}.")
        if lacking := [each.name for each in known if each.default is each.empty and each.name not in options]:
            raise StudyError(f"Protocol {self.name} needs the option {lacking[0]!r}: split by hand and give the split.")
        return self.splitter(rows, **options)

    def splits(
        self, rows: Interactions, benchmark: Benchmark | None = None, item_ids: np.ndarray | None = None
    ) -> list[Split]:
        """The split of every variant; with a data set's published test rows and its item ids where the protocol takes them."""
        given = {} if benchmark is None else {"benchmark": benchmark, "item_ids": item_ids}
        taken = {name: given[name] for name in self.published if name in given}
        return [self.split(rows, **taken, **variant) for variant in self.variants]

    def final_rows(self, split: Split) -> Interactions:
        """The rows that the measured models are fitted on."""
        return split.train if self.leaks else split.refit

    def main_of(self, measured: Collection[str]) -> str:
        """The main one of the metrics that were measured: of models that were asked for stars alone, the RMSE."""
        return self.main if self.main in measured else "rmse"


_TENTHS, _FOUND = "random-80-10-10", _at(("hit_ratio", "ndcg"), 10)
_NEXT_ITEM = _at(("hit_ratio", "ndcg", "mrr", *BEYOND_ACCURACY), 10, 25)
_IN_READING_ORDER = (
    Protocol(
        "rating-5fold",
        splits.rating_5fold,
        rating=True,
        main="rmse",
        validation="rmse",
        variants=tuple({"fold": fold} for fold in range(1, 6)),
        replicates=True,
    ),
    # one film a user would stop networks before they have learnt to rank
    Protocol("loo-full", splits.loo_full, _NEXT_ITEM, published=("benchmark",), epochs_of=_TENTHS),
    Protocol("loo-sampled", splits.loo_sampled, _FOUND, published=("benchmark", "item_ids"), epochs_of=_TENTHS),
    Protocol(
        "user-holdout",
        splits.user_holdout,
        _at(("map", "recall", "precision"), 25),
        rating=True,
        main="recall@25",
        relevance=(("relevant: rated 4+", 4.0), ("relevant: rated", 0.0)),
        variants=({"fold_in": 0.0}, {"fold_in": 0.8}),
    ),
    Protocol(_TENTHS, splits.random_80_10_10, _at((*RANKING, *BEYOND_ACCURACY), 10, 25), rating=True),
    Protocol(
        "strong-generalization",
        splits.strong_generalization,
        ("recall_capped@20", "recall_capped@50", "ndcg@100"),
        main="ndcg@100",
    ),
    Protocol("temporal", splits.temporal, _NEXT_ITEM, cold_apart=True),
    Protocol("as-reported", splits.as_reported, _FOUND, rating=True, main="hit_ratio@10", leaks=True),
)
PROTOCOLS = {each.name: each for each in _IN_READING_ORDER}


def make_split(protocol: str, interactions: Interactions, **options: object) -> Split:
    """Split by a protocol's name; `options` are that protocol's own (fold, fold_in, seed, …)."""
    refuse_unknown("protocol", protocol, PROTOCOLS)
    return PROTOCOLS[protocol].split(interactions, **options)
