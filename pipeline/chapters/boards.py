"""Rows of one chapter or of several beside each other, and what is made of them: boards, comparisons, figures.

study.beside("10_baselines", "13_linear", models=["Popularity", "EASE"]).board("ndcg@10", "recall@10")
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.chapters import plots
from pipeline.chapters.comparisons import ERRORS, WHOLE_FOLD, Comparison, compare, named, user_errors, with_settings
from pipeline.chapters.results import leaderboard
from recsys_core.errors import StudyError
from recsys_core.protocols import PROTOCOLS
from recsys_core.statistics import holm, permutation_test, rmse_interval

KEYS = ["model", "settings", "protocol", "variant", "dataset"]
GROUPS = {  # family → what a study-wide board tells apart; other families are groups of their own
    "neighbours": "neighbours and linear",
    "linear": "neighbours and linear",
    "two towers": "neural",
    "perceptron": "neural",
    "autoencoder": "neural",
}
VARIANT = "variant"  # in the column `role`: a further value of one setting, a member of a hybrid under another name, …
REPLICATED = [name for name, protocol in PROTOCOLS.items() if protocol.replicates]
ERROR_COLUMNS = ["model", "family", "mae", "rmse", "rmse sd", "settings", "parameters", "rmse low", "rmse high", "p"]


def group_of(family: str) -> str:
    """The group of a family on study-wide boards."""
    return GROUPS.get(family, family)


@dataclass(frozen=True)
class Rows:
    """Results and per-user values (averaged over seeds) of the same runs; `save` see `Notebook.save_figure`."""

    results: pd.DataFrame
    users: pd.DataFrame
    save: Callable[[Figure, str], Figure]

    @classmethod
    def of(
        cls, save: Callable[[Figure, str], Figure], chapters: Mapping[str, tuple[pd.DataFrame, pd.DataFrame]]
    ) -> Rows:
        """The rows of chapters, given as results and users by name; what several have run counts in the first that has it."""
        results, users = (_joined({name: both[part] for name, both in chapters.items()}) for part in (0, 1))
        return cls(results, users, save)

    def only(
        self,
        protocol: str | None = None,
        models: Collection[str] | None = None,
        settings: str | None = None,
        variant: str | None = None,
        dataset: str | None = None,
    ) -> Rows:
        """The rows of a protocol, of some models, with settings (see `with_settings`), of a variant, of a data set."""
        wanted = {"protocol": protocol, "variant": variant, "dataset": dataset}
        labels = {column: value for column, value in wanted.items() if value is not None}

        def kept(rows: pd.DataFrame) -> pd.DataFrame:
            if rows.empty:
                return rows
            for column, value in labels.items():
                rows = rows[rows[column].astype(object).fillna("") == value]
            return with_settings(rows if models is None else rows[rows["model"].isin(list(models))], settings)

        return replace(self, results=kept(self.results), users=kept(self.users))

    def renamed(self, names: Mapping[str, str]) -> Rows:
        """The rows with other names for some models."""
        results, users = (
            rows if rows.empty else rows.assign(model=rows["model"].replace(dict(names)))
            for rows in (self.results, self.users)
        )
        return replace(self, results=results, users=users)

    def without_variants(self) -> Rows:
        """The rows of runs that are not marked as a variant of another."""
        if "role" not in self.results:
            return self
        cell = ["model", "settings", "protocol"]
        variants = pd.MultiIndex.from_frame(self.results.loc[self.results["role"] == VARIANT, cell].drop_duplicates())
        results, users = (
            rows if rows.empty else rows[~pd.MultiIndex.from_frame(rows[cell]).isin(variants)]
            for rows in (self.results, self.users)
        )
        return replace(self, results=results, users=users)

    def without_notes(self) -> Rows:
        """The rows of runs alone, without what was noted beside them under a role (`Experiments.note`), of no variant."""
        runs = self.results[self.results["role"].isin(["", VARIANT])] if "role" in self.results else self.results
        return replace(self, results=runs).only(variant="")

    def board(self, *metrics: str, protocol: str | None = None, n_intervals: int | None = None) -> pd.DataFrame:
        """One line a model as in `results.leaderboard`, with its family and form; the best by the first metric first.

        Without a `protocol` it is the first one that measured the first metric. The first `n_intervals` metrics (None: all) have
        intervals. Without rows there is nothing but the names of the columns.
        """
        rows = self.only(protocol or self._protocol(metrics[0]))
        if rows.results.empty:
            bounds = [f"{metric}{end}" for metric in metrics for end in ("", " sd", " low", " high")]
            return pd.DataFrame(columns=[*KEYS, "seeds", "parameters", "family", "form", *bounds])
        plain = [] if n_intervals is None else list(metrics[n_intervals:])
        lines = leaderboard(rows.results, rows.users.drop(columns=plain, errors="ignore"), metrics)
        return lines.sort_values(metrics[0], ascending=metrics[0] in plots.LOWER_IS_BETTER, ignore_index=True)

    def rating_board(self, baseline: str = "Bias") -> pd.DataFrame:
        """Errors over the five canonical folds, see `rating_board`."""
        return rating_board(self.results, self.users, baseline)

    def compare(
        self,
        metric: str,
        pairs: Sequence[tuple[str, str]],
        protocol: str | None = None,
        settings: str | None = "tuned",
        variant: str | None = None,
        only_present: bool = False,
    ) -> Comparison:
        """Compare pairs of models user by user, see `comparisons.compare`; without a `protocol` as in `board`."""
        protocol = protocol or self._protocol(metric)
        return compare(self.users, metric, pairs, protocol, settings, variant, only_present)

    def figure(
        self,
        metric: str,
        title: str | None = None,
        board: pd.DataFrame | None = None,
        name: str | None = None,
        line_height: float = 0.5,
    ) -> Figure:
        """Draw the board by one metric, save it under the metric's name without its cut-off (or `name`), and return the figure.

        `board` takes the place of all lines of the first protocol that measured the metric. The title says which model has
        the best value, not that it is better than others: that is for `compare` to say.
        """
        if board is None:
            board = self.rating_board() if metric == "rmse" else self.board(metric)
        low = metric in plots.LOWER_IS_BETTER
        best = board.sort_values(metric, ascending=low).iloc[0]
        most = f"{'Lowest' if low else 'Highest'} {'RMSE' if metric == 'rmse' else named(metric)}"
        title = f"{most}: {best['model']}, {best[metric]:.3f}" if title is None else title
        where = [str(board[column].iloc[0]) for column in ("protocol", "dataset") if column in board]
        label = "RMSE in stars, mean of five folds" if metric == "rmse" else ", ".join([named(metric), *where])
        label += " (95 % interval over users)"
        figure = plots.intervals(board, metric, title, label, line_height=line_height)
        return self.save(figure, name or metric.split("@")[0])

    def families(self) -> dict[str, str]:
        """The family of each model; of none where there are no rows."""
        if self.results.empty:
            return {}
        return dict(self.results.drop_duplicates("model")[["model", "family"]].to_numpy().tolist())

    def shades(self, names: Sequence[str] | None = None) -> dict[str, str]:
        """A colour for each model, all models or those named, see `plots.shades`."""
        families = self.families()
        return plots.shades({name: families.get(name, "") for name in (families if names is None else names)})

    def _protocol(self, metric: str) -> str | None:
        """The first protocol under which a metric was measured; of errors in comparisons, that of the folds."""
        if metric in ERRORS:
            return REPLICATED[0]
        if self.results.empty:
            return None
        measured = self.results.loc[self.results["metric"] == metric, "protocol"].tolist()
        return measured[0] if measured else None


def rating_board(results: pd.DataFrame, users: pd.DataFrame, baseline: str = "Bias") -> pd.DataFrame:
    """One line a model and settings under the protocol of five folds, the best first.

    Columns: model, family, settings, parameters, rmse and mae (stars, mean over folds), `rmse sd` (over folds), `rmse low` and
    `rmse high` (95 %, bootstrap over users with all their rows), `p` (paired permutation test of users' mean squared errors against
    the baseline, Holm-adjusted over the table; NaN for the baseline itself and where it is not part of the rows). A model that is
    there with stated and with tuned settings is called "<model> (stated)" in the former. What was run on fewer folds than others
    or on parts of folds is left out; of no rows there is no line.
    """
    results, users = (_told_apart(_whole_folds(frame)) for frame in (results, users))
    rows = results[results["metric"].isin(["rmse", "mae"])] if len(results) else results
    if rows.empty:
        return pd.DataFrame(columns=ERROR_COLUMNS)
    n_folds = rows.groupby("model")["variant"].transform("nunique")
    rows = rows[n_folds == n_folds.max()]
    folds = rows.pivot_table(index=["model", "variant"], columns="metric", values="value").groupby("model")
    board = folds.mean().assign(**{"rmse sd": folds["rmse"].std()})
    facts = [column for column in ("family", "settings", "parameters") if column in rows]
    board[facts] = rows.groupby("model")[facts].first()
    errors = {model: users[users["model"] == model] for model in board.index}
    sums = {model: mine.groupby("user")[["squared_error", "n_rows"]].sum() for model, mine in errors.items()}
    spans = {model: rmse_interval(*each.to_numpy(float).T) for model, each in sums.items()}
    board[["rmse low", "rmse high"]] = pd.DataFrame(spans, index=["low", "high"]).T
    board["p"] = _against(users, board.index, baseline)
    return board.sort_values("rmse").reset_index()


def curves(
    histories: Mapping[tuple[str, str], pd.DataFrame],
    metric: str | None = None,
    names: Collection[str] | None = None,
    title: str | None = None,
    protocol: str | None = None,
) -> Figure:
    """Training loss and the metric that validates, by epoch, of models run under one protocol (None: the first).

    `histories` has a curve for each model and protocol; of them all, or those with these names (a mapping says what to call them).
    The title says who validates best. Raises StudyError where there is no curve.
    """
    protocol = protocol or next((key[1] for key in histories), "")
    found = {name: curve for (name, under), curve in histories.items() if under == protocol}
    found = found if names is None else {name: found[name] for name in names if name in found}
    if not found:
        raise StudyError(
            f"No model was validated{f' under {protocol}' if protocol else ''}, so that there is no curve."
        )
    first = next(iter(found.values()))
    validation = PROTOCOLS[protocol].validation
    metric = metric or (validation if validation in first else str(first.columns[-1]))
    best, epoch, value = _best(found, metric)
    called = names if isinstance(names, Mapping) else {}
    if title is None:
        title = f"{called.get(best, best)} is best on validation: {value:.3f} after epoch {epoch}"
    label = f"{'RMSE in stars' if metric == 'rmse' else named(metric)[0].upper() + named(metric)[1:]} on validation"
    return plots.curves({called.get(name, name): curve for name, curve in found.items()}, metric, title, label)


def _best(histories: Mapping[str, pd.DataFrame], metric: str) -> tuple[str, int, float]:
    """Model, epoch and value that are best by a metric."""
    lines = pd.concat([curve.assign(model=name) for name, curve in histories.items()])
    best = lines.sort_values(metric, ascending=metric in plots.LOWER_IS_BETTER, kind="stable").iloc[0]
    return str(best["model"]), int(best["epoch"]), float(best[metric])


def _joined(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Rows of chapters by name, one after another; runs with the same keys are taken from the first chapter that has them."""
    parts = [frame.assign(chapter=name) for name, frame in frames.items() if len(frame)]
    if not parts:
        return pd.DataFrame()
    rows = pd.concat(parts, ignore_index=True)
    texts = [column for column in ("variant", "family", "form", "role") if column in rows]
    rows[texts] = rows[texts].astype(object).fillna("")
    first = rows.groupby(KEYS)["chapter"].transform("first")
    return rows[rows["chapter"] == first].drop(columns="chapter").reset_index(drop=True)


def _whole_folds(rows: pd.DataFrame) -> pd.DataFrame:
    if rows.empty:
        return rows
    return rows[rows["protocol"].isin(REPLICATED) & rows["variant"].astype(str).str.fullmatch(WHOLE_FOLD)]


def _told_apart(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose `model` says "(stated)" where the same model is there with tuned settings, too."""
    if rows.empty:
        return rows
    both = rows["model"].isin(rows.loc[rows["settings"] == "tuned", "model"]) & (rows["settings"] == "stated")
    return rows.assign(model=rows["model"].where(~both, rows["model"] + " (stated)"))


def _against(users: pd.DataFrame, models: pd.Index, baseline: str) -> pd.Series:
    """Holm-adjusted p-values of models' mean squared errors of users against a baseline's."""
    others = [model for model in models if model != baseline]
    if baseline not in models or not others:
        return pd.Series(dtype=float)
    reference = user_errors(users, baseline).to_numpy()
    p = [permutation_test(user_errors(users, model).to_numpy(), reference) for model in others]
    return pd.Series(holm(np.array(p)), index=others)
