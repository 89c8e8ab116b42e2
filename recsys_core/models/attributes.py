"""Attributes of users and items as inputs of a network."""

import numpy as np
import torch
from torch import Tensor, nn

from recsys_core.errors import StudyError
from recsys_core.interactions import Features, Interactions


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


def content(rows: Interactions, beginnings: tuple[str, ...]) -> Features:
    """The (I, F) item features whose names start with one of these beginnings; StudyError where there are none."""
    features = rows.item_features or Features(np.zeros((rows.n_items, 0), np.float32), ())
    read = [column.startswith(beginnings) for column in features.columns]
    if not any(read):
        wanted = ", ".join(f"{beginning}…" for beginning in beginnings)
        raise StudyError(
            f"The data say nothing of films in columns {wanted}: choose data with a movie table, or others."
        )
    return Features(np.ascontiguousarray(features.values[:, read]), tuple(np.array(features.columns)[read].tolist()))


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
