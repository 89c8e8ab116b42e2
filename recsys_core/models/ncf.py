"""Neural collaborative filtering: a factorisation, a perceptron, and both together (He, Liao, Zhang, Nie, Hu & Chua 2017).

    GMF      score(u, i) = w · (p_u ∘ q_i) + b                                                  (eq. 9)
    NCF      score(u, i) = w · φ(W_L … φ(W_1 [p_u ; q_i] + b_1) … + b_L) + b                    (eq. 10, φ = ReLU)
    NeuMF    score(u, i) = GMF(u, i) + NCF(u, i), each with embeddings of its own               (eq. 12)

All are trained with the log loss (eq. 7) on every observed pair and, each epoch anew, `n_negatives` unseen items per pair, by
Adam; what they rank by is the logit. They differ from the paper in that the epoch is chosen on validation rows. On the paper's
ML-1M files the perceptron of 3 layers and 8 factors reaches HR@10 .671 and NDCG@10 .399, NeuMF .688 and .410 (with 64 factors
.705 and .426, with pre-training .730 and .447); with the epoch chosen honestly, .709 and .435 (Ferrari Dacrema et al. 2021).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from recsys_core.errors import StudyError, choose
from recsys_core.interactions import Interactions
from recsys_core.losses import binary_cross_entropy, similarity_within_lists
from recsys_core.models.base import FitTask, Traits
from recsys_core.models.neural import NeuralRecommender
from recsys_core.models.registry import recommender
from recsys_core.sampling import Batches, PositivesAndNegatives

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu_, "tanh": torch.tanh, "sigmoid": torch.sigmoid}

# The three towers of S4 by their number of hidden layers; the widths of the third are worked out from its parameter table.
SIZES: dict[int, dict[str, Any]] = {
    3: {"embedding_dim": 8, "layers": (32, 16, 8)},
    4: {"embedding_dim": 16, "layers": (64, 32, 16, 8)},
    6: {"embedding_dim": 16, "layers": (96, 84, 72, 64, 32, 16)},
}


def layer_parameters(embedding_dim: int, layers: tuple[int, ...]) -> list[int]:
    """Weights and biases of each layer of a tower, from the first hidden layer to the output."""
    widths = (2 * embedding_dim, *layers, 1)
    return [n_in * n_out + n_out for n_in, n_out in pairwise(widths)]


HIDDEN_CELLS = 1_000_000  # hidden units held at once while scoring everything: 4 MB stay in the processor's cache
PRETRAINED_SHARE = 0.5  # α of the paper's section 3.4.1: GMF's output starts with α, the perceptron's with 1 - α
LIST_EVERY, LIST_CANDIDATES = 8, 64  # one batch in so many has lists; films that compete for a place on them
LIST_SHARE = 4  # samples of such a batch for each pair that is scored for its lists


class PairNet(nn.Module, ABC):
    """Embeddings and layers; (P,) users and (M, P) items give (M, P) logits.

    A logit joins a user's side with an item's, each computed once however many pairs it is part of. Everything is kept features
    first, (D, rows): layers this narrow are several times faster so on a CPU, the gradient of the lookup above all.
    """

    def __init__(
        self, n_users: int, n_items: int, embedding_dim: int, widths: tuple[int, ...], embedding_std: float
    ) -> None:
        super().__init__()
        self.user_embedding = nn.Parameter(torch.empty(embedding_dim, n_users))
        self.item_embedding = nn.Parameter(torch.empty(embedding_dim, n_items))
        self.layers = nn.ModuleList(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(widths))
        for embedding in (self.user_embedding, self.item_embedding):
            nn.init.normal_(embedding, std=embedding_std)
        for layer in self.linear:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    @property
    def linear(self) -> list[nn.Linear]:
        """The layers, from the embeddings to the logit."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    @abstractmethod
    def halves(self, user_vectors: Tensor, item_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The users' sides (H, …) and the items' (H, …) of (D, …) vectors."""

    @abstractmethod
    def join(self, user_half: Tensor, item_half: Tensor) -> Tensor:
        """(…) logits of (H, …) sides that are broadcast against each other."""

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return the (M, P) logits of M items for each of P users."""
        user_half, item_half = self.halves(
            self.user_embedding.index_select(1, users), self.item_embedding.index_select(1, items.flatten())
        )
        return self.join(user_half[:, None], item_half.view(-1, *items.shape))

    def score_all(self, users: Tensor) -> Tensor:
        """Return the (B, I) logits of every item."""
        user_half, item_half = self.halves(self.user_embedding.index_select(1, users), self.item_embedding)
        step = max(1, HIDDEN_CELLS // item_half.numel())
        return torch.cat([self.join(part[:, :, None], item_half[:, None]) for part in user_half.split(step, dim=1)])


class Product(PairNet):
    """GMF: the weighted sum of the products of two embeddings."""

    def __init__(self, n_users: int, n_items: int, embedding_dim: int, embedding_std: float) -> None:
        super().__init__(n_users, n_items, embedding_dim, (embedding_dim, 1), embedding_std)

    def halves(self, user_vectors: Tensor, item_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors themselves."""
        return user_vectors, item_vectors

    def join(self, user_half: Tensor, item_half: Tensor) -> Tensor:
        """Multiply factor by factor, and add up with the weights."""
        products, output = user_half * item_half, self.linear[0]
        return torch.addmm(output.bias[:, None], output.weight, products.flatten(1)).view(products.shape[1:])

    def score_all(self, users: Tensor) -> Tensor:
        """Return the (B, I) logits of every item, one matrix product."""
        output = self.linear[0]
        weighted = self.user_embedding.index_select(1, users) * output.weight.T
        return torch.addmm(output.bias, weighted.T, self.item_embedding)


class Tower(PairNet):
    """The perceptron. Its first layer is linear in [p_u ; q_i], so that its user half is computed once for all items of a user."""

    activation: Callable[[Tensor], Tensor]

    def __init__(
        self,
        n_users: int,
        n_items: int,
        embedding_dim: int,
        layers: tuple[int, ...],
        activation: str,
        embedding_std: float,
    ) -> None:
        super().__init__(n_users, n_items, embedding_dim, (2 * embedding_dim, *layers, 1), embedding_std)
        self.activation = ACTIVATIONS[activation]

    def halves(self, user_vectors: Tensor, item_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """The first layer's user half with its bias, and its item half."""
        first = self.linear[0]
        user_weight, item_weight = first.weight.chunk(2, dim=1)
        return torch.addmm(first.bias[:, None], user_weight, user_vectors), item_weight @ item_vectors

    def join(self, user_half: Tensor, item_half: Tensor) -> Tensor:
        """Add up the halves and climb the layers above."""
        hidden = item_half + user_half
        shape, hidden = hidden.shape[1:], hidden.flatten(1)
        for layer in self.linear[1:]:
            hidden = torch.addmm(layer.bias[:, None], layer.weight, self.activation(hidden))
        return hidden.view(shape)


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


class ListBatches:
    """The batches of another source, (users, items); to every eighth is added what lists are made of: candidates, and their genres.

    The candidates are the batch's first positives: drawn as training rows are, and so about as popular as what stands on lists.
    """

    def __init__(self, batches: Batches, genres: Tensor) -> None:
        self.batches, self.genres = batches, genres

    def epoch(self, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches of one epoch."""
        for number, batch in enumerate(self.batches.epoch(generator)):
            candidates = batch[1][0, :LIST_CANDIDATES]
            yield batch if number % LIST_EVERY else (*batch, candidates, self.genres[candidates])


@dataclass(kw_only=True)
class PairRecommender(NeuralRecommender):
    """What GMF, NCF and NeuMF share. `batch_size` counts samples, positives and negatives."""

    traits: ClassVar[Traits] = Traits(uses_ids=True, stochastic=True)

    embedding_dim: int = 8
    n_negatives: int = 4
    embedding_std: float = 0.01

    def _batches(self, train: Interactions, device: torch.device) -> Batches:
        return PositivesAndNegatives(train, self.batch_size, self.n_negatives, device)

    @staticmethod
    def _loss(module: Any, *batch: Tensor) -> Tensor:
        users, items = batch
        return binary_cross_entropy(module(users, items))

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        module: Any = self.module_
        return module.score_all(users.to(self.device_))


@recommender("gmf", title="GMF", family="perceptron")
@dataclass(kw_only=True)
class GMF(PairRecommender):
    """Generalised matrix factorisation; the paper's main comparison has 8 to 64 factors."""

    def _build(self, train: Interactions) -> PairNet:
        return Product(train.n_users, train.n_items, self.embedding_dim, self.embedding_std)


@recommender("ncf", title="NCF", family="perceptron")
@dataclass(kw_only=True)
class NCF(PairRecommender):
    """The perceptron of NCF; 3, 4 and 6 hidden layers are `NCF(**SIZES[3])` and so on.

    S4 states ReLU, 4 negatives and 20 epochs; its 3,496 steps over 7 M samples give batches of 2,048.
    """

    layers: tuple[int, ...] = (32, 16, 8)
    activation: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.layers:
            raise StudyError("layers=(): give the width of at least one hidden layer.")
        choose("activation", self.activation, ACTIVATIONS)

    def _build(self, train: Interactions) -> nn.Module:
        return Tower(train.n_users, train.n_items, self.embedding_dim, self.layers, self.activation, self.embedding_std)


@recommender("neumf", title="NeuMF", family="perceptron")
@dataclass(kw_only=True)
class NeuMF(NCF):
    """GMF with `gmf_dim` factors and the perceptron, fused; the defaults are the paper's NeuMF with 8 predictive factors.

    With `pretrain_epochs` both parts are first trained alone for so many epochs, on the same rows and with the same settings, and
    the fusion starts from them. Differs from the paper: it goes on with Adam instead of plain gradient descent.
    """

    smallest: ClassVar[dict[str, float]] = {"gmf_dim": 1, "pretrain_epochs": 0}
    pretrained: ClassVar[list[Any]] = []

    embedding_dim: int = 16
    gmf_dim: int = 8
    pretrain_epochs: int = 0

    def _parts(self) -> tuple[GMF, NCF]:
        """The models that are fused, with what they have in common with it."""
        shared = {name: value for name, value in self.hyperparameters.items() if name in NCF.__dataclass_fields__}
        shared |= {"epochs": self.pretrain_epochs, "patience": None}
        alone = {name: value for name, value in shared.items() if name in GMF.__dataclass_fields__}
        return GMF(**alone | {"embedding_dim": self.gmf_dim}), NCF(**shared)

    def _fit(self, task: FitTask) -> None:
        parts = self._parts() if self.pretrain_epochs else ()
        self.pretrained = [  # type: ignore[misc]
            part.fit(task.train, seed=task.seed, stop_after=task.stop_after).module_ for part in parts
        ]
        for part, share in zip(self.pretrained, (PRETRAINED_SHARE, 1 - PRETRAINED_SHARE)):
            for parameter in part.layers[-1].parameters():
                parameter.data *= share
        super()._fit(task)
        if parts and self.history_ and (began := parts[0].history_):  # training began with the first part
            self.history_.path, self.history_.first_batch = began.path, began.first_batch

    def _build(self, train: Interactions) -> nn.Module:
        return Fusion(*(self.pretrained or [part._build(train) for part in self._parts()]))


@recommender("diverse_ncf", title="NCF, diverse", family="perceptron", is_searched=False)
@dataclass(kw_only=True)
class DiverseNCF(NCF):
    """The perceptron with S4's diversity regulariser: log loss + `diversity` · `losses.similarity_within_lists`.

    S4 states a weight of .001 on the sum over the pairs of ten films. So that an epoch takes less than 10 % longer, the second
    term is added to one batch in eight, times eight, for some of its users. Items without genres are unlike all others, and where
    none has any, this is NCF.
    """

    smallest: ClassVar[dict[str, float]] = {"diversity": 0}

    diversity: float = 1e-3

    def _batches(self, train: Interactions, device: torch.device) -> Batches:
        features = train.item_features
        flags = np.zeros((train.n_items, 1), np.float32) if features is None else features.select("genre_")
        genres = nn.functional.normalize(torch.as_tensor(flags, device=device), dim=1)
        # the weight goes into the vectors, whose products are summed
        return ListBatches(super()._batches(train, device), genres * (LIST_EVERY * self.diversity) ** 0.5)

    @staticmethod
    def _loss(module: Any, *batch: Tensor) -> Tensor:
        (users, items), listing = batch[:2], batch[2:]
        loss = binary_cross_entropy(module(users, items))
        if listing:
            candidates, genres = listing
            asked = users[: max(1, items.numel() // (LIST_SHARE * len(candidates)))]
            logits = module(asked, candidates[:, None].expand(-1, len(asked)))
            loss = loss + similarity_within_lists(logits, genres, candidates)
        return loss
