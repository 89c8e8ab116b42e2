import base64
import re
import tomllib
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import yaml

from pipeline.chapters.notebook import Notebook
from pipeline.chapters.page import glossary, page_body
from pipeline.chapters.report import Report, cell, typeset
from pipeline.chapters.study import ROOT
from recsys_core.errors import StudyError
from recsys_core.protocols import PROTOCOLS


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
    lines = report.table(table.assign(interval="0.1 (0.0 – 0.2)"), caption="Models.", digits=2)
    lines = lines.data.splitlines()
    assert lines[0] == "**Table 1.** Models."
    assert lines[3] == "| --- | ---: | ---: | --- | ---: | ---: |"
    assert lines[4] == "| EASE | 2,000 | 0.12 | refuted | a | 0.1 (0.0 – 0.2) |"


def test_a_missing_value_is_an_empty_cell(report):
    shown = report.table(pd.DataFrame({"model": ["a", "b"], "sd": [0.5, float("nan")]}), "Spread.").data
    assert shown.splitlines()[-1] == "| b |  |"


def test_the_page_holds_its_figures_and_needs_no_network(report):
    report.notebook.save_figure(plt.figure(), "ranking")
    report.add("# Title & more")
    report.figure("50_report/ranking", "EASE leads by 0.1.", "a dot")
    report.save()
    page = (report.notebook.output / "report.html").read_text()
    assert "<title>Title & more</title>" in page or "<title>Title &amp; more</title>" in page
    assert 'src="data:image/png;base64,' in page and "http" not in page.replace("http://www.w3.org", "")
    assert "../figures/50_report/ranking.png" in (report.notebook.output / "report.md").read_text()


def test_a_figure_that_was_never_drawn_is_named_with_its_notebook(report):
    with pytest.raises(StudyError, match=r"30_ncf/curves\.png, which is not there: run notebook 30_ncf first"):
        report.figure("30_ncf/curves", "none", "nothing")


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
    shown = report.table(pd.DataFrame({"title | of": TITLES, "<b>stars</b>": 1.0}), "Films.").data
    assert len(shown.splitlines()) == 4 + len(TITLES)
    report.save()
    page = Cells((report.notebook.output / "report.html").read_text().split("<main>")[1].split("</main>")[0])
    texts = [" ".join(text.split()) for text in page.cells]
    assert texts[:2] == ["title | of", "<b>stars</b>"]
    assert texts[2::2][: len(TITLES)] == [" ".join(title.split()) for title in TITLES]
    assert not {tag for tag, _ in page.tags} & {"script", "img", "b", "em", "code", "del"}


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
    page = (report.notebook.output / "report.html").read_text()
    assert "<script>" not in page.split("</main>")[0]


@pytest.mark.parametrize("text", ["hit_ratio@10", "0.281 (0.271 – 0.290)", "S2.1", "−0.2 %", "a-b", "1,682", ""])
def test_ordinary_text_is_left_as_it_is(text):
    assert cell(text) == text


def test_the_stored_report_is_what_its_text_makes(report):
    report.parts = (ROOT / "reports/report.md").read_text(encoding="utf-8").removesuffix("\n").split("\n\n")
    report.notebook = Notebook("50_report", {}, "study", ROOT / "reports", ROOT / "figures/50_report", root=ROOT)
    assert report.page() == (ROOT / "reports/report.html").read_text(encoding="utf-8")


def test_no_sentence_of_the_stored_report_holds_a_printed_object():
    text = (ROOT / "reports/report.md").read_text(encoding="utf-8")
    outside = re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    assert not re.search(r"[A-Za-z]\(\w+=|<\w[\w.]* object at|\bdtype:|\bnan\b", outside)


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
    report.figure("01_small/a", "what it shows", "what is seen")
    assert "](../figures/01_small/a.png)" in report.text()
    assert base64.b64encode(b"picture").decode() in report.page()


def test_figures_and_tables_have_numbers_and_sentences_lead_to_them(report):
    report.notebook.save_figure(plt.figure(), "a")
    report.notebook.save_figure(plt.figure(), "b")
    assert "the table below" in report.add("# T\n\nSee @table:best and @figure:b.").data
    report.figure("50_report/a", "First.", "a line")
    report.figure("50_report/b", "Second.", "two lines")
    report.table(pd.DataFrame({"model": ["EASE"], "ndcg": [0.1]}), "The best.", "best")
    assert "See Table 1 and Figure 2." in report.text()
    page = report.page()
    assert 'See <a class="number" href="#table-1">Table 1</a>' in page.replace(
        'href="#table-1" class="number"', 'class="number" href="#table-1"'
    )
    assert page.count('<figure id="figure-') == 2 and '<figure id="table-1"><figcaption>' in page
    assert 'alt="two lines"' in page and 'alt="Second' not in page


def test_a_figure_or_table_that_is_not_there_cannot_be_named(report):
    report.add("# T\n\nSee @table:none.")
    with pytest.raises(StudyError, match="@table:none"):
        report.text()


def test_two_tables_of_one_name_are_refused(report):
    table = pd.DataFrame({"model": ["EASE"]})
    report.table(table, "One.", "same")
    with pytest.raises(StudyError, match="same"):
        report.table(table, "Two.", "same")


def test_contents_name_sections_and_their_parts(report):
    report.add("# T\n\n## Results\n\n### Lists\n\n### Stars\n\n## Lists\n\nEnd.")
    contents = report.page().split("</summary>")[1].split("</details>")[0]
    assert re.findall(r'href="(#[^"]+)"', contents) == ["#results", "#lists", "#stars", "#lists-2"]
    assert contents.count("<ul>") == contents.count("</ul>") == 2 and contents.count("<li>") == contents.count("</li>")


def test_a_word_leads_to_the_glossary_where_it_is_used_first(report):
    report.add("# T\n\niALS and ALS. iALS again; NDCG@10.\n\n## Glossary\n\n- **ALS.** a\n- **iALS.** b\n- **NDCG.** c")
    page = report.page()
    assert [page.count(f'href="#term-{name}"') for name in ("als", "ials", "ndcg")] == [1, 1, 1]
    assert all(f'<li id="term-{name}">' in page for name in ("als", "ials", "ndcg"))


def test_a_glossary_of_a_text_holds_the_words_that_it_uses_and_each_leads_there(report):
    report.add("# T\n\niALS, a hit ratio, and what is no word of it: ease, NeuMF-like.")
    words = glossary("\n".join(report.parts))
    assert re.findall(r"\*\*(.+?)\.\*\*", words) == ["HR", "iALS"]
    report.add(f"## Glossary\n\nFirst words.\n\n{words}")
    page = report.page()
    assert page.index("First words.") < page.index('<li id="term-hr">')
    assert all(page.count(f'href="#term-{name}"') == page.count(f'id="term-{name}"') == 1 for name in ("hr", "ials"))
    assert glossary("nothing") == ""


def test_a_narrow_screen_keeps_the_first_two_columns_of_a_wide_table(report):
    report.add("# T")
    report.table(pd.DataFrame({name: [1] for name in ("model", "ndcg", "hr", "seeds")}), "Wide.")
    report.table(pd.DataFrame({name: [1] for name in ("model", "ndcg", "hr")}), "Not wide.")
    assert re.findall(r'data-columns="(\d+)"', report.page()) == ["2"]


def test_minus_signs_and_per_cent_are_typeset_but_names_and_commands_are_not():
    text = "-0.002 (-0.1 – 5 %), 80-10-10 and ML-1M\n\n```\nmake x -1\n```\n\n-3"
    assert typeset(text) == "−0.002 (−0.1 – 5%), 80-10-10 and ML-1M\n\n```\nmake x -1\n```\n\n−3"


STORED = (ROOT / "reports/report.md").read_text(encoding="utf-8")
PROSE = re.sub(r"^```.*?^```$|^\|[^\n]*$|\]\([^)]*\)", "", STORED, flags=re.DOTALL | re.MULTILINE)


def test_the_report_speaks_in_words_of_the_field():
    assert "`" not in PROSE and "so far" not in PROSE and "reports/" not in PROSE
    assert not re.findall(r"(?<![\w-])-\d", PROSE)
    assert all(PROSE.count(name) <= 1 for name in PROTOCOLS)


def test_the_report_names_every_figure_and_table_that_it_shows():
    shown = re.findall(r"^\*\*((?:Figure|Table) \d+)\.\*\*", STORED, flags=re.MULTILINE)
    named = PROSE.replace("**Figure", "").replace("**Table", "")
    assert len(set(shown)) == len(shown) > 30
    assert [each for each in shown if not re.search(rf"{each}\b(?!\.\*)", named)] == []


def test_the_readme_gives_the_answer_of_the_report():
    answer = STORED.split("### The answer\n\n")[1].split("\n\n![")[0]
    assert answer in (ROOT / "README.md").read_text(encoding="utf-8"), "copy the section The answer into README.md"


def test_the_citation_is_of_this_version_and_of_the_data():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["cff-version"] == "1.2.0" and citation["version"] == project["version"]
    assert {"message", "title", "authors"} <= set(citation) and citation["type"] == "software"
    (data,) = citation["references"]
    assert {"authors", "title", "type"} <= set(data) and data["year"] == 2015
    assert [author["family-names"] for author in data["authors"]] == ["Harper", "Konstan"]
