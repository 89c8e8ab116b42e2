"""Losses equal torch's own and are safe where a naive formula is not."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from recsys_core.losses import binary_cross_entropy, cosine_alignment, in_batch_softmax, mean_squared_error


def test_mean_squared_error_equals_a_hand_computed_value() -> None:
    assert mean_squared_error(torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1.0, 4.0, 4.0])) == 5 / 3


def test_binary_cross_entropy_equals_torch() -> None:
    logits = 5 * torch.randn(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets = torch.zeros_like(logits)
    targets[0] = 1
    expected = F.binary_cross_entropy(torch.sigmoid(logits), targets)
    torch.testing.assert_close(binary_cross_entropy(logits), expected, rtol=1e-12, atol=1e-12)


def test_binary_cross_entropy_has_the_gradient_sigmoid_minus_target() -> None:
    logits = torch.tensor([[0.3], [-2.0], [1.0]], requires_grad=True)
    binary_cross_entropy(logits).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, (torch.sigmoid(logits) - torch.tensor([[1.0], [0.0], [0.0]])).detach() / 3)


def test_binary_cross_entropy_stays_finite_for_large_logits() -> None:
    assert binary_cross_entropy(torch.tensor([[-1000.0], [1000.0]])) == 1000
    assert binary_cross_entropy(torch.tensor([[1000.0], [-1000.0]])) == 0


def test_the_alignment_equals_torch_s_cosine_embedding_loss() -> None:
    first, second = (torch.randn(6, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    liked = torch.tensor([1.0, 0.0, 1.0, 0.0, 0.0, 1.0])
    expected = F.cosine_embedding_loss(first, second, 2 * liked - 1)
    torch.testing.assert_close(cosine_alignment(first, second, liked), expected)


def test_the_in_batch_softmax_equals_its_formula_written_out() -> None:
    users, vectors = (torch.randn(4, 3, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    items, log_q = torch.tensor([5, 2, 5, 7]), torch.tensor([-1.0, -2.0, -1.0, -3.0])
    vectors[2] = vectors[0]
    losses = []
    for row in range(4):
        others = [other for other in range(4) if other == row or items[other] != items[row]]
        corrected = torch.stack([users[row] @ vectors[other] - log_q[other] for other in others])
        losses.append(corrected.logsumexp(0) - corrected[others.index(row)])
    torch.testing.assert_close(in_batch_softmax(users, vectors, items, log_q), torch.stack(losses).mean())


def test_with_the_correction_a_popular_negative_weighs_no_more_than_a_rare_one() -> None:
    """A draw of many rows from a skewed catalogue: the corrected loss is near the loss over the whole catalogue."""
    generator = torch.Generator().manual_seed(0)
    q = torch.tensor([0.6, 0.3, 0.08, 0.02])
    catalogue, user = torch.randn(4, 3, generator=generator), torch.randn(3, generator=generator)
    full = (catalogue @ user).logsumexp(0)
    items = torch.multinomial(q, 20_000, replacement=True, generator=generator)
    sampled = (catalogue[items] @ user - q.log()[items]).logsumexp(0) - torch.log(torch.tensor(20_000.0))
    torch.testing.assert_close(sampled, full, rtol=0.02, atol=0.02)
