"""What can be seen from outside of a model's form: `Traits.form` says which of these a model passes.

    counts        the scores of many users are few different rows
    linear        the scores of all unions of m histories that share nothing span m + 1 dimensions at most, a constant being one
    bilinear      the scores of all users span little more dimensions than a vector has
    non-linear    without their non-linear functions the layers would give other scores

Rows of scores are compared less their mean, which ranks nothing.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import torch
from boards import build, is_neural, rows_of
from torch.utils._python_dispatch import TorchDispatchMode

from recsys_core.interactions import Interactions
from recsys_core.models import MODELS, Recommender

ACTIVATIONS = {"relu", "tanh", "sigmoid", "silu", "gelu", "elu", "leaky_relu", "softplus"}
PARTS = ([1, 4], [7, 10, 12], [20], [33, 34, 35, 38])  # histories that share nothing
TOLERANCE = 1e-4  # of the largest singular value, below which there is no dimension
DIM = 4  # of vectors, so that few dimensions can be told from all
SMALL: dict[str, Any] = {"embedding_dim": DIM, "gmf_dim": DIM, "n_samples": 2}
SMALL_SVD = {"epochs": 2, "embedding_dim": DIM, "device": "cpu"}
MOST_BILINEAR = 2 * DIM + 2  # two products (a sum of two parts, two samples), and the biases
# Settings under which models have another form than by default, or under which it can be seen.
OTHERS: list[tuple[str, dict[str, Any]]] = [
    ("mult_dae", {"hidden_layers": ()}),
    ("mult_vae", {"hidden_layers": ()}),
    ("dssm", {"layers": ()}),
    ("content_towers", {"layers": ()}),
    ("hybrid_towers", {"layers": ()}),
    ("deepfm", {"layers": ()}),
    ("dlrm", {"bottom_layers": (), "top_layers": ()}),
    ("dlrm", {"bottom_layers": (8,), "top_layers": ()}),
    ("vector_profile", {"network": {"dssm": {"epochs": 2, "layers": (), "device": "cpu"}}}),
    ("content_based", {"similarity": "cosine", "profile": "plain"}),
    ("weighted_ranking_hybrid", {"members": {"ease": {}, "dssm": {"epochs": 2, "layers": (8,), "device": "cpu"}}}),
]
ALWAYS: dict[str, dict[str, Any]] = {
    "implicit_user_knn": {"n_neighbours": 1000},  # which are nearest is not linear, what is summed over all of them is
    "weighted_hybrid": {
        "members": {"bayesian_fm": {"n_burn_in": 1, "n_samples": 1, "embedding_dim": DIM}, "svd": SMALL_SVD}
    },
}
UNSEEN = {  # the forms that these state cannot be seen so
    "user_knn": "linear",  # a mean over neighbours, whose weights hang on the user's own stars
    "weighted_ranking_hybrid": "linear",  # each of its two members has a scale of the user's own
    "vector_profile": "non-linear",  # linear in the history, with vectors of films that come out of hidden layers
}


class WithoutActivations(TorchDispatchMode):
    """Non-linear functions give what they are given; `met` says whether there was one."""

    met = False

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name.rstrip("_") not in ACTIVATIONS:
            return function(*args, **(kwargs or {}))
        self.met = True
        return args[0] if name.endswith("_") else args[0].clone()


def centred(scores: torch.Tensor) -> torch.Tensor:
    """Scores (R, I) less the mean of their row."""
    scores = scores.cpu().double()
    return scores - scores.mean(dim=1, keepdim=True)


def n_dimensions(scores: torch.Tensor) -> int:
    """How many dimensions rows of scores (R, I) span."""
    values = torch.linalg.svdvals(centred(scores))
    return int((values > TOLERANCE * values[0].clamp(min=1e-12)).sum())


def unions(model: Recommender) -> Interactions:
    """Users who have seen the unions of `PARTS`; where stars are predicted, users of one history and of other stars."""
    n_unions = 2 ** len(PARTS) - 1
    chosen = [[part for place, part in enumerate(PARTS) if number >> place & 1] for number in range(1, n_unions + 1)]
    items = [np.concatenate(parts) for parts in chosen]
    stars = np.full(sum(map(len, items)), 5.0)
    if model.own_traits.predicts_ratings:
        items = [np.array([part[0] for part in PARTS])] * n_unions
        stars = np.random.default_rng(0).integers(1, 6, n_unions * len(PARTS)).astype(float)
    users = np.repeat(np.arange(n_unions), [len(mine) for mine in items])
    return rows_of(users, np.concatenate(items), stars, n_unions, model.train_.n_items)


def dimensions_of_unions(model: Recommender) -> int:
    """How many dimensions the scores of `unions` span."""
    told = unions(model)
    return n_dimensions(model.score(torch.arange(told.n_users), told))


def small(name: str, settings: dict[str, Any], train: Interactions) -> Recommender:
    """A model of short vectors, fitted briefly."""
    known = {field.name for field in fields(MODELS[name])}  # type: ignore[arg-type]
    changes = {key: value for key, value in SMALL.items() if key in known}
    if is_neural(name):
        changes["epochs"] = 2
    return build(name, **changes | ALWAYS.get(name, {}) | settings).fit(train)


def looks(model: Recommender, form: str) -> bool:
    """Whether what can be seen of a fitted model agrees with a form."""
    users = torch.arange(model.train_.n_users)
    scores, without = model.score(users), WithoutActivations()
    with without:
        changed = not torch.allclose(model.score(users), scores, rtol=1e-4, atol=1e-6)
    if UNSEEN.get(model.name) == form:
        return not without.met
    if form == "non-linear":
        return changed
    if form == "counts":
        return not without.met and len(centred(scores).round(decimals=6).unique(dim=0)) < len(users) / 4
    if form == "bilinear":
        return not without.met and n_dimensions(scores) <= MOST_BILINEAR
    return not without.met and model.own_traits.folds_in and dimensions_of_unions(model) <= len(PARTS) + 1
