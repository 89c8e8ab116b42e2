"""LightGCN averages what powers of the normalised graph give, and learns layer 0 alone by the pairwise loss with its penalty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from boards import rows_of
from torch import Tensor

from recsys_core.interactions import Interactions
from recsys_core.models.lightgcn import GraphFactors, LightGCN, Propagation, normalised_graph
from recsys_core.models.storage import FORMAT_VERSION, read

N_USERS, N_ITEMS = 9, 7
NEW_USER, NEW_ITEM = N_USERS - 1, N_ITEMS - 1  # the last ones have no rows
USERS, ITEMS = torch.tensor([3, 5, 3]), torch.tensor([[1, 2, 0], [0, 6, 4], [4, 4, 4]])


def random_rows() -> Interactions:
    users, items = (np.random.default_rng(2).random((N_USERS - 1, N_ITEMS - 1)) < 0.4).nonzero()
    return rows_of(users, items, np.ones(len(users)), N_USERS, N_ITEMS)


def dense_graph(train: Interactions) -> np.ndarray:
    """Entry by entry: 1 / √(|N_u| |N_i|) between a user and an item that they have seen."""
    pairs, graph = list(zip(train.users.tolist(), train.items.tolist())), np.zeros((N_USERS + N_ITEMS,) * 2)
    for user, item in pairs:
        friends, films = sum(u == user for u, _ in pairs), sum(i == item for _, i in pairs)
        graph[user, N_USERS + item] = graph[N_USERS + item, user] = 1 / np.sqrt(friends * films)
    return graph


def net(n_layers: int) -> GraphFactors:
    torch.manual_seed(0)
    return GraphFactors(random_rows(), 4, 0.5, n_layers)


def dense_means(module: GraphFactors, vectors: Tensor) -> Tensor:
    graph = torch.as_tensor(dense_graph(random_rows()), dtype=vectors.dtype)
    powers = [torch.linalg.matrix_power(graph, k) for k in range(module.n_layers + 1)]
    return torch.stack(powers).sum(dim=0) @ vectors / len(powers)


def test_the_graph_divides_each_edge_by_the_root_of_both_degrees() -> None:
    graph = normalised_graph(random_rows())
    np.testing.assert_allclose(graph.toarray(), dense_graph(random_rows()), rtol=1e-6)
    assert graph.dtype == np.float32 and (graph != graph.T).nnz == 0


@pytest.mark.parametrize("n_layers", [0, 1, 3])
def test_vectors_are_the_mean_over_powers_of_the_graph(n_layers: int) -> None:
    module = net(n_layers)
    means = module.propagated().detach()
    torch.testing.assert_close(means, dense_means(module, module.vectors.weight.detach()), rtol=1e-5, atol=1e-6)
    alone = module.vectors.weight.detach()[[NEW_USER, N_USERS + NEW_ITEM]] / (n_layers + 1)
    torch.testing.assert_close(means[[NEW_USER, N_USERS + NEW_ITEM]], alone)
    everybody = torch.arange(N_USERS)
    torch.testing.assert_close(module.score_all(everybody).detach(), means[:N_USERS] @ means[N_USERS:].T)


def test_the_gradient_goes_back_through_every_layer() -> None:
    module, weights = net(3), torch.randn(N_USERS + N_ITEMS, 4)
    vectors = module.vectors.weight.detach().clone().requires_grad_()
    (weights * module.propagated()).square().sum().backward()
    (weights * dense_means(module, vectors)).square().sum().backward()
    assert module.vectors.weight.grad is not None and vectors.grad is not None
    torch.testing.assert_close(module.vectors.weight.grad, vectors.grad, rtol=1e-4, atol=1e-6)


def test_the_gradient_of_one_propagation_is_that_of_finite_differences() -> None:
    vectors = torch.randn(N_USERS + N_ITEMS, 2, dtype=torch.float64, requires_grad=True)
    graph = net(1).graph.to(torch.float64)
    assert torch.autograd.gradcheck(lambda x: Propagation.apply(graph, x), (vectors,))


@pytest.mark.parametrize("n_layers", [0, 2])
def test_the_loss_is_the_pairwise_one_with_the_squares_of_layer_0_of_the_batch(n_layers: int) -> None:
    module, model = net(n_layers), LightGCN(regularisation=0.3)
    first, means = module.vectors.weight.detach(), dense_means(module, module.vectors.weight.detach())
    leads, squares = [], 0.0
    for p, user in enumerate(USERS.tolist()):
        liked, *others = (N_USERS + ITEMS[:, p]).tolist()
        leads += [float(means[user] @ (means[liked] - means[other])) for other in others]
        squares += sum(float(first[node] @ first[node]) for node in (user, liked, *others))
    expected = np.mean([-np.log(1 / (1 + np.exp(-lead))) for lead in leads]) + 0.3 * squares / 2 / len(USERS)
    assert float(model._loss(module, USERS, ITEMS).detach()) == pytest.approx(expected, rel=1e-5)


def test_the_penalty_moves_no_vector_that_the_batch_does_not_hold() -> None:
    module = net(3)
    module(USERS, ITEMS)[1].backward()
    assert module.vectors.weight.grad is not None
    moved = module.vectors.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist()
    assert moved == sorted({*USERS.tolist(), *(N_USERS + ITEMS.flatten()).tolist()})


def test_an_epoch_holds_each_seen_item_once_and_a_batch_as_many_pairs_as_half_its_size() -> None:
    batches = LightGCN(batch_size=6)._batches(random_rows(), torch.device("cpu"))
    found = list(batches.epoch(torch.Generator().manual_seed(0)))
    assert {tuple(items.shape) for _, items in found[:-1]} == {(2, 3)}
    pairs = sorted((u, i) for users, items in found for u, i in zip(users.tolist(), items[0].tolist()))
    assert pairs == sorted(zip(random_rows().users.tolist(), random_rows().items.tolist()))


def test_a_file_holds_layer_0_and_nothing_that_follows_from_the_rows(tmp_path: Path) -> None:
    model: Any = LightGCN(epochs=1, embedding_dim=3, device="cpu").fit(random_rows())
    model.save(tmp_path / "model")
    _, arrays = read(tmp_path / "model", FORMAT_VERSION)
    assert {name for name in arrays if name.startswith("model.")} == {"model.vectors.weight"}
    assert arrays["model.vectors.weight"].shape == (N_USERS + N_ITEMS, 3)
    assert model.n_parameters == 3 * (N_USERS + N_ITEMS)
