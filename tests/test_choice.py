"""Chapter 54: candidates, what they cost, the choice on validation rows, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import invented_movielens, random_interactions

from pipeline.chapters import choice
from pipeline.chapters.comparisons import BETTER, COLUMNS, UNDECIDED, WORSE, Comparison, each_with
from pipeline.chapters.experiment import Experiments
from pipeline.chapters.notebook import Notebook
from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.evaluate import RankingTask, mean_ndcg
from recsys_core.interactions import Interactions
from recsys_core.models.baselines import Bias, Popularity
from recsys_core.models.linear import EASE
from recsys_core.models.memory import DoesNotFitError
from recsys_core.models.ncf import NCF

PROTOCOL = "random-80-10-10"


def study(tmp_path: Path, data: MovieLens | None = None) -> Experiments:
    places = (tmp_path / "reports", tmp_path / "figures")
    return Experiments(Notebook("54_choice", {}, None, *places, tmp_path), data or invented_movielens())


@pytest.fixture
def ran(tmp_path: Path) -> Experiments:
    found = study(tmp_path)
    choice.run_all(found, {"Popularity": Popularity(), "EASE": EASE(), "Bias": Bias()}, PROTOCOL, [0], "stated")
    return found


def test_candidates_have_stated_settings_and_those_that_all_share_where_they_have_them(tmp_path: Path) -> None:
    names = ["popularity", "ease", "ncf"]
    found = choice.candidates(study(tmp_path), names, "stated", device="cpu", patience=9)
    assert list(found) == ["Popularity", "EASE", "NCF"] and found["EASE"] == EASE()
    assert found["NCF"].patience == 9 and found["NCF"].learning_rate == NCF().learning_rate  # type: ignore[attr-defined]
    with pytest.raises(StudyError, match="models='nothing' is not known"):
        choice.candidates(study(tmp_path), ["nothing"], "stated")


def test_validation_values_are_those_of_models_fitted_on_training_rows_alone_best_first(tmp_path: Path) -> None:
    found = study(tmp_path)
    split = found.splits(PROTOCOL)[0]
    values = choice.validated(found, {"Bias": Bias(), "EASE": EASE()}, split)
    task = RankingTask(split.train, split.validation, cutoffs=(10,))
    expected = {"EASE": mean_ndcg(EASE().fit(split.train), task), "Bias": mean_ndcg(Bias().fit(split.train), task)}
    assert values == pytest.approx(expected) and list(values.values()) == sorted(values.values(), reverse=True)


def test_a_network_is_validated_on_all_users_after_the_epochs_that_validation_chose(tmp_path: Path) -> None:
    found = study(tmp_path)
    split = found.splits(PROTOCOL)[0]
    network = NCF(epochs=3, layers=(8,), device="cpu", patience=3, validation_users=5)
    epochs = found.validated("NCF", network, split).chosen["epochs"]
    fitted = NCF(epochs=epochs, layers=(8,), device="cpu", validation_users=5).fit(split.train)
    expected = mean_ndcg(fitted, RankingTask(split.train, split.validation, cutoffs=(10,)))
    assert choice.validated(found, {"NCF": network}, split)["NCF"] == pytest.approx(expected)


def lines(**verdicts: tuple[float, str]) -> Comparison:
    """A comparison with the model "Mine": the difference and the verdict of each other one."""
    rows = [(name, "Mine", d, d - 0.02, d + 0.02, 0.5, verdict) for name, (d, verdict) in verdicts.items()]
    return Comparison(pd.DataFrame(rows, columns=COLUMNS), "ndcg@10", 100)


def test_what_did_better_on_test_rows_is_named_and_a_lone_model_has_no_rivals() -> None:
    better = choice._level("Mine", lines(EASE=(0.1, BETTER), SLIM=(-0.1, WORSE)), {})
    assert better == "On test rows EASE did better: validation chose otherwise, and another split should decide."
    assert choice._level("Mine", lines(EASE=(-0.1, WORSE)), {}) == "All other models are worse on these users."
    assert choice._level("Mine", lines(), {}) == "No other model ran."


def test_what_is_not_told_apart_is_said_with_both_sides_and_quicker_ones_only_where_time_matters() -> None:
    level = lines(EASE=(0.01, UNDECIDED), SLIM=(-0.01, UNDECIDED), Bias=(-0.3, WORSE))
    text = choice._level("Mine", level, {"Mine": 100.0, "EASE": 1.0})
    assert "apart from EASE, SLIM: others may be up to 0.030 better or 0.030 worse" in text
    assert "Of these EASE have higher values on test rows" in text and "to train is EASE: 1.0 s against 100.0 s" in text
    assert "to train" not in choice._level("Mine", level, {"Mine": 2.0, "EASE": 0.1})


def test_groups_by_length_count_users_once_whatever_is_named_twice_or_did_not_run(ran: Experiments) -> None:
    split = ran.splits(PROTOCOL)[0]
    table = choice.by_length(ran, split, ["EASE", "EASE", "Nobody"])
    assert list(table) == ["users", "EASE"] and table["users"].sum() == len(np.unique(split.test.users))


def test_lists_of_a_catalogue_that_is_smaller_than_a_list_can_be_timed() -> None:
    assert choice.answering_ms(Popularity().fit(random_interactions(0, 20, 6, 60))) >= 0


def test_one_user_with_most_of_the_rows_does_not_stop_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "MANY_ROWS", 1000)
    monkeypatch.setattr(choice, "rehearsed", lambda model, rows, n: (4000, 2.0, 0.001))
    assert choice.estimated(Popularity(), random_interactions(0, 100, 100, 5000)).seconds == pytest.approx(2.5 + 0.1)


def test_groups_by_length_have_every_tested_user_once_and_their_means(ran: Experiments) -> None:
    split = ran.splits(PROTOCOL)[0]
    table = choice.by_length(ran, split, ["EASE", "Popularity"])
    assert table["users"].sum() == len(np.unique(split.test.users)) and list(table) == ["users", "EASE", "Popularity"]
    whole = ran.users.query("model == 'EASE'")["ndcg@10"].mean()
    assert np.average(table["EASE"], weights=table["users"]) == pytest.approx(whole)


def test_errors_stand_in_the_unit_of_the_file_and_in_percent_of_its_scale(ran: Experiments, tmp_path: Path) -> None:
    stars = choice.errors_of(ran, PROTOCOL).set_index("model")
    ran.data = replace(ran.data, unit=2.25)
    points = choice.errors_of(ran, PROTOCOL).set_index("model")
    assert list(stars.index) == ["Bias"]  # the others predict no ratings
    for column in ("rmse", "rmse low", "rmse high", "mae"):
        assert points.loc["Bias", column] == pytest.approx(2.25 * stars.loc["Bias", column])
    assert points.loc["Bias", "rmse, % of the scale"] == pytest.approx(100 * stars.loc["Bias", "rmse"] / 4)
    assert stars.loc["Bias", "rmse low"] < stars.loc["Bias", "rmse"] < stars.loc["Bias", "rmse high"]
    ran.data = replace(ran.data, explicit=False)
    assert choice.errors_of(ran, PROTOCOL).empty


def test_the_words_name_the_chosen_model_its_values_and_what_is_level_with_it(ran: Experiments) -> None:
    board = ran.board("ndcg@10", "hit_ratio@10", "coverage@10", protocol=PROTOCOL, n_intervals=1)
    compared = ran.compare(
        "ndcg@10", each_with(["Popularity", "EASE", "Bias"], ["EASE"]), protocol=PROTOCOL, settings=None
    )
    words = " ".join(choice.in_words("EASE", EASE(), board, compared, {"EASE": 8.0, "Popularity": 0.1, "Bias": 0.1}))
    line = board.set_index("model").loc["EASE"]
    assert "**EASE** has the highest NDCG@10 on validation rows" in words
    assert f"on test rows, on which nothing was chosen, it has {line['ndcg@10']:.3f}" in words
    for name in choice.equals(compared):
        assert name in words.split("do not tell it apart from")[1].split(":")[0]
    assert "without another training" in words


def test_a_model_that_knows_only_its_own_users_is_said_to_need_another_training(ran: Experiments) -> None:
    board = ran.board("ndcg@10", "hit_ratio@10", "coverage@10", protocol=PROTOCOL, n_intervals=1)
    compared = ran.compare("ndcg@10", each_with(["Popularity", "EASE"], ["Bias"]), protocol=PROTOCOL, settings=None)
    words = " ".join(choice.in_words("Bias", NCF(device="cpu"), board, compared, {}))
    assert "has to be trained again" in words


def test_popularity_as_the_choice_is_called_the_same_list_for_everybody(ran: Experiments) -> None:
    board = ran.board("ndcg@10", "hit_ratio@10", "coverage@10", protocol=PROTOCOL, n_intervals=1)
    compared = ran.compare("ndcg@10", each_with(["EASE", "Bias"], ["Popularity"]), protocol=PROTOCOL, settings=None)
    words = " ".join(choice.in_words("Popularity", Popularity(), board, compared, {}))
    assert "That is the same list for everybody. No other model had a higher value there" in words


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"explicit": False}, "There are no opinions"),
        ({}, "There are 130 items"),
    ],
)
def test_what_makes_a_number_mean_less_is_said(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    data = replace(invented_movielens(), **change)
    found = study(tmp_path, data)
    warnings = choice.warnings_of(found, found.splits(PROTOCOL)[0])
    is_small = "items: a list" in " ".join(warnings)
    assert any(each.startswith(said) for each in warnings) if change else not is_small  # 130 are enough
    assert any("Only 40 users are tested" in each for each in warnings)
    assert any("There are no times" in each for each in warnings)  # seconds of 1970 are places in a file


@pytest.mark.parametrize(("n_users", "said"), [(5, "(p is 0.062 at least"), (12, "significant, and the choice")])
def test_how_little_a_few_users_can_show_is_said(n_users: int, said: str, tmp_path: Path) -> None:
    data = invented_movielens()
    few = data.ratings[data.ratings["user_id"].isin(data.ratings["user_id"].unique()[:n_users])].reset_index(drop=True)
    found = study(tmp_path, replace(data, ratings=few))
    warnings = choice.warnings_of(found, found.splits(PROTOCOL)[0])
    assert warnings[0].startswith(f"Only {n_users} users are tested") and said in warnings[0]


def test_facts_count_ratings_users_and_items(tmp_path: Path) -> None:
    facts = choice.facts_of(study(tmp_path))
    data = invented_movielens().ratings
    assert (facts["ratings"], facts["users"]) == (600, 40) and facts["items"] == data["item_id"].nunique()
    once = (data["item_id"].value_counts() == 1).sum()
    assert facts["items with one rating"] == once and facts["ratings of a user, median"] == 15


def test_costs_are_estimated_by_a_line_through_two_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_interactions(0, 100, 100, 5000)
    monkeypatch.setattr(choice, "MANY_ROWS", 1000)
    monkeypatch.setattr(choice, "rehearsed", lambda model, rows, n: (n, 5 + n / 1000, 0.001 * n / 10_000))
    cost = choice.estimated(Popularity(), rows)
    assert cost.seconds == pytest.approx(5 + 5000 / 1000 + 100 * 0.001 * 5000 / 10_000)
    monkeypatch.setattr(choice, "MANY_ROWS", 10_000)
    assert choice.estimated(Popularity(), rows).seconds == 0  # few rows are not rehearsed


def test_what_takes_too_long_or_does_not_fit_is_left_out_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_interactions(0, 100, 100, 5000)
    monkeypatch.setattr(choice, "MANY_ROWS", 1000)

    def rehearsed(model: Any, rows: Interactions, n: int) -> tuple[int, float, float]:
        if isinstance(model, EASE):
            raise DoesNotFitError("100 items are too many.")
        return n, 400.0 if isinstance(model, Bias) else 0.1, 0.0

    monkeypatch.setattr(choice, "rehearsed", rehearsed)
    models = {"Popularity": Popularity(), "Bias": Bias(), "EASE": EASE()}
    kept, left = choice.affordable(models, rows, most_minutes=10)
    assert list(kept) == ["Popularity"] and left["EASE"] == "100 items are too many."
    assert left["Bias"] == "It would take about 13 minutes, and most_minutes allows 10."


def test_a_rehearsal_is_on_whole_users_and_times_their_lists() -> None:
    rows = random_interactions(0, 200, 50, 5000)
    n_rows, fit_s, list_s = choice.rehearsed(Popularity(), rows, 1000)
    first = int(np.searchsorted(np.cumsum(rows.user_counts), 1000))
    assert n_rows == rows.user_counts[: first + 1].sum() and fit_s >= 0 and list_s >= 0


def test_a_model_that_does_not_fit_in_memory_is_left_out_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(n_items: int) -> None:
        raise DoesNotFitError("no memory.")

    monkeypatch.setattr("recsys_core.models.linear.check_pairs_fit", refuse)
    found = study(tmp_path)
    left = choice.run_all(found, {"EASE": EASE(), "Popularity": Popularity()}, PROTOCOL, [0], "stated")
    assert left == {"EASE": "no memory."} and set(found.results["model"]) == {"Popularity"}


def test_seconds_are_known_only_where_results_have_them(ran: Experiments) -> None:
    assert choice.seconds_of(ran) == {}
    ran.results = ran.results.assign(seconds=pd.Series(2.0, ran.results.index))
    assert choice.seconds_of(ran) == {"Popularity": 2.0, "EASE": 2.0, "Bias": 2.0}


def test_models_of_ratings_are_left_out_where_these_are_no_opinions() -> None:
    rows = random_interactions(0, 100, 100, 5000)
    bought = replace(rows, ratings=np.ones_like(rows.ratings))
    models = {"Popularity": Popularity(), "Bias": Bias()}
    assert list(choice.affordable(models, rows, 10)[0]) == ["Popularity", "Bias"]
    kept, left = choice.affordable(models, bought, 10)
    assert list(kept) == ["Popularity"] and left == {"Bias": "It predicts ratings, and these are no opinions."}


def test_every_seed_of_a_model_that_draws_counts_in_its_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "estimated", lambda model, rows: choice.Estimate(60.0))
    rows, network = random_interactions(0, 100, 100, 5000), NCF(epochs=3, device="cpu")
    models = {"EASE": EASE(), "NCF": network}
    assert list(choice.affordable(models, rows, 2.5, 3)[0]) == ["EASE"]  # 2 minutes, and 5 of the network
    assert list(choice.affordable(models, rows, 5.5, 3)[0]) == ["EASE", "NCF"]
    assert choice.affordable(models, rows, 2.5, 1)[1]["NCF"].startswith("It would take about 3 minutes")
