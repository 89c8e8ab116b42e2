"""What networks on attributes share: a net of two sides, stars on a scale, answers for users who are known by attributes alone."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_core.errors import StudyError
from recsys_core.interactions import Features, Interactions
from recsys_core.losses import mean_squared_error
from recsys_core.models.attributes import Attributes, both_genders
from recsys_core.models.neural import NeuralRecommender
from recsys_core.sampling import Batches


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
            raise StudyError(
                f"{lack}: choose a data set with user attributes, such as ml-100k, or a model with ids, such as svd."
            )
        return (
            Attributes(None if users is None else self._user_attributes(users), train.user_counts, self.numbers),
            Attributes(None if items is None else self._item_attributes(items), train.item_counts, self.numbers),
        )

    def _batches(self, train: Interactions, device: torch.device) -> Batches:
        return super()._batches(replace(train, ratings=train.ratings / np.float32(self.scale)), device)

    @torch.no_grad()
    def encode_users(self, users: Tensor) -> Tensor:
        """Return (B, H) vectors that the net makes of (B,) users of the catalogue, with training rows or without."""
        codes = users.to(self.device_)
        return self.module_.user_vectors(codes, self.module_.users.table.index_select(0, codes))

    @torch.no_grad()
    def encode_new_users(self, features: Features) -> Tensor:
        """Return (B, H) vectors of users who are known by (B, F) raw attributes alone.

        Raises StudyError for attributes that are not those of training.
        """
        self._check_columns(features)
        values = torch.as_tensor(self._user_attributes(features).values, device=self.device_)
        nobody = torch.full((len(values),), -1, device=self.device_)
        return self.module_.user_vectors(nobody, self.module_.users(values))

    @torch.no_grad()
    def encode_items(self) -> Tensor:
        """Return (I, H) vectors that the net makes of all items of the catalogue."""
        return self.module_.item_vectors(torch.arange(self.train_.n_items, device=self.device_))

    @torch.no_grad()
    def score_encoded(self, user_vectors: Tensor) -> Tensor:
        """Return (B, I) scores of every item for (B, H) encoded users; each side is encoded once, and joined a user at a time."""
        items = self.encode_items()
        rows = [self.module_.join(vector.expand(len(items), -1), items) for vector in user_vectors]
        return self.scale * torch.stack(rows)

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return self.score_encoded(self.encode_users(users))

    def _cold_scores(self, users: Tensor, features: Features | None) -> Tensor:
        if features is None:
            return super()._cold_scores(users, features)
        return self.score_encoded(self.encode_new_users(features))


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
        return self._stars(self.encode_users(users), items)

    def _cold_ratings(self, users: Tensor, items: Tensor, features: Features | None) -> Tensor:
        if features is None:
            return super()._cold_ratings(users, items, features)
        return self._stars(self.encode_new_users(features), items)


@dataclass(kw_only=True)
class VectorNetwork(AttributeNetwork):
    """An attribute network whose users and items are vectors of one space, compared by their cosine: it can be searched."""

    @torch.no_grad()
    def item_vectors(self) -> Tensor:
        """Return the (I, D) vectors of the catalogue, of length 1."""
        return F.normalize(self.encode_items(), dim=1)

    @torch.no_grad()
    def user_vectors(self, users: Tensor, features: Features | None = None) -> Tensor:
        """Return the (B, D) vectors, of length 1, of training users, or of new ones with these (B, F) attributes."""
        if features is None:
            self._known(users, None)
        vectors = self.encode_users(users) if features is None else self.encode_new_users(features)
        return F.normalize(vectors, dim=1)
