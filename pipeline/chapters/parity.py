"""Published numbers beside what the same files give here: what counts as reached, as a table and as a figure.

The band of a published number lies from `below` under it to `above` over it; without a band it is there to be compared, and no
verdict is passed. The interval of ours is that over users, of the mean over seeds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import copy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from pipeline.chapters import plots
from pipeline.chapters.candidates import TRIED, told
from pipeline.chapters.comparisons import named
from pipeline.chapters.gate import GivenScores
from pipeline.chapters.store import Store
from recsys_core import evaluate
from recsys_core.interactions import Interactions
from recsys_core.models.base import Recommender
from recsys_core.splits import Split
from recsys_core.train import Validation

ON_TEST, OPENED = "by epoch on test", "opened"  # roles of rows
MEASURED = ("hit_ratio@10", "ndcg@10")
REACHED, BELOW, ABOVE, CONTEXT = "reached", "below", "above", "for comparison"
IMPLEMENTATION_BAND = 0.01  # of NDCG@10 between two implementations
SAME, ANOTHER, UNDECIDED = "the same", "another", "undecided"
VERDICTS = {REACHED: plots.GREEN, ABOVE: plots.BLUE, BELOW: plots.VERMILION, CONTEXT: plots.GREY}


def reference_name(model: str) -> str:
    """The name under which reports/references.csv has a model: "MLP-3, k = 8" is `mlp_3_k_8`."""
    return re.sub(r"[^a-z0-9]+", "_", model.lower()).strip("_")


def beside_published(published: pd.DataFrame, board: pd.DataFrame, metrics: Sequence[str] = MEASURED) -> pd.DataFrame:
    """A line for each published figure of a model on the board: both values, ours with its interval and its seeds, the verdict.

    `published` has name, source, metric, value, below and above, `board` is a leaderboard. Columns: model, source, metric,
    published, least and most (of the band), ours, low, high, sd (over seeds), seeds, difference, inside (the published value lies
    in our interval) and verdict. Models follow the board, and a model's published figures their own order.
    """
    lines = []
    for model in board.to_dict("records"):
        mine = published[published["name"] == reference_name(str(model["model"]))]
        for figure in mine[mine["metric"].isin(metrics)].to_dict("records"):
            metric, value = figure["metric"], float(figure["value"])
            low, high = (model.get(f"{metric} {end}", np.nan) for end in ("low", "high"))
            ours, least, most = float(model[metric]), value - figure["below"], value + figure["above"]
            line = {"model": model["model"], "source": figure["source"], "metric": metric, "published": value}
            line |= {"least": least, "most": most, "ours": ours, "low": low, "high": high}
            line |= {"sd": model.get(f"{metric} sd", np.nan), "seeds": model["seeds"], "difference": ours - value}
            lines.append(line | {"inside": low <= value <= high, "verdict": verdict(ours, least, most)})
    return pd.DataFrame(lines)


def verdict(ours: float, least: float, most: float) -> str:
    """Whether a value lies in a band, below or above it; without one (NaN) it stands beside the published one and no more."""
    if np.isnan(least) or np.isnan(most):
        return CONTEXT
    return BELOW if ours < least else ABOVE if ours > most else REACHED


def in_one(verdicts: pd.Series) -> str:
    """The verdict on a model of those on its metrics: reached where all are, else the first that is not."""
    missed = verdicts[verdicts != REACHED]
    return REACHED if missed.empty else str(missed.iloc[0])


def parity_table(lines: pd.DataFrame, minutes: pd.Series, metrics: Sequence[str] = MEASURED) -> pd.DataFrame:
    """The lines of `beside_published` as texts, one a model and source: published, ours, interval, seeds, verdict, minutes.

    `minutes` are those of a model's runs, by model.
    """
    table = []
    for (model, source), mine in lines.groupby(["model", "source"], sort=False):
        values = mine.set_index("metric").reindex(list(metrics))
        spans = [f"{low:.3f}–{high:.3f}" for low, high in values[["low", "high"]].to_numpy()]
        line: dict[str, object] = {
            "model": model,
            "source": source,
            "published": " / ".join(f"{v:.3f}" for v in values["published"]),
        }
        line |= {"ours": " / ".join(f"{value:.3f}" for value in values["ours"]), "interval": " / ".join(spans)}
        line |= {"seeds": int(mine["seeds"].iloc[0]), "verdict": in_one(mine["verdict"])}
        table.append(line | {"minutes": minutes.get(model, np.nan)})
    return pd.DataFrame(table)


def beside_implementations(peers: pd.DataFrame) -> pd.DataFrame:
    """Models of other libraries, trained on the same rows with the same settings, beside ours, by NDCG@10: a line for each case.

    `peers` is what `make peers` stored. Columns: library, model, settings (of ours), data, seeds, theirs,
    ours, low and high (of ours - theirs, over users and seeds), verdict: the same where the interval lies within
    `IMPLEMENTATION_BAND`, else another where it is all above or all below zero, else undecided.
    """
    held = peers[peers["measure"] == "ndcg"]
    columns = ["library", "model", "settings", "data", "seeds", "theirs", "ours", "low", "high"]
    lines = held.rename(columns={"version": "library", "what": "model", "rounds": "seeds"})[columns]
    inside = (lines["low"] >= -IMPLEMENTATION_BAND) & (lines["high"] <= IMPLEMENTATION_BAND)
    outside = (lines["low"] > 0) | (lines["high"] < 0)
    return lines.assign(verdict=np.select([inside, outside], [SAME, ANOTHER], UNDECIDED)).reset_index(drop=True)


def beside_table(held: pd.DataFrame, table: pd.Series, library: str, model: str) -> str:
    """What a published table has, a row of the references, and where that library's model and ours lie beside its band.

    `held` is what `beside_implementations` gives.
    """
    mine = held[held["library"].str.startswith(library) & held["model"].eq(model)].to_dict("records")
    said = f"{table['source']}: NDCG@10 {table['value']:.3f} for {model}, of one drawing of rows."
    if not mine:
        return f"{said} Not run here yet."
    values = {f"{library}'s": mine[0]["theirs"]} | {f"ours, {line['settings']}": line["ours"] for line in mine}
    band = table["value"] - table["below"], table["value"] + table["above"]
    judged = "; ".join(f"{name} {value:.3f}, {verdict(value, *band)}" for name, value in values.items())
    return f"{said} With the band of {table['above']} that was set beforehand: {judged}."


def noted(results: pd.DataFrame, role: str, model: str | None = None) -> pd.DataFrame:
    """What was noted beside runs under a role (`Experiments.note`), of one model or all: index model, variant, columns metrics."""
    rows = results[results["role"] == role]
    rows = rows if model is None else rows[rows["model"] == model]
    return rows.pivot_table("value", ["model", "variant"], "metric", sort=False)


def minutes_of(results: pd.DataFrame, protocol: str) -> pd.Series:
    """Minutes of one core by model: of all settings that were tried on validation rows, and of the trainings of all seeds.

    A training that went on from a checkpoint does not know its time and counts as the mean of the others, or where there are none
    as all that was tried.
    """
    rows = results[(results["role"] == "") & (results["protocol"] == protocol) & (results["metric"] == MEASURED[-1])]
    parts = [rows.groupby("model")["seconds"], noted(results, TRIED)["minutes"].groupby("model")]
    trained, tried = (each.mean() * each.size() for each in parts)
    return (trained / 60).fillna(tried) + tried


def by_epoch_on_test(model: Recommender, split: Split, seed: int = 0) -> pd.DataFrame:
    """What a model is worth on the test rows after every epoch: how a paper chose that took the best of these.

    It learns from training and validation rows. Index "epoch 001" …, a column for each of `MEASURED`. Nothing in this study is
    chosen by it.
    """
    found: list[pd.Series] = []

    def judge(model: Recommender, train: Interactions, rows: Interactions, history: Interactions | None) -> Validation:
        task = evaluate.RankingTask(train, rows, history, split.negatives, cutoffs=(10,))

        def measured() -> float:
            found.append(evaluate.rank(model, task).users[list(MEASURED)].mean())
            return float(found[-1][MEASURED[0]])

        return Validation(MEASURED[0], measured, True)

    copy(model).fit(split.refit, split.test, seed, judge=judge)
    return pd.DataFrame(found).set_axis([f"epoch {epoch:03}" for epoch in range(1, len(found) + 1)])


def openings(store: Store, split: Split) -> dict[str, pd.DataFrame]:
    """Each time that a split's test rows were read: of each model the settings of its stored runs (the index) and the values.

    Also of settings that are tried no more: what was read once stays in the store. Columns: `MEASURED` (means over seeds), seeds.
    """
    found: dict[str, list[pd.Series]] = {}
    for content in store.contents():
        runs, identity = content["runs"].values(), content["identity"]
        of_split = identity["protocol"] == split.protocol and identity["split"].startswith(split.sha256[:12])
        if not of_split or identity["model"] == GivenScores.__name__ or not runs:
            continue
        values = {metric: np.mean([run["metrics"][""][metric][0] for run in runs]) for metric in MEASURED}
        name = re.sub(r" \(stated\).*", "", content["label"])
        line = pd.Series(values | {"seeds": len(runs)}, name=told(identity["settings"]))
        found.setdefault(name, []).append(line)
    return {name: pd.DataFrame(lines).sort_index() for name, lines in sorted(found.items())}


def figure(lines: pd.DataFrame, title: str, metrics: Sequence[str] = MEASURED) -> Figure:
    """Ours minus the published value, a dot with its interval and the band, one row a model and source; the value stands beside."""
    rows = list(dict.fromkeys(zip(lines["model"], lines["source"])))
    figure, sides = plt.subplots(1, 2, figsize=(plots.WIDTH_INCHES, 1.9 + 0.42 * len(rows)), sharey=True)
    for axes, metric in zip(sides, metrics):
        for line in lines[lines["metric"] == metric].to_dict("records"):
            row, shade = rows.index((line["model"], line["source"])), VERDICTS[line["verdict"]]
            published = line["published"]
            if line["verdict"] != CONTEXT:
                band = line["most"] - line["least"]
                axes.barh(row, band, left=line["least"] - published, color="#E6E6E6", height=0.7)
            axes.plot([0, 0], [row - 0.35, row + 0.35], color="black", linewidth=1.8)
            axes.hlines(row, line["low"] - published, line["high"] - published, color=shade, linewidth=3, alpha=0.45)
            axes.plot(line["difference"], row, "o", color=shade, markersize=5)
            beside = {"xycoords": axes.get_yaxis_transform(), "va": "center", "ha": "right", "fontsize": 9}
            axes.annotate(f"{published:.3f}", (1, row), **beside)
        axes.set_xlabel(f"{named(metric)} minus published")
        axes.grid(axis="x", alpha=0.3)
        axes.spines["left"].set_visible(False)
        axes.tick_params(left=False)
        axes.set_xlim(right=axes.get_xlim()[1] + 0.25 * np.ptp(axes.get_xlim()))  # room for the published values
    sides[0].set_yticks(range(len(rows)), [f"{model}\n{source}" for model, source in rows], fontsize=9)
    sides[0].set_ylim(len(rows) - 0.4, -0.6)
    _legend(figure, lines)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    return figure


def _legend(figure: Figure, lines: pd.DataFrame) -> None:
    """What dots, lines and bands are; of the verdicts those that were passed."""
    passed = [(word, shade) for word, shade in VERDICTS.items() if word in set(lines["verdict"])]
    handles: list[Artist] = [plt.Line2D([], [], color=shade, marker="o", linewidth=3, alpha=0.7) for _, shade in passed]
    handles += [plt.Line2D([], [], color="black", linewidth=1.8), plt.Rectangle((0, 0), 1, 1, color="#E6E6E6")]
    labels = [f"ours, {word}" for word, _ in passed] + ["published, its value at the right", "what counts as reached"]
    figure.legend(handles, labels, loc="outside lower center", ncols=3)


def orders_figure(orders: pd.DataFrame, families: Mapping[str, str], title: str) -> Figure:
    """The rank of each model (a row) by each column of values, the best on top, joined by a line in the colour of its family."""
    ranks = orders.rank(ascending=False, method="first")
    figure, axes = plt.subplots(figsize=(plots.WIDTH_INCHES, 2.4 + 0.36 * len(ranks)))
    drawn: Counter[str] = Counter()
    last = orders.iloc[:, -1]
    for model in map(str, ranks.sort_values(ranks.columns[0]).index):
        family, places = families.get(model, ""), ranks.loc[model].to_numpy()
        line = ("-", "--", ":", "-.")[drawn[family] % 4]  # models of one family
        drawn[family] += 1
        axes.plot(range(len(places)), places, line, marker="o", color=plots.family_colour(family), markersize=6)
        axes.annotate(model, (0, places[0]), (-10, 0), textcoords="offset points", ha="right", va="center")
        end = f"{model}, {last[model]:.3f}"
        axes.annotate(end, (len(places) - 1, places[-1]), (10, 0), textcoords="offset points", va="center")
    axes.set_xticks(range(ranks.shape[1]), [str(name).replace(", ", "\n") for name in ranks.columns])
    axes.set(yticks=[], xlim=(-1.1, ranks.shape[1] + 0.15), ylim=(len(ranks) + 0.6, 0.4))
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(bottom=False)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=13)
    plots.legend_of_families(figure, drawn)
    return figure
