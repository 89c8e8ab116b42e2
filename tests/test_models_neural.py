"""NCF has the sizes of its report and computes what its formula says; S2's recommender scales and standardises as stated."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from boards import PLAYERS, SIZE, attributes, board, build, fitted, rows_of
from torch import Tensor, nn

import recsys_core
from recsys_core import budget
from recsys_core.errors import StudyError
from recsys_core.judging import judge
from recsys_core.losses import mean_squared_error
from recsys_core.models.attributes import standardised
from recsys_core.models.embedding_recommender import STARS, EmbeddingNet, EmbeddingRecommender
from recsys_core.models.ncf import NCF, SIZES, Tower

S4_TABLES = {
    3: (8, [544, 528, 136, 9]),
    4: (16, [2112, 2080, 528, 136, 9]),
    6: (16, [3168, 8148, 6120, 4672, 2080, 528, 17]),
}


@pytest.mark.parametrize("n_layers", S4_TABLES)
def test_the_towers_have_the_parameter_counts_of_the_report(n_layers: int) -> None:
    embedding_dim, counts = S4_TABLES[n_layers]
    model = NCF(**SIZES[n_layers], epochs=1, device="cpu").fit(board(False).take(np.arange(100)))
    linear = [module for module in model.module_.modules() if isinstance(module, nn.Linear)]
    assert [sum(p.numel() for p in module.parameters()) for module in linear] == counts
    assert model.n_parameters == sum(counts) + 2 * (SIZE + 1) * embedding_dim


def tower(activation: str = "relu", embedding_std: float = 0.7) -> Tower:
    torch.manual_seed(0)
    return Tower(20, 30, 8, (32, 16, 8), activation, embedding_std)


def joined(module: Tower, users: Tensor, items: Tensor) -> Tensor:
    """Equation 10 as it stands: the first layer on the concatenated embeddings of (N,) pairs."""
    hidden = torch.cat([module.user_embedding.T[users], module.item_embedding.T[items]], dim=1)
    for layer in module.layers[:-1]:
        hidden = module.activation(layer(hidden))
    return module.layers[-1](hidden).squeeze(1)


def test_the_split_first_layer_equals_the_concatenation_forwards_and_backwards() -> None:
    module, users = tower(), torch.tensor([3, 3, 19])
    items = torch.tensor([[0, 5, 7], [29, 5, 1]])
    logits = module(users, items)
    reference = joined(module, users.repeat(2), items.ravel()).view(2, 3)
    torch.testing.assert_close(logits, reference, rtol=1e-6, atol=1e-6)
    ours = torch.autograd.grad(logits.sum(), list(module.parameters()))
    theirs = torch.autograd.grad(reference.sum(), list(module.parameters()))
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("cells", [1, 3_000, 10**9])
def test_scoring_the_catalogue_equals_the_concatenation_in_chunks_of_any_size(
    cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "CACHED_CELLS", cells)
    module = tower("tanh")
    users, items = torch.arange(20).repeat_interleave(30), torch.arange(30).repeat(20)
    reference = joined(module, users, items).view(20, 30)
    torch.testing.assert_close(module.score_all(torch.arange(20)), reference, rtol=1e-6, atol=1e-6)


def test_the_tower_starts_as_stated() -> None:
    module = Tower(2_000, 3_000, 8, (32, 16, 8), "relu", 0.01)
    for embedding in (module.user_embedding, module.item_embedding):
        assert embedding.std().item() == pytest.approx(0.01, rel=0.05)
    bound = (6 / (16 + 32)) ** 0.5  # Glorot & Bengio 2010, equation 16
    assert 0.9 * bound < module.layers[0].weight.abs().max() <= bound
    assert not module.layers[0].bias.any()


def test_an_unknown_activation_is_refused_with_the_known_ones() -> None:
    with pytest.raises(StudyError, match=r"activation='gelu' is not known: allowed are relu, tanh, sigmoid"):
        NCF(activation="gelu")


def test_features_are_standardised_by_the_training_rows() -> None:
    features = attributes()["user_features"]
    counts = np.arange(SIZE + 1)
    mean, deviation = standardised(features, counts)
    rows = np.repeat(features.values, counts, axis=0)
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(deviation, rows.std(axis=0), rtol=1e-5)


def test_users_and_items_outside_training_do_not_move_the_standardisation() -> None:
    train = board(True)
    assert train.user_features is not None
    extreme = train.user_features.values.copy()
    extreme[SIZE] = 1e6  # a user without rows
    moved = standardised(type(train.user_features)(extreme, train.user_features.columns), train.user_counts)
    for ours, theirs in zip(standardised(train.user_features, train.user_counts), moved):
        np.testing.assert_array_equal(ours, theirs)


def test_a_constant_feature_is_not_divided_by_zero() -> None:
    features = type(attributes()["user_features"])(np.full((3, 1), 7, np.float32), ("age",))
    assert standardised(features, np.ones(3))[1].tolist() == [1]


def test_the_loss_is_the_squared_error_of_ratings_divided_by_five() -> None:
    model, train = EmbeddingRecommender(batch_size=10**6), board(True)
    (batch,) = model._batches(train, torch.device("cpu")).epoch(torch.Generator().manual_seed(0))
    users, items, targets = batch
    stars = train.stars.toarray()[users.numpy(), items.numpy()]
    np.testing.assert_allclose(STARS * targets, stars, rtol=1e-6)
    module = EmbeddingNet(train, *model._sides(train), 4, 8).eval()
    expected = mean_squared_error(module(users, items), targets)
    assert torch.equal(model._loss(module, *batch), expected)


def test_predictions_equal_the_scores_clipped_to_the_scale() -> None:
    model = fitted("embedding_recommender")
    expected = model.score(PLAYERS).diagonal().clamp(1, 5)
    torch.testing.assert_close(model.predict(PLAYERS, PLAYERS), expected, rtol=1e-5, atol=1e-5)


def test_ranking_models_are_validated_by_ndcg_and_rating_models_by_rmse() -> None:
    diagonal = rows_of(np.arange(SIZE), np.arange(SIZE), np.full(SIZE, 5), SIZE + 1, SIZE + 1)
    for name, metric in (("ncf", "ndcg@10"), ("embedding_recommender", "rmse")):
        rows = board(name != "ncf")
        history = build(name, epochs=1).fit(rows, diagonal, judge=judge).history_
        assert history is not None
        assert list(history.epochs[0]) == ["epoch", "train_loss", metric]


def test_no_module_names_a_device_that_the_caller_did_not_choose() -> None:
    """Only what resolves `device=`, and what restores a file before moving it, may name one."""
    hard_coded = re.compile(r"""\.cuda\(|\.to\(\s*["']|device\s*=\s*["'](cpu|cuda|mps)|torch\.device\(\s*["']""")
    root = Path(recsys_core.__file__).parent
    found = {
        f"{path.relative_to(root)}: {line.strip()}"
        for path in root.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if hard_coded.search(line)
    }
    assert found == {
        'train.py: return torch.device("cuda" if torch.cuda.is_available() else "cpu")',
        'models/neural.py: with seeded(0, torch.device("cpu")):',
    }
