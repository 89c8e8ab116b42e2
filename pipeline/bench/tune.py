"""`make tune`: the same search for every model, on validation rows, into reports/stored/tuning/.

Rating models are judged by the RMSE on the validation rows of u1 (`rating-5fold`, fold 1), ranking models by the NDCG@10 on those
of `random-80-10-10`, and models of what comes next by that on those of `loo-full`. A search is 30 trials of Optuna's
tree-structured Parzen estimator with one seed; the first trial is the model's stated settings where these lie in the space. Test
rows are never read. What it found is scored again with three other seeds, which chose nothing: the best of many trials is partly
luck, and by the mean of these seeds the settings of two models are compared. `--fresh 1` adds that to searches that lack it.

`make tune APART=1` does the same without the tenth that another split of the same protocol tests: it bounds what it is worth that
these rows were seen in training when settings were chosen.

`make tune SAMPLER=1` (or 2) does the same with another seed of the sampler: what the luck of a search is worth.

`make tune WIDE=1` searches wider spaces, 60 trials, into reports/stored/tuning/wide/: the first trial is the stated settings
wherever they lie, then come the trials of the search above that lie in the wider space, where the same settings were fixed. The
five best are trained again with three other seeds, and the mean of these chooses.

A search that was stopped goes on after the last trial that it ended, see `trial_log`. `make tune JOURNAL=1` on several machines
with one shared folder makes the trials of each search together, see `shared_search`.
"""

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, TypeAlias

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial

from pipeline.bench.shared_search import MADE, ended, forget, mine, n_workers, open_search, told
from pipeline.bench.trial_log import TrialLog
from pipeline.chapters.searches import UNFINISHED
from pipeline.chapters.study import ROOT, THREAD_VARIABLES, TUNED, TUNED_AGAIN, TUNED_APART, TUNED_WIDELY
from pipeline.chapters.tuned import read_trials, tuned_file, tuning_folder
from pipeline.command import at_least_one, exit_status, is_on
from recsys_core.content import with_title_words
from recsys_core.datasets import MovieLens, load
from recsys_core.errors import StudyError, refuse_unknown
from recsys_core.features import encode
from recsys_core.files import atomic_path
from recsys_core.judging import judge, judge_by
from recsys_core.models import Recommender
from recsys_core.models.registry import SEARCHES, WIDE_SEARCHES, Searched
from recsys_core.models.settings import Between
from recsys_core.protocols import PROTOCOLS, make_split
from recsys_core.splits import Split

N_TRIALS, N_WIDE_TRIALS = 30, 60
N_FINALISTS, FRESH_SEEDS = 5, (1, 2, 3)
APART = {"tenth": 3}  # option of a split: what a search apart does not see
Space: TypeAlias = dict[str, list[Any] | Between]


@dataclass(frozen=True)
class Trial:
    """Settings and their value on validation rows."""

    value: float
    settings: dict[str, Any]


def protocol_of(kind: type[Recommender]) -> str:
    """The protocol whose validation rows a search of this model is judged on: of stars where it predicts them, else of ranks."""
    if kind.traits.predicts_ratings:
        return "rating-5fold"
    return "loo-full" if kind.traits.sequential else "random-80-10-10"


def metric_of(kind: type[Recommender]) -> str:
    """The metric that a search of this model is judged by."""
    return "rmse" if kind.traits.predicts_ratings else "ndcg@10"


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """What Optuna draws each setting from; it can hold text, but no layers, so that the values of a list are JSON."""
    return {name: _distribution(span) for name, span in space.items()}


def _distribution(span: list[Any] | Between) -> BaseDistribution:
    if isinstance(span, list):
        return CategoricalDistribution([json.dumps(option) for option in span])
    if isinstance(span.low, int) and isinstance(span.high, int):
        return IntDistribution(span.low, span.high, log=span.log)
    return FloatDistribution(span.low, span.high, log=span.log)


def settings_of(params: dict[str, Any], space: Space) -> dict[str, Any]:
    """The settings that a trial's parameters stand for, rounded to 6 digits."""
    return {
        name: json.loads(params[name]) if isinstance(space[name], list) else _rounded(params[name]) for name in space
    }


def stated(model: type[Recommender], space: Space) -> dict[str, Any] | None:
    """Return the model's own defaults as a trial of this space; None where one of them lies outside."""
    return as_trial({name: getattr(model(), name) for name in space}, space)


def as_trial(settings: dict[str, Any], space: Space) -> dict[str, Any] | None:
    """Return settings as a trial of this space holds them; None where it lacks one, has another or one lies outside."""
    if settings.keys() != space.keys():
        return None
    for name, span in space.items():
        value = settings[name]
        if not (_in_json(value) in _in_json(span) if isinstance(span, list) else span.low <= value <= span.high):
            return None
    return {name: json.dumps(value) if isinstance(space[name], list) else value for name, value in settings.items()}


def validated(model: Recommender, split: Split, seed: int = 0) -> float:
    """Fit on the training rows and return the metric on the validation rows; of models that iterate, at their best epoch."""
    train, rows, history = split.train, split.validation, split.validation_history
    model.fit(train, rows, seed, history, judge=judge)
    return judge_by(metric_of(type(model)), model, train, rows, history).measure()


def searches_of(settings: str) -> dict[str, Searched]:
    """The searches that give settings of this name."""
    return WIDE_SEARCHES if settings == TUNED_WIDELY else SEARCHES


def log_file(root: Path, name: str, settings: str) -> Path:
    """Where the trials of a search are kept until it has ended."""
    return tuning_folder(root) / UNFINISHED / settings.replace(" ", "_") / f"{name}.jsonl"


def journal_file(root: Path, name: str, settings: str) -> Path:
    """Where the trials of a search that several processes share are kept until it has ended."""
    return log_file(root, name, settings).with_suffix(".journal")


def search(
    name: str,
    dataset: str,
    n_trials: int,
    device: str,
    settings: str = TUNED,
    earlier: Sequence[Trial] = (),
    root: Path | None = None,
    shared: bool = False,
    protocol: str = "",
) -> dict[str, Any]:
    """Run all trials of a model and return what is stored; settings and values are rounded to 6 digits before they are used.

    `earlier` are trials with the same fixed settings, which count as made where they lie in the space. A wide search begins with
    the stated settings and ends with its finalists, see `_finals`. Below `root` trials are kept until the search is stored, in a
    journal where the search is `shared` with other processes. `protocol` is that whose validation rows judge ("": `protocol_of`).
    """
    searched, wide = searches_of(settings)[name], settings == TUNED_WIDELY
    kind, space = searched.kind, searched.space
    data = load(dataset)
    protocol = protocol or protocol_of(kind)
    measure = _measuring(searched, data, device, protocol, **(APART if settings == TUNED_APART else {}))
    labels = _labels(searched, data.sha256, n_trials, protocol)
    named = labels | {"n_trials": None}
    log = TrialLog(log_file(root, name, settings), named) if root and not shared else None
    journal = journal_file(root, name, settings) if root and shared else None

    def value_of(tried: dict[str, Any], seed: int = 0) -> float:
        return log.value(tried, seed, partial(measure, tried, seed)) if log else measure(tried, seed)

    metric = metric_of(kind)
    least = metric == "rmse"
    start = {key: getattr(kind(), key) for key in space}
    made = [Trial(value_of(start), _in_json(start))] if wide else []
    made += [trial for trial in earlier if trial.settings != _in_json(start) and as_trial(trial.settings, space)]
    seed = TUNED_AGAIN.index(settings) + 1 if settings in TUNED_AGAIN else 0
    begun = open_search(journal, json.dumps(named, sort_keys=True), seed, least)
    trials, workers = _trials(value_of, space, made, n_trials, begun, None if wide else stated(kind, space))
    best = (min if least else max)(trials, key=lambda trial: trial.value)
    found = labels | {"metric": metric, "best": best.settings, "value": best.value}
    found |= {"workers": workers} if workers > 1 else {}
    if wide:
        found |= _finals(value_of, trials, least, kind.traits.stochastic)
    elif kind.traits.stochastic:
        found |= {"fresh": [value_of(best.settings, seed) for seed in FRESH_SEEDS]}
    return found | {"trials": [{"number": place, **asdict(trial)} for place, trial in enumerate(trials)]}


def _measuring(
    searched: Searched, data: MovieLens, device: str, protocol: str, **options: int
) -> Callable[[dict[str, Any], int], float]:
    """What gives the value, on validation rows of a split with these options, of settings that are tried and a seed."""
    kind, rows = searched.kind, encode(data)[0]
    if kind.title_words:
        rows = with_title_words(rows, data, kind.title_words)
    split = make_split(protocol, rows, **options)
    shared = searched.fixed | ({"device": device} if "device" in kind.__dataclass_fields__ else {})  # type: ignore[attr-defined]

    def measure(tried: dict[str, Any], seed: int) -> float:
        return round(validated(kind(**shared, **tried), split, seed), 6)

    return measure


def _trials(
    value_of: Callable[[dict[str, Any]], float],
    space: Space,
    made: Sequence[Trial],
    n_trials: int,
    begun: tuple[optuna.Study, bool],
    first: dict[str, Any] | None,
) -> tuple[list[Trial], int]:
    """The trials that were made and those that Optuna adds to them up to `n_trials`, `first` among these where it is given.

    `begun` is the search and whether this process begins it. The number is that of the processes that made them.
    """
    (optuna_study, begins), drawn_from = begun, distributions(space)
    for trial in made if begins else ():
        if (params := as_trial(trial.settings, space)) is not None:
            known = create_trial(params=params, distributions=drawn_from, value=trial.value, user_attrs={MADE: True})
            optuna_study.add_trial(known)
    if first is not None and begins:
        optuna_study.enqueue_trial(first)
    n_asked = max(n_trials - len(made), 0)
    while len(ended(optuna_study)) < n_asked:
        asked = mine(optuna_study.ask(drawn_from))
        optuna_study.tell(asked, value_of(settings_of(asked.params, space)))
    found = ended(optuna_study)[:n_asked]
    added = [Trial(told(trial), settings_of(trial.params, space)) for trial in found]
    return [*made, *added], n_workers(found)


def _finals(
    value_of: Callable[[dict[str, Any], int], float], trials: Sequence[Trial], least: bool, stochastic: bool
) -> dict[str, Any]:
    """The best trials once more with seeds that chose nothing: the winner's settings and mean, and what each has by seed.

    Of a model without chance there is nothing to draw again, and its best trial wins.
    """
    order = sorted(range(len(trials)), key=lambda place: trials[place].value, reverse=not least)
    seeds = FRESH_SEEDS if stochastic else ()
    values = {
        place: [value_of(trials[place].settings, seed) for seed in seeds] or [trials[place].value]
        for place in order[: N_FINALISTS if stochastic else 1]
    }
    means = {place: sum(found) / len(found) for place, found in values.items()}
    winner = (min if least else max)(means, key=means.__getitem__)
    again = [{"number": place, "values": found} for place, found in values.items()]
    return {"best": trials[winner].settings, "value": round(means[winner], 6), "again": again}


def _labels(searched: Searched, data_sha256: str, n_trials: int, protocol: str) -> dict[str, Any]:
    """What names a search in its file; a space is written as `choices`, or as `low` and `high`, with `log` where it is drawn so."""
    labels = {
        "model": searched.name,
        "protocol": protocol,
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


def is_stored(
    root: Path, name: str, data_sha256: str, n_trials: int, settings: str = TUNED, protocol: str = ""
) -> bool:
    """Whether this very search is stored: same space, fixed settings, protocol, data and number of trials."""
    if not tuned_file(root, name, settings).exists():
        return False
    searched = searches_of(settings)[name]
    labels = _labels(searched, data_sha256, n_trials, protocol or protocol_of(searched.kind))
    return labels.items() <= read_trials(root, name, settings).items()


def earlier_trials(root: Path, name: str) -> list[Trial]:
    """The trials of the stored narrow search, where it fixed the same settings as the wide one; else none.

    What the wide search tries besides had its default in them.
    """
    wide = WIDE_SEARCHES[name]
    if not tuned_file(root, name).exists() or SEARCHES[name].fixed != wide.fixed:
        return []
    defaults = {key: _in_json(getattr(wide.kind(), key)) for key in wide.space}
    return [Trial(trial["value"], defaults | trial["settings"]) for trial in read_trials(root, name)["trials"]]


def tune(
    root: Path,
    names: Iterable[str],
    dataset: str = "ml-100k",
    n_trials: int | None = None,
    jobs: int = 2,
    device: str = "cpu",
    settings: str = TUNED,
    shared: bool = False,
    protocol: str = "",
) -> None:
    """Search every named model, `jobs` side by side, and store each as soon as it is done; what is stored already is skipped.

    Where searches are `shared`, others may be at work on the same ones; who ends one first stores it. A `protocol` is that of all.

    Raises:
        StudyError: an unknown protocol; a model without a search space, or not searched on the split that can be set apart.
    """
    refuse_unknown("PROTOCOL", [protocol], ["", *PROTOCOLS])
    searches = searches_of(settings)
    number = n_trials or (N_WIDE_TRIALS if settings == TUNED_WIDELY else N_TRIALS)
    if settings == TUNED_APART:
        splitters = {name: PROTOCOLS[protocol_of(each.kind)].splitter for name, each in searches.items()}
        searches = {
            name: searches[name] for name, each in splitters.items() if APART.keys() <= {*signature(each).parameters}
        }
    chosen = list(names) or sorted(searches)
    refuse_unknown("MODELS", chosen, searches)
    sha256 = load(dataset).sha256
    missing = [name for name in chosen if not is_stored(root, name, sha256, number, settings, protocol)]
    for name in (name for name in chosen if name not in missing):
        file = tuned_file(root, name, settings).relative_to(root)
        print(f"{name}: stored already; remove {file} to search again", flush=True)
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=_quiet) as pool:
        where = partial(search, root=root, shared=shared, protocol=protocol)
        run = partial(where, dataset=dataset, n_trials=number, device=device, settings=settings)
        made = {name: earlier_trials(root, name) if settings == TUNED_WIDELY else [] for name in missing}
        for done in as_completed([pool.submit(run, name, earlier=made[name]) for name in missing]):
            found = done.result()
            if not (shared and is_stored(root, found["model"], sha256, number, settings, protocol)):
                _store(root, found, settings)
            log_file(root, found["model"], settings).unlink(missing_ok=True)
            forget(journal_file(root, found["model"], settings))
            print(f"{found['model']}: {found['metric']} {found['value']:.4f} with {found['best']}", flush=True)


def add_fresh(root: Path, names: Iterable[str], dataset: str = "ml-100k", device: str = "cpu") -> None:
    """Score what stored searches found again with fresh seeds, of these models or of all that draw and lack it, and store that.

    Raises StudyError for a model without a stored search.
    """
    data = load(dataset)
    for name in list(names) or sorted(name for name in SEARCHES if tuned_file(root, name).exists()):
        found = read_trials(root, name)
        if "fresh" in found or not SEARCHES[name].kind.traits.stochastic:
            continue
        measure, trials = _measuring(SEARCHES[name], data, device, found["protocol"]), found.pop("trials")
        found |= {"fresh": [measure(found["best"], seed) for seed in FRESH_SEEDS], "trials": trials}
        _store(root, found, TUNED)
        print(f"{name}: {found['metric']} {found['value']:.4f}, with fresh seeds {found['fresh']}", flush=True)


def _store(root: Path, found: dict[str, Any], settings: str) -> None:
    with atomic_path(tuned_file(root, found["model"], settings)) as path:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _quiet() -> None:
    """In a worker: one thread, and only what goes wrong is said."""
    import torch

    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - progress of many fits


def _asked(wide: str, apart: str, sampler: str) -> str:
    """What the settings of the search are called that these options ask for."""
    refuse_unknown("SAMPLER", [sampler], ["", *map(str, range(1, len(TUNED_AGAIN) + 1))])
    again = TUNED_AGAIN[int(sampler) - 1] if sampler else ""
    asked = [name for name, on in ((TUNED_WIDELY, wide == "1"), (TUNED_APART, apart == "1"), (again, sampler)) if on]
    if len(asked) > 1:
        raise StudyError("WIDE=1, APART=1 and SAMPLER=1 are searches of their own: ask for one of them.")
    return asked[0] if asked else TUNED


def main(arguments: list[str] | None = None) -> int:
    """Run the command; errors of the user are one sentence and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.bench.tune", description=__doc__)
    parser.add_argument("models", nargs="*", help="names of models; none: all that have a search space")
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument(
        "--trials", default="", help=f"trials a model; not given: {N_TRIALS}, of a wide search {N_WIDE_TRIALS}"
    )
    parser.add_argument("--wide", default="", help="1: search the wide spaces")
    parser.add_argument("--apart", default="", help="1: without the tenth that another split tests")
    parser.add_argument("--sampler", default="", help="1 or 2: with another seed of the sampler")
    parser.add_argument("--journal", default="", help="1: share searches with other processes that do the same")
    parser.add_argument("--protocol", default="", help="judge all on validation rows of this; not given: by the model")
    parser.add_argument("--fresh", default="", help="1: score what is stored again with seeds that chose nothing")
    parser.add_argument("--root", type=Path, default=ROOT, help="the project, or the folder of a study of own data")
    parser.add_argument("--jobs", default="2", help="searches side by side")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)

    def search_all() -> None:
        jobs = at_least_one("JOBS", options.jobs)
        trials = at_least_one("--trials", options.trials) if options.trials else None
        if options.fresh == "1":
            return add_fresh(options.root, options.models, options.dataset, options.device)
        settings = _asked(options.wide, options.apart, options.sampler)
        shared = is_on("JOURNAL", options.journal)
        where = {"settings": settings, "shared": shared, "protocol": options.protocol}
        tune(options.root, options.models, options.dataset, trials, jobs, options.device, **where)

    return exit_status(search_all, "stopped; the same command continues from here")


if __name__ == "__main__":
    sys.exit(main())
