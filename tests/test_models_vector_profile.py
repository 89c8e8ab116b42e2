"""A user as the mean vector of the films that they have seen."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from boards import PLAYERS, board_of, build, fitted

from recsys_core.errors import StudyError
from recsys_core.models.attribute_networks import VectorNetwork
from recsys_core.models.joint_embedding import JointEmbedding
from recsys_core.models.vector_profile import VectorProfile


def test_a_profile_ranks_by_the_cosine_with_the_mean_of_the_history() -> None:
    network = build("dssm")
    assert isinstance(network, VectorNetwork)
    train = board_of("dssm")
    profile = VectorProfile(network=network).fit(train)
    trained = fitted("dssm")
    assert isinstance(trained, VectorNetwork)
    vectors = trained.item_vectors()
    mean = torch.stack([vectors[torch.as_tensor(train.items[train.users == user])].mean(0) for user in range(3)])
    expected = torch.nn.functional.normalize(mean, dim=1) @ vectors.T
    torch.testing.assert_close(profile.score(PLAYERS[:3]), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(profile.score(PLAYERS[:3], train), expected, rtol=1e-4, atol=1e-5)
    assert profile.history_ is not None and profile.history_.path  # how its network's training began can be compared


def test_a_network_is_itself_or_its_name_and_settings() -> None:
    by_name = VectorProfile(network={"joint_embedding": {"gamma": 0.5}})
    assert by_name == VectorProfile(network=JointEmbedding(gamma=0.5))
    assert by_name.hyperparameters["network"]["joint_embedding"]["gamma"] == 0.5


@pytest.mark.parametrize(
    ("network", "problem"),
    [
        ({"ease": {}}, "'ease' is not known: allowed are"),
        ({"dssm": {}, "joint_embedding": {}}, "name one network"),
        ({}, "name one network"),
    ],
)
def test_what_has_no_vectors_to_search_is_no_network(network: dict[str, dict[str, Any]], problem: str) -> None:
    with pytest.raises(StudyError, match=problem):
        VectorProfile(network=network)
