"""The figures of the chapter on films that nobody has rated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.chapters import plots

SHADES = (plots.GREEN, plots.INDIGO, plots.ORANGE)


def ladder(
    whole: pd.DataFrame, rungs: Sequence[str], alone: Sequence[str], methods: Sequence[str], title: str
) -> Figure:
    """NDCG and AUC of each rung by each method, and of what stands `alone`, with 95 % intervals; chance is dotted.

    `whole` has rows "rung, method" and columns ndcg@10, auc, both with low and high, and chance_ndcg@10.
    """
    height = 1.6 + 0.42 * (len(rungs) + len(alone))
    figure, sides = plt.subplots(1, 2, figsize=(plots.WIDTH_INCHES, height), sharey=True)
    chance = {"ndcg@10": whole["chance_ndcg@10"].iloc[0], "auc": 0.5}
    for axes, (metric, label) in zip(sides, {"ndcg@10": "NDCG@10 among the cold films", "auc": "AUC by film"}.items()):
        for place, method in enumerate(methods):
            rows = [row + 0.26 * (place - (len(methods) - 1) / 2) for row in range(len(rungs))]
            _dots(axes, whole.loc[[f"{rung}, {method}" for rung in rungs]], metric, rows, SHADES[place], method)
        _dots(axes, whole.loc[list(alone)], metric, range(len(rungs), len(rungs) + len(alone)), plots.GREY, None)
        axes.axvline(chance[metric], color="black", linestyle=":", linewidth=1.2)
        axes.set_xlabel(label)
        axes.grid(axis="x", alpha=0.3)
    sides[0].set_yticks(range(len(rungs) + len(alone)), [*rungs, *alone])
    sides[0].invert_yaxis()
    figure.legend(*sides[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(methods))
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return figure


def _dots(axes: Axes, lines: pd.DataFrame, metric: str, rows: Sequence[float], shade: str, label: str | None) -> None:
    """Values with intervals on these rows, in one colour."""
    axes.hlines(rows, lines[f"{metric} low"], lines[f"{metric} high"], color=shade, linewidth=3, alpha=0.45)
    axes.plot(lines[metric], rows, "o", color=shade, markersize=6, label=label)


def groups(table: pd.DataFrame, shades: Mapping[str, str], labels: tuple[str, str]) -> Figure:
    """AUC by group of films (index: model, group) with intervals, chance dotted; `labels`: title and x label."""
    figure = plots.dodged(table, (labels[0], labels[1], "AUC by film"), shades, rows=2 if len(shades) > 3 else 1)
    figure.axes[0].axhline(0.5, color="black", linestyle=":", linewidth=1.2)
    return figure


def two_sides(table: pd.DataFrame, method: str, labels: tuple[str, str]) -> Figure:
    """The same with the groups as colours and the rungs, all by one method, side by side."""
    turned = table.rename(index=lambda name: str(name).removesuffix(f", {method}"), level=0).swaplevel()
    sides = sorted(turned.index.get_level_values(0).unique())
    figure = groups(turned, dict(zip(sides, (plots.BLUE, plots.ORANGE))), labels)
    figure.axes[0].tick_params(axis="x", labelsize=10)
    return figure


def trade(
    cold_and_warm: Mapping[str, tuple[float, float]],
    families: Mapping[str, str],
    line: Sequence[str],
    chosen: str,
    title: str,
) -> Figure:
    """Named points: NDCG among cold films, and of warm ones among all; those of `line` are joined, `chosen` is a diamond.

    A point's colour is that of its family.
    """
    figure, axes = plt.subplots(figsize=(plots.WIDTH_INCHES, 4.4))
    axes.plot(*zip(*(cold_and_warm[name] for name in line)), color=plots.family_colour("hybrid"), alpha=0.4)
    for name, point in cold_and_warm.items():
        marker, label = ("D", f"{name}, as chosen on validation") if name == chosen else ("o", name)
        axes.plot(*point, marker, color=plots.family_colour(families[name]), markersize=7)
        beside = (-10, 0, "right") if name == chosen else (8, 0 if name in line else -9, "left")
        axes.annotate(label, point, beside[:2], textcoords="offset points", fontsize=9, ha=beside[2], va="center")
    axes.set(xlabel="NDCG@10 among the cold films", ylabel="NDCG@10 of warm films\namong all unseen films", title=title)
    axes.margins(x=0.28, y=0.1)
    return figure
