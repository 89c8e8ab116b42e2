"""Where the report's first finding comes from: the comparison over splits where there is one, else one split.

    standing = over_splits(notebook, "49_splits", "ndcg@10") or one_split(rows.only("random-80-10-10"), "ndcg@10", notebook.root)

One model stands for the models of a family that have one form: the one whose search reached the highest value on validation rows.
Test rows choose nothing. Of blends, which have no search, it is the one whose members reach the highest mean value there.
"""

from __future__ import annotations

from inspect import signature
from pathlib import Path

import pandas as pd

from pipeline.chapters import over_splits as splits
from pipeline.chapters.boards import Rows
from pipeline.chapters.comparisons import BETTER, UNDECIDED, WORSE, each_with
from pipeline.chapters.headline import COLUMNS, EQUIVALENT, NON_LINEAR, Standing
from pipeline.chapters.notebook import Notebook
from pipeline.chapters.tuned import read_trials, read_tuned, stored_searches, validation_value
from recsys_core.models.base import Recommender
from recsys_core.models.registry import MODELS
from recsys_core.statistics import permutation_test

REFERENCE = "EASE"  # what each is compared with on one split
CALLED = {splits.BETTER: BETTER, splits.WORSE: WORSE, splits.UNDECIDED: UNDECIDED, splits.EQUIVALENT: EQUIVALENT}
PAIR = {"low": "least", "high": "most", "p adjusted": "p"}


def over_splits(notebook: Notebook, chapter: str, metric: str) -> Standing | None:
    """The standing of the models that a chapter of several splits has, None where it has none.

    The reference and the comparisons that the headline rests on are the chapter's. p is adjusted by Holm's method over these, and
    over all others among themselves; its t-test has no least value.
    """
    results = notebook.read_results(chapter)
    if not {"levels", "primary", "explored"} <= set(results["table"]):
        return None
    tables = {name: notebook.read_table(chapter, name) for name in ("facts", "levels", "primary", "explored")}
    lines = tables["levels"].rename(columns={"mean": "value"}).rename_axis("model").reset_index()
    models = {title: as_searched(notebook.root, title) for title in lines["model"]}
    lines["family"] = [models[title].family for title in lines["model"]]
    lines["form"] = [models[title].own_traits.form for title in lines["model"]]
    lines["spread"] = list(zip(lines["least of a seed"], lines["most of a seed"]))
    lines["seeds"] = lines["seeds"].astype(int)
    lines["stands"] = lines["model"].isin(chosen(lines, validated(lines["model"].tolist(), metric, notebook.root)))
    pairs = pd.concat([tables[name].assign(planned=name == "primary") for name in ("primary", "explored")])
    pairs["verdict"] = [CALLED[splits.verdict(line)] for _, line in pairs.iterrows()]
    kept = pairs[["difference", *PAIR, "verdict", "planned"]].rename(columns=PAIR)
    lines = lines.drop(columns=["least of a seed", "most of a seed"]).join(kept, on="model")
    reference = next(title for title in lines["model"] if title not in pairs.index)
    lines = lines.fillna({"verdict": "", "planned": False})
    lines = lines.sort_values("value", ascending=False, ignore_index=True)
    facts = tables["facts"]["value"]
    basis = f"users, {facts['n_splits']:.0f} splits and {facts['n_seeds']:.0f} seeds on each"
    return Standing(lines[COLUMNS], metric, reference, basis, len(tables["primary"]), 0.0)


def as_searched(root: Path, title: str) -> Recommender:
    """The unfitted model of this title with the settings that its search found."""
    if (search := stored_searches(root).get(title)) is not None:
        return search.searched.kind(**read_tuned(root, search.name, search.settings))
    return next(kind for kind in MODELS.values() if kind.title == title)()


def one_split(rows: Rows, metric: str, root: Path, reference: str = REFERENCE) -> Standing:
    """The standing of all models that one split has ranked, each leader compared with the reference user by user.

    `rows` are those of one protocol. p is that of the paired permutation test, adjusted by Holm's method over the leaders.
    """
    board = rows.board(metric)
    lines = board.rename(columns={metric: "value", f"{metric} low": "low", f"{metric} high": "high"})
    lines["stands"] = lines["model"].isin(chosen(lines, validated(lines["model"].tolist(), metric, root)))
    seeds = rows.results[rows.results["metric"] == metric].groupby("model")["value"].agg(["min", "max"])
    lines["spread"] = [tuple(seeds.loc[model]) for model in lines["model"]]
    first = lines["form"].eq(NON_LINEAR).to_numpy().argmax()
    names = lines.loc[lines["stands"] | (lines.index == first) | (lines.index == 0), "model"].tolist()
    compared = rows.compare(metric, each_with(names, [reference]), only_present=True)
    pairs = compared.lines.set_index("model").rename(columns={"low": "least", "high": "most"})
    lines = lines.join(pairs[["difference", "least", "most", "p", "verdict"]], on="model")
    lines = lines.fillna({"verdict": ""}).assign(planned=False)
    return Standing(lines[COLUMNS], metric, reference, "users on one split", len(pairs), floor_of_the_test())


def floor_of_the_test() -> float:
    """The least p that the paired permutation test can give: that of a difference which no drawn assignment of signs reaches."""
    return 1 / (10 * (signature(permutation_test).parameters["n_resamples"].default // 10) + 1)


def validated(models: list[str], metric: str, root: Path) -> pd.Series:
    """What each model's search reached by `metric`, see `validation_value`; minus the RMSE by which a model for stars was searched.

    Of a blend it is the mean of its members' values, of a model that was not searched NaN.
    """
    best, signs = pd.Series(dtype=float), {metric: 1, "rmse": -1}
    for title, search in stored_searches(root).items():
        if sign := signs.get(read_trials(root, search.name, search.settings)["metric"]):
            best[title] = sign * validation_value(root, search.name, search.settings)
    parts = {model: model.partition(": ")[2].split(" + ") for model in models}
    values = {
        model: best.reindex(each if len(each) > 1 else [model]).mean(skipna=False) for model, each in parts.items()
    }
    return pd.Series(values, dtype=float)


def chosen(lines: pd.DataFrame, values: pd.Series) -> list[str]:
    """The model with the highest validation value of each family and form, one of all blends; without such a value there is none.

    `lines` has model, family and form.
    """
    blends = lines["model"].str.contains(": .+ \\+ ")
    known = lines.assign(validated=lines["model"].map(values), form=lines["form"].mask(blends, "blend"))
    best = known.dropna(subset="validated").sort_values("validated", ascending=False, kind="stable")
    return best.drop_duplicates(["family", "form"])["model"].tolist()
