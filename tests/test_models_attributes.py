"""Networks on attributes: their inputs, users without history, and the two models that know nothing but attributes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from boards import PLAYERS, SIZE, attributes, fitted, rows_of
from torch import Tensor, nn

from recsys_core.datasets import MovieLens
from recsys_core.errors import StudyError
from recsys_core.evaluate import rate
from recsys_core.features import encode
from recsys_core.interactions import Features, Interactions
from recsys_core.models import EmbeddingRecommender, JointEmbedding, RecommenderNet, TwoTowerRegressor
from recsys_core.models.attributes import Attributes, MeanEmbedding, both_genders, perceptron
from recsys_core.models.demographic import DemographicNet
from recsys_core.protocols import make_split

YEARS = (1950.0, 1990.0, 1995.0)


def people() -> Interactions:
    """Ratings of 40 users for 30 items with all attributes; user 39's zip code and item 29's year are in no training row."""
    generator = np.random.default_rng(4)
    zips = np.r_[generator.integers(1, 9, 39), 9]
    occupations = np.eye(3)[generator.integers(0, 3, 40)]
    users = np.column_stack([generator.integers(18, 70, 40), generator.integers(0, 2, 40), occupations, zips])
    genres = generator.integers(0, 2, (30, 4))
    films = np.column_stack([genres, np.r_[generator.choice(YEARS, 29), 2001.0]])
    columns = ("age", "gender", "occupation_a", "occupation_b", "occupation_c", "zip")
    rows, items = np.divmod(np.arange(39 * 29), 29)
    return rows_of(
        rows,
        items,
        generator.integers(1, 6, len(rows)),
        40,
        30,
        user_features=Features(users.astype(np.float32), columns),
        item_features=Features(films.astype(np.float32), ("genre_a", "genre_b", "genre_c", "genre_d", "year")),
    )


def nobody(n_items: int) -> Interactions:
    return rows_of(np.arange(0), np.arange(0), np.arange(0), 1, n_items)


def one(values: list[float], columns: tuple[str, ...]) -> Features:
    return Features(np.array([values], np.float32), columns)


def test_a_code_without_training_rows_stands_for_the_mean_of_the_trained_ones() -> None:
    embedding = MeanEmbedding(np.array([3, 0, 1]), 4).eval()
    mean = (embedding.weight[0] + embedding.weight[2]) / 2
    vectors = embedding(torch.tensor([2, 1, -1, 3, 0]))
    torch.testing.assert_close(vectors[1:4], mean.expand(3, 4))
    assert torch.equal(vectors[[0, 4]], embedding.weight[[2, 0]])


def test_only_numbers_are_standardised_where_they_are_named() -> None:
    features = attributes()["user_features"]
    side = Attributes(features, np.ones(SIZE + 1), ("age",))
    assert side.table[:, 0].mean().abs() < 1e-5
    assert torch.equal(side.table[:, 1], torch.as_tensor(features.values[:, 1]))
    assert torch.equal(side(torch.as_tensor(features.values)), side.table)


def test_gender_becomes_two_flags_of_which_one_is_set() -> None:
    features = attributes()["user_features"]
    flags = both_genders(features).select("gender")
    assert flags.shape == (SIZE + 1, 2)
    assert (flags.sum(axis=1) == 1).all()
    assert both_genders(Features(np.ones((2, 1), np.float32), ("age",))).columns == ("age",)


def test_a_perceptron_ends_with_a_linear_layer() -> None:
    kinds = [type(layer) for layer in perceptron(5, (4, 3, 1), 0.5)]
    assert kinds == [*(nn.Linear, nn.ReLU, nn.Dropout) * 2, nn.Linear]


@pytest.mark.parametrize("name", ["two_tower_regressor", "recommender_net", "dlrm", "embedding_recommender"])
def test_scoring_the_catalogue_equals_scoring_pair_by_pair(name: str) -> None:
    model = fitted(name)
    users, items = PLAYERS.repeat_interleave(SIZE + 1), torch.arange(SIZE + 1).repeat(SIZE)
    stars = model.predict(users, items).view(SIZE, SIZE + 1)
    torch.testing.assert_close(model.score(PLAYERS).clamp(1, 5), stars, rtol=1e-5, atol=1e-5)


def test_the_embedding_recommender_does_not_see_the_zip_code() -> None:
    train = people()
    assert train.user_features is not None
    without = replace(train, user_features=train.user_features.without("zip"))
    ours, theirs = (EmbeddingRecommender(epochs=1, device="cpu").fit(rows) for rows in (train, without))
    assert torch.equal(ours.score(torch.arange(39)), theirs.score(torch.arange(39)))
    assert ours.n_parameters == theirs.n_parameters


@pytest.mark.parametrize("kind", [TwoTowerRegressor, RecommenderNet])
def test_models_without_ids_refuse_data_without_attributes(kind: type) -> None:
    with pytest.raises(StudyError, match=f"{kind.__name__} knows users and items by their attributes alone"):
        kind(device="cpu").fit(replace(people(), user_features=None))


@pytest.mark.parametrize("model", [TwoTowerRegressor(epochs=1), RecommenderNet(epochs=1)])
def test_held_out_users_are_answered_from_their_attributes(model: TwoTowerRegressor, ml_100k: MovieLens) -> None:
    split = make_split("user-holdout", encode(ml_100k)[0], fold_in=0.0)
    held_out = torch.as_tensor(np.unique(split.test.users)[:2])
    small = split.train.take(np.arange(0, len(split.train), 20))
    features = small.user_features
    assert features is not None
    mine = Features(features.values[held_out], features.columns)
    empty = small.take(np.arange(0))
    fit = replace(model, device="cpu").fit(small)
    assert not fit.fallback(held_out, empty, mine).any()
    first, second = fit.score(held_out, empty, mine)
    assert not torch.equal(first, second)
    rated = rate(fit, small, split.test.take(np.arange(0, len(split.test), 50)), empty)
    assert not rated["fallback"].any()


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


def matched() -> Interactions:
    """Men like genre a and women the rest, whatever else they are."""
    train = people()
    assert train.user_features is not None and train.item_features is not None
    men, genre_a = train.user_features.values[:, 1], train.item_features.values[:, 0]
    return replace(train, ratings=np.where(men[train.users] == genre_a[train.items], 5, 1).astype(np.float32))


@pytest.mark.parametrize(
    "model",
    [
        TwoTowerRegressor(epochs=30, learning_rate=0.01, hidden_dim=32, head_layers=(16,), device="cpu"),
        RecommenderNet(epochs=30, batch_size=128, learning_rate=0.01, device="cpu"),
    ],
)
def test_a_new_user_gets_what_people_like_them_like(model: TwoTowerRegressor) -> None:
    train = matched()
    assert train.user_features is not None and train.item_features is not None
    model.fit(train)
    genre_a = torch.as_tensor(train.item_features.values[:29, 0] > 0)
    for is_man in (0.0, 1.0):
        person = one([33, is_man, 0, 1, 0, 0], train.user_features.columns)
        scores = model.score(torch.tensor([0]), nobody(30), person)[0, :29]
        liked = genre_a == bool(is_man)
        assert scores[liked].mean() > 4
        assert scores[~liked].mean() < 2


class ReportedNet(nn.Module):
    """The network as report S1 describes it, on label codes and one-hot flags."""

    def __init__(self, net: DemographicNet, years: Tensor) -> None:
        super().__init__()
        self.net, self.years = net, years

    def forward(
        self, zips: Tensor, years: Tensor, ages: Tensor, jobs: Tensor, genders: Tensor, genres: Tensor
    ) -> Tensor:
        net = self.net
        vectors = [
            net.zip_embedding.weight[zips],
            net.occupation_embedding[jobs],
            net.age(ages[:, None]),
            net.gender(genders),
            net.year_embedding.weight[torch.searchsorted(self.years, years)],
            genres,
        ]
        hidden = torch.cat(vectors, dim=1)
        first, norm, _, dropout, second, second_norm, _, last = net.layers
        assert isinstance(dropout, nn.Dropout)
        hidden = torch.relu(norm(first(hidden)))
        hidden = torch.relu(second_norm(second(hidden)))
        return torch.sigmoid(last(hidden)).squeeze(1)


def test_recommender_net_is_the_network_of_the_report_scaled_to_the_stars() -> None:
    train = people()
    assert train.user_features is not None and train.item_features is not None
    model = RecommenderNet(epochs=2, device="cpu").fit(train)
    assert isinstance(model.module_, DemographicNet)
    users, items = train.users[::7], train.items[::7]
    person, film = train.user_features.values[users], train.item_features.values[items]
    ages = train.user_features.values[train.users, 0].astype(np.float64)
    genders = np.column_stack([person[:, 1], 1 - person[:, 1]])
    reference = ReportedNet(model.module_, torch.tensor([*YEARS, 2001.0]))(
        torch.as_tensor(person[:, 5]).long(),
        torch.as_tensor(film[:, 4]),
        torch.as_tensor((person[:, 0] - ages.mean()) / ages.std()).float(),
        torch.as_tensor(person[:, 2:5].argmax(axis=1)),
        torch.as_tensor(genders),
        torch.as_tensor(film[:, :4]),
    )
    stars = model.predict(torch.as_tensor(users), torch.as_tensor(items))
    torch.testing.assert_close(stars, 1 + 4 * reference, rtol=1e-4, atol=1e-4)
    assert model.score(torch.arange(39)).min() >= 1
    assert model.score(torch.arange(39)).max() <= 5


def test_an_unknown_zip_code_is_one_that_no_training_row_has_and_a_known_one_counts() -> None:
    train = people()
    assert train.user_features is not None
    model, columns = RecommenderNet(epochs=2, device="cpu").fit(train), train.user_features.columns
    unknown, unseen, beyond, known = (
        model.score(torch.tensor([0]), nobody(30), one([30, 1, 1, 0, 0, number], columns)) for number in (0, 9, 77, 3)
    )
    assert torch.equal(unknown, unseen)
    assert torch.equal(unknown, beyond)
    assert not torch.equal(unknown, known)


def test_a_year_without_training_rows_stands_for_the_mean_of_the_others() -> None:
    train = people()
    model = RecommenderNet(epochs=1, device="cpu").fit(train)
    net = model.module_
    assert isinstance(net, DemographicNet)
    vectors = net.item_vectors(torch.tensor([29]))[0, :16]
    torch.testing.assert_close(vectors, net.year_embedding.weight[:3].mean(dim=0))


def test_hidden_codes_stand_for_the_mean_in_training() -> None:
    embedding = MeanEmbedding(np.array([3, 0, 1]), 4, hidden=1.0).train()
    mean = (embedding.weight[0] + embedding.weight[2]) / 2
    torch.testing.assert_close(embedding(torch.tensor([0, 2])), mean.expand(2, 4))
    shown = MeanEmbedding(np.array([3, 0, 1]), 4).train()
    assert torch.equal(shown(torch.tensor([0, 2])), shown.weight[[0, 2]])


def test_the_joint_embedding_chooses_its_epoch_by_the_accuracy_of_liked() -> None:
    rows = people()
    held_out = rows.take(rows.users == 3)
    model = JointEmbedding(epochs=3, batch_size=128, hidden_dim=8, embedding_dim=8, joint_dim=4, device="cpu")
    model.fit(rows.take(rows.users != 3), held_out)
    assert model.history_ is not None
    accuracies = [epoch["accuracy"] for epoch in model.history_.epochs]
    expected = float(((model.logits(held_out) > 0).numpy() == (held_out.ratings >= 4)).mean())
    assert accuracies[model.history_.best_epoch - 1] == max(accuracies) == pytest.approx(expected)


def test_the_linear_head_of_the_joint_embedding_gives_everybody_one_order_and_the_cosine_does_not() -> None:
    rows = people()
    sizes = {"hidden_dim": 8, "embedding_dim": 8, "joint_dim": 4, "epochs": 3, "batch_size": 128, "device": "cpu"}
    for by_cosine in (False, True):
        scores = JointEmbedding(**sizes, by_cosine=by_cosine).fit(rows).score(torch.arange(39))
        gaps = scores - scores[:, :1]  # of every item to the first
        assert torch.allclose(gaps, gaps[:1].expand_as(gaps), atol=1e-5) is not by_cosine
