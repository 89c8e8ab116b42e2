"""A progress bar in a terminal; in a notebook one line that is replaced in place, so that its last state is all that is stored."""

from __future__ import annotations

from types import TracebackType

from IPython import get_ipython
from IPython.display import display
from tqdm import tqdm


class Progress:
    """Shows the epochs of one training run under `title`; use as a context manager."""

    def __init__(self, title: str, n_epochs: int) -> None:
        self.title = title
        self.n_epochs = n_epochs
        notebook = type(get_ipython()).__name__ == "ZMQInteractiveShell"
        self.bar = tqdm(total=n_epochs, desc=title, leave=False, disable=notebook or None)
        self.handle = display({"text/plain": title}, raw=True, display_id=True) if notebook else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.close()

    def update(self, epoch: int, entry: dict[str, float]) -> None:
        """Show the newest epoch's numbers."""
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in entry.items() if name != "epoch")
        self.bar.n = epoch
        self.bar.set_postfix_str(numbers)
        self.finish(f"epoch {epoch} of {self.n_epochs}: {numbers}")

    def finish(self, line: str) -> None:
        """Leave one line, the last one given, in a notebook's output."""
        if self.handle is not None:
            self.handle.update({"text/plain": f"{self.title}: {line}"}, raw=True)
