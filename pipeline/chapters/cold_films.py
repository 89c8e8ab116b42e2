"""Films that nobody has rated, made by taking a tenth of the catalogue out of training: the split, and what is measured on it.

A cold film has no training row. Among cold films alone chance is known; among all unseen films it is seen what they win and what
the others lose.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from recsys_core import evaluate, metrics
from recsys_core.errors import StudyError
from recsys_core.evaluate import RankingTask, top_hits, top_k
from recsys_core.interactions import Interactions
from recsys_core.models.base import Recommender
from recsys_core.splits import Role, Split
from recsys_core.train import Validation

N_PARTS = 10


def parts(item_counts: np.ndarray, n_parts: int = N_PARTS, seed: int = 0) -> np.ndarray:
    """The part (I,), 0 to n - 1, of each film: of every n films that follow each other in popularity, one in each part.

    Ties in popularity are in random order. Raises StudyError for fewer than 2 parts, and for more than there are films.
    """
    n_items, generator = len(item_counts), np.random.default_rng(seed)
    if not 2 <= n_parts <= n_items:
        raise StudyError(f"n_parts={n_parts}: {n_items} films can be cut into 2 to {n_items} parts.")
    order = np.lexsort((generator.random(n_items), -item_counts))
    found = np.empty(n_items, np.int64)
    for start in range(0, n_items, n_parts):
        stratum = order[start : start + n_parts]
        found[stratum] = generator.permutation(n_parts)[: len(stratum)]
    return found


def with_cold_films(split: Split, part_of: np.ndarray, part: int) -> Split:
    """The split with the films of a part out of training entirely: all their rows test, and all rows of the next part validate.

    `part_of` (I,) is what `parts` gave. Settings are so chosen on other cold films, which train in the refit; rows that validated
    before train, and so do all rows of a film of another part that had no other, so that a film is cold in its own part alone.
    Raises StudyError for a part that there is not, and for a split by users.
    """
    n_parts = int(part_of.max()) + 1
    if not 0 <= part < n_parts:
        raise StudyError(f"part={part}: the films are cut into the parts 0 to {n_parts - 1}.")
    if split.held_out or split.negatives is not None:
        raise StudyError(
            f"Cold films need a split of each user's rows without drawn negatives; {split.protocol} is another."
        )
    mine, roles = part_of[split.interactions.items], split.roles.copy()
    roles[roles == Role.VALIDATION] = Role.TRAIN
    trained = np.bincount(split.interactions.items, roles == Role.TRAIN, split.interactions.n_items)
    roles[trained[split.interactions.items] == 0] = Role.TRAIN
    roles[mine == (part + 1) % n_parts] = Role.VALIDATION
    roles[mine == part] = Role.TEST
    variant = f"{split.variant}, cold films, part={part}".removeprefix(", ")
    return replace(split, roles=roles, variant=variant)


def cold(train: Interactions, rows: Interactions) -> np.ndarray:
    """Mark (I,) the films that have rows and no training row; StudyError where there are none."""
    found = (train.item_counts == 0) & (rows.item_counts > 0)
    if not found.any():
        raise StudyError(
            "Every film of these rows has training rows, so that none is cold: take films out of training."
        )
    return found


def judge(model: Recommender, train: Interactions, rows: Interactions, history: Interactions | None) -> Validation:
    """NDCG@10 among the cold films of validation rows alone: what `fit` takes to choose by films that it does not know."""
    task = _among_cold(train, rows, (min(10, int(cold(train, rows).sum())),))
    return Validation(f"ndcg@{task.cutoffs[0]}", lambda: evaluate.mean_ndcg(model, task), True)


def _among_cold(
    train: Interactions, rows: Interactions, cutoffs: tuple[int, ...], everybody: bool = False
) -> RankingTask:
    """Ranks the cold films of `rows` for users with training rows: for all whom `rows` know, or for those with a cold positive."""
    films = cold(train, rows)
    known = rows.take(train.user_counts[rows.users] > 0)
    positives = known.take(films[known.items])
    return RankingTask(train, positives, cutoffs=cutoffs, users=known.users if everybody else None, among=films)


def among_cold_films(model: Recommender, split: Split, cutoffs: tuple[int, ...] = (10,)) -> pd.DataFrame:
    """One row per test user with training rows: how a fitted model ranks the cold films alone, beside chance.

    Columns: user, n_relevant (cold positives), recall@K, ndcg@K, chance_recall@K and chance_ndcg@K; NaN without a cold positive.
    Films of the same content have the same score, so that values are means over all orders of ties; all films tied is chance.
    """
    lines = []
    for user, scores, rated in _asked_about_cold(model, split):
        line: dict[str, float] = {"user": user, "n_relevant": rated.sum()}
        for cutoff in cutoffs:
            for prefix, values in (("", scores), ("chance_", np.zeros(len(scores)))):
                found = _recall_and_ndcg(values, rated, cutoff) if rated.any() else (np.nan, np.nan)
                line[f"{prefix}recall@{cutoff}"], line[f"{prefix}ndcg@{cutoff}"] = found
        lines.append(line)
    return pd.DataFrame(lines).astype({"user": int, "n_relevant": int})


def _asked_about_cold(model: Recommender, split: Split) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield, for every test user with training rows, their scores of the C cold films (C,) and which they rated (C,)."""
    films = np.flatnonzero(cold(model.train_, split.test))
    task = _among_cold(model.train_, split.test, (1,), everybody=True)
    for users in task.batches():
        scores = model.score(torch.as_tensor(users)).cpu().numpy()[:, films]
        rated = task.test.binary[users][:, films].toarray() > 0
        yield from zip(users.tolist(), scores, rated)


def _recall_and_ndcg(scores: np.ndarray, rated: np.ndarray, cutoff: int) -> tuple[float, float]:
    """Recall and NDCG of (C,) scores, their mean over all orders of equal scores; `rated` (C,) are the relevant ones."""
    discounts = np.r_[0, np.cumsum(1 / np.log2(np.arange(2, cutoff + 2)))]  # of the first 0, 1, … K ranks
    ordered = np.sort(-scores)
    first, last = (
        np.searchsorted(ordered, -scores[rated], side) for side in ("left", "right")
    )  # of the ties of a film
    n_tied, start, end = last - first, np.minimum(first, cutoff), np.minimum(last, cutoff)
    gain = ((discounts[end] - discounts[start]) / n_tied).sum()
    return float(((end - start) / n_tied).mean()), float(gain / discounts[min(len(first), cutoff)])


def auc_by_film(model: Recommender, split: Split) -> pd.DataFrame:
    """One row per cold film: item, n_users (known to training, who rated it) and its AUC, the mean over them.

    A user's AUC of a film that they rated is the share of the cold films that they did not rate and that score lower; equal scores
    count half. Chance is .5, whatever the films' popularity. NaN without such users; who rated all cold films does not count.
    """
    films = np.flatnonzero(cold(model.train_, split.test))
    total, n_users = np.zeros(len(films)), np.zeros(len(films), np.int64)
    for _, scores, rated in _asked_about_cold(model, split):
        others = np.sort(scores[~rated])
        if len(others):
            below = sum(np.searchsorted(others, scores[rated], side) for side in ("left", "right"))
            total[rated] += below / (2 * len(others))
            n_users += rated
    auc = np.divide(total, n_users, out=np.full(len(films), np.nan), where=n_users > 0)
    return pd.DataFrame({"item": films, "n_users": n_users, "auc": auc})


def among_all_films(model: Recommender, split: Split, cutoff: int = 10) -> pd.DataFrame:
    """One row per test user with training rows: what becomes of cold films among all unseen films, and of the others.

    Columns: user, n_cold and n_warm (test rows of films without and with training rows), cold_recall, cold_share (of the list),
    warm_recall and warm_ndcg, and the same two without cold films in the list, `…_alone`. A metric is NaN without a positive.
    """
    train, test = model.train_, split.test
    films = cold(train, test)
    test = test.take(train.user_counts[test.users] > 0)
    rows = {"cold": test.take(films[test.items]), "warm": test.take(~films[test.items])}
    task, tables = RankingTask(train, test, cutoffs=(cutoff,)), []
    for users in task.batches():
        scores = task.candidates(model.score(torch.as_tensor(users)).clone(), users)
        lists = top_k(scores, cutoff).cpu().numpy()
        (cold_recall, _), (warm_recall, warm_ndcg) = (_at_top(scores, rows[name], users, cutoff) for name in rows)
        columns = {"user": users, "n_cold": rows["cold"].user_counts[users], "cold_recall": cold_recall}
        columns["cold_share"] = np.where(lists >= 0, films[lists], np.nan).mean(axis=1)
        columns |= {"n_warm": rows["warm"].user_counts[users], "warm_recall": warm_recall, "warm_ndcg": warm_ndcg}
        scores[:, torch.as_tensor(films, device=scores.device)] = -torch.inf
        columns["warm_recall_alone"], columns["warm_ndcg_alone"] = _at_top(scores, rows["warm"], users, cutoff)
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def _at_top(scores: torch.Tensor, rows: Interactions, users: np.ndarray, cutoff: int) -> tuple[np.ndarray, np.ndarray]:
    """Recall and NDCG (B,) of the users' rows in lists by (B, I) scores; NaN without a row."""
    whose, items = rows.binary[users].nonzero()
    hits = top_hits(scores, whose, items, cutoff)
    return metrics.recall(hits, cutoff), metrics.ndcg(hits, cutoff)
