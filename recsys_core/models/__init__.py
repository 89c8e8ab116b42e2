"""The recommenders of the study, one file a family. Importing the package imports every file: every model registers itself.

To add a model, write three files:

1. `recsys_core/models/<model>.py`: a dataclass that extends `base.Recommender` (networks: `neural.NeuralRecommender`), says what
   it can do (`traits`), has a `setting` for every hyperparameter, implements `_fit` and `_scores` and is registered by
   `@recommender`. `linear.py` is the shortest example, `autoencoders.py` one of networks. The contract suite, searches, boards and
   figures have it from there; `python -m pytest tests/test_contract.py -k <name>` says which promise it breaks.
2. `tests/test_models_<model>.py`: that it computes its formulas, against numbers that were computed in another way.
3. `notebooks/<NN>_<model>.ipynb`: its chapter, entered in `study.yaml`, which measures it and settles what is claimed of it.
"""

from importlib import import_module
from pkgutil import iter_modules

from recsys_core.models.base import Recommender
from recsys_core.models.registry import MODELS

for each in iter_modules(__path__):
    import_module(f"{__name__}.{each.name}")

FOR_PEOPLE = "recommender_net"  # answers people who name no model: it knows new ones by their attributes (report S1)
FOR_FILMS = (
    "content_based"  # says which films are alike if no model is named: it knows films by what they are (report S4)
)
ALSO_WATCHED = "implicit_item_knn"  # says beside it which films the same people have watched
EXPLORED = ("ease", "ials", ALSO_WATCHED)  # side by side in the explorer: sums over a history, and one that folds it in

__all__ = ["ALSO_WATCHED", "EXPLORED", "FOR_FILMS", "FOR_PEOPLE", "MODELS", "Recommender"]
