"""What the protocol does to the answer: rank correlations by population, flaws that are committed on purpose, and their figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers import random_interactions
from scipy.stats import spearmanr

from pipeline.chapters import board_agreement, power_design, protocol_flaws
from pipeline.chapters.boards import Rows
from recsys_core.errors import StudyError
from recsys_core.interactions import Interactions
from recsys_core.models.baselines import Popularity
from recsys_core.models.gmf import GMF
from recsys_core.models.linear import EASE
from recsys_core.splits import loo_sampled, random_80_10_10

N_USERS, N_MODELS = 200, 22
NAMES = ["Popularity", *(f"model {place}" for place in range(1, N_MODELS))]


def board(levels: np.ndarray, seed: int, noise: float = 0.05) -> pd.DataFrame:
    """A row a user and a column a model, whose values are its level and noise."""
    values = levels + np.random.default_rng(seed).normal(0, noise, (N_USERS, len(levels)))
    return pd.DataFrame(values, columns=NAMES[: len(levels)]).rename_axis("user")


LEVELS = np.r_[0.2, np.linspace(0.0, 0.1, 3), np.linspace(0.3, 0.6, N_MODELS - 4)]


@pytest.fixture(scope="module")
def agreed() -> pd.DataFrame:
    shuffled = LEVELS.copy()
    shuffled[6:] = np.random.default_rng(1).permutation(LEVELS[6:])  # the good ones are in another order
    boards = {"one": board(LEVELS, 0), "two": board(LEVELS, 1), "other": board(shuffled, 2)}
    return board_agreement.agreement(boards, "one")


def line(table: pd.DataFrame, one: str, other: str, population: str) -> pd.Series:
    found = table[(table["one"] == one) & (table["other"] == other) & (table["population"] == population)]
    assert len(found) == 1
    return found.iloc[0]


@pytest.fixture(scope="module")
def rows() -> Interactions:
    return random_interactions(0, 40, 130, 800)


def test_rank_correlations_of_many_rows_are_scipys_with_ties() -> None:
    one, other = np.random.default_rng(0).integers(0, 4, (2, 5, 9))
    expected = [spearmanr(*pair).statistic for pair in zip(one, other)]
    assert board_agreement.spearman(one, other) == pytest.approx(expected)


def test_models_that_everybody_ranks_low_make_boards_agree(agreed: pd.DataFrame) -> None:
    everybody, best = (line(agreed, "one", "other", each) for each in (board_agreement.ALL, board_agreement.BEST))
    assert (everybody["models"], best["models"]) == (N_MODELS, 10)
    assert best["spearman"] < everybody["spearman"] - 0.2
    assert best["low"] <= best["spearman"] <= best["high"]


def test_boards_that_differ_by_chance_alone_agree_among_any_models(agreed: pd.DataFrame) -> None:
    for population in board_agreement.POPULATIONS:
        assert line(agreed, "one", "two", population)["spearman"] > 0.95


def test_ten_at_random_agree_about_as_well_as_all_models_do(agreed: pd.DataFrame) -> None:
    everybody, drawn = (line(agreed, "one", "other", each) for each in (board_agreement.ALL, board_agreement.DRAWN))
    assert drawn["spearman"] == pytest.approx(everybody["spearman"], abs=0.1)
    assert np.isnan(drawn["kendall"])


def test_who_is_best_is_decided_by_the_given_order_alone_and_weak_models_are_not() -> None:
    order = pd.Series(LEVELS, NAMES)
    found = board_agreement.populations(list(reversed(NAMES)), order)
    assert found[board_agreement.BEST] == NAMES[::-1][:10]
    assert set(found[board_agreement.ABOVE]) == set(NAMES[4:])


def test_a_population_that_is_no_smaller_or_too_small_is_left_out() -> None:
    order = pd.Series(LEVELS, NAMES)
    assert list(board_agreement.populations(NAMES[6:12], order)) == [board_agreement.ALL]
    assert list(board_agreement.populations(NAMES[:8], order)) == [
        board_agreement.ALL
    ]  # four are better than the popularity list


def test_ten_of_twelve_are_not_called_the_ten_best() -> None:
    found = board_agreement.populations(NAMES[:16], pd.Series(LEVELS, NAMES))
    assert {name: len(each) for name, each in found.items()} == {board_agreement.ALL: 16, board_agreement.ABOVE: 12}


def test_a_board_agrees_with_itself_as_far_as_chance_lets_it() -> None:
    level = np.linspace(0.3, 0.31, 10)
    sharp, blurred = (board_agreement.with_itself(board(level, 0, noise)) for noise in (0.001, 0.3))
    assert sharp > 0.99 > 0.8 > blurred


def test_halves_are_stepped_up_to_as_many_users_as_there_are() -> None:
    level = np.linspace(0.3, 0.4, 10)
    again = [
        spearmanr(board(level, 2 * seed, 0.4).mean(), board(level, 2 * seed + 1, 0.4).mean()).statistic
        for seed in range(60)
    ]
    found = np.mean([board_agreement.with_itself(board(level, 200 + seed, 0.4), 50) for seed in range(30)])
    assert found == pytest.approx(np.mean(again), abs=0.1)


def test_the_matrix_has_spearman_above_kendall_below_and_boards_with_themselves_between(agreed: pd.DataFrame) -> None:
    square = board_agreement.matrix(agreed)
    pair = line(agreed, "one", "other", board_agreement.ALL)
    assert square.loc["one", "other"] == pair["spearman"] and square.loc["other", "one"] == pair["kendall"]
    assert square.loc["two", "two"] == line(agreed, "two", "two", board_agreement.ALL)["spearman"]


def test_several_rows_of_a_user_are_refused_and_users_without_a_value_are_left_out() -> None:
    users = pd.DataFrame({"user": [0, 1, 2], "model": "EASE", "ndcg@10": [0.1, np.nan, 0.3]})
    kept = board_agreement.values_of(Rows(pd.DataFrame(), users, lambda figure, name: figure), "ndcg@10")
    assert kept["EASE"].to_dict() == {0: 0.1, 2: 0.3}
    twice = Rows(pd.DataFrame(), pd.concat([users, users]), lambda figure, name: figure)
    with pytest.raises(StudyError, match="several rows of a user"):
        board_agreement.values_of(twice, "ndcg@10")


def test_a_model_that_remembers_gains_from_a_leak_and_a_list_does_not(rows: Interactions) -> None:
    split = random_80_10_10(rows)
    remembering, listing = (
        protocol_flaws.inflation(protocol_flaws.leaked(model, split, 0), protocol_flaws.HONEST)
        for model in (EASE(), Popularity())
    )
    assert remembering.loc[protocol_flaws.LEAK, "ratio"] > 2 * listing.loc[protocol_flaws.LEAK, "ratio"]
    assert remembering.loc[protocol_flaws.ALL_ROWS, "reported"] > 0.9


def test_films_drawn_by_popularity_are_different_unseen_and_popular(rows: Interactions) -> None:
    split = loo_sampled(rows)
    popular, counts = protocol_flaws.by_popularity(split, 0), split.refit.item_counts
    seen = rows.binary.toarray() > 0
    assert all(len(set(drawn)) == 99 and not seen[user, drawn].any() for user, drawn in enumerate(popular))
    assert split.negatives is not None
    assert counts[popular].mean() > counts[split.negatives].mean()


def test_fewer_candidates_can_only_help_and_popular_ones_help_a_list_less(rows: Interactions) -> None:
    found = protocol_flaws.among_drawn(Popularity(), loo_sampled(rows), 0)
    assert (found[protocol_flaws.UNIFORM] >= found[protocol_flaws.WHOLE]).all()
    assert found[protocol_flaws.POPULAR].mean() <= found[protocol_flaws.UNIFORM].mean()


def test_every_epoch_is_measured_on_the_test_rows_of_every_user(rows: Interactions) -> None:
    split = random_80_10_10(rows)
    model = GMF(epochs=3, batch_size=256, learning_rate=0.01, device="cpu")
    curve = protocol_flaws.on_test_by_epoch(model, split, 0)
    assert curve.shape == (len(np.unique(split.test.users)), 3) and list(curve) == [1, 2, 3]
    assert curve[3].tolist() != curve[1].tolist()


def test_the_epoch_that_is_best_on_test_is_never_below_the_one_that_validation_chose() -> None:
    curves = {seed: board(np.full(8, 0.3), seed).set_axis(range(1, 9), axis=1) for seed in (0, 1)}
    found = protocol_flaws.chosen_on_test(curves, 4)
    means = found["users"].mean()
    assert means[protocol_flaws.ON_TEST] > means[protocol_flaws.VALIDATED]
    assert found["epochs"].shape == (8, 2)
    own, others = found["halves"]
    assert own > 0.002 and abs(others) < own / 2  # epochs differ by chance: what one half gains, the other does not


def test_an_inflation_is_a_ratio_of_means_over_the_same_users() -> None:
    values = pd.DataFrame({"honest": [0.1, 0.2, 0.3, 0.0], "flawed": [0.2, 0.4, 0.6, 0.0]})
    found = protocol_flaws.inflation(values, "honest").loc["flawed"]
    assert found[["ratio", "low", "high"]].tolist() == pytest.approx([2, 2, 2])
    assert found[["honest", "reported"]].tolist() == pytest.approx([0.15, 0.3])


def test_what_flaws_are_worth_is_sorted_by_size_and_said() -> None:
    honest = pd.Series([0.1, 0.2, 0.3, 0.4])
    measured = {
        ("EASE", "drawn"): pd.DataFrame(
            {
                protocol_flaws.WHOLE: honest,
                protocol_flaws.UNIFORM: honest * 3,
                protocol_flaws.POPULAR: honest * 2,
            }
        ),
        ("Popularity", "drawn"): pd.DataFrame(
            {
                protocol_flaws.WHOLE: honest / 2,
                protocol_flaws.UNIFORM: honest * 4,
                protocol_flaws.POPULAR: honest / 2,
            }
        ),
    }
    table = protocol_flaws.worth(measured)
    assert list(dict.fromkeys(table["flaw"])) == [protocol_flaws.POPULAR, protocol_flaws.UNIFORM]
    assert protocol_flaws.ranges(table).loc[protocol_flaws.UNIFORM].tolist() == pytest.approx([3, 8])
    said = protocol_flaws.sentence(table)
    assert "×3.00 to ×8.00" in said
    assert f"{protocol_flaws.UNIFORM}: Popularity in place of EASE" in said
    assert f"{protocol_flaws.POPULAR}: EASE, as it should" in said and "flatters" not in said
    assert "costs EASE (×0.90" in protocol_flaws.sentence(table.replace({"ratio": 2.0, "high": 2.0}, 0.9))


def test_what_is_not_part_of_a_run_is_said() -> None:
    table = pd.DataFrame({"flaw": ["a"], "model": ["EASE"], "ratio": [1.0]})
    assert "not part" in protocol_flaws.popularity_sentence(table)
    assert "No network" in protocol_flaws.halves_sentence({})


def test_the_agreement_is_said_with_the_numbers_of_the_table(agreed: pd.DataFrame) -> None:
    said = board_agreement.sentence(agreed)
    best = board_agreement.pairs_of(agreed)[board_agreement.BEST]
    assert f"({best.min():.2f} to {best.max():.2f})" in said and "nan" not in said
    assert f"by {best.mean():.2f} over the ten best" in board_agreement.headline(agreed)


COMPONENTS = pd.DataFrame(
    [[0.15, 0.002, 0.2, 0.003, 0.05], [0.15, 0.02, 0.2, 0.0, 0.0]],
    ["A against B", "C against B"],
    ["user", "split", "interaction", "seed", "noise"],
)


def test_what_is_needed_finds_the_margin_and_no_less_does() -> None:
    needs = power_design.needed_by_pair(COMPONENTS, (943, 5, 3), 0.02)
    splits = int(needs.loc["A against B", "splits"])
    found = [power_design.found_by(COMPONENTS, (943, each, 3))["A against B"] for each in (splits, max(2, splits - 1))]
    assert found[0] <= 0.02 and (splits == 2 or found[1] > 0.02)
    assert pd.isna(needs.loc["C against B", "users"])  # five splits differ too much, however many users there are
    said = power_design.needed_sentence(needs, (943, 5, 3), 0.02)
    assert "(and for 1 of 2 pairs no number of) users with 5 splits and 3 seeds" in said


def test_figures_have_a_dot_for_every_line(agreed: pd.DataFrame) -> None:
    figure = board_agreement.agreement_figure(agreed, "title")
    dots = [each for each in figure.axes[0].lines if each.get_marker() == "o"]
    assert len(dots) == len(agreed)
    table = pd.DataFrame({"flaw": ["a", "a", "b"], "model": ["EASE", "iALS", "EASE"], "ratio": [1.0, 2.0, 3.0]})
    table = table.assign(low=table["ratio"] * 0.9, high=table["ratio"] * 1.1)
    figure = protocol_flaws.inflation_figure(table, {"EASE": "green", "iALS": "blue"}, "title")
    assert sum(each.get_marker() == "o" for each in figure.axes[0].lines) == len(table)
    figure = power_design.power_figure(COMPONENTS.iloc[:1], [100, 943], [2, 5, 10], (943, 5, 3), "title")
    left, right = (axes.lines[0].get_ydata() for axes in figure.axes)
    assert len(left) == 3 and len(right) == 2
    assert list(left) == sorted(left, reverse=True) and left[1] == pytest.approx(right[1])
