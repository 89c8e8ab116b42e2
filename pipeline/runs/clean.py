"""The one cleaner of stored notebooks, and the write-back of executed ones."""

from base64 import b64decode, b64encode
from io import BytesIO
from pathlib import Path
from typing import Any

import nbformat
from nbstripout import strip_output
from PIL import Image

from pipeline.chapters.study import Study
from pipeline.runs.jobs import Job
from recsys_core.files import atomic_path

VOLATILE = "metadata.papermill metadata.widgets cell.metadata.papermill cell.metadata.execution cell.metadata.trusted"
KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
PALETTE_COLOURS = 64  # flat colours and the edges of letters
WIDGET = "application/vnd.jupyter.widget-view+json"  # names an object of a kernel; what stands beside it is what a reader sees
LANGUAGE = {"name": "python", "file_extension": ".py", "mimetype": "text/x-python", "pygments_lexer": "ipython3"}


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove what differs between two identical runs; outputs and execution counts stay, pictures a third as large."""
    notebook = strip_output(notebook, keep_output=True, keep_count=True, keep_id=True, extra_keys=VOLATILE.split())
    notebook.metadata.update(nbformat.from_dict({"kernelspec": KERNEL, "language_info": LANGUAGE}))
    cells = _code(notebook)
    counts = [cell.execution_count or 0 for cell in cells]
    for number, cell in enumerate(cells, start=1):
        cell.outputs = _joined_streams(cell.outputs)
        if counts[0] and counts == list(range(counts[0], counts[0] + len(counts))):
            cell.execution_count = number  # Run All in a kernel that had run before
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = cell.execution_count
            output.get("data", {}).pop(WIDGET, None)
            if picture := output.get("data", {}).get("image/png"):
                output.data["image/png"] = _with_palette(picture)
    return notebook


def clean_file(path: Path) -> bool:
    """Clean a notebook file in place; whether it changed."""
    before = path.read_bytes()
    return _replace(path, before, nbformat.reads(before.decode(), as_version=4))


def clean_on_save(model: dict[str, Any], **_: Any) -> None:
    """Jupyter's hook before saving: what JupyterLab writes is clean already."""
    if model["type"] == "notebook" and model["content"]["nbformat"] == 4:
        model["content"] = clean(nbformat.from_dict(model["content"]))


def write_back(study: Study, job: Job) -> bool:
    """Put the outputs of an executed copy into its notebook; False when the code has changed since."""
    path = study.root / job.notebook
    before = path.read_bytes()
    notebook = nbformat.reads(before.decode(), as_version=4)
    executed = _code(nbformat.read(study.root / job.copy, as_version=4))
    if [cell.source for cell in _code(notebook)] != [cell.source for cell in executed]:
        return False
    for cell, run in zip(_code(notebook), executed):
        cell.outputs, cell.execution_count = run.outputs, run.execution_count
    _replace(path, before, notebook)
    return True


def _code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _joined_streams(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Text that arrived in several messages, as it happens, as one output."""
    joined: list[nbformat.NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and joined and joined[-1].get("name") == output.name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def _with_palette(picture: str) -> str:
    """An opaque PNG (base64) with a palette instead of four bytes a pixel, which a chart hardly needs."""
    image = Image.open(BytesIO(b64decode(picture)))
    if image.mode != "RGBA" or image.getextrema()[-1] != (255, 255):
        return picture
    buffer = BytesIO()
    small = image.convert("RGB").quantize(PALETTE_COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(buffer, format="png", optimize=True)
    return b64encode(buffer.getvalue()).decode()


def _replace(path: Path, before: bytes, notebook: nbformat.NotebookNode) -> bool:
    """Write the cleaned notebook unless it is there already, or somebody else has just written the file."""
    after = (nbformat.writes(clean(notebook)) + "\n").encode()
    if after == before or path.read_bytes() != before:
        return False
    with atomic_path(path) as temporary:
        temporary.write_bytes(after)
    return True
