"""One search by several processes or machines: `make tune JOURNAL=1 MODELS=…` on each of them, in one shared folder.

Optuna's journal, a file beside the logs of unfinished searches, holds the trials; each process asks for one, trains it, tells its
value, and ends when there are enough. Who begins a search draws what a search without a journal draws, so that alone it finds the
same; with others its trials depend on who was faster, and the stored file says how many `workers` there were. A process that is
killed takes the one trial with it that it was at, and who goes on in its place draws as one more worker.
"""

from pathlib import Path
from uuid import uuid4

import optuna
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

MADE, WORKER = "made", "worker"  # attributes of trials: taken over from an earlier search; by whom it was made
ME = uuid4().hex


def open_search(journal: Path | None, name: str, seed: int, least: bool) -> tuple[optuna.Study, bool]:
    """A search of this name in a journal, or in memory, and whether this process begins it and so draws by `seed`."""
    sampler = optuna.samplers.TPESampler(seed=seed)
    direction = StudyDirection.MINIMIZE if least else StudyDirection.MAXIMIZE
    if journal is None:
        return optuna.create_study(sampler=sampler, direction=direction), True
    journal.parent.mkdir(parents=True, exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    try:
        return optuna.create_study(storage=storage, study_name=name, sampler=sampler, direction=direction), True
    except DuplicatedStudyError:
        return optuna.load_study(storage=storage, study_name=name, sampler=optuna.samplers.TPESampler()), False


def mine(asked: Trial) -> Trial:
    """Note who makes a trial."""
    asked.set_user_attr(WORKER, ME)
    return asked


def ended(search: optuna.Study) -> list[FrozenTrial]:
    """The trials of all workers that have a value, in the order in which they were asked for, without those taken over."""
    trials = search.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [trial for trial in trials if MADE not in trial.user_attrs]


def told(trial: FrozenTrial) -> float:
    """The value of a trial that has one."""
    assert trial.value is not None
    return trial.value


def n_workers(trials: list[FrozenTrial]) -> int:
    """How many processes made these trials."""
    return len({trial.user_attrs[WORKER] for trial in trials})


def forget(journal: Path) -> None:
    """Remove a journal that nobody is at work on; one whose worker was killed stays, and is to be removed to search again."""
    if journal.exists():
        storage = JournalStorage(JournalFileBackend(str(journal)))
        studies = storage.get_all_studies()
        if not any(storage.get_all_trials(each._study_id, states=(TrialState.RUNNING,)) for each in studies):
            journal.unlink(missing_ok=True)
