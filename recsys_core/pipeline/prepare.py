"""What must be on disk before Snakemake decides: fingerprints, parameter files, and no stamp without its outputs."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from recsys_core.files import atomic_path
from recsys_core.pipeline.study import Job, Study, digest, read_notebook, tree_digest

LEFTOVER = re.compile(r"^\..+\.[a-z0-9_]{8}\.\w+$")  # temporary names of recsys_core.files.atomic_path


def write_if_changed(path: Path, text: str) -> None:
    """Write `text` unless the file holds it already, so that its age tells when the content changed."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


def fingerprint(study: Study, job: Job, package: str) -> str:
    """Hash of all that a run depends on besides its upstream notebooks; outputs and prose of a notebook are not in it."""
    cells = read_notebook(study.root / job.notebook)
    inputs = [study.root / place for place in job.entry.inputs]
    inputs += sorted((study.root / "reports/stored").glob(f"*/*/results/{job.name}.csv"))
    code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    return digest(
        [code, job.overrides, job.command, job.entry.outputs, tree_digest(study.root, inputs), package]
    )


def package_digest(root: Path) -> str:
    """Hash of the sources and pinned packages that results depend on; the pipeline itself changes no number."""
    package = root / "recsys_core"
    sources = [path for path in package.rglob("*.py") if path.parent.name != "pipeline"]
    return tree_digest(root, [*sources, root / "requirements.lock"])


def prepare(study: Study, jobs: Iterable[Job]) -> None:
    """Write the fingerprints and parameter files that Snakemake looks at, and drop stamps that are no longer true."""
    package = package_digest(study.root)
    for job in jobs:
        write_if_changed(study.root / job.state("fingerprint"), fingerprint(study, job, package) + "\n")
        write_if_changed(study.root / job.state("yaml"), yaml.safe_dump(job.overrides))
        if not is_recorded(study, job):
            (study.root / job.state("done")).unlink(missing_ok=True)


def record(study: Study, job: Job) -> None:
    """Note the hash of what a finished job wrote."""
    write_if_changed(study.root / job.state("outputs"), outputs_digest(study, job) + "\n")


def is_recorded(study: Study, job: Job) -> bool:
    """Whether all that the job wrote is still there, unchanged."""
    note = study.root / job.state("outputs")
    return note.exists() and note.read_text(encoding="utf-8").strip() == outputs_digest(study, job)


def outputs_digest(study: Study, job: Job) -> str:
    """Hash of a job's outputs and executed copy."""
    return tree_digest(study.root, [study.root / path for path in [*job.files, job.copy]])


def remove_leftovers(root: Path) -> None:
    """Delete temporary files that a killed run left beside its outputs."""
    for folder in ("reports", "figures", "notebooks"):
        for path in (root / folder).rglob(".*"):
            if LEFTOVER.match(path.name) and path.is_file():
                path.unlink()


def error_of(copy: Path) -> str:
    """One line on where and why an executed copy stopped: "cell 7: ValueError: …"."""
    cells = json.loads(copy.read_text(encoding="utf-8"))["cells"] if copy.exists() else []
    codes = [cell for cell in cells if cell["cell_type"] == "code"]
    for number, cell in enumerate(codes, start=1):
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                return f"code cell {number}: {output['ename']}: {output['evalue']}"
    done = sum(cell["execution_count"] is not None for cell in codes)
    return f"stopped after {done} of {len(codes)} code cells"
