"""What must be on disk before Snakemake decides: fingerprints, parameter files, only true stamps."""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from pipeline.chapters.study import STORED, Study, code_cells, digest, table_file
from pipeline.runs.imports import Imports
from pipeline.runs.jobs import Job
from recsys_core.files import atomic_path, is_temporary

FILES_SHA256 = "files.sha256"  # in the folder of a study of own data: what the files of the user hold
READ_BY_KEY = (STORED / "runs", STORED / "kept")  # a notebook runs again for those that it reads, not for the others


def prepare(study: Study, jobs: Iterable[Job]) -> None:
    """Write the fingerprints and parameter files that Snakemake looks at; drop stamps that are not true."""
    imports = Imports(study.root)
    for job in jobs:
        text = f"{code_digest(study, job, imports)}\n{data_digest(study, job, used_before(study, job))}\n"
        write_if_changed(study.root / job.state("fingerprint"), text)
        write_if_changed(study.root / job.state("yaml"), yaml.safe_dump(job.overrides))
        if not is_done(study, job):
            (study.root / job.state("done")).unlink(missing_ok=True)


def code_digest(study: Study, job: Job, imports: Imports) -> str:
    """Hash of a notebook's code and parameters, of the modules that it imports and of the pinned packages, on any machine.

    Prose and outputs are not in it.
    """
    cells = code_cells(study.root / job.notebook)
    modules = imports.of([source for source, _ in cells])
    files = tree_digest(study.root, [*modules, study.root / "requirements.lock"])
    return digest([job.name, cells, job.overrides, asdict(job.chapter), str(job.output), files])


def data_digest(study: Study, job: Job, used: Iterable[str]) -> str:
    """Hash of the files that a notebook reads, but its data set and what others wrote; `used` are files of the store."""
    named = [study.root / place for place in job.chapter.inputs]
    if study.profiles[job.profile].get("own"):
        named += [study.root / job.output / FILES_SHA256, study.root / job.output / "stored/tuning"]
    if study.profiles[job.profile].get("stored"):  # what is stored depends on nothing that is stored but tuned settings
        named = [place for place in named if "stored" not in place.parts or "tuning" in place.parts]
        return tree_digest(study.root, _without_keys(study.root, named))
    own = [
        *(study.root / STORED).glob(f"*/*/{table_file('results', job.name)}"),
        *(study.root / STORED / "kept" / job.name).glob("*"),
    ]
    return tree_digest(study.root, [*_without_keys(study.root, named), *own, *[study.root / each for each in used]])


def _without_keys(root: Path, places: Iterable[Path]) -> list[Path]:
    files = [file for place in places for file in files_below(place)]
    return [file for file in files if not any(file.is_relative_to(root / folder) for folder in READ_BY_KEY)]


def upstream_digest(study: Study, job: Job) -> str:
    """Hash of what the notebooks before this one have kept."""
    before = [replace(job, name=name, chapter=study.chapter(name)) for name in job.chapter.after]
    return tree_digest(study.root, [study.root / path for each in before for path in each.files])


def used_before(study: Study, job: Job) -> list[str]:
    """Files of the store that the notebook read when its kept files were made."""
    note = study.root / job.kept_fingerprint
    return note.read_text(encoding="utf-8").splitlines()[1:] if job.kind and note.exists() else []


def record(study: Study, job: Job) -> None:
    """Note the hash of what a finished job wrote."""
    write_if_changed(study.root / job.state("outputs"), _outputs_digest(study, job))


def is_done(study: Study, job: Job) -> bool:
    """Whether the job finished and all that is kept of it is still there, unchanged."""
    stamp, note = study.root / job.state("done"), study.root / job.state("outputs")
    return stamp.exists() and note.exists() and note.read_text() == _outputs_digest(study, job)


def _outputs_digest(study: Study, job: Job) -> str:
    return tree_digest(study.root, [study.root / path for path in [*job.files, job.copy, job.kept_fingerprint]])


def tree_digest(root: Path, places: Iterable[Path]) -> str:
    """SHA-256 over names and contents of files, also of all below folders; what is missing counts too."""
    parts = {}
    for file in [file for place in places for file in files_below(place)]:
        content = file.read_bytes() if file.exists() else b"missing"
        parts[file.relative_to(root).as_posix()] = hashlib.sha256(content).hexdigest()
    return digest(parts)


def files_below(place: Path) -> list[Path]:
    """The files in a folder and its folders; a place that is no folder itself, be it there or not."""
    if not place.is_dir():
        return [place]
    return [file for file in place.rglob("*") if not file.is_dir() and file.name != ".snakemake_timestamp"]


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


def write_if_changed(path: Path, text: str) -> None:
    """Write `text` unless the file holds it already, so that its age tells when the content changed."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        with atomic_path(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
