"""The ledger of claims: what the five reports state, what was measured, and the verdict."""

from __future__ import annotations

from typing import Any

import pandas as pd
from IPython.display import Markdown

from pipeline.chapters.notebook import Notebook
from recsys_core.errors import StudyError
from recsys_core.files import atomic_path

VERDICTS = ("confirmed", "partly", "refuted", "not reproducible", "untestable", "pending")
COLUMNS = ["claim_id", "source", "statement", "reported", "measured", "verdict", "reason", "notebook"]


class Ledger:
    """Collects the verdicts on the claims of `reports/references.csv`; a claim without one is pending."""

    def __init__(self, notebook: Notebook) -> None:
        self.notebook = notebook
        references = notebook.read_references()
        self.claims = references[references["claim_id"].notna()].set_index("claim_id", drop=False)
        self.verdicts: dict[str, dict[str, str]] = {}

    def reported(self, claim_id: str) -> float:
        """The number that was reported; a claim that is unknown or states no number raises StudyError."""
        value = float(self._claim(claim_id)["value"])
        if pd.isna(value):
            raise StudyError(f"Claim {claim_id} reports no number but {self._claim(claim_id)['reported']!r}.")
        return value

    def settle(self, claim_id: str, measured: object, verdict: str, reason: str = "") -> Markdown:
        """Settle a claim and show it.

        `measured` is what was found, a float or a text with its numbers in it. A reason is needed wherever the claim is not
        confirmed. Raises StudyError for an unknown claim or verdict, a claim settled twice, and a missing measurement or reason.
        """
        claim, found = self._claim(claim_id), _text(measured)
        if verdict not in VERDICTS[:-1]:
            raise StudyError(f"Claim {claim_id}: verdict {verdict!r} is none of {', '.join(VERDICTS[:-1])}.")
        if claim_id in self.verdicts:
            raise StudyError(f"Claim {claim_id} is settled twice: one measurement decides.")
        if not found or (verdict != "confirmed" and not reason):
            raise StudyError(f"Claim {claim_id} needs what was measured, and a reason unless it is confirmed.")
        self.verdicts[claim_id] = {"measured": found, "verdict": verdict, "reason": reason}
        line = f"**{verdict.capitalize()}** · {claim['statement']} ({claim['source']}: {claim['reported']}). Measured: {found}."
        return Markdown(f"{line} {reason}".strip())

    def table(self) -> pd.DataFrame:
        """All claims with the columns of `COLUMNS`, in the order in which they are listed."""
        pending = {"measured": "", "verdict": "pending"}
        rows = []
        for claim in self.claims.to_dict("records"):
            reason = f"to be measured in {claim['notebook']}"
            rows.append(claim | self.verdicts.get(claim["claim_id"], pending | {"reason": reason}))
        return pd.DataFrame(rows)[COLUMNS]

    def save(self) -> None:
        """Write `claims.csv` beside the report."""
        with atomic_path(self.notebook.output / "claims.csv") as path:
            self.table().to_csv(path, index=False, lineterminator="\n")

    def _claim(self, claim_id: str) -> dict[str, Any]:
        if claim_id not in self.claims.index:
            raise StudyError(f"There is no claim {claim_id!r} in reports/references.csv: add it there with its source.")
        return {str(name): value for name, value in self.claims.loc[claim_id].items()}


def within(measured: float, reported: float, tolerance: float) -> bool:
    """Whether a measured number agrees with a reported one, up to the tolerance that its last printed digit allows."""
    return bool(abs(measured - reported) <= tolerance * (1 + 1e-9))


def _text(measured: object) -> str:
    if isinstance(measured, float):
        return "" if pd.isna(measured) else f"{measured:.4g}"
    return str(measured)
