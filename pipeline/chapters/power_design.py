"""How many users, splits and seeds it takes to tell two models apart, from measured components: see `crossed_components`."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from pipeline.chapters import plots
from pipeline.chapters.crossed import MARGIN, detectable
from pipeline.chapters.crossed_components import Components, needed_table, power_table

EFFECTS = ["user", "split", "interaction", "seed", "noise"]


def by_pair(components: pd.DataFrame) -> dict[str, Components]:
    """The components of each pair, from a table with a line a pair and the columns `EFFECTS`."""
    return {
        str(pair): Components(*values) for pair, values in zip(components.index, components[EFFECTS].to_numpy(float))
    }


def found_by(components: pd.DataFrame, design: tuple[int, int, int]) -> pd.Series:
    """The detectable difference of each pair with so many users, splits and seeds."""
    return pd.Series({pair: detectable(each.terms(*design)) for pair, each in by_pair(components).items()})


def needed_by_pair(components: pd.DataFrame, design: tuple[int, int, int], margin: float = MARGIN) -> pd.DataFrame:
    """How many users, or splits, or seeds, the other two as in `design`, each pair needs to tell `margin` apart; <NA>: none do."""
    tables = {pair: needed_table(each, [margin], *design) for pair, each in by_pair(components).items()}
    return pd.concat(tables).droplevel(1)


def needed_sentence(needs: pd.DataFrame, design: tuple[int, int, int], margin: float = MARGIN) -> str:
    """The table of `needed_by_pair` in words."""
    users, splits, seeds = design
    given = {"users": f"{splits} splits and {seeds} seeds", "splits": f"{users} users and {seeds} seeds"}
    given["seeds"] = f"{users} users and {splits} splits"
    said = [f"{_numbers(needs[what])} {what} with {rest}" for what, rest in given.items()]
    return f"To tell {margin} NDCG@10 apart with a probability of .8 takes, by pair, {'; or '.join(said)}."


def _numbers(column: pd.Series) -> str:
    """From the smallest to the largest number, and for how many pairs none will do."""
    known = column.dropna()
    if known.empty:
        return "no number of"
    span = f"{known.min():,}" if known.min() == known.max() else f"{known.min():,} to {known.max():,}"
    return span + (
        f" (and for {len(column) - len(known)} of {len(column)} pairs no number of)" if len(known) < len(column) else ""
    )


def power_figure(
    components: pd.DataFrame,
    n_users: Sequence[int],
    n_splits: Sequence[int],
    design: tuple[int, int, int],
    title: str,
    margin: float = MARGIN,
) -> Figure:
    """The detectable difference of each pair of models by the number of splits and by that of users, the rest as in `design`.

    `components` see `by_pair`; `design` is users, splits and seeds.
    """
    users, splits, seeds = design
    drawn, sides = plt.subplots(1, 2, figsize=(plots.WIDTH_INCHES + 1, 5.6), sharey=True)
    asked = {"splits": ([users], n_splits, users, "users"), "users": (n_users, [splits], splits, "splits")}
    for axes, (what, (of_users, of_splits, given, other)) in zip(sides, asked.items()):
        ticks = n_splits if what == "splits" else n_users
        for (name, each), shade in zip(by_pair(components).items(), plots.CYCLE):
            table = power_table(each, [margin], of_users, of_splits, [seeds])
            axes.plot(table[what], table["detectable"], "o-", color=shade, markersize=4, label=name)
        axes.axhline(margin, color=plots.GREY, linestyle="--", linewidth=1.2)
        axes.annotate(
            f"{margin:g}", (ticks[0], margin), (0, 4), textcoords="offset points", fontsize=9, color="#595959"
        )
        axes.set(xscale="log", yscale="log", xlabel=f"Number of {what}\n({given:,} {other}, {seeds} seeds)")
        axes.set_xticks(ticks, [f"{each:,}" for each in ticks], fontsize=10)
        axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        axes.yaxis.set_major_locator(mpl.ticker.FixedLocator([0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05]))
        axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())
        axes.yaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        axes.grid(alpha=0.3)
    sides[0].set_ylabel("Detectable difference in NDCG@10")
    drawn.legend(*sides[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    drawn.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return drawn
