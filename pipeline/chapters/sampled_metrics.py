"""What is measured among a few drawn films, beside what is measured among all: the experiment of Krichene & Rendle (KDD 2020).

A user's one held-out film has `above` films before it and `tied` ones beside it among all those that the user has not seen. Among
m of them, drawn without repetition, both counts are hypergeometric, so that nothing has to be scored again: a table of many draws
of many sizes is made from one full ranking. Each draw puts tied films in a random order. Elsewhere in the study they count half,
which among few films says too much: somebody whose ten drawn films are all tied with the held-out one has it at rank 6 for sure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import ClassVar

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy import sparse
from torch import Tensor

from pipeline.chapters import parity, plots
from recsys_core import metrics
from recsys_core.errors import StudyError
from recsys_core.evaluate import RankingTask
from recsys_core.interactions import Interactions
from recsys_core.models.base import FitTask, Recommender
from recsys_core.models.ials import IALS
from recsys_core.models.neighbours import blocks, cosines, nearest
from recsys_core.models.traits import Traits
from recsys_core.splits import Split
from recsys_core.statistics import paired_interval

CUTOFF = 10
SIZES = (10, 30, 100, 300, 1000)
METRICS = {f"recall@{CUTOFF}": f"Recall@{CUTOFF}", f"ndcg@{CUTOFF}": f"NDCG@{CUTOFF}", "ap": "AP", "auc": "AUC"}
EVERYTHING = "all"
SAMPLED, SD = "sampled", " sd"  # role of rows, and how the deviation of a metric is called there


@dataclass(kw_only=True)
class ItemSimilarities(Recommender):
    """Item-based filtering as Deshpande & Karypis 2004 have it: every film of the history speaks for its nearest films.

        score(u, i) = Σ_j w_ji,    w_ji = cos(j, i)^p / Σ_l cos(j, l)^p,    over films j that u has seen whose k nearest i is among

    `power` is p, `n_neighbours` is k (None: all films). With `normalised`=False the sum in the denominator is left out, so that
    films with many near ones speak louder. The study's own item kNN differs: there j has to be among the nearest of i.
    """

    traits: ClassVar[Traits] = Traits(form="linear", folds_in=True)

    power: int = 1
    n_neighbours: int | None = None
    normalised: bool = True

    def _fit(self, task: FitTask) -> None:
        by_item, kept = task.train.binary.T.tocsr(), []
        for first, block in blocks(by_item, by_item):
            weights, own = cosines(block, by_item, 0.0) ** self.power, np.arange(block.shape[0])
            weights[own, first + own] = 0
            kept.append(nearest(weights, self.n_neighbours or by_item.shape[0]))
        weights = sparse.vstack(kept, "csr")
        sums = np.asarray(weights.sum(axis=1), np.float64).ravel() if self.normalised else np.ones(weights.shape[0])
        self.weights = sparse.diags_array(1 / np.maximum(sums, 1e-12)).astype(np.float32) @ weights  # (I, I)

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return torch.from_numpy((history.binary[users.cpu().numpy()] @ self.weights).toarray())

    def _state(self) -> dict[str, Tensor]:
        return {}


# The three recommenders X, Y and Z of the paper. Its words on Y and Z ("cosine cubed", "10 nearest") leave the weights open.
MODELS: dict[str, Callable[[], Recommender]] = {
    "iALS, 16 factors": partial(
        IALS, embedding_dim=16, regularisation=10.0, regularisation_exponent=0.0, unobserved_weight=0.2
    ),
    "Item CF, cosine³": partial(ItemSimilarities, power=3),
    "Item kNN, 10 nearest": partial(ItemSimilarities, n_neighbours=10),
}
# The same Y and Z without the weights' denominator.
NOT_NORMALISED: dict[str, Callable[[], Recommender]] = {
    "Item CF, cosine³, plain sum": partial(ItemSimilarities, power=3, normalised=False),
    "Item kNN, 10 nearest, plain sum": partial(ItemSimilarities, n_neighbours=10, normalised=False),
}


def fitted_standings(
    split: Split, models: Mapping[str, Callable[[], Recommender]], seed: int = 0
) -> dict[str, Standings]:
    """Fit each model on all rows that are not test rows, and rank the held-out films; one model is in memory at a time."""
    task = RankingTask(split.refit, split.test)
    return {name: standings(make().fit(split.refit, seed=seed), task) for name, make in models.items()}


@dataclass(frozen=True)
class Standings:
    """Where the held-out film of each of B users stands: films before it, films of its score, and all that it is compared with.

    `above`, `tied` and `others` are (B,) int64 counts; the film itself is in none of them.
    """

    above: np.ndarray
    tied: np.ndarray
    others: np.ndarray

    @property
    def ranks(self) -> np.ndarray:
        """(B,) ranks from 1 on; films of the same score count half."""
        return 1 + self.above + self.tied / 2

    def drawn(self, n_negatives: int, generator: np.random.Generator) -> Standings:
        """The same among so many different films drawn at random for each user, or all where a user has fewer."""
        n_drawn = np.minimum(n_negatives, self.others)
        below = self.others - self.above - self.tied
        above = generator.hypergeometric(self.above, self.tied + below, n_drawn)
        return Standings(above, generator.hypergeometric(self.tied, below, n_drawn - above), n_drawn)

    def untied(self, generator: np.random.Generator) -> Standings:
        """The same with films of one score in a random order: any number of the tied ones, each as likely, comes first."""
        return Standings(self.above + generator.integers(0, self.tied + 1), np.zeros_like(self.tied), self.others)

    def values(self) -> pd.DataFrame:
        """A row a user and a column for each of `METRICS`; AP, of one held-out film, is 1 / rank."""
        hits = metrics.Hits(np.arange(len(self.above)), self.ranks, np.ones(len(self.above), np.int64))
        gains = [metrics.recall(hits, CUTOFF), metrics.ndcg(hits, CUTOFF), 1 / self.ranks]
        return pd.DataFrame(dict(zip(METRICS, [*gains, 1 - (self.ranks - 1) / self.others])))


def standings(model: Recommender, task: RankingTask) -> Standings:
    """Rank every user's held-out film among all that the user has not seen; users in ascending order.

    Raises StudyError for a task whose users have another number of test rows than one.
    """
    if (task.test.user_counts[task.asked] != 1).any():
        raise StudyError(
            "Sampled metrics are drawn from the rank of one held-out film a user: use a leave-one-out split."
        )
    film = np.empty(task.test.n_users, np.int64)
    film[task.test.users] = task.test.items
    parts: list[np.ndarray] = []
    for users in task.batches():
        told, attributes = model.told_of(users, task.seen, task.history)
        with torch.inference_mode():
            scores = task.candidates(model.score(torch.as_tensor(users), told, attributes).clone(), users).cpu()
        own = scores.gather(1, torch.as_tensor(film[users])[:, None])
        counts = [(scores > own).sum(1), (scores == own).sum(1) - 1, (scores > -torch.inf).sum(1) - 1]
        parts.append(np.stack([users, *(count.numpy() for count in counts)]))
    counted = np.concatenate(parts, axis=1)  # (4, B): users and the three counts
    return Standings(*counted[1:, np.argsort(counted[0])])


def drawn_values(
    exact: Standings, size: int | None, n_draws: int, generator: np.random.Generator
) -> list[pd.DataFrame]:
    """What `Standings.values` gives for each of so many draws of `size` films, None for all films; ties are in a random order."""
    draws = range(n_draws)
    return [(exact if size is None else exact.drawn(size, generator)).untied(generator).values() for _ in draws]


def sampled_metrics(
    models: Mapping[str, Standings], sizes: Sequence[int] = SIZES, n_draws: int = 20, seed: int = 0
) -> pd.DataFrame:
    """Every metric among so many drawn films and among all: columns model, negatives, metric, value, sd, se, draws.

    `negatives` is a text, "all" for the exact metric, of which only ties are drawn. `value` is the mean over the draws of the mean
    over users, `sd` its deviation from draw to draw, `se` the standard error over users. Each model has draws of its own.
    """
    rows = []
    for place, (name, exact) in enumerate(models.items()):
        generator = np.random.default_rng([seed, place])
        for size in (*sizes, None):
            draws = np.stack(
                [draw.to_numpy() for draw in drawn_values(exact, size, n_draws, generator)]
            )  # (draws, B, metrics)
            means, of_users = draws.mean(axis=1), draws.mean(axis=0)
            error = of_users.std(axis=0, ddof=1) / np.sqrt(len(of_users))
            label = EVERYTHING if size is None else str(size)
            for metric, *values in zip(METRICS, means.mean(axis=0), means.std(axis=0, ddof=1), error):
                rows.append((name, label, metric, *values, n_draws))
    return pd.DataFrame(rows, columns=["model", "negatives", "metric", "value", "sd", "se", "draws"])


def in_order(table: pd.DataFrame, metric: str) -> pd.Series:
    """The models from best to worst by `metric`, as a tuple for each number of negatives of a table of `sampled_metrics`."""
    rows = table[table["metric"] == metric].sort_values("value", ascending=False, kind="stable")
    return rows.groupby("negatives", sort=False)["model"].agg(tuple).reindex(table["negatives"].unique())


def consistent_from(table: pd.DataFrame, metric: str) -> str | None:
    """The smallest number of negatives from which on all models are in the order that all films give; None where none is."""
    orders = in_order(table, metric)
    right = np.array([order == orders[EVERYTHING] for order in orders.drop(EVERYTHING)])
    always = np.logical_and.accumulate(right[::-1])[::-1]
    return str(orders.index[int(always.argmax())]) if always.any() else None


def differences(
    models: Mapping[str, Standings], metric: str, sizes: Sequence[int] = (100,), n_draws: int = 20, seed: int = 0
) -> pd.DataFrame:
    """Each pair of models, user by user, among all films and among so many drawn ones, with 95 % intervals by bootstrap over users.

    Columns model, rival, negatives, difference (model minus rival), low, high. Values are a user's means over the draws.
    """
    rows = []
    for size in (None, *sizes):
        values = {}
        for place, (name, exact) in enumerate(models.items()):
            draws = drawn_values(exact, size, n_draws, np.random.default_rng([seed, place]))
            values[name] = np.mean([draw[metric].to_numpy() for draw in draws], axis=0)
        for one, other in combinations(models, 2):
            label = EVERYTHING if size is None else str(size)
            rows.append((one, other, label, *paired_interval(values[one], values[other])))
    return pd.DataFrame(rows, columns=["model", "rival", "negatives", "difference", "low", "high"])


def beside_paper(table: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """A line for each figure of the paper: model, metric, published, ours, difference, verdict (see `parity.verdict`).

    `published` has name, metric, value, below and above, as `Notebook.read_references` gives them; a metric among drawn films is
    called "recall@10, 100 negatives" there.
    """
    among = np.where(table["negatives"] == EVERYTHING, "", ", " + table["negatives"].astype(str) + " negatives")
    keys = {"name": table["model"].map(parity.reference_name), "metric": table["metric"] + among}
    ours = table[["model", "value"]].rename(columns={"value": "ours"}).assign(**keys)
    lines = published.merge(ours, on=["name", "metric"])
    lines = lines.assign(difference=lines["ours"] - lines["value"])
    bands = zip(lines["ours"], lines["value"] - lines["below"], lines["value"] + lines["above"])
    lines["verdict"] = [parity.verdict(*band) for band in bands]
    return lines.rename(columns={"value": "published"})[
        ["model", "metric", "published", "ours", "difference", "verdict"]
    ]


def figure(table: pd.DataFrame, title: str, shown: Mapping[str, str] = METRICS) -> Figure:
    """Each metric as a multiple of one model's, the first of `MODELS` that is there, against the number of negatives.

    Where two lines cross, the order of their models turns round. Bands are two standard deviations from draw to draw.
    """
    sizes, models = list(table["negatives"].unique()), plots.shades(dict.fromkeys(table["model"]))
    whole = next((name for name in MODELS if name in models), next(iter(models)))
    drawn, panels = plt.subplots(-(-len(shown) // 2), 2, figsize=(plots.WIDTH_INCHES, 6.0), sharex=True)
    for (metric, label), axes in zip(shown.items(), np.ravel(panels)):
        rows = table[table["metric"] == metric]
        values, spreads = (rows.pivot_table(what, "model", "negatives")[sizes] for what in ("value", "sd"))
        for name, shade in models.items():
            share, band = (part.loc[name].to_numpy() / values.loc[whole].to_numpy() for part in (values, spreads))
            axes.plot(range(len(sizes)), share, "o-", color=shade, markersize=5, label=name)
            axes.fill_between(range(len(sizes)), share - 2 * band, share + 2 * band, color=shade, alpha=0.2)
        axes.set_xticks(range(len(sizes)), [f"{int(size):,}" if size.isdigit() else size for size in sizes])
        axes.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1, decimals=0))
        axes.set_title(label, fontsize=11, loc="left")
        axes.grid(axis="y", alpha=0.3)
    for axes in np.atleast_2d(panels)[-1]:
        axes.set_xlabel("Films drawn beside the held-out one")
    drawn.supylabel(f"Share of what {whole} has", fontsize=11)
    drawn.legend(*np.ravel(panels)[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(models))
    drawn.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return drawn


def to_notes(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """A table of `sampled_metrics` as `Experiments.note` takes it, by model: index negatives, columns each metric and its sd."""
    wide = table.pivot_table(["value", "sd"], ["model", "negatives"], "metric", sort=False)
    both = wide["value"].join(wide["sd"].add_suffix(SD))
    return {str(model): both.xs(model) for model in both.index.unique(0)}


def from_notes(results: pd.DataFrame) -> pd.DataFrame:
    """The table again from results that hold such notes, models after one another for each number of negatives, all films last."""
    rows = results[results["role"] == SAMPLED].rename(columns={"variant": "negatives"})
    rows = rows[["model", "negatives", "metric", "value"]]
    is_sd = rows["metric"].str.endswith(SD)
    spread = rows[is_sd].assign(metric=rows["metric"].str.removesuffix(SD)).rename(columns={"value": "sd"})
    table = rows[~is_sd].merge(spread, "left", ["model", "negatives", "metric"])
    size = table["negatives"].replace(EVERYTHING, "inf").astype(float)
    return table.assign(size=size).sort_values(["size", "model"], kind="stable", ignore_index=True).drop(columns="size")
