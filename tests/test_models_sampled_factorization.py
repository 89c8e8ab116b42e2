"""The losses of factorisations that draw what was not seen are those of the papers, and their parameters are those that rank."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from boards import rows_of

from recsys_core import losses
from recsys_core.interactions import Interactions
from recsys_core.models.sampled_factorization import BPRMF, LogLossMF
from recsys_core.models.storage import FORMAT_VERSION, read
from recsys_core.sampling import PositivesAndNegatives

N_USERS, N_ITEMS = 30, 16
UNSEEN_ITEM = N_ITEMS - 1


def random_rows(seed: int = 0, n_users: int = N_USERS) -> Interactions:
    """Random rows; nobody has seen the last item, and everybody has seen another number of items."""
    users, items = (np.random.default_rng(seed).random((n_users, N_ITEMS - 1)) < 0.4).nonzero()
    return rows_of(users, items, np.ones(len(users)), n_users, N_ITEMS)


def test_the_pairwise_loss_is_the_mean_over_pairs_written_out() -> None:
    scores = torch.tensor([[1.0, -2.0], [0.5, 0.0], [3.0, 0.0]])
    leads = [1.0 - 0.5, -2.0 - 0.0, 1.0 - 3.0, -2.0 - 0.0]
    expected = np.mean([-np.log(1 / (1 + np.exp(-lead))) for lead in leads])
    assert float(losses.bayesian_personalised_ranking(scores)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", [BPRMF, LogLossMF])
def test_the_loss_is_that_of_the_scores_with_the_squares_of_what_gives_them(kind: type[LogLossMF]) -> None:
    model = kind(epochs=1, embedding_dim=3, regularisation=0.3, device="cpu").fit(random_rows())
    users, items = torch.tensor([3, 8]), torch.tensor([[1, 2], [0, 9], [4, 4]])
    tables = {name: table.detach() for name, table in model.module_.named_parameters()}
    mine, theirs = tables["users.weight"][users], tables["items.weight"][items]
    scores = torch.tensor([[float(mine[p] @ theirs[m, p, :-1] + theirs[m, p, -1]) for p in range(2)] for m in range(3)])
    squares = mine.square().sum(dim=1).mean() + theirs.square().sum(dim=2).mean()
    plain = losses.binary_cross_entropy if kind is LogLossMF else losses.bayesian_personalised_ranking
    loss = model._loss(model.module_, users, items)
    constant = 0.3  # the gradient of the 1 that meets the bias is 0
    assert float(loss.detach()) == pytest.approx(float(plain(scores) + 0.3 * squares) + constant, rel=1e-5)
    lead = model.score(users)[:, 0] - model.score(users)[:, 9]
    expected = mine @ (tables["items.weight"][0, :-1] - tables["items.weight"][9, :-1])
    expected += tables["items.weight"][0, -1] - tables["items.weight"][9, -1]
    torch.testing.assert_close(lead, expected, rtol=1e-4, atol=1e-5)


def test_without_regularisation_weights_shrink_less() -> None:
    free, held = (
        LogLossMF(epochs=5, embedding_dim=4, learning_rate=0.05, regularisation=weight, device="cpu").fit(random_rows())
        for weight in (0.0, 0.5)
    )
    assert held.module_.items.weight.norm() < free.module_.items.weight.norm()


def test_negatives_of_an_item_nobody_has_seen_lower_its_score() -> None:
    train = random_rows()
    model = LogLossMF(epochs=20, batch_size=128, embedding_dim=4, learning_rate=0.05, device="cpu").fit(train)
    scores = model.score(torch.arange(N_USERS)).mean(dim=0)
    assert scores[UNSEEN_ITEM] == scores.min()
    drawn = PositivesAndNegatives(train, 4096, 8, torch.device("cpu")).draw(torch.Generator().manual_seed(0))
    assert (drawn == UNSEEN_ITEM).any()


@pytest.mark.parametrize("kind", [BPRMF, LogLossMF])
def test_model_files_hold_the_tables_that_they_have_held_since_the_first(kind: type[LogLossMF], tmp_path: Path) -> None:
    train = random_rows()
    model = kind(epochs=1, embedding_dim=3, device="cpu").fit(train)
    model.save(tmp_path / "model")
    _, arrays = read(tmp_path / "model", FORMAT_VERSION)
    shapes = {name: array.shape for name, array in arrays.items() if name.startswith("model.")}
    assert shapes == {"model.users.weight": (N_USERS, 4), "model.items.weight": (N_ITEMS, 4), "model.mean": ()}
    assert model.n_parameters == 3 * N_USERS + 4 * N_ITEMS
