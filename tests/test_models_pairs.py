"""Models of pairs compute what their formulas say, in the fast way as in the slow one; GMF and NeuMF are built as stated."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from boards import PLAYERS, SIZE, board, build, fitted
from torch import Tensor

from recsys_core.errors import StudyError
from recsys_core.models import neural
from recsys_core.models.gmf import GMF
from recsys_core.models.ncf import NCF
from recsys_core.models.neumf import Fusion, NeuMF

FAMILY = ("gmf", "ncf", "neumf", "diverse_ncf")


def gmf_logits(product: Any, users: Tensor, items: Tensor) -> Tensor:
    """Equation 9 for (N,) pairs."""
    vectors = product.user_embedding.T[users] * product.item_embedding.T[items]
    return vectors @ product.layers[-1].weight[0] + product.layers[-1].bias


def last_hidden(tower: Any, users: Tensor, items: Tensor) -> Tensor:
    """The last hidden layer of equation 10 for (N,) pairs, on concatenated embeddings."""
    hidden = torch.cat([tower.user_embedding.T[users], tower.item_embedding.T[items]], dim=1)
    for layer in tower.layers[:-1]:
        hidden = tower.activation(layer(hidden))
    return hidden


def neumf_logits(fusion: Any, users: Tensor, items: Tensor) -> Tensor:
    """Equation 12 for (N,) pairs: one output layer on the concatenation of both last layers."""
    product, tower = fusion.product, fusion.tower
    vectors = product.user_embedding.T[users] * product.item_embedding.T[items]
    joined = torch.cat([vectors, last_hidden(tower, users, items)], dim=1)
    weight = torch.cat([product.layers[-1].weight, tower.layers[-1].weight], dim=1)
    return joined @ weight[0] + product.layers[-1].bias + tower.layers[-1].bias


def naive(name: str, module: Any, users: Tensor, items: Tensor) -> Tensor:
    if name == "gmf":
        return gmf_logits(module, users, items)
    if name == "neumf":
        return neumf_logits(module, users, items)
    return module.layers[-1](last_hidden(module, users, items)).squeeze(1)


@pytest.mark.parametrize("name", FAMILY)
def test_training_scores_and_catalogue_scores_equal_naive_scoring_of_every_pair(name: str) -> None:
    module: Any = fitted(name).module_  # type: ignore[attr-defined]
    users, items = PLAYERS.repeat_interleave(SIZE + 1), torch.arange(SIZE + 1).repeat(SIZE)
    with torch.no_grad():
        expected = naive(name, module, users, items).view(SIZE, SIZE + 1)
        every_item = torch.arange(SIZE + 1)[:, None].expand(-1, SIZE)
        torch.testing.assert_close(module(PLAYERS, every_item).T, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fitted(name).score(PLAYERS), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", FAMILY)
def test_every_parameter_gets_a_gradient(name: str) -> None:
    model: Any = build(name)
    module = model._build(board(False))
    (first, *_) = model._batches(board(False), torch.device("cpu")).epoch(torch.Generator().manual_seed(0))
    model._loss(module, *first).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in module.parameters())


def test_neumf_has_the_parameters_of_its_parts_and_the_paper_s_defaults() -> None:
    model = NeuMF(device="cpu")
    assert (model.gmf_dim, model.embedding_dim, model.layers) == (8, 16, (32, 16, 8))
    fusion, cells = model._build(board(False)), 2 * (SIZE + 1)
    expected = cells * 8 + 8 + 1 + cells * 16 + (32 * 32 + 32) + (32 * 16 + 16) + (16 * 8 + 8) + 8 + 1
    assert sum(parameter.numel() for parameter in fusion.parameters()) == expected


def test_pretraining_starts_the_fusion_from_the_mean_of_the_trained_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    shared: dict[str, Any] = {"batch_size": 512, "learning_rate": 0.02, "decay": 0.9}
    shared |= {"embedding_std": 0.1, "device": "cpu"}
    product = GMF(embedding_dim=4, epochs=3, **shared).fit(board(False), seed=5)
    tower = NCF(embedding_dim=6, layers=(12, 5), epochs=3, **shared).fit(board(False), seed=5)
    starts = []

    def spying(module: Any, *arguments: Any, train: Any = neural.train, **options: Any) -> Any:
        if isinstance(module, Fusion):
            starts.append(module.score_all(PLAYERS).detach())
            assert arguments[2].learning_rate == pytest.approx(0.02 * 0.9**3 * 0.5)
        return train(module, *arguments, **options)

    monkeypatch.setattr(neural, "train", spying)
    fused = NeuMF(gmf_dim=4, embedding_dim=6, layers=(12, 5), pretrain_epochs=3, fusion_rate=0.5, epochs=1, **shared)
    fused.fit(board(False), seed=5)
    torch.testing.assert_close(starts[0], (product.score(PLAYERS) + tower.score(PLAYERS)) / 2, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(fused.score(PLAYERS), starts[0], atol=1e-3)


def test_pretraining_is_part_of_the_seed_and_leaves_a_loaded_model_as_it_was(tmp_path: Any) -> None:
    first, same = (build("neumf", pretrain_epochs=2, epochs=1).fit(board(False), seed=3) for _ in range(2))
    assert torch.equal(first.score(PLAYERS), same.score(PLAYERS))
    first.save(tmp_path / "model")
    assert torch.equal(NeuMF.load(tmp_path / "model").score(PLAYERS), first.score(PLAYERS))


@pytest.mark.parametrize("dim", [0, -3])
def test_vectors_without_numbers_are_refused(dim: int) -> None:
    with pytest.raises(StudyError, match=f"embedding_dim={dim}: it must be at least 1"):
        GMF(embedding_dim=dim)
