"""Stars of films that nobody has rated: what is left of an error when a film's effect is what its content makes one expect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipeline.chapters import cold_films
from recsys_core.interactions import Features, Interactions
from recsys_core.models.baselines import Bias
from recsys_core.models.shrunken_effects import attribute_effects
from recsys_core.splits import Split
from recsys_core.statistics import rmse_interval


def stars_of_cold_films(
    split: Split, features: Features | None, weights: Sequence[float], ridge: float
) -> pd.DataFrame:
    """Squared errors of the cold rows, item and squared_error: mean, user's bias and what content makes one expect of the film.

    A film's effect is `attribute_effects` of its content (None: 0). How films count in it by their ratings is chosen among
    `weights`, by the error on the validation rows.
    """
    chosen = weights[0]
    if features is not None and len(weights) > 1:
        tried = [_squared_errors(split.train, split.validation, features, weight, ridge) for weight in weights]
        chosen = weights[int(np.argmin([errors.mean() for errors in tried]))]
    rows = split.test.take(cold_films.cold(split.refit, split.test)[split.test.items])
    return pd.DataFrame(
        {"item": rows.items, "squared_error": _squared_errors(split.refit, rows, features, chosen, ridge)}
    )


def _squared_errors(
    train: Interactions, rows: Interactions, features: Features | None, weight: float, ridge: float
) -> np.ndarray:
    """(N,) squared errors of stars for films without training rows."""
    bias = Bias().fit(train)
    effects = np.zeros(train.n_items)
    if features is not None:
        residuals = train.ratings - bias.baseline(train.users, train.items, train) + bias.item_bias[train.items]
        effects = attribute_effects(residuals, train.items, features.values.astype(float), weight, ridge)
    stars = bias.baseline(rows.users, rows.items, train) + effects[rows.items]
    return (stars.clip(bias.low, bias.high) - rows.ratings) ** 2


def held_out_stars(split: Split) -> pd.DataFrame:
    """The same with each film's effect taken from its held-out ratings themselves, which no model may see."""
    bias = Bias().fit(split.refit)
    rows = split.test.take(cold_films.cold(split.refit, split.test)[split.test.items])
    stars = bias.baseline(rows.users, rows.items, split.refit)
    effects = np.bincount(rows.items, rows.ratings - stars, rows.n_items) / np.maximum(rows.item_counts, 1)
    errors = ((stars + effects[rows.items]).clip(bias.low, bias.high) - rows.ratings) ** 2
    return pd.DataFrame({"item": rows.items, "squared_error": errors})


def rmse_over_films(errors: pd.DataFrame) -> dict[str, float]:
    """RMSE of the rows with a 95 % interval by bootstrap over films, which bring all their rows: rmse, low, high."""
    films = errors.groupby("item")["squared_error"].agg(["sum", "size"])
    low, high = rmse_interval(films["sum"].to_numpy(float), films["size"].to_numpy(float))
    return {"rmse": float(np.sqrt(errors["squared_error"].mean())), "low": low, "high": high}
