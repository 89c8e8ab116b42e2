"""Layers that several models are made of: the multi-layer perceptron, and embeddings of codes that may be new."""

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn


class MLP(nn.Sequential):
    """Linear layers of these widths, (B, n_inputs) to (B, widths[-1]), with activation and dropout between them."""

    def __init__(
        self, n_inputs: int, widths: tuple[int, ...], dropout: float = 0, activation: type[nn.Module] = nn.ReLU
    ) -> None:
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise((n_inputs, *widths)):
            layers += [nn.Linear(n_in, n_out), activation(), nn.Dropout(dropout)]
        super().__init__(*layers[:-2])


class MeanEmbedding(nn.Embedding):
    """Embeddings of (B,) codes; a code that no training row has, or outside the table, stands for the mean of the trained ones.

    `counts` (n,) are the training rows of each code. A share `hidden` of the codes stands for the mean in training, too, so that
    what follows learns to do without them.
    """

    trained: Tensor

    def __init__(self, counts: np.ndarray, embedding_dim: int, hidden: float = 0.0) -> None:
        super().__init__(len(counts), embedding_dim)
        self.hidden = hidden
        self.register_buffer("trained", torch.as_tensor(counts > 0), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """Return (B, D) embeddings; in training every code is a trained one."""
        if self.training and not self.hidden:
            return super().forward(codes)
        inside = codes.clamp(0, len(self.trained) - 1)
        known = (codes == inside) & self.trained[inside]
        if self.training:
            known &= torch.rand(codes.shape, device=codes.device) >= self.hidden
        return torch.where(known[:, None], super().forward(inside), self.weight[self.trained].mean(dim=0))
