"""Pictures of networks: layers as boxes from the bottom up, arrows between them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from pipeline.chapters import plots

HEIGHT, GAP = 0.62, 0.42  # of a box and between boxes, in units of the axes


def network(levels: Sequence[Sequence[str]], title: str) -> Figure:
    """Boxes level by level, the inputs at the bottom; each box is joined with those of the next level that lie above it.

    A level with as many boxes as the one below continues each of them; one with fewer boxes joins them.
    """
    figure, axes = plt.subplots(figsize=(plots.WIDTH_INCHES, 0.6 + 0.62 * len(levels)))
    places = [_level(axes, level, row) for row, level in enumerate(levels)]
    for row, (below, above) in enumerate(pairwise(places)):
        pairs = zip(below, above) if len(below) == len(above) else ((b, a) for b in below for a in above)
        for start, end in pairs:
            foot, head = (start, row * (HEIGHT + GAP) + HEIGHT), (end, (row + 1) * (HEIGHT + GAP))
            axes.annotate("", head, foot, arrowprops={"arrowstyle": "-|>", "color": plots.GREY, "linewidth": 1.3})
    axes.set(xlim=(-1.05, 1.05), ylim=(-0.15, len(levels) * (HEIGHT + GAP)), title=title)
    axes.set_axis_off()
    return figure


def _level(axes: Axes, labels: Sequence[str], row: int) -> list[float]:
    """Draw one level; returns the middles of its boxes."""
    width = min(1.2, 1.8 / len(labels))
    middles = [width * 1.1 * (place - (len(labels) - 1) / 2) for place in range(len(labels))]
    for middle, label in zip(middles, labels):
        corner = (middle - width / 2, row * (HEIGHT + GAP))
        box = FancyBboxPatch(corner, width, HEIGHT, boxstyle="round,pad=0.02,rounding_size=0.08")
        box.set(edgecolor=plots.BLUE, facecolor="#EAF2F8", linewidth=1.2)
        axes.add_patch(box)
        axes.text(middle, corner[1] + HEIGHT / 2, label, ha="center", va="center", fontsize=10)
    return middles
