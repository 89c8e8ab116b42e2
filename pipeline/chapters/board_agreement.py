"""How alike the boards of two protocols are, and how much of that is due to which models stand on them.

    table = agreement({"random tenth": values, "latest film": others}, main="random tenth")

A board is a table of per-user values, a row a user and a column a model: `values_of`. Intervals are over users, who are the same in
every draw, whatever is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import kendalltau, rankdata

from pipeline.chapters import plots
from pipeline.chapters.boards import Rows
from recsys_core.errors import StudyError
from recsys_core.statistics import percentile_interval, resampled_sums

ALL, ABOVE, BEST, DRAWN = "all models", "better than the popularity list", "the ten best", "ten at random"
POPULATIONS = {ALL: plots.BLUE, ABOVE: plots.GREEN, BEST: plots.VERMILION, DRAWN: plots.GREY}
N_BEST, LEAST, N_DRAWS = 10, 5, 1000
LEAST_FOR_TEN = 15  # models, so that ten are another population than all


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
    would be the same as a larger one, and one of fewer than five models, is left out; so are the ten best of fewer than fifteen.
    """
    ranked = [name for name in order.sort_values(ascending=False).index if name in set(names)]
    above = [name for name in ranked if order[name] > order.get(popular, -np.inf)]
    best = above[:N_BEST] if len(above) >= LEAST_FOR_TEN else []
    found = {ALL: list(names), ABOVE: above, BEST: best}
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
        if population == ALL and len(names) >= LEAST_FOR_TEN:
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
    n_different = sum(one != other for one, other in pairs)
    drawn, axes = plt.subplots(figsize=(plots.WIDTH_INCHES, 1.6 + 0.68 * len(pairs)))
    shifts = dict(zip(POPULATIONS, np.linspace(-0.27, 0.27, len(POPULATIONS))))
    for line in table.to_dict("records"):
        shade = POPULATIONS[line["population"]]
        row = pairs.index((line["one"], line["other"])) + shifts[line["population"]]
        axes.hlines(row, line["low"], line["high"], color=shade, linewidth=2.5, alpha=0.45)
        axes.plot(line["spearman"], row, "o", color=shade, markersize=5.5)
        axes.annotate(str(line["models"]), (1.03, row), color=shade, fontsize=7.5, va="center", annotation_clip=False)
    labels = [f"{one} ×\n{'itself' if one == other else other}" for one, other in pairs]
    axes.set_yticks(range(len(pairs)), labels, fontsize=9)
    axes.set_ylim(len(pairs) - 0.5, -0.5)
    for place in range(1, len(pairs)):
        axes.axhline(place - 0.5, color="black" if place == n_different else "#DDDDDD", linewidth=0.6)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(xlabel="Rank correlation (Spearman); at the right the number of models", title=title)
    axes.set_xlim(right=1.01)
    axes.tick_params(left=False)
    handles = [plt.Line2D([], [], color=shade, marker="o", linewidth=2.5) for shade in POPULATIONS.values()]
    drawn.legend(handles, list(POPULATIONS), loc="outside lower center", ncols=2)
    return drawn


def pairs_of(table: pd.DataFrame) -> pd.DataFrame:
    """Spearman's correlations of `agreement`: a row a pair of different boards, a column a population."""
    different = table[table["one"] != table["other"]]
    return different.pivot_table("spearman", ["one", "other"], "population")


def headline(table: pd.DataFrame) -> str:
    """How far boards agree over all models and among the ten best, in the pairs that know both."""
    pairs = pairs_of(table)
    if BEST not in pairs:
        return f"Boards agree by {pairs[ALL].mean():.2f}"
    means = pairs.dropna(subset=[BEST]).mean()
    said = f"Boards agree by {means[ALL]:.2f} over all models, by {means[BEST]:.2f} over the ten best"
    return f"{said}; chance in users alone would leave {ceiling(table):.2f}"


def own_agreement(table: pd.DataFrame) -> pd.Series:
    """Of each board, how its ten best correlate with themselves on other users."""
    return table[(table["one"] == table["other"]) & (table["population"] == BEST)].set_index("one")["spearman"]


def ceiling(table: pd.DataFrame) -> float:
    """How two boards that measured the same thing would be expected to correlate over their ten best, mean over pairs.

    Two boards of one truth correlate as the geometric mean of their correlations with themselves (Spearman 1904, American Journal
    of Psychology 15(1)).
    """
    own = own_agreement(table).clip(lower=0)  # below 0 it is chance about no agreement
    pairs = pairs_of(table).dropna(subset=[BEST]).index
    return float(np.mean([np.sqrt(own[one] * own[other]) for one, other in pairs]))


def sentence(table: pd.DataFrame) -> str:
    """What `agreement` found: over all models, among the ten best, among ten at random, and what chance in users leaves."""
    pairs = pairs_of(table)
    text = f"Between two boards the rank correlation is {_span(pairs[ALL])} over all models that stand on both."
    if BEST not in pairs:
        return text
    both = pairs.dropna(subset=[BEST])
    means = both.mean()
    return (
        f"{text} Of the {len(both)} pairs that share fifteen good models or more it is {means[ALL]:.2f} on average over all, "
        f"{means[DRAWN]:.2f} among ten at random and {means[BEST]:.2f} among the ten best ({_span(both[BEST])}): so much of the "
        f"agreement is about who is weak. Chance has its share in that. Among their ten best these boards would agree with "
        f"themselves, on other users, by {_span(own_agreement(table))}, so that two of them that measured the same thing would be "
        f"expected to agree by about {ceiling(table):.2f}."
    )


def _span(values: pd.Series) -> str:
    return f"{values.min():.2f} to {values.max():.2f}"
