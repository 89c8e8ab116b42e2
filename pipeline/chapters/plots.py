"""The figure style, and the figures that more than one notebook draws. A figure of one notebook lives there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import cycle
from pathlib import Path
from textwrap import wrap
from zlib import crc32

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

# One thing keeps one colour in every figure. The first five are Okabe & Ito's; with the eight below they are the palette of lines
# and families: a search in CIEDE2000 for colours that stay apart in normal vision, in deuteranopia and in protanopia.
BLUE, ORANGE, GREEN, VERMILION, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9"
GREY, KHAKI, INDIGO, PINK = "#6B6B6B", "#BDBA8A", "#3C245D", "#EA9FB7"
MAGENTA, WINE, BROWN, FOREST = "#B1278A", "#7B2A45", "#7E5736", "#0F360C"
PURPLE, YELLOW, TEAL = "#CC79A7", "#F0E442", "#44AA99"  # for pictures of few things
FAMILIES = {  # of models → colour
    "counts": GREY,
    "neighbours": KHAKI,
    "linear": GREEN,
    "factorisation": SKY,
    "factorisation machines": VERMILION,
    "network for stars": ORANGE,
    "two towers": INDIGO,
    "perceptron": BLUE,
    "autoencoder": PINK,
    "sequential": MAGENTA,
    "content": WINE,
    "hybrid": BROWN,
    "graph": FOREST,
}
FURTHER = (TEAL, PURPLE, YELLOW)  # for families that are not listed
# For the lines of one picture.
CYCLE = (BLUE, ORANGE, GREEN, VERMILION, PINK, SKY, BROWN, MAGENTA, KHAKI, INDIGO, WINE, FOREST)
RATINGS, FILMS, USERS = BLUE, ORANGE, GREEN  # what is counted or averaged → colour
GENDERS = {"F": ORANGE, "M": BLUE}
SEGMENTS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)  # of users, the largest first
WIDTH_INCHES = 7.0
LOWER_IS_BETTER = ("rmse", "mse", "mae")


def style() -> None:
    """Set the study's figure style: light, few lines, fonts that stay legible on a narrow screen and in print."""
    plt.style.use(Path(__file__).with_name("study.mplstyle"))


def family_colour(family: str) -> str:
    """The colour of a family of models: its own, one that its name decides if it is not listed, grey for no family."""
    return FAMILIES.get(family, FURTHER[crc32(family.encode()) % len(FURTHER)]) if family else GREY


def shades(families: Mapping[str, str] | Iterable[str]) -> dict[str, str]:
    """A colour of its own for each model of one picture, given with its family or without one.

    The first model of a family has the family's colour, others the next ones of a cycle; a colour comes back after all were used.
    """
    given = dict(families) if isinstance(families, Mapping) else dict.fromkeys(families, "")
    firsts = {family: model for model, family in reversed(given.items()) if family}
    found = {model: family_colour(family) for family, model in firsts.items()}
    free = [shade for shade in CYCLE if shade not in found.values()] or list(CYCLE)
    further = dict(zip((model for model in given if model not in found), cycle(free)))
    return {model: (found | further)[model] for model in given}


def fitted(figure: Figure) -> Figure:
    """The same figure with titles and labels of x axes that fit into its width: wrapped, or moved where that is enough.

    A picture is cut along what is drawn. One with a longer title would be wider than the others, and shown smaller.
    """
    figure.draw_without_rendering()
    _wrapped(figure.texts, figure)
    for axes in figure.axes:
        _wrapped([axes._left_title, axes.xaxis.label], figure)  # type: ignore[attr-defined]
        label, box = axes.xaxis.label, axes.xaxis.label.get_window_extent()
        beyond = max(box.x1 - figure.bbox.x1, 0) - max(-box.x0, 0)
        label.set_x(label.get_position()[0] - beyond / axes.bbox.width)
    return figure


def _wrapped(texts: Iterable[Text], figure: Figure) -> None:
    """Break texts at words where they are wider than what the figure has for them; labels of axes may have all of its width."""
    for text in texts:
        box = text.get_window_extent()
        room = figure.bbox.width - (max(box.x0, 0) if text.get_horizontalalignment() == "left" else 0)
        if box.width > room:
            words, longest = text.get_text(), max(len(line) for line in text.get_text().split("\n"))
            most = max(int(longest * room / box.width), 1)
            n_lines = len(wrap(words, most))
            least = min(max(map(len, words.split())), most)
            even = next(width for width in range(least, most + 1) if len(wrap(words, width)) <= n_lines)
            text.set_text("\n".join(wrap(words, even)))  # lines of about one length


def legend_of_families(figure: Figure, families: Iterable[str]) -> None:
    """What the colours of families mean, below the figure, in the order given; nothing where there are fewer than two."""
    named = list(dict.fromkeys(family for family in families if family))
    if len(named) > 1:
        dots = [mpl.lines.Line2D([], [], color=family_colour(name), marker="o", linewidth=0) for name in named]
        figure.legend(dots, named, loc="outside lower center", ncols=min(len(named), 3), handletextpad=0.2)


def _as_list(axes: Axes, n_rows: int, title: str, x_label: str, margin: float) -> None:
    """What figures with a name per row share: the first on top, labels, room for numbers at the end, nothing before the names."""
    axes.set(title=title, xlabel=x_label, ylim=(n_rows - 0.4, -0.6))
    axes.margins(x=margin)
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)


def bars(values: pd.Series, title: str, x_label: str, shade: str = BLUE, number: str = "{:,.0f}") -> Figure:
    """Horizontal bars in the order given, first on top, each with its number at the end."""
    figure, axes = plt.subplots(figsize=(WIDTH_INCHES, 0.9 + 0.32 * len(values)))
    bar_ends = axes.barh(values.index.astype(str), values.to_numpy(), color=shade, height=0.72)
    axes.bar_label(bar_ends, labels=[number.format(value) for value in values], padding=4, fontsize=10)
    _as_list(axes, len(values), title, x_label, margin=0.12)
    return figure


def intervals(board: pd.DataFrame, metric: str, title: str, x_label: str, line_height: float = 0.5) -> Figure:
    """A leaderboard as dots with 95 % intervals over users, best on top, in the colours of the families, which the legend names.

    `board` comes from a leaderboard function. `line_height` is in inches; a long board takes less.
    """
    ranked = board.sort_values(metric, ascending=metric in LOWER_IS_BETTER).reset_index(drop=True)
    families = ranked.get("family", pd.Series("", ranked.index)).fillna("").astype(str)
    n_rows_of_legend = -(-families[families != ""].nunique() // 3)
    figure, axes = plt.subplots(figsize=(WIDTH_INCHES, 1.3 + line_height * len(ranked) + 0.25 * n_rows_of_legend))
    for row, line in enumerate(ranked.to_dict("records")):
        shade, value = family_colour(families[row]), line[metric]
        low, high = line.get(f"{metric} low", value), line.get(f"{metric} high", value)
        axes.plot([low, high], [row, row], color=shade, linewidth=2.5)
        axes.plot(value, row, "o", color=shade, markersize=7, markeredgecolor="white", markeredgewidth=0.7)
        axes.annotate(f"{value:.3f}", (high, row), (8, 0), textcoords="offset points", va="center", fontsize=11)
    axes.set_yticks(range(len(ranked)), ranked["model"])
    _as_list(axes, len(ranked), title, x_label, margin=0.15)
    axes.grid(axis="x", alpha=0.3)
    legend_of_families(figure, families)
    return figure


def differences(parts: Mapping[str, pd.DataFrame], shades: Mapping[str, str], title: str, x_label: str) -> Figure:
    """Differences from several rivals by model, with 95 % intervals: a colour and a mark for each rival, a row for each model.

    `parts` has, by rival, a table of the same models with columns difference, low and high. What is more than twice as far from 0
    as the median is an arrow at the edge with its number beside it, so that those near 0, which are in question, can be told apart.
    """
    table = pd.concat(dict(parts))
    near = table[table["difference"].abs() <= 2 * table["difference"].abs().median()]
    names, reach = list(next(iter(parts.values())).index), float(near["high"].max() - min(near["low"].min(), 0))
    edges = {-1: min(near["low"].min(), 0) - 0.08 * reach, 1: near["high"].max() + 0.08 * reach}
    figure, axes = plt.subplots(figsize=(WIDTH_INCHES, 1.6 + 0.42 * len(names)))
    axes.axvline(0, color="black", linewidth=1)
    for (rival, lines), mark, shift in zip(parts.items(), cycle("oDs^"), np.linspace(-0.2, 0.2, len(parts))):
        shade = shades[rival]
        axes.plot([], [], mark, color=shade, label=f"minus {rival}")
        for place, (name, line) in enumerate(lines.iterrows()):
            value, row = float(line["difference"]), place + shift
            if (rival, name) in near.index:
                axes.plot(line[["low", "high"]].astype(float), [row, row], color=shade, linewidth=2.5)
                axes.plot(value, row, mark, color=shade, markersize=6, markeredgecolor="white", markeredgewidth=0.8)
            else:
                at_the_edge(axes, value, edges[-1 if value < 0 else 1], row, shade)
    axes.set_yticks(range(len(names)), names)
    _as_list(axes, len(names), title, x_label, margin=0)
    axes.set_xlim(edges[-1], max(edges[1], 0.03 * reach))
    axes.grid(axis="x", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(parts))
    return figure


def at_the_edge(axes: Axes, value: float, edge: float, row: float, shade: str) -> None:
    """A difference that lies too far out, as an arrow at the edge on its side with its number beside it."""
    side = -1 if value < 0 else 1
    axes.plot(edge, row, "<" if side < 0 else ">", color=shade, markersize=7, clip_on=False)
    said, shift, ends = f"{value:.3f}".replace("-", "−"), (-8 * side, 0), {-1: "left", 1: "right"}
    axes.annotate(said, (edge, row), shift, textcoords="offset points", fontsize=9, va="center", ha=ends[side])


def ratios(table: pd.DataFrame, title: str, x_label: str) -> Figure:
    """Columns label, ratio and goal (or NaN) as bars from 1 on a logarithmic scale; a goal is a line across its bar."""
    figure, axes = plt.subplots(figsize=(WIDTH_INCHES, 1.4 + 0.62 * len(table)))
    for row, line in enumerate(table.to_dict("records")):
        ratio, goal = float(line["ratio"]), float(line["goal"])
        shade = GREY if np.isnan(goal) else GREEN if ratio >= goal else VERMILION
        axes.barh(row, ratio - 1, left=1, color=shade, height=0.55)
        text, ends = f"{ratio:.2g}" if ratio < 10 else f"{ratio:.0f}", [ratio] if np.isnan(goal) else [ratio, goal]
        if ratio >= 1:
            axes.annotate(text, (max(ends), row), (6, 0), textcoords="offset points", va="center", fontsize=10)
        else:
            axes.annotate(
                text, (min(ends), row), (-6, 0), textcoords="offset points", va="center", ha="right", fontsize=10
            )
        axes.plot([goal, goal], [row - 0.4, row + 0.4], color="black", linewidth=2)
    patches = [mpl.patches.Patch(color=shade) for shade in (GREEN, VERMILION, GREY)]
    handles = [*patches, mpl.lines.Line2D([], [], color="black", linewidth=2)]
    figure.legend(handles, ["goal reached", "goal missed", "no goal", "goal"], loc="outside lower center", ncols=4)
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    labels = ["\n".join(part for line in label.split("\n") for part in wrap(line, 38)) for label in table["label"]]
    axes.set_yticks(range(len(table)), labels, fontsize=10)
    axes.xaxis.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
    _as_list(axes, len(table), title, x_label, margin=0.15)
    return figure


def curves(histories: Mapping[str, pd.DataFrame], metric: str, title: str, metric_label: str) -> Figure:
    """Training loss and a validation metric by epoch, side by side, the best epoch marked; one line per model."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH_INCHES, 4.0 if len(histories) > 1 else 3.6))
    for (label, history), shade in zip(histories.items(), cycle(CYCLE)):
        left.plot(history["epoch"], history["train_loss"], color=shade, label=label)
        right.plot(history["epoch"], history[metric], color=shade, label=label)
        best = history.sort_values(metric, ascending=metric in LOWER_IS_BETTER).iloc[0]
        right.plot(best["epoch"], best[metric], "o", color=shade, markersize=7)
    left.set(xlabel="Epoch", ylabel="Training loss")
    right.set(xlabel="Epoch", ylabel=metric_label)
    for axes in (left, right):
        axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(5, integer=True))
    if len(histories) > 1:
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return figure


def dodged(table: pd.DataFrame, labels: tuple[str, str, str], shades: Mapping[str, str], rows: int = 1) -> Figure:
    """Dots with 95 % intervals of several models side by side in each group; `labels`: title, x and y label.

    `table` has the index (model, group), groups in the order drawn, and its first three columns are value, low and high. The models
    are those of `shades`, in that order; `rows` is the number of rows of the legend.
    """
    groups = list(dict.fromkeys(table.index.get_level_values(1)))
    figure, axes = plt.subplots(figsize=(WIDTH_INCHES, 4.6))
    reach = min(
        0.3, 0.1 * (len(shades) - 1)
    )  # so that the models of a group are nearer to one another than to the next group
    for model, offset in zip(shades, np.linspace(-reach, reach, len(shades))):
        mine = table.xs(model, level=0).reindex(groups).to_numpy(float)
        places = np.arange(len(groups)) + offset
        axes.vlines(places, mine[:, 1], mine[:, 2], color=shades[model], linewidth=3, alpha=0.45)
        axes.plot(places, mine[:, 0], "o", color=shades[model], markersize=5.5, label=model)
    axes.set_xticks(range(len(groups)), [str(group) for group in groups])
    axes.set(title=labels[0], xlabel=labels[1], ylabel=labels[2])
    axes.tick_params(bottom=False)
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=-(-len(shades) // rows))
    return figure
