"""Content ridge: each user's row of seen films as a linear function of what the films are, in closed form.

    w_u = argmin_w Σ_{i known} (x_ui - w·[c_i ; 1])² + λ ‖w‖²      without the weight of the 1
    score(u, i) = w_u·[c_i ; 1],     w_u = (CᵀC + Λ)⁻¹ Cᵀ x_u

c_i is the content of film i, x_ui is 1 where u has seen it, the sum is over all films with training rows, seen or not. One matrix
serves all users, and a film that nobody has rated is one more row of content. Regression on attributes of what is known of warm
films goes back to Gantner et al. (2010), who map to factors; here there are none. No paper has figures on ML-100K.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from recsys_core.interactions import Interactions
from recsys_core.models.attributes import content
from recsys_core.models.base import FitTask, Recommender
from recsys_core.models.content_based import CONTENT
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting
from recsys_core.models.traits import Traits


@recommender("content_ridge", title="Content ridge", family="content")
@dataclass(kw_only=True)
class ContentRidge(Recommender):
    """Ranks by a ridge regression of each user's row on film content, see the module. Ratings are not read.

    `columns` are the beginnings of the item features that are read. Raises StudyError for data without content.
    """

    traits: ClassVar[Traits] = Traits(form="linear", folds_in=True, sees_genres_only=True)
    learnt: ClassVar[dict[str, type]] = {"weights": np.ndarray}

    columns: tuple[str, ...] = setting(("genre_",), among=CONTENT, other=("content_",))
    # above 0, or the inverse may not exist
    regularisation: float = setting(3.0, least=1e-9, search=between(0.1, 100.0, log=True), other=50.0)

    def _inputs(self, train: Interactions) -> np.ndarray:
        """C (I, F + 1), float64: content and a 1."""
        return np.column_stack([content(train, self.columns).values.astype(np.float64), np.ones(train.n_items)])

    def _fit(self, task: FitTask) -> None:
        inputs, known = self._inputs(task.train), task.train.item_counts > 0
        self.inputs_ = inputs
        penalty = np.full(inputs.shape[1], self.regularisation)
        penalty[-1] = 1e-9  # how much a user has seen is not shrunk
        seen = inputs * known[:, None]  # a film without rows is neither seen nor unseen
        self.weights = np.linalg.solve(seen.T @ seen + np.diag(penalty), seen.T)  # (F + 1, I): w_u = weights x_u

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        regressed = history.binary[users.cpu().numpy()] @ self.weights.T  # (B, F + 1)
        return torch.from_numpy(regressed @ self.inputs_.T).float().to(users.device)

    def _restore(self, state: dict[str, Tensor]) -> None:
        super()._restore(state)
        self.inputs_ = self._inputs(self.train_)
