"""What the chapter on S4's diversity regulariser draws: accuracy beside diversity, and what the report's listing computes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from recsys_core.interactions import Interactions
from recsys_core.models.base import Recommender
from recsys_core.sampling import PositivesAndNegatives


def trade_off(
    results: pd.DataFrame, names: Mapping[float, str], first: tuple[str, str], second: tuple[str, str]
) -> pd.DataFrame:
    """Two metrics, each given with its protocol, by a setting whose values have models of their own: mean over seeds and `sd`."""
    columns: dict[str, pd.Series] = {}
    for protocol, metric in (first, second):
        rows = results[(results["protocol"] == protocol) & (results["metric"] == metric)].groupby("model")["value"]
        columns |= {metric: rows.mean(), f"{metric} sd": rows.std()}
    return pd.DataFrame(columns).loc[list(names.values())].set_axis(list(names))


def listing_penalty(scores: np.ndarray, genres: np.ndarray, weight: float = 1e-3) -> tuple[float, float]:
    """What S4's listing adds to the loss for one batch, and what its text describes, both times `weight`.

    The listing takes the ten highest of (B,) scores of a batch, whoever the users are, and sums the matrix of correlations between
    the *columns* of the ten films' genres (B, G): how far genres occur together. The text speaks of how alike the ten films are:
    the sum of the correlations between *rows*. Constant columns or rows have no correlation and are left out of the sum.
    """
    top = pd.DataFrame(genres[np.argsort(-scores, kind="stable")[:10]])
    return weight * float(top.corr().sum().sum()), weight * float(top.T.corr().sum().sum())


def listing_penalties(model: Recommender, train: Interactions, n_batches: int, batch_size: int = 2048) -> pd.DataFrame:
    """`listing_penalty` over batches of training rows with four negatives: columns `listing`, `films` and `users` (of the ten)."""
    assert train.item_features is not None
    genres, lines = train.item_features.select("genre_"), []
    batches = PositivesAndNegatives(train, batch_size, 4, torch.device("cpu")).epoch(torch.Generator().manual_seed(0))
    for _, (users, items) in zip(range(n_batches), batches):
        scores = _pair_scores(model, users, items)
        owners = users.expand_as(items).flatten()[scores.topk(10).indices]
        listing, films = listing_penalty(scores.numpy(), genres[items.flatten().numpy()])
        lines.append({"listing": listing, "films": films, "users": float(owners.unique().numel())})
    return pd.DataFrame(lines)


def _pair_scores(model: Recommender, users: Tensor, items: Tensor) -> Tensor:
    """Scores of (M, P) items of P users, as (M · P,)."""
    asked, rows = users.unique(return_inverse=True)
    return model.score(asked).cpu()[rows.expand_as(items).flatten(), items.flatten()]
