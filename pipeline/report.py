"""The report: sections of computed Markdown, written as `report.md` and as one HTML page that opens without a network."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from string import Template

import pandas as pd
from IPython.display import Markdown
from nbconvert.filters import markdown2html

from pipeline.notebook import Notebook
from recsys_core.errors import StudyError
from recsys_core.files import atomic_path

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
        lines = [list(map(str, table.columns)), sides, *cells]
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
        output = self.notebook.output
        text = "\n\n".join(self.parts) + "\n"
        title = self.parts[0].splitlines()[0].lstrip("# ")
        body = re.sub(
            r'src="([^"]+\.png)"', lambda match: f'src="{_data_uri(self.files[match[1]])}"', markdown2html(text)
        )
        body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
        for name, content in {"report.md": text, "report.html": PAGE.substitute(title=title, body=body)}.items():
            with atomic_path(output / name) as path:
                path.write_text(content, encoding="utf-8")


def _shown(values: pd.Series, digits: int) -> pd.Series:
    """A column's cells as text."""
    if pd.api.types.is_float_dtype(values):
        return values.map(f"{{:.{digits}f}}".format).where(values.notna(), "")
    return values.map("{:,}".format if pd.api.types.is_integer_dtype(values) else str)


def _columns_of_words(table: pd.DataFrame) -> list[str]:
    """Columns in which most cells hold a word of four letters or more."""
    texts = table.select_dtypes(exclude="number").astype(str)
    return [str(column) for column in texts if texts[column].str.contains(r"[^\W\d_]{4}").mean() > 0.5]


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
