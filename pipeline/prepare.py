"""What must be on disk before Snakemake decides: fingerprints, parameter files, only true stamps."""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from pipeline.jobs import Job
from pipeline.study import Study, code_cells, digest
from recsys_core.files import atomic_path, is_temporary

SOURCES = (".py", ".yaml", ".html", ".mplstyle")
USED_BY_NOTEBOOKS = (
    "claims",
    "error_groups",
    "experiment",
    "notebook",
    "plots",
    "ratings",
    "report",
    "results",
    "study",
    "tuned",
)  # of the modules beside this one


def prepare(study: Study, jobs: Iterable[Job]) -> None:
    """Write the fingerprints and parameter files that Snakemake looks at; drop stamps that are not true."""
    modules = [path for name in ("recsys_core", "releases") for path in study.root.glob(f"{name}/**/*")]
    used = [path for name in USED_BY_NOTEBOOKS for path in study.root.glob(f"pipeline/{name}.*")]
    sources = [path for path in [*modules, *used] if path.suffix in SOURCES]
    package = tree_digest(study.root, [*sources, study.root / "requirements.lock"])
    for job in jobs:
        _write_if_changed(study.root / job.state("fingerprint"), fingerprint(study, job, package))
        _write_if_changed(study.root / job.state("yaml"), yaml.safe_dump(job.overrides))
        if not is_done(study, job):
            (study.root / job.state("done")).unlink(missing_ok=True)


def fingerprint(study: Study, job: Job, package: str) -> str:
    """Hash of all that a run depends on but its upstream notebooks; prose and outputs are not in it."""
    inputs = [study.root / place for place in job.entry.get("inputs", [])]
    inputs += (study.root / "reports/stored").glob(f"*/*/results/{job.name}.csv")
    if study.profiles[job.profile].get("stored"):  # what is stored depends on nothing that is stored but tuned settings
        inputs = [place for place in inputs if "stored" not in place.parts or "tuning" in place.parts]
    code = code_cells(study.root / job.notebook)
    return digest([code, job.overrides, job.command, job.entry, tree_digest(study.root, inputs), package])


def record(study: Study, job: Job) -> None:
    """Note the hash of what a finished job wrote."""
    _write_if_changed(study.root / job.state("outputs"), _outputs_digest(study, job))


def is_done(study: Study, job: Job) -> bool:
    """Whether the job finished and all that it wrote is still there, unchanged."""
    stamp, note = study.root / job.state("done"), study.root / job.state("outputs")
    return stamp.exists() and note.exists() and note.read_text() == _outputs_digest(study, job)


def _outputs_digest(study: Study, job: Job) -> str:
    return tree_digest(study.root, [study.root / path for path in [*job.files, job.copy]])


def tree_digest(root: Path, places: Iterable[Path]) -> str:
    """SHA-256 over names and contents of files, also of all below folders; what is missing counts too."""
    parts = {}
    for place in places:
        for file in place.rglob("*") if place.is_dir() else [place]:
            if not file.is_dir() and file.name != ".snakemake_timestamp":
                content = file.read_bytes() if file.exists() else b"missing"
                parts[str(file.relative_to(root))] = hashlib.sha256(content).hexdigest()
    return digest(parts)


def remove_leftovers(root: Path) -> None:
    """Delete temporary files that a killed run left beside its outputs."""
    for folder in ("reports", "figures", "notebooks"):
        for path in (root / folder).rglob(".*"):
            if is_temporary(path) and path.is_file():
                path.unlink()


def error_of(copy: Path) -> str:
    """Where and why an executed copy stopped: "failed in code cell 7: ValueError: …"."""
    for number, cell in enumerate(_cells_of(copy), start=1):
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                return f"failed in code cell {number}: {output['ename']}: {output['evalue']}"
        if _lost_its_kernel(cell):
            return f"stopped because its kernel died in code cell {number}, for instance for lack of memory"
    return f"stopped without an error after {progress_of(copy)}"


def _lost_its_kernel(cell: dict[str, Any]) -> bool:
    """Whether papermill saw the end of a cell without the kernel's reply."""
    times, has_code = cell["metadata"], "".join(cell["source"]).strip()
    ended = "end_time" in times.get("papermill", {})
    return bool(has_code) and ended and "shell.execute_reply" not in times.get("execution", {})


def progress_of(copy: Path) -> str:
    """How far an executed copy is: "6 of 20 code cells"."""
    cells = _cells_of(copy)
    return f"{sum(cell['execution_count'] is not None for cell in cells)} of {len(cells)} code cells"


def _cells_of(copy: Path) -> list[dict[str, Any]]:
    with suppress(FileNotFoundError, ValueError):  # not begun, or being written at this moment
        cells = json.loads(copy.read_text(encoding="utf-8"))["cells"]
        return [cell for cell in cells if cell["cell_type"] == "code"]
    return []


def _write_if_changed(path: Path, text: str) -> None:
    """Write `text` unless the file holds it already, so that its age tells when the content changed."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
