"""Losses, each a function of scores; the one that a model is trained with is named where it is trained."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def mean_squared_error(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean of (predicted - target)² over (B,) values."""
    return F.mse_loss(predicted, target)


def binary_cross_entropy(logits: Tensor) -> Tensor:
    """Log loss of (1 + n, P) logits whose first row is positive and the rest negative (He et al. 2017, eq. 7).

    On logits, -log sigmoid(x) = softplus(-x) and -log(1 - sigmoid(x)) = softplus(x): no saturated probability is formed.
    """
    return (F.softplus(logits).sum() - logits[0].sum()) / logits.numel()


def similarity_within_lists(
    logits: Tensor, genres: Tensor, items: Tensor, length: int = 10, temperature: float = 0.25
) -> Tensor:
    """Sum of the genre similarities over all ordered pairs of a list of `length` items, the mean over S lists; differentiable.

    `logits` (C, S) are the scores of C candidates for S users, `genres` (C, G) their genre vectors of length 1 (or 0), `items`
    (C,) their codes. Candidate a belongs to a list as far as

        m_a = sigmoid((s_a - t) / temperature),    t half-way between the scores of ranks `length` and `length` + 1,

    and with c_ab the cosine of two candidates' genres the loss is

        length · (length - 1) · Σ_{a ≠ b} m_a m_b c_ab / Σ_{a ≠ b} m_a m_b        (a ≠ b: different items, not only places).

    As the temperature goes to 0, m marks the ten best, and the loss is length · (length - 1) · (1 - `metrics.diversity`). It does
    not change when all scores of a user are shifted. With no more than `length` candidates there is nothing to choose: 0.
    """
    if len(items) <= length:
        return logits.new_zeros(())
    limit = logits.topk(length + 1, dim=0).values[-2:].mean(dim=0)
    member = torch.sigmoid((logits - limit) / temperature)
    different = (items[:, None] != items).to(genres.dtype)
    alike = (different * (genres @ genres.T)) @ member
    ratio = (member * alike).sum(dim=0) / (member * (different @ member)).sum(dim=0).clamp_min(1e-12)
    return length * (length - 1) * ratio.mean()
