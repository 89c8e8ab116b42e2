"""The report: sections of computed Markdown, written as `report.md` and as one HTML page that opens without a network."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

import pandas as pd
from IPython.display import Markdown

from pipeline.chapters.notebook import Notebook
from pipeline.chapters.page import page
from recsys_core.errors import StudyError
from recsys_core.files import atomic_path

# What Markdown would read as more than text, in a cell; an underscore within a word is text to it.
MARKS = re.compile(r"[\\`*\[\]|<>&$~]|(?<![^\W_])_|_(?![^\W_])")
NEGATIVE = re.compile(r"(?<![\w.,:;/)\]–-])-(?=\d)")  # a hyphen that stands for a minus sign
PER_CENT = re.compile(r"(?<=\d) %")
KEY = re.compile(r"@(figure|table):([\w/-]+)")


class Report:
    """Collects sections; each is shown in the notebook as it is added.

    Figures and tables are numbered as they come. A text names one as "@figure:ranking" or "@table:ranking", before or after it.
    """

    def __init__(self, notebook: Notebook) -> None:
        self.notebook = notebook
        self.parts: list[str] = []
        self.files: dict[str, Path] = {}  # what the text calls a figure, and where it is now
        self.numbers: dict[str, str] = {}  # "figure:ranking" → "Figure 3"

    def add(self, text: str) -> Markdown:
        """Add Markdown text whose numbers were computed."""
        self.parts.append(typeset(text.strip()))
        return Markdown(KEY.sub(lambda match: self.numbers.get(match[0][1:], f"the {match[1]} below"), self.parts[-1]))

    def table(self, table: pd.DataFrame, caption: str, key: str = "", digits: int = 3) -> Markdown:
        """Add a numbered table with its caption, its index left out, floats with `digits` decimals, empty cells for missing values.

        A narrow screen shows the first two columns, the others on demand. Columns of words stand to the left.
        """
        words = _columns_of_words(table)
        sides = ["---" if place == 0 or column in words else "---:" for place, column in enumerate(table)]
        cells = table.apply(lambda values: _shown(values, digits)).to_numpy().tolist()
        lines = [list(map(cell, table.columns)), sides, *([cell(text) for text in line] for line in cells)]
        rows = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return self.add(f"**{self._number('table', key or caption)}.** {caption}\n\n{rows}")

    def figure(self, name: str, caption: str, seen: str, key: str = "") -> Markdown:
        """Add a numbered figure by `<notebook>/<figure>` with a computed caption; `seen` is for who does not see it.

        A figure that was never drawn raises StudyError.
        """
        path = self.notebook.figure_path(name)
        if not path.exists():
            notebook = name.split("/")[0]
            raise StudyError(f"The report shows figure {name}.png, which is not there: run notebook {notebook} first.")
        final = self.notebook.final
        relative = Path(os.path.relpath(final(path), final(self.notebook.output))).as_posix()
        self.files[relative] = path
        number = self._number("figure", key or name.split("/")[1])
        return self.add(f"![{cell(seen)}]({relative})\n\n**{number}.** {caption}")

    def chapter(self, number: int) -> str:
        """A link to a chapter by its number: "[chapter 45](../notebooks/45_ranking.ipynb)"."""
        found = sorted((self.notebook.root / "notebooks").glob(f"{number:02}_*.ipynb"))
        return f"[chapter {number}](../notebooks/{found[0].name})" if found else f"chapter {number}"

    def save(self) -> None:
        """Write `report.md` and `report.html`, figures embedded in the page."""
        for name, content in {"report.md": self.text(), "report.html": self.page()}.items():
            with atomic_path(self.notebook.output / name) as path:
                path.write_text(content, encoding="utf-8")

    def text(self) -> str:
        """Return the Markdown of all sections. Raises StudyError where it names a figure or table that is not there."""
        return KEY.sub(self._named, "\n\n".join(self.parts)) + "\n"

    def page(self) -> str:
        """Return the HTML page."""
        return page(self.text(), self._embedded)

    def _number(self, kind: str, key: str) -> str:
        """The number of the next figure or table, which is noted under its key."""
        n = sum(each.startswith(kind) for each in self.numbers) + 1
        if f"{kind}:{key}" in self.numbers:
            raise StudyError(f"The report has two {kind}s that are called {key}: give one another key.")
        self.numbers[f"{kind}:{key}"] = f"{kind.capitalize()} {n}"
        return self.numbers[f"{kind}:{key}"]

    def _named(self, match: re.Match[str]) -> str:
        if match[0][1:] not in self.numbers:
            raise StudyError(f"The report names {match[0]}, and there is no {match[1]} that is called so.")
        return self.numbers[match[0][1:]]

    def _embedded(self, name: str) -> str:
        """A figure as what a page can hold; a name that is none stays as it is."""
        path = self.files.get(name, self.notebook.output / name)
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode() if path.is_file() else name


def typeset(text: str) -> str:
    """Text with minus signs in place of hyphens before numbers, and "5%" in place of "5 %"; a block of commands stays as it is."""
    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else PER_CENT.sub("%", NEGATIVE.sub("−", part)) for part in parts)


def cell(text: object) -> str:
    """A cell of a Markdown table that shows this text as it is, in one line, whatever characters are in it."""
    return MARKS.sub(r"\\\g<0>", " ".join(str(text).split()))


def _shown(values: pd.Series, digits: int) -> pd.Series:
    """A column's cells as text."""
    if pd.api.types.is_float_dtype(values):
        return values.map(f"{{:.{digits}f}}".format).where(values.notna(), "")
    if pd.api.types.is_integer_dtype(values):
        return values.map("{:,}".format).where(values.notna(), "")
    return values.map(str)


def _columns_of_words(table: pd.DataFrame) -> list[str]:
    """Columns in which most cells hold a word of four letters or more."""
    texts = table.select_dtypes(exclude="number").astype(str)
    return [str(column) for column in texts if texts[column].str.contains(r"[^\W\d_]{4}").mean() > 0.5]
