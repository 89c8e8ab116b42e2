import pandas as pd
import pytest
from small_releases import FILES, NEGATIVES, write_release

from recsys_core.errors import StudyError
from releases import formats
from releases.sources import HALF_STARS, RELEASES

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
    return formats.read_own(*paths, HALF_STARS)


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
    ("content", "said"),
    [
        ("", r"ratings.csv is empty"),
        (OWN, r"ratings.csv holds no rows"),
        (
            "user_id,rating\n1,2\n",
            r"has no column item_id, timestamp; .* must name user_id, item_id, rating, timestamp",
        ),
        (OWN + "1,2,3,4\n1,2,five,4\n", r"ratings.csv, line 3: rating 'five' is not a number"),
        (OWN + "1,2,3,4\n\n1,2,NaN,4\n", r"line 4: rating 'NaN' is not a number"),
        (OWN + "1,2,,4\n", r"line 2: rating '' is not a number"),
        (OWN + "1,2,3,4\n1,3,5.5,4\n", r"line 3: rating '5.5' is outside the scale 0.5 to 5"),
        (OWN + "1,2,inf,4\n", r"line 2: rating 'inf' is outside the scale"),
        (OWN + "1,2,3,4.5\n", r"line 2: timestamp '4.5' is not a whole number"),
        (OWN + "1,2,3,99999999999999999999\n", r"ratings.csv: .*99999999999999999999"),
        (OWN + ",2,3,4\n", r"line 2: user_id '' is empty"),
        (OWN + "1,2,3\n", r"line 2: '1,2,3' has 3 instead of 4 values"),
        ((OWN + "é,2,3,4\n").encode("latin-1"), r"ratings.csv is not utf-8 text"),
        (OWN.encode() + b"1,2,\x003,4\n", r"ratings.csv"),
    ],
)
def test_a_bad_own_file_is_refused_in_one_sentence(tmp_path, content, said):
    with pytest.raises(StudyError, match=said) as caught:
        read_own(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_a_line_number_counts_the_lines_of_the_file(tmp_path):
    with pytest.raises(StudyError, match=r"line 4: rating 'x'"):
        read_own(tmp_path, OWN + '"two\nlines",2,3,4\n1,2,x,4\n')


def test_own_columns_may_come_in_any_order_with_others_and_a_byte_order_mark(tmp_path):
    content = b"\xef\xbb\xbf" + b"note,timestamp,item_id,user_id,rating\r\nhi,4,2,1,3.5\r\n"
    assert read_own(tmp_path, content)["ratings"].to_numpy().tolist() == [[1, 2, 3.5, 4]]


def test_own_ids_are_numbers_only_where_nothing_is_lost(tmp_path):
    ratings = read_own(tmp_path, OWN + "1,007,3,4\n2,7,3,4\n")["ratings"]
    assert ratings["user_id"].tolist() == [1, 2]
    assert ratings["item_id"].tolist() == ["007", "7"]


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
