"""The MLP has the sizes of its report, starts as stated and computes what its formula says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from boards import SIZE, board
from torch import Tensor, nn

from recsys_core import budget
from recsys_core.errors import StudyError
from recsys_core.models.ncf import NCF, SIZES, Tower

S4_TABLES = {
    3: (8, [544, 528, 136, 9]),
    4: (16, [2112, 2080, 528, 136, 9]),
    6: (16, [3168, 8148, 6120, 4672, 2080, 528, 17]),
}


@pytest.mark.parametrize("n_layers", S4_TABLES)
def test_the_towers_have_the_parameter_counts_of_the_report(n_layers: int) -> None:
    embedding_dim, counts = S4_TABLES[n_layers]
    model = NCF(**SIZES[n_layers], epochs=1, device="cpu").fit(board(False).take(np.arange(100)))
    linear = [module for module in model.module_.modules() if isinstance(module, nn.Linear)]
    assert [sum(p.numel() for p in module.parameters()) for module in linear] == counts
    assert model.n_parameters == sum(counts) + 2 * (SIZE + 1) * embedding_dim


def tower(activation: str = "relu", embedding_std: float = 0.7) -> Tower:
    torch.manual_seed(0)
    return Tower(20, 30, 8, (32, 16, 8), activation, embedding_std)


def joined(module: Tower, users: Tensor, items: Tensor) -> Tensor:
    """Equation 10 as it stands: the first layer on the concatenated embeddings of (N,) pairs."""
    hidden = torch.cat([module.user_embedding.T[users], module.item_embedding.T[items]], dim=1)
    for layer in module.layers[:-1]:
        hidden = module.activation(layer(hidden))
    return module.layers[-1](hidden).squeeze(1)


def test_the_split_first_layer_equals_the_concatenation_forwards_and_backwards() -> None:
    module, users = tower(), torch.tensor([3, 3, 19])
    items = torch.tensor([[0, 5, 7], [29, 5, 1]])
    logits = module(users, items)
    reference = joined(module, users.repeat(2), items.ravel()).view(2, 3)
    torch.testing.assert_close(logits, reference, rtol=1e-6, atol=1e-6)
    ours = torch.autograd.grad(logits.sum(), list(module.parameters()))
    theirs = torch.autograd.grad(reference.sum(), list(module.parameters()))
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cells", [1, 3_000, 10**9])
def test_scoring_the_catalogue_equals_the_concatenation_in_chunks_of_any_size(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "CACHED_CELLS", cells)
    module = tower("tanh")
    users, items = torch.arange(20).repeat_interleave(30), torch.arange(30).repeat(20)
    reference = joined(module, users, items).view(20, 30)
    torch.testing.assert_close(module.score_all(torch.arange(20)), reference, rtol=1e-6, atol=1e-6)


def test_the_tower_starts_as_stated() -> None:
    module = Tower(2_000, 3_000, 8, (32, 16, 8), "relu", 0.01)
    for embedding in (module.user_embedding, module.item_embedding):
        assert embedding.std().item() == pytest.approx(0.01, rel=0.05)
    bound = (6 / (16 + 32)) ** 0.5  # Glorot & Bengio 2010, equation 16
    assert 0.9 * bound < module.linear[0].weight.abs().max() <= bound
    assert not module.linear[0].bias.any()


def test_an_unknown_activation_is_refused_with_the_known_ones() -> None:
    with pytest.raises(StudyError, match=r"activation='gelu' is not known: allowed are relu, tanh, sigmoid"):
        NCF(activation="gelu")
