"""The score is the sum of a user's and a transition's product, and every transition of every history is learnt from."""

from __future__ import annotations

from typing import Any

import torch
from boards import build
from test_models_sequences import N_ITEMS, random_histories
from torch.nn.functional import log_softmax

from recsys_core.models.fpmc import FPMC


def fitted() -> Any:
    return FPMC(epochs=2, embedding_dim=5, device="cpu").fit(random_histories())


def by_hand(module: Any, user: int, last: int) -> torch.Tensor:
    """Scores of all items, one by one."""
    for_users, after_items = module.following.weight.split(5, dim=1)
    return torch.stack(
        [module.users.weight[user] @ for_users[i] + module.last.weight[last] @ after_items[i] for i in range(N_ITEMS)]
    )


def test_scores_are_those_of_the_formula_with_the_last_item() -> None:
    model, rows = fitted(), random_histories()
    last = [int(rows.items[rows.users == user][-1]) for user in range(40)]
    expected = torch.stack([by_hand(model.module_, user, item) for user, item in enumerate(last)])
    torch.testing.assert_close(model.score(torch.arange(40)), expected.detach())


def test_the_loss_is_the_mean_log_loss_of_every_transition() -> None:
    model, rows = fitted(), random_histories()
    ((users, before, after),) = (
        build("fpmc", batch_size=10_000)
        ._batches(rows, torch.device("cpu"))
        .epoch(  # type: ignore[attr-defined]
            torch.Generator().manual_seed(0)
        )
    )
    assert len(users) == len(rows) - 40
    losses = [
        -log_softmax(by_hand(model.module_, int(user), int(j)), dim=0)[int(i)]
        for user, j, i in zip(users, before, after)
    ]
    torch.testing.assert_close(model._loss(model.module_, users, before, after), torch.stack(losses).mean())
