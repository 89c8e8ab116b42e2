"""A gated recurrent unit over a user's history: GRU4Rec (Hidasi, Karatzoglou, Baltrunas & Tikk 2016); see `sequences` for the rest.

    r = σ(W_r x_t + U_r h_{t-1}),   z = σ(W_z x_t + U_z h_{t-1}),   n = tanh(W x_t + r ∘ (U h_{t-1}))            (eqs. 2 to 4)
    h_t = z ∘ h_{t-1} + (1 - z) ∘ n,     h_0 = 0,     x_t = dropout(e_{i_t}),     output A h_t + a

with biases in every sum; z here is the paper's 1 - z. Differs from the paper, which learns sessions side by side with a ranking
loss against the other items of its batch: whole histories, and the softmax over the catalogue. (Hidasi & Karatzoglou 2018 also
leave the pairwise losses: BPR-max, with drawn items besides.) The items' embeddings are inputs and outputs at once, which is their
"constrained embedding". On ML-1M, with the catalogue ranked, HR@10 is .281 and NDCG@10 .165 so (Klenitskiy & Vasilev 2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys_core.interactions import Interactions
from recsys_core.models.registry import recommender
from recsys_core.models.sequences import SequenceNet, SequenceRecommender
from recsys_core.models.settings import setting


class GRU4RecNet(SequenceNet):
    """(B, T) items give (B, T, D) vectors, over H hidden units."""

    def __init__(
        self, n_items: int, embedding_dim: int, hidden_dim: int, n_layers: int, dropout: float, embedding_std: float
    ) -> None:
        super().__init__(n_items, embedding_dim, embedding_std)
        self.dropout = nn.Dropout(dropout)
        self.recurrent = nn.GRU(embedding_dim, hidden_dim, n_layers, batch_first=True)
        self.output = nn.Linear(hidden_dim, embedding_dim)

    def forward(self, items: Tensor) -> Tensor:
        """Return (B, T, D) vectors; what fills a row up behind its last item is noise."""
        hidden, _ = self.recurrent(self.dropout(self.items(items)))
        return torch.as_tensor(self.output(self.dropout(hidden)))


@recommender("gru4rec", title="GRU4Rec", family="sequential")
@dataclass(kw_only=True)
class GRU4Rec(SequenceRecommender):
    """GRU4Rec with the full softmax; one layer, as the paper found best, of 128 hidden units.

    The learning rate and the size of the first embeddings were chosen on validation rows of ML-100K.
    """

    learning_rate: float = setting(3e-3, fast=0.01, other=0.001)
    embedding_std: float = setting(0.1)
    hidden_dim: int = setting(128, least=1, search=[64, 128, 256], fast=16, other=8)
    n_layers: int = setting(1, least=1, other=2)

    def _build(self, train: Interactions) -> GRU4RecNet:
        sizes = (self.embedding_dim, self.hidden_dim, self.n_layers)
        return GRU4RecNet(train.n_items, *sizes, self.dropout, self.embedding_std)
