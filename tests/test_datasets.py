import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pandas as pd
import pytest
from small_releases import CSV, FILES, GENOME, full_disk, write_release

from recsys_core import datasets
from recsys_core.errors import StudyError
from recsys_core.releases import cache, sources
from recsys_core.releases.formats import GENRES_100K

DATA, PUBLISHED = sources.DATA, dict(sources.RELEASES)
ML_100K_SHA256 = "c8a6473b863dd6e525259f6caa466c4a5fa9873f885663cc34977e84293e024b"
# Of the files as GroupLens publishes them.
PUBLISHED_SHA256 = {
    "u.data": "06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
    "u.item": "553841ebc7de3a0fd0d6b62a204ea30c1e651aacfb2814c7a6584ac52f2c5701",
    "u.user": "f120e114da2e8cf314fd28f99417c94ae9ddf1cb6db8ce0e4b5995d40e90e62c",
}
OWN = "user_id,item_id,rating,timestamp\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project without data, where no source can be reached."""
    monkeypatch.setattr(sources, "DATA", tmp_path / "data")
    monkeypatch.delenv("RECSYS_DATA", raising=False)
    monkeypatch.setattr(sources, "_download", unreachable)
    monkeypatch.setattr(sources, "_from_package_index", unreachable)
    for name, release in sources.RELEASES.items():
        # The small releases are not the published ones.
        small = replace(release, downloads=dict.fromkeys(release.downloads), tables_sha256=None)
        monkeypatch.setitem(sources.RELEASES, name, small)
    return tmp_path


def unreachable(release, scratch):
    raise StudyError("no network")


@pytest.fixture(scope="module")
def ml_100k():
    if not (DATA / "cache" / "ml-100k" / "meta.json").exists():
        pytest.skip("ml-100k is not in the cache: `make study` fetches it")
    return datasets.load("ml-100k")


def local(name):
    """Load a published set whose files cannot be fetched everywhere, or skip with the reason."""
    release = sources.RELEASES[name]
    if sources.find_local(release)[0] is None:
        pytest.skip(f"{name} is not in a local folder (RECSYS_DATA)")
    return datasets.load(name)


def frames(data):
    tables = {"ratings": data.ratings, "movies": data.movies, "users": data.users, "tags": data.tags}
    return {name: frame for name, frame in tables.items() if frame is not None}


def write_100k(folder, data):
    """Write a data set in GroupLens's own format: tabs, bars, Latin-1."""
    folder.mkdir(parents=True)
    ratings = data.ratings.astype({"rating": "int64"})
    ratings.to_csv(folder / "u.data", sep="\t", header=False, index=False)
    data.users.to_csv(folder / "u.user", sep="|", header=False, index=False)
    columns = ["item_id", "title", "release_date", "video_release_date", "imdb_url"]
    flags = pd.DataFrame({genre: [genre in g.split("|") for g in data.movies["genres"]] for genre in GENRES_100K})
    rows = pd.concat([data.movies[columns].astype("str").fillna(""), flags.astype("int64")], axis=1)
    text = "".join("|".join(map(str, row)) + "\n" for row in rows.itertuples(index=False))
    (folder / "u.item").write_bytes(text.encode("latin-1"))


def test_ml_100k_has_its_published_size_first_row_and_distribution(ml_100k):
    ratings = ml_100k.ratings
    assert (len(ratings), ratings["user_id"].nunique(), ratings["item_id"].nunique()) == (100_000, 943, 1_682)
    assert ratings.iloc[0].tolist() == [196, 242, 3, 881250949]
    assert ratings["rating"].value_counts().sort_index().tolist() == [6_110, 11_370, 27_145, 34_174, 21_201]
    assert (ml_100k.rating_scale, ml_100k.explicit, ml_100k.benchmark, ml_100k.tags) == ((1, 5), True, None, None)
    assert (ratings["item_id"].value_counts() < 5).sum() == 333


def test_ml_100k_movies_have_their_known_gaps_and_repeats(ml_100k):
    movies = ml_100k.movies
    assert len(movies) == 1_682
    assert movies["release_date"].isna().sum() == 1
    assert movies["video_release_date"].isna().all()
    assert len(movies.dropna()) == 0
    assert movies["title"].duplicated().sum() == 18
    genres = movies["genres"].str.split("|")
    assert set(genres.explode()) == set(GENRES_100K)
    assert (genres.str.len() > 0).all() and (movies["genres"] == "unknown").sum() == 2
    assert movies.loc[movies["year"].isna(), "title"].tolist() == ["unknown"]
    assert movies["year"].agg(["min", "max"]).tolist() == [1922, 1998]


def test_ml_100k_users_are_complete(ml_100k):
    users = ml_100k.users
    assert users.notna().all(axis=None) and len(users) == 943
    assert users["gender"].value_counts().to_dict() == {"M": 670, "F": 273}
    assert users["occupation"].nunique() == 21


def test_ml_100k_has_the_same_values_from_every_source(ml_100k, project):
    assert ml_100k.sha256 == cache.frames_sha256(frames(ml_100k)) == ML_100K_SHA256
    folder = project / "data" / "ml-100k"
    write_100k(folder, ml_100k)
    for file, expected in PUBLISHED_SHA256.items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == expected, file
    again = datasets.load("ml-100k")
    assert (again.source, again.sha256) == ("local folder", ML_100K_SHA256)
    for name, frame in frames(ml_100k).items():
        pd.testing.assert_frame_equal(frames(again)[name], frame)


def test_a_folder_named_ml_100k_that_holds_other_data_is_refused(ml_100k, project, monkeypatch):
    monkeypatch.setitem(sources.RELEASES, "ml-100k", PUBLISHED["ml-100k"])
    folder = project / "data" / "ml-100k"
    write_100k(folder, replace(ml_100k, ratings=ml_100k.ratings.sort_values("user_id", kind="stable")))
    with pytest.raises(
        StudyError, match=rf"ml-100k is not as published, its sha256 is \w+ instead of {ML_100K_SHA256}"
    ):
        datasets.load("ml-100k")
    assert list((project / "data" / "cache").iterdir()) == []


def test_a_local_benchmark_file_that_is_not_the_published_one_is_refused(project, monkeypatch):
    monkeypatch.setitem(sources.RELEASES, "ncf-ml-1m", PUBLISHED["ncf-ml-1m"])
    folder = write_release("ncf-ml-1m", project / "data" / "ncf-ml-1m")
    with pytest.raises(StudyError, match=r"ncf-ml-1m/ml-1m.test.rating is not as published, its sha256 is \w+ instead"):
        datasets.load("ncf-ml-1m")
    assert sorted(file.name for file in folder.iterdir()) == sorted(PUBLISHED["ncf-ml-1m"].files)


def test_an_own_file_never_takes_the_name_of_a_published_set(project):
    path = project / "ml-100k.csv"
    path.write_text(OWN + "ann,x,3,4\n")
    assert datasets.load(path).name == "ml-100k (own file)"


def test_ml_latest_small_has_half_stars_and_tags():
    data = local("ml-latest-small")
    assert data.rating_scale == (0.5, 5) and data.explicit and data.users is None
    assert set(data.ratings["rating"]) == {step / 2 for step in range(1, 11)}
    assert set(data.ratings["item_id"]) <= set(data.movies["item_id"])
    assert set(data.tags["item_id"]) <= set(data.movies["item_id"]) and data.tags["tag"].notna().all()


def test_ncf_benchmark_has_its_published_size_and_negatives_per_user():
    data = local("ncf-ml-1m")
    ratings, benchmark = data.ratings, data.benchmark
    assert len(ratings) == 1_000_209 and benchmark.test.sum() == ratings["user_id"].nunique() == 6_040
    assert ratings["item_id"].nunique() == 3_706 and benchmark.negatives.shape == (6_040, 99)
    held_out = ratings[benchmark.test].sort_values("user_id")
    assert held_out["user_id"].tolist() == list(range(6_040))
    # A flaw of the published file: some users have their held-out item among the negatives.
    assert (benchmark.negatives == held_out["item_id"].to_numpy()[:, None]).any(axis=1).sum() == 156


def test_sasrec_benchmark_has_its_published_size():
    data = local("sasrec-ml-1m")
    assert (len(data.ratings), data.ratings["user_id"].nunique(), data.ratings["item_id"].nunique()) == (
        999_611,
        6_040,
        3_416,
    )
    assert not data.explicit
    assert data.ratings.groupby("user_id")["timestamp"].max().sum() == 999_611 - 6_040


@pytest.mark.parametrize("name", FILES)
def test_a_cached_data_set_equals_the_one_that_was_parsed(name, project, monkeypatch):
    write_release(name, project / "data" / name)
    parsed = datasets.load(name)
    monkeypatch.setattr(cache, "_build_cache", None)
    cached = datasets.load(name)
    assert cached.sha256 == parsed.sha256 and cached.source == parsed.source == "local folder"
    assert frames(cached).keys() == frames(parsed).keys()
    for table, frame in frames(parsed).items():
        pd.testing.assert_frame_equal(frames(cached)[table], frame)


def test_ratings_that_are_all_one_are_no_opinion(project):
    write_release("ncf-ml-1m", project / "data" / "ncf-ml-1m")
    assert datasets.load("ncf-ml-1m").explicit
    without = "0\t5\t1\t0\n0\t6\t1\t1\n1\t5\t1\t0\n"
    write_release("ncf-ml-1m", project / "data" / "ncf-ml-1m", ml_1m_train_rating=without)
    data = datasets.load("ncf-ml-1m")
    assert not data.explicit
    assert data.benchmark.test.tolist() == [False, False, False, True, True]
    assert "held_out" not in data.ratings


def test_own_ratings_that_are_all_the_same_are_no_opinion(project):
    path = project / "mine.csv"
    path.write_text(OWN + "1,2,5,40\n1,3,5,5\n")
    assert not datasets.load(path).explicit
    path.write_text(OWN + "1,2,5,40\n1,3,4.5,5\n")
    assert datasets.load(path).explicit


def test_a_cache_of_other_files_is_not_used(project):
    folder = write_release("ml-1m", project / "data" / "ml-1m")
    first = datasets.load("ml-1m")
    write_release("ml-1m", folder, ratings_dat="1::10::2::978300760\n")
    assert len(datasets.load("ml-1m").ratings) == 1 != len(first.ratings)


def test_a_cache_of_vanished_files_or_another_version_is_not_used(project, monkeypatch):
    folder = write_release("ml-1m", project / "data" / "ml-1m")
    datasets.load("ml-1m")
    monkeypatch.setattr(cache, "CACHE_FORMAT", 0)
    datasets.load("ml-1m")
    assert json.loads((project / "data" / "cache" / "ml-1m" / "meta.json").read_text())["format"] == 0
    (folder / "users.dat").unlink()
    with pytest.raises(StudyError, match=r"lacks users\.dat"):
        datasets.load("ml-1m")


def test_a_cache_of_a_download_needs_no_source(project, monkeypatch):
    folder = write_release("ml-1m", project / "elsewhere")
    release = sources.RELEASES["ml-1m"]
    monkeypatch.setattr(
        sources, "_download", lambda *_: sources.Found(folder, "GroupLens", release.read, {"url": "hash"})
    )
    first = datasets.load("ml-1m")
    monkeypatch.setattr(sources, "_download", unreachable)
    assert datasets.load("ml-1m").sha256 == first.sha256
    assert first.source == "GroupLens"


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("ratings.parquet", "one bit"),
        ("ratings.parquet", "shortened"),
        ("movies.parquet", "gone"),
        ("meta.json", "shortened"),
        ("meta.json", "gone"),
    ],
)
def test_a_damaged_cache_is_rebuilt(project, file, damage):
    write_release("ml-1m", project / "data" / "ml-1m")
    first = datasets.load("ml-1m")
    path = project / "data" / "cache" / "ml-1m" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(bytes(content) if damage == "one bit" else path.read_bytes()[:-9])
    again = datasets.load("ml-1m")
    assert again.sha256 == first.sha256 == cache.frames_sha256(frames(again))


def test_a_failed_load_leaves_nothing_behind(project):
    write_release("ml-1m", project / "data" / "ml-1m", movies_dat="x")
    with pytest.raises(StudyError, match=r"movies.dat, line 1"):
        datasets.load("ml-1m")
    assert list((project / "data" / "cache").iterdir()) == []


def test_a_killed_conversion_leaves_no_cache_and_the_next_load_cleans_up(project):
    folder = write_release("ml-1m", project / "data" / "ml-1m")
    program = (
        "import time, pandas as pd; from pathlib import Path\n"
        "from recsys_core import datasets; from recsys_core.releases import sources\n"
        f"sources.DATA = Path({str(project / 'data')!r})\n"
        "write = pd.DataFrame.to_parquet\n"
        "pd.DataFrame.to_parquet = lambda *a, **k: (write(*a, **k), print('half', flush=True), time.sleep(60))\n"
        "datasets.load('ml-1m')"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "half\n"
        process.send_signal(signal.SIGKILL)
    cache = project / "data" / "cache"
    assert [path.name.split("-")[0] for path in cache.iterdir()] == [".building"]
    assert len(datasets.load("ml-1m").ratings) == 2
    assert [path.name for path in cache.iterdir()] == ["ml-1m"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(sources.RELEASES["ml-1m"].files)


def test_several_loads_may_build_the_same_cache_at_once(project):
    write_release("ml-1m", project / "data" / "ml-1m")
    expected = datasets.load("ml-1m").sha256
    failures = []

    def rebuild():
        for _ in range(5):
            (project / "data" / "cache" / "ml-1m" / "meta.json").unlink(missing_ok=True)
            data = datasets.load("ml-1m")
            if data.sha256 != expected or cache.frames_sha256(frames(data)) != expected:
                failures.append(data)

    threads = [threading.Thread(target=rebuild) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert datasets.load("ml-1m").sha256 == expected


def test_a_cache_that_cannot_be_written_is_named(project):
    write_release("ml-1m", project / "data" / "ml-1m")
    (project / "data" / "cache").write_text("a file where a folder is needed")
    with pytest.raises(StudyError, match=r"The cache .*ml-1m cannot be written .*; free space, make it writable"):
        datasets.load("ml-1m")


def test_a_disk_that_is_full_while_caching_is_named_and_leaves_the_cache_as_it_was(project):
    folder = write_release("ml-1m", project / "data" / "ml-1m")
    with full_disk(), pytest.raises(StudyError, match=r"ml-1m cannot be written \(.*File too large.*\); free space"):
        datasets.load("ml-1m")
    cached = project / "data" / "cache"
    assert list(cached.iterdir()) == []
    datasets.load("ml-1m")
    before = {file.name: file.read_bytes() for file in (cached / "ml-1m").iterdir()}
    write_release("ml-1m", folder, ratings_dat="1::10::2::978300760\n")
    with full_disk(), pytest.raises(StudyError, match="free space"):
        datasets.load("ml-1m")
    assert {file.name: file.read_bytes() for file in (cached / "ml-1m").iterdir()} == before
    assert [path.name for path in cached.iterdir()] == ["ml-1m"]


@pytest.mark.parametrize("file", ["meta.json", "ratings.parquet"])
def test_a_folder_in_the_place_of_a_cached_file_is_named_with_the_command_that_mends_it(project, file):
    write_release("ml-1m", project / "data" / "ml-1m")
    folder = project / "data" / "cache" / "ml-1m"
    (folder / file / "x").mkdir(parents=True)
    with pytest.raises(StudyError, match=rf"cannot be written .* or run: rm -r {folder}$"):
        datasets.load("ml-1m")
    shutil.rmtree(folder)
    assert datasets.load("ml-1m").source == "local folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write and read everything")
def test_folders_and_files_without_permission_are_named(project):
    folder = write_release("ml-1m", project / "data" / "ml-1m")
    (project / "data").chmod(0o500)
    with pytest.raises(StudyError, match=r"cannot be written .*Permission denied.*make it writable"):
        datasets.load("ml-1m")
    (project / "data").chmod(0o700)
    (folder / "users.dat").chmod(0)
    with pytest.raises(StudyError, match=r"users.dat cannot be read \(Permission denied\)"):
        datasets.load("ml-1m")


def test_a_local_file_that_cannot_be_read_is_named_as_such(project, monkeypatch):
    write_release("ml-1m", project / "data" / "ml-1m")
    opened = type(project).open

    def refusing(path, *arguments, **options):
        if path.name == "users.dat":
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(type(project), "open", refusing)
    with pytest.raises(StudyError, match=r"users.dat cannot be read \(Permission denied\); check its permissions"):
        datasets.load("ml-1m")


def test_of_several_valid_versions_the_one_found_is_named(project, monkeypatch, caplog):
    write_release("ml-latest-small", project / "data" / "ml-latest-small")
    release = sources.RELEASES["ml-latest-small"]
    with caplog.at_level("INFO"):
        sha256 = datasets.load("ml-latest-small").sha256
    (record,) = [record for record in caplog.records if sha256 in record.getMessage()]
    assert record.levelname == "WARNING" and "a version that was not seen" in record.getMessage()
    caplog.clear()
    monkeypatch.setitem(sources.RELEASES, "ml-latest-small", replace(release, versions={sha256: "the small one"}))
    shutil.rmtree(project / "data" / "cache")
    with caplog.at_level("INFO"):
        datasets.load("ml-latest-small")
    (record,) = [record for record in caplog.records if sha256 in record.getMessage()]
    assert record.levelname == "INFO" and "the small one" in record.getMessage()


@pytest.mark.parametrize("name", ["ml-latest-small", "ncf-ml-1m", "sasrec-ml-1m"])
def test_the_copies_seen_are_those_that_are_recorded(name):
    data, release = local(name), PUBLISHED[name]
    assert data.sha256 in {release.tables_sha256, *release.versions}


def test_a_published_set_with_repeated_rows_is_refused(project):
    twice = "1::10::5::1\n1::10::4::2\n1::30::4::2\n"
    write_release("ml-1m", project / "data" / "ml-1m", ratings_dat=twice)
    with pytest.raises(StudyError, match=r"ml-1m: 1 rows repeat the user_id and item_id .*first: 1, 10"):
        datasets.load("ml-1m")


def test_the_tag_genome_is_loaded_on_demand_and_cached(project, monkeypatch):
    write_release("ml-20m", project / "data" / "ml-20m")
    scores, tags = datasets.load_genome("ml-20m")
    assert scores.to_numpy().tolist() == [[10, 1, 0.025], [10, 2, 0.9]]
    assert tags["tag"].tolist() == ["007", "space"]
    with monkeypatch.context() as patched:
        patched.setattr(cache, "_build_cache", None)
        pd.testing.assert_frame_equal(datasets.load_genome("ml-20m")[0], scores)
    with pytest.raises(StudyError, match="'ml-100k' has no tag genome; data sets with one: ml-20m, ml-25m"):
        datasets.load_genome("ml-100k")
    for file in GENOME:
        (project / "data" / "ml-20m" / file).unlink()
    assert len(datasets.load("ml-20m").ratings) == CSV["ratings.csv"].count("\n") - 1


@pytest.mark.parametrize("content", ["[]", "3", '{"format": 1}', "[" * 10**5, "{}", '{"tables": []}', "\x00"])
@pytest.mark.parametrize("local", [True, False])
def test_a_meta_file_of_other_types_is_built_anew_or_named(project, content, local):
    folder = write_release("ml-1m", project / "data" / "ml-1m")
    first = datasets.load("ml-1m")
    (project / "data" / "cache" / "ml-1m" / "meta.json").write_text(content)
    if local:
        assert datasets.load("ml-1m").sha256 == first.sha256
    else:
        (folder / "users.dat").unlink()
        with pytest.raises(StudyError, match=r"cache .*ml-1m cannot be used \(.*lacks users\.dat"):
            datasets.load("ml-1m")


@pytest.mark.parametrize("changed", ["source", "sha256", "tables"])
def test_every_entry_of_a_meta_file_is_needed_and_checked(project, changed):
    write_release("ml-1m", project / "data" / "ml-1m")
    first = datasets.load("ml-1m")
    path = project / "data" / "cache" / "ml-1m" / "meta.json"
    meta = json.loads(path.read_text())
    for other in ({}, {changed: None}, {changed: [["ratings"]]}, {changed: {"../x": "y"}}):
        path.write_text(json.dumps({key: value for key, value in meta.items() if key != changed} | other))
        data = datasets.load("ml-1m")
        assert (data.source, data.sha256) == ("local folder", first.sha256)
        assert json.loads(path.read_text()) == meta


def test_a_cache_that_somebody_else_wrote_passes_the_checks_of_a_file(project):
    write_release("ml-1m", project / "data" / "ml-1m")
    first = datasets.load("ml-1m")
    folder = project / "data" / "cache" / "ml-1m"
    meta = json.loads((folder / "meta.json").read_text())
    ratings = pd.read_parquet(folder / "ratings.parquet")
    for foreign in (ratings.assign(rating=1.5e9), ratings[["item_id", "user_id", "rating", "timestamp"]], ratings[:0]):
        content = foreign.to_parquet(index=False)
        (folder / "ratings.parquet").write_bytes(content)
        hashes = meta["tables"] | {"ratings": hashlib.sha256(content).hexdigest()}
        (folder / "meta.json").write_text(json.dumps(meta | {"tables": hashes}))
        assert datasets.load("ml-1m").sha256 == first.sha256
        assert json.loads((folder / "meta.json").read_text()) == meta


def test_an_own_parquet_file_loads_by_path_and_is_checked_by_name(project):
    path = project / "mine.parquet"
    frame = pd.DataFrame({"item_id": [7, 7], "user_id": [1, 2], "timestamp": [3, 4], "rating": [2.0, 3.0]})
    frame.to_parquet(path)
    data = datasets.load(path)
    assert data.ratings.to_dict("list") == {"user_id": [1, 2], "item_id": [7, 7], "rating": [2, 3], "timestamp": [3, 4]}
    assert data.sha256 == datasets.load(str(path)).sha256
    frame.assign(user_id=1).to_parquet(path)
    with pytest.raises(StudyError, match=r"mine.parquet, row 2: user_id '1' has a rating of '7' already"):
        datasets.load(path)


@pytest.mark.parametrize("name", ["", ".", "~", "\0", "x" * 300, "ml-100k/", None, 3])
def test_what_names_no_data_and_no_file_is_refused(name):
    with pytest.raises(StudyError, match=r"Unknown data set .*: use ml-100k, ml-1m, "):
        datasets.load(name)


@pytest.mark.parametrize("name", ["gone.parquet", "some/gone", "x" * 300 + ".csv"])
def test_a_text_that_looks_like_a_path_is_taken_for_one(name):
    with pytest.raises(StudyError, match=f"{name} is not a file; check the path"):
        datasets.load(name)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(StudyError, match=r"Unknown data set 'ml-100': use ml-100k, ml-1m, .*sasrec-ml-1m, or the path"):
        datasets.load("ml-100")


def test_own_files_load_by_path_without_a_cache(project):
    path = project / "mine.csv"
    path.write_text(OWN + "ann,x,3,4\nbob,x,4,5\n")
    (project / "films.csv").write_text("item_id,title,genres\nx,X (1999),Drama\n")
    data = datasets.load(path, movies=project / "films.csv")
    assert (data.name, data.source, data.rating_scale, data.explicit) == ("mine", "own file", (1, 5), True)
    assert data.ratings["user_id"].tolist() == ["ann", "bob"] and data.movies["year"].tolist() == [1999]
    assert datasets.load(str(path)).sha256 != data.sha256 == cache.frames_sha256(frames(data))
    path.write_text(OWN + "ann,x,3.5,4\nbob,x,4,5\n")
    assert datasets.load(path).rating_scale == (0.5, 5)
    assert not (project / "data").exists()


def test_repeated_own_pairs_are_counted_and_refused_unless_told_which_to_keep(project):
    path = project / "mine.csv"
    path.write_text(OWN + "1,2,3,40\n1,3,4,5\n1,2,5,10\n1,2,1,20\n")
    with pytest.raises(
        StudyError, match=r"mine.csv, line 4: user_id '1' .* of another one: 2\); write keep: first, last or mean"
    ):
        datasets.load(path)
    assert datasets.load(path, keep="first").ratings["rating"].tolist() == [3, 4]
    assert datasets.load(path, keep="last").ratings["rating"].tolist() == [4, 1]
    with pytest.raises(StudyError, match="keep='best' is not known: allowed are None, first, last"):
        datasets.load(path, keep="best")
    with pytest.raises(StudyError, match="keep=\\['first'\\] is not known"):
        datasets.load(path, keep=["first"])


def test_arguments_for_own_files_are_refused_for_a_known_name():
    with pytest.raises(StudyError, match="movies, users, keep and columns are for own files"):
        datasets.load("ml-100k", keep="first")


def test_a_missing_own_file_is_named(project):
    with pytest.raises(StudyError, match=r"gone.csv is not a file; check the path"):
        datasets.load(project / "gone.csv")


@pytest.mark.parametrize(
    "change",
    [
        {"number": [1.0, 3.0]},
        {"whole": [2, 1]},
        {"text": ["ab", "c"]},
        {"text": ["a", None]},
        {"year": [1990, pd.NA]},
    ],
)
def test_the_hash_of_frames_changes_with_any_value(change):
    columns = {"number": [1.0, 2.0], "whole": [1, 2], "text": ["a", "bc"], "year": [1990, 1991]}

    def digest(values):
        frame = pd.DataFrame({**values, "year": pd.array(values["year"], dtype="Int64")})
        return cache.frames_sha256({"table": frame.astype({"text": "str"})})

    assert digest(columns) == digest(columns) != digest({**columns, **change})
