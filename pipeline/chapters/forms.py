"""What form a model's score has: how the chapters tell a model with a hidden non-linear layer from one that has none.

counts: from counts and means, nothing is fitted to single users and films. linear: a weighted sum of what is in a history.
bilinear: a product of a vector of the user and one of the film. non-linear: at least one hidden layer, which is a learned map,
a non-linear function and a learned map after it; softmax, sampling and scaling to length 1 do not count.

`form_of` asks the model's own trait `form` where it has one, and else the table below. Once every model says it itself, the table
and `_by_table` can go.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.chapters.tuned import read_tuned, tuned_file
from recsys_core.models.registry import MODELS, SEARCHES

COUNTS, LINEAR, BILINEAR, NON_LINEAR = FORMS = ("counts", "linear", "bilinear", "non-linear")
UNKNOWN = ""
OF_FAMILY = {  # where a model is not listed by its name
    "counts": COUNTS,
    "neighbours": LINEAR,
    "linear": LINEAR,
    "content": LINEAR,
    "graph": BILINEAR,
    "factorisation": BILINEAR,
    "factorisation machines": BILINEAR,
    "network for stars": NON_LINEAR,
    "perceptron": NON_LINEAR,
    "autoencoder": NON_LINEAR,
    "two towers": NON_LINEAR,
    "sequential": NON_LINEAR,
}
OF_MODEL = {
    "gmf": BILINEAR,
    "deepfm": NON_LINEAR,
    "dlrm": NON_LINEAR,
    "fpmc": BILINEAR,
    "markov_chain": COUNTS,
    "content_towers": NON_LINEAR,
    "hybrid_towers": NON_LINEAR,
}
# Models that have hidden layers only where these settings name some, and what they are without.
WITHOUT_LAYERS = {
    "mult_dae": ("hidden_layers", LINEAR),
    "mult_vae": ("hidden_layers", LINEAR),
    "dssm": ("layers", BILINEAR),
}


def forms(families: Mapping[str, str], root: Path) -> dict[str, str]:
    """The form of each model on a board, given with its family by the name it has there; see `form_of`.

    A variant whose name leads to no model has the form of its family.
    """
    return {title: form_of(title, root) or OF_FAMILY.get(family, UNKNOWN) for title, family in families.items()}


def form_of(title: str, root: Path) -> str:
    """The form of the model that results call `title`: of a searched one with the settings that its search chose.

    A blend "Weighted: A + B" has the form of its least simple member, a variant ("NCF, 6 layers") that of its model. A title that
    belongs to no model has none, "".
    """
    members = title.partition(": ")[2].split(" + ")
    if len(members) > 1:
        found = [form_of(member, root) for member in members]
        return UNKNOWN if UNKNOWN in found else max(found, key=FORMS.index)
    if title in {each.title for each in SEARCHES.values()}:
        name, search = next((name, each) for name, each in SEARCHES.items() if each.title == title)
        settings = read_tuned(root, name) if tuned_file(root, name).exists() else search.fixed
        return _form(search.kind.name, settings)
    named = {kind.title: name for name, kind in MODELS.items()}
    parent = next((each for each in (title, title.split(", ")[0]) if each in named), None)
    return _form(named[parent], {}) if parent else UNKNOWN


def _form(name: str, settings: dict[str, Any]) -> str:
    own = getattr(MODELS[name](**settings).own_traits, "form", None)
    return own if own in FORMS else _by_table(name, settings)


def _by_table(name: str, settings: dict[str, Any]) -> str:
    if name in WITHOUT_LAYERS:
        layers, without = WITHOUT_LAYERS[name]
        return NON_LINEAR if getattr(MODELS[name](**settings), layers) else without
    return OF_MODEL.get(name) or OF_FAMILY.get(MODELS[name].family, UNKNOWN)
