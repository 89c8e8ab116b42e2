import matplotlib.pyplot as plt
import pandas as pd
import pytest

from pipeline.notebook import Notebook
from pipeline.report import Report
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
