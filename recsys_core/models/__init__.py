"""The recommenders of the study, one file per family; `MODELS` registers every one for the contract suite."""

from recsys_core.models.autoencoders import ItemAutoRec, UserAutoRec
from recsys_core.models.base import Recommender
from recsys_core.models.baselines import Bias, Popularity
from recsys_core.models.bayesian_fm import BayesianFM
from recsys_core.models.embedding_recommender import EmbeddingRecommender
from recsys_core.models.linear import EASE
from recsys_core.models.ncf import NCF
from recsys_core.models.segments import DemographicPopularity, SegmentPopularity

MODELS: dict[str, type[Recommender]] = {
    "popularity": Popularity,
    "bias": Bias,
    "ease": EASE,
    "embedding_recommender": EmbeddingRecommender,
    "ncf": NCF,
    "item_autorec": ItemAutoRec,
    "user_autorec": UserAutoRec,
    "bayesian_fm": BayesianFM,
    "segment_popularity": SegmentPopularity,
    "demographic_popularity": DemographicPopularity,
}

__all__ = [
    "EASE",
    "MODELS",
    "NCF",
    "BayesianFM",
    "Bias",
    "DemographicPopularity",
    "EmbeddingRecommender",
    "ItemAutoRec",
    "Popularity",
    "Recommender",
    "SegmentPopularity",
    "UserAutoRec",
]
