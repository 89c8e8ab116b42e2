"""Bayesian factorisation machine, learnt by Gibbs sampling (Freudenthaler, Schmidt-Thieme & Rendle 2011; Rendle 2012, libFM).

    r_ui = μ + b_u + b_i + p_u · q_i + ε,   ε ~ N(0, 1/α)
    (b_u, p_u) = Σ_blocks x_u W_block,      (b_i, q_i) = Σ_blocks x_i W_block

Every variable of the design (a user's id, each film of their history, an occupation, a genre, …) has a weight and a vector, one
row (1 + D) of its block's W. Each column of each block has its own normal prior whose mean and precision are sampled, too, with
the hyperpriors of libFM. Predicted stars are means over the samples.

With time, u is a session (a user in one hour), which has variables of its own beside its user's, as b_ut and p_ut of timeSVD++
(Koren 2009). A rating in no known session, or without a time, is predicted by the mean over the user's training rows.

Differs from libFM: variables of one side do not interact with each other (user × user products depend on the user alone, which
b_u covers), so that r is linear in everything that belongs to users, given everything that belongs to items. Hence a whole block,
weights and vectors together, is drawn at once, and from one summary per user.

Rendle, Zhang & Koren (2019) reach RMSE .7633 with ids alone and .7563 with histories on ML-10M; on fold u3 of ML-100K the library
myFM reaches .896 with ids and .881 with history, attributes and the day of the rating. This model should reach a mean RMSE of .875
over the five folds.
"""

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from recsys_core.budget import rows_at_once
from recsys_core.interactions import Features, Interactions
from recsys_core.models.base import FitTask, Recommender
from recsys_core.models.bayesian_blocks import Design, Side
from recsys_core.models.registry import recommender
from recsys_core.models.settings import setting
from recsys_core.models.traits import Traits
from recsys_core.progress import Progress
from recsys_core.train import History

BIN_WIDTHS = {"age": 5, "gender": 1, "year": 3}  # years; numbers become one-hot
FLAGS = ("occupation_", "genre_")

Designs: TypeAlias = tuple[list[Design], list[Design]]  # of the users, (U, J) each, and of the items, (I, J)


def _one_hot(values: np.ndarray) -> Design:
    codes = np.unique(values, return_inverse=True)[1]
    return sparse.csr_matrix((np.ones(len(codes)), (np.arange(len(codes)), codes)))


def _implicit(train: Interactions) -> Designs:
    pairs = train.binary.astype(np.float64)
    return [pairs], [pairs.T.tocsr()]


def _attributes_of(features: Features | None) -> list[Design]:
    if features is None:
        return []
    numbers = [(name, width) for name, width in BIN_WIDTHS.items() if name in features.columns]
    flags = [features.select(prefix).astype(np.float64) for prefix in FLAGS]
    binned = [_one_hot(features.select(name)[:, 0] // width) for name, width in numbers]
    return binned + [sparse.csr_matrix(table) for table in flags if table.any()]


def _attributes(train: Interactions) -> Designs:
    return _attributes_of(train.user_features), _attributes_of(train.item_features)


def _time(train: Interactions) -> Designs:
    """What all sessions of a user share, beside what each has of its own."""
    return [sparse.identity(train.n_users, format="csr")], []


FEATURES = {"implicit": _implicit, "attributes": _attributes, "time": _time}


@recommender("bayesian_fm", title="Bayesian FM", family="factorisation machines")
@dataclass(kw_only=True)
class BayesianFM(Recommender):
    """Ids and, by `features`, "implicit" (a user's films, an item's users), "attributes" (age, gender, occupation, year, genres)
    and "time" (a user's sessions, bins of `session_s` seconds).

    The first `n_burn_in` sweeps are thrown away, the next `n_samples` averaged and kept.
    """

    traits: ClassVar[Traits] = Traits(
        form="bilinear", uses_ids=True, uses_times=True, stochastic=True, predicts_ratings=True
    )
    beginning: ClassVar[int] = 5
    learnt: ClassVar[dict[str, type]] = {"sessions": Tensor, "items": Tensor, "noise": Tensor, "mean": float}

    embedding_dim: int = setting(8, least=0, search=[4, 8, 12, 16], other=2)
    features: tuple[str, ...] = setting(
        ("implicit", "attributes", "time"),
        among=FEATURES,
        search=[[], ["implicit"], ["implicit", "attributes"], ["implicit", "time"], ["implicit", "attributes", "time"]],
        other=("implicit",),
    )
    session_s: int = setting(3_600, least=1, search=[3_600, 86_400], fast=100, other=30)
    n_burn_in: int = setting(20, least=0, fast=5, other=3)
    n_samples: int = setting(60, least=1, fast=10, other=5)

    @property
    def chaotic(self) -> bool:
        """Each draw hangs on all before it."""
        return True

    def _keys(self, users: np.ndarray, times: np.ndarray) -> np.ndarray:
        """One number a session, (N,): the user's code above 32 bits, below them the bin of the time where time is used."""
        return (users << 32) + (times // self.session_s if "time" in self.features else 0)

    def _fit(self, task: FitTask) -> None:
        train, generator, width = task.train, np.random.default_rng(task.seed), 1 + self.embedding_dim
        self.mean = float(train.ratings.astype(np.float64).mean())
        keys, rows = np.unique(self._keys(train.users, train.times), return_inverse=True)
        shape = len(keys), train.n_items
        residuals = sparse.csr_matrix((train.ratings.astype(np.float64) - self.mean, (rows, train.items)), shape)
        designs = [FEATURES[name](train) for name in self.features]
        of_users, of_items = ([design for pair in designs for design in pair[side]] for side in (0, 1))
        sessions = Side(residuals, of_users, keys >> 32, width, generator)
        items = Side(residuals.T.tocsr(), of_items, np.arange(train.n_items), width, generator)
        self._sample(task, rows, sessions, items, generator)
        self._average()

    def _sample(
        self, task: FitTask, rows: np.ndarray, sessions: Side, items: Side, generator: np.random.Generator
    ) -> None:
        train, alpha, kept, self.history_ = task.train, 1.0, [], History()
        n_sweeps = self.n_burn_in + self.n_samples
        n_sweeps = n_sweeps if task.stop_after is None else min(n_sweeps, task.stop_after)
        with Progress("BayesianFM", n_sweeps) as progress:
            for sweep in range(1, n_sweeps + 1):
                sessions.sweep(items.vectors, alpha, generator)
                items.sweep(sessions.vectors, alpha, generator)
                squares = _squared_errors(train, self.mean, sessions.vectors[rows], items.vectors[train.items])
                alpha = generator.gamma((1 + len(train)) / 2, 2 / (1 + squares))
                progress.update(sweep, {"noise": alpha**-0.5})
                if sweep in (1, self.beginning):
                    self.history_.path[f"noise after {sweep} sweeps"] = float(alpha**-0.5)
                if sweep > min(self.n_burn_in, n_sweeps - 1):
                    kept.append((sessions.vectors.astype(np.float32), items.vectors.astype(np.float32), alpha**-0.5))
            progress.finish(f"{len(kept)} samples kept, noise {alpha**-0.5:.4f} stars")
        of_sessions, of_items, noise = zip(*kept)
        self.sessions, self.items = (torch.from_numpy(np.stack(kind, axis=1)) for kind in (of_sessions, of_items))
        self.noise = torch.tensor(noise, dtype=torch.float32)  # (S,) stars; sessions and items are (M, S, 1 + D)

    def _average(self) -> None:
        """Find `users` (U, S, 1 + D): the means over each user's rows."""
        train = self.train_
        self.keys, rows = np.unique(self._keys(train.users, train.times), return_inverse=True)
        shares = (1 / train.user_counts[train.users]).astype(np.float32)
        mean = sparse.csr_matrix((shares, (train.users, rows)), (train.n_users, len(self.keys)))
        self.users = torch.from_numpy(mean @ self.sessions.flatten(1).numpy()).unflatten(1, self.sessions.shape[1:])

    def samples(self, users: Tensor, items: Tensor, times: Tensor | None = None) -> Tensor:
        """Return (N, S) expected ratings in stars, not clipped, one a sample; `noise` (S,) is the deviation around them."""
        mine, theirs = self.users[users], self.items[items]
        if times is not None:
            asked = self._keys(users.numpy(), times.numpy())
            places = np.searchsorted(self.keys, asked).clip(max=len(self.keys) - 1)
            known = self.keys[places] == asked
            mine[known] = self.sessions[places[known]]
        return self.mean + mine[:, :, 0] + theirs[:, :, 0] + torch.linalg.vecdot(mine[:, :, 1:], theirs[:, :, 1:])

    def _ratings_at(self, users: Tensor, items: Tensor, history: Interactions, times: Tensor | None) -> Tensor:
        columns = (users, items) if times is None else (users, items, times)
        at_once = rows_at_once(self.sessions[0].numel())
        parts = zip(*(column.split(at_once) for column in columns))
        stars = [self.samples(*part).mean(dim=1) for part in parts]
        return self._clipped(torch.cat(stars))

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        mine, n_samples = self.users[users.cpu()], len(self.noise)
        biases = mine[:, :, 0].mean(dim=1)[:, None] + self.items[:, :, 0].mean(dim=1)
        return self.mean + biases + mine[:, :, 1:].flatten(1) @ self.items[:, :, 1:].flatten(1).T / n_samples

    def _restore(self, state: dict[str, Tensor]) -> None:
        super()._restore(state)
        self._average()

    @property
    def n_parameters(self) -> int:
        """Numbers in the vectors of one sample, and the mean."""
        return 1 + (len(self.keys) + self.train_.n_items) * (1 + self.embedding_dim)


def _squared_errors(train: Interactions, mean: float, mine: np.ndarray, theirs: np.ndarray) -> float:
    """Sum over the N training rows, for one sample of the vectors (N, 1 + D) of their sessions and items."""
    predicted = mean + mine[:, 0] + theirs[:, 0] + np.einsum("nd,nd->n", mine[:, 1:], theirs[:, 1:])
    return float(((train.ratings - predicted) ** 2).sum())
