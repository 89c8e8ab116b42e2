"""Ratings as people have them are read, what was understood is said, and what is in doubt is refused in one sentence."""

import gzip
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from recsys_core.errors import StudyError
from recsys_core.releases.own import read_own, read_ratings

HEAD = "user_id,item_id,rating,timestamp\n"
FIVE_STARS = HEAD + "".join(f"{user},{item},{1 + (user + item) % 5},9\n" for user in range(100) for item in range(20))


def written(folder, content, name="mine.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(folder, content, **options):
    return read_ratings(written(folder, content), **options)


UNDERSTOOD = [  # content, rows as [user, item, stars, time], the scale, a part of what is said
    (HEAD + "1,2,3,4\n2,2,4,5\n", [[1, 2, 3, 4], [2, 2, 4, 5]], (1, 5), "2 rows, commas between values"),
    ("userId,movieId,rating,timestamp\n1,1,4.0,9\n1,3,0.5,8\n", [[1, 1, 4, 9], [1, 3, 0.5, 8]], (0.5, 5), "movieId"),
    ("\ufeffUser-ID;ISBN;Book-Rating\r\n7;03X;1\r\n8;04X;10\r\n", [[7, "03X", 1, 0], [8, "04X", 5, 1]], (1, 10), "semicolons"),
    ("1::1193::5::978300760\n1::661::3::978302109\n", [[1, 1193, 5, 978300760], [1, 661, 3, 978302109]], (1, 5), "colons"),
    ("196\t242\t3\t881250949\n186\t302\t5\t891717742\n", [[196, 242, 3, 881250949], [186, 302, 5, 891717742]], (1, 5), "tabs"),
    (
        "user,item,score,ts\na,x,1,1500000000000\nb,y,10,1500000001000\n",
        [["a", "x", 1, 1500000000], ["b", "y", 5, 1500000001]],
        (1, 10), "milliseconds",
    ),
    (
        'user;title;stars;date\nann;"Heat; or cold";3,5;2020-01-02\nbob;Up;4;2020-01-03\n',
        [["ann", "Heat; or cold", 3.5, 1577923200], ["bob", "Up", 4, 1578009600]],
        (0.5, 5), "decimal comma",
    ),
    (
        "user_id,track_id,played_at\nu,t,2020-01-02T10:00:00Z\nv,t,2020-01-02 12:00:00+01:00\n",
        [["u", "t", 1, 1577959200], ["v", "t", 1, 1577962800]],
        (1, 5), "No ratings",
    ),
    (HEAD + "1.0,2.0,3,4\n2.0,3.0,4,5\n", [[1, 2, 3, 4], [2, 3, 4, 5]], (1, 5), "such as 1.0 are read as whole numbers"),
    (HEAD + " a ,b,3,4\nc,b ,4,5\n", [["a", "b", 3, 4], ["c", "b", 4, 5]], (1, 5), "Blanks around 1 ids of the column user_id"),
    ("1,2\n1,3\n", [[1, 2, 1, 0], [1, 3, 1, 1]], (1, 5), "No times"),
    ("1,2,881250949\n1,3,881250950\n", [[1, 2, 1, 881250949], [1, 3, 1, 881250950]], (1, 5), "time = 3, no rating"),
    (HEAD + "1,2,0,4\n1,3,100,4\n", [[1, 2, 1, 4], [1, 3, 5, 4]], (0, 100), "The rating 0 occurs 1 times"),
    (HEAD + "1,2,0,4\n1,3,1,4\n", [[1, 2, 1, 4], [1, 3, 5, 4]], (0, 1), "from 0 to 1"),
    (HEAD + "1,2,-300,4\n1,3,500,4\n", [[1, 2, 1, 4], [1, 3, 5, 4]], (-300, 500), "which is what occurs"),
    (HEAD + "1,2,5,4\n1,3,5,4\n", [[1, 2, 1, 4], [1, 3, 1, 4]], (1, 5), "All ratings are 5"),
    (",user_id,item_id,rating\n0,1,2,3\n1,1,3,4\n", [[1, 2, 3, 0], [1, 3, 4, 1]], (1, 5), "user = user_id"),
    ("user_id:token\titem_id:token\trating:float\n1\t2\t3\n1\t3\t4\n", [[1, 2, 3, 0], [1, 3, 4, 1]], (1, 5), "tabs"),
    (HEAD + "1,007,3,4\n2,7,4,4\n", [[1, "007", 3, 4], [2, "7", 4, 4]], (1, 5), ""),
    ("title,user,rating\n<script>,2,5\n\"A, the\",1,4\n", [[2, "<script>", 5, 0], [1, "A, the", 4, 1]], (1, 5), "item = title"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "rows", "scale", "said"), UNDERSTOOD)
def test_files_as_people_have_them_are_understood_and_it_is_said_how(tmp_path, content, rows, scale, said):
    own = read(tmp_path, content)
    assert own.ratings.to_numpy().tolist() == rows and own.scale == scale
    assert said in " ".join(own.notes)
    assert own.ratings.dtypes.astype(str).to_dict() | {"user_id": "", "item_id": ""} == {
        "user_id": "",
        "item_id": "",
        "rating": "float64",
        "timestamp": "int64",
    }


REFUSED = [  # content, what is said
    ("", r"mine.csv is empty"),
    (HEAD, r"holds no rows but its first line"),
    ("user_id,rating\n1,2\n", r"columns \('user_id', 'rating'\) none is known to hold the item"),
    ("a,b,c\nx,y,z\n", r"none is known to hold the user and the item; .* columns: \{user: a, item: c\}"),
    ("user_id,movie_id,book_id,rating\n1,2,3,4\n", r"several columns that may be the item: movie_id, book_id"),
    (HEAD + "1,2,3,4\n1,2,five,4\n", r"line 3: rating 'five' is not a number"),
    (HEAD + "1,2,3,4\n\n1,2,NaN,4\n", r"line 4: rating 'NaN' is not a number"),
    (HEAD + "1,2,,4\n", r"line 2: rating '' is empty"),
    (HEAD + "1,2,inf,4\n", r"line 2: rating 'inf' is not a number"),
    (FIVE_STARS + "200,1,55,9\n", r"line 2002: rating '55' is outside the scale 1 to 5 of all but 1 of 2,001 ratings"),
    (HEAD + "1,2,3,03/04/2020\n", r"line 2: timestamp '03/04/2020' is neither seconds since 1970 nor a date"),
    (HEAD + "1,2,3,2020-01-01\n1,3,4,\n", r"line 3: timestamp '' is empty"),
    (HEAD + "1,2,3,9\n1,3,4,\n", r"line 3: timestamp '' is empty"),
    (HEAD + "1,2,3,1500000000\n1,3,3,1500000000000\n", r"line 2: .* is in seconds where others are in milliseconds"),
    (HEAD + "1,2,3,99999999999999999999999\n", r"line 2: timestamp '9{23}' is no time since 1970"),
    (HEAD + ",2,3,4\n", r"line 2: user_id '' is empty"),
    (HEAD + "1,2,3,4\n1,2,3\n", r"line 3: '1,2,3' has 3 instead of 4 values"),
    (HEAD + "1,2,3,4\n1,2,3,4,5\n", r"line 3: '1,2,3,4,5' has 5 instead of 4 values"),
    (HEAD + "1,2,3,4\n" + '1,"3,3,4\n' + "1,4,3,4\n" * 9999, r"line 3: '1,\"3,3,4' opens a quote and does not close it"),
    ((HEAD + "1,caf\u00e9,3,4\n").encode("latin-1"), r"line 2 is not UTF-8 text"),
    ((HEAD + "1,2,3,4\n").encode("utf-16"), r"is UTF-16 text"),
    (HEAD.encode() + b"1,2,\x003,4\n", r"line 2: rating '\\x003' is not a number"),
    (HEAD + "1,2," + "x" * 10**6 + ",4\n", r"line 2: rating 'x{80}…' is not a number"),
    (HEAD + "1,2,3,4\n1,2,4,5\n", r"line 3: user_id '1' has a rating of '2' already .* write keep: first, last or mean into"),
    ("1\n2\n", r"line 1: '1' is one value"),
    ("1 2 3\n1 3 4\n", r"line 1: '1 2 3' is one value"),
    ("1,2,3,4,5\n1,2,3,4,6\n", r"line 1 has 5 values and no names"),
    ("user_id,item_id,rating,rating\n1,2,3,4\n", r"several columns that may be the rating: rating, rating"),
    (gzip.compress(FIVE_STARS.encode(), mtime=0)[:99], r"is no gzip file that can be unpacked"),
    (b"PAR1 and no more", r"is no parquet file that can be read"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "said"), REFUSED)
def test_what_is_in_doubt_is_refused_in_one_short_sentence(tmp_path, content, said):
    with pytest.raises(StudyError, match=said) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_file_may_be_packed(tmp_path):
    content = (HEAD + "1,2,3,4\n1,3,4,4\n").encode()
    assert "packed with gzip" in read(tmp_path, gzip.compress(content)).notes[0]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("set/ratings.csv", content)
        archive.writestr("set/movies.csv", "movieId,title")
    assert len(read_ratings(tmp_path / "all.zip").ratings) == 2
    with zipfile.ZipFile(tmp_path / "open.zip", "w") as archive:
        archive.writestr("one.csv", content)
        archive.writestr("two.csv", content)
    with pytest.raises(
        StudyError, match=r"open.zip holds 2 files \(one.csv, two.csv\), and which has the ratings is open"
    ):
        read_ratings(tmp_path / "open.zip")


def test_columns_say_what_is_what_by_name_or_number(tmp_path):
    content = "who,what,liked\na,b,3\na,c,4\n"
    assert read(tmp_path, content, columns={"user": "who", "item": "what"}).ratings["rating"].eq(1).all()
    named = {"user": "who", "item": "what", "rating": "liked"}
    assert read(tmp_path, content, columns=named).ratings["rating"].tolist() == [3, 4]
    assert read(tmp_path, "1,2,3,4,5\n1,2,3,4,6\n", columns={"user": "5", "item": "1"}).ratings["user_id"].tolist() == [
        5,
        6,
    ]
    with pytest.raises(StudyError, match="has no column ho, which columns asks for; it has who, what, liked"):
        read(tmp_path, content, columns={"user": "ho"})
    with pytest.raises(StudyError, match="columns has 'reader', which no column can be: give user, item, rating, time"):
        read(tmp_path, content, columns={"reader": "who"})


def test_it_is_said_who_is_not_asked_for_lists(tmp_path):
    content = HEAD + "".join(f"{user},{item},{1 + item % 5},{item}\n" for user in range(3) for item in range(user * 60))
    said = " ".join(read_own(written(tmp_path, content + "7,1,1,1\n"))[1].notes)
    assert "Users with fewer than 3 ratings: 1 of 3; they only train." in said
    assert "Users who have rated all but fewer than 99 of the 120 items: 2 of 3" in said


def test_what_stands_beside_a_file_says_how_to_read_it(tmp_path):
    path = written(tmp_path, "who,what,liked\na,7,3\na,7,4\n")
    beside = tmp_path / "mine.csv.yaml"
    beside.write_text("columns: {user: who, item: what, rating: liked}\nkeep: mean\nmovies: films.csv\n")
    (tmp_path / "films.csv").write_text("movieId,movie_title,genre\n7,Up (2009),Drama\n")
    tables, own = read_own(path)
    assert own.ratings.to_numpy().tolist() == [["a", 7, 3.5, 1]]
    assert tables["movies"].to_dict("list") == {
        "item_id": [7],
        "title": ["Up (2009)"],
        "year": [2009],
        "genres": ["Drama"],
    }
    assert read_own(path, keep="last")[1].ratings["rating"].tolist() == [4]  # what is given counts
    for content, said in (
        ("keep", "is no mapping"),
        ("keep: [", "is no mapping"),
        ("kept: last", "setting='kept' is not known"),
    ):
        beside.write_text(content)
        with pytest.raises(StudyError, match=rf"mine.csv.yaml.*{said}"):
            read_own(path)


def test_which_of_several_ratings_stays(tmp_path):
    content = HEAD + "1,2,3,4\n1,3,1,4\n1,2,4,5\n"
    rows = {keep: read(tmp_path, content, keep=keep).ratings.to_numpy().tolist() for keep in ("first", "last", "mean")}
    assert rows["first"] == [[1, 2, 3, 4], [1, 3, 1, 4]] and rows["last"] == [[1, 3, 1, 4], [1, 2, 4, 5]]
    assert rows["mean"] == [[1, 2, 3.5, 5], [1, 3, 1, 4]]
    log = read(tmp_path, "user,item,time\n1,2,8\n1,2,9\n")
    assert log.ratings.to_numpy().tolist() == [[1, 2, 1, 8]] and "the first one counts" in log.notes[-1]
    with pytest.raises(StudyError, match="keep='best' is not known: allowed are None, first, last, mean"):
        read(tmp_path, content, keep="best")


def test_a_star_is_so_much_of_the_files_own_unit(tmp_path):
    assert read(tmp_path, HEAD + "1,2,1,4\n1,3,10,4\n").unit == 9 / 4
    assert read(tmp_path, HEAD + "1,2,0.5,4\n1,3,5,4\n").unit == 1


def test_few_half_stars_below_one_are_no_errors(tmp_path):
    assert read(tmp_path, FIVE_STARS + "200,1,0.5,9\n").scale == (0.5, 5)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"user_id": None}, r"of its columns .* none is known to hold the user"),
        ({"rating": [float("nan"), 1]}, r"mine, row 1: rating '' is empty"),
        ({"rating": [[1.0], [2.0]]}, r"mine is no parquet file that can be read \(.*list"),
        ({"rating": ["four", "1"]}, r"mine, row 1: rating 'four' is not a number"),
        ({"user_id": ["a", None]}, r"mine, row 2: user_id '' is empty"),
        ({name: [] for name in ("user_id", "item_id", "rating", "timestamp")}, r"mine holds no rows"),
    ],
)
def test_a_parquet_file_passes_the_same_checks(tmp_path, changed, said):
    with pytest.raises(StudyError, match=said) as caught:
        read_ratings(parquet_file(tmp_path / "mine", **changed))
    assert "\n" not in str(caught.value)


def parquet_file(path, **changed):
    """An own file of ratings as parquet, its columns in another order than CSV's; `changed` replaces columns, None drops one."""
    columns = {"timestamp": [4, 5], "rating": [3.5, 1.0], "item_id": [7, 9], "user_id": [1, 1]} | changed
    pd.DataFrame({name: values for name, values in columns.items() if values is not None}).to_parquet(path)
    return path


def test_a_parquet_file_is_told_by_its_content_and_read_by_the_names_of_its_columns(tmp_path):
    own = read_ratings(parquet_file(tmp_path / "mine.csv", note=["x", "y"], user_id=[1.0, 1.0]))
    assert own.ratings.to_numpy().tolist() == [[1, 7, 3.5, 4], [1, 9, 1, 5]]
    dated = read_ratings(parquet_file(tmp_path / "mine", timestamp=pd.to_datetime(["2020-01-01", "2020-01-02"])))
    assert np.diff(dated.ratings["timestamp"]).tolist() == [86_400]
    text = written(tmp_path, HEAD + "1,2,3,4\n1,3,4,4\n", "mine.parquet")
    assert len(read_ratings(text).ratings) == 2


def test_ids_of_a_parquet_file_that_are_floats_are_whole_numbers_and_nan_is_none(tmp_path):
    large = pa.table({"user_id": [1e15, 2.0], "item_id": ["a", "b"], "rating": [1.0, 2.5]})
    parquet.write_table(large, tmp_path / "large")
    assert read_ratings(tmp_path / "large").ratings["user_id"].tolist() == [10**15, 2]
    parquet.write_table(large.set_column(0, "user_id", pa.array([1.0, float("nan")])), tmp_path / "nan")
    with pytest.raises(StudyError, match="nan, row 2: user_id '' is empty"):
        read_ratings(tmp_path / "nan")


def test_a_byte_order_mark_is_no_part_of_the_first_id(tmp_path):
    assert read(tmp_path, "\ufeff1,2,3,4\n1,3,4,4\n").ratings["user_id"].tolist() == [1, 1]


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(StudyError, match="is not a file; check the path"):
            read_ratings(path)
