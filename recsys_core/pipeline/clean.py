"""The one cleaner of stored notebooks, and the write-back of executed ones."""

from pathlib import Path
from typing import Any

import nbformat
from nbstripout import strip_output

from recsys_core.files import atomic_path
from recsys_core.pipeline.study import Job, Study

VOLATILE = (
    "metadata.papermill",
    "metadata.widgets",
    "metadata.language_info.version",
    "cell.metadata.papermill",
    "cell.metadata.execution",
    "cell.metadata.trusted",
)
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove what differs between two identical runs; outputs and execution counts stay."""
    notebook = strip_output(
        notebook, keep_output=True, keep_count=True, keep_id=True, extra_keys=list(VOLATILE)
    )
    notebook.metadata.kernelspec = nbformat.from_dict(KERNEL)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _joined_streams(cell.outputs)
    return notebook


def _joined_streams(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Text that arrived in several messages, as it happens, as one output."""
    joined: list[nbformat.NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else {}
        if output.output_type == "stream" and last.get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def cleaned_text(path: Path) -> str:
    """Text of a notebook file as the cleaner leaves it."""
    return nbformat.writes(clean(nbformat.read(path, as_version=4))) + "\n"


def clean_file(path: Path) -> bool:
    """Clean a notebook file in place; whether it changed."""
    return _replace(path, path.read_bytes(), cleaned_text(path))


def clean_on_save(model: dict[str, Any], **_: Any) -> None:
    """Jupyter's hook before saving: what JupyterLab writes is clean already."""
    if model["type"] == "notebook" and model["content"]["nbformat"] == 4:
        model["content"] = clean(nbformat.from_dict(model["content"]))


def write_back(study: Study, job: Job) -> bool:
    """Put the outputs of an executed copy into the notebook; False when its code is no longer what was executed."""
    path = study.root / job.notebook
    before = path.read_bytes()
    notebook = nbformat.reads(before.decode(), as_version=4)
    executed = nbformat.read(study.root / job.copy, as_version=4)
    pairs = [[cell for cell in each.cells if cell.cell_type == "code"] for each in (notebook, executed)]
    if [cell.source for cell in pairs[0]] != [cell.source for cell in pairs[1]]:
        return False
    for cell, run in zip(*pairs):
        cell.outputs, cell.execution_count = run.outputs, run.execution_count
    _replace(path, before, nbformat.writes(clean(notebook)) + "\n")
    return True


def _replace(path: Path, before: bytes, text: str) -> bool:
    """Write `text` unless it is there already, or somebody else has just written the file."""
    if text.encode() == before or path.read_bytes() != before:
        return False
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return True
