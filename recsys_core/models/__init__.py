"""The recommenders of the study, one file per family; `MODELS` registers every one for the contract suite."""

from recsys_core.models.autoencoders import ItemAutoRec, UserAutoRec
from recsys_core.models.base import Recommender
from recsys_core.models.baselines import Bias, Popularity
from recsys_core.models.bayesian_fm import BayesianFM
from recsys_core.models.demographic import RecommenderNet
from recsys_core.models.embedding_recommender import EmbeddingRecommender
from recsys_core.models.factorization import ALS, SVD, SVDPlusPlus
from recsys_core.models.factorization_machines import DLRM, FM, DeepFM
from recsys_core.models.hybrid import WeightedHybrid
from recsys_core.models.linear import EASE
from recsys_core.models.ncf import NCF
from recsys_core.models.neighbours import ItemKNN, UserKNN
from recsys_core.models.segments import DemographicPopularity, SegmentPopularity
from recsys_core.models.two_tower import TwoTowerRegressor

MODELS: dict[str, type[Recommender]] = {
    "popularity": Popularity,
    "bias": Bias,
    "ease": EASE,
    "embedding_recommender": EmbeddingRecommender,
    "two_tower_regressor": TwoTowerRegressor,
    "recommender_net": RecommenderNet,
    "fm": FM,
    "deepfm": DeepFM,
    "dlrm": DLRM,
    "ncf": NCF,
    "svd": SVD,
    "svd_plus_plus": SVDPlusPlus,
    "als": ALS,
    "user_knn": UserKNN,
    "item_knn": ItemKNN,
    "item_autorec": ItemAutoRec,
    "user_autorec": UserAutoRec,
    "bayesian_fm": BayesianFM,
    "weighted_hybrid": WeightedHybrid,
    "segment_popularity": SegmentPopularity,
    "demographic_popularity": DemographicPopularity,
}
