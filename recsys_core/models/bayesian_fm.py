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

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg
from torch import Tensor

from recsys_core.errors import choose
from recsys_core.interactions import Features, Interactions
from recsys_core.models.base import FitTask, Recommender, Traits
from recsys_core.models.registry import recommender
from recsys_core.progress import Progress
from recsys_core.train import History

ROWS_AT_ONCE = 4096  # whose samples are held while ratings are predicted
TOLERANCE = 0.01  # of the conjugate gradients, relative; 0.001 gave the same RMSE on validation in twice the time
BIN_WIDTHS = {"age": 5, "gender": 1, "year": 3}  # years; numbers become one-hot
FLAGS = ("occupation_", "genre_")

Design: TypeAlias = sparse.csr_matrix
Designs: TypeAlias = tuple[list[Design], list[Design]]  # of the users, (U, J) each, and of the items, (I, J)


def unit_rows(design: Design) -> Design:
    """Scale the rows to length 1, so that n films of a history count 1/√n each, as in SVD++ (Koren 2008)."""
    lengths = np.sqrt(design.multiply(design).sum(axis=1).A1)
    return sparse.csr_matrix(sparse.diags(1 / np.maximum(lengths, 1e-9)) @ design)


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


def products(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return the (M, K) products of (M, K, K) matrices with (M, K) vectors."""
    return np.matmul(matrices, vectors[:, :, None])[:, :, 0]


def solve(
    multiply: Callable[[np.ndarray], np.ndarray], target: np.ndarray, diagonal: np.ndarray, start: np.ndarray
) -> np.ndarray:
    """Solve multiply(x) = target, all (J, K), by conjugate gradients preconditioned with the map's (J, K, K) diagonal blocks.

    Where every row of a design has a single variable, the blocks are the whole map and one step solves.
    """
    shape, inverses = (target.size, target.size), np.linalg.inv(diagonal)
    operator, inverse = (
        LinearOperator(shape, matvec=lambda x, f=f: f(x.reshape(target.shape)).ravel(), dtype=np.float64)
        for f in (multiply, lambda x: products(inverses, x))
    )
    return cg(operator, target.ravel(), start.ravel(), rtol=TOLERANCE, M=inverse)[0].reshape(target.shape)


@dataclass(frozen=True)
class Evidence:
    """What the ratings say of the vectors (M, K) of a side, K = 1 + D, given the other side: a normal likelihood for each.

    `precision` is (M, K, K), `moment` (M, K) its product with the likelihood's mean; `draw_noise` draws (M, K) from
    N(0, precision).
    """

    precision: np.ndarray
    moment: np.ndarray
    draw_noise: Callable[[], np.ndarray]


class Block:
    """J variables with one prior: `design` (G, J) says which group has which, `groups` (M,) who is in which group.

    `weights` are (J, K).
    """

    def __init__(self, design: Design, groups: np.ndarray, width: int, generator: np.random.Generator) -> None:
        self.design, self.transposed, self.groups = design, design.T.tocsr(), groups
        self.squared = self.transposed.multiply(self.transposed).tocsr()
        self.pool = sparse.identity(design.shape[0], format="csr")[groups].T.tocsr()  # (G, M)
        self.weights = generator.normal(0, 0.1, (design.shape[1], width))

    @property
    def part(self) -> np.ndarray:
        """What the block adds to the (M, K) vectors."""
        return (self.design @ self.weights)[self.groups]

    def draw_prior(self, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw mean and precision (K,) of the prior given the weights; N(0, 1/λ) and Γ(½, ½) are theirs."""
        n_variables = len(self.weights)
        mean = self.weights.sum(axis=0) / (n_variables + 1)
        rate = (1 + ((self.weights - mean) ** 2).sum(axis=0) + mean**2) / 2
        precision = generator.gamma((n_variables + 1) / 2, 1 / rate)
        return generator.normal(mean, 1 / np.sqrt((n_variables + 1) * precision)), precision

    def draw(self, evidence: Evidence, others: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draw all weights, given the (M, K) sum of the other blocks, and return the (M, K) part of this block.

        The posterior's mean and a draw around it are one linear system with a perturbed right-hand side (Papandreou & Yuille
        2010; Simm et al. 2017, Macau): no matrix of size J × J exists.
        """
        mean, prior = self.draw_prior(generator)
        precision = (self.pool @ evidence.precision.reshape(len(others), -1)).reshape(-1, len(prior), len(prior))
        pull = self.pool @ (evidence.moment - products(evidence.precision, others) + evidence.draw_noise())
        noise = np.sqrt(prior) * generator.standard_normal(self.weights.shape)
        diagonal = (self.squared @ precision.reshape(len(precision), -1)).reshape(-1, len(prior), len(prior))
        self.weights = solve(
            lambda weights: self.transposed @ products(precision, self.design @ weights) + prior * weights,
            self.transposed @ pull + prior * mean + noise,
            diagonal + np.diag(prior),
            self.weights,
        )
        return self.part


class Side:
    """The users, or their sessions, or the items: their blocks and the sum of these, `vectors` (M, K) of bias and factors.

    `designs` are those of groups, such as the users of sessions; `groups` (M,) says who is in which.
    """

    def __init__(
        self,
        residuals: Design,
        designs: list[Design],
        groups: np.ndarray,
        width: int,
        generator: np.random.Generator,
    ) -> None:
        self.residuals = residuals  # (M, O) ratings less their mean, for O items or sessions on the other side
        ids = Block(sparse.identity(len(groups), format="csr"), np.arange(len(groups)), width, generator)
        self.blocks = [ids, *(Block(unit_rows(design), groups, width, generator) for design in designs)]
        self.vectors = np.sum([block.part for block in self.blocks], axis=0)

    def _pairs(self, values: np.ndarray) -> Design:
        """The (M, O) matrix of these values at the rated pairs."""
        pattern = self.residuals
        return sparse.csr_matrix((values, pattern.indices, pattern.indptr), shape=pattern.shape)

    def evidence(self, other: np.ndarray, alpha: float, generator: np.random.Generator) -> Evidence:
        """Summarise the ratings, of precision `alpha` each, for the vectors (O, K) of the other side."""
        facing = np.column_stack([np.ones(len(other)), other[:, 1:]])  # (O, K): a bias is met by 1, factors by factors
        products = (facing[:, :, None] * facing[:, None, :]).reshape(len(facing), -1)  # (O, K²)
        n_rated, width = self.residuals.nnz, facing.shape[1]
        rated = self._pairs(np.ones(n_rated))
        return Evidence(
            alpha * (rated @ products).reshape(-1, width, width),
            alpha * (self.residuals @ facing - rated @ (facing * other[:, :1])),
            lambda: np.sqrt(alpha) * (self._pairs(generator.standard_normal(n_rated)) @ facing),
        )

    def sweep(self, other: np.ndarray, alpha: float, generator: np.random.Generator) -> None:
        """Draw every block once, given the vectors of the other side."""
        evidence = self.evidence(other, alpha, generator)
        for block in self.blocks:
            others = self.vectors - block.part
            self.vectors = others + block.draw(evidence, others, generator)


@recommender("bayesian_fm", title="Bayesian FM", family="factorisation machines")
@dataclass(kw_only=True)
class BayesianFM(Recommender):
    """Ids and, by `features`, "implicit" (a user's films, an item's users), "attributes" (age, gender, occupation, year, genres)
    and "time" (a user's sessions, bins of `session_s` seconds).

    The first `n_burn_in` sweeps are thrown away, the next `n_samples` averaged and kept.
    """

    traits: ClassVar[Traits] = Traits(uses_ids=True, uses_times=True, stochastic=True, predicts_ratings=True)
    chaotic: ClassVar[bool] = True
    beginning: ClassVar[int] = 5
    smallest: ClassVar[dict[str, float]] = {"embedding_dim": 0, "session_s": 1, "n_burn_in": 0, "n_samples": 1}
    learnt: ClassVar[dict[str, type]] = {"sessions": Tensor, "items": Tensor, "noise": Tensor, "mean": float}

    embedding_dim: int = 8
    features: tuple[str, ...] = ("implicit", "attributes", "time")
    session_s: int = 3_600
    n_burn_in: int = 20
    n_samples: int = 60

    def __post_init__(self) -> None:
        super().__post_init__()
        choose("features", self.features, FEATURES)

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
        parts = zip(*(column.split(ROWS_AT_ONCE) for column in columns))
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
