import base64
import re
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from pipeline.chapters.notebook import Notebook
from pipeline.chapters.report import Report, cell, page_body
from pipeline.chapters.study import ROOT
from recsys_core.errors import StudyError


@pytest.fixture
def report(tmp_path):
    (tmp_path / "reports").mkdir()
    return Report(
        Notebook("50_report", {}, "study", tmp_path / "reports", tmp_path / "figures/50_report", root=tmp_path)
    )


def test_words_stand_to_the_left_and_numbers_to_the_right(report):
    table = pd.DataFrame(
        {"model": ["EASE"], "parameters": [2000], "ndcg": [0.12345], "verdict": ["refuted"], "note": ["a"]}
    )
    lines = report.table(table.assign(interval="0.1 (0.0 – 0.2)"), digits=2).data.splitlines()
    assert lines[1] == "| --- | ---: | ---: | --- | ---: | ---: |"
    assert lines[2] == "| EASE | 2,000 | 0.12 | refuted | a | 0.1 (0.0 – 0.2) |"


def test_a_missing_value_is_an_empty_cell(report):
    shown = report.table(pd.DataFrame({"model": ["a", "b"], "sd": [0.5, float("nan")]})).data
    assert shown.splitlines()[-1] == "| b |  |"


def test_the_page_holds_its_figures_and_needs_no_network(report):
    report.notebook.save_figure(plt.figure(), "ranking")
    report.add("# Title & more")
    report.figure("50_report/ranking", "EASE leads by 0.1.")
    report.save()
    page = (report.notebook.output / "report.html").read_text()
    assert "<title>Title & more</title>" in page or "<title>Title &amp; more</title>" in page
    assert 'src="data:image/png;base64,' in page and "http" not in page.replace("http://www.w3.org", "")
    assert "../figures/50_report/ranking.png" in (report.notebook.output / "report.md").read_text()


def test_a_figure_that_was_never_drawn_is_named_with_its_notebook(report):
    with pytest.raises(StudyError, match=r"30_ncf/curves\.png, which is not there: run notebook 30_ncf first"):
        report.figure("30_ncf/curves", "none")


TITLES = [
    "<script>alert(1)</script>",
    "a | b",
    "M*A*S*H* & **bold**",
    "[click](javascript:alert(1))",
    "![x](y.png)",
    "`code` ~~gone~~ $x^2$ and $y$",
    "_under_ scored_word hit_ratio@10",
    "C:\\films\\|",
    "two\nlines\tand more",
    '"><img src=x onerror=alert(1)>',
    "&lt;b&gt; &amp; <!-- gone -->",
    "http://example.org <a@b.c>",
    "七人の侍 🎬",
    "# no heading",
    "--- | ---",
]


class Cells(HTMLParser):
    """Texts of a page's table cells, and all of its tags and attributes."""

    def __init__(self, page):
        super().__init__()
        self.cells, self.tags = [], set()
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags |= {(tag, name) for name, _ in attributes} | {(tag, "")}
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, text):
        if self.cells:
            self.cells[-1] += text


def test_titles_of_any_characters_reach_the_page_as_they_are(report):
    report.add("# Films")
    shown = report.table(pd.DataFrame({"title | of": TITLES, "<b>stars</b>": 1.0})).data
    assert len(shown.splitlines()) == 2 + len(TITLES)
    report.save()
    page = Cells((report.notebook.output / "report.html").read_text())
    texts = [" ".join(text.split()) for text in page.cells]
    assert texts[:2] == ["title | of", "<b>stars</b>"]
    assert texts[2::2][: len(TITLES)] == [" ".join(title.split()) for title in TITLES]
    assert not {tag for tag, _ in page.tags} & {"script", "img", "b", "em", "strong", "code", "del", "a"} - {"a"}


@pytest.mark.parametrize("title", TITLES)
def test_titles_in_sentences_bring_no_markup_that_runs(title, report):
    page = Cells(page_body(f"The best film is {title}.\n\n{title}\n\n<div onclick='x()'>{title}</div>"))
    assert not {tag for tag, _ in page.tags} & {"script", "div"}
    assert not {name for _, name in page.tags if name.startswith("on")}
    assert "javascript:" not in re.sub(r">[^<]*<", "><", page_body(title))


def test_a_figure_that_a_title_names_is_not_looked_for(report):
    report.add("# Films\n\nThe best film is ![x](y.png).")
    report.save()
    assert 'src="y.png"' in (report.notebook.output / "report.html").read_text()


def test_the_pages_title_is_text(report):
    report.add("# </title><script>x</script>")
    report.save()
    assert "<script>" not in (report.notebook.output / "report.html").read_text()


@pytest.mark.parametrize("text", ["hit_ratio@10", "0.281 (0.271 – 0.290)", "S2.1", "−0.2 %", "a-b", "1,682", ""])
def test_ordinary_text_is_left_as_it_is(text):
    assert cell(text) == text


def test_the_stored_report_is_what_its_text_makes(report):
    report.parts = (ROOT / "reports/report.md").read_text(encoding="utf-8").removesuffix("\n").split("\n\n")
    report.notebook = Notebook("50_report", {}, "study", ROOT / "reports", ROOT / "figures/50_report", root=ROOT)
    assert report.page() == (ROOT / "reports/report.html").read_text(encoding="utf-8")


def test_a_report_made_in_a_scratch_folder_embeds_the_figures_that_are_kept(tmp_path):
    scratch = tmp_path / "scratch"
    picture = tmp_path / "figures/01_small/a.png"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"picture")
    notebook = Notebook(
        "50_report", {}, "study", scratch / "reports", scratch / "figures/50_report", tmp_path, scratch=scratch
    )
    report = Report(notebook)
    report.add("# Title")
    report.figure("01_small/a", "what it shows")
    assert "](../figures/01_small/a.png)" in report.text()
    assert base64.b64encode(b"picture").decode() in report.page()
