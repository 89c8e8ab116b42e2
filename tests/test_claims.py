import pandas as pd
import pytest

from pipeline.chapters.claims import COLUMNS, Ledger, gathered, save_claims, share_confirmed, shown
from pipeline.chapters.claims import tested as of_tested
from pipeline.chapters.notebook import Notebook
from pipeline.chapters.study import ROOT, Study, code_cells
from pipeline.chapters.verdicts import KINDS, NOT_TESTABLE_HERE, VERDICTS, of_fact, of_number
from recsys_core.errors import StudyError

REFERENCES = """claim_id,source,name,dataset,protocol,metric,statement,reported,notebook,where,below,above,kind
S9-ratio,S9,ratio,ml-100k,,,The ratio is 25,25,02_eda_movies,here,,,number
S9-words,S9,words,ml-100k,,,Ratings are bad,most,02_eda_movies,here,,,fact
S9-later,S9,later,ml-100k,,rmse,The error is small,0.7,22_network,there,,,number
,A paper 2020,model,ncf-ml-1m,,ndcg@10,,0.5,,table 1,,,
"""
RIGHT, OFF, SO, NOT_SO = of_number(True), of_number(False), of_fact(True), of_fact(False)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports/references.csv").write_text(REFERENCES)
    return tmp_path


def opened(root, name="02_eda_movies", profile="study"):
    return Notebook(name, {}, profile, root / "reports", root / "figures", root=root)


@pytest.fixture
def ledger(root):
    return Ledger(opened(root))


def settled_in(root, name="02_eda_movies"):
    return pd.read_csv(root / f"reports/results/claims/{name}.csv", dtype=str, index_col="claim_id").fillna("")


def test_every_claim_is_in_the_table_and_one_without_a_verdict_is_pending_with_its_chapter(ledger, root):
    ledger.settle("S9-ratio", 72.2081, OFF, "films were counted otherwise")
    table = gathered(opened(root, "41_claims")).set_index("claim_id", drop=False)
    assert [*table] == COLUMNS and table.index.tolist() == ["S9-ratio", "S9-words", "S9-later"]
    assert table.loc["S9-ratio", ["reported", "measured", "verdict"]].tolist() == ["25", "72.21", "not reproducible"]
    assert table.loc["S9-later", ["measured", "verdict", "reason"]].tolist() == [
        "",
        "pending",
        "to be measured in 22_network",
    ]


def test_the_ledger_gathers_what_all_chapters_settle_and_the_report_reads_it_back(root):
    Ledger(opened(root)).settle("S9-words", "41% below 3 stars", NOT_SO, "fewer than half")
    Ledger(opened(root, "22_network")).settle("S9-later", 0.7, RIGHT)
    notebook = opened(root, "41_claims")
    table = gathered(notebook)
    assert table["verdict"].tolist() == ["pending", "refuted", "confirmed"]
    save_claims(notebook, table)
    pd.testing.assert_frame_equal(notebook.read_claims(), table.astype("str"))


def test_a_claim_that_another_chapter_has_settled_is_refused(root):
    Ledger(opened(root)).settle("S9-ratio", 25.0, RIGHT)
    moved = REFERENCES.replace("25,25,02_eda_movies", "25,25,22_network")
    (root / "reports/references.csv").write_text(moved)
    with pytest.raises(StudyError, match="S9-ratio is settled in 02_eda_movies, but belongs to 22_network"):
        gathered(opened(root, "41_claims"))
    with pytest.raises(StudyError, match="S9-ratio is settled in 22_network, as reports/references"):
        Ledger(opened(root)).settle("S9-ratio", 25.0, RIGHT)


def test_what_is_shown_names_statement_source_finding_and_verdict(ledger):
    said = ledger.settle("S9-ratio", 25.0, RIGHT).data
    assert all(part in said for part in ("Confirmed", "The ratio is 25", "S9", "Measured: 25"))


def test_a_decorated_function_is_called_at_once_shown_and_noted(ledger, root, capsys):
    @ledger.claim("S9-ratio")
    def ratio():
        return 25.0, RIGHT

    assert ratio() == (25.0, RIGHT)
    assert settled_in(root).loc["S9-ratio"].tolist() == ["25", "confirmed", ""]
    assert "Markdown" in capsys.readouterr().out


def test_a_function_that_measures_nothing_leaves_its_claim_pending(ledger, root):
    ledger.claim("S9-ratio")(lambda: None)
    assert settled_in(root).empty
    assert (gathered(opened(root, "41_claims"))["verdict"] == "pending").all()


@pytest.mark.parametrize("profile", ["smoke", None])
def test_a_run_with_other_parameters_computes_and_notes_nothing(root, profile):
    ledger = Ledger(opened(root, profile=profile))
    ledger.claim("S9-ratio")(lambda: pytest.fail("it was called"))
    ledger.settle("S9-ratio", 25.0, RIGHT)
    assert not (root / "reports/results").exists()


@pytest.mark.parametrize(
    ("claim_id", "measured", "verdict", "reason", "said"),
    [
        ("S9-none", 1.0, RIGHT, "", "There is no claim 'S9-none'"),
        ("S9-later", 1.0, RIGHT, "", "S9-later is settled in 22_network"),
        ("S9-ratio", 1.0, "confirmed", "", "S9-ratio is a number: its verdict has to come from that rule"),
        ("S9-ratio", 1.0, SO, "", "S9-ratio is a number: its verdict has to come from that rule"),
        ("S9-words", 1.0, RIGHT, "", "S9-words is a fact: its verdict has to come from that rule"),
        ("S9-ratio", float("nan"), OFF, "because", "needs what was measured"),
        ("S9-ratio", "", RIGHT, "", "needs what was measured"),
        ("S9-ratio", 1.0, OFF, "", "a reason unless"),
        ("S9-ratio", 1.0, NOT_TESTABLE_HERE, "", "a reason unless"),
    ],
)
def test_a_verdict_without_claim_measurement_or_reason_is_refused(ledger, claim_id, measured, verdict, reason, said):
    with pytest.raises(StudyError, match=said):
        ledger.settle(claim_id, measured, verdict, reason)


def test_a_cell_that_is_run_again_replaces_its_verdict(ledger, root):
    ledger.settle("S9-words", "half", NOT_TESTABLE_HERE, "so")
    ledger.settle("S9-ratio", 1.0, OFF, "so")
    ledger.settle("S9-ratio", 25.0, RIGHT)
    table = settled_in(root)
    assert table["verdict"].to_dict() == {"S9-ratio": "confirmed", "S9-words": "not testable here"}


@pytest.mark.parametrize(("value", "word"), [(26.25, "confirmed"), (23.75, "confirmed"), (23.7, "not reproducible")])
def test_a_number_measured_again_is_judged_by_its_distance(ledger, value, word):
    measured, found, reason = ledger.again("S9-ratio", value, "as printed.")
    assert (measured, found.word) == (f"{value:.4f}", word)
    assert reason == f"{value / 25 - 1:+.1%}; as printed."


def test_means_for_a_claim_are_of_tuned_settings_where_there_are_both_and_of_this_run_for_its_own_chapter(ledger):
    rows = [("A", "stated", 1.0), ("A", "tuned", 2.0), ("A", "tuned", 4.0), ("B", "stated", 5.0)]
    frame = pd.DataFrame(rows, columns=["model", "settings", "value"])
    ledger.notebook.save_results(frame.assign(protocol="p", metric="m", dataset="d", variant=""))
    assert [ledger.mean_of("02_eda_movies", model, "p", "m") for model in ("A", "B")] == [3.0, 5.0]


def with_references(root, old, new):
    assert old in REFERENCES
    (root / "reports/references.csv").write_text(REFERENCES.replace(old, new))
    return Ledger(opened(root))


def test_a_tolerance_of_the_references_takes_the_place_of_the_usual_one(root):
    ledger = with_references(root, "02_eda_movies,here,,,number", "02_eda_movies,here,5,0,number")
    assert [ledger.near("S9-ratio", value) for value in (20.0, 19.9, 25.0, 25.1)] == [True, False, True, False]


def test_a_count_is_exact_unless_the_references_say_otherwise(root):
    ledger = with_references(root, "here,,,number", "here,,,fact")
    assert ledger.near("S9-ratio", 25) and not ledger.near("S9-ratio", 25.01)


@pytest.mark.parametrize("kind", ["guess", ""])
def test_a_claim_of_an_unknown_kind_is_refused(root, kind):
    ledger = with_references(root, "here,,,number", f"here,,,{kind}")
    with pytest.raises(
        StudyError, match=r"S9-ratio is of the kind .* in reports/references.csv: comparison, number, fact"
    ):
        ledger.settle("S9-ratio", 25.0, RIGHT)


def test_shares_are_of_the_claims_that_were_tested():
    words = ["confirmed", "partly", "refuted", "undecided", "not reproducible", "not testable here", "pending"]
    table = pd.DataFrame({"verdict": words})
    assert of_tested(table)["verdict"].tolist() == words[:5] and share_confirmed(table) == 0.2
    assert pd.isna(share_confirmed(table.tail(2))) and tuple(words) == VERDICTS


def test_the_ledger_to_read_has_a_line_a_claim_and_leads_to_the_chapter(ledger, root):
    ledger.settle("S9-words", "41% | 3", NOT_SO, "fewer than half")
    lines = shown(gathered(opened(root, "41_claims"))).data.splitlines()
    assert len(lines) == 2 + 3
    assert lines[3] == r"| Ratings are bad | fact | most | 41% \| 3 | refuted | [02](02_eda_movies.ipynb) |"
    assert lines[2].endswith("| pending |  |")


def test_reported_numbers_are_read_as_numbers_and_words_are_refused(ledger):
    assert ledger.reported("S9-ratio") == 25.0
    with pytest.raises(StudyError, match="reports no number but 'most'"):
        ledger.reported("S9-words")


def test_the_committed_references_are_complete_and_name_chapters_that_could_exist():
    references = pd.read_csv(ROOT / "reports/references.csv", dtype=str)
    claims = references[references["claim_id"].notna()]
    assert claims["claim_id"].is_unique and set(claims["source"]) == {"S0", "S1", "S2", "S3", "S4"}
    assert claims[["statement", "reported", "notebook", "where"]].notna().all(axis=None)
    assert set(claims["kind"]) == set(KINDS) and (claims["below"].notna() == claims["above"].notna()).all()
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
    waiting = set(table.loc[table["verdict"] == "pending", "notebook"]) & set(Study().notebooks)
    assert waiting <= {"36_neumf", "70_performance"}, "only what needs another machine waits for its measurement"
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
