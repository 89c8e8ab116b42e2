"""Leaderboards over chapters and comparisons of ranking models."""

import numpy as np
import pandas as pd
import pytest

from pipeline.chapters.rankings import (
    against,
    beaten,
    board,
    of_chapters,
    said,
    stopped_early,
    with_verdicts,
)
from recsys_core.errors import StudyError

LABELS = {"protocol": "random-80-10-10", "variant": "", "dataset": "ml-100k"}


def chapter(model: str, settings: str, value: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two seeds, twenty users around `value`."""
    labels = LABELS | {"model": model, "settings": settings}
    rows = pd.DataFrame({"seed": [0, 1], "metric": "ndcg@10", "value": value, "parameters": 7}).assign(**labels)
    spread = np.linspace(-0.01, 0.01, 20)
    users = pd.DataFrame({"user": np.arange(20), "ndcg@10": value + spread}).assign(**labels)
    return rows, users


CHAPTERS = {
    "a": tuple(map(pd.concat, zip(chapter("EASE", "stated", 0.2), chapter("EASE", "tuned", 0.3)))),
    "b": chapter("NCF", "stated", 0.25),
}
FAMILIES = {"simple": ["a"], "neural": ["b"]}


def both(protocol: str = "random-80-10-10") -> tuple[pd.DataFrame, pd.DataFrame]:
    results, users = (
        of_chapters(lambda name, part=part: CHAPTERS[name][part], FAMILIES, protocol, "ml-100k") for part in (0, 1)
    )
    return results, users


def test_a_model_is_shown_with_tuned_settings_where_there_are_any() -> None:
    lines = board(*both(), ["ndcg@10"])
    assert lines["model"].tolist() == ["EASE", "NCF"]
    assert lines["settings"].tolist() == ["tuned", "stated"]
    assert lines["ndcg@10"].tolist() == pytest.approx([0.3, 0.25])
    assert lines["family"].tolist() == ["simple", "neural"]


def test_other_protocols_stay_outside_and_leave_an_empty_board() -> None:
    results, users = both("loo-full")
    assert results.empty
    assert board(results, users, ["ndcg@10"]).empty


def test_a_model_run_in_two_chapters_counts_once_and_belongs_to_the_first_one_s_family() -> None:
    chapters = {
        "a": chapter("EASE", "stated", 0.2),
        "b": chapter("EASE", "tuned", 0.3),
        "c": chapter("EASE", "tuned", 0.4),
    }
    families = {"simple": ["a"], "hybrid": ["b", "c"]}
    results, users = (
        of_chapters(lambda name, part=part: chapters[name][part], families, "random-80-10-10", "ml-100k")
        for part in (0, 1)
    )
    assert board(results, users, ["ndcg@10"])[["settings", "family", "ndcg@10"]].to_numpy().tolist() == [
        ["tuned", "simple", pytest.approx(0.3)]
    ]


def test_models_can_be_left_out_by_name() -> None:
    rows = of_chapters(lambda name: CHAPTERS[name][0], FAMILIES, "random-80-10-10", "ml-100k", left_out="NC.")
    assert set(rows["model"]) == {"EASE"}


def test_metrics_after_the_first_few_have_no_interval() -> None:
    assert "ndcg@10 low" in board(*both(), ["ndcg@10"], n_intervals=1)
    assert "ndcg@10 low" not in board(*both(), ["ndcg@10"], n_intervals=0)


def test_differences_are_user_by_user_and_p_is_adjusted_for_all_pairs() -> None:
    users = pd.concat([both()[1], chapter("iALS", "tuned", 0.25)[1].assign(family="simple")])
    table = against(users, "ndcg@10", ["NCF"], ["EASE", "iALS"]).set_index("rival")
    assert table.loc["EASE", ["difference", "low", "high"]].tolist() == pytest.approx([-0.05] * 3)
    assert table.loc["iALS", "p"] == 1.0
    assert table.loc["EASE", "p"] == pytest.approx(2 / 10_001, rel=0.5)  # the smallest p, twice
    assert with_verdicts(table.reset_index())["verdict"].tolist() == ["worse", "undecided"]


def test_the_headline_counts_who_beats_whom() -> None:
    lines = [
        ("NCF", "EASE", "better"),
        ("NCF", "iALS", "better"),
        ("DSSM", "EASE", "worse"),
        ("DSSM", "iALS", "undecided"),
    ]
    compared = pd.DataFrame(lines, columns=["model", "rival", "verdict"])
    assert beaten(compared, ["EASE", "iALS"]) == (
        "NCF beats both EASE and iALS. Of the 2, 1 are better than EASE, 0 undecided and 1 worse; "
        "1 are better than iALS, 1 undecided and 0 worse."
    )
    assert beaten(compared.query("model == 'DSSM'"), ["EASE", "iALS"]).startswith(
        "None of 1 neural models beats both EASE"
    )


def test_a_difference_is_said_with_its_interval_and_p() -> None:
    table = against(both()[1], "ndcg@10", ["NCF"], ["EASE"])
    assert said(table.iloc[0]) == f"worse than EASE (-0.050, -0.050 to -0.050, p = {table['p'][0]:.4f})"


def test_a_model_without_users_is_refused() -> None:
    with pytest.raises(StudyError, match="BPR: 0 rows of users"):
        against(both()[1], "ndcg@10", ["BPR"], ["EASE"])


def test_models_with_other_users_are_not_paired() -> None:
    users = pd.concat([both()[1], chapter("BPR", "tuned", 0.2)[1].query("user > 3")])
    with pytest.raises(StudyError, match="BPR and EASE were measured on different users"):
        against(users, "ndcg@10", ["BPR"], ["EASE"])


def test_models_with_less_than_half_of_the_epochs_are_named_as_stopped_early() -> None:
    def rows(protocol: str, *epochs: int) -> pd.DataFrame:
        names = ["EASE", "Autoencoder", "NeuMF", "Towers"]
        family = ["neighbours and linear", "neural", "neural", "network for stars"]
        return pd.DataFrame({"model": names, "family": family, "epochs": [0, *epochs], "protocol": protocol})

    early = stopped_early(rows("random-80-10-10", 30, 10, 20), rows("loo-full", 14, 5, 2))
    assert early.to_dict() == {"random-80-10-10": {"Autoencoder": 30}, "loo-full": {"Autoencoder": 14}}
