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


def multinomial(scores: Tensor, seen: Tensor, positive_weight: float = 1.0) -> Tensor:
    """(B,) of (B, I): Σ_i w x_i log softmax(f)_i, items compete for the probability (Liang et al. 2018, eq. 2)."""
    return positive_weight * (seen * F.log_softmax(scores, dim=1)).sum(dim=1)


def gaussian(scores: Tensor, seen: Tensor, positive_weight: float = 1.0) -> Tensor:
    """(B,) of (B, I): - Σ_i c_i / 2 (x_i - f_i)², c_i = w where x_i = 1, else 1; up to a constant (Liang et al. 2018, eq. 3)."""
    return -(seen - scores).square().mul(1 + (positive_weight - 1) * seen).sum(dim=1) / 2


def logistic(scores: Tensor, seen: Tensor, positive_weight: float = 1.0) -> Tensor:
    """(B,) of (B, I): Σ_i w x_i log σ(f_i) + (1 - x_i) log(1 - σ(f_i)), with w = 1 in the paper (Liang et al. 2018, eq. 4)."""
    return (positive_weight * seen * F.logsigmoid(scores) + (1 - seen) * F.logsigmoid(-scores)).sum(dim=1)


LIKELIHOODS = {"multinomial": multinomial, "gaussian": gaussian, "logistic": logistic}  # each a log p(x | f)


def gaussian_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """(B,) of (B, D): KL(N(μ, σ²) ‖ N(0, 1)) = ½ Σ_d μ_d² + σ_d² - log σ_d² - 1, of the bound of Liang et al. 2018, eq. 7."""
    return (mean.square() + log_variance.exp() - log_variance - 1).sum(dim=1) / 2


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


def bayesian_personalised_ranking(scores: Tensor) -> Tensor:
    """Mean -log σ of the lead of the first row of (1 + n, P) scores over each other row (Rendle et al. 2009, BPR-Opt)."""
    return F.softplus(scores[1:] - scores[:1]).mean()


def cosine_alignment(first: Tensor, second: Tensor, liked: Tensor) -> Tensor:
    """Mean over (B, D) pairs of 1 - cos where `liked` (B,) is 1, and of max(0, cos) where it is 0."""
    cosine = F.cosine_similarity(first, second)
    return (liked * (1 - cosine) + (1 - liked) * cosine.clamp(min=0)).mean()


def in_batch_softmax(users: Tensor, vectors: Tensor, items: Tensor, log_q: Tensor) -> Tensor:
    """Softmax loss of (B, D) user vectors and the vectors (B, D) of their rows' items (B,), which are one another's negatives.

    An item is in a batch with a probability proportional to its popularity q, which subtracting `log_q` (B,), that is log q,
    from the products corrects for (Yi et al. 2019, eq. 5 and 6). A user's own item in other rows of the batch is no negative.
    """
    again = (items[:, None] == items).fill_diagonal_(False)
    logits = torch.addmm(-log_q, users, vectors.T).masked_fill_(again, -torch.inf)  # (B, B)
    return F.cross_entropy(logits, torch.arange(len(items), device=items.device))
