"""What networks on attributes share: inputs from attribute tables, stars on a scale, answers for users without history."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_core.errors import StudyError
from recsys_core.interactions import Features, Interactions
from recsys_core.losses import mean_squared_error
from recsys_core.models.neural import NeuralRecommender
from recsys_core.sampling import Batches


def standardised(features: Features, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (F,) of the feature columns over the training rows; a constant column has deviation 1."""
    values = features.values.astype(np.float64)
    mean = np.average(values, axis=0, weights=counts)
    deviation = np.sqrt(np.average((values - mean) ** 2, axis=0, weights=counts))
    return mean.astype(np.float32), np.where(deviation > 1e-6, deviation, 1).astype(np.float32)


def both_genders(features: Features) -> Features:
    """Gender as two flags, `gender` of men and `gender_F` of women; nothing else changes."""
    women = 1 - features.select("gender")
    return Features(np.hstack([features.values, women]), (*features.columns, *["gender_F"] * women.shape[1]))


def perceptron(n_inputs: int, widths: tuple[int, ...], dropout: float = 0, activation: type = nn.ReLU) -> nn.Sequential:
    """Linear layers of these widths, with activation and dropout between them."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise((n_inputs, *widths)):
        layers += [nn.Linear(n_in, n_out), activation(), nn.Dropout(dropout)]
    return nn.Sequential(*layers[:-2])


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


class Attributes(nn.Module):
    """The attributes of one side as inputs: `table` (U or I, F) for the catalogue; calling it makes inputs of raw (B, F) values.

    The columns in `numbers` (None: all) are standardised by the training rows, the others are left as they are.
    """

    table: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, features: Features | None, counts: np.ndarray, numbers: tuple[str, ...] | None = None) -> None:
        super().__init__()
        features = features or Features(np.zeros((len(counts), 0), np.float32), ())
        self.columns = features.columns
        mean, deviation = standardised(features, counts)
        if numbers is not None:
            left = ~np.isin(features.columns, numbers)
            mean[left], deviation[left] = 0, 1
        values = {"mean": mean, "deviation": deviation, "table": (features.values - mean) / deviation}
        for name, array in values.items():  # made from the training rows again when a model is loaded
            self.register_buffer(name, torch.from_numpy(array), persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        """Return the (B, F) inputs of raw attributes."""
        return (values - self.mean) / self.deviation

    def positions(self, *prefixes: str) -> list[int]:
        """Return the columns whose name starts with one of `prefixes`."""
        return [place for place, column in enumerate(self.columns) if column.startswith(prefixes)]


class AttributeNet(nn.Module):
    """A vector from a user's code and inputs, one from an item's code, and a layer that joins them into a scaled rating."""

    def __init__(self, users: Attributes, items: Attributes) -> None:
        super().__init__()
        self.users = users
        self.items = items

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Return (B,) scaled ratings of (B,) pairs."""
        return self.join(self.user_vectors(users, self.users.table.index_select(0, users)), self.item_vectors(items))

    def user_vectors(self, users: Tensor, inputs: Tensor) -> Tensor:
        """(B, H) from (B,) codes, -1 for a user without one, and (B, F) inputs."""
        raise NotImplementedError

    def item_vectors(self, items: Tensor) -> Tensor:
        """(B, H) from (B,) codes."""
        raise NotImplementedError

    def join(self, user_vectors: Tensor, item_vectors: Tensor) -> Tensor:
        """(B,) scaled ratings of (B, H) user and item vectors."""
        raise NotImplementedError


@dataclass(kw_only=True)
class AttributeNetwork(NeuralRecommender):
    """A recommender around an AttributeNet, which ranks by what the net makes of a pair.

    A user without history is answered from their attributes if these are given. `unread` attributes are left out, `numbers` are
    standardised (see `Attributes`).
    """

    scale: ClassVar[float] = 1.0
    unread: ClassVar[tuple[str, ...]] = ()
    numbers: ClassVar[tuple[str, ...] | None] = None

    def _user_attributes(self, features: Features) -> Features:
        return both_genders(features.without(*self.unread))

    def _item_attributes(self, features: Features) -> Features:
        return features.without(*self.unread)

    def _sides(self, train: Interactions) -> tuple[Attributes, Attributes]:
        """The attributes of users and items; a model without ids cannot do without either."""
        users, items = train.user_features, train.item_features
        if not self.traits.uses_ids and (users is None or items is None):
            lack = f"{type(self).__name__} knows users and items by their attributes alone, and this data lacks them"
            raise StudyError(f"{lack}: choose a data set with user attributes, such as ml-100k, or a model with ids.")
        return (
            Attributes(users and self._user_attributes(users), train.user_counts, self.numbers),
            Attributes(items and self._item_attributes(items), train.item_counts, self.numbers),
        )

    def _batches(self, train: Interactions, device: torch.device) -> Batches:
        return super()._batches(replace(train, ratings=train.ratings / np.float32(self.scale)), device)

    def _known_users(self, users: Tensor) -> Tensor:
        codes = users.to(self.device_)
        return self.module_.user_vectors(codes, self.module_.users.table.index_select(0, codes))

    def _new_users(self, features: Features) -> Tensor:
        """(B, H) vectors of users who are known by (B, F) raw attributes alone."""
        self._check_columns(features)
        values = torch.as_tensor(self._user_attributes(features).values, device=self.device_)
        nobody = torch.full((len(values),), -1, device=self.device_)
        return self.module_.user_vectors(nobody, self.module_.users(values))

    def _every_item(self) -> Tensor:
        """(I, H) vectors of the catalogue."""
        return self.module_.item_vectors(torch.arange(self.train_.n_items, device=self.device_))

    def _all_items(self, user_vectors: Tensor) -> Tensor:
        """(B, I) scores of every item for (B, H) user vectors: each side's are made once, and joined one user at a time."""
        items = self._every_item()
        rows = [self.module_.join(vector.expand(len(items), -1), items) for vector in user_vectors]
        return self.scale * torch.stack(rows)

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return self._all_items(self._known_users(users))

    def _cold_scores(self, users: Tensor, features: Features | None) -> Tensor:
        if features is None:
            return super()._cold_scores(users, features)
        return self._all_items(self._new_users(features))


@dataclass(kw_only=True)
class RatingNetwork(AttributeNetwork):
    """An attribute network that is trained on the squared error of stars / `scale`; ranks by predicted stars."""

    @staticmethod
    def _loss(module: nn.Module, *batch: Tensor) -> Tensor:
        users, items, targets = batch
        return mean_squared_error(module(users, items), targets)

    def _stars(self, user_vectors: Tensor, items: Tensor) -> Tensor:
        """(N,) stars, clipped to the scale of the training ratings."""
        predicted = self.module_.join(user_vectors, self.module_.item_vectors(items.to(self.device_)))
        return self._clipped(self.scale * predicted)

    def _ratings(self, users: Tensor, items: Tensor, history: Interactions) -> Tensor:
        return self._stars(self._known_users(users), items)

    def _cold_ratings(self, users: Tensor, items: Tensor, features: Features | None) -> Tensor:
        if features is None:
            return super()._cold_ratings(users, items, features)
        return self._stars(self._new_users(features), items)


@dataclass(kw_only=True)
class VectorNetwork(AttributeNetwork):
    """An attribute network whose users and items are vectors of one space, compared by their cosine: it can be searched."""

    @torch.no_grad()
    def item_vectors(self) -> Tensor:
        """Return the (I, D) vectors of the catalogue, of length 1."""
        return F.normalize(self._every_item(), dim=1)

    @torch.no_grad()
    def user_vectors(self, users: Tensor, features: Features | None = None) -> Tensor:
        """Return the (B, D) vectors, of length 1, of training users, or of new ones with these (B, F) attributes."""
        if features is None:
            self._known(users, None)
        vectors = self._known_users(users) if features is None else self._new_users(features)
        return F.normalize(vectors, dim=1)
