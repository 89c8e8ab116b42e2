"""Which of several recommenders to take for one's ratings: what is measured of each, and the choice in words.

The choice is made on validation rows. Test rows say what the chosen model is worth, and which others cannot be told apart from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from time import perf_counter, process_time
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from pipeline.chapters import plots
from pipeline.chapters.comparisons import BETTER, UNDECIDED, Comparison
from pipeline.chapters.experiment import Experiments
from pipeline.chapters.fits import with_chosen
from pipeline.chapters.store import Selection
from pipeline.chapters.study import MANY_ROWS, STATED
from recsys_core.errors import refuse_unknown
from recsys_core.evaluate import top_k
from recsys_core.interactions import Interactions
from recsys_core.judging import judge_by
from recsys_core.models.base import Recommender
from recsys_core.models.memory import DoesNotFitError
from recsys_core.models.registry import MODELS, SEARCHES
from recsys_core.releases.own import has_times
from recsys_core.splits import Split
from recsys_core.statistics import rmse_interval

REHEARSED_ROWS, N_ASKED = (10_000, 30_000), 200  # users whose lists are timed
LENGTHS = (0, 10, 30, 100)  # ratings of a user, at which groups begin
BASELINE, LENGTH_OF_A_LIST = "popularity", 10
LONG_S = 60  # of training, from which a quicker model is worth a word
FEW_USERS = 30  # tested, below which a choice is next to chance


def candidates(study: Experiments, names: Sequence[str], settings: str, **shared: Any) -> dict[str, Recommender]:
    """Unfitted models by title; `names` are those of searches or models, `settings` see `Notebook.hyperparameters`.

    `shared` are settings of all models that have them, such as the device. Raises StudyError for an unknown name, and where there
    is no such search of a model that has a space to search.
    """
    refuse_unknown("models", list(names), [*MODELS, *SEARCHES])
    found = {}
    for name in names:
        search = SEARCHES.get(name)
        kind = MODELS[name] if search is None else search.kind
        chosen = {} if search is None else search.fixed
        if search is not None and settings != STATED:
            chosen = chosen | study.hyperparameters(name, settings)
        known = {each.name for each in fields(kind)}  # type: ignore[arg-type]
        common = {name: value for name, value in shared.items() if name in known}
        found[kind.title if search is None else search.title] = kind(**chosen | common)
    return found


@dataclass(frozen=True)
class Estimate:
    """Processor seconds of one fit on all rows and of lists for all users; `why` says why there will be none."""

    seconds: float
    why: str = ""


def estimated(model: Recommender, rows: Interactions) -> Estimate:
    """What a model will cost on these rows, from what it costs on the rows of some users; nothing of few rows.

    A straight line through two numbers of rows: what a model does once for the whole catalogue is not multiplied.
    """
    if len(rows) < MANY_ROWS:
        return Estimate(0.0)
    try:
        (few, few_fit_s, few_list_s), (more, fit_s, list_s) = [
            rehearsed(model, rows, n_rows) for n_rows in REHEARSED_ROWS
        ]
    except DoesNotFitError as error:
        return Estimate(0.0, str(error))
    if more == few:  # one user has them all
        return Estimate(fit_s * len(rows) / more + rows.n_users * list_s)
    times = (len(rows) - more) / (more - few)  # as far again as from the one sample to the other
    whole_fit_s, whole_list_s = fit_s + times * max(fit_s - few_fit_s, 0), list_s + times * max(list_s - few_list_s, 0)
    return Estimate(whole_fit_s + rows.n_users * whole_list_s)


def rehearsed(model: Recommender, rows: Interactions, n_rows: int) -> tuple[int, float, float]:
    """Rows of the first users that have so many together; processor seconds of a fit on them, and of a user's scores after it."""
    last = int(np.searchsorted(np.cumsum(rows.user_counts), n_rows))
    sample = rows.take(rows.users <= last)
    start = process_time()
    fitted = type(model)(**model.hyperparameters).fit(sample, None, 0)
    done = process_time()
    asked = torch.as_tensor(np.unique(sample.users)[:N_ASKED])
    fitted.score(asked)
    return len(sample), done - start, (process_time() - done) / len(asked)


def affordable(
    models: Mapping[str, Recommender], rows: Interactions, most_minutes: float, n_seeds: int = 1
) -> tuple[dict[str, Recommender], dict[str, str]]:
    """The models that have something to learn and fit in memory and in time, and a sentence on why for each of the others.

    A model is fitted once to be validated, once more where validation rows choose its epochs, and then with each seed if it draws.
    """
    kept, left, all_minutes = {}, {}, 0.0
    for title, model in models.items():
        if model.own_traits.predicts_ratings and not rows.explicit:
            left[title] = "It predicts ratings, and these are no opinions."
            continue
        cost = estimated(model, rows)
        n_fits = 1 + int(model.chooses) + (n_seeds if model.own_traits.stochastic else 1)
        minutes = n_fits * cost.seconds / 60
        if cost.seconds:
            print(f"{title}: about {minutes:,.1f} minutes", flush=True)
        if cost.why:
            left[title] = cost.why
        elif minutes > most_minutes:
            left[title] = f"It would take about {minutes:,.0f} minutes, and most_minutes allows {most_minutes:g}."
        else:
            kept[title], all_minutes = model, all_minutes + minutes
    if all_minutes:
        print(f"all {len(kept)} together: about {all_minutes:,.0f} minutes of processor time", flush=True)
    return kept, left


def run_all(
    study: Experiments, models: Mapping[str, Recommender], protocol: str, seeds: list[int], settings: str
) -> dict[str, str]:
    """Run all models, each from the store where it is there; a sentence for each that does not fit in memory."""
    left = {}
    for title, model in models.items():
        try:
            study.run(title, model, [protocol], seeds, settings, main=False)
        except DoesNotFitError as error:
            left[title] = str(error)
    return left


def validated(study: Experiments, models: Mapping[str, Recommender], split: Split) -> dict[str, float]:
    """NDCG@10 on validation rows by title, best first, of all users whatever a model validates on while it trains.

    Of networks with the epochs that these rows chose, which is in their favour.
    """
    found = {}
    for title, model in models.items():
        selection = study.validated(title, model, split) if model.chooses else Selection({})
        fitted = with_chosen(model, selection).fit(split.train, None, 0)
        train, rows, history = split.train, split.validation, split.validation_history
        found[title] = judge_by("ndcg@10", fitted, train, rows, history).measure()
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def equals(compared: Comparison) -> list[str]:
    """The models that could not be told apart from the rival, which is the same in all lines."""
    lines = compared.lines
    return [str(name) for name in lines.loc[lines["verdict"] == UNDECIDED, "model"]]


def by_length(study: Experiments, split: Split, models: Sequence[str], metric: str = "ndcg@10") -> pd.DataFrame:
    """Mean of a metric by how many ratings of a user a model may read: a row a group, with its users, a column a model."""
    models = [name for name in dict.fromkeys(models) if name in set(study.users["model"])]
    users = study.users[study.users["model"].isin(models)]
    known = split.refit.user_counts[users["user"].to_numpy()]
    at = np.searchsorted(LENGTHS, known, side="right") - 1
    names = [f"{low} to {high - 1}" for low, high in pairwise(LENGTHS)] + [f"{LENGTHS[-1]} and more"]
    table = users.assign(group=at).pivot_table(index="group", columns="model", values=metric, aggfunc="mean")
    table.insert(0, "users", users.groupby(at)["user"].nunique().reindex(table.index))
    return table[["users", *[name for name in models if name in table]]].rename(index=dict(enumerate(names)))


def answering_ms(model: Recommender, n_users: int = 50, k: int = 10) -> float:
    """Median milliseconds that a fitted model takes for one user's list."""
    users = np.flatnonzero(model.train_.user_counts)[:n_users]
    taken = []
    for user in users:
        start = perf_counter()
        scores = model.score(torch.tensor([int(user)])).cpu()
        top_k(scores, min(k, scores.shape[1]), type(model).__name__)
        taken.append(1000 * (perf_counter() - start))
    return float(np.median(taken))


def facts_of(study: Experiments) -> dict[str, Any]:
    """What there is: numbers of ratings, users and items, and how many ratings they have."""
    rows = study.rows
    return {
        "ratings": len(rows),
        "users": int((rows.user_counts > 0).sum()),
        "items": int((rows.item_counts > 0).sum()),
        "share of all pairs, %": round(100 * len(rows) / (rows.n_users * rows.n_items), 3),
        "ratings of a user, median": float(np.median(rows.user_counts)),
        "ratings of an item, median": float(np.median(rows.item_counts)),
        "users with one rating": int((rows.user_counts == 1).sum()),
        "items with one rating": int((rows.item_counts == 1).sum()),
    }


def spread(study: Experiments) -> Figure:
    """How ratings are shared: users and items by how many they have, most first, on logarithmic scales."""
    figure, axes = plt.subplots(figsize=(plots.WIDTH_INCHES, 3.6))
    shades = {"users": plots.USERS, "items": plots.FILMS}
    for (name, shade), counts in zip(shades.items(), (study.rows.user_counts, study.rows.item_counts)):
        ordered = np.sort(counts[counts > 0])[::-1]
        axes.plot(np.arange(1, len(ordered) + 1), ordered, color=shade, linewidth=2.5, label=f"{len(ordered):,} {name}")
    most = np.sort(study.rows.item_counts)[::-1]
    share = most[: max(1, round(0.1 * len(most)))].sum() / len(study.rows)
    axes.set(xscale="log", yscale="log", xlabel="Place, most ratings first", ylabel="Ratings")
    axes.set_title(f"A tenth of the items has {share:.0%} of the ratings")
    axes.legend(loc="lower left")
    return figure


def warnings_of(study: Experiments, split: Split) -> list[str]:
    """What readers have to know before they believe a number, a sentence each; none where there is nothing."""
    rows, said = study.rows, []
    tested = len(np.unique(split.test.users))
    if tested < FEW_USERS:
        least = 0.5 ** (tested - 1)  # of a permutation test
        never = f" (p is {least:.2g} at least, before it is made larger for several models)" if least > 0.001 else ""
        said.append(
            f"Only {tested:,} users are tested: hardly any difference could be significant{never}, "
            "and the choice is next to chance."
        )
    elif tested < 100:
        said.append(f"Only {tested:,} users are tested: intervals are wide, and most differences cannot be seen.")
    unrated = rows.n_items - split.refit.user_counts[np.unique(split.test.users)]
    if np.median(unrated) <= 2 * LENGTH_OF_A_LIST:
        said.append(
            f"Half of the users have {np.median(unrated):.0f} items or fewer that they have not rated: a list of "
            f"{LENGTH_OF_A_LIST} holds most of these whatever the model, so that hits and coverage say nothing."
        )
    if left := int((rows.user_counts > 0).sum()) - tested:
        said.append(f"{left:,} users have too few ratings to be tested: what is said holds for the other {tested:,}.")
    if (single := float((rows.user_counts == 1).mean())) > 0.2:
        said.append(f"{single:.0%} of the users have one rating alone: no model that knows them by it can do much.")
    if not study.data.explicit:
        said.append("There are no opinions: what is learnt and tested is what people choose, not what they like.")
    else:
        said.append(
            "A test item counts whatever its rating: lists are tested for what people rate, not for what they like."
        )
    ties = pd.DataFrame({"user": rows.users, "time": rows.times})
    if not has_times(study.data.ratings):
        said.append("There are no times: nothing is said about what comes next, nor about change.")
    elif (tied := float(ties.duplicated(keep=False).mean())) > 0.3:
        said.append(
            f"{tied:.0%} of the ratings have the time stamp of another one of the same user; of these the file's order counts."
        )
    if rows.n_items < 100:
        said.append(f"There are {rows.n_items:,} items: a list of 10 shows {min(10 / rows.n_items, 1):.0%} of them.")
    return said


def in_words(
    chosen: str, model: Recommender, board: pd.DataFrame, compared: Comparison, seconds: Mapping[str, float]
) -> list[str]:
    """Which model to take, and why: what it is worth, what it is better than, who is level with it, and what it asks for."""
    lines = board.set_index("model")
    line, baseline = lines.loc[chosen], MODELS[BASELINE].title
    low, high = line["ndcg@10 low"], line["ndcg@10 high"]
    said = [
        f"**{chosen}** has the highest NDCG@10 on validation rows; on test rows, on which nothing was chosen, it has "
        f"{line['ndcg@10']:.3f} ({low:.3f} to {high:.3f} over users), and {line['hit_ratio@10']:.0%} of the tested "
        f"users have one of their test items in a list of 10."
    ]
    if chosen == baseline:
        said.append(
            "That is the same list for everybody. No other model had a higher value there, which is no proof that none is better."
        )
    elif baseline in lines.index:
        gap, theirs = compared.line(baseline, chosen), lines["ndcg@10"][baseline]
        verdict = str(gap["verdict"])
        verb = "cannot be told apart from it" if verdict == UNDECIDED else f"is {verdict} it"
        said.append(
            f"{baseline}, the same list for everybody, {verb} ({theirs:.3f}; difference "
            f"{gap['difference']:+.3f}, {gap['low']:+.3f} to {gap['high']:+.3f})."
        )
        if verdict == UNDECIDED:
            said.append("Nothing here shows that a personal list is better than the same list for everybody.")
    said.append(_level(chosen, compared, seconds))
    if below := [name for name in lines.index if lines["ndcg@10"][name] < lines["ndcg@10"].get(baseline, 0)]:
        said.append(f"On average below the same list for everybody (not tested): {', '.join(below)}.")
    share = lines["coverage@10"].sort_values()
    most, widest = share.iloc[-1], share.index[-1]
    said.append(
        f"Its lists show {share[chosen]:.0%} of the catalogue to somebody; most, {most:.0%}, show those of {widest}."
    )
    said.append(
        "Somebody new gets a list from their first ratings without another training."
        if model.own_traits.folds_in
        else "It knows only users whom it was trained on: for somebody new it has to be trained again."
    )
    return said


def _level(chosen: str, compared: Comparison, seconds: Mapping[str, float]) -> str:
    lines = compared.lines
    if lines.empty:
        return "No other model ran."
    if better := [str(name) for name in lines.loc[lines["verdict"] == BETTER, "model"]]:
        return (
            f"On test rows {', '.join(better)} did better: validation chose otherwise, and another split should decide."
        )
    same = equals(compared)
    if not same:
        return "All other models are worse on these users."
    of_same = lines[lines["model"].isin(same)]
    text = (
        f"These users do not tell it apart from {', '.join(same)}: others may be up to {max(of_same['high'].max(), 0):.3f} better "
        f"or {max(-of_same['low'].min(), 0):.3f} worse (95 % intervals of single pairs), and other reasons may decide."
    )
    if higher := of_same.loc[of_same["difference"] > 0, "model"].tolist():
        text += f" Of these {', '.join(higher)} have higher values on test rows; to take one for that would be to choose there."
    known = {name: seconds[name] for name in (chosen, *same) if name in seconds}
    quickest = min(known, key=known.__getitem__, default=chosen)
    if known.get(chosen, 0) > LONG_S and known[quickest] < 0.5 * known[chosen]:
        text += (
            f" The quickest of them to train is {quickest}: {known[quickest]:,.1f} s against {known[chosen]:,.1f} s."
        )
    return text


def errors_of(study: Experiments, protocol: str) -> pd.DataFrame:
    """Errors of predicted ratings in the unit of the data: model, RMSE with its interval over users, MAE, RMSE in % of the scale.

    The least RMSE first; no rows where ratings are no opinions, or no model predicts them.
    """
    results = study.results[study.results["protocol"] == protocol] if len(study.results) else study.results
    found = results[results["metric"] == "rmse"] if study.data.explicit and len(results) else results[:0]
    unit, width, lines = study.data.unit, study.data.rating_scale[1] - study.data.rating_scale[0], []
    for title in found["model"].unique() if len(found) else ():
        of_model = results[results["model"] == title]
        mine = study.users[(study.users["model"] == title) & study.users["n_rows"].notna()]
        low, high = rmse_interval(mine["squared_error"].to_numpy(float), mine["n_rows"].to_numpy(float))
        rmse, mae = (float(of_model.loc[of_model["metric"] == name, "value"].mean()) for name in ("rmse", "mae"))
        line = {"model": title, "rmse": unit * rmse, "rmse low": unit * low, "rmse high": unit * high}
        lines.append(line | {"mae": unit * mae, "rmse, % of the scale": 100 * rmse / width})
    return pd.DataFrame(lines).sort_values("rmse", ignore_index=True) if lines else pd.DataFrame(columns=["model"])


def seconds_of(study: Experiments) -> dict[str, float]:
    """Mean processor seconds of a training by title; nothing where these are not kept, as in the study's own results."""
    if "seconds" not in study.results:
        return {}
    found = study.results.dropna(subset=["seconds"]).groupby("model")["seconds"].mean()
    return {str(title): float(value) for title, value in found.items()}
