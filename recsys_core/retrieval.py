"""Vector search: the items nearest to a vector, exactly by one matmul, or through an index that looks at a part of them.

Nearness is the inner product, which for vectors of length 1 is their cosine. The index is faiss' inverted file (Jégou, Douze &
Schmid 2011): k-means puts the items into `n_lists` cells, and a query looks into the `n_probes` cells nearest to it.
"""

from __future__ import annotations

import torch
from scipy import sparse
from torch import Tensor

from recsys_core.errors import StudyError
from recsys_core.interactions import Features
from recsys_core.models.attribute_networks import VectorNetwork


class VectorIndex:
    """(I, D) item vectors to search. `n_lists=0` searches exactly; above it needs faiss, the extra `search`."""

    def __init__(self, vectors: Tensor, n_lists: int = 0, n_probes: int = 8) -> None:
        self.vectors = _finite(vectors, "item")
        if not 0 <= n_lists <= len(vectors) or n_probes < 1:
            cells = f"n_lists={n_lists}, n_probes={n_probes}: {len(vectors)} vectors make 0 to {len(vectors)} lists"
            raise StudyError(f"{cells}, of which 1 or more are looked into.")
        self.index = None
        if n_lists:
            try:
                import faiss
            except ImportError:
                raise StudyError(
                    "Approximate search needs `pip install faiss-cpu`; n_lists=0 searches exactly."
                ) from None
            self.index = faiss.index_factory(vectors.shape[1], f"IVF{n_lists},Flat", faiss.METRIC_INNER_PRODUCT)
            self.index.train(self.vectors.numpy())
            self.index.add(self.vectors.numpy())
            self.index.nprobe = n_probes

    def search(self, queries: Tensor, k: int, seen: sparse.csr_matrix | None = None) -> tuple[Tensor, Tensor]:
        """Return the k best items (B, k) of (B, D) queries and their products, best first; -1 and -inf where none are left.

        `seen` (B, I) marks what is left out of each list. Raises StudyError for NaN, another width and k outside the catalogue.
        """
        n_items, width = self.vectors.shape
        if queries.shape[1] != width or not 1 <= k <= n_items:
            raise StudyError(f"The index has {n_items} vectors of width {width}: got width {queries.shape[1]}, k={k}.")
        queries = _finite(queries, "query")
        n_seen = 0 if seen is None else int((seen != 0).sum(axis=1).max())
        wide = min(k + n_seen, n_items)
        if self.index is None:
            values, items = (queries @ self.vectors.T).topk(wide, dim=1)
        else:
            values, items = map(torch.as_tensor, self.index.search(queries.numpy(), wide))
        gone = items < 0
        if seen is not None:
            gone |= torch.as_tensor(seen.toarray() != 0).gather(1, items.clamp(min=0))
        values, places = values.masked_fill(gone, -torch.inf).topk(k, dim=1)
        return items.gather(1, places).masked_fill(values.isneginf(), -1), values

    def for_users(self, model: VectorNetwork, users: Tensor, k: int, features: Features | None = None) -> Tensor:
        """Return (B, k) unseen items for training users, or for new ones with these attributes; asks the item tower once.

        Raises StudyError for a model whose item vectors are not those of the index.
        """
        if not torch.equal(model.item_vectors().cpu(), self.vectors):
            raise StudyError(
                f"The index was built from another model than this {type(model).__name__}: build it again."
            )
        seen = None if features is not None else model.train_.binary[users.cpu().numpy()]
        return self.search(model.user_vectors(users, features), k, seen)[0]

    def similar(self, item: int, k: int) -> tuple[Tensor, Tensor]:
        """Return the k items nearest to an item, without itself, and their products; StudyError for an unknown item."""
        if not 0 <= item < len(self.vectors):
            raise StudyError(f"Item code {item} is not in the index: it holds the codes 0 to {len(self.vectors) - 1}.")
        itself = sparse.csr_matrix(([1], ([0], [item])), shape=(1, len(self.vectors)))
        items, values = self.search(self.vectors[[item]], k, itself)
        return items[0], values[0]


def _finite(vectors: Tensor, kind: str) -> Tensor:
    """Float32 vectors in the processor's memory; StudyError names the first that holds NaN or infinity."""
    wrong = (~vectors.isfinite().all(dim=1)).nonzero()
    if len(wrong):
        raise StudyError(f"The vector of {kind} {int(wrong[0])} is not finite: the model it comes from has diverged.")
    return vectors.detach().float().cpu().contiguous()
