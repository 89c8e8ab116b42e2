"""Every way to measure at once: in what share of the specifications does one model beat another, and what turns a result round.

A specification is a protocol and its split, a metric, a cut-off, which test rows are relevant, and a training's seed. Steegen et
al. 2016 (Perspectives on Psychological Science 11(5)) call all of them the multiverse. All are measured from stored ranks.
Specifications that say the same are one: with one relevant film a user, recall and precision order models as the hit ratio does,
and MAP is MRR. In a share a protocol counts as much as any other, however many splits, seeds and metrics it has. A share is no
p-value: specifications are not independent, and nobody drew them. A specification turns a result round where the model that is
ahead in most of them is behind with a 95 % interval, over the same users, that leaves 0 out; with two equal models about 2.5 % of
them would do so by chance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import special

from pipeline.chapters import plots
from pipeline.chapters.ranks import LARGEST_CUTOFF, hits
from recsys_core import metrics
from recsys_core.splits import Split

CUTOFFS = (5, 10, 25, LARGEST_CUTOFF)
LIKED_STARS = 4.0
EVERY, LIKED, LIKED_ALONE = "all", "4+", "4+, others removed"
METRICS: dict[str, Callable[[metrics.Hits, int], np.ndarray]] = {
    "NDCG": metrics.ndcg,
    "HR": metrics.hit_ratio,
    "recall": metrics.recall,
    "precision": metrics.precision,
    "MAP": metrics.average_precision,
    "MRR": metrics.mrr,
}
OF_ONE = ("NDCG", "HR", "MRR")  # what is not the same where each user has one relevant film
CHOICES = ("protocol", "split", "seed", "metric", "cutoff", "positives")
WITHIN = {"split": ["protocol"], "seed": ["protocol", "split"]}  # in which such a choice is there to be made
LEVEL = 0.95
ORDERED = 2 / 3  # of the specifications in which a model is ahead, before one speaks of an order


class Place(NamedTuple):
    """A split with what it is called in tables, and the seeds with which a model that draws at random is trained for it."""

    split: Split
    label: str
    seeds: tuple[int, ...]


class Specification(NamedTuple):
    """A way to measure a ranking: a metric of `METRICS`, a cut-off, and which test rows are relevant."""

    metric: str
    cutoff: int
    positives: str


Values = Mapping[tuple[int, int], np.ndarray]  # place and seed → (specifications of its split, users)


def specifications(split: Split, cutoffs: Sequence[int] = CUTOFFS) -> list[Specification]:
    """The different ways to measure a ranking of a split's test rows."""
    test = split.test
    single = bool((test.user_counts[np.unique(test.users)] == 1).all())
    lower = test.explicit and bool((test.ratings < LIKED_STARS).any())
    positives = [EVERY] + [LIKED] * lower + [LIKED_ALONE] * (lower and not single)
    found = [Specification(m, k, p) for p in positives for m in (OF_ONE if single else METRICS) for k in cutoffs]
    n_candidates = np.inf if split.negatives is None else split.negatives.shape[1] + 1
    return [each for each in found if each.metric != "HR" or each.cutoff < n_candidates]


def measured(split: Split, twice: np.ndarray, asked: Sequence[Specification]) -> np.ndarray:
    """(S, B) values of S specifications for the B users with test rows, in ascending order; NaN for one without relevant rows.

    `twice` is what `ranks.twice_ranks` gave for the split's test rows.
    """
    users, rows = np.unique(split.test.users, return_inverse=True)
    liked = split.test.ratings >= LIKED_STARS
    kinds = {EVERY: (np.ones(len(rows), bool), None), LIKED: (liked, None), LIKED_ALONE: (liked, ~liked)}
    found = {kind: hits(rows, twice, *kinds[kind], n_users=len(users)) for kind in {each.positives for each in asked}}
    return np.stack([METRICS[each.metric](found[each.positives], each.cutoff) for each in asked])


def difference(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over users of (S, B) values a - b, (S,), and how far its 95 % t interval reaches to either side, (S,)."""
    apart = a - b
    n = (~np.isnan(apart)).sum(axis=1)
    reach = special.stdtrit(n - 1, (1 + LEVEL) / 2) * np.nanstd(apart, axis=1, ddof=1) / np.sqrt(n)
    return np.nanmean(apart, axis=1), reach


def compared(models: Mapping[str, Values], places: Sequence[Place]) -> pd.DataFrame:
    """Each pair of models under each specification that both have: columns model, rival, `CHOICES`, difference, low, high.

    Seeds are paired by their place; a model without chance has one run, which stands beside every seed of the other. A split that a
    model has no run of, since it cannot rank users that it was not trained on, is left out of its pairs.
    """
    asked = [specifications(place.split) for place in places]
    parts = []
    for one, other in combinations(models, 2):
        for at, place in enumerate(places):
            mine, theirs = (_runs(models[name], at) for name in (one, other))
            for seed in range(max(len(mine), len(theirs)) if mine and theirs else 0):
                found, reach = difference(mine[min(seed, len(mine) - 1)], theirs[min(seed, len(theirs) - 1)])
                part = pd.DataFrame(asked[at], columns=Specification._fields)
                labels = {"model": one, "rival": other, "protocol": place.split.protocol, "split": place.label}
                parts.append(part.assign(**labels, seed=seed, difference=found, low=found - reach, high=found + reach))
    columns = ["model", "rival", *CHOICES, "difference", "low", "high"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _runs(values: Values, place: int) -> list[np.ndarray]:
    return [values[key] for key in sorted(values) if key[0] == place]


def led(table: pd.DataFrame) -> pd.DataFrame:
    """The lines of `compared` with the model first that is ahead in more of the pair's specifications.

    Further columns, shares in each line: `ahead` (1, or ½ where both have the same), `decided` and `turned` (1 where the interval
    lies above, below 0), and `weight`, with which the protocols of a pair count equally.
    """
    if table.empty:
        return table.assign(ahead=[], decided=[], turned=[], weight=[])
    sizes = table.groupby(["model", "rival", "protocol"])["difference"].transform("size")
    n_protocols = table.groupby(["model", "rival"])["protocol"].transform("nunique")
    table = table.assign(weight=1 / (sizes * n_protocols), ahead=(np.sign(table["difference"]) + 1) / 2)
    behind = (table["ahead"] * table["weight"]).groupby([table["model"], table["rival"]]).transform("sum") < 0.5
    swapped = table.rename(columns={"model": "rival", "rival": "model", "low": "high", "high": "low"})
    swapped = swapped.assign(**{name: -swapped[name] for name in ("difference", "low", "high")})
    swapped["ahead"] = 1 - swapped["ahead"]
    both = pd.concat([table[~behind], swapped[behind]])[table.columns].sort_index()
    return both.assign(decided=(both["low"] > 0) * 1.0, turned=(both["high"] < 0) * 1.0)


def shares(lines: pd.DataFrame) -> pd.DataFrame:
    """A line a pair of `led`, the clearest first: `ahead`, `decided`, `turned` as shares and how many specifications there are."""
    kinds = ["ahead", "decided", "turned"]
    weighted = lines[kinds].multiply(lines["weight"], axis=0).groupby([lines["model"], lines["rival"]]).sum()
    weighted["specifications"] = lines.groupby(["model", "rival"]).size()
    return weighted.sort_values(["ahead", "decided"], ascending=False, kind="stable")


def matrix(pairs: pd.DataFrame, value: str = "ahead") -> pd.DataFrame:
    """The share of the row's model against the column's, from `shares`; the model that is ahead most often first."""
    names = dict.fromkeys(name for pair in pairs.index for name in pair)
    square = pd.DataFrame(np.nan, index=list(names), columns=list(names))
    for (model, rival), share in zip(pairs.index.tolist(), pairs[value].tolist()):
        square.loc[model, rival], square.loc[rival, model] = share, 1 - share
    order = square.mean(axis=1).sort_values(ascending=False, kind="stable").index
    return square.loc[order, order]


def by_choice(lines: pd.DataFrame) -> pd.DataFrame:
    """For each value of each choice the share of specifications of all pairs that turn the pair's result round, or only its sign.

    Index choice and value; protocols and pairs weigh equally in what has that value. Splits and seeds are those of protocols and
    pairs that have several, so that all values of a choice are seen by the same pairs.
    """
    parts = {}
    for choice in CHOICES:
        n_values = lines.groupby(["model", "rival", *WITHIN.get(choice, [])])[choice].transform("nunique")
        among = lines[n_values > 1] if choice in WITHIN else lines
        for value, part in among.groupby(choice, sort=False):
            weight = part["weight"] / part["weight"].sum()
            turned = float((part["turned"] * weight).sum())
            parts[choice, str(value)] = {"turned": turned, "behind": float(((1 - part["ahead"]) * weight).sum())}
    table = pd.DataFrame.from_dict(parts, orient="index", columns=["turned", "behind"])
    return table.rename_axis(["choice", "value"]) if len(table) else table


def turning(lines: pd.DataFrame, pair: tuple[str, str]) -> str:
    """In words, what the specifications have in common that turn a pair's result round; empty where none does.

    The share of each protocol, and of every other choice the values outside of which none turns it.
    """
    mine = lines[(lines["model"] == pair[0]) & (lines["rival"] == pair[1])]
    flips = mine[mine["turned"] > 0]
    if flips.empty:
        return ""
    rates = mine.groupby("protocol", sort=False)["turned"].mean()
    said = [", ".join(f"{name} {rate:.1%}" for name, rate in rates[rates > 0].items())]
    within = mine[mine["protocol"].isin(flips["protocol"])]
    for choice in [each for each in CHOICES if each not in ("protocol", "split", "seed")]:
        some, every = flips[choice].unique(), within[choice].unique()
        said += [f"only {choice} {' or '.join(map(str, some))}"] if len(some) < len(every) else []
    return "; ".join(said)


def turned_round(lines: pd.DataFrame) -> pd.DataFrame:
    """The pairs whose result some specification turns round, most often first: `ahead`, `decided`, `turned`, `where`."""
    pairs = shares(lines)
    found = pairs[pairs["turned"] > 0].sort_values("turned", ascending=False, kind="stable")
    return found.assign(where=[turning(lines, pair) for pair in found.index])


def in_words(found: pd.DataFrame) -> list[str]:
    """A line of `turned_round` as a sentence each; that no pair is turned round, where there is none."""
    if found.empty:
        return ["No specification turns a pair's result round."]
    return [
        f"{model} is ahead of {rival} in {line['ahead']:.0%} (with an interval without 0 in {line['decided']:.0%}); "
        f"turned round in {line['turned']:.1%}: {line['where']}."
        for (model, rival), line in zip(found.index.tolist(), found.to_dict("records"))
    ]


def most_turning(choices: pd.DataFrame) -> str:
    """The choice between whose values the shares of `by_choice` differ most, in a sentence."""
    if choices.empty:
        return "Nothing is compared here."
    groups = choices["turned"].groupby(level="choice")
    choice = str((groups.max() - groups.min()).idxmax())
    of_it = choices["turned"].xs(choice).sort_values(ascending=False)
    return (
        f"What turns results round most is the {choice}: {of_it.iloc[0]:.1%} of the specifications with {of_it.index[0]} do, "
        f"and {of_it.iloc[-1]:.1%} of those with {of_it.index[-1]}."
    )


def headline(pairs: pd.DataFrame) -> str:
    """Of how many pairs with one order in most specifications some turns it round, as the title of a figure."""
    if pairs.empty:
        return "Fewer than two models have ranks here"
    ordered = pairs[pairs["ahead"] >= ORDERED]
    turned = int((ordered["turned"] > 0).sum())
    return f"{len(ordered)} of {len(pairs)} pairs have one order in two thirds of the ways or more; some way turns {turned} of them"


def sentence(pairs: pd.DataFrame) -> str:
    """How many pairs keep their order, and which of those that have one in most specifications is turned round most often."""
    if pairs.empty:
        return "There are ranks of fewer than two models here, so that nothing can be compared."
    same, often = int((pairs["ahead"] == 1).sum()), pairs[pairs["turned"] > 0].sort_values("turned", kind="stable")
    said = f"Of {len(pairs)} pairs of models {same or 'none'} {'has' if same < 2 else 'have'} one order in every specification"
    said += f"; of {len(pairs) - len(often)} the order is turned round by no specification whose interval leaves 0 out"
    ordered = often[often["ahead"] >= ORDERED]
    if len(ordered):
        (model, rival), share = ordered.index[-1], ordered["turned"].iloc[-1]
        said += f"; of pairs with one order in two thirds or more, that {model} is ahead of {rival} is turned round most often"
        said += f", in {share:.0%} of the specifications"
    return f"{said}."


def as_tuned(lines: pd.DataFrame, protocol: str, cutoff: int = 10) -> tuple[int, int]:
    """How many pairs have in all specifications of `protocol` with NDCG at `cutoff` of all positives the order that most have.

    That is the measure by which settings were chosen; the second number is that of all pairs that it compares.
    """
    same = lines[(lines["protocol"] == protocol) & (lines["metric"] == "NDCG") & (lines["cutoff"] == cutoff)]
    ahead = same[same["positives"] == EVERY].groupby(["model", "rival"])["ahead"].min()
    return int((ahead == 1).sum()), len(ahead)


def figure(pairs: pd.DataFrame, title: str) -> Figure:
    """The matrix of shares, purple where the row's model is ahead and orange where the column's is.

    A dot marks pairs whose result some specification turns round; without pairs the figure says that there are none.
    """
    if pairs.empty:
        drawn, axes = plt.subplots(figsize=(plots.WIDTH_INCHES, 1.2))
        axes.set_axis_off()
        axes.text(0, 0.5, title, va="center")
        return drawn
    square, turned = matrix(pairs), {frozenset(pair) for pair in pairs.index[pairs["turned"] > 0]}
    size = len(square)
    drawn, axes = plt.subplots(figsize=(plots.WIDTH_INCHES, 1.6 + 0.5 * size))
    axes.imshow(square.to_numpy(), cmap="PuOr", vmin=-0.2, vmax=1.2, aspect="auto")
    for row, column in np.argwhere(square.notna().to_numpy()):
        share = square.iloc[row, column]
        mark = " •" if frozenset((square.index[row], square.columns[column])) in turned else ""
        shade = "white" if abs(share - 0.5) > 0.4 else "black"
        axes.text(column, row, f"{_percent(share)}{mark}", ha="center", va="center", color=shade, fontsize=9)
    axes.set_xticks(range(size), square.columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(size), square.index)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title)
    axes.set_xlabel("% of the specifications in which the row's model is ahead")
    return drawn


def _percent(share: float) -> str:
    """A share in whole percent; only what is all or nothing is printed so."""
    rounded = round(100 * share)
    return "<1" if share > 0 and rounded == 0 else ">99" if share < 1 and rounded == 100 else f"{rounded}"


def about(places: Sequence[Place]) -> pd.DataFrame:
    """A line a split: protocol, split, users and rows in test, how many specifications a ranking has there, and seeds."""
    rows: list[dict[str, Any]] = [
        {
            "protocol": place.split.protocol,
            "split": place.label,
            "users": len(np.unique(place.split.test.users)),
            "test rows": len(place.split.test),
            "ways to measure": len(specifications(place.split)),
            "seeds": len(place.seeds),
        }
        for place in places
    ]
    return pd.DataFrame(rows).set_index(["protocol", "split"])
