"""The notebooks that a profile runs, each with its parameters, its place in the order, and what it writes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.study import Study, check_overrides, cuda_available
from recsys_core.errors import StudyError


@dataclass(frozen=True)
class Job:
    """One notebook with the parameters that a profile gives it; paths are relative to the root.

    Attributes:
        entry: what study.yaml says about the notebook (`after`, `outputs`, `inputs`, `training`).
        after: the upstream notebooks that belong to the same profile.
        output, figures: folders that the notebook writes to.
        executed: folder of the executed copies, which keep the traceback of a failed notebook.
        redirected: the notebook is told its output folder, because its parameters alone do not tell it.
    """

    name: str
    profile: str
    entry: dict[str, Any]
    overrides: dict[str, Any]
    after: list[str]
    output: Path
    figures: Path
    executed: Path
    redirected: bool

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
        """Files and folders that the notebook must write."""
        places = {
            "results": self.output / "results" / f"{self.name}.csv",
            "users": self.output / "results" / "users" / f"{self.name}.parquet",
            "figures": self.figures / self.name,
        }
        return [places.get(name, self.output / name) for name in self.entry["outputs"]]

    @property
    def command(self) -> str:
        """The papermill line, to be typed in the root of the project."""
        prefix = f"RECSYS_OUTPUT={self.output} " if self.redirected else ""
        parameters = f" -f {self.state('yaml')}" if self.overrides else ""
        return f"{prefix}papermill {self.notebook} {self.copy}{parameters}"


def jobs_of(study: Study, profile: str) -> list[Job]:
    """The notebooks that `profile` runs; every parameter is checked before anything runs.

    Raises:
        StudyError: unknown profile or parameter; no CUDA device for a profile that needs one.
    """
    content = study.profiles.get(profile, {})
    device = content.get("device")
    if device == "cuda" and not cuda_available():
        raise StudyError(f"Profile {profile} needs a CUDA device and PyTorch finds none on this machine.")
    parts = content.get("profiles", [profile])
    return [_job(study, part, name, device) for part in parts for name in _names(study, part)]


def _names(study: Study, profile: str) -> list[str]:
    """Notebooks that a profile runs: a stored one those that it names, any other one all."""
    content = study.profiles.get(profile, {})
    return [name for name in study.notebooks if not content.get("stored") or name in content["notebooks"]]


def _job(study: Study, profile: str, name: str, device: str | None) -> Job:
    overrides, defaults = study.overrides(profile, name), study.defaults(name)
    if device and "device" in defaults:
        overrides["device"] = device
    check_overrides(name, overrides, defaults)
    content, entry = study.profiles[profile], study.notebooks[name]
    after = [each for each in entry.get("after", []) if each in _names(study, profile)]
    output, figures = study.output(profile, defaults | overrides)
    executed = Path("reports/executed") / (f"{profile}-{device}" if device else profile)
    redirected = profile != "study" and not content.get("stored")
    return Job(name, profile, entry, overrides, after, output, figures, executed, redirected)
