"""Leaderboards of ranking models from the results of several chapters, and comparisons user by user."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from pipeline.chapters.notebook import Notebook
from pipeline.chapters.ratings import with_settings
from pipeline.chapters.results import leaderboard
from pipeline.chapters.tuned import tuning_gains as tuning_gains
from recsys_core.errors import StudyError
from recsys_core.statistics import holm, paired_interval, permutation_test

KEYS = ["model", "settings", "protocol", "variant", "dataset"]
CHAPTERS = {  # family → the chapters that rank
    "counts": ["10_baselines", "14_segments"],
    "neighbours and linear": ["13_linear", "11_neighbours"],
    "factorisation": ["15_implicit_factorization"],
    "network for stars": ["20_two_tower_regressor", "22_recommender_net", "23_embedding_recommender"],
    "neural": [
        *("21_joint_embedding", "30_ncf", "31_dssm", "35_ncf_depth", "36_neumf", "37_diversity"),
        "38_variational_autoencoders",
    ],
    "hybrid": ["39_hybrids"],
}
LEFT_OUT = (  # of a board: further values of one setting, members of hybrids with another name, switches that never switch
    r"NCF with \w+|NCF, α = (?!0\.001$).*|.* on 16 dimensions|.*stated\)?"
    r"|Segments \(age, gender\)|Switching: .*"
)
WORDS = {"better": "better than", "worse": "worse than", "undecided": "not to be told from"}


def of_chapters(
    read: Callable[[str], pd.DataFrame],
    chapters: Mapping[str, Sequence[str]],
    protocol: str,
    dataset: str | None = None,
    left_out: str = "",
) -> pd.DataFrame:
    """Rows of all chapters under a protocol, tuned where a model was tuned; `family` is the chapter's key.

    A model that several chapters have run is in the family of the first, and of equal settings those of the first chapter count.
    Models whose whole name matches the pattern `left_out` are not part of it, nor are other data sets where one is named.
    """
    frames = [read(name).assign(family=family, chapter=name) for family, names in chapters.items() for name in names]
    rows = pd.concat(frames, ignore_index=True)
    rows["variant"] = rows["variant"].fillna("")
    rows = rows[(rows["protocol"] == protocol) & (True if dataset is None else rows["dataset"] == dataset)]
    rows = rows[~rows["model"].str.fullmatch(left_out)]
    first = rows.groupby(KEYS)["chapter"].transform("first")
    families = rows.groupby("model")["family"].first()
    rows = rows[rows["chapter"] == first].drop(columns="chapter")
    return with_settings(rows.assign(family=rows["model"].map(families)), "tuned")


def ranked(
    notebook: Notebook, protocol: str, dataset: str | None = None, left_out: str = LEFT_OUT
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Results and per-user values of all chapters that rank, see `of_chapters`."""
    read = (notebook.read_results, notebook.read_users)
    results, users = (of_chapters(each, CHAPTERS, protocol, dataset, left_out) for each in read)
    return results, users


def board(
    results: pd.DataFrame, users: pd.DataFrame, metrics: Sequence[str], n_intervals: int | None = None
) -> pd.DataFrame:
    """One line a model as in `results.leaderboard`, with its `family`; the best by the first metric first.

    The first `n_intervals` metrics (None: all) have intervals. `results` and `users` come from `of_chapters`; without rows there is
    nothing but the names of the columns.
    """
    if results.empty:
        bounds = [f"{metric}{end}" for metric in metrics for end in ("", " sd", " low", " high")]
        return pd.DataFrame(columns=[*KEYS, "seeds", "parameters", "family", *bounds])
    plain = [] if n_intervals is None else list(metrics[n_intervals:])
    lines = leaderboard(results.drop(columns="family"), users.drop(columns=["family", *plain]), metrics)
    lines["family"] = lines["model"].map(results.groupby("model")["family"].first())
    return lines.sort_values(metrics[0], ascending=False, ignore_index=True)


def paired(users: pd.DataFrame, metric: str, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """The first model of each pair minus the second over the same users.

    Columns: model, rival, difference, low, high (95 %, bootstrap), p (paired permutation test, Holm-adjusted over the table).
    `users` hold values averaged over seeds. Raises StudyError for a model without per-user values, one that is there
    twice, and for two models with other users.
    """
    values = {name: _values(users, name, metric) for name in dict.fromkeys(name for pair in pairs for name in pair)}
    rows = []
    for model, rival in pairs:
        if not values[model].index.equals(values[rival].index):
            raise StudyError(f"{model} and {rival} were measured on different users and cannot be paired.")
        mine, theirs = (values[name].to_numpy() for name in (model, rival))
        rows.append((model, rival, *paired_interval(mine, theirs), permutation_test(mine, theirs)))
    table = pd.DataFrame(rows, columns=["model", "rival", "difference", "low", "high", "p"])
    return table.assign(p=holm(table["p"].to_numpy()))


def against(users: pd.DataFrame, metric: str, models: Sequence[str], rivals: Sequence[str]) -> pd.DataFrame:
    """`paired` for each of the models with each of the rivals."""
    return paired(users, metric, [(model, rival) for model in models for rival in rivals if model != rival])


def with_verdicts(table: pd.DataFrame) -> pd.DataFrame:
    """Lines of `paired` with a column `verdict`."""
    return table.assign(verdict=[verdict(line) for _, line in table.iterrows()])


def verdict(comparison: pd.Series, level: float = 0.05) -> str:
    """What a line of `paired` says of its model: better, worse or undecided."""
    if comparison["p"] >= level:
        return "undecided"
    return "better" if comparison["difference"] > 0 else "worse"


def beaten(compared: pd.DataFrame, rivals: Sequence[str]) -> str:
    """How many models of `compared`, a table with verdicts, beat each rival and all rivals, and how many are undecided."""
    wins = compared[compared["verdict"] == "better"].groupby("model")["rival"].nunique()
    both = wins[wins == len(rivals)].index.tolist()
    counts = pd.crosstab(compared["rival"], compared["verdict"]).reindex(columns=list(WORDS), fill_value=0)
    each = [
        f"{line['better']} are better than {rival}, {line['undecided']} undecided and {line['worse']} worse"
        for rival, line in counts.loc[list(rivals)].iterrows()
    ]
    number, both_rivals = compared["model"].nunique(), ("both " if len(rivals) == 2 else "") + " and ".join(rivals)
    head = (
        f"{' and '.join(both)} {'beats' if len(both) == 1 else 'beat'}"
        if both
        else f"None of {number} neural models beats"
    )
    return f"{head} {both_rivals}. Of the {number}, {'; '.join(each)}."


def said(line: pd.Series, digits: int = 3) -> str:
    """A line of `paired` in words, without the name of its model."""
    size = f"{line['difference']:+.{digits}f}, {line['low']:+.{digits}f} to {line['high']:+.{digits}f}, p = {line['p']:.4f}"
    return f"{WORDS[verdict(line)]} {line['rival']} ({size})"


def stopped_early(results: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """Epochs of neural and factorisation models that have fewer than half of them under the second protocol, by model.

    Both arguments are results of `of_chapters`; the columns are named after their protocols.
    """
    trained = [
        rows[rows["family"] != "network for stars"].groupby("model")["epochs"].max() for rows in (results, others)
    ]
    names = [rows["protocol"].iloc[0] if len(rows) else "" for rows in (results, others)]
    table = pd.concat(trained, axis=1, keys=names).dropna().astype(int)
    return table[(table.iloc[:, 1] > 0) & (table.iloc[:, 1] < table.iloc[:, 0] / 2)]


def _values(users: pd.DataFrame, model: str, metric: str) -> pd.Series:
    mine = users[users["model"] == model]
    if mine.empty or mine["user"].duplicated().any():
        raise StudyError(f"{model}: {len(mine)} rows of users, where one a user is needed.")
    return mine.set_index("user")[metric].astype(float).sort_index()
