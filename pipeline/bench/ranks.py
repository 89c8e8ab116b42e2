"""`python -m pipeline.bench.ranks 49_splits dssm neumf`: train a chapter's models, store ranks of its test rows.

The same as `make store NOTEBOOK=49_splits`, for these models alone, or all of the chapter's where none is named; two such processes
may run side by side. What is stored is not trained again.
"""

import sys
from dataclasses import replace

from pipeline.chapters.experiment import Experiments
from pipeline.chapters.notebook import Notebook
from pipeline.chapters.ranked_models import RankedModel, places_of
from pipeline.chapters.study import ROOT, TUNED_WIDELY, Study
from pipeline.command import exit_status
from recsys_core.datasets import load


def store_ranks(notebook: str, names: list[str]) -> None:
    """Store the ranks of these models on the chapter's splits, with its own parameters."""
    given = Study(ROOT).defaults(notebook)
    study = Experiments(replace(Notebook.open(notebook, given), policy="write"), load(given["dataset"]))
    places = places_of(study, given["splits"])
    usual = [*given["solved"], *given["descended"], *given.get("added", [])]
    asked = [(name, given["settings"]) for name in usual] + [(name, TUNED_WIDELY) for name in given.get("wide", [])]
    for name, settings in [each for each in asked if not names or each[0] in names]:
        model = RankedModel(study, name, settings, given["device"])
        print(f"{model.title}: {len(model.ranks(places))} rankings of test rows are stored", flush=True)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: store_ranks(sys.argv[1], sys.argv[2:]), "stopped; what was stored stays"))
