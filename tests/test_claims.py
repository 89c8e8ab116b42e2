import pandas as pd
import pytest

from pipeline.chapters.claims import COLUMNS, VERDICTS, Ledger, within
from pipeline.chapters.notebook import Notebook
from pipeline.chapters.study import ROOT, Study, code_cells
from recsys_core.errors import StudyError

REFERENCES = """claim_id,source,name,dataset,protocol,metric,statement,reported,notebook,where
S9-ratio,S9,ratio,ml-100k,,,The ratio is 25,25,02_eda_movies,here
S9-words,S9,words,ml-100k,,,Ratings are bad,most,02_eda_movies,here
S9-later,S9,later,ml-100k,,rmse,The error is small,0.7,22_network,there
,A paper 2020,model,ncf-ml-1m,,ndcg@10,,0.5,,table 1
"""


@pytest.fixture
def ledger(tmp_path):
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/references.csv").write_text(REFERENCES)
    return Ledger(Notebook("41_claims", {}, None, tmp_path / "out", tmp_path / "figures", root=tmp_path))


def test_every_claim_is_in_the_table_and_one_without_a_verdict_is_pending_with_its_chapter(ledger):
    ledger.settle("S9-ratio", 72.2081, "refuted", "films were counted otherwise")
    table = ledger.table().set_index("claim_id")
    assert [*ledger.table()] == COLUMNS and len(table) == 3
    assert table.loc["S9-ratio", ["reported", "measured", "verdict"]].tolist() == ["25", "72.21", "refuted"]
    assert table.loc["S9-later", ["measured", "verdict", "reason"]].tolist() == [
        "",
        "pending",
        "to be measured in 22_network",
    ]


def test_the_saved_ledger_is_what_the_report_reads_back(ledger):
    ledger.settle("S9-words", "41% below 3 stars", "refuted", "fewer than half")
    ledger.save()
    pd.testing.assert_frame_equal(ledger.notebook.read_claims(), ledger.table().astype("str"))


def test_what_is_shown_names_statement_source_finding_and_verdict(ledger):
    shown = ledger.settle("S9-ratio", 25.0, "confirmed").data
    assert all(part in shown for part in ("Confirmed", "The ratio is 25", "S9", "Measured: 25"))


@pytest.mark.parametrize(
    ("claim_id", "measured", "verdict", "reason", "said"),
    [
        ("S9-none", 1.0, "confirmed", "", "There is no claim 'S9-none'"),
        ("S9-ratio", 1.0, "true", "", "verdict 'true' is none of confirmed"),
        ("S9-ratio", 1.0, "pending", "because", "verdict 'pending'"),
        ("S9-ratio", float("nan"), "refuted", "because", "needs what was measured"),
        ("S9-ratio", "", "confirmed", "", "needs what was measured"),
        ("S9-ratio", 1.0, "refuted", "", "a reason unless"),
    ],
)
def test_a_verdict_without_claim_measurement_or_reason_is_refused(ledger, claim_id, measured, verdict, reason, said):
    with pytest.raises(StudyError, match=said):
        ledger.settle(claim_id, measured, verdict, reason)


def test_a_claim_is_settled_once(ledger):
    ledger.settle("S9-ratio", 1.0, "refuted", "so")
    with pytest.raises(StudyError, match="twice"):
        ledger.settle("S9-ratio", 25.0, "confirmed")


def test_reported_numbers_are_read_as_numbers_and_words_are_refused(ledger):
    assert ledger.reported("S9-ratio") == 25.0
    with pytest.raises(StudyError, match="reports no number but 'most'"):
        ledger.reported("S9-words")


def test_within_allows_exactly_its_tolerance():
    assert within(25.1, 25.0, 0.1) and not within(25.11, 25.0, 0.1)


def test_the_committed_references_are_complete_and_name_chapters_that_could_exist():
    references = pd.read_csv(ROOT / "reports/references.csv", dtype=str)
    claims = references[references["claim_id"].notna()]
    assert claims["claim_id"].is_unique and set(claims["source"]) == {"S0", "S1", "S2", "S3", "S4"}
    assert claims[["statement", "reported", "notebook", "where"]].notna().all(axis=None)
    assert (
        references[references["claim_id"].isna()][["source", "name", "metric", "reported", "where"]]
        .notna()
        .all(axis=None)
    )


def test_the_committed_ledger_has_every_claim_and_settles_all_that_existing_chapters_measure():
    path = ROOT / "reports/claims.csv"
    if not path.exists():
        pytest.skip("reports/claims.csv is not written yet: run `make study`")
    table = pd.read_csv(path, dtype=str).fillna("")
    references = pd.read_csv(ROOT / "reports/references.csv", dtype=str)
    assert table["claim_id"].tolist() == references["claim_id"].dropna().tolist() and len(table) >= 60
    assert set(table["verdict"]) <= set(VERDICTS)
    data = table[table["notebook"].str.match(r"0\d_|41_")]
    assert not (data["verdict"] == "pending").any(), "a statement about the data is not settled"
    settled = table[table["verdict"] != "pending"]
    assert (settled["measured"] != "").all()
    assert set(settled["notebook"]) <= set(Study().notebooks), "a settled claim names a chapter that does not exist"


def test_reported_values_appear_in_no_other_code():
    """Figures of the reports are typed once: long ones would betray themselves elsewhere."""
    references = pd.read_csv(ROOT / "reports/references.csv", dtype=str)
    long = [value for value in references["reported"] if value.replace(".", "").isdigit() and len(value) > 8]
    cells = [source for path in (ROOT / "notebooks").glob("*.ipynb") for source, _ in code_cells(path)]
    modules = [path.read_text() for path in (ROOT / "recsys_core").rglob("*.py")]
    assert long and not [value for value in long if any(value in text for text in cells + modules)]
