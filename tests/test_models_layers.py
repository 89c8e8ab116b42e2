"""Layers that several models are made of do what their docstrings say."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from recsys_core.models.layers import MLP, MeanEmbedding


def test_a_code_without_training_rows_stands_for_the_mean_of_the_trained_ones() -> None:
    embedding = MeanEmbedding(np.array([3, 0, 1]), 4).eval()
    mean = (embedding.weight[0] + embedding.weight[2]) / 2
    vectors = embedding(torch.tensor([2, 1, -1, 3, 0]))
    torch.testing.assert_close(vectors[1:4], mean.expand(3, 4))
    assert torch.equal(vectors[[0, 4]], embedding.weight[[2, 0]])


def test_hidden_codes_stand_for_the_mean_in_training() -> None:
    embedding = MeanEmbedding(np.array([3, 0, 1]), 4, hidden=1.0).train()
    mean = (embedding.weight[0] + embedding.weight[2]) / 2
    torch.testing.assert_close(embedding(torch.tensor([0, 2])), mean.expand(2, 4))
    shown = MeanEmbedding(np.array([3, 0, 1]), 4).train()
    assert torch.equal(shown(torch.tensor([0, 2])), shown.weight[[0, 2]])


def test_an_mlp_ends_with_a_linear_layer() -> None:
    kinds = [type(layer) for layer in MLP(5, (4, 3, 1), 0.5)]
    assert kinds == [*(nn.Linear, nn.ReLU, nn.Dropout) * 2, nn.Linear]
