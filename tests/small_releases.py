"""Invented data sets of a few rows in every published file format, for the tests of the data layer."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ITEM_FLAGS = {"Comedy": 5, "Drama": 8}


def _item(item_id: int, title: str, date: str, url: str, *genres: str) -> str:
    flags = ["0"] * 19
    for genre in genres:
        flags[ITEM_FLAGS[genre]] = "1"
    return "|".join([str(item_id), title, date, "", url, *flags]) + "\n"


CSV = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,10,4.5,100\n1,30,0.5,90\n7,10,3.0,80\n",
    "movies.csv": (
        'movieId,title,genres\n10,"Cité, La (1995)",Drama|Action\n30,Series (2006–2007),(no genres listed)\n'
        "40,No Year,Comedy\n"
    ),
    "tags.csv": 'userId,movieId,tag,timestamp\n1,10,"he said ""NA""",5\n7,30,NA,6\n',
}
GENOME = {
    "genome-scores.csv": "movieId,tagId,relevance\n10,1,0.025\n10,2,0.9\n",
    "genome-tags.csv": "tagId,tag\n1,007\n2,space\n",
}
NEGATIVES = "\t".join(str(item) for item in range(100, 199))
FILES: dict[str, dict[str, str | bytes]] = {
    "ml-100k": {
        "u.data": "2\t10\t3\t100\n1\t10\t5\t50\n2\t30\t1\t60\n",
        "u.item": (
            _item(10, "Cité, La (1995)", "01-Jan-1995", "http://x", "Drama", "Comedy") + _item(30, "unknown", "", "")
        ).encode("latin-1"),
        "u.user": "1|24|M|technician|85711\n2|53|F|other|T8H1N\n",
    },
    "ml-1m": {
        "ratings.dat": "1::10::5::978300760\n2::30::3::978302109\n",
        "movies.dat": "10::Star Wars: Été (1977)::Action|Comedy\n30::Other (V) (1999)::Drama\n".encode("latin-1"),
        "users.dat": "1::F::1::10::48067\n2::M::56::16::70072-1\n",
    },
    "ml-10m": {
        "ratings.dat": "1::122::5::838985046\n1::185::4.5::838983525\n",
        "movies.dat": "122::Été: a film (1992)::Comedy|Romance\n185::Net, The (1995)::Action\n",
        "tags.dat": '1::122::an "odd: tag::1215184630\n',
    },
    "ml-20m": {**CSV, **GENOME},
    "ml-latest-small": CSV,
    "ncf-ml-1m": {
        "ml-1m.train.rating": "0\t5\t4\t978\n0\t6\t2\t979\n1\t5\t3\t970\n",
        "ml-1m.test.rating": "1\t7\t5\t990\n0\t8\t5\t991\n",
        "ml-1m.test.negative": f"(1,7)\t{NEGATIVES}\n(0,8)\t{NEGATIVES.replace('100', '200')}\n",
    },
    "sasrec-ml-1m": {"ml-1m.txt": "1 4\n1 9\n2 4\n"},
}


def write_release(name: str, folder: Path, **changed: str | bytes) -> Path:
    """Write a release into a new folder; `changed` replaces files (dots in their names are written as `_`)."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in FILES[name].items():
        content = changed.get(file.replace(".", "_").replace("-", "_"), content)
        (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


@contextmanager
def full_disk(left: int = 100) -> Iterator[None]:
    """No file can grow beyond `left` bytes, which to a writer is a disk without space."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
