"""What the chapters on vector search need beyond the models: recall of an index, and a map of the films."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor, nn

from pipeline.chapters import plots
from recsys_core.interactions import Features, Interactions
from recsys_core.models.attribute_networks import VectorNetwork
from recsys_core.models.dssm import DSSM
from recsys_core.retrieval import VectorIndex

SHADES = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.VERMILION, plots.PINK, plots.INDIGO, plots.KHAKI, plots.BROWN)


class LongEmbeddings(DSSM):
    """DSSM whose embeddings begin with numbers of variance 1, as `nn.Embedding` has them."""

    def _build(self, train: Interactions) -> nn.Module:
        network = super()._build(train)
        for embedding in network.embeddings:  # type: ignore[union-attr]
            embedding.reset_parameters()
        return network


def recall_of(found: Tensor, exact: Tensor) -> float:
    """Share of the items (B, k) of an exact search that are among the found ones (B, k)."""
    return float((found[:, None, :] == exact[:, :, None]).any(dim=2).float().mean())


def main_genre(genres: Features, order: Sequence[str]) -> np.ndarray:
    """(I,) the first of the genres in `order` that each film has, "other" where it has none of them."""
    named = np.full(len(genres.values), "other", dtype=object)
    for genre in reversed(order):
        named[genres.select(f"genre_{genre}")[:, 0] > 0] = genre
    return named


YEAR_BANDS = {
    "before 1970": 0,
    "1970s": 1970,
    "1980s": 1980,
    "1990 to 1994": 1990,
    "1995": 1995,
    "1996": 1996,
    "from 1997": 1997,
}


def banded_years(years: np.ndarray) -> np.ndarray:
    """(I,) the name of the band of `YEAR_BANDS` that each year lies in."""
    return np.array(list(YEAR_BANDS), dtype=object)[np.digitize(years, list(YEAR_BANDS.values())) - 1]


def film_map(vectors: np.ndarray, seed: int = 0) -> np.ndarray:
    """(I, 2) places of (I, D) vectors: t-SNE of the cosine distances, started from the first two principal components.

    Vectors that are all alike, as of a model that has not learnt, have one place.
    """
    from sklearn.decomposition import PCA  # takes a second to load, which only the map needs
    from sklearn.manifold import TSNE

    start = PCA(n_components=2, svd_solver="full").fit_transform(vectors)
    spread = start[:, 0].std()
    if spread < 1e-6 * max(float(np.abs(vectors).max()), 1e-12):
        return np.zeros((len(vectors), 2))
    perplexity = min(30, (len(vectors) - 1) / 3)
    return TSNE(
        metric="cosine", init=start / spread * 1e-4, perplexity=perplexity, random_state=seed, n_jobs=1
    ).fit_transform(vectors)


def draw_film_map(
    places: np.ndarray, groups: np.ndarray, titles: dict[int, str], in_order: Sequence[str] = ()
) -> Figure:
    """The films as dots coloured by group, "other" in grey; `titles` of some item codes are written beside their dots.

    Groups that have an order are given in it, and coloured from dark to light.
    """
    figure, axes = plt.subplots(figsize=(plots.WIDTH_INCHES, 6.6))
    names = in_order or sorted(set(groups) - {"other"})
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.95, len(names))) if in_order else SHADES
    for group, shade in [("other", "#C8C8C8"), *zip(names, shades)]:
        mine = groups == group
        if mine.any():
            size = 6 if group == "other" else 11
            axes.scatter(places[mine, 0], places[mine, 1], s=size, color=shade, label=group, linewidths=0)
    box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75}
    for item, title in titles.items():
        axes.plot(*places[item], "o", color="black", markersize=4, markerfacecolor="none")
        axes.annotate(title, places[item], (4, 4), textcoords="offset points", fontsize=9, bbox=box)
    axes.set_axis_off()
    figure.legend(loc="outside lower center", ncols=5, markerscale=2)
    return figure


def spread_titles(places: np.ndarray, candidates: Sequence[int], least: float) -> list[int]:
    """Those of the candidates, in their order, that lie at least `least` (share of the map's height) above or below the others."""
    height, width = np.ptp(places[:, 1]), np.ptp(places[:, 0])
    chosen: list[int] = []
    for item in candidates:
        apart = [abs(places[item] - places[other]) / (width, height) for other in chosen]
        if all(across > 0.3 or up > least for across, up in apart):
            chosen.append(item)
    return chosen


def index_recall(
    model: VectorNetwork, users: Tensor, exact: Tensor, n_lists: int, n_probes: Sequence[int]
) -> "pd.Series[float]":
    """Recall of `exact` (B, k) by the index with so many cells, for each number of cells looked into."""
    vectors, k = model.item_vectors(), exact.shape[1]
    found = {n: VectorIndex(vectors, n_lists, n).for_users(model, users, k) for n in n_probes}
    return pd.Series({n: recall_of(items, exact) for n, items in found.items()}, name=f"recall@{k}").rename_axis(
        "cells"
    )


def latencies(timings: pd.DataFrame) -> pd.DataFrame:
    """Rows of `reports/timings.csv` on searching as a table: a row per number of films, a column per way, empty without rows."""
    parts = timings["what"].str.extract(r"^(?P<way>.+), (?P<films>[\d,]+) films$")
    rows = parts.assign(value=timings["value"]).dropna()
    rows["films"] = rows["films"].str.replace(",", "").astype(int)
    return rows.pivot_table(index="films", columns="way", values="value")


def draw_latencies(table: pd.DataFrame, title: str) -> Figure:
    """Milliseconds a query by the size of the catalogue, both on logarithmic scales; `table` comes from `latencies`."""
    figure, axes = plt.subplots()
    ways = [way for way in table.columns if "recall" not in way]
    for way, shade in zip(ways, (plots.BLUE, plots.GREEN, plots.VERMILION)):
        axes.plot(table.index, table[way], "o-", color=shade, label=way)
    axes.set(xscale="log", yscale="log", xlabel="Films in the catalogue", ylabel="Milliseconds a query", title=title)
    axes.legend()
    return figure
