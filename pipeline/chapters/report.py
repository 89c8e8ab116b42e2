"""The report: sections of computed Markdown, written as `report.md` and as one HTML page that opens without a network."""

from __future__ import annotations

import base64
import html
import os
import re
from pathlib import Path
from string import Template

import pandas as pd
from IPython.display import Markdown
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from pipeline.chapters.notebook import Notebook
from recsys_core.errors import StudyError
from recsys_core.files import atomic_path

# What Markdown would read as more than text, in a cell; an underscore within a word is text to it.
MARKS = re.compile(r"[\\`*\[\]|<>&$~]|(?<![^\W_])_|_(?![^\W_])")
PAGE = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))


class Report:
    """Collects sections; each is shown in the notebook as it is added."""

    def __init__(self, notebook: Notebook) -> None:
        self.notebook = notebook
        self.parts: list[str] = []
        self.files: dict[str, Path] = {}  # what the text calls a figure, and where it is now

    def add(self, text: str) -> Markdown:
        """Add Markdown text whose numbers were computed."""
        self.parts.append(text.strip())
        return Markdown(self.parts[-1])

    def table(self, table: pd.DataFrame, digits: int = 3) -> Markdown:
        """Add a table, its index left out, floats with `digits` decimals, empty cells for missing values; words to the left."""
        words = _columns_of_words(table)
        sides = ["---" if place == 0 or column in words else "---:" for place, column in enumerate(table)]
        cells = table.apply(lambda values: _shown(values, digits)).to_numpy().tolist()
        lines = [list(map(cell, table.columns)), sides, *([cell(text) for text in line] for line in cells)]
        return self.add("\n".join("| " + " | ".join(line) + " |" for line in lines))

    def figure(self, name: str, caption: str) -> Markdown:
        """Add a figure by `<notebook>/<figure>` with a computed caption; a figure that was never drawn raises StudyError."""
        path = self.notebook.figure_path(name)
        if not path.exists():
            notebook = name.split("/")[0]
            raise StudyError(f"The report shows figure {name}.png, which is not there: run notebook {notebook} first.")
        final = self.notebook.final
        relative = Path(os.path.relpath(final(path), final(self.notebook.output))).as_posix()
        self.files[relative] = path
        return self.add(f"![{caption}]({relative})\n\n*{caption}*")

    def save(self) -> None:
        """Write `report.md` and `report.html`, figures embedded in the page."""
        for name, content in {"report.md": self.text(), "report.html": self.page()}.items():
            with atomic_path(self.notebook.output / name) as path:
                path.write_text(content, encoding="utf-8")

    def text(self) -> str:
        """Return the Markdown of all sections."""
        return "\n\n".join(self.parts) + "\n"

    def page(self) -> str:
        """Return the HTML page."""
        title = self.parts[0].splitlines()[0].lstrip("# ")
        body = re.sub(r'src="([^"]+\.png)"', lambda match: f'src="{self._embedded(match[1])}"', page_body(self.text()))
        body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
        return PAGE.substitute(title=html.escape(title, quote=False), body=body)

    def _embedded(self, name: str) -> str:
        """A figure as what a page can hold; a name that is none stays as it is."""
        path = self.files.get(name, self.notebook.output / name)
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode() if path.is_file() else name


def cell(text: object) -> str:
    """A cell of a Markdown table that shows this text as it is, in one line, whatever characters are in it."""
    return MARKS.sub(r"\\\g<0>", " ".join(str(text).split()))


def page_body(text: str) -> str:
    """The HTML of Markdown text; HTML within it is shown, not obeyed, and links lead to pages alone."""
    return str(MarkdownWithMath(renderer=IPythonRenderer(escape=True, allow_harmful_protocols=False)).render(text))


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
