"""Models over splits: means, the comparison that was fixed beforehand, what it is called, and its figure."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from pipeline.chapters import over_splits
from pipeline.chapters.crossed import expected_difference
from recsys_core.errors import StudyError

N_USERS, SPLITS, SEEDS = 300, (1, 3, 4), (0, 1)
SHIFTS = {"EASE": 0.0, "worse": -0.1, "better": 0.1, "same": 0.0}


@pytest.fixture(scope="module")
def users() -> pd.DataFrame:
    """Users' values: those of EASE, those far from it on either side, those next to it; EASE was run with one seed."""
    generator = np.random.default_rng(0)
    of_users = generator.normal(0.3, 0.1, N_USERS)
    rows = []
    for model, shift in SHIFTS.items():
        for split in SPLITS:
            for seed in SEEDS[:1] if model == "EASE" else SEEDS:
                values = of_users + shift + 0.001 * split + generator.normal(0, 0.01, N_USERS)
                rows.append(
                    pd.DataFrame(
                        {"model": model, "split": split, "seed": seed, "user": range(N_USERS), "ndcg@10": values}
                    )
                )
    return pd.concat(rows, ignore_index=True)


@pytest.fixture(scope="module")
def table(users: pd.DataFrame) -> pd.DataFrame:
    return over_splits.against(users, "EASE", ["worse", "better", "same"], "ndcg@10")


def test_means_are_over_users_and_seeds_of_each_split(users: pd.DataFrame) -> None:
    means = over_splits.split_means(users, "ndcg@10")
    assert list(means.columns) == list(SPLITS) and means.index[0] == "better" and means.index[-1] == "worse"
    mine = users[(users["model"] == "same") & (users["split"] == 3)]["ndcg@10"]
    assert means.loc["same", 3] == pytest.approx(mine.mean())


def test_the_spread_over_seeds_is_pooled_over_splits(users: pd.DataFrame) -> None:
    spread = over_splits.seed_spread(users, "ndcg@10")
    means = users[users["model"] == "same"].pivot_table("ndcg@10", "split", "seed")
    assert spread["same"] == pytest.approx(np.sqrt(means.var(axis=1, ddof=1).mean()))
    assert np.isnan(spread["EASE"])


def test_each_model_is_called_what_its_line_says(table: pd.DataFrame) -> None:
    assert table["verdict"].to_dict() == {
        "worse": over_splits.WORSE,
        "better": over_splits.BETTER,
        "same": over_splits.EQUIVALENT,
    }
    assert table.loc["better", "difference"] == pytest.approx(0.1, abs=0.005)
    assert (table["p adjusted"] >= table["p"]).all()


def test_what_is_neither_apart_nor_near_is_undecided(table: pd.DataFrame) -> None:
    line = table.loc["same"]
    assert over_splits.verdict(pd.Series({**line, "equivalent": False})) == over_splits.UNDECIDED
    assert over_splits.verdict(pd.Series({**line, "p adjusted": 0.049, "difference": 1e-6})) == over_splits.BETTER


def test_the_lines_are_those_of_the_crossed_comparison(users: pd.DataFrame, table: pd.DataFrame) -> None:
    mine, theirs = (users[users["model"] == name].pivot_table("ndcg@10", "user", "split") for name in ("worse", "EASE"))
    apart = (mine - theirs).to_numpy()
    assert table.loc["worse", "se"] == pytest.approx(expected_difference(apart).se)


def test_components_are_of_each_pair(users: pd.DataFrame) -> None:
    found = over_splits.components(users, [("better", "EASE"), ("same", "worse")], "ndcg@10")
    assert list(found.index) == ["better against EASE", "same against worse"]
    assert found.loc["better against EASE", "noise"] == pytest.approx(0.01, rel=0.15)
    assert found.loc["better against EASE", "split"] < 0.003


@pytest.mark.parametrize(
    ("name", "says"),
    [("worse", "worse is worse (−0.1"), ("better", "better is better (+0.1"), ("same", ", within ± 0.00")],
)
def test_a_line_in_words(table: pd.DataFrame, name: str, says: str) -> None:
    assert says in over_splits.in_words(name, table.loc[name])
    assert "-" not in over_splits.in_words(name, table.loc[name])


def test_the_figure_has_a_row_a_model_and_a_dot_a_split(users: pd.DataFrame, table: pd.DataFrame) -> None:
    drawn = over_splits.figure(table, over_splits.split_means(users, "ndcg@10"), "EASE", "A title", "ndcg@10")
    axes = drawn.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["better", "same", "worse"]
    dots = [line for line in axes.lines if len(line.get_xdata()) == len(SPLITS)]
    assert len(dots) == len(table)
    plt.close(drawn)


def test_models_of_other_splits_are_refused(users: pd.DataFrame) -> None:
    fewer = users[(users["model"] != "same") | (users["split"] != 4)]
    with pytest.raises(StudyError, match="not run on the same splits"):
        over_splits.against(fewer, "EASE", ["same"], "ndcg@10")


def test_the_best_by_validation_is_the_first_of_equals() -> None:
    assert over_splits.best_of({"a": 0.2, "b": 0.3, "c": 0.3}, ["a", "b", "c"]) == "b"


def test_a_search_apart_is_compared_user_by_user_over_its_seeds(users: pd.DataFrame) -> None:
    one = users[(users["split"] == 3) & (users["model"] == "better")]
    other = one.assign(**{"ndcg@10": one["ndcg@10"] - 0.01})
    found = over_splits.searched_apart(users[users["split"] == 3], other, "ndcg@10")
    assert list(found.index) == ["better"] and found.loc["better", "difference"] == pytest.approx(0.01)
    assert found.loc["better", "low"] == pytest.approx(0.01) and found.loc["better", "with"] == pytest.approx(
        0.4, abs=0.02
    )


def test_a_model_with_its_layer_is_compared_with_the_same_model_without(users: pd.DataFrame) -> None:
    names = {"worse": "better, hidden layer", "better": "better, no hidden layer"}
    found = over_splits.layers_apart(users.assign(model=users["model"].replace(names)), "ndcg@10")
    expected = over_splits.against(users, "better", ["worse"], "ndcg@10")
    assert list(found.index) == ["better, hidden layer"]
    assert found["difference"].tolist() == pytest.approx(expected["difference"].tolist())
    assert over_splits.layers_apart(users, "ndcg@10").empty


def test_a_search_of_layers_alone_is_compared_with_one_without_any_and_not_with_a_free_one() -> None:
    present = ["A", "A, hidden layer", "A, no hidden layer", "B", "B, hidden layer", "C, no hidden layer", "D"]
    assert over_splits.pairs_of_layers(present) == {"A, hidden layer": "A, no hidden layer"}
