"""What a search has tried, a line each: one that was stopped goes on from there, and makes the same trials again without training.

It is on disk as long as the search is not stored; it does not know of changes to a model, after which it is to be removed.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


class TrialLog:
    """Values by settings and seed, of a search named by `labels`; what another search left in the file is forgotten."""

    def __init__(self, path: Path, labels: dict[str, Any]) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []  # the last may be cut off
        if lines[:1] != [json.dumps(labels)]:
            lines = [json.dumps(labels)]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        self.values: dict[str, float] = dict(json.loads(line) for line in lines[1:])

    def value(self, settings: dict[str, Any], seed: int, measure: Callable[[], float]) -> float:
        """Return what is kept of these settings, else what `measure` returns, and keep that."""
        key = json.dumps([settings, seed], sort_keys=True)
        if key not in self.values:
            self.values[key] = measure()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, self.values[key]]) + "\n")
        return self.values[key]
