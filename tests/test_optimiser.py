"""The optimiser is Adam as torch has it."""

import pytest
import torch
from torch import Tensor, nn

from recsys_core.optimiser import Adam


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(size, generator=generator)) for size in ((7, 33), (5,), (1, 1))]


def gradients(step: int) -> list[Tensor | None]:
    """Of every parameter at this step; the second one has none at every other step."""
    generator = torch.Generator().manual_seed(step)
    drawn = [torch.randn(each.shape, generator=generator) for each in parameters()]
    return [drawn[0], None if step % 2 else drawn[1], drawn[2]]


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_every_step_gives_the_bits_of_torchs_fused_adam(weight_decay: float) -> None:
    mine, theirs = parameters(), parameters()
    adam = Adam(mine, 0.01, weight_decay)
    reference = torch.optim.Adam(theirs, 0.01, weight_decay=weight_decay, fused=True)
    for step in range(20):
        for own, other, gradient in zip(mine, theirs, gradients(step)):
            own.grad, other.grad = gradient, gradient
        adam.step()
        reference.step()
        assert all(torch.equal(own, other) for own, other in zip(mine, theirs))


def test_a_step_forgets_the_gradients_so_that_the_next_ones_are_not_added() -> None:
    mine = parameters()
    for own, gradient in zip(mine, gradients(0)):
        own.grad = gradient
    Adam(mine, 0.01).step()
    assert all(own.grad is None for own in mine)
