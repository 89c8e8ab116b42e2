"""`make tune`: the same search for every model, on validation rows, into reports/stored/tuning/.

Rating models are judged by the RMSE on the validation rows of u1 (`rating-5fold`, fold 1), ranking models by the NDCG@10 on those
of `random-80-10-10`. A search is 30 trials of Optuna's tree-structured Parzen estimator with one seed; the first trial is the
model's stated settings where these lie in the space. Test rows are never read.
"""

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import yaml

from pipeline.chapters.study import ROOT
from pipeline.chapters.tuned import read_trials, tuned_file
from pipeline.command import at_least_one, exit_status
from recsys_core import evaluate
from recsys_core.datasets import load
from recsys_core.errors import choose
from recsys_core.features import encode
from recsys_core.files import atomic_path
from recsys_core.models import MODELS, Recommender
from recsys_core.splits import Split, make_split
from recsys_core.titles import with_title_words

SPACES = ROOT / "recsys_core" / "models" / "spaces.yaml"
N_TRIALS = 30
METRICS = {"rating-5fold": "rmse", "random-80-10-10": "ndcg@10"}


def read_spaces() -> dict[str, dict[str, Any]]:
    """Return what to search, by name: `protocol`, settings `fixed` for all trials, the `space`; where they differ from the default,
    the `model` (that of the name) and the number of `title_words` that films are told by (0).
    """
    spaces: dict[str, dict[str, Any]] = yaml.safe_load(SPACES.read_text(encoding="utf-8"))
    return spaces


def model_of(name: str) -> type[Recommender]:
    """The model that a search is about: one can be searched under several names, such as once for each of its losses."""
    return MODELS[read_spaces()[name].get("model", name)]


def suggest(trial: optuna.Trial, space: dict[str, Any]) -> dict[str, Any]:
    """Draw one value for each setting: `choices` (lists among them are layers), or a range `low` to `high`, perhaps `log`."""
    drawn: dict[str, Any] = {}
    for name, span in space.items():
        if "choices" in span:
            options = {json.dumps(option): option for option in span["choices"]}  # a trial can hold text, but no lists
            drawn[name] = options[str(trial.suggest_categorical(name, list(options)))]
        elif isinstance(span["low"], int):
            drawn[name] = trial.suggest_int(name, span["low"], span["high"], log=span.get("log", False))
        else:
            drawn[name] = trial.suggest_float(name, span["low"], span["high"], log=span.get("log", False))
    return drawn


def stated(model: type[Recommender], space: dict[str, Any]) -> dict[str, Any] | None:
    """Return the model's own defaults as a trial of this space; None where one of them lies outside."""
    defaults = json.loads(json.dumps({name: getattr(model(), name) for name in space}))  # tuples become lists
    for name, span in space.items():
        inside = (
            defaults[name] in span["choices"] if "choices" in span else span["low"] <= defaults[name] <= span["high"]
        )
        if not inside:
            return None
    return {name: json.dumps(value) if "choices" in space[name] else value for name, value in defaults.items()}


def validated(model: Recommender, split: Split) -> float:
    """Fit on the training rows and return the metric on the validation rows; of models that iterate, at their best epoch."""
    model.fit(split.train, split.validation, 0, split.validation_history)
    if split.protocol == "rating-5fold":
        return evaluate.rmse(evaluate.rate(model, split.train, split.validation))
    return evaluate.mean_ndcg(model, evaluate.RankingTask(split.train, split.validation, cutoffs=(10,)))


def search(name: str, dataset: str, n_trials: int, device: str) -> dict[str, Any]:
    """Run all trials of a model and return what is stored; settings and values are rounded to 6 digits before they are used."""
    entry = read_spaces()[name]
    data = load(dataset)
    rows = encode(data)[0]
    if "title_words" in entry:
        rows = with_title_words(rows, data, entry["title_words"])
    split = make_split(entry["protocol"], rows)
    kind, fixed, space = model_of(name), entry.get("fixed", {}), entry["space"]
    shared = fixed | ({"device": device} if "device" in kind.__dataclass_fields__ else {})  # type: ignore[attr-defined]

    def objective(trial: optuna.Trial) -> float:
        settings = {key: _rounded(value) for key, value in suggest(trial, space).items()}
        trial.set_user_attr("settings", settings)
        return round(validated(kind(**shared, **settings), split), 6)

    metric = METRICS[entry["protocol"]]
    sampler = optuna.samplers.TPESampler(seed=0)
    study = optuna.create_study(sampler=sampler, direction="minimize" if metric == "rmse" else "maximize")
    if (first := stated(kind, space)) is not None:
        study.enqueue_trial(first)
    study.optimize(objective, n_trials=n_trials)
    trials = [{"number": t.number, "value": t.value, "settings": t.user_attrs["settings"]} for t in study.trials]
    return _labels(name, data.sha256, n_trials) | {
        "metric": metric,
        "best": study.best_trial.user_attrs["settings"],
        "value": study.best_value,
        "trials": trials,
    }


def _labels(name: str, data_sha256: str, n_trials: int) -> dict[str, Any]:
    entry = read_spaces()[name]
    return {
        "model": name,
        "protocol": entry["protocol"],
        "fixed": entry.get("fixed", {}),
        "space": entry["space"],
        "n_trials": n_trials,
        "data_sha256": data_sha256[:12],
    }


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def is_stored(root: Path, name: str, data_sha256: str, n_trials: int) -> bool:
    """Whether this very search is stored: same space, fixed settings, protocol, data and number of trials."""
    if not tuned_file(root, name).exists():
        return False
    return _labels(name, data_sha256, n_trials).items() <= read_trials(root, name).items()


def tune(
    root: Path,
    names: Iterable[str],
    dataset: str = "ml-100k",
    n_trials: int = N_TRIALS,
    jobs: int = 2,
    device: str = "cpu",
) -> None:
    """Search every named model, `jobs` side by side, and store each as soon as it is done; what is stored already is skipped.

    Raises:
        StudyError: a model without a search space.
    """
    chosen = list(names) or sorted(read_spaces())
    choose("MODELS", chosen, read_spaces())
    sha256 = load(dataset).sha256
    missing = [name for name in chosen if not is_stored(root, name, sha256, n_trials)]
    for name in (name for name in chosen if name not in missing):
        print(f"{name}: stored already; remove {tuned_file(root, name).relative_to(root)} to search again", flush=True)
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=_quiet) as pool:
        run = partial(search, dataset=dataset, n_trials=n_trials, device=device)
        for done in as_completed([pool.submit(run, name) for name in missing]):
            found = done.result()
            with atomic_path(tuned_file(root, found["model"])) as path:
                path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            print(f"{found['model']}: {found['metric']} {found['value']:.4f} with {found['best']}", flush=True)


def _quiet() -> None:
    """In a worker: one thread, and only what goes wrong is said."""
    import torch

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - progress of many fits


def main(arguments: list[str] | None = None) -> int:
    """Run the command; errors of the user are one sentence and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.bench.tune", description=__doc__)
    parser.add_argument("models", nargs="*", help="names of models; none: all that have a search space")
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--trials", type=int, default=N_TRIALS)
    parser.add_argument("--jobs", default="2", help="searches side by side")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)

    def search_all() -> None:
        jobs = at_least_one("JOBS", options.jobs)
        tune(ROOT, options.models, options.dataset, options.trials, jobs, options.device)

    return exit_status(search_all, "stopped; the same command continues from here")


if __name__ == "__main__":
    sys.exit(main())
