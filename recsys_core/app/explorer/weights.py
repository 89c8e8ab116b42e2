"""Fits the models of the explorer for lists, on all ratings of a data set, and makes small tables of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy import sparse

from recsys_core.app.explain import alone
from recsys_core.app.explorer.lists import Weights
from recsys_core.app.explorer.tables import Folded, Summed, Table
from recsys_core.budget import rows_at_once
from recsys_core.interactions import Interactions
from recsys_core.models import EXPLORED, MODELS, Recommender

MOST_FILMS = 10_000  # that a page can hold, the others are those with the fewest ratings
MOST_WHOLE = 2_000  # films of whose pairs all fit into 8 MB as text (base64 makes 4 bytes of 3)
MOST_PAIRS = 600_000  # of a larger catalogue, those with the largest weights of each film
BYTES_OF_A_PAIR = 3  # its value and its column, where a table does not hold all


def learn(rows: Interactions) -> Weights:
    """Fit the models of `EXPLORED` with the settings of their papers on all rows, and return their exact tables.

    Of a catalogue of more than `MOST_WHOLE` films a sum keeps the strongest weights of each film, `MOST_PAIRS` in all.
    """
    models = tuple(table_of(MODELS[name]().fit(rows)) for name in EXPLORED)
    return Weights(models, rows.item_counts / rows.item_counts.max())


def table_of(model: Recommender) -> Table:
    """The table of a fitted model whose score adds up over a history, or that solves for a vector of it."""
    return _summed(model) if model.own_traits.adds_up else _folded(model)


def _summed(model: Recommender) -> Summed:
    n_items = model.train_.n_items
    kept = n_items if n_items <= MOST_WHOLE else MOST_PAIRS // n_items
    step = rows_at_once(n_items)
    blocks = [np.arange(first, min(first + step, n_items)) for first in range(0, n_items, step)]
    table = sparse.vstack([strongest(alone(model, block).numpy(), kept) for block in blocks], "csr")
    scales = np.ones(n_items)
    if n_items <= MOST_WHOLE and table.nnz * BYTES_OF_A_PAIR > n_items**2:
        return Summed(model.name, model.title, table.toarray().astype(np.float64), scales)
    columns = table.indices.astype(np.uint16)
    return Summed(
        model.name, model.title, table.data.astype(np.float64), scales, table.indptr.astype(np.uint32), columns
    )


def strongest(weights: np.ndarray, k: int) -> sparse.csr_matrix:
    """Keep of each row of (R, I) weights the k that are furthest from 0, ties by column, and nothing that is 0."""
    order = np.argsort(-np.abs(weights), axis=1, kind="stable")[:, :k]
    kept = sparse.csr_matrix(
        (np.take_along_axis(weights, order, 1).ravel(), order.ravel(), np.arange(len(weights) + 1) * order.shape[1]),
        shape=weights.shape,
    )
    kept.eliminate_zeros()
    kept.sort_indices()
    return kept


def _folded(model: Any) -> Folded:
    vectors = model.item_vectors().cpu().numpy().astype(np.float64)
    n_items, weight = len(vectors), model.unobserved_weight
    counts = np.maximum(np.arange(n_items + 1), 1)
    ridge = model.regularisation * (counts + weight * n_items) ** model.regularisation_exponent
    return Folded(model.name, model.title, vectors, np.ones(n_items), weight * vectors.T @ vectors, ridge)


def most_watched(rows: Interactions, most: int = MOST_FILMS) -> tuple[Interactions, np.ndarray]:
    """The rows of the films with the most ratings, ties by code, coded anew without attributes, and the (I,) codes they had."""
    codes = np.sort(np.argsort(-rows.item_counts, kind="stable")[:most])
    picked = rows.take(np.isin(rows.items, codes))
    items = np.searchsorted(codes, picked.items)
    return replace(picked, items=items, n_items=len(codes), item_features=None, user_features=None), codes
