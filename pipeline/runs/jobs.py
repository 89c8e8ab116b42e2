"""The notebooks that a profile runs, each with its parameters, its place in the order, and what it writes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.chapters.study import TABLES, Chapter, Study, check_overrides, cuda_available, table_file
from recsys_core.errors import StudyError


class Kind(NamedTuple):
    """What a run of the study's own parameters does: which runs of the store it trains, and whether its results are kept."""

    policy: str
    places: bool


# Each of these runs into a scratch folder of its own. All other profiles write where they keep their results.
KINDS = {
    "study": Kind("first", True),
    "store": Kind("write", True),
    "verify": Kind("main", False),
    "verify-full": Kind("all", False),
}


@dataclass(frozen=True)
class Job:
    """One notebook with the parameters that a profile gives it; paths are relative to the root.

    Attributes:
        profile: a profile of study.yaml; "study" for each of `KINDS`.
        chapter: what the notebook reads and writes.
        after: the upstream notebooks that must run before it, if they run.
        output, figures: folders that the notebook's files are kept in.
        executed: folder of the executed copies, which keep the traceback of a failed notebook.
        redirected: the notebook is told its output folder, because its parameters alone do not tell it.
        device: what the profile runs on, where it says so.
        kind: name of one of `KINDS`, or None.
    """

    name: str
    profile: str
    chapter: Chapter
    overrides: dict[str, Any]
    after: list[str]
    output: Path
    figures: Path
    executed: Path
    redirected: bool
    device: str | None
    kind: str | None

    @property
    def places(self) -> bool:
        """Whether what the notebook wrote into a scratch folder becomes what is kept."""
        return self.kind is not None and KINDS[self.kind].places

    @property
    def scratch(self) -> Path | None:
        """Below it the notebook writes everything, in the folders that it would be kept in."""
        return self.executed / "scratch" if self.kind else None

    @property
    def kept_fingerprint(self) -> Path:
        """The tracked note of what the kept files were made from."""
        return self.output / "results" / "fingerprints" / f"{self.name}.sha256"

    @property
    def notebook(self) -> Path:
        """The notebook that is run."""
        return Path("notebooks") / f"{self.name}.ipynb"

    @property
    def copy(self) -> Path:
        """The executed copy."""
        return self.executed / f"{self.name}.ipynb"

    def state(self, kind: str, name: str | None = None) -> Path:
        """Where the pipeline notes `kind` about this job, or about notebook `name` of the same profile."""
        return self.executed / "state" / f"{name or self.name}.{kind}"

    @property
    def files(self) -> list[Path]:
        """Files and folders that the notebook must write; claims are settled with the study's own parameters only."""
        tables = {kind: self.output / table_file(kind, self.name) for kind in TABLES}
        places = tables | {"figures": self.figures / self.name}
        names = [name for name in self.chapter.outputs if name != "claims" or not self.overrides]
        return [places.get(name, self.output / name) for name in names]

    @property
    def command(self) -> str:
        """The papermill line, to be typed in the root of the project."""
        prefix = f"RECSYS_OUTPUT={self.output} " if self.redirected else ""
        prefix = f"RECSYS_SCRATCH={self.scratch} " if self.scratch else prefix
        parameters = f" -f {self.state('yaml')}" if self.overrides else ""
        return f"{prefix}papermill {self.notebook} {self.copy}{parameters}"

    @property
    def placing(self) -> str:
        """The line after it, which checks what was written and moves it from the scratch folder to its place."""
        profile = "" if self.kind == "study" else f" --profile={self.kind or self.profile}"
        device = f" --device={self.device}" if self.device else ""
        return f"python -m pipeline.runs.place {self.name}{profile}{device}"


def jobs_of(study: Study, profile: str, names: Collection[str] = (), here: bool = True) -> list[Job]:
    """The notebooks that `profile` (or one of `KINDS`) runs, or of these `names`; every parameter is checked before anything runs.

    Those that do not run `here` have their devices elsewhere.

    Raises:
        StudyError: unknown profile, notebook or parameter; chapters that read one another; no CUDA device for a profile that
            needs one.
    """
    content = study.profiles.get(profile, {})
    device = content.get("device")
    if device == "cuda" and here and not cuda_available():
        raise StudyError(f"Profile {profile} needs a CUDA device and PyTorch finds none on this machine.")
    for name in names:
        study.defaults(name)
    parts = content.get("profiles", [profile])
    jobs = [job_of(study, part, name, device, names) for part in parts for name in _names(study, part, names)]
    try:
        TopologicalSorter({job.name: job.chapter.after for job in jobs}).prepare()
    except CycleError as error:
        raise StudyError(f"These chapters read one another: {', '.join(error.args[1])}.") from None
    return jobs


def _names(study: Study, profile: str, names: Collection[str]) -> list[str]:
    """Notebooks that a profile runs: those that it lists, a stored one those that it names, others all; of these the given ones."""
    content = study.profiles.get(profile, {})
    listed = content.get("runs", content["notebooks"] if content.get("stored") else study.notebooks)
    return [name for name in study.notebooks if name in listed and (not names or name in names)]


def job_of(study: Study, profile: str, name: str, device: str | None = None, names: Collection[str] = ()) -> Job:
    """One notebook under a profile or one of `KINDS`; `names` are the notebooks that run with it, all where there are none."""
    kind = profile if profile in KINDS else None
    base = "study" if kind else profile
    overrides, defaults = study.overrides(base, name), study.defaults(name)
    if device and "device" in defaults:
        overrides["device"] = device
    check_overrides(name, overrides, defaults)
    content, chapter = study.profiles[base], study.chapter(name)
    reads_kept = kind is not None and not KINDS[kind].places
    after = [] if reads_kept else [each for each in chapter.after if each in _names(study, base, names)]
    output, figures = study.output(base, defaults | overrides)
    executed = Path("reports/executed") / (f"{profile}-{device}" if device else profile)
    redirected = not kind and not content.get("stored")
    return Job(name, base, chapter, overrides, after, output, figures, executed, redirected, device, kind)
