"""`python -m recsys_core recommend`: lists for a user of the data or for somebody new, by a menu or by options."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recsys_core import evaluate
from recsys_core.app import explain, kept
from recsys_core.app.batch import recommend_all
from recsys_core.app.people import QUESTIONS, Person, ask_person, one_of, person_features, whole_number
from recsys_core.app.recommend import recommend, recommend_new, require_features
from recsys_core.app.saved import SavedModel
from recsys_core.app.similar import film_title, more_like_this, require_titles
from recsys_core.datasets import MovieLens, load
from recsys_core.errors import StudyError, refuse_unknown
from recsys_core.features import encode
from recsys_core.interactions import Vocabulary
from recsys_core.models import ALSO_WATCHED, FOR_FILMS, MODELS, Recommender
from recsys_core.models.neural import NeuralRecommender
from recsys_core.models.registry import names_with
from recsys_core.models.storage import check_place
from recsys_core.protocols import make_split
from recsys_core.splits import Role, Split

MENU = """
1  Enter age, gender, occupation and zip code
2  Choose a user of the data
3  RMSE
4  Exit
5  Films like a film
Enter 1, 2, 3, 4 or 5: """

SPLIT = "random-80-10-10"
EPOCHS = 20  # of a network, unless said
LIKENESS = {FOR_FILMS: "what the films are", ALSO_WATCHED: "who watched them"}


def tell(line: str) -> None:
    """Say what is being done, beside the lists."""
    print(line, file=sys.stderr, flush=True)


@dataclass
class Session:
    """A data set, and a model that is fitted on nine tenths of its ratings; the last tenth tells how good it is.

    `unfitted` is the model that was asked for. `file` is read if it exists, else written; `epochs` are those that were asked for.
    `explains`: lists of known users come with what speaks for each film. A `saved` model is there already, and all that is known
    are the rows that it was fitted on.
    """

    data: MovieLens
    vocabulary: Vocabulary
    split: Split
    unfitted: Recommender
    file: Path | None
    epochs: int | None
    explains: bool = False
    saved: Recommender | None = None

    @classmethod
    def open(cls, dataset: str, model: str, file: Path | None, epochs: int | None, explains: bool = False) -> Session:
        """Load the data; what is asked for is checked here, and the model fitted when it is first needed.

        Raises StudyError for unknown names, epochs of a model that has none, a file that could not be written, and a model for
        stars where all ratings are the same.
        """
        refuse_unknown("model", [model], MODELS)
        unfitted = _configured(model, epochs)
        if file is not None and not _exists(file):
            check_place(file)
        tell(f"Reading {dataset} …")
        data = load(dataset)
        if unfitted.own_traits.predicts_ratings and not data.explicit:
            raise StudyError(
                f"{data.name} has one and the same rating in every row, and {model} learns from differences between ratings: "
                f"name one that ranks by who has seen what, --model {', '.join(names_with(predicts_ratings=False))}."
            )
        rows, vocabulary = encode(data)
        return cls(data, vocabulary, make_split(SPLIT, rows), unfitted, file, epochs, explains)

    @classmethod
    def of_saved(cls, path: Path, explains: bool = False) -> Session:
        """With a model that `saved.save_model` wrote; raises StudyError as `SavedModel.open` does."""
        tell(f"Reading {path} …")
        saved = SavedModel.open(path)
        rows = saved.model.train_
        split = Split(rows, np.full(len(rows), Role.TRAIN, np.uint8), "")
        return cls(saved.data, saved.vocabulary, split, saved.model, None, None, explains, saved.model)

    @cached_property
    def model(self) -> Recommender:
        """The fitted model: saved, from its file, from the last time, or fitted now; StudyError for a file of another one."""
        if self.saved is not None:
            return self.saved
        if self.file is not None and _exists(self.file):
            return self._from(self.file)
        place = kept.place(self.unfitted, self.data, SPLIT)
        model = kept.take(place, self.unfitted, self.split.refit) or self._fitted(place)
        if self.file is not None:
            model.save(self.file)
        return model

    def _from(self, file: Path) -> Recommender:
        model = type(self.unfitted).load(file)
        if not kept.same_rows(model.train_, self.split.refit):
            raise StudyError(
                f"{file} holds a model of other data: name another file, or delete it and it is made anew."
            )
        if self.epochs not in (None, (found := model.hyperparameters.get("epochs"))):
            raise StudyError(f"{file} holds a model of {found} epochs: leave out --epochs, or name another file.")
        return model

    def _fitted(self, place: Path) -> Recommender:
        tell(
            f"Fitting {type(self.unfitted).__name__} on {len(self.split.refit):,} ratings, for this time and later ones …"
        )
        model = self.unfitted.fit(self.split.refit)
        try:
            kept.keep(place, model)
        except StudyError as error:
            tell(f"It is not kept for later ones. {error}")
        return model

    def for_person(self, person: Person, k: int) -> pd.DataFrame:
        """The list of somebody who is not in the data."""
        require_features(self.unfitted)
        known = self.split.refit.user_features
        features = person_features(person, self.vocabulary, () if known is None else known.columns)
        return recommend_new(self.model, self.data, self.vocabulary, features, k)

    def for_user(self, text: str, k: int) -> pd.DataFrame:
        """The list of a user of the data, whose id is given as text."""
        user_id = self._user_id(text)
        return recommend(self.model, self.data, self.vocabulary, user_id, k)

    def everybody(self, k: int) -> pd.DataFrame:
        """The lists of all users of the data, see `batch.recommend_all`."""
        return recommend_all(self.model, self.data, self.vocabulary, self.split.interactions, k)

    def list_of(self, text: str, k: int) -> str:
        """The list of a user of the data as text, and what speaks for its films if that was asked for."""
        films = self.for_user(text, k)
        if not self.explains:
            return shown(films)
        return f"{shown(films.drop(columns='because', errors='ignore'))}\n{self._why(self._user_id(text), films)}"

    def _why(self, user_id: object, films: pd.DataFrame) -> str:
        items = self.vocabulary.item_codes(films["item_id"])
        found = explain.explained(self.model, self.data, self.vocabulary, self._facts, user_id, items)
        lines = ["What speaks for them in the history:"]
        for rank, title, *reasons in found.itertuples():
            said = [reason for reason in reasons if reason] or ["nothing that can be told"]
            lines += [f"{rank:5}  {printable(title)}", *(f"       {printable(reason)}" for reason in said)]
        named = any(f"({name})" in line for name in set(self._names.values()) for line in lines)
        return "\n".join(lines + ([f"Names of people: {explain.PARAGRAPHS.attribution}"] if named else []))

    @cached_property
    def _names(self) -> dict[str, str]:
        return explain.names_at_hand(self.data)

    @cached_property
    def _facts(self) -> explain.Facts | None:
        tell("Reading what is known of the films …")
        try:
            catalogue = pd.DataFrame({"item_id": self.vocabulary.item_ids})  # films without a rating, too
            return explain.film_facts(replace(self.data, ratings=catalogue), self._names)
        except StudyError as error:
            tell(str(error))
            return None

    def like(self, title: str, k: int, models: Sequence[str] = (FOR_FILMS, ALSO_WATCHED)) -> str:
        """The films like a film, a list by each model; of several, one that has no list says why.

        Raises StudyError for a title that is not found, and where the only model has no list.
        """
        parts = [f"Like {printable(film_title(self.data, self.vocabulary, title))}:"]
        for name in models:
            session = self._of(name)
            try:
                found = shown(more_like_this(session.model, self.data, self.vocabulary, title, k))
            except StudyError as error:
                if len(models) == 1:
                    raise
                found = str(error)
            parts.append(f"by {LIKENESS.get(name, session.unfitted.title)}\n{found}")
        return "\n".join(parts)

    def _of(self, model: str) -> Session:
        """This session with another model, or itself."""
        return (
            self
            if model == self.unfitted.name
            else replace(self, unfitted=MODELS[model](), file=None, epochs=None, saved=None)
        )

    def quality(self) -> str:
        """RMSE in stars on the rows of the fit and on unseen ones; of a model without stars, how well it ranks."""
        tell("Measuring …")
        return self._errors() if self.model.rates else self._ranking()

    def _ranking(self) -> str:
        cutoff = min(10, len(self.vocabulary.item_ids))
        task = evaluate.RankingTask(self.split.refit, self.split.test, cutoffs=(cutoff,))
        users = evaluate.rank(self.model, task).users
        why = f"{type(self.model).__name__} ranks films and does not predict ratings, so there is no RMSE"
        if self.model.own_traits.predicts_ratings:
            why = "All ratings of these data are the same, so that there are no stars to predict and no RMSE"
        hits, found = users[f"precision@{cutoff}"].mean() * cutoff, users[f"ndcg@{cutoff}"].mean()
        return f"{why}. Of {cutoff} films that it lists, {hits:.2f} are among a user's unseen rows (NDCG@{cutoff} {found:.3f})."

    def _errors(self) -> str:
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
    """The menu; it asks again after an answer that it cannot use, and ends with 4, at the end of input and with Ctrl-C.

    Its entries 1 to 4 are those of report S1. The model is there before the first question. Raises StudyError where it cannot be
    fitted.
    """
    session.model  # noqa: B018 - what takes long comes first
    actions = {"1": _new, "2": _known, "3": Session.quality, "5": _like}
    try:
        while (choice := _ask(MENU, lambda text: one_of(text, "Entry", sorted((*actions, "4"))))) != "4":
            try:
                print(actions[choice](session))
            except StudyError as error:
                print(error)
    except (EOFError, KeyboardInterrupt):
        print()


def shown(table: pd.DataFrame) -> str:
    """A list as text, every title whole and on its line, whatever characters are in it."""
    texts = table.reset_index()
    for column in texts.select_dtypes(exclude="number"):
        texts[column] = [printable(str(text)) for text in texts[column]]
    with pd.option_context("display.unicode.east_asian_width", True):
        return texts.to_string(index=False)


def printable(text: str) -> str:
    """The text with a space for every character that would do something else than be seen, such as a line's end."""
    return "".join(character if character.isprintable() else " " for character in text)


def _new(session: Session) -> str:
    require_features(session.unfitted)
    person = ask_person(session.data, lambda name, check: _ask(f"{QUESTIONS[name]}: ", check))
    return shown(session.for_person(person, _ask_k(session)))


def _known(session: Session) -> str:
    user_id = _ask("User id: ", lambda text: (session.describe(text), text)[1])
    print(session.describe(user_id))
    return session.list_of(user_id, _ask_k(session))


def _like(session: Session) -> str:
    require_titles(session.data)
    title = _ask("Title of a film: ", lambda text: film_title(session.data, session.vocabulary, text))
    return session.like(title, _ask_k(session, "Number of films: ", 1))


def _ask_k(session: Session, prompt: str = "Number of recommendations: ", n_left_out: int = 0) -> int:
    n_films = len(session.vocabulary.item_ids) - n_left_out
    return _ask(prompt, lambda text: whole_number(text, "Number", 1, n_films))


def _ask(prompt: str, parse: Callable[[str], Any]) -> Any:
    """Ask until the answer can be used."""
    if sys.stdin is None:  # closed by whoever started it
        raise EOFError
    while True:
        try:
            return parse(input(prompt).strip())
        except StudyError as error:
            print(error)


def _configured(model: str, epochs: int | None) -> Recommender:
    """The unfitted model, of so many epochs if it is a network."""
    kind = MODELS[model]
    if issubclass(kind, NeuralRecommender):
        return kind(epochs=EPOCHS if epochs is None else epochs)
    if epochs is not None:
        raise StudyError(f"{kind.__name__} is not trained in epochs: leave out --epochs, or choose a network.")
    return kind()


def _exists(file: Path) -> bool:
    try:
        return file.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False
