"""What the searches of `make tune` went through: the best so far, optima at an edge of what was tried, trials by a model's form."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.chapters import plots
from pipeline.chapters.comparisons import named
from pipeline.chapters.tuned import read_trials, searches_by_title, stored_searches, tuning_folder
from recsys_core.models.registry import SEARCHES, Searched
from recsys_core.models.traits import FORMS

UNFINISHED = (
    "unfinished"  # below the folder of searches: the trials of those that have not ended, see `bench.trial_log`
)
NEAR_THE_END = 0.05  # of a range, on the scale that it was searched on
NEAR_THE_BEST = 0.005  # NDCG@10 below the best trial, the margin within which the study calls models equivalent
EDGES = ["search", "setting", "chosen", "tried", "end"]
FORMS_COLUMNS = ["search", "form", "trials", "best", "median"]


def stored(root: Path, metric: str = "ndcg@10") -> Iterator[tuple[str, Searched, dict[str, Any]]]:
    """Every stored search by this metric that the study still has: its title, the model, and what `tuned.read_trials` gives."""
    for title, search in stored_searches(root).items():
        found = read_trials(root, search.name, search.settings)
        if found["metric"] == metric:
            yield title, search.searched, found


def unfinished(root: Path) -> pd.DataFrame:
    """Searches that were stopped and have not gone on yet: by title, how many trials they made and the best of these."""
    titles = {(each.name, each.settings): title for title, each in searches_by_title().items()}
    lines = {}
    for path in sorted((tuning_folder(root) / UNFINISHED).glob("*/*.jsonl")):
        _, *tried = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        values = [value for key, value in tried if json.loads(key)[1] == 0]  # other seeds are no trials
        if values:
            title = titles[path.stem, path.parent.name.replace("_", " ")]
            lines[title] = {"trials": len(values), "best": max(values)}
    table = pd.DataFrame.from_dict(lines, orient="index", columns=["trials", "best"])
    return table.astype({"trials": int}).rename_axis("search")


def best_so_far(root: Path, metric: str = "ndcg@10") -> pd.DataFrame:
    """The best value on validation rows up to each trial: a row a trial from 1 on, a column a search."""
    values = {title: pd.Series([each["value"] for each in found["trials"]]) for title, _, found in stored(root, metric)}
    return pd.DataFrame(values).cummax().rename(index=lambda number: number + 1).rename_axis("trial")


def edges(root: Path, metric: str = "ndcg@10") -> pd.DataFrame:
    """The settings whose best value lies at an end of what was tried, columns `EDGES`.

    An end is the first or last of an ordered list of choices, or the outermost `NEAR_THE_END` of a range. Natural limits are left
    out: a lower end that is 0 or no layer, below which there is nothing.
    """
    lines = []
    for title, _, found in stored(root, metric):
        for setting, space in found["space"].items():
            chosen = found["best"][setting]
            if end := end_of(space, chosen):
                lines.append([title, setting, str(chosen), _in_words(space), end])
    return pd.DataFrame(lines, columns=EDGES)


def end_of(space: Mapping[str, Any], chosen: Any) -> str:
    """At which end of a space a value lies, "lower" or "upper"; "" between them, at a natural limit, or where there is no order."""
    if "choices" in space:
        choices = space["choices"]
        if not all(isinstance(each, (int, float, list)) and not isinstance(each, bool) for each in choices):
            return ""
        place = choices.index(chosen) / max(len(choices) - 1, 1)
        least, near = choices[0], 0.0
    else:
        low, high, at = (np.log(each) if space.get("log") else each for each in (space["low"], space["high"], chosen))
        place, least, near = (at - low) / (high - low), space["low"], NEAR_THE_END
    if place <= near:
        return "lower" if least else ""
    return "upper" if place >= 1 - near else ""


def _in_words(space: Mapping[str, Any]) -> str:
    """What was tried: "16, 32, 64" or "0.1 to 0.8"."""
    if "choices" in space:
        return ", ".join(str(each) for each in space["choices"])
    return f"{space['low']:g} to {space['high']:g}{' (log)' if space.get('log') else ''}"


def by_form(root: Path, metric: str = "ndcg@10") -> pd.DataFrame:
    """Of each search whose trials are models of several forms the trials, the best and the median value of each form.

    A wide search of one form alone stands beside them. Columns `FORMS_COLUMNS`.
    """
    lines = []
    for title, search, found in stored(root, metric):
        values: dict[str, list[float]] = {}
        for trial in found["trials"]:
            form = search.kind(**found["fixed"] | trial["settings"]).own_traits.form
            values.setdefault(form, []).append(trial["value"])
        if len(values) > 1 or search.name not in SEARCHES:
            lines += [
                [title, form, len(values[form]), max(values[form]), float(np.median(values[form]))]
                for form in FORMS
                if form in values
            ]
    return pd.DataFrame(lines, columns=FORMS_COLUMNS)


def sensitivity(root: Path, metric: str = "ndcg@10") -> pd.DataFrame:
    """A line a search, the best first: trials, first and best value, the median trial's, and how many lie near the best."""
    lines = {}
    for title, _, found in stored(root, metric):
        values = np.array([trial["value"] for trial in found["trials"]])
        near = int((values >= values.max() - NEAR_THE_BEST).sum())
        lines[title] = [len(values), values[0], values.max(), float(np.median(values)), near, int(values.argmax()) + 1]
    columns = ["trials", "first", "best", "median", "near the best", "found at trial"]
    table = pd.DataFrame.from_dict(lines, orient="index", columns=columns).rename_axis("search")
    return table.sort_values("best", ascending=False)


def figure(curves: pd.DataFrame, families: Mapping[str, str], title: str, metric: str = "ndcg@10") -> Figure:
    """How far each search was below its own best, by the number of trials: a line a search in the colour of its family."""
    drawn, axes = plt.subplots(figsize=(plots.WIDTH_INCHES, 4.8))
    for name in map(str, curves):
        line = curves[name].dropna()
        axes.step(line.index, line - line.max(), where="post", color=plots.family_colour(families[name]), alpha=0.75)
    axes.set_yscale("symlog", linthresh=0.001)
    axes.set_yticks([0, -0.001, -0.003, -0.01, -0.03, -0.1], ["0", "−.001", "−.003", "−.01", "−.03", "−.1"])
    axes.minorticks_off()
    axes.set(xlabel="Number of trials", ylabel=f"Best {named(metric)} so far,\nminus the best of all", title=title)
    axes.grid(alpha=0.3)
    plots.legend_of_families(drawn, dict.fromkeys(families[name] for name in map(str, curves)))
    return drawn


def within(curves: pd.DataFrame, gap: float) -> pd.Series:
    """For each search the number of trials after which the best so far is at most `gap` below the best of all."""
    return pd.Series({name: int((curves[name] >= curves[name].max() - gap).idxmax()) for name in curves}, name="trials")
