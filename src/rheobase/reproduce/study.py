"""The test of a published method: experiments, arms, seeds, and the claims that they decide.

A study is a list of trainings. They are done one by one, each in its own run folder, from which it resumes bit for bit after an
interruption; its result goes into the study's results file. If the same command is started again, or twice at a time, each
process takes what no other has begun: a study is as interruptible as a single run. The seeds are the outer loop, so that the
results at any moment are a fair comparison of all arms.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from rheobase.data import Splits
from rheobase.errors import DivergenceError, RunError
from rheobase.recipes import Recipe
from rheobase.recipes.settings import is_of
from rheobase.reproduce.rows import Diverged, Results, Row, row_of
from rheobase.training import Display, RunFolder

Status = Literal["reproduced", "partly reproduced", "not reproduced", "undecided", "not comparable", "not run yet"]


@dataclass(frozen=True)
class Experiment:
    """Trainings that differ in one thing: the arm. All arms start from the same weights and see the same data.

    Args:
        name: a word for the command line, `"spoken-digits"`.
        title: what is trained on what, for the tables.
        arms: the recipe of each arm, by name; their data must be the same, since it is loaded once.
        seeds: seeds of the weights and of the order of samples.
        chance: the accuracy of a guess, for a line in the picture; None if it is not known.
    """

    name: str
    title: str
    arms: Mapping[str, Recipe]
    seeds: tuple[int, ...]
    chance: float | None = field(default=None, kw_only=True)

    @property
    def trainings(self) -> int:
        """The number of trainings: one for each arm and seed."""
        return len(self.arms) * len(self.seeds)


Finding = tuple[bool | None, str]
"""Whether a claim holds in an experiment, None if undecided; and the figures behind it."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim, and the findings in each experiment; those of all of them under `""`."""

    status: Status
    findings: Mapping[str, Finding]

    @property
    def figures(self) -> str:
        """The findings, in one line."""
        return "; ".join(f"{name}: {figures}" if name else figures for name, (_, figures) in self.findings.items())


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, with the published figures, and how it is decided here."""

    text: str
    published: str
    judge: Callable[["Table"], Verdict]


@dataclass(frozen=True)
class Study:
    """A method, its experiments and its claims.

    Args:
        name: a word for the command line.
        title: for the page of results.
        source: the paper.
        remarks: what a reader must know to interpret the figures, in Markdown.
        experiments: by whether it is the quick version.
        claims: the claims to decide.
        derived: the table with what runs tell only beside other runs, as further measures, for the page.
    """

    name: str
    title: str
    source: str
    remarks: str
    experiments: Callable[[bool], Sequence[Experiment]]
    claims: Sequence[Claim]
    derived: Callable[["Table"], "Table"] = lambda table: table


class Table:
    """The rows of a study that are of its present settings, by experiment, arm and seed, and what has none for it diverged."""

    def __init__(
        self, experiments: Sequence[Experiment], rows: Sequence[Row], diverged: Sequence[Diverged] = ()
    ) -> None:
        self.experiments = {experiment.name: experiment for experiment in experiments}
        found = {row.key: row for row in rows}
        self._failures = diverged
        failed = {each.key: each for each in diverged}
        self._diverged: dict[tuple[str, str], list[int]] = {}
        self._rows: dict[str, dict[str, dict[int, Row]]] = {}
        for experiment in experiments:
            for arm, seed, recipe in _trainings(experiment):
                row = found.get((experiment.name, arm, seed))
                if row is not None and is_of(row.recipe, recipe):
                    self._rows.setdefault(experiment.name, {}).setdefault(arm, {})[seed] = row
                failure = failed.get((experiment.name, arm, seed))
                if failure is not None and is_of(failure.recipe, recipe):
                    self._diverged.setdefault((experiment.name, arm), []).append(seed)

    def with_rows(self, rows: Sequence[Row]) -> "Table":
        """The same with other rows."""
        return Table(list(self.experiments.values()), rows, self._failures)

    def has(self, experiment: str, arm: str, seed: int) -> bool:
        """Whether this training is done."""
        return seed in self.of(experiment, arm) or seed in self.diverged(experiment, arm)

    def diverged(self, experiment: str, arm: str) -> Sequence[int]:
        """The diverged seeds of an arm."""
        return self._diverged.get((experiment, arm), [])

    def of(self, experiment: str, arm: str) -> dict[int, Row]:
        """The rows of an arm, by seed; empty if there are none."""
        return self._rows.get(experiment, {}).get(arm, {})

    def arms(self, experiment: str) -> dict[str, dict[int, Row]]:
        """The arms that have rows, in the order of the experiment."""
        rows = self._rows.get(experiment, {})
        return {arm: rows[arm] for arm in self.experiments[experiment].arms if arm in rows}

    def done(self, experiment: str) -> int:
        """The number of trainings of an experiment that are done, including diverged ones."""
        return sum(
            len(self.of(experiment, arm)) + len(self.diverged(experiment, arm))
            for arm in self.experiments[experiment].arms
        )


def _trainings(experiment: Experiment) -> Iterator[tuple[str, int, Recipe]]:
    for seed in experiment.seeds:
        for arm, recipe in experiment.arms.items():
            yield arm, seed, replace(recipe, training=replace(recipe.training, seed=seed))


@dataclass(frozen=True)
class Done:
    """The progress of a study: reported before each training, and once at the end."""

    finished: int
    total: int
    experiment: str = ""
    arm: str = ""
    seed: int = 0


def run(
    experiments: Sequence[Experiment],
    results: Results,
    runs: Path,
    load: Callable[[Recipe], Splits],
    *,
    tell: Callable[[Done], Display],
) -> list[str]:
    """Do all trainings that are not done yet and that no other process is working on.

    Args:
        experiments: what to train.
        results: where the rows go.
        runs: the folder for run folders, `runs/EXPERIMENT/ARM/seed-N`.
        load: a recipe's data.
        tell: called before each training; returns the display of its progress.

    Returns:
        Failures: a line for each training that diverged now. It is a result without a row, and the others continue.

    Raises:
        RunError: if a run folder holds a run of other settings.
    """
    diverged: list[str] = []
    total = sum(experiment.trainings for experiment in experiments)
    table = Table(experiments, *results.read())
    for experiment in experiments:
        splits: Splits | None = None
        for arm, seed, recipe in _trainings(experiment):
            if table.has(experiment.name, arm, seed):
                continue
            path = runs / experiment.name / arm / f"seed-{seed}"
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with FileLock(f"{path}.lock", blocking=False):
                    table = Table(experiments, *results.read())
                    if table.has(experiment.name, arm, seed):  # by another process, meanwhile
                        continue
                    display = tell(Done(_finished(table), total, experiment.name, arm, seed))
                    splits = load(recipe) if splits is None else splits
                    results.add(_train(experiment, arm, recipe, splits, path, display))
            except Timeout:  # another process is at it
                continue
            except DivergenceError as error:
                diverged.append(f"{experiment.name}, {arm}, seed {seed}: {error}")
                when, commit = str(error).partition(":")[0], RunFolder(path).config.get("commit")
                results.add(Diverged(experiment.name, arm, seed, asdict(recipe), when, commit))
    tell(Done(_finished(Table(experiments, *results.read())), total))
    return diverged


def _finished(table: Table) -> int:
    return sum(table.done(experiment) for experiment in table.experiments)


def _train(experiment: Experiment, arm: str, recipe: Recipe, splits: Splits, path: Path, display: Display) -> Row:
    folder = RunFolder(path) if (path / "config.json").exists() else None
    if folder is not None and not is_of(folder.config.get("config"), recipe):
        raise RunError(f"{path}: holds a run of other settings; delete it, or choose another folder with --runs")
    if folder is None or folder.summary is None:
        about = {"recipe": None, "description": f"{experiment.title}: {arm}"}
        recipe.train(splits, run=path, resume=folder is not None, about=about, display=display)
    return row_of(RunFolder(path), experiment.name, arm, recipe)
