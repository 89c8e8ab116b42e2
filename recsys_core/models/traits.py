"""What a model promises: the contract suite checks that it keeps it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Form: TypeAlias = Literal["counts", "linear", "bilinear", "non-linear"]
FORMS: tuple[Form, ...] = ("counts", "linear", "bilinear", "non-linear")  # from the simplest on


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What a model can do; the contract suite checks what the traits promise.

    `folds_in`: scores a user from a history it was not trained on. `uses_features`: answers for a user without history from their
    attributes. `uses_times`: a rating depends on when it is given. `stochastic`: another seed gives another model.
    `sequential`: the order of the history matters. `learns_from_stars`: it ranks, and yet learns from ratings what is not liked.
    `sees_genres_only`: it tells items apart by their genres alone. `adds_up`: a score is the sum of the scores for somebody who has
    seen one item of the history alone, over all of them.

    `form` is what a score is as a function of what is known, up to a scale and a constant of the user's. What a class says holds
    for its default settings, `own_traits` for its own.

    - counts: the same for everybody, or for everybody of a segment, but for a constant.
    - linear: a sum of weights over what the user has seen, or over what the nearest users have.
    - bilinear: a product of a vector of the user and one of the item, both learnt without hidden layers.
    - non-linear: at least a learnt map, a non-linearity and a learnt map. Softmax, sampling, dropout and division by a length are
      none. Of several parts the last form in this list counts.
    """

    form: Form
    personalised: bool = True
    uses_ids: bool = False
    uses_features: bool = False
    uses_times: bool = False
    sequential: bool = False
    stochastic: bool = False
    folds_in: bool = False
    predicts_ratings: bool = False
    learns_from_stars: bool = False
    sees_genres_only: bool = False
    adds_up: bool = False
