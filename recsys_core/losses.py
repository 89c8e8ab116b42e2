"""Losses, each a function of scores; the one that a model is trained with is named where it is trained."""

from __future__ import annotations

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


def bayesian_personalised_ranking(scores: Tensor) -> Tensor:
    """Mean -log σ of the lead of the first row of (1 + n, P) scores over each other row (Rendle et al. 2009, BPR-Opt)."""
    return F.softplus(scores[1:] - scores[:1]).mean()
