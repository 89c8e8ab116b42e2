"""Two models made by hand, for new users and for rare films: mean residuals, shrunk to 0 or to what attributes predict."""

import numpy as np
import pandas as pd


def add_own_mean(rated: pd.DataFrame, n_known: int, weight: float, first: int) -> pd.DataFrame:
    """A hybrid made by hand: a prior's stars plus the user's mean residual over their first `n_known` rows, shrunk.

        b_u = Σ (r_ui - prior_ui) / (weight + n_known)

    `rated` holds the prior's predictions of all rows of new users: user, position (in the user's rows, in time order, from 0),
    actual, predicted (stars). Returned are the rows from position `first` on, predicted anew.
    """
    history, asked = rated[rated["position"] < n_known], rated[rated["position"] >= first]
    residuals = (history["actual"] - history["predicted"]).groupby(history["user"]).sum()
    own = asked["user"].map(residuals).fillna(0.0) / (weight + n_known)
    predicted = (asked["predicted"] + own).clip(rated["actual"].min(), rated["actual"].max())
    return asked.assign(predicted=predicted, squared_error=(predicted - asked["actual"]) ** 2)


def attribute_effects(
    residuals: np.ndarray, codes: np.ndarray, features: np.ndarray, weight: float, ridge: float
) -> np.ndarray:
    """(M,) mean residuals of users or films, each shrunk towards what its attributes predict.

        e_m = (Σ residuals + weight x_m β) / (weight + n_m)

    `codes` (N,) says whose the residuals (N,) are, `features` is (M, F). β is a ridge regression of mean residuals on standardised
    attributes, each user or film weighted by n / (n + weight). Without a residual, e is that prediction.
    """
    spread = features.std(axis=0)
    inputs = np.column_stack(
        [np.ones(len(features)), (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)]
    )
    counts = np.bincount(codes, minlength=len(features))
    total = np.bincount(codes, residuals, len(features))
    trust = counts / (counts + weight)
    penalty = ridge * np.diag(np.r_[0.0, np.ones(features.shape[1])])
    target = (inputs.T * trust) @ (total / np.maximum(counts, 1))
    expected = inputs @ np.linalg.solve((inputs.T * trust) @ inputs + penalty, target)
    return np.asarray((total + weight * expected) / (weight + counts))
