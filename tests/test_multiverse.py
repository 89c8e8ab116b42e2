"""Every specification is measured as the study measures it, protocols count equally, and what turns a result round is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from helpers import invented_movielens, make_interactions, random_interactions

from pipeline.chapters import multiverse as m
from pipeline.chapters.experiment import Experiments
from pipeline.chapters.notebook import Notebook
from pipeline.chapters.ranked_models import RankedModel, lacking, places_of, values_of
from pipeline.chapters.ranks import COLUMN, FOLDER, twice_ranks
from pipeline.chapters.store import Store, described
from pipeline.chapters.study import ROOT, TUNED_WIDELY, Study
from pipeline.chapters.tuned import PARTS
from recsys_core.datasets import MovieLens
from recsys_core.models import Recommender
from recsys_core.models.linear import EASE
from recsys_core.protocols import make_split
from recsys_core.statistics import paired_interval

ROWS = random_interactions(1, 40, 260, 4000)
SOLVED = ("ease", "dlae", "rp3beta", "implicit_user_knn")  # without chance, and fitted in a second


@pytest.mark.parametrize(
    ("protocol", "options", "expected"),
    [
        ("random-80-10-10", {}, 3 * 6 * 4),
        ("user-holdout", {"fold_in": 0.8}, 3 * 6 * 4),
        ("strong-generalization", {}, 6 * 4),  # only liked films are test rows
        ("loo-full", {}, 2 * 3 * 4),  # one film a user: taking others out changes nothing
        ("loo-sampled", {}, 2 * (3 * 4 - 1)),  # all are among the first 100 of 100
    ],
)
def test_specifications_that_say_the_same_are_one(protocol: str, options: dict[str, float], expected: int) -> None:
    found = m.specifications(make_split(protocol, ROWS, **options))
    assert len(found) == len(set(found)) == expected


def test_what_is_left_out_with_one_film_a_user_orders_models_as_what_is_kept() -> None:
    split = make_split("loo-full", ROWS)
    twice = twice_ranks(EASE().fit(split.refit), split)
    asked = [m.Specification(metric, 10, m.EVERY) for metric in m.METRICS]
    found = dict(zip(m.METRICS, m.measured(split, twice, asked)))
    np.testing.assert_array_equal(found["HR"], found["recall"])
    np.testing.assert_array_equal(found["HR"], found["precision"] * 10)
    np.testing.assert_array_equal(found["MAP"], found["MRR"])
    assert (found["NDCG"] != found["HR"]).any()


def test_the_interval_is_near_that_of_the_bootstrap_and_leaves_out_users_without_relevant_rows() -> None:
    generator = np.random.default_rng(0)
    a, b = generator.random((2, 1, 400))
    b[0, :7] = np.nan
    found, reach = m.difference(a, b)
    value, low, high = paired_interval(a[0], b[0])
    assert found[0] == pytest.approx(value)
    assert (found - reach)[0] == pytest.approx(low, abs=0.004) and (found + reach)[0] == pytest.approx(high, abs=0.004)


def compared(*lines: tuple[str, str, str, float, float]) -> pd.DataFrame:
    """A table of `multiverse.compared`: model, rival, protocol, difference, and how far its interval reaches."""
    table = pd.DataFrame(lines, columns=["model", "rival", "protocol", "difference", "reach"])
    table["low"], table["high"] = table["difference"] - table["reach"], table["difference"] + table["reach"]
    return table.assign(split="one split", seed=0, metric="NDCG", cutoff=range(len(table)), positives=m.EVERY)


def test_protocols_count_the_same_whatever_their_number_of_specifications() -> None:
    table = compared(("a", "b", "p", 1, 2), ("a", "b", "p", 1, 0.5), ("a", "b", "p", -1, 0.5), ("a", "b", "q", 1, 0.5))
    line = m.shares(m.led(table)).loc[("a", "b")]
    assert line["ahead"] == pytest.approx((2 / 3 + 1) / 2)
    assert line["decided"] == pytest.approx((1 / 3 + 1) / 2)
    assert line["turned"] == pytest.approx((1 / 3 + 0) / 2)
    assert line["specifications"] == 4


def test_the_model_that_is_ahead_stands_first_and_one_that_is_as_good_has_half() -> None:
    lines = m.led(
        compared(("a", "b", "p", -1, 0.5), ("a", "b", "p", -1, 3), ("a", "b", "p", 2, 0.5), ("c", "d", "p", 0, 1))
    )
    pairs = m.shares(lines)
    assert pairs.index.tolist() == [("b", "a"), ("c", "d")]
    assert pairs.loc[("b", "a"), ["ahead", "decided", "turned"]].tolist() == pytest.approx([2 / 3, 1 / 3, 1 / 3])
    assert pairs.loc[("c", "d"), "ahead"] == 0.5
    swapped = lines[lines["model"] == "b"]
    assert swapped["difference"].tolist() == [1, 1, -2] and (swapped["low"] <= swapped["high"]).all()
    square = m.matrix(pairs)
    assert square.loc["a", "b"] == pytest.approx(1 / 3) and np.isnan(square.loc["a", "c"])


def test_what_turns_a_result_round_is_named() -> None:
    table = compared(("a", "b", "p", 2, 1), ("a", "b", "p", 2, 1), ("a", "b", "q", 2, 1), ("a", "b", "q", -2, 1))
    lines = m.led(table.assign(metric=["NDCG", "HR", "NDCG", "HR"], cutoff=10))
    found = m.turned_round(lines)
    assert found.loc[("a", "b"), "where"] == "q 50.0%; only metric HR"
    choices = m.by_choice(lines)["turned"]
    assert (choices["metric", "HR"], choices["metric", "NDCG"], choices["protocol", "p"]) == (0.5, 0, 0)
    assert not {"split", "seed"} & set(choices.index.unique("choice"))  # of which there is one
    seeds = m.by_choice(m.led(pd.concat([table, table.assign(seed=1)], ignore_index=True)))
    assert seeds.loc["seed"].index.tolist() == ["0", "1"]
    assert "What turns results round most is the" in m.most_turning(m.by_choice(lines))
    assert m.turning(lines[:3], ("a", "b")) == ""
    assert m.as_tuned(lines, "q") == (1, 1)
    assert m.sentence(m.shares(lines)).endswith(
        "that a is ahead of b is turned round most often, in 25% of the specifications."
    )
    level = m.shares(lines).assign(ahead=0.5, turned=0.5)  # as often ahead as behind: no order to be turned round
    assert "most often" not in m.sentence(level)
    assert m.headline(m.shares(lines)).startswith("1 of 1 pairs") and len(m.in_words(found)) == 1


def test_without_ranks_there_is_a_sentence_and_an_empty_figure() -> None:
    lines = m.led(m.compared({}, []))
    pairs, choices = m.shares(lines), m.by_choice(lines)
    assert "fewer than two models" in m.sentence(pairs) and m.as_tuned(lines, "p") == (0, 0)
    assert m.in_words(m.turned_round(lines)) == ["No specification turns a pair's result round."]
    assert m.most_turning(choices) == "Nothing is compared here."
    assert m.figure(pairs, "Nothing").axes


def test_a_model_without_chance_stands_beside_every_seed_and_splits_that_one_lacks_are_left_out() -> None:
    places = [m.Place(make_split(name, ROWS), name, (0, 1)) for name in ("loo-full", "strong-generalization")]
    shapes = [(len(m.specifications(p.split)), len(np.unique(p.split.test.users))) for p in places]
    draws = np.random.default_rng(0)
    one = {(at, 0): draws.random(shapes[at]) for at in (0, 1)}
    two = {(0, seed): draws.random(shapes[0]) for seed in (0, 1)}
    found = m.compared({"one": one, "two": two}, places)
    assert found["protocol"].unique().tolist() == ["loo-full"] and len(found) == 2 * shapes[0][0]
    second = found[found["seed"] == 1]["difference"].to_numpy()
    np.testing.assert_allclose(second, (one[0, 0] - two[0, 1]).mean(axis=1))


SPLITS = [
    ["random-80-10-10", {"tenth": 1}, [0, 1]],
    ["loo-full", {}, [0, 1]],
    ["loo-sampled", {}, [0, 1]],
    ["user-holdout", {"fold_in": 0.8}, [0]],
]


def study(root: Path, policy: str) -> Experiments:
    notebook = Notebook("52_multiverse", {}, "study", root / "reports", root / "figures", root, policy)
    return Experiments(notebook, invented_movielens())


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The seed of every fit without validation rows."""
    seen: list[int] = []
    original = Recommender.fit

    def noted(self: Recommender, train: object, validation: object = None, seed: int = 0, *rest: object) -> Recommender:
        seen.append(seed)
        return original(self, train, validation, seed, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Recommender, "fit", noted)
    return seen


def test_ranks_are_made_once_where_the_policy_writes_and_nothing_is_trained_elsewhere(
    tmp_path: Path, fits: list[int]
) -> None:
    reading, writing = (study(tmp_path, policy) for policy in ("first", "write"))
    places = places_of(writing, SPLITS)
    assert [place.label for place in places] == ["tenth 1", "one split", "one split", "fold_in 0.8"]
    model = RankedModel(reading, "ials", "stated", "cpu")
    assert model.ranks(places) == {} and values_of([model], places) == {} and fits == []
    assert "iALS. `make store NOTEBOOK=52_multiverse`" in lacking([model], {}, "52_multiverse")
    stored = RankedModel(writing, "ials", "stated", "cpu").ranks(places)
    assert sorted(stored) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 0)]
    assert len(fits) == 5  # both kinds of leave-one-out share theirs
    assert all(np.array_equal(stored[key], twice) for key, twice in model.ranks(places).items())
    assert len(RankedModel(writing, "ials", "stated", "cpu").ranks(places)) == 7 and len(fits) == 5
    assert lacking([model], values_of([model], places), "52_multiverse") == "Ranks are stored of all 1 models."
    assert reading.notebook.files == {tmp_path / FOLDER / reading.runs.data_sha256[:12] / "ials.parquet"}


def test_a_model_that_cannot_rank_new_users_has_no_runs_with_them(tmp_path: Path) -> None:
    reading = study(tmp_path, "first")
    model = RankedModel(reading, "bpr_mf", "stated", "cpu")
    assert model.wanted(places_of(reading, SPLITS)) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]


CHAPTERS = ("49_splits", "52_multiverse")


def models_of(chapter: str) -> set[str]:
    given = Study(ROOT).defaults(chapter)
    return {
        *given["solved"],
        *given["descended"],
        *given.get("added", []),
        *(f"{name}_wide" for name in given.get("wide", [])),
        *(f"{name}_apart" for name in given.get("apart", [])),
        *(f"{name}_{PARTS[search]}" for name in given.get("leading", []) for search in given.get("samplers", [])),
    }


def test_stored_ranks_are_of_models_of_a_chapter_and_hold_nothing_but_numbers() -> None:
    files = sorted((ROOT / FOLDER).rglob("*.parquet"))
    assert files and {path.stem for path in files} <= set.union(*map(models_of, CHAPTERS))
    assert all(pq.read_schema(path).names == [COLUMN] for path in files)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_what_is_stored_of_a_chapters_models_is_of_their_settings_and_whole(chapter: str, ml_100k: MovieLens) -> None:
    given = Study(ROOT).defaults(chapter)
    reading = Experiments(replace(study(ROOT, "first").notebook, parameters=given), ml_100k)
    places = places_of(reading, given["splits"])
    usual = [(name, given["settings"]) for name in [*given["solved"], *given["descended"], *given.get("added", [])]]
    for name, settings in usual + [(name, TUNED_WIDELY) for name in given.get("wide", [])]:
        model = RankedModel(reading, name, settings, given["device"])
        found = model.ranks(places)
        assert all(len(twice) == len(places[at].split.test) for (at, _), twice in found.items())
        assert len(found) == len(model.wanted(places)), f"{name} is stale: make store NOTEBOOK={chapter}"


@pytest.mark.parametrize("name", SOLVED)
def test_stored_ranks_give_the_values_of_the_stored_runs(name: str, ml_100k: MovieLens) -> None:
    reading = Experiments(replace(study(ROOT, "first").notebook, parameters=Study(ROOT).defaults(CHAPTERS[1])), ml_100k)
    places = places_of(reading, [["random-80-10-10", {}, [0]], ["loo-full", {}, [0]], ["loo-sampled", {}, [0]]])
    model = RankedModel(reading, name, "tuned", "cpu")
    for (at, _), twice in model.ranks(places).items():
        split = places[at].split
        run = Store(ROOT).cell(reading.runs.identity(model.model, split)).runs[0]
        asked = [m.Specification(metric, 10, m.EVERY) for metric in ("NDCG", "HR")]
        means = np.nanmean(m.measured(split, twice, asked), axis=1)
        assert means == pytest.approx([run.value("ndcg@10"), run.value("hit_ratio@10")], abs=1e-6)


def test_ranks_made_anew_are_those_that_are_stored(ml_100k: MovieLens) -> None:
    reading = Experiments(replace(study(ROOT, "first").notebook, parameters=Study(ROOT).defaults(CHAPTERS[1])), ml_100k)
    model, places = RankedModel(reading, "ease", "tuned", "cpu"), places_of(reading, [["loo-full", {}, [0]]])
    assert described(model.model)["model"] == "EASE"
    fresh = twice_ranks(model.model.fit(places[0].split.refit), places[0].split)
    assert (fresh == model.ranks(places)[0, 0]).mean() > 0.99  # another processor may swap neighbours


def test_users_without_relevant_rows_are_not_counted() -> None:
    split = make_split(
        "loo-full", make_interactions([(u, i) for u in (0, 1) for i in (0, 1, 2)], 2, 9, [5, 5, 5, 5, 5, 2])
    )
    found = m.measured(split, np.array([2, 2]), [m.Specification("HR", 5, m.LIKED)])
    assert found[0, 0] == 1 and np.isnan(found[0, 1])
