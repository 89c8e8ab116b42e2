"""Rating, ranking and beyond-accuracy metrics; every one gives a value per user first.

Ranking metrics work on `Hits`: the relevant items that reached the top, each with its rank. A rank counts from 1 and adds half of
the irrelevant items with the same score, so that ties neither help nor harm; it may therefore end in .5. A user without
relevant items gets NaN, which the caller counts.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Hits:
    """Relevant items at the top of B users' rankings.

    `rows` (H,) says whose each hit is (0 to B - 1), `ranks` (H,) its rank (1 is best; relevant items of one user have different
    ranks up to the half-counted ties); `n_relevant` (B,) is the number of relevant items, found or not.
    """

    rows: np.ndarray
    ranks: np.ndarray
    n_relevant: np.ndarray

    def within(self, cutoff: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and ranks of the hits whose rank is at most `cutoff`."""
        inside = self.ranks <= cutoff
        return self.rows[inside], self.ranks[inside]

    def per_user(self, rows: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Sum weights (or count rows) per user, (B,)."""
        return np.bincount(rows, weights=weights, minlength=len(self.n_relevant)).astype(np.float64)

    def divided(self, numerator: np.ndarray, denominator: np.ndarray | float) -> np.ndarray:
        """Divide per user; NaN for users without relevant items."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.n_relevant > 0, numerator / denominator, np.nan)


def hit_ratio(hits: Hits, cutoff: int) -> np.ndarray:
    """1 where at least one relevant item stands among the first `cutoff`, else 0."""
    return hits.divided(hits.per_user(hits.within(cutoff)[0]) > 0, 1.0)


def recall(hits: Hits, cutoff: int) -> np.ndarray:
    """Relevant items among the first `cutoff`, divided by the number of relevant items."""
    return hits.divided(hits.per_user(hits.within(cutoff)[0]), hits.n_relevant)


def recall_capped(hits: Hits, cutoff: int) -> np.ndarray:
    """Relevant items among the first `cutoff`, divided by min(cutoff, relevant items) (Liang et al. 2018, section 4.2)."""
    return hits.divided(hits.per_user(hits.within(cutoff)[0]), np.minimum(cutoff, hits.n_relevant))


def precision(hits: Hits, cutoff: int) -> np.ndarray:
    """Relevant items among the first `cutoff`, divided by `cutoff`, however short the list is."""
    return hits.divided(hits.per_user(hits.within(cutoff)[0]), float(cutoff))


def ndcg(hits: Hits, cutoff: int) -> np.ndarray:
    """Normalised discounted cumulative gain with binary gains and the discount log2(rank + 1) (Järvelin & Kekäläinen 2002)."""
    rows, ranks = hits.within(cutoff)
    gain = hits.per_user(rows, 1 / np.log2(ranks + 1))
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, cutoff + 2)))])
    return hits.divided(gain, ideal[np.minimum(hits.n_relevant, cutoff)])


def mrr(hits: Hits, cutoff: int) -> np.ndarray:
    """Reciprocal rank of the best relevant item; 0 if it stands below `cutoff`."""
    rows, ranks = hits.within(cutoff)
    best = np.zeros(len(hits.n_relevant))
    np.maximum.at(best, rows, 1 / ranks)
    return hits.divided(best, 1.0)


def average_precision(hits: Hits, cutoff: int) -> np.ndarray:
    """Mean over the hits of (hits so far) / rank, divided by min(cutoff, relevant items); its mean over users is MAP."""
    rows, ranks = hits.within(cutoff)
    order = np.lexsort((ranks, rows))
    rows, ranks = rows[order], ranks[order]
    first = np.searchsorted(rows, rows)  # rows are sorted: where each user's hits begin
    so_far = np.arange(len(rows)) - first + 1
    return hits.divided(hits.per_user(rows, so_far / ranks), np.minimum(cutoff, hits.n_relevant))


RANKING_METRICS = {
    "hit_ratio": hit_ratio,
    "ndcg": ndcg,
    "mrr": mrr,
    "map": average_precision,
    "recall": recall,
    "recall_capped": recall_capped,
    "precision": precision,
}


def _list_mean(values: np.ndarray, lists: np.ndarray) -> np.ndarray:
    """Mean of an item property over each list, (B,); -1 marks an empty place; NaN for an empty list."""
    filled = lists >= 0
    with np.errstate(invalid="ignore"):
        return np.where(filled, values[lists], 0).sum(axis=1) / filled.sum(axis=1)


def novelty(lists: np.ndarray, item_counts: np.ndarray, n_users: int) -> np.ndarray:
    """Mean self-information of the listed items in bits, -log2((n_i + 1) / (U + 1)) (Castells et al. 2015, eq. 26.3).

    `lists` is (B, K) item codes with -1 for empty places, `item_counts` (I,) the training rows of each item.
    """
    return _list_mean(-np.log2((item_counts + 1) / (n_users + 1)), lists)


def popularity_bias(lists: np.ndarray, item_counts: np.ndarray, profile_popularity: np.ndarray) -> np.ndarray:
    """How much more popular the list is than what the user has seen: (list - profile) / profile (Abdollahpouri et al. 2019).

    `profile_popularity` (B,) is the mean count of the items in each user's history; NaN without a history, and where it is 0.
    """
    profile = np.where(profile_popularity > 0, profile_popularity, np.nan)
    return _list_mean(item_counts.astype(np.float64), lists) / profile - 1


def diversity(lists: np.ndarray, item_genres: np.ndarray) -> np.ndarray:
    """Intra-list diversity: 1 - mean cosine similarity of the genre vectors over all pairs of a list (Smyth & McClave 2001).

    `item_genres` is (I, F) flags; an item without genres is unlike every other. NaN for lists with fewer than two items.
    """
    flags = item_genres.astype(np.float64)
    length = np.linalg.norm(flags, axis=1, keepdims=True)
    unit = np.divide(flags, length, out=np.zeros(flags.shape), where=length > 0)
    filled = lists >= 0
    n_items = filled.sum(axis=1)
    vectors = np.where(filled[:, :, None], unit[lists], 0)
    # All ordered pairs, without self-pairs.
    total = (vectors.sum(axis=1) ** 2).sum(axis=1) - (vectors**2).sum(axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(n_items > 1, 1 - total / (n_items * (n_items - 1)), np.nan)


def coverage(lists: np.ndarray, n_items: int) -> float:
    """Share of the catalogue that appears in at least one list (a property of all lists together, not of a user)."""
    return len(np.unique(lists[lists >= 0])) / n_items


def exposure_gini(lists: np.ndarray, n_items: int) -> float:
    """Gini coefficient of how often each film of the catalogue is listed: 0 all equally, near 1 a few films fill all lists."""
    shown = np.sort(np.bincount(lists[lists >= 0], minlength=n_items))
    return float(2 * (np.arange(1, n_items + 1) * shown).sum() / (n_items * shown.sum()) - (n_items + 1) / n_items)
