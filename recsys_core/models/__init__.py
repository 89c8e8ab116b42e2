"""The recommenders of the study, one file a family. Importing the package imports every file: every model registers itself."""

from importlib import import_module
from pkgutil import iter_modules

from recsys_core.models.base import Recommender
from recsys_core.models.registry import MODELS

for each in iter_modules(__path__):
    import_module(f"{__name__}.{each.name}")

FOR_PEOPLE = "recommender_net"  # answers people who name no model: it knows new ones by their attributes (report S1)

__all__ = ["FOR_PEOPLE", "MODELS", "Recommender"]
