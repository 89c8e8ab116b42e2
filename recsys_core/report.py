"""The report: sections of computed Markdown, written as `report.md` and as one HTML page that opens without a network."""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

import pandas as pd
from IPython.display import Markdown
from nbconvert.filters import markdown2html

from recsys_core.errors import StudyError
from recsys_core.files import atomic_path
from recsys_core.notebook import Notebook

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light; }}
body {{ font: 17px/1.6 Georgia, "Times New Roman", serif; color: #1c1c1c; background: #fff;
  max-width: 54rem; margin: 0 auto; padding: 2rem 1.2rem 5rem; }}
h1, h2, h3, table, figcaption {{ font-family: "Helvetica Neue", Arial, sans-serif; line-height: 1.25; }}
h1 {{ font-size: 2rem; margin: 1rem 0 1.5rem; }}
h2 {{ font-size: 1.4rem; margin-top: 3rem; border-top: 1px solid #ddd; padding-top: 1.2rem; }}
h3 {{ font-size: 1.1rem; margin-top: 2rem; }}
img {{ max-width: 100%; height: auto; display: block; margin: 1.5rem auto .5rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-size: .82rem; margin: 1rem 0; min-width: 60%; }}
th, td {{ padding: .35rem .7rem; border-bottom: 1px solid #e4e4e4; text-align: left; vertical-align: top; }}
[style*="right"] {{ white-space: nowrap; }}
thead th {{ border-bottom: 2px solid #444; }}
em {{ color: #444; }}
code {{ font-size: .85em; background: #f4f4f4; padding: .1em .3em; overflow-wrap: anywhere; }}
a.anchor-link {{ display: none; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


class Report:
    """Collects sections; each is shown in the notebook as it is added."""

    def __init__(self, notebook: Notebook) -> None:
        self.notebook = notebook
        self.parts: list[str] = []

    def add(self, text: str) -> Markdown:
        """Add Markdown text whose numbers were computed."""
        self.parts.append(text.strip())
        return Markdown(self.parts[-1])

    def table(self, table: pd.DataFrame, digits: int = 3) -> Markdown:
        """Add a table, its index left out, floats with `digits` decimals, empty cells for missing values; words to the left."""
        text, words = table.copy(), _columns_of_words(table)
        for column in text:
            if pd.api.types.is_float_dtype(text[column]):
                text[column] = text[column].map(lambda value: "" if pd.isna(value) else f"{value:.{digits}f}")
            elif pd.api.types.is_integer_dtype(text[column]):
                text[column] = text[column].map("{:,}".format)
        lines = [
            list(map(str, text.columns)),
            ["---" if place == 0 or column in words else "---:" for place, column in enumerate(text)],
            *text.astype(str).to_numpy().tolist(),
        ]
        return self.add("\n".join("| " + " | ".join(line) + " |" for line in lines))

    def figure(self, name: str, caption: str) -> Markdown:
        """Add a figure by `<notebook>/<figure>` with a computed caption; a figure that was never drawn raises StudyError."""
        path = self.notebook.upstream_figures / f"{name}.png"
        if not path.exists():
            raise StudyError(
                f"The report shows figure {name}.png, which is not there: run notebook {name.split('/')[0]} first."
            )
        relative = Path(os.path.relpath(path, self.notebook.output)).as_posix()
        return self.add(f"![{caption}]({relative})\n\n*{caption}*")

    def save(self) -> None:
        """Write `report.md` and `report.html`, figures embedded in the page."""
        output = self.notebook.output
        text = "\n\n".join(self.parts) + "\n"
        title = self.parts[0].splitlines()[0].lstrip("# ")
        body = re.sub(r'src="([^"]+\.png)"', lambda match: f'src="{_data_uri(output / match[1])}"', markdown2html(text))
        body = body.replace("<table>", '<div class="wide"><table>').replace("</table>", "</table></div>")
        for name, content in {"report.md": text, "report.html": PAGE.format(title=title, body=body)}.items():
            with atomic_path(output / name) as path:
                path.write_text(content, encoding="utf-8")


def _columns_of_words(table: pd.DataFrame) -> list[str]:
    """Columns in which most cells hold a word of four letters or more."""
    texts = table.select_dtypes(exclude="number").astype(str)
    return [str(column) for column in texts if texts[column].str.contains(r"[^\W\d_]{4}").mean() > 0.5]


def _data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
