"""The recurrent unit is the one of its formula, step by step from nothing, and its output meets the items' own embeddings."""

from __future__ import annotations

import torch

from recsys_core.models.gru4rec import GRU4RecNet


def net(n_layers: int = 1) -> GRU4RecNet:
    torch.manual_seed(0)
    return GRU4RecNet(20, 8, 6, n_layers, 0.3, 0.5).eval()


def test_the_recurrent_unit_equals_its_formula_step_by_step() -> None:
    module, items = net(), torch.tensor([[4, 5, 6, 1], [6, 3, 19, 0]])
    unit = module.recurrent
    hidden, outputs = torch.zeros(2, 6), []
    for step in range(4):
        x = module.items.weight[items[:, step]]
        from_x = (x @ unit.weight_ih_l0.T + unit.bias_ih_l0).chunk(3, dim=1)
        from_hidden = (hidden @ unit.weight_hh_l0.T + unit.bias_hh_l0).chunk(3, dim=1)
        reset, keep = (torch.sigmoid(a + b) for a, b in zip(from_x[:2], from_hidden[:2]))
        candidate = torch.tanh(from_x[2] + reset * from_hidden[2])
        hidden = keep * hidden + (1 - keep) * candidate
        outputs.append(module.output(hidden))
    torch.testing.assert_close(module(items), torch.stack(outputs, dim=1))


def test_scores_are_products_with_the_embeddings_of_the_items_themselves() -> None:
    module = net(n_layers=2)
    outputs = module(torch.tensor([[4, 5, 6]]))
    found = module.score_next(torch.tensor([[4, 5, 6, 20]]))
    torch.testing.assert_close(found, outputs[:, 2] @ module.items.weight[:20].T)


def test_dropout_is_of_training_alone() -> None:
    module, items = net(), torch.tensor([[4, 5, 6]])
    assert torch.equal(module(items), module(items))
    module.train()
    assert not torch.equal(module(items), module(items))
