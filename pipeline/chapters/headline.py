"""The first finding of the report: which form the leading models have, as a table, as a figure and in sentences.

    standing = over_splits(notebook, "49_splits", "ndcg@10")
    standing.answer(); standing.figure(); standing.table()

Sentences, figure and table read `Standing` alone; where one comes from, and which model stands for a family, is in `standings`.
"""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.chapters import plots
from pipeline.chapters.boards import group_of
from pipeline.chapters.comparisons import BETTER, UNDECIDED, WORSE, named
from pipeline.chapters.over_splits import WITHOUT
from recsys_core.models.traits import FORMS

COUNTS, LINEAR, BILINEAR, NON_LINEAR = FORMS
EQUIVALENT = "equivalent to"  # within the margin of a comparison over splits
TOLD = {UNDECIDED: "the test does not tell them apart", EQUIVALENT: "they are the same within the margin"}
FLOOR_MODEL = "Popularity"  # the list that everybody gets
SMALL = 0.001  # a p-value below is not printed: tests are not exact so far out
COLUMNS = [
    *("model", "family", "form", "seeds", "spread", "value", "low", "high"),
    *("difference", "least", "most", "p", "verdict", "planned", "stands"),
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
        lines: a row a model, columns `COLUMNS`; `spread` is the least and the most value of a seed, `planned` whether the
            headline rests on the comparison, `stands` whether the model stands for its family and form.
        metric: what value, low and high are of.
        reference: the model that the others are compared with.
        basis: what the intervals are over.
        n_compared: number of comparisons that the p-values are adjusted for.
        floor: the least p that the test can give one comparison, 0 where it has none.
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
        if value <= most * 1.001 and self.floor:
            return f"p ≤ {most:.1g}"
        if value < SMALL:
            return f"p < {SMALL:.3f}"
        return f"p = {value:.2f}" if value >= 0.01 else f"p = {value:.1g}"

    def span(self, model: str) -> str:
        """A model's value with its interval: "0.351 (0.337 to 0.366)"."""
        line = self.line(model)
        return f"{line['value']:.3f} ({line['low']:.3f} to {line['high']:.3f})"

    def gap(self, model: str) -> str:
        """The difference from the reference with its interval and p: "+0.004, −0.002 to +0.010, p = 0.22"."""
        line = self.line(model)
        return f"{line['difference']:+.3f}, {line['least']:+.3f} to {line['most']:+.3f}, {self.p(line['p'])}"

    def short(self) -> str:
        """Whether hidden non-linear layers make better lists, by how the leaders that have one compare with the reference."""
        hidden = self.leaders[self.leaders["form"] == NON_LINEAR]
        if hidden.empty or not hidden["verdict"].all():
            return "That was not compared in this run."
        if (hidden["verdict"] == WORSE).all():
            return (
                "No: on random tenths of these data models without them make the best lists, "
                "where no model reads the order of a history."
            )
        better = hidden.loc[hidden["verdict"] == BETTER, "model"]
        return f"Yes, of {', '.join(better)}." if len(better) else "Not so that it could be told, on these data."

    def answer(self) -> list[str]:
        """The answer: who leads, where the first hidden non-linear layer stands, and how far seeds move it."""
        leads = self._leads()
        if not self.place:
            return [leads, "No model of this run has a hidden non-linear layer."]
        if self.place == 1:
            return [leads, "That model has a hidden non-linear layer."]
        before, model = self.lines.iloc[: self.place - 1], self.lines.iloc[self.place - 1]
        with_form = before["form"].value_counts().reindex([LINEAR, BILINEAR, COUNTS]).dropna()
        of_forms = ", ".join(f"{count:.0f} {form}" for form, count in with_form.items())
        n_neural = sum(_neural(line) for _, line in before.iterrows())
        among = {0: "none of them of a neural family", 1: "one of a neural family among them"}
        text = (
            f"None of the first {len(before)} of {len(self.lines)} models has a hidden non-linear layer ({of_forms}), "
            f"{among.get(n_neural, f'the {n_neural} of neural families among them included')}; the first that has one is "
            f"{model['model']} in place {self.place} with {self.span(model['model'])}"
        )
        if model["verdict"]:
            text += f", {model['verdict']} {self.reference} ({self.gap(model['model'])})"
        least, most = model["spread"]
        seeds = f" On one split its {model['seeds']} seeds are {most - least:.3f} apart, on average."
        return [leads, f"{text}.{seeds if least < most else ''}"]

    def _leads(self) -> str:
        """Who leads, beside the reference, or where that is the reference itself beside the first model of a neural family."""
        first = self.lines.iloc[0]
        leads = f"{_introduced(first)} has the highest mean {named(self.metric)} over {self.basis}, {self.span(first['model'])}"
        among = self.lines if first["model"] == self.reference else self.lines[self.lines["model"] == self.reference]
        others = [line for _, line in among.iterrows() if line["model"] == self.reference or _neural(line)]
        other = next((line for line in others if line["model"] != first["model"]), None)
        if other is None:
            return f"{leads}."
        pair, who = (other, "it") if first["model"] == self.reference else (first, "the first")
        told = {BETTER: f"{who} is better", WORSE: f"{who} is worse", "": "they were not compared"} | TOLD
        gap = f" ({self.gap(pair['model'])})" if pair["verdict"] else ""
        return f"{leads}; {_introduced(other)} has {self.span(other['model'])}, and {told[pair['verdict']]}{gap}."

    def table(self) -> pd.DataFrame:
        """The leaders as texts, for a page."""
        lines, compared = self.leaders, f"{named(self.metric)} minus {self.reference}"
        shown = pd.DataFrame({"Model": lines["model"]})
        shown[f"{named(self.metric)} (95% interval)"] = [
            f"{line.value:.3f} ({line.low:.3f} – {line.high:.3f})" for line in lines.itertuples()
        ]
        shown["Form"], shown["Family"] = lines["form"], lines["family"].map(in_words)
        shown["Seeds"] = lines["seeds"]
        shown["Seeds apart"] = [f"{b - a:.3f}" if a < b else "" for a, b in lines["spread"]]
        gaps = lines[["difference", "least", "most"]].itertuples(index=False)
        shown[compared] = [f"{d:+.3f} ({a:+.3f} – {b:+.3f})" if d == d else "" for d, a, b in gaps]
        shown["p (Holm)"] = [self.p(p).removeprefix("p = ").removeprefix("p ") if p == p else "" for p in lines["p"]]
        if lines["planned"].any():
            planned = np.where(lines["planned"], "headline", "exploratory")
            shown["Comparison"] = np.where(lines["verdict"] == "", "", planned)
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
            axes.annotate(said, (line["high"], row), (9, 0), textcoords="offset points", va="center", fontsize=10.5)
        axes.set_yticks(range(len(lines)), [model.removeprefix("Weighted: ") for model in lines["model"]])
        axes.set_ylim(len(lines) - 0.4, -0.6)
        least, most = lines["low"].min(), lines["high"].max()
        axes.set_xlim(least - 0.15 * (most - least), most + 1.2 * (most - least))  # room for the words at the right
        axes.set_xlabel(f"{named(self.metric)} on ML-100K (95 % interval over {self.basis})")
        axes.spines["left"].set_visible(False)
        axes.tick_params(left=False)
        axes.grid(axis="x", alpha=0.3)
        axes.set_title(self._title())
        self._floor(axes)
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
        """How far the best leader with a hidden layer is from the reference."""
        hidden = self.leaders[self.leaders["form"] == NON_LINEAR]
        if hidden.empty or not hidden["verdict"].iloc[0]:
            return "The leading models"
        if hidden["verdict"].iloc[0] not in (BETTER, WORSE):
            word = "the same within the margin as" if hidden["verdict"].iloc[0] == EQUIVALENT else "not told apart from"
            return f"The best model with a hidden layer is {word} {self.reference}"
        apart = float(hidden["difference"].iloc[0])
        return f"The best model with a hidden layer is {abs(apart):.3f} {'above' if apart > 0 else 'below'} {self.reference}"

    def _floor(self, axes: plt.Axes) -> None:
        """Where the list that everybody gets lies: a line, or an arrow at the left edge where that is too far away."""
        if FLOOR_MODEL not in set(self.lines["model"]):
            return
        value, edge = float(self.line(FLOOR_MODEL)["value"]), axes.get_xlim()[0]
        axes.axvline(value, color=plots.GREY, linestyle=":", linewidth=1.3) if value > edge else None
        said = f"{'← ' if value < edge else ''}{FLOOR_MODEL.lower()} {value:.3f}"
        place = (max(value, edge), -0.55)
        axes.annotate(said, place, (4, 0), textcoords="offset points", fontsize=10, color="0.35", va="top")


def _introduced(line: pd.Series) -> str:
    """A model with what its name does not say: that one of a neural family has no hidden layer."""
    is_said = line["model"].endswith(WITHOUT) or not _neural(line) or line["form"] == NON_LINEAR
    return str(line["model"]) if is_said else f"{line['model']}, without a hidden layer,"


def _neural(line: pd.Series) -> bool:
    """Whether a model's family is called neural, whatever its form."""
    return group_of(str(line["family"])) == "neural"


def in_words(family: str) -> str:
    """A family as a page calls it."""
    return CALLED.get(family, family)
