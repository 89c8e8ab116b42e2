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
