"""The way from ML-20M's files to the figures of Liang et al. 2018, on invented files of the same format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from pipeline.chapters.notebook import ROOT
from pipeline.runs.rerun import parse_parameters
from recsys_core.datasets import load
from recsys_core.features import encode
from recsys_core.protocols import make_split
from recsys_core.releases import sources

N_USERS, N_FILMS = 600, 150
COMMAND = "make rerun NOTEBOOK=38_variational_autoencoders DATASET=ml-20m"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ratings in half stars of 600 users, each of whom likes one half of the films, and what else ML-20M brings."""
    data, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    rows = []
    for user in range(1, N_USERS + 1):
        films = generator.choice(N_FILMS, generator.integers(8, 40), replace=False)
        liked = films % 2 == user % 2
        stars = np.where(liked, generator.integers(6, 11, len(films)), generator.integers(1, 9, len(films))) / 2
        rows.append(pd.DataFrame({"userId": user, "movieId": 10 * films + 1, "rating": stars}))
    ratings = pd.concat(rows).assign(timestamp=lambda frame: generator.integers(789_652_009, 1_427_784_002, len(frame)))
    (data / "ml-20m").mkdir()
    ratings.to_csv(data / "ml-20m/ratings.csv", index=False)
    titles = [f'{10 * film + 1},"Film, The {film} ({1950 + film % 60})",Drama|Comedy' for film in range(N_FILMS)]
    (data / "ml-20m/movies.csv").write_text("\n".join(["movieId,title,genres", *titles]) + "\n")
    (data / "ml-20m/tags.csv").write_text("userId,movieId,tag,timestamp\n1,1,slow,1427784002\n")
    return data


@pytest.fixture
def ml_20m(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """These files where `load("ml-20m")` finds them, with a cache of their own."""
    monkeypatch.setenv("RECSYS_DATA", str(folder))
    monkeypatch.setattr(sources, "DATA", folder / "own")
    return folder


def source_of(name: str) -> list[tuple[list[str], str]]:
    """Tags and source of each code cell of a notebook."""
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    return [(c["metadata"].get("tags", []), "".join(c["source"])) for c in cells if c["cell_type"] == "code"]


def executed(name: str, **parameters: Any) -> dict[str, Any]:
    """Run a notebook's own cells one after the other, with other parameters, and return what they leave."""
    scope: dict[str, Any] = {}
    with plt.rc_context():
        for tags, source in source_of(name):
            exec(compile(source, name, "exec"), scope)
            if "parameters" in tags:
                scope |= parameters
        plt.close("all")
    return scope


def test_half_stars_above_three_and_a_half_count_and_the_split_keeps_the_papers_rules(ml_20m: Path) -> None:
    data = load("ml-20m")
    rows, _ = encode(data)
    split = make_split("strong-generalization", rows, test_users=50)
    used = split.interactions.take(split.roles > 0)
    assert data.rating_scale == (0.5, 5.0) and (rows.ratings % 1 > 0).any()
    assert used.ratings.min() == 4.0 and (used.user_counts[np.unique(used.users)] >= 4).all()
    liked = np.bincount(rows.users[rows.ratings > 3.5], minlength=rows.n_users)
    assert (liked[np.unique(used.users)] >= 5).all() and len(np.unique(used.users)) == (liked >= 5).sum()
    groups = [np.unique(part.users) for part in (split.train, split.validation, split.test)]
    assert [len(group) for group in groups[1:]] == [50, 50] and len(np.unique(np.concatenate(groups))) == sum(
        map(len, groups)
    )
    assert np.isin(used.items, split.train.items).all()
    known, hidden = (part.user_counts[groups[2]] for part in (split.test_history, split.test))
    np.testing.assert_array_equal(hidden, (known + hidden) // 5)


def test_the_chapter_runs_on_ml_20ms_files_with_so_many_held_out_users_as_it_is_told(
    ml_20m: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parameters of the line in the chapter, but for the number of users and of epochs."""
    monkeypatch.setenv("RECSYS_OUTPUT", str(tmp_path))
    few = {"test_users": 60, "epochs": 2, "patience": 2, "device": "cpu"}
    scope = executed("38_variational_autoencoders", dataset="ml-20m", **parameters_of_the_line() | few)
    results = pd.read_csv(tmp_path / "results/38_variational_autoencoders.csv")
    assert set(results["protocol"]) == {"strong-generalization"} and set(results["dataset"]) == {"ml-20m"}
    assert set(results["model"]) == {"Mult-VAE", "Mult-DAE", "Popularity", "EASE"}
    measured = results[results["metric"].isin(scope["STRONG"])]
    assert (measured["n_users"] == 60).all() and not measured["value"].isna().any()
    assert not measured.duplicated(["model", "metric", "seed"]).any()
    assert set(scope["published"]["source"]) == {"Liang et al. 2018"}


def parameters_of_the_line() -> dict[str, Any]:
    """What the line in chapter 38 sets."""
    chapter = (ROOT / "notebooks/38_variational_autoencoders.ipynb").read_text(encoding="utf-8")
    lines = ["".join(c["source"]) for c in json.loads(chapter)["cells"] if c["cell_type"] == "markdown"]
    (line,) = [each for text in lines for each in text.splitlines() if each.startswith(COMMAND)]
    return parse_parameters([line.split('PARAMS="')[1].rstrip('"')])


def test_the_line_asks_for_the_papers_numbers() -> None:
    asked = parameters_of_the_line()
    assert asked["test_users"] == 10_000 and asked["settings"] == "stated" and asked["epochs"] == 200
    assert "38_variational_autoencoders DATASET=ml-20m" in (ROOT / "README.md").read_text(encoding="utf-8")
