"""What the chapters on vector search compute around the models, and the benchmark of searching."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import invented_movielens

from pipeline.bench.retrieval import measure_retrieval
from pipeline.chapters.vectors import (
    draw_latencies,
    film_map,
    latencies,
    main_genre,
    recall_of,
    spread_titles,
)
from recsys_core.content import title_words, with_title_words
from recsys_core.errors import StudyError
from recsys_core.features import encode
from recsys_core.interactions import Features


def test_title_words_are_the_most_frequent_and_ties_are_alphabetical() -> None:
    words = title_words(pd.Series(["Toy Story (1995)", "A Toy (1995)", "Story's End", None]), 4)
    assert words.columns.tolist() == ["1995", "story", "toy", "a"]
    assert words.to_numpy().tolist() == [[1, 1, 1, 0], [1, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_title_words_need_titles() -> None:
    data = invented_movielens()
    with pytest.raises(StudyError, match="has no movie table"):
        with_title_words(encode(data)[0], data, 4)


def test_recall_is_the_share_of_the_exact_list_wherever_it_stands() -> None:
    assert recall_of(torch.tensor([[3, 1], [7, -1]]), torch.tensor([[1, 2], [7, 8]])) == 0.5


def test_the_main_genre_is_the_first_in_the_order() -> None:
    genres = Features(np.array([[1, 1, 0], [0, 1, 0], [0, 0, 1]], np.float32), ("genre_a", "genre_b", "genre_c"))
    assert main_genre(genres, ["b", "a"]).tolist() == ["b", "b", "other"]


def test_titles_on_the_map_do_not_lie_on_one_another() -> None:
    places = np.array([[0.0, 0.0], [0.1, 0.01], [0.0, 0.5], [1.0, 1.0]])
    assert spread_titles(places, [0, 1, 2, 3], 0.1) == [0, 2, 3]


def test_the_map_is_the_same_each_time_and_keeps_groups_apart() -> None:
    vectors = np.repeat(np.eye(3), 40, axis=0) + np.random.default_rng(0).normal(0, 0.05, (120, 3))
    places = film_map(vectors)
    assert np.array_equal(places, film_map(vectors))
    groups = places.reshape(3, 40, 2)
    within = np.linalg.norm(groups - groups.mean(1, keepdims=True), axis=2).max()
    between = np.linalg.norm(groups.mean(1)[:, None] - groups.mean(1)[None], axis=2)
    assert within < between[~np.eye(3, dtype=bool)].min()


def test_vectors_that_are_all_alike_have_one_place_and_a_few_are_placed() -> None:
    assert np.ptp(film_map(np.full((50, 8), 0.3)), axis=0).tolist() == [0.0, 0.0]
    places = film_map(np.random.default_rng(0).normal(size=(9, 4)))
    assert np.isfinite(places).all() and len(np.unique(places, axis=0)) == 9


def test_the_benchmark_measures_each_catalogue_on_one_thread_and_gives_the_threads_back() -> None:
    before = torch.get_num_threads()
    measured = measure_retrieval((200, 400), n_queries=2)
    assert torch.get_num_threads() == before
    assert {"DSSM: exact search, 200 films", "NCF 3 layers: one user, 400 films"} <= set(measured)
    assert all(value > 0 for value, _ in measured.values())


def test_latencies_are_a_table_by_catalogue_and_way() -> None:
    rows = [("DSSM: index, 1,682 films", 0.1), ("DSSM: index, 10,000 films", 0.2), ("EASE: fit", 3.0)]
    table = latencies(pd.DataFrame(rows, columns=["what", "value"]))
    assert table.to_dict() == {"DSSM: index": {1682: 0.1, 10000: 0.2}}
    assert len(draw_latencies(table, "title").axes[0].lines) == 1
    assert latencies(pd.DataFrame([("EASE: fit", 3.0)], columns=["what", "value"])).empty
