"""`make tune`: the same search for every model, on validation rows, into reports/stored/tuning/.

Rating models are judged by the RMSE on the validation rows of u1 (`rating-5fold`, fold 1), ranking models by the NDCG@10 on those
of `random-80-10-10`, and models of what comes next by that on those of `loo-full`. A search is 30 trials of Optuna's
tree-structured Parzen estimator with one seed; the first trial is the model's stated settings where these lie in the space. Test
rows are never read.
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
from typing import Any, TypeAlias

import optuna

from pipeline.chapters.study import ROOT, THREAD_VARIABLES
from pipeline.chapters.tuned import read_trials, tuned_file
from pipeline.command import at_least_one, exit_status
from recsys_core.content import with_title_words
from recsys_core.datasets import load
from recsys_core.errors import refuse_unknown
from recsys_core.features import encode
from recsys_core.files import atomic_path
from recsys_core.judging import judge, judge_by
from recsys_core.models import Recommender
from recsys_core.models.registry import SEARCHES
from recsys_core.models.settings import Between
from recsys_core.protocols import PROTOCOLS, make_split
from recsys_core.splits import Split

N_TRIALS = 30
Space: TypeAlias = dict[str, list[Any] | Between]


def protocol_of(kind: type[Recommender]) -> str:
    """The protocol whose validation rows a search of this model is judged on: of stars where it predicts them, else of ranks."""
    if kind.traits.predicts_ratings:
        return "rating-5fold"
    return "loo-full" if kind.traits.sequential else "random-80-10-10"


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Draw one value for each setting: one of a list (lists and tuples among its values are layers), or one of a range."""
    drawn: dict[str, Any] = {}
    for name, span in space.items():
        if isinstance(span, list):
            options = {json.dumps(option): option for option in span}  # a trial can hold text, but no layers
            drawn[name] = options[str(trial.suggest_categorical(name, list(options)))]
        elif isinstance(span.low, int) and isinstance(span.high, int):
            drawn[name] = trial.suggest_int(name, span.low, span.high, log=span.log)
        else:
            drawn[name] = trial.suggest_float(name, span.low, span.high, log=span.log)
    return drawn


def stated(model: type[Recommender], space: Space) -> dict[str, Any] | None:
    """Return the model's own defaults as a trial of this space; None where one of them lies outside."""
    defaults = {name: getattr(model(), name) for name in space}
    for name, span in space.items():
        value = defaults[name]
        if not (_in_json(value) in _in_json(span) if isinstance(span, list) else span.low <= value <= span.high):
            return None
    return {name: json.dumps(value) if isinstance(space[name], list) else value for name, value in defaults.items()}


def validated(model: Recommender, split: Split) -> float:
    """Fit on the training rows and return the metric on the validation rows; of models that iterate, at their best epoch."""
    train, rows, history = split.train, split.validation, split.validation_history
    model.fit(train, rows, 0, history, judge=judge)
    return judge_by(PROTOCOLS[split.protocol].validation, model, train, rows, history).measure()


def search(name: str, dataset: str, n_trials: int, device: str) -> dict[str, Any]:
    """Run all trials of a model and return what is stored; settings and values are rounded to 6 digits before they are used."""
    kind, fixed, space = SEARCHES[name].kind, SEARCHES[name].fixed, SEARCHES[name].space
    data = load(dataset)
    rows = encode(data)[0]
    if kind.title_words:
        rows = with_title_words(rows, data, kind.title_words)
    split = make_split(protocol_of(kind), rows)
    shared = fixed | ({"device": device} if "device" in kind.__dataclass_fields__ else {})  # type: ignore[attr-defined]

    def objective(trial: optuna.Trial) -> float:
        settings = {key: _rounded(value) for key, value in suggest(trial, space).items()}
        trial.set_user_attr("settings", settings)
        return round(validated(kind(**shared, **settings), split), 6)

    metric = PROTOCOLS[split.protocol].validation
    sampler = optuna.samplers.TPESampler(seed=0)
    optuna_study = optuna.create_study(sampler=sampler, direction="minimize" if metric == "rmse" else "maximize")
    if (first := stated(kind, space)) is not None:
        optuna_study.enqueue_trial(first)
    optuna_study.optimize(objective, n_trials=n_trials)
    trials = [{"number": t.number, "value": t.value, "settings": t.user_attrs["settings"]} for t in optuna_study.trials]
    return _labels(name, data.sha256, n_trials) | {
        "metric": metric,
        "best": optuna_study.best_trial.user_attrs["settings"],
        "value": optuna_study.best_value,
        "trials": trials,
    }


def _labels(name: str, data_sha256: str, n_trials: int) -> dict[str, Any]:
    """What names a search in its file; a space is written as `choices`, or as `low` and `high`, with `log` where it is drawn so."""
    searched = SEARCHES[name]
    labels = {
        "model": name,
        "protocol": protocol_of(searched.kind),
        "fixed": searched.fixed,
        "space": {key: _span(span) for key, span in searched.space.items()},
        "n_trials": n_trials,
        "data_sha256": data_sha256[:12],
    }
    return dict(_in_json(labels))


def _span(span: list[Any] | Between) -> dict[str, Any]:
    if isinstance(span, list):
        return {"choices": span}
    return {"low": span.low, "high": span.high} | ({"log": True} if span.log else {})


def _in_json(value: Any) -> Any:
    """The value as a file would give it back: tuples become lists."""
    return json.loads(json.dumps(value))


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
    chosen = list(names) or sorted(SEARCHES)
    refuse_unknown("MODELS", chosen, SEARCHES)
    sha256 = load(dataset).sha256
    missing = [name for name in chosen if not is_stored(root, name, sha256, n_trials)]
    for name in (name for name in chosen if name not in missing):
        print(f"{name}: stored already; remove {tuned_file(root, name).relative_to(root)} to search again", flush=True)
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
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
    parser.add_argument("--trials", default=str(N_TRIALS), help="trials a model")
    parser.add_argument("--jobs", default="2", help="searches side by side")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)

    def search_all() -> None:
        jobs = at_least_one("JOBS", options.jobs)
        trials = at_least_one("--trials", options.trials)
        tune(ROOT, options.models, options.dataset, trials, jobs, options.device)

    return exit_status(search_all, "stopped; the same command continues from here")


if __name__ == "__main__":
    sys.exit(main())
