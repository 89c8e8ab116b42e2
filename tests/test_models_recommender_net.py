"""Report S1's network is the one that the report describes, and answers for labels that are new."""

from __future__ import annotations

import numpy as np
import torch
from test_models_attributes import YEARS, nobody, one, people
from torch import Tensor, nn

from recsys_core.models.recommender_net import DemographicNet, RecommenderNet


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
