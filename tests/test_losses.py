"""Losses equal torch's own and are safe where a naive formula is not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.distributions import Bernoulli, Multinomial, Normal, kl_divergence

from recsys_core.losses import (
    binary_cross_entropy,
    gaussian,
    gaussian_divergence,
    logistic,
    mean_squared_error,
    multinomial,
)


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


def scores_and_seen() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    scores = 3 * torch.randn(4, 9, generator=generator, dtype=torch.float64)
    return scores, (torch.rand(4, 9, generator=generator) < 0.4).double()


def test_the_multinomial_log_likelihood_equals_torch_up_to_the_coefficient() -> None:
    scores, seen = scores_and_seen()
    expected = torch.stack([Multinomial(int(x.sum()), logits=f).log_prob(x) for f, x in zip(scores, seen)])
    coefficient = torch.lgamma(seen.sum(dim=1) + 1)  # n! / Π x_i!, where every x_i is 0 or 1
    torch.testing.assert_close(multinomial(scores, seen), expected - coefficient)


def test_the_gaussian_log_likelihood_equals_torch_up_to_a_constant() -> None:
    scores, seen = scores_and_seen()
    for weight in (1.0, 7.0):
        precision = torch.ones_like(seen).masked_fill(seen > 0, weight)
        normal = Normal(scores, precision.rsqrt())
        expected = (normal.log_prob(seen) - normal.log_prob(scores)).sum(dim=1)
        torch.testing.assert_close(gaussian(scores, seen, weight), expected)


def test_the_logistic_log_likelihood_equals_torch() -> None:
    scores, seen = scores_and_seen()
    torch.testing.assert_close(logistic(scores, seen), Bernoulli(logits=scores).log_prob(seen).sum(dim=1))
    weighted = F.binary_cross_entropy_with_logits(
        scores, seen, pos_weight=torch.full((9,), 3.0, dtype=torch.float64), reduction="none"
    )
    torch.testing.assert_close(logistic(scores, seen, 3.0), -weighted.sum(dim=1))


def test_likelihoods_stay_finite_for_large_scores() -> None:
    scores, seen = torch.tensor([[1000.0, -1000.0]]), torch.tensor([[0.0, 1.0]])
    assert multinomial(scores, seen) == -2000
    assert logistic(scores, seen) == -2000


def test_the_divergence_equals_torch() -> None:
    mean, log_variance = (part[:, :3] for part in scores_and_seen())
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(dim=1)
    torch.testing.assert_close(gaussian_divergence(mean, log_variance), expected)
