"""The Gibbs sampler's draws have the moments that dense algebra gives, and its mean is the Bayesian linear regression's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from boards import PLAYERS, attributes, board, rows_of
from scipy import sparse

from recsys_core.interactions import Interactions
from recsys_core.models import bayesian_blocks, bayesian_fm
from recsys_core.models.bayesian_blocks import Block, Evidence, Side, unit_rows
from recsys_core.models.bayesian_fm import FEATURES, BayesianFM

FIXED = np.array([0.5]), np.array([2.0])  # mean and precision of a prior


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bayesian_blocks, "TOLERANCE", 1e-10)


def some_rows(n_users: int = 12, n_items: int = 9) -> Interactions:
    generator = np.random.default_rng(0)
    users, items = (generator.random((n_users, n_items)) < 0.5).nonzero()
    return rows_of(users, items, generator.integers(1, 6, len(users)), n_users, n_items)


def residuals(rows: Interactions) -> sparse.csr_matrix:
    matrix = rows.stars.astype(np.float64)
    matrix.data -= 3.0
    return matrix


def test_the_summary_of_the_ratings_equals_sums_over_rows() -> None:
    rows, generator = some_rows(), np.random.default_rng(1)
    items, alpha = generator.normal(size=(9, 4)), 1.7
    side = Side(residuals(rows), [], np.arange(12), 4, generator)
    evidence = side.evidence(items, alpha, generator)
    for user in range(12):
        mine = rows.users == user
        facing = items[rows.items[mine]].copy()
        target = rows.ratings[mine] - 3.0 - facing[:, 0]
        facing[:, 0] = 1
        np.testing.assert_allclose(evidence.precision[user], alpha * facing.T @ facing, atol=1e-9)
        np.testing.assert_allclose(evidence.moment[user], alpha * facing.T @ target, atol=1e-9)
    noise = np.stack([evidence.draw_noise() for _ in range(4000)])
    covariance = np.einsum("smk,sml->mkl", noise, noise) / len(noise)
    np.testing.assert_allclose(covariance, evidence.precision, atol=0.1 * evidence.precision.max())


def test_a_block_is_drawn_from_the_posterior_of_dense_linear_algebra(exact: None) -> None:
    """Two columns of weights of three variables that overlap in three users with five sessions, all six correlated."""
    generator, groups = np.random.default_rng(2), np.array([0, 0, 1, 2, 2])
    of_users = generator.random((3, 3)) * (generator.random((3, 3)) < 0.7)
    design = of_users[groups]
    roots = generator.normal(size=(5, 2, 2))
    precision, moment, others = roots @ roots.transpose(0, 2, 1), generator.normal(size=(5, 2)), np.ones((5, 2))
    evidence = Evidence(precision, moment, lambda: np.einsum("mkl,ml->mk", roots, generator.normal(size=(5, 2))))
    block = Block(sparse.csr_matrix(of_users), groups, 2, generator)
    mean, prior = np.array([0.5, -1]), np.array([2.0, 3.0])
    block.draw_prior = lambda _: (mean, prior)  # type: ignore[method-assign]
    draws = []
    for _ in range(1500):
        part = block.draw(evidence, others, generator)
        np.testing.assert_allclose(part, design @ block.weights)
        draws.append(block.weights.ravel())
    spread = np.kron(design, np.eye(2))  # (5 · 2, 3 · 2)
    likelihood = np.zeros((10, 10))
    for user in range(5):
        likelihood[2 * user : 2 * user + 2, 2 * user : 2 * user + 2] = precision[user]
    covariance = np.linalg.inv(spread.T @ likelihood @ spread + np.diag(np.tile(prior, 3)))
    target = spread.T @ (moment.ravel() - likelihood @ others.ravel()) + np.tile(prior * mean, 3)
    np.testing.assert_allclose(np.mean(draws, axis=0), covariance @ target, atol=0.08)
    np.testing.assert_allclose(np.cov(np.transpose(draws)), covariance, atol=0.08)


def test_without_factors_and_with_fixed_priors_the_mean_is_the_bayesian_linear_regression(
    exact: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Block, "draw_prior", lambda *_: FIXED)
    rows, generator = some_rows(6, 5), np.random.default_rng(3)
    groups, alpha = np.eye(2)[np.arange(6) % 2], 1.5
    users = Side(residuals(rows), [sparse.csr_matrix(groups)], np.arange(6), 1, generator)
    items = Side(residuals(rows).T.tocsr(), [], np.arange(5), 1, generator)
    totals, n_sweeps = np.zeros(30), 700
    for _ in range(n_sweeps):
        users.sweep(items.vectors, alpha, generator)
        items.sweep(users.vectors, alpha, generator)
        totals += (users.vectors + items.vectors.T).ravel() / n_sweeps
    everything = np.kron(np.eye(6), np.ones((5, 1))), np.tile(np.eye(5), (6, 1)), np.repeat(groups, 5, axis=0)
    pairs = np.hstack(everything)  # (30, 6 + 5 + 2) all pairs' ids and groups
    design = pairs[rows.users * 5 + rows.items]
    posterior = alpha * design.T @ design + 2.0 * np.eye(13)
    mean = np.linalg.solve(posterior, alpha * design.T @ (rows.ratings - 3.0) + 2.0 * 0.5)
    np.testing.assert_allclose(totals, pairs @ mean, atol=0.12)


def test_the_prior_of_many_weights_is_found_again() -> None:
    generator = np.random.default_rng(4)
    block = Block(sparse.identity(50_000, format="csr"), np.arange(50_000), 2, generator)
    block.weights = generator.normal([1.0, -0.2], [0.5, 0.1], size=(50_000, 2))
    mean, precision = block.draw_prior(generator)
    np.testing.assert_allclose(mean, [1.0, -0.2], atol=0.02)
    np.testing.assert_allclose(precision**-0.5, [0.5, 0.1], rtol=0.02)


def test_the_draws_of_a_small_prior_have_the_mean_of_the_normal_gamma_distribution() -> None:
    generator = np.random.default_rng(5)
    block = Block(sparse.identity(3, format="csr"), np.arange(3), 1, generator)
    block.weights = np.array([[1.0], [2.0], [6.0]])
    draws = np.array([np.ravel(block.draw_prior(generator)) for _ in range(8_000)])
    rate = (1 + ((block.weights - 3) ** 2).sum() + 3 / 4 * 9) / 2  # Murphy 2007, with κ0 = 1, μ0 = 0, α0 = β0 = ½
    np.testing.assert_allclose(draws.mean(axis=0), [9 / 4, 2 / rate], rtol=0.04)


def test_a_history_counts_one_over_the_root_of_its_length() -> None:
    (users,), (items,) = FEATURES["implicit"](some_rows())
    for design, counts in ((users, some_rows().user_counts), (items, some_rows().item_counts)):
        values = unit_rows(design)
        np.testing.assert_allclose(values.data, np.repeat(counts**-0.5, counts))


def test_attributes_are_binned_or_flags_and_may_be_missing() -> None:
    assert FEATURES["attributes"](some_rows()) == ([], [])
    users, items = FEATURES["attributes"](board(True))
    table = attributes()["user_features"]
    assert [design.shape[1] for design in users] == [len(np.unique(table.values[:, 0] // 5)), 2]
    np.testing.assert_array_equal(items[0].toarray(), attributes()["item_features"].values)


def test_the_prediction_is_the_mean_over_the_kept_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, sweep = [], Side.sweep

    def watched(side: Side, *arguments: object) -> None:
        sweep(side, *arguments)  # type: ignore[arg-type]
        kept.append(side.vectors)

    monkeypatch.setattr(Side, "sweep", watched)
    model = BayesianFM(embedding_dim=3, features=("implicit",), n_burn_in=2, n_samples=4).fit(board(True))
    samples = [(users[:, :1] + items[:, 0] + users[:, 1:] @ items[:, 1:].T) for users, items in zip(*[iter(kept)] * 2)]
    assert len(samples) == 6
    expected = np.mean(samples[2:], axis=0) + board(True).ratings.mean()
    np.testing.assert_allclose(model.score(PLAYERS), expected[:50], rtol=1e-4, atol=1e-4)


def test_with_time_a_side_is_made_of_sessions_that_share_what_is_their_users(
    exact: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without factors and with fixed priors and noise, the predictions at a time are those of the Bayesian linear regression."""
    monkeypatch.setattr(Block, "draw_prior", lambda *_: FIXED)
    rows = some_rows(6, 5)
    rows = replace(rows, times=np.arange(len(rows)) * 7 % 30)
    model = BayesianFM(embedding_dim=0, features=("time",), session_s=10, n_burn_in=10, n_samples=2000)
    monkeypatch.setattr(bayesian_fm, "_squared_errors", lambda *_: len(rows) / 1.5)
    model.fit(rows)
    sessions, of_row = np.unique(np.stack([rows.users, rows.times // 10]), axis=1, return_inverse=True)
    design = np.hstack([np.eye(6)[rows.users], np.eye(5)[rows.items], np.eye(sessions.shape[1])[of_row]])
    posterior = 1.5 * design.T @ design + 2.0 * np.eye(design.shape[1])
    moment = 1.5 * design.T @ (rows.ratings - rows.ratings.mean()) + 2.0 * 0.5
    expected = design @ np.linalg.solve(posterior, moment) + rows.ratings.mean()
    columns = [torch.as_tensor(column) for column in (rows.users, rows.items, rows.times)]
    np.testing.assert_allclose(model.samples(*columns).mean(dim=1), expected, atol=0.12)


def test_at_an_unknown_time_a_user_is_the_mean_over_their_training_rows() -> None:
    rows = some_rows()
    model = BayesianFM(embedding_dim=2, session_s=2, n_burn_in=1, n_samples=3).fit(rows)
    mine = rows.users == 3
    users, times = torch.full((int(mine.sum()),), 3), torch.from_numpy(rows.times[mine])
    assert len(np.unique(times // 2)) > 1
    items = torch.full_like(users, 7)
    expected = model.samples(users, items, times).mean(dim=0)
    for asked in (model.samples(users[:1], items[:1]), model.samples(users[:1], items[:1], torch.tensor([10**9]))):
        torch.testing.assert_close(asked[0], expected)
    assert torch.equal(model.predict(users, items), model.predict(users, items, times=torch.full_like(times, 10**9)))
    torch.testing.assert_close(model.score(users[:1])[0, 7], expected.mean())


def test_noise_that_was_put_in_is_found_again() -> None:
    generator = np.random.default_rng(6)
    users, items = (code.ravel() for code in np.indices((40, 60)))
    stars = 3 + generator.normal(size=40)[users] + generator.normal(size=60)[items] + generator.normal(0, 0.7, 2400)
    model = BayesianFM(embedding_dim=2, features=()).fit(rows_of(users, items, stars, 40, 60))
    assert float(model.noise.mean()) == pytest.approx(0.7, rel=0.05)


def test_without_factors_and_features_it_still_predicts_biases() -> None:
    model = BayesianFM(embedding_dim=0, features=()).fit(some_rows())
    scores = model.score(torch.arange(12))
    assert torch.linalg.matrix_rank(scores - scores.mean(dim=1, keepdim=True), tol=1e-3) == 1
