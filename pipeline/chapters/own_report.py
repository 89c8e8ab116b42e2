"""The report on own ratings: which model to take, what it is worth, what it costs, and what was not looked at."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from IPython.display import Markdown

from pipeline.chapters import choice
from pipeline.chapters.comparisons import Comparison
from pipeline.chapters.experiment import Experiments
from pipeline.chapters.fits import with_chosen
from pipeline.chapters.page import GLOSSARY, glossary
from pipeline.chapters.report import Report
from pipeline.chapters.study import STATED, Study
from recsys_core.app.explorer.page import write_explorer
from recsys_core.app.saved import save_model
from recsys_core.errors import StudyError
from recsys_core.models.base import Recommender

MODEL = "model"  # folder of the chosen model beside the report


class OwnReport:
    """Sections on own ratings in reading order; each is shown in the notebook as it is added."""

    def __init__(
        self, study: Experiments, facts: Mapping[str, Any], warnings: Sequence[str], left_out: Mapping[str, str]
    ) -> None:
        self.study, self.facts, self.warnings, self.left_out = study, facts, warnings, left_out
        self.report = Report(study.notebook)
        self.profile = Study(study.notebook.root).profiles.get(study.notebook.part, {})
        self.report.add(f"# Which recommender for {study.data.name}?")

    def answer(self, words: Sequence[str], chosen: str, validated: pd.Series) -> Markdown:
        """The answer, and what is in the data."""
        others = ", ".join(f"{title} {value:.3f}" for title, value in validated.iloc[1:4].items())
        text = "\n\n".join(words)
        chose = f"On validation rows {chosen} has {validated[chosen]:.3f}; next are {others}." if others else ""
        what = (
            "NDCG@10 is 1 where the items that were held back head the list, and 0 where none is among its first ten. Validation "
            "rows are a tenth of each user's ratings that choose, test rows another tenth that only measures."
        )
        shown = self.report.add(f"## The answer\n\n{text}\n\n{chose}\n\n{what}")
        lines = [f"- {note}" for note in (*self.study.data.notes, *self.warnings)]
        self.report.add("## What is in the data\n\n" + "\n".join(lines))
        table = pd.DataFrame({"what": list(self.facts), "value": [f"{value:,}" for value in self.facts.values()]})
        self.report.table(table, "The ratings.", "facts")
        seen = "Ratings of users and of items by place, on logarithmic scales"
        self.report.figure(f"{self.study.notebook.name}/spread", "How unevenly ratings are shared.", seen)
        return shown

    def lists(self, board: pd.DataFrame, compared: Comparison, figure: str) -> Markdown:
        """The board of lists, its figure, and each model's difference from the chosen one."""
        self.report.add(
            "## The lists\n\nAll models rank every item that a user has not rated; a random tenth of each user's ratings is "
            "test. Intervals are over users: they do not know what another split or another seed would change."
        )
        columns = {
            "ndcg@10": "NDCG@10",
            "ndcg@10 low": "low",
            "ndcg@10 high": "high",
            "hit_ratio@10": "users with a hit",
        }
        columns |= {"coverage@10": "share of the catalogue", "form": "form"}
        caption = (
            "Lists of ten, the best first. Form is what a score is made of: counts (the same for everybody, but for a constant), "
            "linear (a weighted sum over what the user, or the nearest users, have rated), bilinear (a product of two learnt "
            "vectors) or non-linear (a network with hidden layers)."
        )
        self.report.table(board[["model", *columns]].rename(columns=columns), caption, "board")
        self.report.figure(figure, "NDCG@10 with 95% intervals over users.", "NDCG@10 by model")
        caption = (
            "Differences from the chosen model. Intervals are of one pair each, not adjusted; p is that of a permutation test, "
            "made stricter for the number of pairs (Holm), and verdicts follow p."
        )
        return self.report.table(compared.table(), caption, "differences")

    def people(self, lengths: pd.DataFrame) -> Markdown:
        """What the lists are worth to users with few and with many ratings."""
        table = lengths.rename_axis("ratings").reset_index()
        caption = "NDCG@10 by how many ratings of a user a model may read; groups of few users are mostly chance."
        return self.report.table(table, caption, "lengths")

    def errors(self, errors: pd.DataFrame) -> Markdown:
        """Errors of predicted ratings, where there are opinions."""
        if not len(errors):
            return self.report.add(
                "## Ratings\n\nThe data hold no opinions, so that nothing is said of predicted ratings."
            )
        self.report.add("## Ratings\n\nHow far predictions are from what people gave, in the unit of the data.")
        names = {
            "rmse": "RMSE",
            "rmse low": "low",
            "rmse high": "high",
            "mae": "MAE",
            "rmse, % of the scale": "RMSE, % of the scale",
        }
        return self.report.table(
            errors.rename(columns=names), "Errors of predicted ratings, the least first.", "errors"
        )

    def finish(self, saved: str, seconds: Mapping[str, float], milliseconds: float | None, chosen: str) -> Markdown:
        """What models cost, what was left out, what this does not show, how to use the model; writes the report."""
        rows = self.study.results.drop_duplicates("model").set_index("model")["parameters"]
        table = pd.DataFrame({"model": list(seconds), "seconds of training": list(seconds.values())})
        table["numbers learnt"] = ["" if pd.isna(rows[name]) else f"{rows[name]:,}" for name in seconds]
        self.report.add("## What they cost")
        if milliseconds is not None:
            files = (self.study.notebook.output / MODEL).glob("*")
            self.report.add(
                f"One list by {chosen} takes {milliseconds:,.1f} ms on this machine; saved, with all ratings and names, the model "
                f"has {sum(file.stat().st_size for file in files) / 1e6:,.1f} MB."
            )
        self.report.table(table.sort_values("seconds of training"), "Processor time of one training.", "costs", 1)
        n_seeds = len(self.study.notebook.parameters["seeds"])
        self.report.add("## What was left out\n\n" + self._left_out())
        self.report.add(
            "## What this does not show\n\n"
            f"- There is one way to split, and models that draw at random have {n_seeds} seed{'s' if n_seeds > 1 else ''}: another "
            "split or seed can turn models round that are close. The saved model is that of the first seed; neither intervals nor "
            "p know of the chance in training.\n"
            "- Random test rows ask what people chose, not what a list would have made them choose, and they let models look at "
            "ratings that came later. A test with users is the only one of a system in use.\n"
            f"- {self._settings()}"
        )
        self.report.add(f"## Use it\n\n{saved}")
        if chapters := self._chapters():
            self.report.add(
                f"## Chapters on these ratings\n\nExecuted notebooks, to be opened in JupyterLab: {chapters}."
            )
        if words := glossary("\n".join(self.report.parts)):
            self.report.add(f"## {GLOSSARY}\n\nFilms and stars stand for items and ratings of any kind.\n\n{words}")
        self.report.save()
        return Markdown(f"The report is {self.study.notebook.final(self.study.notebook.output / 'report.html')}.")

    def _settings(self) -> str:
        if self.study.notebook.parameters["settings"] == STATED:
            return "Settings are those that papers state: `TUNE=30` searches them on these ratings, and may change the order."
        return "Settings were searched on the validation rows, which also chose among the models: another search could find others."

    def _left_out(self) -> str:
        models = [f"- {title}: {why}" for title, why in self.left_out.items()]
        reasons: dict[str, list[str]] = {}
        for name, why in self.profile.get("left_out", {}).items():
            reasons.setdefault(why, []).append(f"`{name}`")
        chapters = [f"- Chapters, since {why}: {', '.join(names)}." for why, names in reasons.items()]
        return "\n".join([*models, *chapters]) or "Nothing."

    def _chapters(self) -> str:
        """Links to the executed chapters, where this is a study of own ratings."""
        names = [name for name in self.profile.get("runs", []) if name != self.study.notebook.name]
        place = f"../../executed/{self.study.notebook.part}"
        return ", ".join(f"[{name}]({place}/{name}.ipynb)" for name in names)


def save_choice(report: OwnReport, model: Recommender, chosen: str) -> str:
    """Fit the chosen model on all ratings, save it beside the report, write both; says where they are."""
    study, notebook = report.study, report.study.notebook
    split = study.splits("random-80-10-10")[0]
    selection = study.validated(chosen, model, split)
    try:
        fitted = with_chosen(model, selection).fit(study.rows, None, 0)
    except StudyError as error:  # such as that everybody has seen everything
        report.finish(
            f"{chosen} cannot be fitted on all ratings, and no model is saved: {error}",
            choice.seconds_of(study),
            None,
            chosen,
        )
        return f"No model is saved: {error}"
    folder = notebook.output / MODEL
    save_model(folder, fitted, study.data, study.vocabulary)
    place, user = notebook.final(folder), study.vocabulary.user_ids[:1].tolist()[0]
    k = min(10, study.rows.n_items)
    line = f"python -m recsys_core recommend --model {shlex.quote(str(place))}"
    saved = (
        f"{chosen}, fitted on all ratings, is saved in `{place}`:\n\n```\n{line} --user {shlex.quote(str(user))}\n"
        f"{line} --all-users lists.parquet\n```\n\nor in Python:\n\n```\nfrom recsys_core.app.saved import SavedModel\n"
        f"saved = SavedModel.open({str(place)!r})\nsaved.recommend({user!r}, k={k})\n```\n\n{_explorer(study)}"
    )
    report.finish(saved, choice.seconds_of(study), choice.answering_ms(fitted), chosen)
    return f"The report is {notebook.final(notebook.output / 'report.html')}, the model is in {place}."


def _explorer(study: Experiments) -> str:
    """Write the explorer beside the report, and say what it is, or why there is none."""
    try:
        write_explorer(study.data, study.notebook.output / "explorer.html")
    except StudyError as error:
        return f"There is no explorer of these ratings: {error}"
    return (
        "[explorer.html](explorer.html) beside this report is one page that opens without a network: rate some items, and see what "
        "three models recommend and why. It holds what users rated: pass it on only where that may be seen."
    )
