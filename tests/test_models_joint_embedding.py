"""Report S0's classifier chooses its epoch by accuracy, and ranks by its head or by the cosine."""

from __future__ import annotations

import pytest
import torch
from test_models_attributes import people

from recsys_core.errors import StudyError
from recsys_core.models.joint_embedding import JointEmbedding


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


def test_a_linear_head_adds_up_what_the_two_vectors_give() -> None:
    rows = people()
    model = JointEmbedding(epochs=1, hidden_dim=8, embedding_dim=8, joint_dim=4, device="cpu").fit(rows)
    of_user, of_film = model.head_weights()
    users = model.encode_users(torch.arange(5))
    expected = (users @ of_user)[:, None] + model.encode_items() @ of_film + model.module_.head[-1].bias
    torch.testing.assert_close(model.score_encoded(users), expected.detach(), rtol=1e-4, atol=1e-5)
    with pytest.raises(StudyError, match="only a linear head"):
        JointEmbedding(head_layers=(3,)).head_weights()
