"""`python -m pipeline.bench.ranks dssm neumf`: train models of chapter 52 and store where its test rows stand in their rankings.

The same as `make store NOTEBOOK=52_multiverse`, for these models alone; two such processes may run side by side. What is stored is
not trained again.
"""

import sys
from dataclasses import replace

from pipeline.chapters.experiment import Experiments
from pipeline.chapters.multiverse_models import RankedModel, places_of
from pipeline.chapters.notebook import Notebook
from pipeline.chapters.study import ROOT, Study
from pipeline.command import exit_status
from recsys_core.datasets import load

NOTEBOOK = "52_multiverse"


def store_ranks(names: list[str]) -> None:
    """Store the ranks of these models, all of the chapter's where none is named, with its own parameters."""
    parameters = Study(ROOT).defaults(NOTEBOOK)
    notebook = replace(Notebook.open(NOTEBOOK, parameters), policy="write")
    study = Experiments(notebook, load(parameters["dataset"]))
    places = places_of(study, parameters["splits"])
    for name in names or parameters["models"]:
        model = RankedModel(study, name, parameters["settings"], parameters["device"])
        print(f"{model.title}: {len(model.ranks(places))} rankings of test rows are stored", flush=True)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: store_ranks(sys.argv[1:]), "stopped; what was stored stays"))
