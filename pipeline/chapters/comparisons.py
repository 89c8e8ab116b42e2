"""Two models compared user by user: how far they are apart, how sure that is, and what it is called.

    compare(users, "ndcg@10", each_with(["iALS", "BPR"], ["EASE"]), protocol="random-80-10-10", settings="tuned").sentence()

The difference is that of users' means, model minus rival, with a 95 % interval by bootstrap over users. p is that of the paired
permutation test, adjusted by Holm's method over all pairs of the comparison. Verdicts follow p: the interval is that of one pair
alone, so that it may leave 0 out where the verdict is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from recsys_core.errors import StudyError
from recsys_core.statistics import holm, paired_interval, permutation_test

BETTER, WORSE, UNDECIDED = "better than", "worse than", "statistically indistinguishable from"
LEVEL = 0.05
ERRORS = ("rmse", "squared_error")  # of these a user's mean squared error is compared, of which less is better
WHOLE_FOLD = r"fold=\d"  # the variant of a fold that is not thinned
COLUMNS = ["model", "rival", "difference", "low", "high", "p", "verdict"]
INNER = ["low", "high"]  # of the 90 % interval, by which two models are called equivalent, see `verdicts`
NOTHING = "There is nothing to compare with in this run."
NOT_COMPARED = "not compared with other models in this run"


def each_with(models: Sequence[str], rivals: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of each of the models with each of the rivals, but not with itself."""
    return [(model, rival) for model in models for rival in rivals if model != rival]


def with_settings(rows: pd.DataFrame, settings: str | None) -> pd.DataFrame:
    """Rows of results or of per-user values with these settings (None: with any).

    A model without such a row under a protocol keeps all that it has there.
    """
    if settings is None:
        return rows
    cells, asked = pd.MultiIndex.from_frame(rows[["model", "protocol"]]), (rows["settings"] == settings).to_numpy()
    return rows[asked | ~cells.isin(cells[asked])]


def compare(
    users: pd.DataFrame,
    metric: str,
    pairs: Sequence[tuple[str, str]],
    protocol: str | None = None,
    settings: str | None = None,
    variant: str | None = None,
    only_present: bool = False,
) -> Comparison:
    """Compare the first model of each pair with the second, over the same users.

    `users` are per-user values, averaged over seeds. Of a ranking metric a model has one row a user, and more is better. With
    "rmse" or "squared_error" a user's mean squared error over the rows of all whole folds counts, in stars², and less is better.
    `protocol`, `settings` (see `with_settings`) and `variant` say which rows count, where there are others. With `only_present`,
    pairs of models that have no rows are left out. Raises StudyError for a model without rows, one with several rows a user, and
    two with other users.
    """
    rows = with_settings(_of(users, protocol, variant, metric), settings)
    if only_present:
        present = set(rows["model"])
        pairs = [pair for pair in pairs if present.issuperset(pair)]
    names = dict.fromkeys(name for pair in pairs for name in pair)
    values = {name: user_errors(rows, name) if metric in ERRORS else user_values(rows, name, metric) for name in names}
    lines = [(*pair, *_paired(*pair, values)) for pair in pairs]
    arrays = {name: each.to_numpy(float) for name, each in values.items()}
    inner = [paired_interval(arrays[model], arrays[rival], 1 - 2 * LEVEL)[1:] for model, rival in pairs]
    table = pd.DataFrame(lines, columns=COLUMNS[:-1])
    table["p"] = holm(table["p"].to_numpy(float))
    table["verdict"] = [verdict(line["difference"], line["p"], metric) for _, line in table.iterrows()]
    n_users = max((len(each) for each in values.values()), default=0)
    return Comparison(table, metric, n_users, inner=pd.DataFrame(inner, columns=INNER))


def verdict(difference: float, p: float, metric: str) -> str:
    """Whether a model is better than, worse than or statistically indistinguishable from a rival."""
    if p >= LEVEL:
        return UNDECIDED
    return BETTER if (difference < 0) == (metric in ERRORS) else WORSE


def user_values(rows: pd.DataFrame, model: str, metric: str) -> pd.Series:
    """A model's value for each user (the index). Raises StudyError where there is not one row a user."""
    mine = rows[rows["model"] == model]
    if mine.empty or mine["user"].duplicated().any():
        raise StudyError(f"{model}: {len(mine)} rows of users, where one a user is needed.")
    return mine.set_index("user")[metric].astype(float).sort_index()


def user_errors(rows: pd.DataFrame, model: str) -> pd.Series:
    """A model's mean squared error for each user (the index) over all their rows, in stars².

    Raises StudyError where there are no rows, or several of a user in one variant.
    """
    mine = rows[rows["model"] == model]
    if mine.empty or mine.duplicated(["variant", "user"]).any():
        raise StudyError(f"{model}: {len(mine)} rows of users, where one a user and fold is needed.")
    sums = mine.groupby("user")[["squared_error", "n_rows"]].sum()
    return (sums["squared_error"] / sums["n_rows"]).astype(float)


@dataclass(frozen=True)
class Comparison:
    """Lines of pairs of models, see `compare`: what is known of `metric` over `n_users` users (0: not known).

    `n_compared` is the number of lines over which the p-values were adjusted (0: that of these lines). `inner` has the 90 %
    interval of each line, with the columns of `INNER`, where it is known.
    """

    lines: pd.DataFrame
    metric: str
    n_users: int = 0
    n_compared: int = 0
    inner: pd.DataFrame | None = None

    def table(self) -> pd.DataFrame:
        """A row a pair: model, rival, difference, low, high, p, verdict."""
        return self.lines[COLUMNS].copy()

    def line(self, model: str, rival: str) -> pd.Series:
        """Difference, low, high, p and verdict of one pair. Raises StudyError for a pair that was not compared."""
        lines = self.lines[(self.lines["model"] == model) & (self.lines["rival"] == rival)]
        if lines.empty:
            raise StudyError(f"{model} was not compared with {rival}.")
        return lines.iloc[0][COLUMNS[2:]]

    def inner_interval(self, model: str, rival: str) -> tuple[float, float] | None:
        """The 90 % interval of one pair; None where it is not known."""
        if self.inner is None:
            return None
        is_this = self.inner.index == self.line(model, rival).name  # of lines that were left out, `inner` knows more
        low, high = self.inner[is_this].to_numpy(float)[0]
        return float(low), float(high)

    def numbers(self, model: str, rival: str) -> dict[str, float]:
        """Difference, low, high and p of one pair, as `Experiments.add` takes them."""
        line = self.line(model, rival)
        return {name: float(line[name]) for name in ("difference", "low", "high", "p")}

    def of(self, model: str) -> Comparison:
        """The lines of one model alone, with the p-values that they have among all."""
        lines = self.lines[self.lines["model"] == model]
        return Comparison(lines, self.metric, self.n_users, self.n_compared or len(self.lines), self.inner)

    def count(self, word: str) -> int:
        """How many lines have this verdict."""
        return int((self.lines["verdict"] == word).sum())

    def phrases(self, digits: int | None = None) -> list[str]:
        """For each line a text "<verdict> <rival> (<numbers>)", to be said after the name of its model."""
        places = (4 if self.metric in ERRORS else 3) if digits is None else digits
        return [
            f"{line['verdict']} {line['rival']} ({line['difference']:+.{places}f}, "
            f"{line['low']:+.{places}f} to {line['high']:+.{places}f}, p = {line['p']:.4f})"
            for _, line in self.lines.iterrows()
        ]

    def in_words(self) -> str:
        """The phrases of all lines, to be said after "is"; that nothing was compared, where there are none."""
        return " and ".join(self.phrases()) or NOT_COMPARED

    def sentence(self, digits: int | None = None) -> str:
        """All lines in words, model after model, and what the numbers are."""
        if self.lines.empty:
            return NOTHING
        models, said = self.lines["model"], pd.Series(self.phrases(digits), self.lines.index)
        parts = [f"{model} is {' and '.join(said[models == model])}" for model in models.unique()]
        over = f" over {self.n_users} users" if self.n_users else ""
        n_compared = self.n_compared or len(models)
        alone, adjusted = "", ""
        if n_compared > 1:
            alone, adjusted = ", not adjusted", f", adjusted by Holm's method for {n_compared} comparisons"
        return (
            f"{'; '.join(parts)}. In brackets: the difference in {named(self.metric)} with its 95 % interval{alone}, "
            f"and p of the paired permutation test{over}{adjusted}."
        )

    def headline(self, rivals: Sequence[str], called: str = "models") -> str:
        """How many models beat all of these rivals and each of them, and how many are indistinguishable from it or worse.

        `called` is what the models are together.
        """
        n_models, all_rivals = self.lines["model"].nunique(), " and ".join(rivals)
        beats = self.lines[(self.lines["verdict"] == BETTER) & self.lines["rival"].isin(rivals)]
        wins = beats.groupby("model")["rival"].nunique()
        winners = wins[wins == len(rivals)].index.tolist()
        head = " and ".join(winners) or f"None of {n_models} {called}"
        verb, both = "beat" if len(winners) > 1 else "beats", "both " if len(rivals) == 2 else ""
        return f"{head} {verb} {both}{all_rivals}. Of the {n_models}, {'; '.join(map(self._counted, rivals))}."

    def _counted(self, rival: str) -> str:
        verdicts = self.lines.loc[self.lines["rival"] == rival, "verdict"]
        better, same, worse = ((verdicts == word).sum() for word in (BETTER, UNDECIDED, WORSE))
        return f"{better} are {BETTER} {rival}, {same} {UNDECIDED} it and {worse} worse"


def named(metric: str) -> str:
    """A metric's name as the field writes it: "NDCG@10", "a user's mean squared error"."""
    if metric in ERRORS:
        return "a user's mean squared error"
    name, _, cutoff = metric.partition("@")
    short = {"ndcg": "NDCG", "hit_ratio": "HR", "map": "MAP", "mrr": "MRR"}.get(name, name.replace("_", " "))
    return f"{short}@{cutoff}" if cutoff else short


def _of(users: pd.DataFrame, protocol: str | None, variant: str | None, metric: str) -> pd.DataFrame:
    """The rows that count; of errors, those of whole folds where no variant is named."""
    rows = users if protocol is None else users[users["protocol"] == protocol]
    if variant is not None:
        return rows[rows["variant"].astype(object).fillna("") == variant]
    return rows[rows["variant"].astype(str).str.fullmatch(WHOLE_FOLD)] if metric in ERRORS else rows


def _paired(model: str, rival: str, values: dict[str, pd.Series]) -> tuple[float, float, float, float]:
    """Difference, low, high and p of two models' users."""
    if not values[model].index.equals(values[rival].index):
        raise StudyError(f"{model} and {rival} were measured on different users and cannot be paired.")
    mine, theirs = (values[name].to_numpy() for name in (model, rival))
    return *paired_interval(mine, theirs), permutation_test(mine, theirs)
