"""The ledger of claims: what the five reports state, what was measured, and the verdict.

A claim is settled in the chapter that `reports/references.csv` names for it, by the rule for its kind (see `verdicts`). The chapter
writes `results/claims/<chapter>.csv`; the ledger puts these files together.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pandas as pd
from IPython.display import Markdown, display

from pipeline.chapters.comparisons import with_settings
from pipeline.chapters.notebook import Notebook
from pipeline.chapters.study import table_file
from pipeline.chapters.verdicts import CONFIRMED, FACT, KINDS, PENDING, TESTED, WITHIN, Verdict, of_number
from recsys_core.errors import StudyError
from recsys_core.files import atomic_path

COLUMNS = ["claim_id", "source", "kind", "statement", "reported", "measured", "verdict", "reason", "notebook"]
SHOWN = ["statement", "kind", "reported", "measured", "verdict"]
SETTLED = ["claim_id", "measured", "verdict", "reason"]

Finding = tuple[object, Verdict] | tuple[object, Verdict, str]  # measured, verdict, reason


class Ledger:
    """The claims that one chapter settles; what it has settled is in `results/claims/` at once.

    Claims are about the study's own data and settings: a run with other parameters settles nothing.

    Attributes:
        claims: all claims of `reports/references.csv`, indexed by claim_id.
        verdicts: what this run has settled so far, by claim_id.
    """

    def __init__(self, notebook: Notebook) -> None:
        self.notebook = notebook
        self.claims = read_claim_list(notebook)
        self.verdicts: dict[str, dict[str, str]] = {}

    def reported(self, claim_id: str) -> float:
        """The number that was reported; a claim that is unknown or states no number raises StudyError."""
        value = float(self._claim(claim_id)["value"])
        if pd.isna(value):
            raise StudyError(f"Claim {claim_id} reports no number but {self._claim(claim_id)['reported']!r}.")
        return value

    def numbers(self, claim_id: str) -> list[float]:
        """All numbers in what was reported."""
        return [float(text) for text in re.findall(r"\d+\.?\d*", self._claim(claim_id)["reported"])]

    def claim(self, claim_id: str) -> Callable[[Callable[[], Finding | None]], Callable[[], Finding | None]]:
        """Decorates a function without arguments that returns measured, verdict and reason, see `settle`; it is called at once.

        A run with other parameters than the study's own calls nothing and says so. None leaves the claim pending.
        """

        def decide(measure: Callable[[], Finding | None]) -> Callable[[], Finding | None]:
            if not self.notebook.is_default:
                self._claim(claim_id)
                display(
                    Markdown(f"Claim {claim_id} is about the study's own data and settings: not settled in this run.")
                )
            elif (finding := measure()) is None:
                self.verdicts.pop(claim_id, None)
                self._save()
                display(Markdown(f"**Pending** · {self._stated(claim_id)} What decides it has not been measured yet."))
            else:
                display(self.settle(claim_id, *finding))
            return measure

        return decide

    def settle(self, claim_id: str, measured: object, verdict: Verdict, reason: str = "") -> Markdown:
        """Settle a claim and show it; a claim that is settled again has the last verdict.

        `measured` is what was found, a float or a text with its numbers in it. A reason is needed wherever the claim is not
        confirmed. Raises StudyError for an unknown claim, a claim of another chapter, a verdict by a rule for another kind of claim
        or by none, and a missing measurement or reason.
        """
        stated, found, kind = self._stated(claim_id), _text(measured), self.kind(claim_id)
        if not isinstance(verdict, Verdict) or kind not in verdict.kinds:
            raise StudyError(f"Claim {claim_id} is a {kind}: its verdict has to come from that rule, see `verdicts`.")
        if not found or (verdict.word != CONFIRMED and not reason):
            raise StudyError(f"Claim {claim_id} needs what was measured, and a reason unless it is confirmed.")
        if self.notebook.is_default:
            self.verdicts[claim_id] = {"measured": found, "verdict": verdict.word, "reason": reason}
            self._save()
        return Markdown(f"**{verdict.word.capitalize()}** · {stated} Measured: {found}. {reason}".strip())

    def kind(self, claim_id: str) -> str:
        """The kind of a claim, one of `KINDS`. Raises StudyError where references.csv gives none of them."""
        kind = str(self._claim(claim_id)["kind"])
        if kind not in KINDS:
            raise StudyError(f"Claim {claim_id} is of the kind {kind!r} in reports/references.csv: {', '.join(KINDS)}.")
        return kind

    def near(self, claim_id: str, value: float) -> bool:
        """Whether a measured number agrees with the reported one, up to a tolerance that is fixed beforehand.

        The tolerance is that of `reports/references.csv` (`below` and `above` the reported number, in its unit). Where it has none,
        a count is exact and any other number may be off by `WITHIN` of itself.
        """
        reported, claim = self.reported(claim_id), self._claim(claim_id)
        usual = 0.0 if self.kind(claim_id) == FACT else WITHIN * abs(reported)
        below, above = (usual if pd.isna(claim[side]) else float(claim[side]) for side in ("below", "above"))
        digits = 1e-9 * max(1.0, abs(reported))
        return bool(reported - below - digits <= value <= reported + above + digits)

    def again(self, claim_id: str, value: float, what: str) -> Finding:
        """What to settle where a reported number was measured again, see `near`."""
        off = value / self.reported(claim_id) - 1
        return f"{value:.4f}", of_number(self.near(claim_id, value)), f"{off:+.1%}; {what}"

    def mean_of(self, chapter: str, model: str, protocol: str, metric: str) -> float:
        """Mean of a metric over the saved runs of a model, with tuned settings where it has both."""
        rows = self.notebook.read_results(chapter)
        rows = rows[(rows["model"] == model) & (rows["protocol"] == protocol) & (rows["metric"] == metric)]
        return float(with_settings(rows, "tuned")["value"].mean())

    def _save(self) -> None:
        rows = [
            {"claim_id": claim_id} | self.verdicts[claim_id]
            for claim_id in self.claims.index
            if claim_id in self.verdicts
        ]
        with atomic_path(self.notebook.output / table_file("claims", self.notebook.name)) as path:
            pd.DataFrame(rows, columns=SETTLED).to_csv(path, index=False, lineterminator="\n")

    def _stated(self, claim_id: str) -> str:
        claim = self._claim(claim_id)
        return f"{claim['statement']} ({claim['source']}: {claim['reported']})."

    def _claim(self, claim_id: str) -> dict[str, Any]:
        if claim_id not in self.claims.index:
            raise StudyError(f"There is no claim {claim_id!r} in reports/references.csv: add it there with its source.")
        claim = {str(name): value for name, value in self.claims.loc[claim_id].items()}
        if claim["notebook"] != self.notebook.name:
            raise StudyError(f"Claim {claim_id} is settled in {claim['notebook']}, as reports/references.csv says.")
        return claim


def read_claim_list(notebook: Notebook) -> pd.DataFrame:
    """The claims of `reports/references.csv`, indexed by claim_id, see `Notebook.read_references`."""
    references = notebook.read_references()
    return references[references["claim_id"].notna()].set_index("claim_id", drop=False)


def gathered(notebook: Notebook) -> pd.DataFrame:
    """All claims with the columns of `COLUMNS`, as the chapters of the same run have settled them, in the order of the list.

    A claim that its chapter has not settled is pending. Raises StudyError for a claim that another chapter has settled.
    """
    verdicts: dict[str, dict[str, str]] = {}
    for path in sorted(notebook.upstream(table_file("claims", "").parent).glob("*.csv")):
        for row in pd.read_csv(path, dtype=str).fillna("").to_dict("records"):
            verdicts[row["claim_id"]] = {str(key): value for key, value in row.items()} | {"settled_in": path.stem}
    rows = []
    for claim in read_claim_list(notebook).to_dict("records"):
        found = verdicts.get(claim["claim_id"], {"measured": "", "verdict": PENDING})
        settled_in = found.get("settled_in", claim["notebook"])
        if settled_in != claim["notebook"]:
            raise StudyError(
                f"Claim {claim['claim_id']} is settled in {settled_in}, but belongs to {claim['notebook']}."
            )
        rows.append(claim | {"reason": f"to be measured in {claim['notebook']}"} | found)
    return pd.DataFrame(rows)[COLUMNS]


def save_claims(notebook: Notebook, table: pd.DataFrame) -> None:
    """Write the ledger, as `claims.csv` beside the report."""
    with atomic_path(notebook.output / "claims.csv") as path:
        table.to_csv(path, index=False, lineterminator="\n")


def shown(table: pd.DataFrame) -> Markdown:
    """Claims of the ledger to read, a line each; the last column leads to the chapter that settles it."""
    lines = ["| Statement | Kind | Reported | Measured | Verdict | Chapter |", "|---|---|---|---|---|---|"]
    for claim in table.to_dict("records"):
        words = [str(claim[column]).replace("|", "\\|") for column in SHOWN]
        chapter = claim["notebook"]
        there = "" if claim["verdict"] == PENDING else f"[{chapter.split('_')[0]}]({chapter}.ipynb)"
        lines.append(f"| {' | '.join(words)} | {there} |")
    return Markdown("\n".join(lines))


def tested(table: pd.DataFrame) -> pd.DataFrame:
    """The claims that were tested: neither pending nor about what cannot be tested here. Percentages are over these."""
    return table[table["verdict"].isin(TESTED)]


def share_confirmed(table: pd.DataFrame) -> float:
    """Share of the tested claims that are confirmed, from 0 to 1; NaN where none was tested."""
    return float((tested(table)["verdict"] == CONFIRMED).mean())


def _text(measured: object) -> str:
    if isinstance(measured, float):
        return "" if pd.isna(measured) else f"{measured:.4g}"
    return str(measured)
