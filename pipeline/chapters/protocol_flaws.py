"""What a flaw of a protocol is worth: it is committed on purpose, and what is reported is divided by the honest value.

    inflation(among_drawn(EASE(), split, seed=0), honest=WHOLE)

Everything is NDCG@10 of each user. Intervals are over users, of whom both values are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.chapters import plots
from recsys_core import evaluate
from recsys_core.interactions import Interactions
from recsys_core.models.base import Recommender
from recsys_core.splits import N_SAMPLED_NEGATIVES, Split
from recsys_core.statistics import percentile_interval, resampled_sums
from recsys_core.train import Validation

METRIC = "ndcg@10"
HONEST, LEAK, ALL_ROWS = "held-out rows", "test rows also train", "all rows train and are tested"
WHOLE, UNIFORM, POPULAR = "whole catalogue", "among 99, drawn evenly", "among 99, drawn by popularity"
VALIDATED, ON_TEST = "epoch chosen on validation rows", "epoch chosen on test rows"
HONEST_WAYS = (HONEST, WHOLE, VALIDATED)


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


def inflation(values: pd.DataFrame, honest: str) -> pd.DataFrame:
    """A line for each other column of per-user values: honest, reported, ratio of these means, low and high over users."""
    sums = dict(zip(values.columns, resampled_sums(values.to_numpy(float)).T))
    lines = {}
    for name in values.columns.drop(honest):
        means = values[honest].mean(), values[name].mean()
        with np.errstate(divide="ignore", invalid="ignore"):  # of a model that finds nothing no multiple is known
            lines[name] = [*means, np.divide(means[1], means[0]), *percentile_interval(sums[name] / sums[honest])]
    return pd.DataFrame.from_dict(lines, orient="index", columns=["honest", "reported", "ratio", "low", "high"])


def worth(measured: Mapping[tuple[str, str], pd.DataFrame]) -> pd.DataFrame:
    """The lines of `inflation` of tables by (model, what was done), with the columns flaw and model; the smallest flaw first."""
    parts = []
    for (model, _), values in measured.items():
        honest = next(each for each in HONEST_WAYS if each in values)
        parts.append(inflation(values, honest).rename_axis("flaw").reset_index().assign(model=model))
    table = pd.concat(parts, ignore_index=True)
    medians = table.groupby("flaw")["ratio"].transform("median")
    return table.iloc[np.lexsort((table["flaw"], medians))].reset_index(drop=True)


def ranges(table: pd.DataFrame) -> pd.DataFrame:
    """The smallest and the largest ratio over models of each flaw: least and most."""
    found = table.groupby("flaw", sort=False)["ratio"].agg(["min", "max"])
    return found.rename(columns={"min": "least", "max": "most"})


def sentence(table: pd.DataFrame) -> str:
    """By how much each flaw multiplies a result, who then leads, and whom it costs something."""
    spans = [f"{flaw}: ×{line['least']:.2f} to ×{line['most']:.2f}" for flaw, line in ranges(table).iterrows()]
    leaders = []
    for flaw, part in table[table["flaw"] != ON_TEST].groupby("flaw", sort=False):
        honest, reported = (part.set_index("model")[column].idxmax() for column in ("honest", "reported"))
        leaders.append(f"{flaw}: {reported}" + (", as it should" if honest == reported else f" in place of {honest}"))
    harmed = table[table["high"] < 1]
    losses = [f"{line['model']} (×{line['ratio']:.2f}, {line['flaw']})" for line in harmed.to_dict("records")]
    also = f" Not every flaw flatters: beyond chance it costs {', '.join(losses)}." if losses else ""
    return f"The result is multiplied. {'; '.join(spans)}. Who leads then: {'; '.join(leaders)}.{also}"


def popularity_sentence(table: pd.DataFrame, popular: str = "Popularity") -> str:
    """What drawing films, and a leak, do for the popularity list and for the other models."""
    ratios = table.pivot_table("ratio", "flaw", "model")
    if popular not in ratios:
        return "The popularity list is not part of this run."
    own, rest = ratios[popular], ratios.drop(columns=popular)
    drawn = []
    for how, flaw in (("evenly", UNIFORM), ("by popularity", POPULAR)):
        others = f"{rest.loc[flaw].min():.1f} to {rest.loc[flaw].max():.1f}"
        drawn.append(f"drawn {how}, the list is multiplied by {own[flaw]:.1f} and others by {others}")
    return (
        f"Among 99 films {'; '.join(drawn)}: which films are drawn decides whom it flatters. The list cannot remember a test row. "
        f"It changes by {own[LEAK] - 1:+.0%} where test rows train, and by {own[ALL_ROWS] - 1:+.0%} where all rows are tested: "
        "so much of that is the easier question."
    )


def halves_sentence(found: Mapping[str, Mapping[str, Any]]) -> str:
    """What an epoch chosen on half of the users is worth there and elsewhere, of results of `chosen_on_test` by model."""
    said = []
    for name, of in found.items():
        own, others = of["halves"]
        said.append(
            f"{name}'s best epoch by one half of the users gains {own:+.4f} there and {others:+.4f} on the other half"
        )
    if not said:
        return "No network is part of this run."
    means = "in NDCG@10, means over random halves and seeds"
    return f"{'; '.join(said)} ({means}). The first gain is what gets reported, the second what is true of others."


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
    for place in range(1, len(flaws)):
        axes.axhline(place - 0.5, color="#DDDDDD", linewidth=0.6)
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
