"""`make study DATASET=ratings.csv`: the study on own ratings, with a report of its own below reports/runs.

A folder of `reports/runs` is made for the file. It holds a description of the data (`<name>.yaml`, see `releases.own`), the
profile that says what runs (`profile.yaml`, see `study.own_profile`), what was trained (`stored/`), and what chapters write.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.chapters.study import MANY_ROWS, OWN, RUNS, TUNED, Study
from pipeline.runs.executor import LOCAL, Executor
from pipeline.runs.prepare import FILES_SHA256, write_if_changed
from pipeline.runs.run import alone, child_environment, run_profile
from recsys_core.datasets import MovieLens, load
from recsys_core.errors import StudyError
from recsys_core.files import atomic_path
from recsys_core.protocols import PROTOCOLS
from recsys_core.releases.own import N_TO_BE_ASKED, has_times

LEAST_USERS = 2  # with ratings enough to be tested
CHOICE = "54_choice"  # the chapter that writes the report
COMMON_NAMES = ("ratings", "data", "export", "interactions", "train")  # of files, which say nothing of what is in them
LACKING = {
    "size": f"from {MANY_ROWS:,} ratings on a chapter that fits a model many times may take days (`make rerun NOTEBOOK=` runs one)",
    "genres": "there is no table of films with genres: give one with MOVIES=",
    "dates": "no table of films with release dates is known",
    "users": "there is no table of users: give one with USERS=",
    "stars": "ratings are no opinions, or all the same",
    "times": "the ratings have no times",
}
ELSEWHERE = "they reproduce or compare what was measured on MovieLens"
BESIDE = {"movies": ("movies.csv", "items.csv"), "users": ("users.csv",)}


@dataclass(frozen=True)
class Given:
    """What the user asked for: files, and how much is to be tried (`tune`: trials a model, 0 for none)."""

    dataset: str
    movies: str = ""
    users: str = ""
    quick: bool = False
    tune: int = 0


def run_own(root: Path, given: Given, jobs_at_once: int, executor: Executor = LOCAL) -> Path:
    """Run the study on own ratings, its chapters where `executor` runs them, and return its report, a path below `root`.

    Raises:
        StudyError: what cannot be read, and what failed.
    """
    files = files_of(given)
    name = name_of(root, files["ratings"])
    folder = root / RUNS / name
    data = described(folder, files)
    print(*data.notes, sep="\n", flush=True)
    n_users = int((data.ratings["user_id"].value_counts() >= N_TO_BE_ASKED).sum())
    if n_users < LEAST_USERS:
        raise StudyError(
            f"In {given.dataset} {n_users or 'no'} user{'s' * (n_users != 1)} with {N_TO_BE_ASKED} ratings or more can be tested, "
            f"and models learn from what people have in common: a comparison needs {LEAST_USERS} of them at least."
        )
    write_if_changed(folder / FILES_SHA256, digest_of(files))
    profile = profile_of(Study(root), data, given, str(folder / f"{name}.yaml"))
    write_if_changed(folder / OWN, yaml.safe_dump(profile, sort_keys=False))
    study = Study(root)
    for why in dict.fromkeys(profile["left_out"].values()):
        chapters = [chapter for chapter, reason in profile["left_out"].items() if reason == why]
        print(f"left out, since {why}: {', '.join(chapters)}", flush=True)
    if given.tune:
        search(study, name, given.tune, jobs_at_once, data.explicit)
    run_profile(study, name, jobs_at_once, executor=executor)
    return RUNS / name / "report.html"


def described(folder: Path, files: dict[str, Path]) -> MovieLens:
    """The data, after writing into their folder where they are; of files that cannot be read nothing stays.

    Raises StudyError for these.
    """
    is_new, description = not folder.exists(), folder / f"{folder.name}.yaml"
    with atomic_path(description) as path:
        path.write_text(yaml.safe_dump({key: str(file) for key, file in files.items()}), encoding="utf-8")
    try:
        return load(description)
    except StudyError:
        if is_new:
            shutil.rmtree(folder)
        raise


def files_of(given: Given) -> dict[str, Path]:
    """The files by what they hold, with absolute paths; of films and users those that lie beside the ratings under usual names.

    Raises StudyError for a file that is not there.
    """
    found = {"ratings": Path(given.dataset).expanduser().resolve()}
    for table, text in (("movies", given.movies), ("users", given.users)):
        beside = [each for name in BESIDE[table] if (each := found["ratings"].parent / name).is_file()]
        if text or beside:
            found[table] = Path(text).expanduser().resolve() if text else beside[0]
    for table, path in found.items():
        if not path.is_file():
            word = "DATASET" if table == "ratings" else table.upper()
            raise StudyError(f"{word}={path} is not a file; check the path.")
    return found


def name_of(root: Path, ratings: Path) -> str:
    """What the folder of a file of ratings is called: as the file, with its folder where the name is common or taken."""
    stem = ratings.name.split(".")[0]
    plain = [ratings.parent.name] if stem.lower() in COMMON_NAMES and ratings.parent.name else [stem]
    longer = [f"{ratings.parent.name}-{stem}", f"{stem}-{hashlib.sha256(str(ratings).encode()).hexdigest()[:8]}"]
    reserved = Study(root).profiles
    for name in ["".join(c if c.isalnum() or c in "-_." else "_" for c in each) for each in (*plain, *longer)]:
        described = root / RUNS / name / f"{name}.yaml"
        if described.is_file():
            if yaml.safe_load(described.read_text(encoding="utf-8"))["ratings"] == str(ratings):
                return name
        elif name not in reserved and not (root / RUNS / name).exists():
            return name
    return f"ratings-{hashlib.sha256(str(ratings).encode()).hexdigest()[:12]}"


def digest_of(files: dict[str, Path]) -> str:
    """SHA-256 of what the files hold, and of what stands beside the ratings on how to read them."""
    total = hashlib.sha256()
    for path in (*files.values(), files["ratings"].with_name(f"{files['ratings'].name}.yaml")):
        if path.is_file():
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest() + "\n"


def profile_of(study: Study, data: MovieLens, given: Given, dataset: str) -> dict[str, Any]:
    """What runs on these data, which chapters are left out and why, and with which settings."""
    like = "own-quick" if given.quick else "own"
    needs: dict[str, list[str]] = study.profiles[like]["needs"]
    has = {
        "genres": data.movies is not None and bool((data.movies["genres"] != "").any()),
        "dates": data.movies is not None and "release_date" in data.movies,
        "users": data.users is not None,
        "stars": data.explicit,
        "times": has_times(data.ratings),
        "size": len(data.ratings) < MANY_ROWS,
    }
    lacking = {name: [need for need in needs[name] if not has[need]] for name in needs}
    left_out = {name: LACKING[missing[0]] for name, missing in lacking.items() if missing}
    if not given.quick:
        left_out |= {name: ELSEWHERE for name in study.notebooks if name not in needs}
    profile = {"like": like, "dataset": dataset, "runs": [name for name in needs if not lacking[name]]}
    chapters = {name: dict(values) for name, values in study.profiles[like].get("notebooks", {}).items()}
    for name in () if data.explicit else profile["runs"]:
        if protocols := (study.defaults(name) | chapters.get(name, {})).get("protocols", []):
            chapters[name] = chapters.get(name, {}) | {
                "protocols": [each for each in protocols if PROTOCOLS[each].ranking]
            }
    if given.tune:
        chapters[CHOICE] = chapters.get(CHOICE, {}) | {"settings": TUNED}
    return profile | {"notebooks": chapters, "left_out": left_out}


def search(study: Study, name: str, trials: int, jobs_at_once: int, explicit: bool) -> None:
    """Search settings of the models that the chapter compares, on its validation rows; what is stored is not searched again.

    Where ratings are not `explicit`, there is nothing that models of ratings could be searched by, and the chapter leaves them out.
    Raises StudyError where the search fails.
    """
    parameters = study.defaults(CHOICE) | study.overrides(name, CHOICE)
    from recsys_core.models.registry import SEARCHES

    searched = {model: SEARCHES[model].kind.traits for model in parameters["models"] if model in SEARCHES}
    models = [model for model, traits in searched.items() if explicit or not traits.predicts_ratings]
    folder = study.root / RUNS / name
    options = [f"--{each}={parameters[each]}" for each in ("dataset", "protocol")]
    options += [f"--root={folder}", f"--trials={trials}", f"--jobs={jobs_at_once}"]
    with alone(study.root):
        command = [sys.executable, "-m", "pipeline.bench.tune", *options, *models]
        if subprocess.run(command, cwd=study.root, env=child_environment(study.root), check=False).returncode:
            raise StudyError(f"The search on {name} failed; the lines above say why, and the same command goes on.")
