import pandas as pd
import pytest
from small_releases import FILES, NEGATIVES, write_release

from recsys_core.errors import StudyError
from recsys_core.releases import formats
from recsys_core.releases.own import read_own as read_own_files
from recsys_core.releases.sources import RELEASES

OWN = "user_id,item_id,rating,timestamp\n"


def read(name, folder, **changed):
    release = RELEASES[name]
    return release.read(write_release(name, folder, **changed), release.scale)


def read_own(tmp_path, ratings, movies=None, users=None):
    paths = []
    for file, content in (("ratings.csv", ratings), ("movies.csv", movies), ("users.csv", users)):
        path = tmp_path / file
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        paths.append(None if content is None else path)
    return read_own_files(*paths)[0]


@pytest.mark.parametrize("name", FILES)
def test_ratings_have_the_same_columns_and_types_in_every_format(name, tmp_path):
    ratings = read(name, tmp_path / "in")["ratings"]
    types = {"user_id": "int64", "item_id": "int64", "rating": "float64", "timestamp": "int64"}
    assert ratings.dtypes.astype(str).to_dict() == types | ({"held_out": "bool"} if name == "ncf-ml-1m" else {})


def test_ml_100k_keeps_row_order_latin_1_text_and_missing_values(tmp_path):
    tables = read("ml-100k", tmp_path)
    assert tables["ratings"].to_numpy().tolist() == [[2, 10, 3, 100], [1, 10, 5, 50], [2, 30, 1, 60]]
    movies = tables["movies"]
    assert movies["title"].tolist() == ["Cité, La (1995)", "unknown"]
    assert movies["year"].tolist() == [1995, pd.NA]
    assert movies["genres"].tolist() == ["Comedy|Drama", ""]
    assert movies["release_date"].isna().tolist() == movies["imdb_url"].isna().tolist() == [False, True]
    assert movies["video_release_date"].isna().all()
    assert tables["users"].to_numpy().tolist() == [
        [1, 24, "M", "technician", "85711"],
        [2, 53, "F", "other", "T8H1N"],
    ]


def test_ml_1m_translates_occupations_and_keeps_the_lower_bound_of_an_age_group(tmp_path):
    tables = read("ml-1m", tmp_path)
    assert tables["users"].to_numpy().tolist() == [
        [1, 1, "F", "K-12 student", "48067"],
        [2, 56, "M", "self-employed", "70072-1"],
    ]
    assert tables["movies"]["title"].tolist() == ["Star Wars: Été (1977)", "Other (V) (1999)"]
    assert tables["movies"]["year"].tolist() == [1977, 1999]


def test_ml_10m_reads_half_stars_utf_8_and_tags_with_colons_and_quotes(tmp_path):
    tables = read("ml-10m", tmp_path)
    assert tables["ratings"]["rating"].tolist() == [5, 4.5]
    assert tables["movies"]["title"][0] == "Été: a film (1992)"
    assert tables["tags"].to_numpy().tolist() == [[1, 122, 'an "odd: tag', 1215184630]]


def test_csv_releases_read_quotes_and_the_literal_text_na_and_sort_genres(tmp_path):
    tables = read("ml-20m", tmp_path)
    assert tables["tags"]["tag"].tolist() == ['he said "NA"', "NA"]
    movies = tables["movies"]
    assert movies["title"].tolist() == ["Cité, La (1995)", "Series (2006–2007)", "No Year"]
    assert movies["year"].tolist() == [1995, 2006, pd.NA]
    assert movies["genres"].tolist() == ["Action|Drama", "", "Comedy"]


def test_ncf_negatives_are_ordered_by_user_and_test_rows_follow_training(tmp_path):
    tables = read("ncf-ml-1m", tmp_path)
    assert tables["ratings"]["held_out"].tolist() == [False, False, False, True, True]
    assert tables["ratings"]["user_id"].tolist() == [0, 0, 1, 1, 0]
    assert tables["negatives"].shape == (2, 99)
    assert tables["negatives"].iloc[:, 0].tolist() == [200, 100]


def test_ncf_refuses_negatives_that_belong_to_other_held_out_rows(tmp_path):
    with pytest.raises(StudyError, match=r"ml-1m.test.negative must hold the same pairs"):
        read("ncf-ml-1m", tmp_path, ml_1m_test_negative=f"(1,7)\t{NEGATIVES}\n(0,9)\t{NEGATIVES}\n")


def test_sasrec_rows_get_positions_as_time(tmp_path):
    assert read("sasrec-ml-1m", tmp_path)["ratings"].to_numpy().tolist() == [[1, 4, 1, 0], [1, 9, 1, 1], [2, 4, 1, 0]]


@pytest.mark.parametrize(
    ("name", "file", "content", "said"),
    [
        ("ml-100k", "u.data", "1\t2\t3\t4\n1\t2\tx\t4\n", r"u.data, line 2: rating 'x' is not a number"),
        ("ml-100k", "u.data", "1\t2\t6\t4\n", r"line 1: rating '6' is outside the scale 1 to 5"),
        ("ml-100k", "u.user", "1|24|X|artist|1\n", r"u.user, line 1: gender 'X' is none of F, M"),
        ("ml-100k", "u.item", "1|a|b\n", r"u.item, line 1: '1\|a\|b' has 3 instead of 24 values"),
        ("ml-1m", "ratings.dat", "1::2::3::4\n1::2::3\n", r"ratings.dat, line 2: '1::2::3' has 3 instead of 4"),
        ("ml-1m", "users.dat", "1::F::1::21::4\n", r"users.dat, line 1: occupation_code '21' is none of 0, 1,"),
        ("ml-1m", "movies.dat", "x::T::Drama\n", r"movies.dat, line 1: item_id 'x' is not a whole number"),
        ("ml-10m", "movies.dat", b"1::\xe9::Drama\n", r"movies.dat is not utf-8 text"),
        ("ml-20m", "ratings.csv", "userId,movieId,rating\n1,2,3\n", r"ratings.csv has no column timestamp; its first"),
        ("ml-20m", "tags.csv", "userId,movieId,tag,timestamp\n1,,x,3\n", r"tags.csv, line 2: movieId '' is not a"),
        ("sasrec-ml-1m", "ml-1m.txt", "1 2\n1 b\n", r"ml-1m.txt, line 2: item_id 'b' is not a whole number"),
    ],
)
def test_a_bad_row_of_a_release_is_named_by_file_line_column_and_value(tmp_path, name, file, content, said):
    with pytest.raises(StudyError, match=said):
        read(name, tmp_path, **{file.replace(".", "_").replace("-", "_"): content})


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("users", "1,-20,M,a,1\n", r"users.csv, line 2: age '-20' is outside 0 to 120 years"),
        ("users", "1,20,m,a,1\n", r"users.csv, line 2: gender 'm' is none of F, M"),
        ("users", "1,20,M,a,1\n1,20,M,a,1\n", r"users.csv: user_id 1 occurs twice"),
        ("users", "1.0,20,M,a,1\n", r"users.csv, line 2: user_id '1.0' is not a whole number"),
        ("movies", ",A,Drama\n", r"movies.csv, line 2: item_id '' is not a whole number"),
        ("movies", b"2,\xe9,Drama\n", r"movies.csv is not utf-8 text"),
    ],
)
def test_bad_own_movies_and_users_are_refused_in_one_sentence(tmp_path, file, content, said):
    header = {"users": b"user_id,age,gender,occupation,zip_code\n", "movies": b"item_id,title,genres\n"}[file]
    content = header + (content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StudyError, match=said) as caught:
        read_own(tmp_path, OWN + "1,2,3,4\n", **{file: content})
    assert "\n" not in str(caught.value)


def test_own_movies_may_have_odd_titles_and_genres_and_long_descriptions(tmp_path):
    rows = f'1,A (١٩٩٥),|||,"{"x" * 10**6}"\n2,,,\n3,A (99999),Drama,\n'
    movies = read_own(tmp_path, OWN + "1,2,3,4\n", "item_id,title,genres,plot\n" + rows)["movies"]
    assert movies["year"].isna().all() and movies["title"].isna().tolist() == [False, True, False]


def test_own_movies_and_users_take_the_kind_of_ids_of_the_ratings(tmp_path):
    movies = "item_id,title,genres\n5,A (1990),Drama\n"
    users = "user_id,age,gender,occupation,zip_code\n9,30,F,artist,00501\n"
    tables = read_own(tmp_path, OWN + "9,x,3,4\n9,5,3,4\n", movies, users)
    assert tables["movies"]["item_id"].tolist() == ["5"]
    assert tables["movies"]["year"].tolist() == [1990]
    assert tables["users"].to_numpy().tolist() == [[9, 30, "F", "artist", "00501"]]
    with pytest.raises(StudyError, match=r"movies.csv, line 2: item_id 'b' is not a whole number"):
        read_own(tmp_path, OWN + "9,5,3,4\n", "item_id,title,genres\nb,A,Drama\n")


def test_own_movies_may_not_repeat_an_id(tmp_path):
    with pytest.raises(StudyError, match=r"movies.csv: item_id 5 occurs twice"):
        read_own(tmp_path, OWN + "9,5,3,4\n", "item_id,title,genres\n5,A,Drama\n5,B,Drama\n")


def own_parquet(path, **changed):
    """An own file of ratings as parquet, its columns in another order than CSV's; `changed` replaces columns, None drops one."""
    columns = {"timestamp": [4, 5], "rating": [3.5, 1.0], "item_id": [7, 9], "user_id": [1, 1]} | changed
    frame = pd.DataFrame({name: values for name, values in columns.items() if values is not None})
    frame.to_parquet(path)
    return path


def test_own_movies_and_users_may_be_parquet_and_are_checked_too(tmp_path):
    ratings = own_parquet(tmp_path / "ratings.parquet")
    movies = pd.DataFrame({"genres": ["Drama", None], "title": ["A (1990)", "B"], "item_id": pd.Categorical([7, 9])})
    users = pd.DataFrame(
        {"user_id": [1], "age": [30.0], "gender": ["F"], "occupation": ["artist"], "zip_code": ["00501"]}
    )
    paths = tmp_path / "movies.parquet", tmp_path / "users.parquet"
    movies.to_parquet(paths[0])
    users.to_parquet(paths[1])
    tables = read_own_files(ratings, *paths)[0]
    assert tables["movies"]["item_id"].tolist() == [7, 9] and tables["movies"]["genres"].tolist() == ["Drama", ""]
    assert tables["users"].to_numpy().tolist() == [[1, 30, "F", "artist", "00501"]]
    users.assign(gender="woman").to_parquet(paths[1])
    with pytest.raises(StudyError, match=r"users.parquet, row 1: gender 'woman' is none of F, M"):
        read_own_files(ratings, *paths)[0]


def test_a_damaged_parquet_file_is_named(tmp_path):
    path = own_parquet(tmp_path / "mine.parquet")
    content = path.read_bytes()
    for damaged in (content[:-9], content[:4], content[: len(content) // 2], content[:20] + bytes(40) + content[60:]):
        path.write_bytes(damaged)
        with pytest.raises(StudyError, match=r"mine.parquet is no parquet file that can be read .*; write it anew"):
            read_own_files(path)


def test_a_published_movie_table_may_not_repeat_an_id(tmp_path):
    twice = "10::A (1990)::Drama\n10::B (1990)::Drama\n"
    with pytest.raises(StudyError, match=r"movies.dat: item_id 10 occurs twice"):
        read("ml-1m", tmp_path, movies_dat=twice)


@pytest.mark.parametrize("name", FILES)
def test_what_is_read_passes_the_checks_of_a_cache(name, tmp_path):
    formats.check_tables(RELEASES[name].format, read(name, tmp_path), RELEASES[name].scale)


@pytest.mark.parametrize(
    ("table", "change", "said"),
    [
        (
            "ratings",
            lambda frame: frame.rename(columns={"user_id": "item_id", "item_id": "user_id"}),
            "has the columns",
        ),
        ("ratings", lambda frame: frame.astype({"timestamp": float}), "has the columns"),
        ("ratings", lambda frame: frame.assign(rating=1.5e9), "not allowed"),
        ("ratings", lambda frame: frame.assign(rating=float("nan")), "lacks values"),
        ("ratings", lambda frame: pd.concat([frame, frame]), "rows repeat the user_id and item_id"),
        ("ratings", lambda frame: frame[:0], "is empty"),
        ("movies", lambda frame: pd.concat([frame, frame]), "item_id 10 occurs twice"),
        ("users", lambda frame: frame.assign(gender="x"), "not allowed"),
        ("users", None, "Tables ratings, movies found instead of ratings, movies, users"),
    ],
)
def test_tables_that_are_not_those_of_a_release_are_refused(tmp_path, table, change, said):
    tables = read("ml-1m", tmp_path)
    changed = {table: change(tables[table])} if change else {}
    kept = {name: frame for name, frame in tables.items() if change or name != table}
    with pytest.raises(StudyError, match=said):
        formats.check_tables("dat-1m", kept | changed, RELEASES["ml-1m"].scale)
