"""The files that peers and the study's own side read, and what lists of films are worth on them."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.bench.timings import benchmark_rows
from recsys_core.datasets import MovieLens, load
from recsys_core.features import encode
from recsys_core.interactions import Interactions
from recsys_core.metrics import Hits, hit_ratio, ndcg
from recsys_core.protocols import make_split

N_FOLDS = 5
LENGTH = 10  # of the lists that are measured
BY_ITEM = "three quarters of each film's rows"


def write_folds(data: MovieLens, folder: Path) -> None:
    """Write what peers read, tab-separated with a header line, users and items as codes.

    `fold-1.train.tsv` to `fold-5.test.tsv` (user, item, rating), `users.tsv` (user, age, gender, occupation) and `items.tsv`
    (item, year or 0, genres separated by spaces) where the data has them.
    """
    rows, vocabulary = encode(data)
    for fold in range(1, N_FOLDS + 1):
        split = make_split("rating-5fold", rows, fold=fold)
        for name, part in (("train", split.refit), ("test", split.test)):
            table = pd.DataFrame({"user": part.users, "item": part.items, "rating": part.ratings})
            table.to_csv(folder / f"fold-{fold}.{name}.tsv", sep="\t", index=False)
    if data.users is not None:
        users = data.users.set_index("user_id").loc[vocabulary.user_ids].reset_index(drop=True).rename_axis("user")
        users[["age", "gender", "occupation"]].to_csv(folder / "users.tsv", sep="\t")
    if data.movies is not None:
        items = data.movies.set_index("item_id").loc[vocabulary.item_ids].reset_index(drop=True).rename_axis("item")
        genres = items["genres"].str.replace(" ", "_").str.replace("|", " ")
        items.assign(year=items["year"].fillna(0), genres=genres)[["year", "genres"]].to_csv(
            folder / "items.tsv", sep="\t"
        )


def write_rows(file: Path) -> str:
    """Write the rows of the NCF benchmark, or synthetic ones of their shape, as (2, N) codes of users and items; say which.

    Codes that no row has are left out.
    """
    rows, name = benchmark_rows()
    codes = [np.unique(column, return_inverse=True)[1] for column in (rows.users, rows.items)]
    np.save(file, np.stack(codes))
    return name


def write_parts(protocol: str, file: Path) -> str:
    """Write the known and the test rows of a protocol as tab-separated codes: user, item, is_test; each part in order of time."""
    data = load("ml-100k")
    rows = encode(data)[0]
    tables = []
    for is_test, part in enumerate(by_item(rows) if protocol == BY_ITEM else _known_and_test(protocol, rows)):
        order = part.by_time
        tables.append(pd.DataFrame({"user": part.users[order], "item": part.items[order], "is_test": is_test}))
    pd.concat(tables).to_csv(file, sep="\t", index=False)
    return f"{data.name}, {protocol}"


def _known_and_test(protocol: str, rows: Interactions) -> tuple[Interactions, Interactions]:
    split = make_split(protocol, rows)
    return split.refit, split.test


def by_item(rows: Interactions, share: float = 0.75, seed: int = 42) -> tuple[Interactions, Interactions]:
    """Known and test rows as in Microsoft Recommenders' benchmark: a share of each film's rows is known, whosever they are."""
    place = pd.Series(np.random.default_rng(seed).random(len(rows))).groupby(rows.items).rank()
    known = (place <= (np.bincount(rows.items)[rows.items] * share).round()).to_numpy()
    return rows.take(known), rows.take(~known)


FILES: dict[str, Callable[[Path], str]] = {  # what settings can name as `rows`
    "ml-1m.npy": write_rows,
    "histories.tsv": partial(write_parts, "loo-full"),
    "picks.tsv": partial(write_parts, "random-80-10-10"),
    "by-item.tsv": partial(write_parts, BY_ITEM),
}


def read_rows(file: Path) -> Interactions:
    """Read rows that `write_rows` wrote."""
    users, items = np.load(file)
    return _interactions(users, items, int(users.max()) + 1, int(items.max()) + 1)


def read_parts(file: Path) -> tuple[Interactions, Interactions]:
    """Read known and test rows that `write_parts` wrote; times are places in the file."""
    table = pd.read_csv(file, sep="\t")
    n_users, n_items = (int(table[column].max()) + 1 for column in ("user", "item"))
    known, test = (
        _interactions(part["user"].to_numpy(), part["item"].to_numpy(), n_users, n_items)
        for _, part in table.groupby("is_test")
    )
    return known, test


def _interactions(users: np.ndarray, items: np.ndarray, n_users: int, n_items: int) -> Interactions:
    return Interactions(users, items, np.ones(len(users), np.float32), np.arange(len(users)), n_users, n_items)


def measured_lists(lists: Sequence[Sequence[int]], file: Path) -> dict[str, list[float]]:
    """HR@10 and NDCG@10 of the test users of a file, in order of their codes; `lists` has ten films of each, best first."""
    test = read_parts(file)[1]
    users, n_relevant = np.unique(test.users, return_counts=True)
    ranks = np.tile(np.arange(1, LENGTH + 1), len(users))
    listed = pd.DataFrame({"user": np.repeat(users, LENGTH), "item": np.ravel(lists), "rank": ranks})
    found = listed.merge(pd.DataFrame({"user": test.users, "item": test.items}))
    hits = Hits(np.searchsorted(users, found["user"]), found["rank"].to_numpy(), n_relevant)
    return {"hit_ratio": hit_ratio(hits, LENGTH).tolist(), "ndcg": ndcg(hits, LENGTH).tolist()}


def best(scores: np.ndarray, file: Path) -> np.ndarray:
    """The ten best films (U, 10) of (U, I) scores of the test users of a file, of those that they are not known to have seen."""
    known, test = read_parts(file)
    users = np.unique(test.users)
    seen = known.take(np.isin(known.users, users))
    scores[np.searchsorted(users, seen.users), seen.items] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :LENGTH]
