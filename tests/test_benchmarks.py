"""`make timings`: parts of it keep the other rows; what is measured at a large size works at a small one."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import invented_movielens
from torch import Tensor

from pipeline.bench import content, report_s4, sequences, timings
from pipeline.bench.scale import AT_SCALE, TRIALS, FirstBatches, peak_memory_mb, run_trial, synthetic
from recsys_core.models import sequences as models
from recsys_core.models.sasrec import SASRec
from recsys_core.sampling import Rows

SHAPE = (300, 200, 6_000)


def rows(**values: object) -> pd.DataFrame:
    labels = {"machine": "here", "device": "cpu", "what": "EASE: fit", "value": 1.0, "unit": "s"}
    return pd.DataFrame([labels | {"data": "invented", "versions": "torch=2"} | values])


def test_a_part_replaces_its_own_rows_and_a_whole_run_all_rows_of_its_machine(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "timings.csv"
    timings.store(pd.concat([rows(), rows(what="gone"), rows(machine="there")]), True, path)
    timings.store(rows(value=2.0), False, path)
    assert pd.read_csv(path)[["machine", "what", "value"]].values.tolist() == [
        ["here", "EASE: fit", 2.0],
        ["here", "gone", 1.0],
        ["there", "EASE: fit", 1.0],
    ]
    timings.store(rows(value=3.0), True, path)
    assert pd.read_csv(path)["value"].tolist() == [3.0, 1.0]


def test_an_unknown_part_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert timings.main(["speed"]) == 1
    assert capsys.readouterr().err.startswith("error: part='speed' is not known: allowed are loops")


def test_synthetic_rows_have_the_shape_asked_for_no_repeated_pair_and_popular_items() -> None:
    made = synthetic(*SHAPE)
    assert (made.n_users, made.n_items, len(made)) == SHAPE
    assert len(np.unique(made.pair_keys)) == len(made)
    counts = np.sort(made.item_counts)
    assert counts[-20:].sum() > 5 * counts[:20].sum()


@pytest.mark.parametrize("name", TRIALS)
def test_each_trial_trains_ranks_and_tells_its_memory(name: str) -> None:
    found = run_trial(name, SHAPE)
    assert found["fit_s"] > 0 and found["rank_s"] > 0
    assert 100 < found["memory_mb"] <= peak_memory_mb()
    assert 250 < found["n_ranked"] <= SHAPE[0]


def test_a_short_epoch_ends_after_so_many_batches() -> None:
    batches = FirstBatches(Rows(4, torch.arange(20)), 2)
    assert [len(batch) for (batch,) in batches.epoch(torch.Generator())] == [4, 4]


def test_each_row_at_scale_names_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.bench.scale.TRIALS", {"iALS": TRIALS["iALS"]})
    measured = timings.measure_scale(SHAPE)
    assert [unit for _, unit in measured.values()] == ["MB", "s", "s"]
    assert all(what.startswith(f"iALS{AT_SCALE}: ") for what in measured)


def test_report_s4s_epoch_has_its_samples_and_its_evaluation_its_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_s4, "ROUNDS", 1)
    measured = report_s4.measure_report_s4(torch.device("cpu"), (300, 800, 6_000))
    users, films, ratings = report_s4.SHAPE
    assert 5 * ratings == 7_000_000 and (users, films) == (14_315, 27_278)
    epoch, among_drawn, among_all = measured
    assert epoch.startswith(f"{report_s4.S4}epoch of 28,") and epoch.endswith(
        " samples, one thread"
    )  # one film a user is test
    assert "among 100 films" in among_drawn and "full ranking" in among_all
    assert all(value > 0 and unit == "s" for value, unit in measured.values())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small SASRec, a chain and invented data in the place of all trials."""
    tiny = partial(SASRec, embedding_dim=4, window=5, batch_size=10, device="cpu")
    trials = {"SASRec on ML-1M": tiny, "Markov chain on ML-100K": sequences.MarkovChain}
    data = {name: sequences.Trial(model, name.split()[-1]) for name, model in trials.items()}
    monkeypatch.setattr(sequences, "TRIALS", data)
    monkeypatch.setattr(sequences, "NETWORKS", {"SASRec on ML-1M": (2, 2)})
    monkeypatch.setattr(sequences, "load", lambda _: invented_movielens())
    monkeypatch.setattr(sequences, "in_a_process", in_this_process)


def in_this_process(trial: str, _: int, way: str = "") -> dict[str, float]:
    return sequences.shares(trial) if way == "shares" else sequences.run_trial(trial, way)


@pytest.mark.usefixtures("small")
def test_sequence_models_are_timed_in_each_way() -> None:
    measured = sequences.measure_sequences(2)
    assert "Markov chain on ML-100K: fit" in measured
    epochs = [what for what in measured if what.startswith("SASRec on ML-1M: epoch")]
    assert epochs[1:] == [f"SASRec on ML-1M: epoch, {way}" for way in ("2 threads", *sequences.WAYS)]
    assert all(value > 0 for value, _ in measured.values())
    parts = [value for value, unit in measured.values() if unit == "of an epoch"]
    assert len(parts) == len(sequences.PARTS) and sum(parts) < 1


@pytest.mark.usefixtures("small")
def test_half_precision_is_compared_by_validation_rows_after_equal_epochs() -> None:
    measured = {what: value for what, (value, _) in sequences.measure_precision().items()}
    name = "SASRec on ML-1M: validation NDCG@10 after 2 epochs"
    difference, low, high = (
        measured[f"{name}, softmax in bfloat16, difference{end}"] for end in ("", ", low", ", high")
    )
    assert 0 <= measured[name] <= 1 and low <= difference <= high


def softmax_and_gradients(way: str) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    vectors, weight = (torch.randn(n, 8, generator=generator).requires_grad_() for n in (300, 50))
    with sequences.in_this_way(way):
        loss = 3 * models.full_softmax(vectors, weight, torch.randint(50, (300,), generator=generator))
    loss.backward()
    return [loss.detach(), *(each.grad for each in (vectors, weight) if each.grad is not None)]


@pytest.mark.parametrize("way", ["softmax in bfloat16", "softmax by oneDNN"])
def test_the_softmax_in_another_way_is_the_softmax_but_for_rounding(way: str) -> None:
    for exact, rounded in zip(softmax_and_gradients(""), softmax_and_gradients(way), strict=True):
        assert (exact - rounded).norm() < 0.01 * exact.norm()
        assert (exact - rounded).norm() > 0 or "bfloat16" not in way


@pytest.mark.parametrize("way", sequences.WAYS)
def test_each_way_is_left_as_it_was_entered(way: str) -> None:
    usual = models.USERS_AT_ONCE, models.full_softmax
    with sequences.in_this_way(way):
        assert (models.USERS_AT_ONCE, models.full_softmax) != usual
        softmax_and_gradients(way)
    assert (models.USERS_AT_ONCE, models.full_softmax) == usual
    assert torch.backends.mkldnn.matmul.fp32_precision == "none"  # type: ignore[attr-defined]


@pytest.mark.usefixtures("small")
def test_trials_whose_data_cannot_be_had_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(name: str) -> object:
        if name == "sasrec-ml-1m":
            raise sequences.StudyError("it is nowhere")
        return invented_movielens()

    monkeypatch.setattr(sequences, "load", load)
    assert sequences.reachable() == ["Markov chain on ML-100K"]
    assert "SASRec on ML-1M: it is nowhere" in capsys.readouterr().err


def test_a_trial_prints_what_it_found(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sequences, "run_trial", lambda trial, way: {"epoch_s": 1.0})
    monkeypatch.setattr(sys, "argv", ["sequences", "SASRec on ML-1M", str(torch.get_num_threads()), ""])
    sequences.main()
    assert capsys.readouterr().out == '{"epoch_s": 1.0}\n'


def test_content_is_read_made_into_vectors_and_learnt_from(monkeypatch: pytest.MonkeyPatch) -> None:
    movies = pd.DataFrame({"item_id": np.arange(1, 130), "title": "Space Film (1995)", "genres": "Drama|Comedy"})
    data = replace(invented_movielens(), movies=movies.assign(year=1995))
    monkeypatch.setattr(content, "load", lambda _: data)
    monkeypatch.setattr(content, "KINDS", ("title", "genres", "year"))
    measured = content.measure_content()
    assert len(measured) == 5 and all(value > 0 and unit == "s" for value, unit in measured.values())
