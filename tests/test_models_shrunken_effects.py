"""Mean residuals that are shrunk, against values computed by hand."""

import numpy as np
import pandas as pd
import pytest

from recsys_core.models.shrunken_effects import add_own_mean, attribute_effects


def test_the_hybrid_adds_the_shrunk_mean_residual_of_known_rows_only() -> None:
    table = pd.DataFrame({"user": 0, "position": range(4), "actual": [5.0, 4.0, 1.0, 3.0], "predicted": 3.0})
    table = table.assign(squared_error=(table["actual"] - 3) ** 2)
    assert add_own_mean(table, 2, 1.0, 3)["predicted"].tolist() == [4.0]  # 3 + (2 + 1) / (1 + 2)
    assert add_own_mean(table, 0, 1.0, 3)["predicted"].tolist() == [3.0]


def test_without_residuals_an_effect_is_what_attributes_make_one_expect() -> None:
    features = np.array([[0.0], [0.0], [1.0], [1.0], [1.0]])
    codes = np.repeat([0, 1, 2, 3], 50)
    effects = attribute_effects(np.where(codes < 2, -1.0, 1.0), codes, features, weight=10.0, ridge=1e-9)
    assert effects.tolist() == pytest.approx([-1, -1, 1, 1, 1])
    alone = attribute_effects(np.ones(10), np.zeros(10, np.int64), np.zeros((2, 1)), weight=10.0, ridge=1.0)
    assert alone.tolist() == pytest.approx([1, 1])
