"""Vector search finds what a plain sort finds, and refuses what cannot be searched."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from boards import PLAYERS, SIZE, board_of, fitted
from scipy import sparse
from test_contract import some_features

from recsys_core.errors import StudyError
from recsys_core.models.attribute_networks import VectorNetwork
from recsys_core.models.dssm import DSSM
from recsys_core.retrieval import VectorIndex


def vectors(n: int, seed: int, width: int = 8) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def model(name: str = "dssm") -> VectorNetwork:
    found = fitted(name)
    assert isinstance(found, VectorNetwork)
    return found


def sorted_out(items: torch.Tensor, queries: torch.Tensor, k: int, left_out: np.ndarray) -> np.ndarray:
    """The k best items by a stable sort of numpy's products, without those that are left out."""
    products = np.where(left_out, -np.inf, queries.numpy() @ items.numpy().T)
    return np.argsort(-products, axis=1, kind="stable")[:, :k]


def test_exact_search_equals_a_plain_sort_without_what_was_seen() -> None:
    items, queries = vectors(40, 0), vectors(5, 1)
    seen = np.random.default_rng(0).random((5, 40)) < 0.3
    found, products = VectorIndex(items).search(queries, 7, sparse.csr_matrix(seen))
    assert found.tolist() == sorted_out(items, queries, 7, seen).tolist()
    torch.testing.assert_close(products, (queries @ items.T).gather(1, found))


def test_a_list_ends_with_empty_places_where_nothing_is_left() -> None:
    seen = np.ones((1, 6))
    seen[0, 2] = 0
    found, products = VectorIndex(vectors(6, 0)).search(vectors(1, 1), 3, sparse.csr_matrix(seen))
    assert found.tolist() == [[2, -1, -1]]
    assert products[0, 1:].isneginf().all()


def test_an_index_that_probes_every_cell_equals_exact_search() -> None:
    pytest.importorskip("faiss")
    items, queries, seen = vectors(500, 0), vectors(5, 1), sparse.csr_matrix(np.eye(5, 500))
    approximate = VectorIndex(items, n_lists=4, n_probes=4).search(queries, 7, seen)
    exact = VectorIndex(items).search(queries, 7, seen)
    assert torch.equal(approximate[0], exact[0])
    torch.testing.assert_close(approximate[1], exact[1])


def test_more_probes_find_more_of_the_nearest() -> None:
    pytest.importorskip("faiss")
    items, queries = vectors(3000, 0), vectors(50, 1)
    exact = VectorIndex(items).search(queries, 10)[0]

    def recall(n_probes: int) -> float:
        found = VectorIndex(items, n_lists=32, n_probes=n_probes).search(queries, 10)[0]
        return float((found[:, :, None] == exact[:, None]).any(1).float().mean())

    assert recall(1) < recall(8) < recall(32) == 1


def test_without_faiss_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert len(VectorIndex(vectors(40, 0)).search(vectors(1, 1), 3)[0]) == 1
    with pytest.raises(StudyError, match="Approximate search needs `pip install faiss-cpu`"):
        VectorIndex(vectors(40, 0), n_lists=2)


def test_what_a_user_is_found_is_the_head_of_what_the_model_ranks() -> None:
    train, scores = board_of("dssm"), model().score(PLAYERS).clone()
    scores[train.users, train.items] = -torch.inf
    found = VectorIndex(model().item_vectors()).for_users(model(), PLAYERS, 5)
    torch.testing.assert_close(scores.gather(1, found), scores.topk(5).values)


def test_a_new_user_is_found_films_from_attributes() -> None:
    found = VectorIndex(model().item_vectors()).for_users(model(), torch.tensor([0]), 5, some_features(30))
    history = board_of("dssm").take(np.arange(0))
    ranked = model().score(torch.tensor([0]), history, some_features(30)).topk(5).indices
    assert torch.equal(found, ranked)


def test_similar_items_leave_out_the_item_itself() -> None:
    index = VectorIndex(model().item_vectors())
    items, cosines = index.similar(4, SIZE)
    assert sorted(items.tolist()) == [item for item in range(SIZE + 1) if item != 4]
    assert (cosines.diff() <= 0).all()
    assert cosines.max() <= 1 + 1e-5
    assert (items[:20] % 2 == 0).float().mean() > 0.9  # of its colour


@pytest.mark.parametrize("name", ["dssm", "joint_embedding"])
def test_vectors_of_users_and_items_have_length_1_in_one_space(name: str) -> None:
    users, items = model(name).user_vectors(PLAYERS), model(name).item_vectors()
    assert users.shape[1] == items.shape[1]
    for each in (users, items):
        torch.testing.assert_close(each.norm(dim=1), torch.ones(len(each)))
    with pytest.raises(StudyError, match=f"User code {SIZE} has no training rows"):
        model(name).user_vectors(torch.tensor([SIZE]))


def test_an_index_of_another_model_is_refused() -> None:
    index = VectorIndex(model().item_vectors())
    other = fitted("dssm", seed=1)
    assert isinstance(other, DSSM)
    with pytest.raises(StudyError, match="built from another model than this DSSM: build it again"):
        index.for_users(other, PLAYERS, 3)


def test_vectors_that_are_not_finite_are_refused_and_named() -> None:
    items, queries = vectors(40, 0), vectors(3, 1)
    index = VectorIndex(items)
    items[7, 2], queries[1, 0] = torch.nan, torch.inf
    with pytest.raises(StudyError, match="vector of item 7 is not finite"):
        VectorIndex(items)
    with pytest.raises(StudyError, match="vector of query 1 is not finite"):
        index.search(queries, 3)


def test_an_unknown_item_another_width_and_an_impossible_k_are_refused() -> None:
    index = VectorIndex(vectors(40, 0))
    for item in (-1, 40):
        with pytest.raises(StudyError, match=f"Item code {item} is not in the index: it holds the codes 0 to 39"):
            index.similar(item, 3)
    with pytest.raises(StudyError, match="40 vectors of width 8: got width 5, k=3"):
        index.search(vectors(1, 1, width=5), 3)
    for k in (0, 41):
        with pytest.raises(StudyError, match=f"got width 8, k={k}"):
            index.search(vectors(1, 1), k)
