"""Losses equal torch's own and are safe where a naive formula is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Bernoulli, Multinomial, Normal, kl_divergence

from recsys_core import metrics
from recsys_core.losses import (
    binary_cross_entropy,
    cosine_alignment,
    gaussian,
    gaussian_divergence,
    in_batch_softmax,
    logistic,
    mean_squared_error,
    multinomial,
    similarity_within_lists,
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


def candidates(n_candidates: int = 25, n_lists: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """(C, S) logits, (C, G) genre vectors of length 1 and, of one film, 0, and (C,) codes of different items."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(n_candidates, n_lists, generator=generator, dtype=torch.float64)
    flags = torch.rand(n_candidates, 6, generator=generator, dtype=torch.float64) < 0.4
    flags[3] = False
    return logits, F.normalize(flags.double(), dim=1), torch.randperm(100, generator=generator)[:n_candidates]


def test_the_similarity_within_lists_equals_its_formula_written_with_loops() -> None:
    logits, genres, items = candidates(12, 2)
    length, temperature, total = 5, 0.3, 0.0
    items[7] = items[2]  # one film twice among the candidates
    for scores in logits.T:
        ranked = sorted(scores.tolist(), reverse=True)
        limit = (ranked[length - 1] + ranked[length]) / 2
        member = [1 / (1 + np.exp((limit - score) / temperature)) for score in scores.tolist()]
        pairs = [(a, b) for a in range(12) for b in range(12) if items[a] != items[b]]
        alike = sum(member[a] * member[b] * float(genres[a] @ genres[b]) for a, b in pairs)
        total += length * (length - 1) * alike / sum(member[a] * member[b] for a, b in pairs) / 2
    assert similarity_within_lists(logits, genres, items, length, temperature).item() == pytest.approx(total, rel=1e-9)


def test_a_sharp_list_has_the_similarity_that_the_diversity_metric_measures() -> None:
    logits, genres, items = candidates()
    lists = logits.topk(10, dim=0).indices.T.numpy()
    expected = 90 * (1 - metrics.diversity(lists, genres.numpy())).mean()
    assert similarity_within_lists(logits, genres, items, temperature=1e-6).item() == pytest.approx(expected, rel=1e-9)


def test_descending_the_similarity_makes_the_ten_best_more_diverse() -> None:
    logits, genres, items = candidates()
    logits.requires_grad_()
    before = metrics.diversity(logits.detach().topk(10, dim=0).indices.T.numpy(), genres.numpy()).mean()
    optimiser = torch.optim.SGD([logits], lr=0.05)
    for _ in range(100):
        optimiser.zero_grad()
        similarity_within_lists(logits, genres, items).backward()
        optimiser.step()
    after = metrics.diversity(logits.detach().topk(10, dim=0).indices.T.numpy(), genres.numpy()).mean()
    assert after > before + 0.05


def test_the_similarity_has_the_gradient_of_finite_differences_and_none_along_a_common_shift() -> None:
    logits, genres, items = candidates(14, 3)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda scores: similarity_within_lists(scores, genres, items), (logits,))
    similarity_within_lists(logits, genres, items).backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() > 1e-3
    torch.testing.assert_close(logits.grad.sum(dim=0), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("n_candidates", [1, 10])
def test_without_more_candidates_than_places_there_is_nothing_to_diversify(n_candidates: int) -> None:
    assert similarity_within_lists(*(part[:n_candidates] for part in candidates())) == 0


def test_one_film_many_times_has_no_pairs_and_no_nan() -> None:
    logits, genres, items = candidates()
    assert similarity_within_lists(logits, genres, torch.zeros_like(items)) == 0


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
