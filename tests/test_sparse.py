"""Rows of a sparse matrix in rectangles hold every number once."""

from __future__ import annotations

import numpy as np
import pytest
from boards import rows_of

from recsys_core import budget
from recsys_core.models.sparse import padded_rows


@pytest.mark.parametrize("cells", [1, 40, 10**6])
def test_padded_rows_hold_every_stored_number_once(cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "CACHED_CELLS", cells)
    users, items = (np.random.default_rng(0).random((20, 33)) < 0.3).nonzero()
    matrix = rows_of(users, items, np.arange(1, len(users) + 1), 20, 33).stars
    asked = np.array([3, 19, 3, 0])
    found = np.zeros((len(asked), 33))
    for positions, columns, values, present in padded_rows(matrix, asked):
        assert not values[~present].any()
        assert present.shape[1] < 2 * present.sum(dim=1).max()
        found[positions[present.nonzero()[:, 0].numpy()], columns[present]] += values[present].numpy()
    np.testing.assert_array_equal(found, matrix[asked].toarray())
