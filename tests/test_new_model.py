"""A model that is added in one file is in the contract suite, the searches, the boards and the figures with no other change."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.chapters.study import ROOT

TOY = '''"""A model that was not there before: what users who have seen the same have seen."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from recsys_core.interactions import Interactions
from recsys_core.models.base import FitTask, Recommender
from recsys_core.models.traits import Traits
from recsys_core.models.registry import recommender
from recsys_core.models.settings import between, setting


@recommender("toy", title="Toy", family="toys")
@dataclass(kw_only=True)
class Toy(Recommender):
    """score(u, i) = Σ_j n_ij ^ power over the items j of u, where n_ij users have seen both."""

    traits: ClassVar[Traits] = Traits(form="linear", folds_in=True)
    learnt: ClassVar[dict[str, type]] = {"together": np.ndarray}

    power: float = setting(1.0, least=0, search=between(0.1, 2.0), fast=1.5)

    def _fit(self, task: FitTask) -> None:
        seen = task.train.binary
        self.together = (seen.T @ seen).toarray().astype(np.float32) ** self.power

    def _scores(self, users: Tensor, history: Interactions) -> Tensor:
        return torch.as_tensor(history.binary[users.cpu().numpy()] @ self.together)
'''

CHAPTER = """
from pathlib import Path

from helpers import invented_movielens

from pipeline.bench.tune import search
from pipeline.chapters import plots
from pipeline.chapters.experiment import Experiments
from pipeline.chapters.notebook import Notebook
from recsys_core.models import MODELS
from recsys_core.models.registry import SEARCHES


def test_the_toy_is_searched(monkeypatch):
    monkeypatch.setattr("pipeline.bench.tune.load", lambda _: invented_movielens())
    found = search("toy", "invented", 2, "cpu")
    assert found["space"] == {"power": {"low": 0.1, "high": 2.0}} and found["protocol"] == "random-80-10-10"
    assert SEARCHES["toy"].title == "Toy"


def test_the_toy_is_on_boards_and_figures(tmp_path):
    notebook = Notebook("30_small", {}, "study", tmp_path / "reports", tmp_path / "figures", tmp_path)
    study = Experiments(notebook, invented_movielens())
    for name in ("popularity", "toy"):
        study.run(MODELS[name].title, MODELS[name](), ["random-80-10-10"], [0])
    board = study.board("ndcg@10")
    assert set(board["model"]) == {"Popularity", "Toy"}
    assert board.set_index("model").loc["Toy", "family"] == "toys"
    study.figure("ndcg@10")
    assert list((tmp_path / "figures").rglob("*.png"))
    assert study.beside().shades()["Toy"] == plots.family_colour("toys") != plots.GREY
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the project with the toy's file beside the other models."""
    for name in ("recsys_core", "pipeline", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "study.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "recsys_core" / "models" / "toy.py").write_text(TOY)
    (tmp_path / "tests" / "test_toy.py").write_text(CHAPTER)
    return tmp_path


def test_a_model_added_in_one_file_passes_what_every_model_has_to(project: Path) -> None:
    suites = ("test_contract.py", "test_tune.py", "test_toy.py")
    command = [sys.executable, "-m", "pytest", "-vv", "-k", "toy", *(f"tests/{suite}" for suite in suites)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    passed = [line for line in done.stdout.splitlines() if " PASSED" in line]
    assert "test_contract.py::test_ranking_models_complete_the_checkerboard[toy]" in done.stdout
    assert all(any(suite in line for line in passed) for suite in suites)
