"""What a chapter reads besides its data set, found in its code: results of other chapters, and files in `reports/`."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from recsys_core.errors import StudyError

TUNING, REFERENCES = "reports/stored/tuning", "reports/references.csv"
TIMINGS, PEERS = "reports/timings.csv", "reports/timings_peers.csv"
FILES = {  # what is called → what it reads
    "hyperparameters": TUNING,
    "ranked": TUNING,
    "read_trials": TUNING,
    "tuning_gains": TUNING,
    "read_references": REFERENCES,
    "Ledger": REFERENCES,
    "gathered": REFERENCES,
    "read_timings": TIMINGS,
    "read_peers": PEERS,
}
STORED = ("read_stored", "read_stored_users", "read_stored_rows")  # of the profile that is their first argument


@dataclass(frozen=True)
class Code:
    """What the code cells of a chapter name.

    Attributes:
        strings: its string literals, but those that say what is read from the store; of a path the part before the first slash.
        calls: methods that it calls, and what it imports from the study.
        stored: profiles whose stored results it reads.
    """

    strings: frozenset[str]
    calls: frozenset[str]
    stored: tuple[str, ...]

    @classmethod
    def of(cls, sources: Iterable[str]) -> Code:
        """Of these cells. Raises StudyError where the profile of stored results is no literal."""
        nodes = [node for source in sources for node in ast.walk(parsed(source))]
        calls = [node for node in nodes if isinstance(node, ast.Call)]
        methods = [(call.func.attr, call) for call in calls if isinstance(call.func, ast.Attribute)]
        of_store = [call for name, call in methods if name in STORED]
        stored = [_profile(call) for call in of_store]
        # what is stored of another chapter is a file of the store, which that chapter need not write first
        arguments = {id(each) for call in of_store for each in call.args}
        literals = [node.value for node in nodes if isinstance(node, ast.Constant) and id(node) not in arguments]
        strings = frozenset(text.split("/")[0] for text in literals if isinstance(text, str))
        return cls(
            strings, frozenset({name for name, _ in methods} | set(_imported(nodes))), tuple(dict.fromkeys(stored))
        )

    @property
    def files(self) -> list[str]:
        """Files and folders of `reports/` that it reads."""
        named = {place for call, place in FILES.items() if call in self.calls}
        return sorted(named | {f"reports/stored/{profile}" for profile in self.stored})

    @property
    def settles(self) -> bool:
        """Whether it settles claims."""
        return "Ledger" in self.calls

    @property
    def gathers(self) -> bool:
        """Whether it reads what all chapters have settled."""
        return "gathered" in self.calls

    @property
    def reads_every(self) -> bool:
        """Whether it reads the per-user values of all chapters before it."""
        return "read_every" in self.calls

    @property
    def reads_ledger(self) -> bool:
        """Whether it reads the ledger of claims."""
        return "read_claims" in self.calls


def parsed(source: str) -> ast.Module:
    """The syntax of a module or cell, without IPython's own lines (`%matplotlib inline`, `!ls`); empty where it is none."""
    plain = "\n".join("pass" if line.startswith(("%", "!")) else line for line in source.splitlines())
    for text in (source, plain):
        with suppress(SyntaxError):
            return ast.parse(text)
    return ast.Module([], [])


def _profile(call: ast.Call) -> str:
    if call.args and isinstance(call.args[0], ast.Constant):
        return str(call.args[0].value)
    raise StudyError(f"{ast.unparse(call)} must name its profile as a literal, so that its stored results are known.")


def _imported(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline."):
            yield from (alias.name for alias in node.names)
