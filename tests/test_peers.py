"""`make peers` runs a script in its own environment beside the study's own code, and goes on when one fails."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import invented_movielens

from pipeline.bench.peers import __main__ as peers
from pipeline.bench.peers import rows as files
from pipeline.bench.peers.__main__ import Peer
from pipeline.bench.peers.rows import BY_ITEM, FILES, best, by_item, measured_lists, read_parts, read_rows
from pipeline.chapters.notebook import PEER_COLUMNS, Notebook
from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.evaluate import RankingTask, rank
from recsys_core.features import encode
from recsys_core.models import MODELS
from recsys_core.models.linear import EASE
from recsys_core.protocols import make_split

FAKE = """
import os
import sys

import library_that_only_its_own_environment_has

REQUIREMENTS = ["invented-peer==3.2.1"]
CASES = {
    "mean": {
        "theirs": {"rounds": 40},
        "ours": {"stated": {"rounds": 4}, "tuned": {"rounds": 0}},
        "measures": ["fit", "epoch", "rmse"],
        "goal": {"fit": 2},
    }
}


def prepare(folder, fold, settings):
    assert len(sys.argv) == 1 and os.environ["OMP_NUM_THREADS"] == "1"
    if not settings["rounds"]:
        raise ValueError("there are no such settings")
    rows = (folder / f"fold-{fold}.train.tsv").read_text().splitlines()
    print("peers print a lot")
    n_epochs = settings["rounds"] // 2
    return lambda: [sorted(rows) for _ in range(10 * settings["rounds"])], lambda: fold / 10, n_epochs
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five folds of invented data."""
    files.write_folds(invented_movielens(), tmp_path)
    return tmp_path


@pytest.fixture
def fake(tmp_path: Path) -> Peer:
    script = tmp_path / "invented.py"
    script.write_text(FAKE.replace("import library_that_only_its_own_environment_has\n", ""))
    peer = Peer.read(script)
    assert peer is not None
    return peer


def test_a_script_is_read_without_importing_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "invented.py").write_text(FAKE)
    (tmp_path / "study.py").write_text('"""Defines no requirements, so it is no peer."""\n')
    found = peers.read_peers(tmp_path)
    assert list(found) == ["invented"]
    assert (found["invented"].version, list(found["invented"].cases)) == ("invented-peer 3.2.1", ["mean"])


def test_a_case_is_run_again_with_each_change_of_their_side(tmp_path: Path) -> None:
    case = {"theirs": {"layers": 2, "noise": 0.1}, "ours": {}, "measures": [], "goal": {}}
    cases = {"VAE": case | {"changed": {"full noise": {"noise": 1.0}}}, "BPR": case}
    (tmp_path / "one.py").write_text(f"REQUIREMENTS = ['one==1']\nCASES = {cases!r}\n")
    found = peers.read_peers(tmp_path)["one"].cases
    assert found == {"VAE": case, "VAE, full noise": case | {"theirs": {"layers": 2, "noise": 1.0}}, "BPR": case}


def test_settings_of_both_sides_are_in_each(tmp_path: Path) -> None:
    case = {
        "both": {"epochs": 3},
        "theirs": {"layers": 2},
        "ours": {"the same": {"depth": 2}},
        "measures": [],
        "goal": {},
    }
    (tmp_path / "one.py").write_text(f"REQUIREMENTS = ['one==1']\nCASES = {{'VAE': {case!r}}}\n")
    found = peers.read_peers(tmp_path)["one"].cases["VAE"]
    assert found["theirs"] == {"epochs": 3, "layers": 2} and found["ours"] == {"the same": {"epochs": 3, "depth": 2}}
    assert "both" not in found


@pytest.mark.parametrize("peer", peers.read_peers().values(), ids=lambda peer: peer.name)
def test_every_peer_of_the_study_is_pinned_and_compared_with_models_that_exist(peer: Peer) -> None:
    assert "==" in peer.requirements[0]
    for case in peer.cases.values():
        assert set(case) - {"threads", "rounds"} == {"theirs", "ours", "measures", "goal"}
        known = {"fit", "epoch", "memory", "rmse", "hit_ratio", "ndcg"}
        assert set(case["goal"]) <= set(case["measures"]) <= known
        for settings in case["ours"].values():
            own = {name: value for name, value in settings.items() if name not in ("model", "tuned", "rows")}
            MODELS[settings["model"]](**own)


def test_peers_read_the_rows_that_the_study_trains_and_tests_on(folder: Path) -> None:
    split = make_split("rating-5fold", encode(invented_movielens())[0], fold=3)
    for name, part in (("train", split.refit), ("test", split.test)):
        written = pd.read_csv(folder / f"fold-3.{name}.tsv", sep="\t")
        assert written["user"].tolist() == part.users.tolist()
        assert written["item"].tolist() == part.items.tolist()
        assert written["rating"].tolist() == part.ratings.tolist()


def test_peers_read_one_row_of_attributes_for_each_code(ml_100k: MovieLens, tmp_path: Path) -> None:
    files.write_folds(ml_100k, tmp_path)
    users, items = (pd.read_csv(tmp_path / f"{name}.tsv", sep="\t") for name in ("users", "items"))
    assert list(users) == ["user", "age", "gender", "occupation"] and list(items) == ["item", "year", "genres"]
    assert users["user"].tolist() == list(range(943)) and items["item"].tolist() == list(range(1682))
    assert items.loc[0].tolist() == [0, 1995, "Animation Children's Comedy"]
    assert not items.isna().any().any()


def test_theirs_and_ours_are_timed_and_their_ratio_is_taken(
    folder: Path, fake: Peer, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = peers.compare(fake, sys.executable, folder, ours=fake.script, rounds=2)
    table = pd.DataFrame(rows).set_index("measure")
    assert table["settings"].unique().tolist() == ["stated"]  # ours fails with the other settings
    assert "mean, tuned: invented stopped: there are no such settings" in capsys.readouterr().err
    assert table.loc["fit", "ratio"] == pytest.approx(table.loc["fit", "theirs"] / table.loc["fit", "ours"])
    assert table.loc["fit", "ratio"] > 2  # ten times the work
    assert table.loc["epoch", "theirs"] == pytest.approx(table.loc["fit", "theirs"] / 20)
    assert table.loc["epoch", "ours"] == pytest.approx(table.loc["fit", "ours"] / 2)
    assert table.loc["rmse", ["theirs", "ours"]].tolist() == pytest.approx([0.15, 0.15])
    assert table["goal"].fillna(0).tolist() == [2, 0, 0]
    assert (table.loc["fit", ["theirs_wall", "ours_wall"]] > 0).all()


def test_both_sides_read_the_same_rows_of_another_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = encode(invented_movielens())[0]
    monkeypatch.setattr(files, "benchmark_rows", lambda: (rows, "invented"))
    assert files.write_rows(tmp_path / "ml-1m.npy") == "invented"
    read = read_rows(tmp_path / "ml-1m.npy")
    assert read.n_users == len(np.unique(rows.users)) and read.n_items == len(np.unique(rows.items))
    assert np.array_equal(read.users, rows.users)
    for settings in ({"model": "ease"}, {"model": "ials", "n_iterations": 3}):
        measured = peers.run(sys.executable, peers.OURS, tmp_path, 1, settings | {"rows": "ml-1m.npy"})
        assert measured["epochs"] == settings.get("n_iterations", 1) and np.isnan(measured["rmse"])


def test_only_named_cases_are_run_and_the_rows_of_the_others_stay(folder: Path, fake: Peer, tmp_path: Path) -> None:
    assert peers.compare(fake, sys.executable, folder, ours=fake.script, only="median") == []
    table = tmp_path / "timings_peers.csv"
    peers.store([row(), row(what="SVD++"), {"machine": "here", "peer": "one", "what": "not measured"}], table)
    peers.store([row(theirs=9.0)], table, cases=True)
    assert pd.read_csv(table)[["what", "theirs"]].values.tolist() == [["SVD", 9.0], ["SVD++", 1.235]]


def test_the_study_is_measured_by_the_same_worker(ml_100k: MovieLens, tmp_path: Path) -> None:
    measured = peers.run(sys.executable, peers.OURS, tmp_path, 1, {"model": "svd", "embedding_dim": 4, "epochs": 1})
    assert measured["epochs"] == 1 and measured["processor"] > 0
    assert 0.9 < measured["rmse"] < 1.2


def row(**values: Any) -> dict[str, Any]:
    labels = {"machine": "here", "peer": "one", "what": "SVD", "measure": "fit", "settings": "stated"}
    return labels | {"theirs": 1.23456, "ours": 0.5, "ratio": 2.46912} | values


def test_rows_of_other_machines_and_other_peers_stay(tmp_path: Path) -> None:
    table = tmp_path / "timings_peers.csv"
    peers.store([row(), row(measure="epoch"), row(what="SVD++")], table)
    peers.store([row(machine="there")], table)
    peers.store([row(peer="two")], table)
    peers.store([row(theirs=9.0)], table)
    found = pd.read_csv(table)
    assert list(found) == PEER_COLUMNS
    assert found[["machine", "peer", "theirs"]].values.tolist() == [
        ["here", "one", 9.0],
        ["here", "two", 1.235],
        ["there", "one", 1.235],
    ]


def test_a_peer_that_cannot_be_installed_is_named_with_pips_reason(tmp_path: Path, fake: Peer) -> None:
    python = tmp_path / ".peers/invented/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(
        "#!/bin/sh\necho 'ERROR: No matching distribution found for '$7 >&2\necho 'a notice' >&2\nexit 1\n"
    )
    python.chmod(0o755)
    expected = "invented cannot be installed: ERROR: No matching distribution found for invented-peer==3.2.1"
    with pytest.raises(StudyError, match=expected):
        peers.install(fake, tmp_path, ["--no-index"])
    assert not (tmp_path / ".peers/invented/requirements.txt").exists()


def test_an_environment_is_installed_once_and_again_when_the_pins_change(tmp_path: Path, fake: Peer) -> None:
    python = tmp_path / ".peers/invented/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/calls\n")
    python.chmod(0o755)
    for _ in range(2):
        assert peers.install(fake, tmp_path) == python
    assert len((tmp_path / "calls").read_text().splitlines()) == 1
    changed = Peer(fake.name, fake.script, ["invented-peer==4"], fake.cases)
    peers.install(changed, tmp_path)
    assert (tmp_path / "calls").read_text().splitlines()[1].endswith("invented-peer==4")


def test_one_peer_that_fails_is_stored_with_its_reason_and_the_others_go_on(
    tmp_path: Path, fake: Peer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(FAKE)
    other = Peer.read(broken)
    assert other is not None
    monkeypatch.setattr(peers, "read_peers", lambda: {"broken": other, "invented": fake})
    monkeypatch.setattr(peers, "install", lambda *_, **__: sys.executable)
    monkeypatch.setattr(peers, "load", lambda _: invented_movielens())
    compare = peers.compare
    monkeypatch.setattr(peers, "compare", lambda *a, **k: compare(*a, **k, ours=fake.script))
    table = tmp_path / "reports" / "timings_peers.csv"
    peers.measure_peers([], rounds=1, table=table)
    reason = "broken stopped: No module named 'library_that_only_its_own_environment_has'"
    assert f"not measured: {reason}" in capsys.readouterr().err
    found = Notebook("70_small", {}, None, tmp_path, tmp_path, tmp_path).read_peers()
    assert found.query("peer == 'broken'")["note"].tolist() == [reason]
    assert found.query("peer == 'invented'")["measure"].tolist() == ["epoch", "fit", "rmse"]
    assert set(found["version"]) == {"invented-peer 3.2.1"}


def test_an_unknown_peer_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert peers.main(["lightfm"]) == 1
    assert capsys.readouterr().err.startswith("error: PEERS='lightfm' is not known: allowed are cornac")


def test_a_notebook_without_measured_peers_reads_an_empty_table(tmp_path: Path) -> None:
    found = Notebook("70_small", {}, None, tmp_path, tmp_path, tmp_path).read_peers()
    assert found.empty and list(found) == PEER_COLUMNS


def test_sequences_are_read_in_order_of_time_with_the_test_row_last(ml_100k: MovieLens, tmp_path: Path) -> None:
    file = tmp_path / "histories.tsv"
    assert FILES[file.name](file) == "ml-100k, loo-full"
    written = pd.read_csv(file, sep="\t")
    rows = encode(ml_100k)[0]
    order = rows.by_time
    stacked = written.sort_values("user", kind="stable")
    assert stacked["user"].tolist() == rows.users[order].tolist()
    assert stacked["item"].tolist() == rows.items[order].tolist()
    tests = stacked.groupby("user")["is_test"]
    assert tests.sum().eq(1).all() and tests.last().eq(1).all()


@pytest.mark.parametrize("name", ["picks.tsv", "by-item.tsv"])
def test_lists_are_measured_as_the_study_measures_them(name: str, ml_100k: MovieLens, tmp_path: Path) -> None:
    FILES[name](tmp_path / name)
    known, test = read_parts(tmp_path / name)
    model, asked = EASE().fit(known), np.unique(test.users)
    users = rank(model, RankingTask(known, test, cutoffs=(10,))).users.sort_values("user")
    measured = peers.run(sys.executable, peers.OURS, tmp_path, 2, {"model": "ease", "rows": name})
    assert measured["ndcg"] == pytest.approx(users["ndcg@10"].tolist())
    assert measured["hit_ratio"] == users["hit_ratio@10"].tolist() and 0 < np.mean(measured["ndcg"]) < 1
    lists = best(model.score(torch.as_tensor(asked)).double().numpy(), tmp_path / name)
    assert measured_lists(lists, tmp_path / name)["ndcg"] == pytest.approx(measured["ndcg"])
    assert not set(zip(np.repeat(asked, 10), lists.ravel())) & set(zip(known.users, known.items))


def test_three_quarters_of_each_films_rows_are_known(ml_100k: MovieLens) -> None:
    rows = encode(ml_100k)[0]
    known, test = by_item(rows)
    assert len(known) + len(test) == len(rows) and BY_ITEM.startswith("three quarters")
    share = known.item_counts[rows.item_counts >= 20] / rows.item_counts[rows.item_counts >= 20]
    assert np.abs(share - 0.75).max() <= 0.025
    assert by_item(rows)[0].sha256 == known.sha256 != by_item(rows, seed=1)[0].sha256


def test_times_with_several_threads_are_wall_times(folder: Path, fake: Peer) -> None:
    script = fake.script.with_name("threaded.py")
    script.write_text(fake.script.read_text().replace('"OMP_NUM_THREADS"] == "1"', '"OMP_NUM_THREADS"] == "2"'))
    case = fake.cases["mean"] | {"threads": 2, "ours": {"stated": {"rounds": 4}}, "measures": ["fit", "memory"]}
    threaded = Peer(fake.name, script, fake.requirements, {"mean": case})
    fit, memory = peers.compare(threaded, sys.executable, folder, ours=script, rounds=1)
    assert fit["device"] == memory["device"] == "cpu, 2 threads"
    assert fit["theirs"] == fit["theirs_wall"] and fit["ratio"] == fit["theirs"] / fit["ours"]
    assert memory["ratio"] == memory["theirs"] / memory["ours"] > 0


def test_the_interval_of_a_difference_counts_users_and_seeds() -> None:
    generator = np.random.default_rng(0)
    theirs, ours = (generator.random((5, 400)).tolist() for _ in range(2))
    same = peers._difference(theirs, ours)
    assert same["low"] < 0 < same["high"]
    better = peers._difference(theirs, (np.array(ours) + 0.1).tolist())
    assert better["low"] - same["low"] == pytest.approx(0.1) and better["low"] > 0
    shifted = np.array(ours) + np.array([[-0.2], [0.2], [-0.2], [0.2], [0.0]])
    wider = peers._difference(theirs, shifted.tolist())
    assert wider["high"] - wider["low"] > 3 * (same["high"] - same["low"])
    assert peers._difference([0.9, 0.8], [0.7, 0.8]) == {}
