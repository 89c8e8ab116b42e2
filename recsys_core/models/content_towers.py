"""Two towers on content, the deep content-based model that report S4 leaves to later work, and its hybrid with film ids.

    x_i = c_i               (content)        x_i = [e_i ; c_i]               (hybrid)
    p_u = mean of x_j over the films j that u has seen; in training without the row's own film
    s(u, i) = cos(f([a_u ; p_u]), g(x_i)) / τ
    loss = -log softmax_j (s(u, j) - log q_j) at the row's own item, over the items j of the batch

c are the features of a film, a the attributes of a user, e the embedding of a film's id. No user has an id: a user is what they are
and what they have seen, so that any history can be folded in. Nothing tells the towers of the content model two films of the same
content apart, rated or not. The hybrid hides a share `id_dropout` of the ids, and a film that nobody has rated has the mean of the
trained embeddings, so that one model answers for warm films by id and content and for cold ones by content.

Loss and correction are those of Yi et al. (2019), eq. 5 and 6, the mean of what was seen is that of Covington, Adams & Sargin
(2016), the hiding of ids that of DropoutNet (Volkovs, Yu & Poutanen 2017), which hides preference vectors as wholes. No paper has
figures on ML-100K; on warm films the hybrid should rank above the content model. Sizes, temperature and rates are this study's own.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys_core.interactions import Features, Interactions
from recsys_core.losses import in_batch_softmax
from recsys_core.models.attribute_networks import AttributeNet, VectorNetwork
from recsys_core.models.attributes import Attributes, content
from recsys_core.models.layers import MLP, MeanEmbedding
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting
from recsys_core.models.traits import Traits

CONTENT = ("genre_", "year", "title_", "tag_", "content_")


def histories(rows: Interactions) -> tuple[Tensor, Tensor]:
    """The films seen, (N,), user after user, and where each user's begin and end in it, (U + 1,)."""
    seen, ends = (torch.as_tensor(part.astype(np.int64)) for part in (rows.binary.indices, rows.binary.indptr))
    return seen, ends


class ContentTowersNet(AttributeNet):
    """On each side a tower to a vector of length 1: of a user's attributes and mean film, and of a film."""

    log_q: Tensor
    seen: Tensor
    ends: Tensor
    totals: Tensor

    def __init__(self, train: Interactions, users: Attributes, items: Attributes, model: "ContentTowers") -> None:
        super().__init__(users, items)
        self.temperature, self.history_dropout = model.temperature, model.history_dropout
        hidden = model.id_dropout if isinstance(model, HybridTowers) else None
        self.ids = None if hidden is None else MeanEmbedding(train.item_counts, model.embedding_dim, hidden)
        if self.ids is not None:
            nn.init.xavier_uniform_(self.ids.weight)  # as short as in DSSM, for the reason that is given there
        n_inputs = items.table.shape[1] + (0 if hidden is None else model.embedding_dim)
        widths, n_attributes = (*model.layers, model.embedding_dim), users.table.shape[1]
        self.towers = nn.ModuleList(MLP(n, widths, model.dropout) for n in (n_attributes + n_inputs, n_inputs))
        log_q = np.log(np.maximum(train.item_counts, 1) / len(train)) * model.log_q
        self.register_buffer("log_q", torch.as_tensor(log_q, dtype=torch.float32), persistent=False)
        for name, part in zip(("seen", "ends"), histories(train)):
            self.register_buffer(name, part, persistent=False)
        totals = F.embedding_bag(
            self.seen, items.table, self.ends[:-1], mode="sum"
        )  # content seen, which stays what it is
        self.register_buffer("totals", totals, persistent=False)

    def films(self) -> Tensor:
        """Return the inputs (I, E) of all films."""
        content = self.items.table
        if self.ids is None:
            return content
        return torch.cat([self.ids(torch.arange(len(content), device=content.device)), content], dim=1)

    def profiles(self, users: Tensor, own: Tensor | None = None, known: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Return the (B, E) mean inputs of what (B,) users have seen, without their `own` (B,) film; 0 where nothing is left.

        `known` are other `histories` than those of training; the user -1 has none.
        """
        films, (seen, ends) = self.films(), known or (self.seen, self.ends)
        lengths = torch.where(users < 0, 0, ends.diff()[users])
        if known is not None:
            total = self._sums(users, films, seen, ends)
        else:
            total = self.totals[users] * (users >= 0)[:, None]
            if self.ids is not None:
                ids = films[:, : self.ids.embedding_dim]
                total = torch.cat([self._sums(users, ids, seen, ends), total], dim=1)
        if own is not None:
            total, lengths = total - films[own], lengths - 1
        return total / lengths.clamp(min=1)[:, None]

    @staticmethod
    def _sums(users: Tensor, films: Tensor, seen: Tensor, ends: Tensor) -> Tensor:
        """Return the (B, E) sums of the rows of `films` that (B,) users have seen."""
        each, place = users.unique(return_inverse=True)  # an active user has many rows of a batch
        start = ends[each.clamp(min=0)]
        lengths = torch.where(each < 0, 0, ends[each.clamp(min=0) + 1] - start)
        first = lengths.cumsum(0) - lengths
        places = torch.arange(int(lengths.sum()), device=users.device) + (start - first).repeat_interleave(lengths)
        return F.embedding_bag(seen[places], films, first, mode="sum")[place]

    def user_vectors(self, users: Tensor, inputs: Tensor) -> Tensor:
        """Return (B, D) of length 1 of users with the histories of training, -1 for one without."""
        return self.users_as(self.profiles(users), inputs)

    def users_as(self, profiles: Tensor, inputs: Tensor) -> Tensor:
        """Return (B, D) of length 1 from (B, E) mean inputs and (B, F) attributes; in training some histories are hidden."""
        if self.training:
            profiles = profiles * (torch.rand(len(profiles), 1, device=profiles.device) >= self.history_dropout)
        return F.normalize(self.towers[0](torch.cat([inputs, profiles], dim=1)), dim=1)

    def item_vectors(self, items: Tensor) -> Tensor:
        """Return (B, D) of length 1."""
        return F.normalize(self.towers[1](self.films()[items]), dim=1)


@recommender("content_towers", title="Content towers", family="content")
@dataclass(kw_only=True)
class ContentTowers(VectorNetwork):
    """Two towers without ids; ranks by the cosine. `columns` are the beginnings of the item features that are read.

    A share `history_dropout` of the rows is learnt from attributes alone, so that these can answer for a user without history. A
    user of a history that brings no attributes has the mean age and no other flag. A film without content is one of all-zero flags.
    Raises StudyError for data without content.
    """

    traits: ClassVar[Traits] = Traits(
        form="linear", uses_features=True, stochastic=True, folds_in=True, sees_genres_only=True
    )
    unread: ClassVar[tuple[str, ...]] = ("zip",)
    numbers: ClassVar[tuple[str, ...] | None] = ("age", "year")

    columns: tuple[str, ...] = setting(CONTENT, among=CONTENT, other=("content_",))
    epochs: int = setting(10, search=60, fast=6)
    patience: int | None = setting(None, search=5)
    embedding_dim: int = setting(32, least=1, search=[16, 32, 64], fast=16, other=8)
    layers: tuple[int, ...] = setting((), least=1, search=[[], [64]], fast=(32,), other=(8,))
    dropout: float = setting(0.0, least=0, below=1, search=between(0.0, 0.5), other=0.5)
    history_dropout: float = setting(0.1, least=0, below=1, search=between(0.0, 0.3), other=0.5)
    temperature: float = setting(0.2, least=0.001, search=between(0.05, 0.5, log=True), fast=0.1, other=0.5)
    log_q: float = setting(1.0, least=0, search=between(0.0, 1.0), other=0.0)
    learning_rate: float = setting(0.01, search=between(0.002, 0.03, log=True), fast=0.001)
    weight_decay: float = setting(0.0, search=between(1e-8, 1e-4, log=True))
    batch_size: int = setting(512, search=[256, 512, 1024], fast=32)

    @property
    def own_traits(self) -> Traits:
        """Linear without hidden layers."""
        return replace(self.traits, form="non-linear" if self.layers else "linear")

    def _sides(self, train: Interactions) -> tuple[Attributes, Attributes]:
        users = train.user_features
        return (
            Attributes(None if users is None else self._user_attributes(users), train.user_counts, self.numbers),
            Attributes(content(train, self.columns), train.item_counts, self.numbers),
        )

    def _build(self, train: Interactions) -> nn.Module:
        return ContentTowersNet(train, *self._sides(train), self)

    @staticmethod
    def _loss(module: nn.Module, *batch: Tensor) -> Tensor:
        assert isinstance(module, ContentTowersNet)
        users, items, _ = batch
        vectors = module.users_as(module.profiles(users, items), module.users.table[users])
        return in_batch_softmax(vectors / module.temperature, module.item_vectors(items), items, module.log_q[items])

    @torch.no_grad()
    def score_encoded(self, user_vectors: Tensor) -> Tensor:
        """Return (B, I) cosines of (B, D) user vectors of length 1 with all films."""
        return user_vectors @ self.encode_items().T

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        codes = users.to(self.device_)
        seen, ends = (part.to(self.device_) for part in histories(history))
        profiles = self.module_.profiles(codes, known=(seen, ends))
        return self.score_encoded(self.module_.users_as(profiles, self._inputs(codes, history.user_features)))

    def _inputs(self, users: Tensor, features: Features | None) -> Tensor:
        """(B, F) attributes as inputs of (B,) users of a history that brings these, or none."""
        if features is None:
            return torch.zeros(len(users), self.module_.users.table.shape[1], device=self.device_)
        self._check_columns(features)
        mine = self._user_attributes(features.take(users.cpu().numpy()))
        return self.module_.users(torch.as_tensor(mine.values, device=self.device_))


@recommender("hybrid_towers", title="Content and id towers", family="content")
@dataclass(kw_only=True)
class HybridTowers(ContentTowers):
    """The same towers on the ids and the content of films, one model for those that are known and those that are new."""

    traits: ClassVar[Traits] = Traits(
        form="linear", uses_ids=True, uses_features=True, stochastic=True, folds_in=True, sees_genres_only=True
    )

    id_dropout: float = setting(0.1, least=0, below=1, search=between(0.0, 0.5), other=0.5)
