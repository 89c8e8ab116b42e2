"""The training loop: one for every model and objective. It knows batches, a loss and a way to validate, and no model."""

import copy
import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from recsys_core.errors import StudyError, at_least, refuse_unknown
from recsys_core.files import atomic_path
from recsys_core.optimiser import Adam
from recsys_core.progress import Progress
from recsys_core.sampling import Batches

MARKS = (1, 10, 100)  # numbers of updates after which the loss is taken down


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train; times are counted in epochs.

    `patience` is the number of epochs without a better validation value after which training stops (None: never), `precision`
    "float32", "bfloat16" or "auto" (bfloat16 on CUDA, float32 elsewhere); after each epoch the learning rate is multiplied by
    `decay`. Raises StudyError for values that cannot train.
    """

    epochs: int
    learning_rate: float
    weight_decay: float = 0.0
    patience: int | None = None
    precision: str = "auto"
    decay: float = 1.0

    def __post_init__(self) -> None:
        at_least("epochs", self.epochs, 1)
        at_least("weight_decay", self.weight_decay, 0)
        at_least("patience", self.patience, 1)
        refuse_unknown("precision", self.precision, ("auto", "float32", "bfloat16"))
        for name, value in (("learning_rate", self.learning_rate), ("decay", self.decay)):
            if not value > 0:
                raise StudyError(f"{name}={value}: it must be above 0.")


@dataclass(frozen=True)
class Validation:
    """What is measured after each epoch: its name, how, and whether more of it is better."""

    metric: str
    measure: Callable[[], float]
    higher_is_better: bool

    def prefers(self, entry: dict[str, float], other: dict[str, float]) -> bool:
        """Whether an entry of the history has a better value than another one."""
        value, best = entry[self.metric], other[self.metric]
        return value > best if self.higher_is_better else value < best


@dataclass
class History:
    """The training curve: one entry per epoch with `epoch`, `train_loss` and the validation metric, and the best epoch.

    `path` is how training began: the mean loss of the first 1, 10 and 100 updates and of the first epoch, by these names; it
    follows from data, settings and seed, and differs between processors by rounding alone. `first_batch` is the SHA-256 of the
    first batch: which rows, labels and negatives were drawn.
    """

    epochs: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    path: dict[str, float] = field(default_factory=dict)
    first_batch: str = ""

    @property
    def best(self) -> dict[str, float]:
        """The entry of the best epoch."""
        return self.epochs[self.best_epoch - 1]


def resolve_device(device: str) -> torch.device:
    """Turn "auto" into CUDA where there is one, else the CPU; refuse what torch or this machine does not have."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise StudyError(f"device={device!r} is unknown: use auto, cpu or cuda.") from None
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise StudyError(f"device={device!r}: this machine shows no CUDA device to torch; use auto or cpu.")
    return resolved


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[torch.Generator]:
    """Seed initialisation and dropout, which torch draws from its global state, and give the state back afterwards.

    Yields a generator on the device for everything that takes one.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield torch.Generator(device).manual_seed(seed)


def train_epoch(
    module: nn.Module,
    batches: Batches,
    loss: Callable[..., Tensor],
    optimiser: Adam,
    generator: torch.Generator,
    precision: str,
    beginning: History | None = None,
) -> float:
    """Train once over the batches and return the mean loss per batch; `loss(module, *batch)` gives a scalar.

    In the first epoch `beginning` takes down how training began.
    """
    module.train()
    device = next(module.parameters()).device
    halved = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    total, n_batches = torch.zeros((), device=device), 0
    sums: dict[int, Tensor] = {}
    for batch in batches.epoch(generator):
        if beginning is not None and not n_batches:
            beginning.first_batch = batch_sha256(batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=halved):
            value = loss(module, *batch)
        value.backward()
        optimiser.step()
        total += value.detach()  # stays on the device: reading it here would wait for every step
        n_batches += 1
        if n_batches in MARKS:
            sums[n_batches] = total.clone()
    mean = float(total) / max(1, n_batches)
    if beginning is not None:
        beginning.path = {f"{n} updates": float(each) / n for n, each in sums.items()} | {"first epoch": mean}
    return mean


def batch_sha256(batch: tuple[Tensor, ...]) -> str:
    """SHA-256 over shapes and bytes of a batch's tensors."""
    digest = hashlib.sha256()
    for tensor in batch:
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@dataclass
class _Run:
    """Everything that a resumed run needs to continue as if it had not stopped."""

    module: nn.Module
    optimiser: Adam
    generator: torch.Generator
    history: History
    best: dict[str, Tensor]
    made_by: str

    def save(self, path: Path) -> None:
        state = {
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.moments,
            "generator": self.generator.get_state(),
            "global_rng": torch.get_rng_state(),
            "epochs": self.history.epochs,
            "best_epoch": self.history.best_epoch,
            "path": self.history.path,
            "first_batch": self.history.first_batch,
            "best": self.best,
            "made_by": self.made_by,
        }
        with atomic_path(path) as temporary:
            torch.save(state, temporary)

    def resume(self, path: Path) -> None:
        try:
            state: dict[str, Any] = torch.load(path, weights_only=True)
            made_by = state["made_by"]
        except (RuntimeError, EOFError, LookupError, TypeError, UnpicklingError):
            raise StudyError(f"{path} is not a checkpoint of this study: delete it or name another file.") from None
        if made_by != self.made_by:
            other = f"{path} is a checkpoint of {made_by}, not of {self.made_by}"
            raise StudyError(f"{other}: delete it or name another file.")
        self.module.load_state_dict(state["module"])
        self.optimiser.moments = state["optimiser"]
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["global_rng"])
        self.history = History(*(state[name] for name in ("epochs", "best_epoch", "path", "first_batch")))
        self.best = state["best"]

    def record(self, epoch: int, train_loss: float, validation: Validation | None) -> None:
        """Enter an epoch into the history; without validation the last epoch is the best."""
        history, entry = self.history, {"epoch": epoch, "train_loss": train_loss}
        if validation is not None:
            self.module.eval()
            entry[validation.metric] = validation.measure()
        history.epochs.append(entry)
        if validation is None:
            history.best_epoch = epoch
        elif not history.best_epoch or validation.prefers(entry, history.best):
            history.best_epoch = epoch
            self.best = copy.deepcopy(self.module.state_dict())


def train(
    module: nn.Module,
    batches: Batches,
    loss: Callable[..., Tensor],
    schedule: Schedule,
    generator: torch.Generator,
    validation: Validation | None = None,
    checkpoint: Path | None = None,
    title: str = "training",
    identity: str = "any data and settings",
) -> History:
    """Train `module` in place with Adam and leave it with the weights of its best epoch (without validation: of the last).

    With `checkpoint`, the state after every epoch is kept there and an existing file is continued from, to the same bits; it is
    removed at the end. Raises StudyError when the loss is no longer a number, leaving no checkpoint behind, and for a checkpoint
    with another title, learning rate, weight decay or `identity` (what else must be the same to continue: data and settings).
    """
    run = _Run(
        module,
        Adam(module.parameters(), schedule.learning_rate, schedule.weight_decay),
        generator,
        History(),
        {},
        f"{title}, learning_rate={schedule.learning_rate}, weight_decay={schedule.weight_decay} ({identity})",
    )
    if checkpoint is not None and checkpoint.exists():
        run.resume(checkpoint)
    with Progress(title, schedule.epochs) as progress:
        for epoch in range(len(run.history.epochs) + 1, schedule.epochs + 1):
            if schedule.patience is not None and epoch - 1 - run.history.best_epoch >= schedule.patience:
                break
            run.optimiser.learning_rate = schedule.learning_rate * schedule.decay ** (epoch - 1)
            beginning = run.history if epoch == 1 else None
            train_loss = train_epoch(module, batches, loss, run.optimiser, generator, schedule.precision, beginning)
            _refuse_nan(train_loss, epoch, schedule, checkpoint)
            run.record(epoch, train_loss, validation)
            progress.update(epoch, run.history.epochs[-1])
            if checkpoint is not None:
                run.save(checkpoint)
        progress.finish(_final_line(run.history, validation))
    if run.best:
        module.load_state_dict(run.best)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    module.eval()
    return run.history


def _refuse_nan(train_loss: float, epoch: int, schedule: Schedule, checkpoint: Path | None) -> None:
    if math.isfinite(train_loss):
        return
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    diverged = f"training diverged at learning_rate={schedule.learning_rate}; lower it, or look for NaN in the features"
    raise StudyError(f"The training loss is {train_loss} in epoch {epoch}: {diverged}.")


def _final_line(history: History, validation: Validation | None) -> str:
    if validation is None:
        return f"{len(history.epochs)} epochs"
    best = f"best {history.best_epoch} with {validation.metric} {history.best[validation.metric]:.4f}"
    return f"{len(history.epochs)} epochs, {best}"
