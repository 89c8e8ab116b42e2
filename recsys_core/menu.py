"""`python -m recsys_core recommend`: lists for a user of the data or for somebody new, by a menu or by options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recsys_core import evaluate
from recsys_core.datasets import MovieLens, load
from recsys_core.errors import StudyError, choose
from recsys_core.features import encode
from recsys_core.interactions import Vocabulary
from recsys_core.models import MODELS, Recommender
from recsys_core.models.neural import NeuralRecommender
from recsys_core.people import QUESTIONS, Person, ask_person, one_of, person_features, whole_number
from recsys_core.recommend import recommend, recommend_new, require_features
from recsys_core.splits import Split, make_split

MENU = """
1  Enter age, gender, occupation and zip code
2  Choose a user of the data
3  RMSE
4  Exit
Enter 1, 2, 3 or 4: """


@dataclass
class Session:
    """A data set, a model fitted on nine tenths of its ratings, and the tenth that tells how good it is."""

    data: MovieLens
    vocabulary: Vocabulary
    split: Split
    model: Recommender

    @classmethod
    def open(cls, dataset: str, model: str, file: Path | None, epochs: int | None) -> Session:
        """Load the data and the model's file; without one, fit the model, and save it if a file is named.

        Raises StudyError for unknown names and for a file of another model or of other data.
        """
        choose("model", [model], MODELS)
        data = load(dataset)
        rows, vocabulary = encode(data)
        split = make_split("random-80-10-10", rows)
        if file is not None and file.exists():
            return cls(data, vocabulary, split, _same_rows(MODELS[model].load(file), split, file))
        fresh = MODELS[model](**({"epochs": epochs} if epochs and issubclass(MODELS[model], NeuralRecommender) else {}))
        fitted = fresh.fit(split.refit)
        if file is not None:
            fitted.save(file)
        return cls(data, vocabulary, split, fitted)

    def for_person(self, person: Person, k: int) -> pd.DataFrame:
        """The list of somebody who is not in the data."""
        known = self.model.train_.user_features
        features = person_features(person, self.vocabulary, () if known is None else known.columns)
        return recommend_new(self.model, self.data, self.vocabulary, features, k)

    def for_user(self, text: str, k: int) -> pd.DataFrame:
        """The list of a user of the data, whose id is given as text."""
        return recommend(self.model, self.data, self.vocabulary, self._user_id(text), k)

    def errors(self) -> str:
        """RMSE in stars on the rows that the model was fitted on and on the rows that it has not seen."""
        parts = {"rows it was fitted on": self.split.refit, "rows it has not seen": self.split.test}
        rated = {name: evaluate.rate(self.model, self.split.refit, part, None, True) for name, part in parts.items()}
        lines = [f"RMSE on {len(rows):,} {name}: {evaluate.rmse(rows):.3f} stars" for name, rows in rated.items()]
        return "\n".join(lines)

    def describe(self, text: str) -> str:
        """What the data say of a user, one line."""
        user_id = self._user_id(text)
        if self.data.users is None:
            return f"User {user_id}"
        user = self.data.users[self.data.users["user_id"] == user_id].iloc[0]
        return f"Age: {user['age']}  Gender: {user['gender']}  Occupation: {user['occupation']}  Zip code: {user['zip_code']}"

    def _user_id(self, text: str) -> object:
        ids = self.vocabulary.user_ids
        user_id = int(text) if ids.dtype.kind == "i" and text.isascii() and text.isdigit() else text
        return ids[self.vocabulary.user_codes(user_id)[0]]


def run(session: Session) -> None:
    """The menu; it asks again after an answer that it cannot use, and ends with 4, at the end of input and with Ctrl-C."""
    actions = {"1": _new, "2": _known, "3": lambda session: session.errors()}
    try:
        while (choice := _ask(MENU, lambda text: one_of(text, "Entry", (*actions, "4")))) != "4":
            try:
                print(actions[choice](session))
            except StudyError as error:
                print(error)
    except (EOFError, KeyboardInterrupt):
        print()


def shown(table: pd.DataFrame) -> str:
    """A list as text, every title whole."""
    return table.reset_index().to_string(index=False)


def _new(session: Session) -> str:
    require_features(session.model)
    person = ask_person(session.data, lambda name, check: _ask(f"{QUESTIONS[name]}: ", check))
    return shown(session.for_person(person, _ask_k(session)))


def _known(session: Session) -> str:
    user_id = _ask("User id: ", lambda text: (session.describe(text), text)[1])
    print(session.describe(user_id))
    return shown(session.for_user(user_id, _ask_k(session)))


def _ask_k(session: Session) -> int:
    n_films = len(session.vocabulary.item_ids)
    return _ask("Number of recommendations: ", lambda text: whole_number(text, "Number", 1, n_films))


def _ask(prompt: str, parse: Callable[[str], Any]) -> Any:
    """Ask until the answer can be used."""
    while True:
        try:
            return parse(input(prompt).strip())
        except StudyError as error:
            print(error)


def _same_rows(model: Recommender, split: Split, file: Path) -> Recommender:
    mine, theirs = split.refit, model.train_
    same = (mine.n_users, mine.n_items) == (theirs.n_users, theirs.n_items)
    if not (same and all(np.array_equal(getattr(mine, x), getattr(theirs, x)) for x in ("pair_keys", "ratings"))):
        raise StudyError(f"{file} holds a model of other data: name another file, or delete it and it is made anew.")
    return model
