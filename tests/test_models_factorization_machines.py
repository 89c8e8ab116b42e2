"""FM, DeepFM and DLRM compute what their formulas say, over fields that are what they should be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_models_attributes import nobody, one, people

from recsys_core.models.factorization_machines import DLRM, FM, DeepFM, pairwise_sum

SETTINGS: dict[str, Any] = {
    "epochs": 2,
    "learning_rate": 0.01,
    "embedding_dim": 4,
    "embedding_std": 0.3,
    "device": "cpu",
}
PAIR = 5, 7  # a user and an item


def state(model: FM) -> dict[str, np.ndarray]:
    return {name: values.double().numpy() for name, values in model.module_.state_dict().items()}


def field_vectors(model: FM, user: int, item: int, numbers: bool = True) -> np.ndarray:
    """(F, W) vectors of one pair, from the raw attributes, field by field."""
    train, learnt = people(), state(model)
    assert train.user_features is not None and train.item_features is not None
    (age, man, *jobs), film = train.user_features.values[user, :5].tolist(), train.item_features.values[item].tolist()
    ages, years = train.user_features.values[train.users, 0], train.item_features.values[train.items, 4]
    # columns of users: age, gender, three occupations, gender_F; of items: four genres, year
    users, items = learnt["user_fields.columns"], learnt["item_fields.columns"]
    fields = [learnt["user_fields.ids.weight"][user], users[1] if man else users[5], users[2 + int(np.argmax(jobs))]]
    fields += [users[0] * (age - ages.mean()) / ages.std()] if numbers else []
    fields += [learnt["item_fields.ids.weight"][item]]
    fields += [sum(items[genre] for genre in range(4) if film[genre]) / max(1, sum(film[:4]))]
    return np.stack([*fields, items[4] * (film[4] - years.mean()) / years.std()] if numbers else fields)


def pairs_summed(vectors: np.ndarray) -> float:
    """Equation 1 of Rendle (2010) as it stands: all pairs of fields."""
    n_fields = len(vectors)
    return sum(float(vectors[f] @ vectors[g]) for f in range(n_fields) for g in range(f + 1, n_fields))


def machine(model: FM, vectors: np.ndarray) -> float:
    return float(state(model)["bias"]) + vectors[:, 0].sum() + pairs_summed(vectors[:, 1:])


def climbed(model: FM, name: str, inputs: np.ndarray) -> np.ndarray:
    """An MLP whose linear layers stand in its state in order."""
    learnt = state(model)
    weights = [key for key in learnt if key.startswith(f"{name}.") and key.endswith("weight")]
    for key in weights:
        inputs = learnt[key] @ np.maximum(inputs, 0 if key != weights[0] else -np.inf)
        inputs = inputs + learnt[key.replace("weight", "bias")]
    return inputs


def predicted(model: FM) -> float:
    return float(model.score(torch.tensor([PAIR[0]]))[0, PAIR[1]])


def test_the_linear_time_identity_equals_the_sum_over_all_pairs() -> None:
    vectors = torch.randn(9, 6, 5, dtype=torch.float64, requires_grad=True)
    fast = pairwise_sum(vectors)
    slow = [pairs_summed(row.detach().numpy()) for row in vectors]
    np.testing.assert_allclose(fast.detach().numpy(), slow, rtol=1e-12)
    fast.sum().backward()
    assert vectors.grad is not None  # the gradient of v_f is the sum of the other vectors
    torch.testing.assert_close(vectors.grad, vectors.detach().sum(dim=1, keepdim=True) - vectors.detach())


def test_fm_equals_its_equation_over_fields_made_by_hand() -> None:
    model = FM(**SETTINGS).fit(people())
    vectors = field_vectors(model, *PAIR)
    assert vectors.shape == (7, 5)
    assert predicted(model) == pytest.approx(machine(model, vectors), rel=1e-4)


def test_without_attributes_fm_is_the_biased_matrix_factorisation() -> None:
    train = people()
    rows = type(train)(train.users, train.items, train.ratings, train.times, 40, 30)
    model = FM(**SETTINGS).fit(rows)
    learnt = state(model)
    users, items = learnt["user_fields.ids.weight"], learnt["item_fields.ids.weight"]
    expected = learnt["bias"] + users[:39, :1] + items[:29, 0] + users[:39, 1:] @ items[:29, 1:].T
    np.testing.assert_allclose(model.score(torch.arange(39))[:, :29], expected, rtol=1e-4)


def test_deepfm_is_fm_plus_an_mlp_on_the_same_vectors() -> None:
    model = DeepFM(**SETTINGS, layers=(6, 5)).fit(people())
    vectors = field_vectors(model, *PAIR)
    deep = climbed(model, "deep", vectors[:, 1:].ravel())
    assert predicted(model) == pytest.approx(machine(model, vectors) + deep.item(), rel=1e-4)


def test_dlrm_equals_its_definition() -> None:
    model, train = DLRM(**SETTINGS, bottom_layers=(6,), top_layers=(5,)).fit(people()), people()
    assert train.user_features is not None and train.item_features is not None
    ages, years = train.user_features.values[train.users, 0], train.item_features.values[train.items, 4]
    age, year = train.user_features.values[PAIR[0], 0], train.item_features.values[PAIR[1], 4]
    numbers = np.array([(age - ages.mean()) / ages.std(), (year - years.mean()) / years.std()], np.float64)
    dense = climbed(model, "bottom", numbers)
    vectors = np.vstack([dense, field_vectors(model, *PAIR, numbers=False)])
    asked = (torch.tensor([code]) for code in PAIR)
    np.testing.assert_allclose(model.interacting_vectors(*asked)[0], vectors, rtol=1e-4, atol=1e-6)
    dots = [vectors[f] @ vectors[g] for f in range(len(vectors)) for g in range(f)]
    assert len(dots) == 15  # z, user, gender, occupation, item, genres
    top = climbed(model, "top", np.array([*dense, *dots]))
    assert predicted(model) == pytest.approx(state(model)["bias"] + top.item(), rel=1e-4)


@pytest.mark.parametrize("model", [FM(**SETTINGS), DeepFM(**SETTINGS), DLRM(**SETTINGS)])
def test_users_and_items_without_training_rows_have_the_mean_vector(model: FM) -> None:
    train = people()
    assert train.user_features is not None
    model.fit(train)
    fields: Any = model.module_

    cold = fields.item_fields(torch.tensor([29]), fields.items.table[[29]])[0, : fields.item_fields.columns.shape[1]]
    torch.testing.assert_close(cold, fields.item_fields.ids.weight[:29].mean(dim=0))
    columns, values = train.user_features.columns, train.user_features.values[39].tolist()
    new = model.score(torch.tensor([0]), nobody(30), one(values, columns))
    untrained = fields.user_vectors(torch.tensor([39]), fields.users.table[[39]])
    torch.testing.assert_close(new, model.score_encoded(untrained))


def test_training_starts_at_the_mean_rating() -> None:
    train = people()
    model = FM(epochs=1, learning_rate=1e-9, embedding_std=0.0, device="cpu").fit(train)
    torch.testing.assert_close(
        model.score(torch.tensor([3])), torch.full((1, 30), float(train.ratings.mean())), rtol=1e-5, atol=1e-5
    )
