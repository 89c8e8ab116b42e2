"""Neural matrix factorisation: GMF and the MLP fused (He, Liao, Zhang, Nie, Hu & Chua 2017); see `pairs` for its training.

    score(u, i) = GMF(u, i) + NCF(u, i), each with embeddings of its own                        (eq. 12)

On the paper's ML-1M files it reaches HR@10 .688 and NDCG@10 .410 (with 64 factors .705 and .426, with pre-training .730 and
.447); with the epoch chosen honestly, .709 and .435 (Ferrari Dacrema et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from recsys_core.interactions import Interactions
from recsys_core.models.base import FitTask
from recsys_core.models.gmf import GMF
from recsys_core.models.ncf import NCF
from recsys_core.models.pairs import PairNet
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting
from recsys_core.train import Schedule

PRETRAINED_SHARE = 0.5  # α of the paper's section 3.4.1: GMF's output starts with α, the MLP's with 1 - α


class Fusion(nn.Module):
    """NeuMF: the sum of both logits, so that the two output layers make up one over both last layers (with two biases)."""

    def __init__(self, product: PairNet, tower: PairNet) -> None:
        super().__init__()
        self.product, self.tower = product, tower

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the (M, P) logits of M items for each of P users."""
        return self.product(users, items) + self.tower(users, items)

    def score_all(self, users: Tensor) -> Tensor:
        """Return the (B, I) logits of every item."""
        return self.tower.score_all(users).add_(self.product.score_all(users))


@recommender("neumf", title="NeuMF", family="perceptron")
@dataclass(kw_only=True)
class NeuMF(NCF):
    """GMF with `gmf_dim` factors and the MLP, fused; the defaults are the paper's NeuMF with 8 predictive factors.

    With `pretrain_epochs` both parts are first trained alone for so many epochs, on the same rows and with the same settings, and
    the fusion starts from them, with the learning rate that `decay` has left by then, times `fusion_rate`. Differs from the paper:
    it goes on with Adam instead of plain gradient descent, whose steps are shorter.
    """

    embedding_dim: int = setting(16, wide=[8, 16, 32, 64])
    gmf_dim: int = setting(8, least=1, search=[8, 16, 32], wide=[8, 16, 32, 64, 128], other=4)
    pretrain_epochs: int = setting(0, least=0, wide=[0, 3, 6, 10], other=1)
    fusion_rate: float = setting(1.0, above=0, wide=between(0.01, 1.0, log=True), other=0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.pretrained: list[Any] = []  # the modules of both parts, where they were trained alone

    def _parts(self) -> tuple[GMF, NCF]:
        """The models that are fused, with what they have in common with it."""
        shared = {name: value for name, value in self.hyperparameters.items() if name in NCF.__dataclass_fields__}
        shared |= {"epochs": max(1, self.pretrain_epochs), "patience": None}
        alone = {name: value for name, value in shared.items() if name in GMF.__dataclass_fields__}
        return GMF(**alone | {"embedding_dim": self.gmf_dim}), NCF(**shared)

    def _fit(self, task: FitTask) -> None:
        parts = self._parts() if self.pretrain_epochs else ()
        self.pretrained = [part.fit(task.train, seed=task.seed, stop_after=task.stop_after).module_ for part in parts]
        for part, share in zip(self.pretrained, (PRETRAINED_SHARE, 1 - PRETRAINED_SHARE)):
            for parameter in part.linear[-1].parameters():
                parameter.data *= share
        super()._fit(task)
        if parts and self.history_ and (began := parts[0].history_):  # training began with the first part
            self.history_.path, self.history_.first_batch = began.path, began.first_batch

    def _schedule(self, task: FitTask) -> Schedule:
        left = self.decay**self.pretrain_epochs * self.fusion_rate
        return replace(super()._schedule(task), learning_rate=self.learning_rate * left)

    def _build(self, train: Interactions) -> nn.Module:
        return Fusion(*(self.pretrained or [part._build(train) for part in self._parts()]))
