"""Attention is that of torch and of its formula, a block is what it says, positions count back, the loss is that of the paper."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from boards import PLAYERS, SIZE, board_of, build, rows_of
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from recsys_core.errors import StudyError
from recsys_core.models.sasrec import ONE_NEGATIVE, CausalAttention, SASRecNet
from recsys_core.models.sequences import WindowsAndNegatives


def x_of(length: int = 7, dim: int = 8) -> Tensor:
    return torch.randn(3, length, dim, generator=torch.Generator().manual_seed(1))


def attention(n_heads: int) -> CausalAttention:
    torch.manual_seed(0)
    return CausalAttention(8, n_heads, 0.0)


@pytest.mark.parametrize("n_heads", [1, 2, 4])
def test_attention_equals_torchs_multihead_attention_forwards_and_backwards(n_heads: int) -> None:
    ours, reference = attention(n_heads), nn.MultiheadAttention(8, n_heads, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(ours.inputs.weight)
        reference.in_proj_bias.copy_(ours.inputs.bias)
        reference.out_proj.weight.copy_(ours.output.weight)
        reference.out_proj.bias.copy_(ours.output.bias)
    mine, theirs = x_of().requires_grad_(), x_of().requires_grad_()
    later = torch.ones(7, 7, dtype=torch.bool).triu(1)
    expected, _ = reference(theirs, theirs, theirs, attn_mask=later, need_weights=False)
    found = ours(mine)
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)


def test_attention_equals_its_formula_place_by_place() -> None:
    module, x = attention(1), x_of()
    query, key, value = module.inputs(x).chunk(3, dim=2)
    gathered = torch.stack(
        [
            torch.softmax(query[:, t, None] @ key[:, : t + 1].mT / math.sqrt(8), dim=2)[:, 0, :, None]
            .mul(value[:, : t + 1])
            .sum(dim=1)
            for t in range(7)
        ],
        dim=1,
    )
    torch.testing.assert_close(module(x), module.output(gathered))


def net(window: int = 9) -> SASRecNet:
    torch.manual_seed(0)
    return SASRecNet(20, window, 8, 2, 1, 0.3, 0.5).eval()


def test_blocks_add_to_their_input_what_they_make_of_it_normalised() -> None:
    module, x = net(), x_of()
    block = module.blocks[0]
    middle = x + block.attention(layer_norm(x, (8,)))
    first, last = block.layers[0], block.layers[3]
    expected = middle + last(torch.relu(first(layer_norm(middle, (8,)))))
    torch.testing.assert_close(block(x), expected)


def test_the_last_item_has_the_last_position_whatever_the_length() -> None:
    module = net()
    with torch.no_grad():
        for block in module.blocks:
            for parameter in (*block.attention.output.parameters(), *block.layers[3].parameters()):
                parameter.zero_()
    outputs = module(torch.tensor([[4, 5, 6], [6, 20, 20]]))
    embedded = [
        math.sqrt(8) * module.items.weight[item] + module.positions.weight[place] for item, place in ((5, 7), (6, 8))
    ]
    torch.testing.assert_close(outputs[0, 1:], layer_norm(torch.stack(embedded), (8,)))
    torch.testing.assert_close(outputs[1, 0], outputs[0, 2])


def test_scores_are_products_with_the_embeddings_of_the_items_themselves() -> None:
    module, items = net(), torch.tensor([[4, 5, 6], [6, 20, 20]])
    outputs = module(items)
    torch.testing.assert_close(
        module.score_next(items), torch.stack([outputs[0, 2], outputs[1, 0]]) @ module.items.weight[:20].T
    )


def test_dropout_is_of_training_alone() -> None:
    module, items = net(), torch.tensor([[4, 5, 6]])
    assert torch.equal(module(items), module(items))
    module.train()
    assert not torch.equal(module(items), module(items))


def test_heads_must_divide_the_dimension() -> None:
    with pytest.raises(StudyError, match="n_heads=3: it must divide embedding_dim=16"):
        build("sasrec", n_heads=3)


def test_the_loss_with_one_negative_equals_its_formula_place_by_place() -> None:
    model: Any = build("sasrec", objective=ONE_NEGATIVE, dropout=0.0)
    module = net()
    items = torch.tensor([[4, 5, 6], [6, 20, 20], [1, 2, 20]])
    following = torch.tensor([[5, 6, 7], [3, 20, 20], [2, 9, 20]])
    drawn = torch.tensor([[0, 1, 0], [8, 20, 20], [17, 0, 20]])
    terms = []
    for row, length in enumerate((3, 1, 2)):
        vectors = module(items[row : row + 1, :length])[0]
        for side, sign in ((following, 1), (drawn, -1)):
            scores = (vectors * module.items.weight[side[row, :length]]).sum(dim=1).tolist()
            terms += [math.log(1 / (1 + math.exp(-sign * score))) for score in scores]
    assert len(terms) == 2 * 6
    found = model._loss(module, items, following, drawn)
    assert found.item() == pytest.approx(-sum(terms) / len(terms), rel=1e-5)
    found.backward()
    touched = module.items.weight.grad.abs().sum(dim=1).nonzero().flatten().tolist()
    assert touched == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 17]


def test_the_first_batch_of_each_objective_has_the_same_users_and_one_has_negatives_besides() -> None:
    rows = board_of("sasrec")
    models: list[Any] = [build("sasrec", objective=each) for each in ("softmax", ONE_NEGATIVE)]
    softmax, drawn = (model._batches(rows, torch.device("cpu")) for model in models)
    users = np.arange(3)
    assert len(softmax.batch(users)) == 2
    next(drawn.epoch(torch.Generator().manual_seed(0)))
    assert all(torch.equal(*pair) for pair in zip(softmax.batch(users), drawn.batch(users)))


def test_one_negative_completes_the_checkerboard() -> None:
    rows = board_of("sasrec")
    scores = build("sasrec", objective=ONE_NEGATIVE, epochs=60).fit(rows).score(PLAYERS)
    mine = rows.users < SIZE
    scores[rows.users[mine], rows.items[mine]] = -torch.inf
    assert (scores.argmax(dim=1) == PLAYERS).float().mean() >= 0.9


def test_one_negative_leaves_out_a_user_who_has_seen_everything() -> None:
    rows = rows_of(np.repeat([0, 1], [4, 2]), np.array([0, 1, 2, 3, 0, 1]), np.ones(6), 2, 4)
    batches = WindowsAndNegatives(rows, 4, 10, torch.device("cpu"))
    ((items, following, drawn),) = batches.epoch(torch.Generator().manual_seed(0))
    assert items[:, -1].tolist() == [0] and following[:, -1].tolist() == [1] and int(drawn[0, -1]) in (2, 3)
    with pytest.raises(StudyError, match="All users have seen all 4 items"):
        build("sasrec", objective=ONE_NEGATIVE).fit(rows.take(rows.users == 0))
