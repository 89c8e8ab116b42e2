"""The store of runs keeps what training gave by what it follows from, and kept values come back as what they were."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.chapters import kept
from pipeline.chapters.store import FOLDER, METRIC_COLUMNS, Cell, Identity, Run, Selection, Store, described
from pipeline.chapters.study import ROOT
from recsys_core.errors import StudyError
from recsys_core.models import Recommender
from recsys_core.models.baselines import Bias
from recsys_core.models.gmf import GMF
from recsys_core.models.hybrid import WeightedRankingHybrid
from recsys_core.models.ials import IALS
from recsys_core.models.joint_embedding import JointEmbedding
from recsys_core.models.linear import EASE
from recsys_core.models.ncf import NCF
from recsys_core.models.vector_profile import VectorProfile


def identity(**changes: Any) -> Identity:
    return Identity(
        **{"data": "d", "split": "s", "protocol": "loo-full", "variant": "", "model": "NCF"}
        | {"settings": {}, "device": "cpu"}
        | changes
    )


def run(seed: int = 0, value: float = 0.25, users: bool = True) -> Run:
    metrics = pd.DataFrame([("", "ndcg@10", value, 3, 0, 0), ("", "mrr@10", np.nan, 2, 1, 0)], columns=METRIC_COLUMNS)
    table = pd.DataFrame({"variant": "", "user": [0, 1, 2], "ndcg@10": [value, 0.5, np.nan]})
    path = {"1 updates": 0.69, "first epoch": 0.5}
    return Run(
        seed, metrics, table if users else None, {"epochs": 3, "parameters": 7}, path, {"rows": "ab"}, {"versions": "x"}
    )


def test_a_run_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    curve = pd.DataFrame({"epoch": [1.0, 2.0], "train_loss": [0.5, 0.25], "ndcg@10": [0.1, 0.2]})
    Store(tmp_path).add(
        identity(), "NCF", [run()], {0: Selection({"epochs": 2, "patience": None}, curve, {"first epoch": 0.5})}
    )
    cell = Store(tmp_path).cell(identity())
    stored = cell.runs[0]
    pd.testing.assert_frame_equal(stored.metrics, run().metrics, check_dtype=False)
    assert (stored.facts, stored.path, stored.exact, stored.made_by) == (
        run().facts,
        run().path,
        {"rows": "ab"},
        {"versions": "x"},
    )
    pd.testing.assert_frame_equal(cell.users_of([0]), run().users, check_dtype=False)  # type: ignore[arg-type]
    assert cell.selections[0].chosen == {"epochs": 2, "patience": None}
    pd.testing.assert_frame_equal(cell.selections[0].curve, curve)  # type: ignore[arg-type]


def test_the_value_of_a_metric_is_that_of_the_same_variant_in_whatever_order_they_are() -> None:
    rows = [(name, "recall@25", value, 3, 0, 0) for name, value in (("rated 4+", 0.2), ("rated", 0.1))]
    for table in (rows, rows[::-1]):
        assert Run(0, pd.DataFrame(table, columns=METRIC_COLUMNS), None).value("recall@25") == 0.1


def test_storing_the_same_again_changes_no_byte(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(identity(), "NCF", [run(0), run(1, 0.5)])
    before = {path.name: path.read_bytes() for path in (tmp_path / FOLDER).iterdir()}
    store.add(identity(), "another name", [store.cell(identity()).runs[1]])
    assert {path.name: path.read_bytes() for path in (tmp_path / FOLDER).iterdir()} == before


def _store_one(place: tuple[str, int]) -> None:
    Store(Path(place[0])).add(identity(), "NCF", [run(place[1])])


def test_two_processes_may_store_runs_of_one_identity_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(_store_one, [(str(tmp_path), seed) for seed in range(12)]))
    assert sorted(Store(tmp_path).cell(identity()).runs) == list(range(12))


def test_per_user_values_are_means_over_the_seeds_asked_for(tmp_path: Path) -> None:
    cell = Store(tmp_path).add(identity(), "NCF", [run(0, 0.2), run(1, 0.4)])
    assert cell.users_of([0, 1])["ndcg@10"].iloc[0] == pytest.approx(0.3)  # type: ignore[index]
    assert cell.users_of([0, 2]) is None
    assert cell.lacks([0, 1, 2]) == [2]


def test_a_mean_over_seeds_serves_for_these_seeds_alone() -> None:
    imported = Cell(identity(), "NCF", {seed: run(seed, users=False) for seed in (0, 1)}, {}, [0, 1], run().users)
    assert imported.lacks([0, 1]) == []
    assert imported.lacks([0]) == [0]
    assert imported.lacks([0, 1, 2]) == [0, 1, 2]


def test_the_mean_over_one_seed_is_that_seeds_own() -> None:
    imported = Cell(identity(), "NCF", {0: run(0, 0.2, users=False), 1: run(1, 0.4)}, {}, [0], run(0, 0.2).users)
    assert imported.lacks([0, 1]) == []
    assert imported.users_of([0, 1])["ndcg@10"].iloc[0] == pytest.approx(0.3)  # type: ignore[index]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"version": 1}', '{"version": 9}', '{"version": 1, "runs": [], "label": ""}']
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    Store(tmp_path).add(identity(), "NCF", [run()])
    next((tmp_path / FOLDER).glob("*.json")).write_text(text)
    with pytest.raises(StudyError, match=r"json (is damaged|has format version 9)"):
        Store(tmp_path).cell(identity())


def test_every_part_of_an_identity_makes_another_run() -> None:
    keys = {identity().key} | {
        identity(**{name: {"a": 1} if name == "settings" else "other"}).key for name in Identity.__dataclass_fields__
    }
    assert len(keys) == 1 + len(Identity.__dataclass_fields__)


def test_settings_at_their_default_are_no_part_of_an_identity() -> None:
    assert described(NCF()) == described(NCF(epochs=20, device="cpu")) == {"model": "NCF", "settings": {}}
    assert described(NCF(layers=(8, 4)))["settings"] == {"layers": [8, 4]}
    nested = described(VectorProfile(network=JointEmbedding(gamma=0.5)))
    assert nested["settings"]["network"] == {"model": "JointEmbedding", "settings": {"gamma": 0.5}}


PINNED: list[tuple[Recommender, str]] = [
    (NCF(), "2b8296b95d94038a"),
    (NCF(epochs=3), "82e7ec9a243d2839"),
    (NCF(layers=(64, 32)), "0a78707a3187e6cd"),
    (GMF(), "eb69ab4f310ede2d"),
    (GMF(n_negatives=8), "79a1a9a14d2347b4"),
    (IALS(), "f4e5a90d929aaa99"),
    (IALS(n_iterations=3), "a50a44b8cf58fe06"),
    (EASE(), "4a7dfc9fb617dce6"),
    (Bias(), "08e47e03c218a035"),
    (WeightedRankingHybrid(members={"ease": {}, "ials": {}}), "4135b456a8faa11c"),
]


@pytest.mark.parametrize(
    ("model", "key"), PINNED, ids=lambda each: each if isinstance(each, str) else type(each).__name__
)
def test_ten_identities_are_pinned(model: Recommender, key: str) -> None:
    """A change here orphans what is stored: give a new setting a default that stands for the old behaviour instead."""
    assert identity(**described(model)).key == key


def test_the_stored_runs_can_all_be_read_and_stay_small() -> None:
    store = Store(ROOT)
    contents = list(store.contents())
    assert len(contents) > 100
    for content in contents:
        cell = store.cell(Identity(**content["identity"]))
        assert cell.runs or cell.selections, content["label"]
    stored = [path for path in (ROOT / "reports/stored").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in stored) < 25_000_000


def test_a_file_of_the_store_is_named_by_the_identity_in_it() -> None:
    for path in (ROOT / FOLDER).glob("*.json"):
        assert Identity(**json.loads(path.read_text())["identity"]).key == path.stem


VALUES: list[Any] = [
    *(3, 0.1, "Toy Story", None, True, [1, [2.5, "a"]], (1, "b"), {"a": 1, 2: (3,)}, {("x", 1): 0.5}),
    *(np.arange(6).reshape(2, 3), np.array([0.5, np.nan], np.float32), np.array(["a", None], object), torch.ones(2, 2)),
    pd.Series([1.5, 2.0], index=["a", "b"], name="value"),
    pd.Series([1, 2], index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["x", "y"])),
    pd.DataFrame(
        {"a": [1, 2], "b": [0.5, np.nan], "c": ["x", "y"], 0.25: [True, False]}, index=pd.Index([7, 9], name="user")
    ),
]


@pytest.mark.parametrize("value", VALUES, ids=[f"{place} {type(value).__name__}" for place, value in enumerate(VALUES)])
def test_a_kept_value_comes_back_as_it_was(value: Any, tmp_path: Path) -> None:
    path = kept.kept_file(tmp_path, "30_ncf", "a value, of φ")
    kept.write(path, value, "runs")
    found, made_from = kept.read(path) or (None, "")
    assert made_from == "runs" and type(found) is type(value)
    if isinstance(value, pd.DataFrame):
        pd.testing.assert_frame_equal(found, value)
    elif isinstance(value, pd.Series):
        pd.testing.assert_series_equal(found, value)
    elif isinstance(value, np.ndarray | torch.Tensor):
        np.testing.assert_array_equal(found, value)
        assert found.dtype == value.dtype
    else:
        assert found == value
    assert kept.largest_difference(kept.encoded(value), kept.encoded(found)) == 0


def test_a_long_value_is_packed_and_takes_the_place_of_a_short_one(tmp_path: Path) -> None:
    long = np.arange(100_000)
    for value, suffix in ((1.5, ".json"), (long, ".gz"), (long, ".gz"), (2.5, ".json")):
        path = kept.write(kept.kept_file(tmp_path, "30_ncf", "numbers"), value, "runs")
        assert path.suffix == suffix and list(path.parent.iterdir()) == [path]
        assert path == kept.kept_file(tmp_path, "30_ncf", "numbers")
        np.testing.assert_array_equal((kept.read(path) or ("",))[0], value)
    packed = kept.write(path, long, "runs")
    first = packed.read_bytes()
    assert kept.write(packed, long, "runs").read_bytes() == first  # the same bytes at every time
    packed.write_bytes(first[:-20])
    with pytest.raises(StudyError, match="damaged"):
        kept.read(packed)


def test_what_cannot_be_kept_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="A set cannot be kept"):
        kept.write(tmp_path / "x.json", {1, 2}, "")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("stored", "fresh", "difference"),
    [
        ({"a": [1.0, 2.0]}, {"a": [1.0, 2.5]}, 0.5),
        ([1.0], [1.0, 2.0], np.inf),
        ("Toy Story", "Heat", np.inf),
        (np.nan, np.nan, 0.0),
        (np.nan, 1.0, np.inf),
        (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 4]}), 2.0),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]}), np.inf),
    ],
)
def test_values_differ_by_their_largest_difference(stored: Any, fresh: Any, difference: float) -> None:
    assert kept.largest_difference(kept.encoded(stored), kept.encoded(fresh)) == difference
