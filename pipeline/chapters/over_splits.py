"""The headline over splits: one model a family on five disjoint test sets, held against the best linear one.

    line = against(users, "EASE", ["DSSM", "NeuMF"], "ndcg@10").loc["DSSM"]

`users` has the columns model, split, seed, user and a column per metric. What is compared was fixed before anything was run; see
`crossed` for the estimand, the intervals and what equivalent means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from pipeline.chapters import plots
from pipeline.chapters.comparisons import named
from pipeline.chapters.crossed import LEVEL, MARGIN, compare_family, differences, expected_difference, values
from pipeline.chapters.crossed_components import variance_components
from recsys_core.statistics import paired_interval

BETTER, WORSE, EQUIVALENT, UNDECIDED = "better", "worse", "equivalent", "undecided"
# ends of the names of models that were searched with hidden layers alone, or without any
HIDDEN, WITHOUT = ", hidden layer", ", no hidden layer"
FAR = 4  # medians from 0, beyond which a difference is not drawn to scale
SHADES = {BETTER: plots.BLUE, WORSE: plots.VERMILION, EQUIVALENT: plots.GREEN, UNDECIDED: plots.GREY}


def split_means(users: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean over users and seeds: a row a model, a column a split; the best model on average first."""
    means = users.astype({metric: float}).groupby(["model", "split", "seed"])[metric].mean()
    table = means.groupby(["model", "split"]).mean().unstack("split")  # noqa: PD010
    return table.loc[table.mean(axis=1).sort_values(ascending=False).index]


def seed_spread(users: pd.DataFrame, metric: str) -> pd.Series:
    """Standard deviation over seeds of a model's mean, pooled over the splits; NaN for a model with one seed."""
    means = users.astype({metric: float}).groupby(["model", "split", "seed"])[metric].mean()
    variances = means.groupby(["model", "split"]).var(ddof=1).groupby("model").mean()
    return variances.pow(0.5).rename("sd over seeds")


def levels(users: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Each model's expected value with its 95 % interval over users, splits and seeds, a line a model, the best first.

    Columns: mean, low, high, seeds (of a split), and "least of a seed" and "most of a seed", the mean over splits of what the seeds
    of a split reach at least and at most.
    """
    lines = {}
    for name in users["model"].unique():
        cells = values(users, name, metric, "split")
        found, by_seed = expected_difference(cells), np.nanmean(cells, axis=0)  # (S, R)
        low, high = found.interval()
        lines[name] = {"mean": found.estimate, "low": low, "high": high, "seeds": by_seed.shape[1]}
        lines[name] |= {"least of a seed": by_seed.min(axis=1).mean(), "most of a seed": by_seed.max(axis=1).mean()}
    columns = ["mean", "low", "high", "seeds", "least of a seed", "most of a seed"]
    table = pd.DataFrame.from_dict(lines, "index", columns=columns).rename_axis("model")
    return table.sort_values("mean", ascending=False)


def against(
    users: pd.DataFrame, rival: str, models: Sequence[str], metric: str, margin: float = MARGIN
) -> pd.DataFrame:
    """Each model minus the rival, a line a model: the columns of `crossed.compare_family` and `verdict`.

    Raises StudyError as `crossed.differences` and `crossed.expected_difference` do.
    """
    table = compare_family({name: differences(users, name, rival, metric, "split") for name in models}, margin)
    table["verdict"] = [verdict(line) for _, line in table.iterrows()]
    return table.rename_axis("model")


def verdict(line: pd.Series) -> str:
    """What a line says: better or worse by the adjusted p, else equivalent within the margin, else undecided.

    A difference can be both there and within the margin; then it is called by its sign, and `equivalent` says the other half.
    """
    if line["p adjusted"] < LEVEL:
        return BETTER if line["difference"] > 0 else WORSE
    return EQUIVALENT if line["equivalent"] else UNDECIDED


def layers_apart(users: pd.DataFrame, metric: str, margin: float = MARGIN) -> pd.DataFrame:
    """Each model that was searched with hidden layers alone minus its pair, see `pairs_of_layers`, a line each as in `against`."""
    pairs = pairs_of_layers(users["model"].unique().tolist())
    found = {name: differences(users, name, base, metric, "split") for name, base in pairs.items()}
    return compare_family(found, margin).rename_axis("model")


def pairs_of_layers(present: Sequence[str]) -> dict[str, str]:
    """For each model that was searched with hidden layers alone the same one searched without any, in the same space as long."""
    names = [name.removesuffix(HIDDEN) for name in sorted(present) if name.endswith(HIDDEN)]
    return {name + HIDDEN: name + WITHOUT for name in names if name + WITHOUT in present}


def searched_apart(seen: pd.DataFrame, unseen: pd.DataFrame, metric: str) -> pd.DataFrame:
    """What a split's rows are worth to a search that trains on them, a line a model of both tables of users' values.

    Columns: with (them, the mean of `seen`), without (that of `unseen`), difference, low and high (its interval over users).
    """
    sides = [each.astype({metric: float}).groupby(["model", "user"])[metric].mean() for each in (seen, unseen)]
    lines = {}
    for name in unseen["model"].unique():
        own, other = (side.xs(name).to_numpy() for side in sides)
        lines[name] = [own.mean(), other.mean(), *paired_interval(own, other)]
    columns = ["with", "without", "difference", "low", "high"]
    return pd.DataFrame.from_dict(lines, "index", columns=columns).rename_axis("model")


def searched_again(found: Mapping[str, pd.DataFrame], metric: str) -> pd.DataFrame:
    """Means over users and seeds of the same models with settings of several searches, by what these are called, a column each.

    Models that one of them lacks are left out; the column `apart` is the largest less the smallest.
    """
    means = {name: users.groupby("model")[metric].mean() for name, users in found.items()}
    table = pd.DataFrame(means).dropna().astype(float)
    return table.assign(apart=table.max(axis=1) - table.min(axis=1))


def components(users: pd.DataFrame, pairs: Sequence[tuple[str, str]], metric: str) -> pd.DataFrame:
    """Standard deviations of the effects on the difference of each pair, a line "A against B", see `crossed_components`."""
    found = {f"{a} against {b}": variance_components(differences(users, a, b, metric, "split")) for a, b in pairs}
    return pd.DataFrame.from_dict({name: vars(each) for name, each in found.items()}, "index").rename_axis("pair")


def user_means(users: pd.DataFrame, pair: tuple[str, str], metric: str) -> np.ndarray:
    """(U,) each user's difference between two models, the mean over all splits and seeds."""
    return np.nanmean(differences(users, *pair, metric, "split"), axis=(1, 2))


def in_words(name: str, line: pd.Series, digits: int = 4) -> str:
    """A line as half a sentence: "DSSM is worse (−.016, −.021 to −.011, adjusted p = .0003)"."""
    span = " to ".join(signed(line[end], digits) for end in ("low", "high"))
    p, least = line["p adjusted"], 10**-digits
    p_value = f"= {p:.{digits}f}" if p >= least else f"< {least:.{digits}f}"
    more = {
        EQUIVALENT: f", within ± {line['smallest margin']:.{digits}f}",
        UNDECIDED: f", ± {line['detectable']:.{digits}f} could have been found",
    }
    word = verdict(line)
    return f"{name} is {word} ({signed(line['difference'], digits)}, {span}, adjusted p {p_value}{more.get(word, '')})"


def signed(value: float, digits: int = 4) -> str:
    """A difference with its sign, the minus as it is set."""
    return f"{value:+.{digits}f}".replace("-", "−")


def figure(
    table: pd.DataFrame, by_split: pd.DataFrame, rival: str, title: str, metric: str, margin: float = MARGIN
) -> Figure:
    """Each model minus the rival: the mean with its interval over users, splits and seeds, and a small dot for each split.

    `table` is that of `against`, `by_split` that of `split_means` with the rival in it. The band is the margin of equivalence.
    What is more than `FAR` times as far from 0 as the median is an arrow at the edge with its number.
    """
    rows = table.sort_values("difference", ascending=False)
    near = rows["difference"].abs() <= FAR * rows["difference"].abs().median()
    reach = float(max(rows.loc[near, "high"].max(), margin) - rows.loc[near, "low"].min())
    edges = {
        -1: rows.loc[near, "low"].min() - 0.12 * reach,
        1: max(rows.loc[near, "high"].max(), margin) + 0.12 * reach,
    }
    apart = by_split.loc[rows.index] - by_split.loc[rival]
    drawn, axes = plt.subplots(figsize=(plots.WIDTH_INCHES, 1.9 + 0.36 * len(rows)))
    axes.axvspan(-margin, margin, color="#E6E6E6", zorder=0)
    axes.axvline(0, color="black", linewidth=1)
    for place, line in enumerate(rows.to_dict("records")):
        shade, value = SHADES[line["verdict"]], line["difference"]
        if not near.iloc[place]:
            plots.at_the_edge(axes, value, edges[-1 if value < 0 else 1], place, shade)
            continue
        axes.plot(apart.iloc[place], np.full(apart.shape[1], place + 0.24), "o", color=shade, markersize=3, alpha=0.6)
        axes.hlines(place, line["low"], line["high"], color=shade, linewidth=3, alpha=0.6)
        axes.plot(value, place, "o", color=shade, markersize=7)
    axes.set_yticks(range(len(rows)), rows.index)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set(title=title, xlabel=f"{named(metric)}, minus that of {rival}", xlim=(edges[-1], edges[1]))
    axes.spines["left"].set_visible(False)
    axes.tick_params(left=False)
    _legend(drawn, rows["verdict"], margin)
    return drawn


def _legend(drawn: Figure, verdicts: pd.Series, margin: float) -> None:
    """What colours, small dots and the band are."""
    passed = [(word, shade) for word, shade in SHADES.items() if word in set(verdicts)]
    handles: list[Artist] = [plt.Line2D([], [], color=shade, marker="o", linewidth=3, alpha=0.7) for _, shade in passed]
    handles += [
        plt.Line2D([], [], color="black", marker="o", markersize=3, linewidth=0),
        plt.Rectangle((0, 0), 1, 1, color="#E6E6E6"),
    ]
    labels = [word for word, _ in passed] + ["one split", f"within ± {margin:g}"]
    drawn.legend(handles, labels, loc="outside lower center", ncols=3)


def best_of(validated: Mapping[str, float], models: Sequence[str]) -> str:
    """The model with the highest validation value; of equal ones the first."""
    return max(models, key=lambda name: validated[name])
