"""Report S0's regressor computes its formula, on the inputs that the report states."""

from __future__ import annotations

import numpy as np
import torch
from test_models_attributes import people

from recsys_core.datasets import MovieLens
from recsys_core.features import encode
from recsys_core.models.two_tower_regressor import TwoTowerRegressor


def towers(model: TwoTowerRegressor, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """The formula of the module's docstring in numpy, for (N, F) inputs."""
    state = {name: values.double().numpy() for name, values in model.module_.state_dict().items()}

    def climb(side: str, inputs: np.ndarray) -> np.ndarray:
        hidden = inputs @ state[f"{side}_tower.0.weight"].T + state[f"{side}_tower.0.bias"]
        mean, variance = state[f"{side}_tower.1.running_mean"], state[f"{side}_tower.1.running_var"]
        scaled = (hidden - mean) / np.sqrt(variance + 1e-5)
        return np.maximum(scaled * state[f"{side}_tower.1.weight"] + state[f"{side}_tower.1.bias"], 0)

    joined = np.hstack([climb("user", users), climb("item", items)])
    return joined @ state["head.0.weight"][0] + state["head.0.bias"]


def test_the_two_towers_compute_what_their_formula_says() -> None:
    train = people()
    assert train.user_features is not None and train.item_features is not None
    model = TwoTowerRegressor(epochs=2, device="cpu", hidden_dim=8).fit(train)

    def inputs(values: np.ndarray, counts: np.ndarray, numbers: list[int]) -> np.ndarray:
        rows = np.repeat(values, counts, axis=0)
        scaled = values.astype(np.float64).copy()
        scaled[:, numbers] = (values[:, numbers] - rows[:, numbers].mean(axis=0)) / rows[:, numbers].std(axis=0)
        return scaled

    people_in = inputs(train.user_features.values, train.user_counts, [0, 5])
    people_in = np.hstack([people_in, 1 - people_in[:, [1]]])
    films_in = inputs(train.item_features.values, train.item_counts, [4])
    users, items = torch.arange(20), torch.arange(20) + 5
    expected = towers(model, people_in[users], films_in[items])
    np.testing.assert_allclose(model.predict(users, items), expected.clip(1, 5), rtol=1e-4)


def test_the_towers_have_the_inputs_that_the_report_states(ml_100k: MovieLens) -> None:
    rows = encode(ml_100k)[0].take(np.arange(300))
    net = TwoTowerRegressor(device="cpu")._build(rows)
    assert net.user_tower[0].weight.shape == (512, 25)
    assert net.item_tower[0].weight.shape == (512, 20)


def test_with_a_linear_head_all_users_get_the_films_in_one_order() -> None:
    train, users = people(), torch.arange(39)
    additive, meeting = (
        TwoTowerRegressor(epochs=15, device="cpu", learning_rate=0.01, head_layers=layers).fit(train).score(users)
        for layers in ((), (16,))
    )
    differences = additive - additive[:1]
    assert (differences - differences[:, :1]).abs().max() < 1e-4
    differences = meeting - meeting[:1]
    assert (differences - differences[:, :1]).abs().max() > 0.01
