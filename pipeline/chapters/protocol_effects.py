"""What the protocol does to the answer: how alike the boards of two protocols are, and what a flaw of a protocol is worth.

    table = agreement({"random tenth": values, "latest film": others}, main="random tenth")
    inflation(flawed, honest="whole catalogue")

`values` has a row a user and a column a model: `values_of`. Intervals are over users, who are the same in every draw, whatever is
drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from itertools import combinations
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import kendalltau, rankdata

from pipeline.chapters import plots
from pipeline.chapters.boards import Rows
from pipeline.chapters.crossed import MARGIN
from pipeline.chapters.crossed_components import Components, power_table
from recsys_core import evaluate
from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions
from recsys_core.models.base import Recommender
from recsys_core.splits import N_SAMPLED_NEGATIVES, Split
from recsys_core.statistics import percentile_interval, resampled_sums
from recsys_core.train import Validation

METRIC = "ndcg@10"
ALL, ABOVE, BEST, DRAWN = "all models", "better than the popularity list", "the ten best", "ten at random"
POPULATIONS = {ALL: plots.BLUE, ABOVE: plots.GREEN, BEST: plots.VERMILION, DRAWN: plots.GREY}
N_BEST, LEAST, N_DRAWS = 10, 5, 1000
# What is done to a test: the first is the honest way.
HONEST, LEAK, ALL_ROWS = "held-out rows", "test rows train, too", "all rows train and are tested"
WHOLE, UNIFORM, POPULAR = "whole catalogue", "among 99, drawn evenly", "among 99, drawn by popularity"
VALIDATED, ON_TEST = "epoch chosen on validation rows", "epoch chosen on test rows"


def values_of(rows: Rows, metric: str) -> pd.DataFrame:
    """Per-user values of the rows of one protocol and variant: a row a user, a column a model.

    Raises StudyError where a model has several rows of a user.
    """
    users = rows.users.dropna(subset=[metric]).astype({metric: float})
    if users.duplicated(["user", "model"]).any():
        raise StudyError("A model has several rows of a user: give the rows of one protocol, variant and settings.")
    return users.pivot_table(metric, "user", "model")


def spearman(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Rank correlations (…,) of two arrays (…, M) over their last axis."""
    first, second = (rankdata(values, axis=-1) - (values.shape[-1] + 1) / 2 for values in (one, other))
    return np.asarray((first * second).sum(-1) / np.sqrt((first**2).sum(-1) * (second**2).sum(-1)))


def populations(names: Sequence[str], order: pd.Series, popular: str = "Popularity") -> dict[str, list[str]]:
    """Of models that stand on two boards: all, those better than popularity, and the ten best, by the values of `order`.

    Who is among the best is decided on one board for all pairs: to choose by both would make the two disagree. A population that
    would be the same as a larger one, and one of fewer than five models, is left out.
    """
    ranked = [name for name in order.sort_values(ascending=False).index if name in set(names)]
    above = [name for name in ranked if order[name] > order.get(popular, -np.inf)]
    found = {ALL: list(names), ABOVE: above, BEST: above[:N_BEST]}
    sizes = [len(each) for each in found.values()]
    fresh = [size not in sizes[:place] for place, size in enumerate(sizes)]
    return {name: each for (name, each), new in zip(found.items(), fresh) if new and len(each) >= LEAST}


def agreement(boards: Mapping[str, pd.DataFrame], main: str, popular: str = "Popularity") -> pd.DataFrame:
    """Rank correlation of every two boards, and of each with itself: one, other, population, models, spearman, low, high, kendall.

    `low` and `high` are the 95 % interval of Spearman's over users drawn with replacement; of ten models at random, the range over
    draws of models, `spearman` being its mean. A board is held against itself on two halves of its users, see `with_itself`.
    """
    users = pd.Index(np.unique(np.concatenate([board.index for board in boards.values()])))
    draws = {name: _resampled_means(board, users) for name, board in boards.items()}
    order, lines = boards[main].mean(), []
    for one, other in combinations(boards, 2):
        pair = (boards[one], draws[one]), (boards[other], draws[other])
        lines += [(one, other, *line) for line in _pair(*pair, order, popular)]
    for name, board in boards.items():
        for population, names in populations(board.columns.tolist(), order, popular).items():
            lines.append((name, name, population, len(names), with_itself(board[names]), np.nan, np.nan, np.nan))
    columns = ["one", "other", "population", "models", "spearman", "low", "high", "kendall"]
    return pd.DataFrame(lines, columns=columns)


def _pair(
    one: tuple[pd.DataFrame, np.ndarray], other: tuple[pd.DataFrame, np.ndarray], order: pd.Series, popular: str
) -> list[tuple[str, int, float, float, float, float]]:
    """Lines of two boards, each with its means in draws of users: population, models, spearman, low, high, kendall."""
    lines = []
    common = [name for name in one[0].columns.tolist() if name in other[0]]
    for population, names in populations(common, order, popular).items():
        first, second = (board[names].mean().to_numpy(float) for board, _ in (one, other))
        spread = spearman(*(draws[:, board.columns.get_indexer(pd.Index(names))] for board, draws in (one, other)))
        low, high = percentile_interval(spread)
        kendall = float(kendalltau(first, second).statistic)
        lines.append((population, len(names), float(spearman(first, second)), float(low), float(high), kendall))
        if population == ALL and len(names) > N_BEST:
            drawn = _among_ten(first, second)
            low, high = percentile_interval(drawn)
            lines.append((DRAWN, N_BEST, float(drawn.mean()), float(low), float(high), np.nan))
    return lines


def with_itself(values: pd.DataFrame, n_halves: int = 200, seed: int = 0) -> float:
    """The rank correlation that a board would have with itself on as many other users: what chance in users leaves to agree on.

    Mean over random halves of the users, whose boards are correlated; from halves to the whole by Spearman's and Brown's formula,
    2r / (1 + r) (both 1910, British Journal of Psychology 3).
    """
    generator, table = np.random.default_rng(seed), values.dropna().to_numpy()
    halves = [np.array_split(generator.permutation(len(table)), 2) for _ in range(n_halves)]
    means = np.array([[table[half].mean(axis=0) for half in pair] for pair in halves])  # (n_halves, 2, M)
    of_halves = float(spearman(means[:, 0], means[:, 1]).mean())
    return 2 * of_halves / (1 + of_halves)


def _resampled_means(values: pd.DataFrame, users: pd.Index) -> np.ndarray:
    """(n_resamples, M) means over users drawn from all, of those who have values."""
    table = values.reindex(users).to_numpy(float)
    present = ~np.isnan(table)
    return np.asarray(resampled_sums(np.where(present, table, 0.0)) / resampled_sums(present.astype(float)))


def _among_ten(one: np.ndarray, other: np.ndarray, seed: int = 0) -> np.ndarray:
    """(N_DRAWS,) rank correlations of two boards among ten of their M models, drawn at random."""
    keys = np.random.default_rng(seed).random((N_DRAWS, len(one)))
    drawn = keys.argsort(axis=1)[:, :N_BEST]
    return spearman(one[drawn], other[drawn])


def matrix(table: pd.DataFrame, population: str = ALL) -> pd.DataFrame:
    """Of one population: Spearman's above the diagonal, Kendall's below it, and on it each board with itself."""
    rows = table[table["population"] == population]
    names = list(dict.fromkeys([*rows["one"], *rows["other"]]))
    square = pd.DataFrame(np.nan, index=names, columns=names)
    for line in rows.to_dict("records"):
        square.loc[line["other"], line["one"]] = line["kendall"]
        square.loc[line["one"], line["other"]] = line["spearman"]
    return square


def agreement_figure(table: pd.DataFrame, title: str) -> Figure:
    """A row for each pair of boards and each board with itself, a dot and its interval for each population."""
    pairs = list(dict.fromkeys(zip(table["one"], table["other"])))
    drawn, axes = plt.subplots(figsize=(plots.WIDTH_INCHES, 1.6 + 0.5 * len(pairs)))
    shifts = dict(zip(POPULATIONS, np.linspace(-0.27, 0.27, len(POPULATIONS))))
    for line in table.to_dict("records"):
        shade = POPULATIONS[line["population"]]
        row = pairs.index((line["one"], line["other"])) + shifts[line["population"]]
        axes.hlines(row, line["low"], line["high"], color=shade, linewidth=2.5, alpha=0.45)
        axes.plot(line["spearman"], row, "o", color=shade, markersize=5.5)
        axes.annotate(str(line["models"]), (1.03, row), color=shade, fontsize=7.5, va="center", annotation_clip=False)
    labels = [one if one == other else f"{one} ×\n{other}" for one, other in pairs]
    axes.set_yticks(range(len(pairs)), labels, fontsize=9)
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    for place in range(1, len(pairs)):
        axes.axhline(place - 0.5, color="black" if pairs[place][0] == pairs[place][1] else "#DDDDDD", linewidth=0.6)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(xlabel="Rank correlation (Spearman); at the right the number of models", title=title)
    axes.set_xlim(right=1.01)
    axes.tick_params(left=False)
    handles = [plt.Line2D([], [], color=shade, marker="o", linewidth=2.5) for shade in POPULATIONS.values()]
    drawn.legend(handles, list(POPULATIONS), loc="outside lower center", ncols=2)
    return drawn


def leaked(model: Recommender, split: Split, seed: int) -> pd.DataFrame:
    """NDCG@10 of each user, as it should be, with test rows that train, and with all rows as training and test rows.

    With test rows that train, the same films compete and the same are relevant; where all rows are tested, none is masked.
    """
    rows = split.interactions
    honest, leaking = (copy(model).fit(each, None, seed) for each in (split.refit, rows))
    same = evaluate.RankingTask(split.refit, split.test, cutoffs=(10,))
    everything = evaluate.RankingTask(rows, rows, cutoffs=(10,), allow_overlap=True)
    return _ranked({HONEST: (honest, same), LEAK: (leaking, same), ALL_ROWS: (leaking, everything)})


def by_popularity(split: Split, seed: int) -> np.ndarray:
    """(U, 99) different films that a user has not seen, drawn one after another by their number of training rows."""
    rows = split.interactions
    with np.errstate(divide="ignore"):
        weights = np.log(split.refit.item_counts)  # of films without rows -inf: they are never drawn
    keys = weights + np.random.default_rng(seed).gumbel(size=(rows.n_users, rows.n_items))
    keys[rows.binary.nonzero()] = -np.inf
    return np.sort(np.argpartition(-keys, N_SAMPLED_NEGATIVES - 1, axis=1)[:, :N_SAMPLED_NEGATIVES], axis=1)


def among_drawn(model: Recommender, split: Split, seed: int) -> pd.DataFrame:
    """NDCG@10 of each user's one test film among all films, and among 99 that are drawn evenly or by popularity.

    `split` has one test row a user and negatives: those that are drawn evenly.
    """
    fitted = copy(model).fit(split.refit, None, seed)
    negatives = {WHOLE: None, UNIFORM: split.negatives, POPULAR: by_popularity(split, seed)}
    tasks = {name: evaluate.RankingTask(split.refit, split.test, None, each, (10,)) for name, each in negatives.items()}
    return _ranked({name: (fitted, task) for name, task in tasks.items()})


def _ranked(asked: Mapping[str, tuple[Recommender, evaluate.RankingTask]]) -> pd.DataFrame:
    """NDCG@10 by user (the index) for each fitted model and task, a column each."""
    measured = {name: evaluate.rank(*each).users.set_index("user")[METRIC] for name, each in asked.items()}
    return pd.DataFrame(measured).round(5)


def on_test_by_epoch(model: Recommender, split: Split, seed: int) -> pd.DataFrame:
    """NDCG@10 on the test rows after every epoch, a row a user and a column an epoch from 1 on.

    The model learns from training and validation rows, for all of its epochs if it has no patience. Nothing in this study is chosen
    by it.
    """
    found: list[pd.Series] = []

    def judge(model: Recommender, train: Interactions, rows: Interactions, history: Interactions | None) -> Validation:
        task = evaluate.RankingTask(train, rows, history, cutoffs=(10,))

        def measured() -> float:
            found.append(evaluate.rank(model, task).users.set_index("user")[METRIC])
            return float(found[-1].mean())

        return Validation(METRIC, measured, True)

    copy(model).fit(split.refit, split.test, seed, judge=judge)
    return pd.DataFrame(dict(enumerate(found, start=1)))


def chosen_on_test(curves: Mapping[int, pd.DataFrame], honest: int) -> dict[str, Any]:
    """What tables of `on_test_by_epoch` by seed say of choosing on test rows, beside the epoch that validation chose.

    "users": each user's NDCG@10 at both epochs, the mean over seeds. "epochs": NDCG@10 by epoch, a column a seed. "halves": what
    the epoch that is best on a random half of the users gains on that half, and on the others.
    """
    best = {seed: curve.columns[int(curve.mean().argmax())] for seed, curve in curves.items()}
    users = {VALIDATED: [curve[honest] for curve in curves.values()]}
    users[ON_TEST] = [curve[best[seed]] for seed, curve in curves.items()]
    of_users = pd.DataFrame({name: pd.concat(each, axis=1).mean(axis=1).round(5) for name, each in users.items()})
    epochs = pd.DataFrame({str(seed): curve.mean().round(6) for seed, curve in curves.items()})
    halves = np.mean([gain_on_halves(curve, honest) for curve in curves.values()], axis=0)
    return {"users": of_users, "epochs": epochs, "halves": [float(each) for each in halves]}


def gain_on_halves(curve: pd.DataFrame, honest: int, n_halves: int = 200, seed: int = 0) -> tuple[float, float]:
    """Mean gain over the epoch `honest` of the epoch that is best on a random half of the users: on that half, on the other."""
    generator, gains = np.random.default_rng(seed), curve.sub(curve[honest], axis=0).to_numpy()
    halves = [np.array_split(generator.permutation(len(gains)), 2) for _ in range(n_halves)]
    means = np.array([[gains[half].mean(axis=0) for half in pair] for pair in halves])  # (n_halves, 2, E)
    chosen = means[:, 0].argmax(axis=1)
    own, others = (means[np.arange(n_halves), side, chosen].mean() for side in (0, 1))
    return float(own), float(others)


def on_splits(name: str, model: Recommender, splits: Mapping[str, Split], seeds: Sequence[int]) -> pd.DataFrame:
    """NDCG@10 of each user on test rows with each seed, one seed of a model without chance: model, split, seed, user, ndcg@10."""
    parts = []
    for label, split in splits.items():
        for seed in seeds if model.own_traits.stochastic else seeds[:1]:
            fitted = copy(model).fit(split.refit, None, seed)
            found = _ranked({METRIC: (fitted, evaluate.RankingTask(split.refit, split.test, cutoffs=(10,)))})
            parts.append(found.reset_index().assign(model=name, split=label, seed=seed))
    return pd.concat(parts, ignore_index=True)


def inflation(values: pd.DataFrame, honest: str) -> pd.DataFrame:
    """A line for each other column of per-user values: honest, reported, ratio of these means, low and high over users."""
    sums = dict(zip(values.columns, resampled_sums(values.to_numpy(float)).T))
    lines = {}
    for name in values.columns.drop(honest):
        means = values[honest].mean(), values[name].mean()
        lines[name] = [*means, means[1] / means[0], *percentile_interval(sums[name] / sums[honest])]
    return pd.DataFrame.from_dict(lines, orient="index", columns=["honest", "reported", "ratio", "low", "high"])


def inflation_figure(table: pd.DataFrame, shades: Mapping[str, str], title: str) -> Figure:
    """A row a flaw, a dot with its interval for each model: reported over honest, on a logarithmic scale.

    `table` has the columns flaw and model, and those of `inflation`.
    """
    flaws = list(dict.fromkeys(table["flaw"]))
    drawn, axes = plt.subplots(figsize=(plots.WIDTH_INCHES, 1.7 + 0.75 * len(flaws)))
    shifts = dict(zip(shades, np.linspace(-0.32, 0.32, len(shades))))
    for line in table.to_dict("records"):
        row, shade = flaws.index(line["flaw"]) + shifts[line["model"]], shades[line["model"]]
        axes.hlines(row, line["low"], line["high"], color=shade, linewidth=3, alpha=0.45)
        axes.plot(line["ratio"], row, "o", color=shade, markersize=5.5)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(flaws)), [flaw.replace(", ", ",\n") for flaw in flaws], fontsize=10)
    axes.set_ylim(len(flaws) - 0.5, -0.5)
    axes.xaxis.set_major_locator(mpl.ticker.FixedLocator([0.5, 0.7, 1, 1.5, 2, 3, 5, 7, 10, 15]))
    axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("×%g"))
    axes.grid(axis="x", alpha=0.3)
    axes.set(xlabel="NDCG@10 as reported, a multiple of the honest one", title=title)
    axes.tick_params(left=False)
    handles = [plt.Line2D([], [], color=shade, marker="o", linewidth=3) for shade in shades.values()]
    drawn.legend(handles, list(shades), loc="outside lower center", ncols=3)
    return drawn


def power_figure(
    components: pd.DataFrame,
    n_users: Sequence[int],
    n_splits: Sequence[int],
    design: tuple[int, int, int],
    title: str,
    margin: float = MARGIN,
) -> Figure:
    """The detectable difference of each pair of models by the number of splits and by that of users, the rest as in `design`.

    `components` has a line a pair and the columns of `Components`, in their order; `design` is users, splits and seeds.
    """
    users, splits, seeds = design
    drawn, sides = plt.subplots(1, 2, figsize=(plots.WIDTH_INCHES + 1, 4.4), sharey=True)
    asked = {"splits": ([users], n_splits, users, "users"), "users": (n_users, [splits], splits, "splits")}
    for axes, (what, (of_users, of_splits, given, other)) in zip(sides, asked.items()):
        for (name, line), shade in zip(components.iterrows(), plots.CYCLE):
            table = power_table(Components(*line.astype(float)), [margin], of_users, of_splits, [seeds])
            axes.plot(table[what], table["detectable"], "o-", color=shade, markersize=4, label=str(name))
        axes.axhline(margin, color=plots.GREY, linestyle="--", linewidth=1.2)
        axes.set(xscale="log", yscale="log", xlabel=f"Number of {what} ({given:,} {other})")
        ticks = n_splits if what == "splits" else n_users
        axes.set_xticks(ticks, [f"{each:,}" for each in ticks], fontsize=9, rotation=45 if max(ticks) > 999 else 0)
        axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        axes.yaxis.set_major_locator(mpl.ticker.FixedLocator([0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05]))
        axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())
        axes.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        axes.grid(alpha=0.3)
    sides[0].set_ylabel("Detectable difference in NDCG@10")
    drawn.legend(*sides[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    drawn.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return drawn
