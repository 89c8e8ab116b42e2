"""The training loop: the same steps as a loop written out, early stopping, resuming, and what it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recsys_core.errors import StudyError
from recsys_core.losses import mean_squared_error
from recsys_core.optimiser import Adam
from recsys_core.sampling import Rows
from recsys_core.train import History, Schedule, Validation, resolve_device, seeded, train, train_epoch

BATCH_SIZE = 8


def points() -> tuple[Tensor, Tensor]:
    """40 noisy points on a plane, (40, 3) and (40,)."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    noise = 0.1 * torch.randn(40, generator=generator, dtype=torch.float64)
    return inputs, inputs @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 0.3 + noise


def plane() -> nn.Module:
    with seeded(0, torch.device("cpu")):
        return nn.Sequential(nn.Linear(3, 1, dtype=torch.float64), nn.Dropout(0.1))


def squared_error(module: nn.Module, *batch: Tensor) -> Tensor:
    inputs, targets = batch
    return mean_squared_error(module(inputs).squeeze(-1), targets)


def fit(
    module: nn.Module,
    schedule: Schedule,
    validation: Validation | None = None,
    checkpoint: Path | None = None,
    loss: Callable[..., Tensor] = squared_error,
    title: str = "plane",
) -> History:
    with seeded(5, torch.device("cpu")) as generator:
        return train(module, Rows(BATCH_SIZE, *points()), loss, schedule, generator, validation, checkpoint, title)


def weights(module: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in module.parameters()]


def same_bits(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b)))


def scripted(values: list[float], higher_is_better: bool = True) -> Validation:
    """A validation that answers with the given values, one after another."""
    remaining = list(values)
    return Validation("score", lambda: remaining.pop(0), higher_is_better)


@pytest.mark.parametrize(("weight_decay", "decay"), [(0.0, 1.0), (0.1, 1.0), (0.0, 0.5)])
def test_the_loop_takes_the_adam_steps_of_the_paper(weight_decay: float, decay: float) -> None:
    """Kingma & Ba 2015, algorithm 1, with default decay rates and L2 regularisation in the gradient; the rate falls."""
    module, epochs, rate = plane()[:1], 3, 0.05  # type: ignore[index]
    parameters = [p.clone().requires_grad_() for p in weights(module)]
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    generator, step = torch.Generator().manual_seed(5), 0
    inputs, targets = points()
    for epoch in range(epochs):
        for rows in torch.randperm(40, generator=generator).split(BATCH_SIZE):
            loss = ((inputs[rows] @ parameters[0][0] + parameters[1] - targets[rows]) ** 2).mean()
            gradients, step = torch.autograd.grad(loss, parameters), step + 1
            for i, gradient in enumerate(gradients):
                with torch.no_grad():
                    gradient = gradient + weight_decay * parameters[i]
                    first[i] = 0.9 * first[i] + 0.1 * gradient
                    second[i] = 0.999 * second[i] + 0.001 * gradient**2
                    mean, variance = first[i] / (1 - 0.9**step), second[i] / (1 - 0.999**step)
                    parameters[i] -= rate * decay**epoch * mean / (variance.sqrt() + 1e-8)
    fit(module, Schedule(epochs, rate, weight_decay, decay=decay))
    for ours, by_hand in zip(weights(module), parameters):
        torch.testing.assert_close(ours, by_hand.detach(), rtol=1e-10, atol=1e-12)


def test_training_twice_gives_the_same_bits_dropout_included() -> None:
    first, second = plane(), plane()
    assert fit(first, Schedule(3, 0.05)) == fit(second, Schedule(3, 0.05))
    assert same_bits(first, second)


def test_the_history_has_the_mean_loss_of_every_epoch() -> None:
    module, losses = plane(), []

    def noted(module: nn.Module, *batch: Tensor) -> Tensor:
        losses.append(squared_error(module, *batch))
        return losses[-1]

    history = fit(module, Schedule(2, 0.05), loss=noted)
    assert [entry["epoch"] for entry in history.epochs] == [1, 2]
    for entry, batches in zip(history.epochs, (losses[:5], losses[5:])):
        assert entry["train_loss"] == pytest.approx(float(torch.stack(batches).detach().mean()))
    assert history.best_epoch == 2


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_the_weights_of_the_best_epoch_are_restored(higher_is_better: bool) -> None:
    values = [1.0, 3.0, 2.0, 3.0] if higher_is_better else [-1.0, -3.0, -2.0, -3.0]
    module, two_epochs = plane(), plane()
    history = fit(module, Schedule(4, 0.05), scripted(values, higher_is_better))
    fit(two_epochs, Schedule(2, 0.05))
    assert history.best_epoch == 2  # of equals the first
    assert [entry["score"] for entry in history.epochs] == values
    assert same_bits(module, two_epochs)
    assert not module.training


def test_training_stops_after_as_many_epochs_without_a_better_value_as_patience_allows() -> None:
    history = fit(plane(), Schedule(9, 0.05, patience=2), scripted([1, 3, 2, 4, 3, 3, 9]))
    assert len(history.epochs) == 6
    assert history.best_epoch == 4


def test_the_module_is_validated_in_evaluation_mode_and_trained_in_training_mode() -> None:
    module, modes = plane(), []

    def noted(module: nn.Module, *batch: Tensor) -> Tensor:
        modes.append(module.training)
        return squared_error(module, *batch)

    def measure() -> float:
        modes.append(module.training)
        return 0.0

    fit(module, Schedule(2, 0.05), Validation("score", measure, True), loss=noted)
    assert modes == 2 * ([True] * 5 + [False])


@pytest.mark.parametrize("stopped_in", ["loss", "validation"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_continues_to_the_same_bits(
    stopped_in: str, stop: type[BaseException], tmp_path: Path
) -> None:
    values, checkpoint = [1.0, 4.0, 2.0, 3.0, 1.0], tmp_path / "run"
    whole, broken, resumed = plane(), plane(), plane()
    history = fit(whole, Schedule(5, 0.05, decay=0.8), scripted(values))
    calls = []

    def breaking(module: nn.Module, *batch: Tensor) -> Tensor:
        calls.append(1)
        if stopped_in == "loss" and len(calls) == 3 * 5 + 2:  # within the fourth epoch
            raise stop
        return squared_error(module, *batch)

    answers = values[:3] if stopped_in == "validation" else values

    def measure(remaining: list[float] = list(answers)) -> float:  # noqa: B006 - one list for this run
        if not remaining:
            raise stop
        return remaining.pop(0)

    with pytest.raises(stop):
        fit(broken, Schedule(5, 0.05, decay=0.8), Validation("score", measure, True), checkpoint, breaking)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert fit(resumed, Schedule(5, 0.05, decay=0.8), scripted(values[3:]), checkpoint) == history
    assert same_bits(resumed, whole)
    assert not checkpoint.exists()


def kept_checkpoint(path: Path, schedule: Schedule, values: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Train as if killed just before the checkpoint is removed."""
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        fit(plane(), schedule, scripted(values), path)


def test_a_run_that_had_stopped_early_is_not_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schedule, values, module, resumed = Schedule(9, 0.05, patience=2), [3.0, 1.0, 2.0], plane(), plane()
    history = fit(module, schedule, scripted(values))
    kept_checkpoint(tmp_path / "run", schedule, values, monkeypatch)
    assert fit(resumed, schedule, scripted([]), tmp_path / "run") == history
    assert same_bits(resumed, module)


@pytest.mark.parametrize("change", [{"learning_rate": 0.01}, {"weight_decay": 0.5}, {"title": "another plane"}])
def test_a_checkpoint_of_another_run_is_refused(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_checkpoint(tmp_path / "run", Schedule(1, 0.05), [1.0], monkeypatch)
    title = change.pop("title", "plane")
    with pytest.raises(StudyError, match=r"is a checkpoint of plane, learning_rate=0.05, .* delete it"):
        fit(plane(), Schedule(**({"epochs": 2, "learning_rate": 0.05} | change)), None, tmp_path / "run", title=title)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_file_that_is_no_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "run").write_bytes(content)
    with pytest.raises(StudyError, match="is not a checkpoint of this study"):
        fit(plane(), Schedule(2, 0.05), None, tmp_path / "run")
    assert (tmp_path / "run").read_bytes() == content


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_one_clear_error_and_leaves_nothing_behind(value: float, tmp_path: Path) -> None:
    calls = []

    def diverging(module: nn.Module, *batch: Tensor) -> Tensor:
        calls.append(1)
        return squared_error(module, *batch) * (value if len(calls) == 10 else 1)

    message = f"loss is {value} in epoch 2: training diverged at learning_rate=0.05; lower it"
    with pytest.raises(StudyError, match=message):
        fit(plane(), Schedule(3, 0.05), None, tmp_path / "run", diverging)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs=0: it must be at least 1"),
        ({"epochs": -3}, "epochs=-3: "),
        ({"learning_rate": -0.1}, "learning_rate=-0.1: it must be above 0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0: it must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate=nan: it must be above 0"),
        ({"decay": 0.0}, "decay=0.0: it must be above 0"),
        ({"weight_decay": -1e-3}, "weight_decay=-0.001: it must be at least 0"),
        ({"patience": 0}, "patience=0: it must be at least 1"),
        ({"precision": "float64"}, "precision='float64' is not known: allowed are auto, float32, bfloat16"),
    ],
)
def test_a_schedule_that_cannot_train_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        Schedule(**({"epochs": 1, "learning_rate": 0.1} | settings))


def test_an_unknown_or_missing_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == torch.device("cpu")
    with pytest.raises(StudyError, match="device='gpu' is unknown: use auto, cpu or cuda"):
        resolve_device("gpu")
    with pytest.raises(StudyError, match="device='cuda': this machine shows no CUDA device"):
        resolve_device("cuda")


def test_auto_is_cuda_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto").type == "cuda"


def test_seeding_is_undone_afterwards_even_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(KeyError), seeded(3, torch.device("cpu")):
        torch.rand(2)
        raise KeyError
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_gives_the_same_draws_and_another_seed_others() -> None:
    draws = []
    for seed in (3, 3, 4):
        with seeded(seed, torch.device("cpu")) as generator:
            draws.append((torch.rand(1).item(), torch.rand(1, generator=generator).item()))
    assert draws[0] == draws[1] != draws[2]


def test_bfloat16_computes_in_16_bits_and_keeps_the_weights_in_32() -> None:
    module, kinds = nn.Linear(3, 1), []
    inputs, targets = (column.float() for column in points())

    def noted(module: nn.Module, *batch: Tensor) -> Tensor:
        kinds.append(module(batch[0]).dtype)
        return squared_error(module, *batch)

    optimiser = Adam(module.parameters(), 1e-3)
    for precision in ("bfloat16", "float32", "auto"):
        generator = torch.Generator().manual_seed(0)
        train_epoch(module, Rows(40, inputs, targets), noted, optimiser, generator, precision)
    assert kinds == [torch.bfloat16, torch.float32, torch.float32]
    assert module.weight.dtype == torch.float32
