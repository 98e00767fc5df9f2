"""The search itself: settings are proposed, trained, and their results reported back.

The whole state of a sweep is in one journal file, which Optuna writes and its own tools read, too. Every process given the same
file shares the work. A trial is a run folder beside that file, trained like any run; a killed process leaves its trial
unfinished, and the next process continues it from its last epoch: a process working on a trial holds a lock, which the system
releases when it dies.

The accuracy on the validation set decides. The test set is evaluated once for each run, as usual, and not used by the search.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from filelock import FileLock, Timeout

from rheobase.data import Splits
from rheobase.errors import DivergenceError, RheobaseError, RunError
from rheobase.recipes import Recipe
from rheobase.recipes.settings import is_of
from rheobase.sweep.space import Axis, with_settings
from rheobase.training import Display, RunFolder

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

Sampler = Literal["auto", "grid", "tpe", "random"]
State = Literal["done", "failed", "running"]


@dataclass(frozen=True)
class Outcome:
    """The outcome of one trial."""

    number: int
    state: State
    validation_accuracy: float | None
    """None if it failed, most likely because it diverged, or is not done."""
    settings: dict[str, Any]
    """The varied settings."""
    run: str
    """Its folder."""


@dataclass(frozen=True)
class Sweep:
    """The plan of a search.

    Args:
        name: the recipe's name.
        recipe: the recipe, with all settings that are not varied.
        axes: the varied settings, at least one.
        trials: the number of trials, over all processes; None is all of a grid.
        storage: the journal file; run folders go into a folder beside it.
        sampler: how settings are proposed: every combination of choices in turn ("grid"), by Optuna's tree-structured Parzen
            estimator ("tpe"), or at random ("random"); "auto" is a grid for choices alone, else tpe.
        seed: the seed of the sampler.

    Raises:
        ValueError: if nothing is varied, a setting is varied twice, the number of trials is missing where it is needed, or a
            grid is requested for a range.
    """

    name: str
    recipe: Recipe
    axes: tuple[Axis, ...]
    trials: int | None
    storage: Path
    sampler: Sampler = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        fields = [axis.field for axis in self.axes]
        if not fields:
            raise ValueError("over must name at least one setting, such as learning_rate=1e-4..1e-2,log")
        if len(set(fields)) < len(fields):
            raise ValueError(f"over must name each setting once, got {', '.join(fields)}")
        ranges = [str(axis) for axis in self.axes if not axis.choices]
        if self.sampler == "grid" and ranges:
            raise ValueError(f"a grid needs choices, got the range {ranges[0]}; name its values, or take --sampler tpe")
        if self.trials is None and not self.is_grid:
            raise ValueError("trials must be given; only a grid has a number of its own")
        if self.trials is not None and self.trials < 1:
            raise ValueError(f"trials must be at least 1, got {self.trials}")

    @property
    def is_grid(self) -> bool:
        """Whether all combinations are tried in turn."""
        return self.sampler == "grid" or (self.sampler == "auto" and all(axis.choices for axis in self.axes))

    @property
    def combinations(self) -> list[dict[str, str]]:
        """All combinations of a grid."""
        fields = [axis.field for axis in self.axes]
        return [dict(zip(fields, chosen, strict=True)) for chosen in product(*(axis.choices for axis in self.axes))]

    @property
    def total(self) -> int:
        """The number of trials."""
        wanted = math.inf if self.trials is None else self.trials
        return int(min(wanted, len(self.combinations))) if self.is_grid else int(wanted)

    @property
    def runs(self) -> Path:
        """The folder of all run folders."""
        name = self.storage.stem if self.storage.suffix else f"{self.storage.name}-runs"
        return self.storage.with_name(name)

    def folder(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.runs / f"trial-{number:04d}"

    def about(self) -> dict[str, Any]:
        """What identifies this sweep: kept in the journal."""
        over, sampler = [str(axis) for axis in self.axes], "grid" if self.is_grid else self.sampler
        return {
            "recipe": self.name,
            "settings": asdict(self.recipe),
            "over": over,
            "sampler": sampler,
            "seed": self.seed,
        }


def sweep(
    plan: Sweep,
    load: Callable[[Recipe], Splits],
    tell: Callable[[Outcome, list[Outcome]], None] = lambda _outcome, _all: None,
    display: Callable[[], Display] = Display,
) -> list[Outcome]:
    """Train trials until there are as many as planned, together with all other processes given the same journal.

    Args:
        plan: the plan of the search.
        load: loads a recipe's data.
        tell: called when a trial of this process starts and when it ends, with all trials so far.
        display: makes the display of a trial's training.

    Returns:
        All trials, the best first; those that other processes are still working on are "running".

    Raises:
        RunError: if the journal is damaged, or belongs to another sweep.
        RheobaseError: if Optuna is not installed.
        ValueError: if a trial's settings do not go together; the recipe's error is raised. The trial has failed, and the same
            sweep continues with the next one.
    """
    plan.storage.parent.mkdir(parents=True, exist_ok=True)
    plan.runs.mkdir(exist_ok=True)
    lock = FileLock(f"{plan.storage}.writing")
    study = _open(plan, lock)
    while True:
        with _claimed(plan, study, lock) as claimed:
            if claimed is None:
                return outcomes(plan, study)
            number, settings = claimed
            tell(Outcome(number, "running", None, settings, str(plan.folder(number))), outcomes(plan, study))
            try:
                study.tell(number, _train(plan, number, settings, load, display()))
            except DivergenceError:
                _fail(study, number)
            except (
                ValueError,
                TypeError,
                RuntimeError,
            ):  # settings that give no valid network, or one that does not fit into memory
                _fail(study, number)
                raise
        found = outcomes(plan, study)
        tell(next(outcome for outcome in found if outcome.number == number), found)


def _fail(study: "Study", number: int) -> None:
    from optuna.trial import TrialState

    study.tell(number, state=TrialState.FAIL)


def outcomes(plan: Sweep, study: "Study") -> list[Outcome]:
    """All started trials, the best first."""
    states: dict[str, State] = {"COMPLETE": "done", "FAIL": "failed", "RUNNING": "running"}
    found = [
        Outcome(trial.number, states[trial.state.name], trial.value, dict(trial.params), str(plan.folder(trial.number)))
        for trial in study.get_trials(deepcopy=False)
        if trial.state.name in states
    ]
    # Ties go to the first one; -1 is worse than any accuracy.
    best = lambda outcome: -1.0 if outcome.validation_accuracy is None else outcome.validation_accuracy  # noqa: E731
    return sorted(found, key=lambda outcome: (-best(outcome), outcome.number))


def _open(plan: Sweep, lock: FileLock) -> "Study":
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ImportError as error:
        raise RheobaseError(f"a sweep needs Optuna: pip install 'rheobase[sweep]' ({error})") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    about = json.loads(json.dumps(plan.about()))
    try:
        # Optuna requires of a lock that it can be acquired and released. Its own are files that a killed process leaves behind.
        backend = JournalFileBackend(str(plan.storage), lock_obj=lock)  # pyright: ignore[reportArgumentType]
        with lock:
            study = optuna.create_study(
                storage=JournalStorage(backend), study_name="sweep", direction="maximize", load_if_exists=True
            )
            if not study.user_attrs:
                study.set_user_attr("sweep", about)
            before = study.user_attrs.get("sweep")
            if _is_same(plan, before, about) and plan.is_grid:
                _enqueue_missing(plan, study)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, OSError) as error:
        raise RunError(f"{plan.storage}: not the journal of a sweep, or damaged: {error}") from error
    if not _is_same(plan, before, about):
        was = f" of {before.get('recipe')} over {before.get('over')}" if isinstance(before, dict) else ""
        raise RunError(
            f"{plan.storage}: holds another sweep{was}; repeat its command, or choose another file with --storage"
        )
    return study


def _enqueue_missing(plan: Sweep, study: "Study") -> None:
    """Plan each combination of a grid that is not planned yet: all of a new sweep, the rest where that was interrupted."""
    trials = study.get_trials(deepcopy=False)
    planned = [trial.params or trial.system_attrs.get("fixed_params", {}) for trial in trials]
    for combination in plan.combinations:
        if combination not in planned:
            study.enqueue_trial(combination)


def _is_same(plan: Sweep, before: object, about: Mapping[str, Any]) -> bool:
    """Whether a journal's sweep is this one; a setting that did not exist yet when it began counts as its default."""
    if not isinstance(before, dict) or not is_of(before.get("settings"), plan.recipe):
        return False
    return {**before, "settings": None} == {**about, "settings": None}


@contextmanager
def _claimed(plan: Sweep, study: "Study", lock: FileLock) -> Iterator[tuple[int, dict[str, Any]] | None]:
    """A trial reserved for this process for the length of the block: an abandoned one, or a new one; or None."""
    with lock:
        claim, held = _abandoned(plan, study)
        if claim is None:
            begun = [trial for trial in study.get_trials(deepcopy=False) if trial.state.name != "WAITING"]
            if len(begun) < plan.total:
                study.sampler = _sampler(plan, len(begun))
                trial = study.ask(_distributions(plan.axes))
                claim, held = (trial.number, dict(trial.params)), FileLock(f"{plan.folder(trial.number)}.lock")
                held.acquire(blocking=False)
    try:
        yield claim
    finally:
        if held is not None:
            held.release()


def _abandoned(plan: Sweep, study: "Study") -> tuple[tuple[int, dict[str, Any]] | None, FileLock | None]:
    """A running trial whose lock is free."""
    for trial in study.get_trials(deepcopy=False):
        if trial.state.name == "RUNNING":
            held = FileLock(f"{plan.folder(trial.number)}.lock")
            try:
                held.acquire(blocking=False)
            except Timeout:
                continue
            return (trial.number, dict(trial.params)), held
    return None, None


def _sampler(plan: Sweep, number: int) -> "BaseSampler":
    """The sampler of the trial of this number: seeded by it, so that it does not matter which process asks."""
    from optuna.samplers import RandomSampler, TPESampler

    seed = int(np.random.SeedSequence((plan.seed, number)).generate_state(1)[0])
    return TPESampler(seed=seed) if plan.sampler in ("tpe", "auto") and not plan.is_grid else RandomSampler(seed=seed)


def _distributions(axes: Sequence[Axis]) -> dict[str, "BaseDistribution"]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, BaseDistribution] = {}
    for axis in axes:
        if axis.choices:
            found[axis.field] = CategoricalDistribution(axis.choices)
        elif axis.whole:
            found[axis.field] = IntDistribution(int(axis.low), int(axis.high), log=axis.log)
        else:
            found[axis.field] = FloatDistribution(axis.low, axis.high, log=axis.log)
    return found


def _train(
    plan: Sweep, number: int, settings: dict[str, Any], load: Callable[[Recipe], Splits], display: Display
) -> float:
    """The validation accuracy of a trial's run, from its folder if it is done."""
    path = plan.folder(number)
    values = {axis.field: axis.value(settings[axis.field]) for axis in plan.axes}
    recipe = with_settings(plan.recipe, values)
    folder = RunFolder(path) if (path / "config.json").exists() else None
    if folder is None or folder.summary is None:
        about = {"recipe": plan.name, "description": f"{type(recipe).__doc__} Trial {number} of a sweep."}
        recipe.train(load(recipe), run=path, resume=folder is not None, about=about, display=display)
    summary = RunFolder(path).summary
    assert summary is not None, "a run that has ended has a summary"
    return float(summary["validation_accuracy"])
