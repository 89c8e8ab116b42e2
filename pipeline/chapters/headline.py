"""The first finding of the report: which form the leading models have, as a table, as a figure and in sentences.

    standing = one_split(ranked.only("random-80-10-10"), "ndcg@10", notebook.root)
    standing.answer(); standing.figure(); standing.table()

The seam: sentences, figure and table read `Standing` alone. `one_split` makes it of one split, whose intervals are over users.
A comparison over several splits makes the same `Standing` of its own table: `lines` with a row for each model on the board and the
columns of `COLUMNS`, where value, low and high are a model's mean and interval, difference, least, most, p and verdict those of
the model minus the reference (NaN and "" where it was not compared), and `basis` what the intervals are over.

One model stands for the models of a family that have one form: the one whose search reached the highest value on validation rows.
Test rows choose nothing. Of blends, which have no search, it is the one whose members reach the highest mean value there.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.chapters import plots
from pipeline.chapters.boards import Rows, group_of
from pipeline.chapters.comparisons import BETTER, UNDECIDED, WORSE, each_with, named
from pipeline.chapters.tuned import tuning_gains
from recsys_core.models.registry import SEARCHES
from recsys_core.models.traits import FORMS
from recsys_core.statistics import permutation_test

COUNTS, LINEAR, BILINEAR, NON_LINEAR = FORMS
REFERENCE, FLOOR_MODEL = "EASE", "Popularity"  # what each is compared with, and the list that everybody gets
FIRST = 3  # models that the figure's title names at most
COLUMNS = [
    *("model", "family", "form", "seeds", "spread", "value", "low", "high"),
    *("difference", "least", "most", "p", "verdict", "stands"),
]
CALLED = {  # families in words, where the name in the results is too short
    "counts": "counts",
    "linear": "linear, closed form",
    "factorisation": "matrix factorisation",
    "perceptron": "NCF",
    "hybrid": "blends",
    "network for stars": "networks for stars",
}
MARKERS = {COUNTS: "s", LINEAR: "o", BILINEAR: "D", NON_LINEAR: "^"}


@dataclass(frozen=True)
class Standing:
    """Models on a board, the best first, with what is known of each against the reference; see the module.

    Attributes:
        lines: a row a model, columns `COLUMNS`; `spread` is the least and the most value of a seed, `stands` whether the model
            stands for its family and form.
        metric: what value, low and high are of.
        reference: the model that the others are compared with.
        basis: what the intervals are over.
        n_compared: number of comparisons that the p-values are adjusted for.
        floor: the least p that the test can give one comparison.
    """

    lines: pd.DataFrame
    metric: str
    reference: str
    basis: str
    n_compared: int
    floor: float

    @property
    def leaders(self) -> pd.DataFrame:
        """The models that stand for a family and form, the best first."""
        return self.lines[self.lines["stands"]].reset_index(drop=True)

    @property
    def place(self) -> int:
        """The place of the first model on the board that has a hidden non-linear layer, from 1; 0 where there is none."""
        found = np.flatnonzero(self.lines["form"] == NON_LINEAR)
        return int(found[0]) + 1 if len(found) else 0

    def line(self, model: str) -> pd.Series:
        """A model's line."""
        return self.lines[self.lines["model"] == model].iloc[0]

    def p(self, value: float) -> str:
        """A p-value in words; one at the floor of the test is "≤" what the floor is worth after the adjustment."""
        most = self.floor * self.n_compared
        if value <= most * 1.001:
            return f"p ≤ {most:.1g}"
        return f"p = {value:.2f}" if value >= 0.01 else f"p = {value:.1g}"

    def span(self, model: str) -> str:
        """A model's value with its interval: "0.351 (0.337 to 0.366)"."""
        line = self.line(model)
        return f"{line['value']:.3f} ({line['low']:.3f} to {line['high']:.3f})"

    def gap(self, model: str) -> str:
        """The difference from the reference with its interval and p: "+0.004, −0.002 to +0.010, p = 0.22"."""
        line = self.line(model)
        return f"{line['difference']:+.3f}, {line['least']:+.3f} to {line['most']:+.3f}, {self.p(line['p'])}"

    def answer(self) -> list[str]:
        """The answer: who leads, where the first hidden non-linear layer stands, and how far seeds move it."""
        first, metric = self.lines.iloc[0], named(self.metric)
        bare = ", without a hidden layer," if _neural(first) and first["form"] != NON_LINEAR else ""
        leads = f"The highest mean {metric} has {first['model']}{bare} with {self.span(first['model'])}"
        if first["model"] != self.reference and self.reference in set(self.lines["model"]):
            pair = {UNDECIDED: "the test does not tell them apart", BETTER: "it is better", WORSE: "it is worse"}
            said = pair.get(first["verdict"], "they were not compared")
            leads += f"; {self.reference} has {self.span(self.reference)}, and {said} ({self.gap(first['model'])})"
        if not self.place:
            return [f"{leads}.", "No model of this run has a hidden non-linear layer."]
        before, model = self.lines.iloc[: self.place - 1], self.lines.iloc[self.place - 1]
        with_form = before["form"].value_counts().reindex([LINEAR, BILINEAR, COUNTS]).dropna()
        of_forms = ", ".join(f"{count:.0f} {form}" for form, count in with_form.items())
        n_neural = sum(_neural(line) for _, line in before.iterrows())
        text = (
            f"None of the first {len(before)} of {len(self.lines)} models has a hidden non-linear layer ({of_forms}), the "
            f"{n_neural} of neural families among them included; the first that has one is {model['model']} in place {self.place} "
            f"with {self.span(model['model'])}"
        )
        if model["verdict"]:
            text += f", {model['verdict']} {self.reference} ({self.gap(model['model'])})"
        least, most = model["spread"]
        seeds = f" Its {model['seeds']} seeds alone lie between {least:.3f} and {most:.3f}." if least < most else ""
        return [f"{leads}.", f"{text}.{seeds}"]

    def table(self) -> pd.DataFrame:
        """The leaders as texts, for a page."""
        lines, compared = self.leaders, f"{named(self.metric)} minus {self.reference}"
        shown = pd.DataFrame({"Model": lines["model"]})
        shown[f"{named(self.metric)} (95% interval)"] = [
            f"{line.value:.3f} ({line.low:.3f} – {line.high:.3f})" for line in lines.itertuples()
        ]
        shown["Form"], shown["Family"] = lines["form"], lines["family"].map(in_words)
        shown["Seeds"] = lines["seeds"]
        shown["Seeds from – to"] = [f"{a:.3f} – {b:.3f}" if a < b else "" for a, b in lines["spread"]]
        gaps = lines[["difference", "least", "most"]].itertuples(index=False)
        shown[compared] = [f"{d:+.3f} ({a:+.3f} – {b:+.3f})" if d == d else "" for d, a, b in gaps]
        shown["p (Holm)"] = [self.p(p).removeprefix("p = ").removeprefix("p ") if p == p else "" for p in lines["p"]]
        return shown

    def figure(self) -> Figure:
        """A row for each leader: value and interval in the family's colour, the marker says the form."""
        lines = self.leaders
        figure, axes = plt.subplots(figsize=(plots.WIDTH_INCHES - 1, 1.9 + 0.46 * len(lines)))
        for row, line in enumerate(lines.to_dict("records")):
            shade, marker = plots.family_colour(line["family"]), MARKERS.get(line["form"], "x")
            axes.hlines(row, line["low"], line["high"], color=shade, linewidth=4, alpha=0.4)
            axes.plot(line["value"], row, marker, color=shade, markersize=9)
            said = f"{line['value']:.3f}  {in_words(line['family'])}"
            left = line["value"] > 0.6 * lines["high"].max()  # where there is no room to the right
            place, side = (line["low"], "right") if left else (line["high"], "left")
            axes.annotate(said, (place, row), (-9 if left else 9, 0), textcoords="offset points", va="center", ha=side)
            axes.texts[-1].set(fontsize=10.5, color="0.2", bbox={"fc": "white", "ec": "none", "pad": 1.5})
        axes.set_yticks(range(len(lines)), [model.removeprefix("Weighted: ") for model in lines["model"]])
        axes.set_ylim(len(lines) - 0.4, -0.6)
        axes.set(xlim=(0, None), xlabel=f"{named(self.metric)} on ML-100K (95 % interval over {self.basis})")
        axes.spines["left"].set_visible(False)
        axes.tick_params(left=False)
        axes.grid(axis="x", alpha=0.3)
        axes.set_title(self._title())
        self._reference_lines(axes)
        present = [form for form in FORMS if form in set(lines["form"])]
        handles = [plt.Line2D([], [], color="0.3", marker=MARKERS[form], linestyle="") for form in present]
        figure.legend(handles, present, loc="outside lower center", ncols=len(present))
        return figure

    def seen(self) -> str:
        """What the figure shows, in words for somebody who does not see it."""
        lines = self.leaders
        rows = "; ".join(
            f"{line['model']} ({in_words(str(line['family']))}, {line['form']}) {line['value']:.3f}"
            for line in lines.to_dict("records")
        )
        return f"A dot with an interval for the best model of each family and form, by {named(self.metric)}: {rows}"

    def _title(self) -> str:
        return (
            "No hidden non-linear layer among the leading models"
            if self.place > FIRST or not self.place
            else "The leading models"
        )

    def _reference_lines(self, axes: plt.Axes) -> None:
        if FLOOR_MODEL in set(self.lines["model"]):
            axes.axvline(self.line(FLOOR_MODEL)["value"], color=plots.GREY, linestyle=":", linewidth=1.3)
            axes.annotate(
                "popularity",
                (self.line(FLOOR_MODEL)["value"], -0.55),
                (4, 0),
                textcoords="offset points",
                fontsize=10,
                color="0.4",
                va="top",
            )


def _neural(line: pd.Series) -> bool:
    """Whether a model's family is called neural, whatever its form."""
    return group_of(str(line["family"])) == "neural"


def in_words(family: str) -> str:
    """A family as a page calls it."""
    return CALLED.get(family, family)


def one_split(rows: Rows, metric: str, root: Path, reference: str = REFERENCE) -> Standing:
    """The standing of all models that one split has ranked, each leader compared with the reference user by user.

    `rows` are those of one protocol. p is that of the paired permutation test, adjusted by Holm's method over the leaders.
    """
    board = rows.board(metric)
    lines = board.rename(columns={metric: "value", f"{metric} low": "low", f"{metric} high": "high"})
    lines["stands"] = lines["model"].isin(chosen(lines, validated(lines["model"].tolist(), metric, root)))
    seeds = rows.results[rows.results["metric"] == metric].groupby("model")["value"].agg(["min", "max"])
    lines["spread"] = [tuple(seeds.loc[model]) for model in lines["model"]]
    first = lines["form"].eq(NON_LINEAR).to_numpy().argmax()
    names = lines.loc[lines["stands"] | (lines.index == first) | (lines.index == 0), "model"].tolist()
    compared = rows.compare(metric, each_with(names, [reference]), only_present=True)
    pairs = compared.lines.set_index("model").rename(columns={"low": "least", "high": "most"})
    lines = lines.join(pairs[["difference", "least", "most", "p", "verdict"]], on="model")
    lines["verdict"] = lines["verdict"].fillna("")
    return Standing(lines[COLUMNS], metric, reference, "users on one split", len(pairs), floor_of_the_test())


def floor_of_the_test() -> float:
    """The least p that the paired permutation test can give: that of a difference which no drawn assignment of signs reaches."""
    return 1 / (10 * (signature(permutation_test).parameters["n_resamples"].default // 10) + 1)


def validated(models: list[str], metric: str, root: Path) -> pd.Series:
    """What each model's search reached on validation rows by `metric`, or minus the RMSE by which a model for stars was searched.

    Of a blend it is the mean of its members' values, of a model that was not searched NaN.
    """
    found = pd.concat([tuning_gains(root, metric)["best"], -tuning_gains(root, "rmse")["best"]])
    best = found.rename(lambda name: SEARCHES[name].title if name in SEARCHES else name)
    parts = {model: model.partition(": ")[2].split(" + ") for model in models}
    values = {
        model: best.reindex(each if len(each) > 1 else [model]).mean(skipna=False) for model, each in parts.items()
    }
    return pd.Series(values, dtype=float)


def chosen(lines: pd.DataFrame, values: pd.Series) -> list[str]:
    """The model with the highest validation value of each family and form, one of all blends; without such a value there is none.

    `lines` has model, family and form.
    """
    blends = lines["model"].str.contains(": .+ \\+ ")
    known = lines.assign(validated=lines["model"].map(values), form=lines["form"].mask(blends, "blend"))
    best = known.dropna(subset="validated").sort_values("validated", ascending=False, kind="stable")
    return best.drop_duplicates(["family", "form"])["model"].tolist()
