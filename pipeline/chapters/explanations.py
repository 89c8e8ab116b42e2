"""What reasons for a list are worth: how many other films they fit, and what they have to do with the scores of the model."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import rankdata

from pipeline.chapters import plots
from recsys_core import evaluate
from recsys_core.app.explain import Facts, contributions
from recsys_core.app.recommend import LIKED
from recsys_core.models.base import Recommender
from recsys_core.splits import Split
from recsys_core.statistics import bootstrap_interval, paired_interval

N_LISTED = 10
N_NEAR = 10  # films as popular as one that is recommended
GROUPS = {"recommended": "recommended", "as popular": "others, as popular", "unseen": "all other films"}


def lists(model: Recommender, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """The (B,) test users with training rows, and the (B, 10) films that a fitted model shows them, -1 for an empty place."""
    task = evaluate.RankingTask(split.refit, split.test, cutoffs=(min(N_LISTED, split.refit.n_items),))
    ranked = evaluate.rank(model, task)
    known = ranked.users["known"].to_numpy(bool)
    return ranked.users["user"].to_numpy()[known], ranked.lists[known]


def explained_shares(model: Recommender, facts: Facts, split: Split, some: tuple[str, ...] = ()) -> pd.DataFrame:
    """What share of films a fact explains that they share with a film that the user liked (4 stars or more).

    One row per test user and kind of fact, and one for the kinds in `some`, which come first, together. Columns: user, n_liked,
    kind, and the shares recommended (of the films shown), as popular (of the ten other unseen films nearest to each in training
    rows) and unseen (of all other films with training rows). A user without such films is left out.
    """
    train, rows = split.refit, []
    for user, shown in zip(*lists(model, split)):
        mine = train.users == user
        liked = train.items[mine & (train.ratings >= LIKED)]
        shown = shown[shown >= 0]
        unseen, near = _others(train.item_counts, train.items[mine], shown)
        if len(unseen):
            marks = {kind: facts.shared(kind, liked) for kind in some}
            if some:
                marks[f"any of these {len(some)}"] = np.any(list(marks.values()), axis=0)
            marks |= {kind: facts.shared(kind, liked) for kind in facts.flags if kind not in some}
            groups = {"recommended": shown, "as popular": near, "unseen": unseen}
            rows += [
                {"user": user, "n_liked": len(liked), "kind": kind}
                | {name: mark[items].mean() for name, items in groups.items()}
                for kind, mark in marks.items()
            ]
    return pd.DataFrame(rows)


def _others(item_counts: np.ndarray, seen: np.ndarray, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Films with training rows that were neither seen nor shown, and for each of (K,) shown ones the ten nearest in popularity."""
    unseen = np.setdiff1d(np.flatnonzero(item_counts), np.r_[seen, shown])
    apart = np.abs(item_counts[unseen] - item_counts[shown][:, None])  # (K, unseen)
    return unseen, unseen[np.argsort(apart, axis=1, kind="stable")[:, :N_NEAR]].ravel()


def compare_shares(shares: pd.DataFrame) -> pd.DataFrame:
    """A row per kind of fact: the mean shares over users, and recommended - as popular with its 95 % interval over users."""
    lines = {}
    for kind, each in shares.groupby("kind", sort=False):
        means = each[["recommended", "as popular", "unseen"]].mean()
        difference, low, high = paired_interval(each["recommended"].to_numpy(), each["as popular"].to_numpy())
        lines[kind] = means.to_dict() | {"difference": difference, "low": low, "high": high}
    return pd.DataFrame(lines).T.rename_axis("shared")


def largest_parts(model: Recommender, split: Split) -> pd.Series:
    """By test user, what share of the scores of the films shown comes from the film that adds most to each, on average.

    NaN for a user to whom no film has a score above 0. Raises StudyError for a model whose scores are no sums.
    """
    found = {}
    for user, shown in zip(*lists(model, split)):
        added = contributions(model, user, shown[shown >= 0])[1]
        added = added[:, added.sum(axis=0) > 0]
        found[int(user)] = float((added.max(axis=0) / added.sum(axis=0)).mean()) if added.size else np.nan
    return pd.Series(found, name="largest part")


def parts_of_reasons(model: Recommender, facts: Facts, split: Split) -> pd.DataFrame:
    """Whether the liked films that share a fact with a film shown are those that add to its score.

    One row per test user with two films or more and kind of fact that occurs: `place`, the mean place of such films among all of
    the history, ordered by what they add (1 adds most, .5 is any film), and `part`, what share of the score they add together. The
    kind "a liked film" has all liked films. Raises StudyError for a model whose scores are no sums.
    """
    rows, train = [], split.refit
    for user, shown in zip(*lists(model, split)):
        watched, added = contributions(model, user, shown[shown >= 0])
        added, shown = added[:, added.sum(axis=0) > 0], shown[shown >= 0][added.sum(axis=0) > 0]
        if len(watched) > 1 and len(shown):
            place = (rankdata(added, axis=0) - 1) / (len(watched) - 1)
            liked = (train.ratings[train.users == user] >= LIKED)[:, None]
            marks = {
                kind: liked & ((flags[watched] @ flags[shown].T).toarray() > 0) for kind, flags in facts.flags.items()
            }
            for kind, mark in (marks | {"a liked film": np.broadcast_to(liked, added.shape)}).items():
                if (told := mark.any(axis=0)).any():
                    part = (added * mark).sum(axis=0)[told] / added.sum(axis=0)[told]
                    rows.append({"user": user, "kind": kind, "place": place[mark].mean(), "part": part.mean()})
    return pd.DataFrame(rows)


def mean_parts(parts: pd.DataFrame) -> pd.DataFrame:
    """A row per kind of fact: the mean place with its 95 % interval over users, and the mean part; the highest place first."""
    lines = {}
    for kind, each in parts.groupby("kind", sort=False):
        low, high = bootstrap_interval(each["place"].to_numpy())
        lines[kind] = {"place": each["place"].mean(), "low": low, "high": high, "part": each["part"].mean()}
    return pd.DataFrame(lines).T.rename_axis("shared").sort_values("place", ascending=False)


def reasons_figure(table: pd.DataFrame) -> Figure:
    """Draw what `compare_shares` gives: a line for each kind of fact, a dot for each group of films."""
    figure, axes = plt.subplots(figsize=(plots.WIDTH_INCHES, 0.8 + 0.4 * len(table)))
    places = np.arange(len(table))[::-1]
    groups = {"unseen": plots.GREY, "as popular": plots.BLUE, "recommended": plots.ORANGE}
    axes.hlines(places, table[list(groups)].min(axis=1), table[list(groups)].max(axis=1), color=plots.GREY, alpha=0.4)
    for group, shade in groups.items():
        axes.plot(table[group], places, "o", color=shade, label=GROUPS[group])
    axes.set_yticks(places, table.index)
    axes.set(xlabel="Share of the films that have it in common with a liked film", xlim=(-0.02, 1.02))
    line = table.iloc[0]
    axes.set_title(
        f"Same {line.name}: {line['recommended']:.0%} of those shown, {line['as popular']:.0%} of those as popular"
    )
    figure.legend(loc="outside lower center", ncols=3)
    return figure
