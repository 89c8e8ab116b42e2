"""Adam (Kingma & Ba 2015, algorithm 1), every step one call of torch's fused kernel.

It computes what `torch.optim.Adam(fused=True)` does, to the same bits, whose bookkeeping takes longer than its arithmetic where
layers are as narrow as in recommenders.
"""

from collections.abc import Iterable
from functools import partial

import torch
from torch.optim.adam import adam

FUSED = partial(adam, beta1=0.9, beta2=0.999, eps=1e-8, amsgrad=False, maximize=False, fused=True)


class Adam:
    """The parameters and their moments; one that has no gradient in a step stays as it is."""

    def __init__(self, parameters: Iterable[torch.Tensor], learning_rate: float, weight_decay: float = 0.0) -> None:
        self.parameters = list(parameters)
        self.learning_rate, self.weight_decay = learning_rate, weight_decay
        # of each parameter: the mean gradient m and the mean square v (both decaying), and the number of steps
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p), p.new_zeros(())) for p in self.parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters by their gradients, and forget these."""
        moved = [(p, p.grad, *own) for p, own in zip(self.parameters, self.moments) if p.grad is not None]
        parameters, gradients, means, squares, steps = map(list, zip(*moved))
        FUSED(parameters, gradients, means, squares, [], steps, lr=self.learning_rate, weight_decay=self.weight_decay)
        for parameter in parameters:
            parameter.grad = None
