"""Losses equal torch's own and are safe where a naive formula is not."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from recsys_core.losses import binary_cross_entropy, mean_squared_error


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
