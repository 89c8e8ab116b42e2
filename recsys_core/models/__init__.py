"""The recommenders of the study, one file per family; `MODELS` registers every one for the contract suite."""

from recsys_core.models.autoencoders import ItemAutoRec, UserAutoRec
from recsys_core.models.base import Recommender
from recsys_core.models.baselines import Bias, Popularity
from recsys_core.models.bayesian_fm import BayesianFM
from recsys_core.models.demographic import RecommenderNet
from recsys_core.models.embedding_recommender import EmbeddingRecommender
from recsys_core.models.factorization import ALS, SVD, SVDPlusPlus
from recsys_core.models.factorization_machines import DLRM, FM, DeepFM
from recsys_core.models.hybrid import SwitchingHybrid, WeightedHybrid, WeightedRankingHybrid
from recsys_core.models.implicit_factorization import BPRMF, IALS, LogLossMF
from recsys_core.models.implicit_neighbours import ImplicitItemKNN, ImplicitUserKNN
from recsys_core.models.linear import EASE
from recsys_core.models.ncf import GMF, NCF, DiverseNCF, NeuMF
from recsys_core.models.neighbours import ItemKNN, UserKNN
from recsys_core.models.segments import DemographicPopularity, SegmentPopularity
from recsys_core.models.two_tower import DSSM, JointEmbedding, TwoTowerRegressor
from recsys_core.models.variational import MultDAE, MultVAE

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
    "gmf": GMF,
    "neumf": NeuMF,
    "diverse_ncf": DiverseNCF,
    "svd": SVD,
    "svd_plus_plus": SVDPlusPlus,
    "als": ALS,
    "user_knn": UserKNN,
    "item_knn": ItemKNN,
    "item_autorec": ItemAutoRec,
    "user_autorec": UserAutoRec,
    "bayesian_fm": BayesianFM,
    "joint_embedding": JointEmbedding,
    "dssm": DSSM,
    "weighted_hybrid": WeightedHybrid,
    "ials": IALS,
    "bpr_mf": BPRMF,
    "log_loss_mf": LogLossMF,
    "implicit_item_knn": ImplicitItemKNN,
    "implicit_user_knn": ImplicitUserKNN,
    "weighted_ranking_hybrid": WeightedRankingHybrid,
    "switching_hybrid": SwitchingHybrid,
    "segment_popularity": SegmentPopularity,
    "demographic_popularity": DemographicPopularity,
    "mult_vae": MultVAE,
    "mult_dae": MultDAE,
}
