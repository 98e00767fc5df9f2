"""`rheobase reproduce`: run what is missing of a study, and write its page."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from rheobase.data import Splits
from rheobase.errors import RheobaseError
from rheobase.recipes import Recipe
from rheobase.reproduce import STUDIES
from rheobase.reproduce.page import write_page
from rheobase.reproduce.plots import draw
from rheobase.reproduce.rows import Results
from rheobase.reproduce.study import Done, Study, Table, run
from rheobase.training import Display
from rheobase.training.display import Metrics, Plan


def reproduce(
    name: str, *, quick: bool, only: tuple[str, ...], runs: Path, results: Path, load: Callable[[Recipe], Splits]
) -> None:
    """Run the study `name` and write its page, its rows and its plots into the folder `results`.

    Args:
        name: the study.
        quick: the version of a few minutes.
        only: the experiments to run; empty means all. The page shows all results.
        runs: the folder for run folders.
        results: the folder for the results.
        load: loads a recipe's data.

    Raises:
        RheobaseError: if there is no such study or experiment.
    """
    if name not in STUDIES:
        raise RheobaseError(f"there is no study {name!r}; known are {', '.join(STUDIES)}")
    study = STUDIES[name]
    experiments = study.experiments(quick)
    names = [experiment.name for experiment in experiments]
    if unknown := set(only) - set(names):
        raise RheobaseError(f"{name} has no experiment {', '.join(sorted(unknown))}; known are {', '.join(names)}")
    stem = f"{name}-quick" if quick else name
    rows = Results(results / f"{stem}.json", {"study": study.title, "source": study.source})
    chosen = [experiment for experiment in experiments if not only or experiment.name in only]
    before = Table(experiments, *rows.read())
    there, total = (sum(of) for of in zip(*((before.done(each.name), each.trainings) for each in chosen), strict=True))
    with _Told() as told:
        diverged = run(chosen, rows, runs / stem, load, tell=told)
    page = write(study, Table(experiments, *rows.read()), results / f"{stem}.md", quick)
    console = Console(highlight=False, soft_wrap=True)
    for line in diverged:
        console.print(line, markup=False)
    if there:
        console.print(
            f"{there} of {total} trainings were there already, in {rows.path}, and were not repeated; into another folder "
            "(--results) all are done",
            markup=False,
        )
    console.print(f"results: {page}", markup=False)


def overview(results: Path) -> None:
    """Print all studies, and how many trainings of each experiment have a row in the folder `results`."""
    console = Console(highlight=False)
    console.print("Trainings done; rheobase reproduce STUDY --only EXPERIMENT does the rest.\n")
    for study in STUDIES.values():
        console.print(f"[bold]{study.name}[/bold]: {study.title}")
        experiments = study.experiments(False)
        found = Table(experiments, *Results(results / f"{study.name}.json", {}).read())
        width = max(len(experiment.name) for experiment in experiments)
        for experiment in experiments:
            done = f"{found.done(experiment.name)} of {experiment.trainings}"
            line = Text(f"  {experiment.name:<{width}}  {done:>8}  {experiment.title}")
            console.print(
                line, no_wrap=True, overflow="ellipsis"
            )  # a narrow terminal cuts the end, which is never typed
        console.print()


def write(study: Study, table: Table, page: Path, quick: bool) -> Path:
    """Write the page and the plots of the existing rows; returns the page."""
    figures = draw(table, page.parent, page.stem)
    write_page(
        page,
        study,
        study.derived(table),
        f"rheobase reproduce {study.name}{' --quick' if quick else ''}",
        quick,
        figures,
    )
    return page


class _Told(Display):
    """Shows the progress of a study: two bars on a terminal, elsewhere one line per training."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bars = Progress(*columns, console=self._console)
        self._runs: TaskID | None = None
        self._epochs: TaskID | None = None

    def __enter__(self) -> "_Told":
        if self._console.is_terminal:
            self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bars.live.is_started:
            self._bars.stop()

    def __call__(self, done: Done) -> Display:
        if self._runs is None:
            self._runs = self._bars.add_task("trainings", total=done.total)
        self._bars.update(self._runs, completed=done.finished)
        if self._epochs is not None:
            self._bars.remove_task(self._epochs)
            self._epochs = None
        if done.experiment:
            what = f"{done.experiment}, {done.arm}, seed {done.seed}"
            self._epochs = self._bars.add_task(what)
            if not self._console.is_terminal:
                self._console.print(f"{done.finished} of {done.total} trainings done; {what}", markup=False)
        return self

    def start(self, plan: Plan) -> None:
        """A training begins."""
        if self._epochs is not None:
            self._bars.update(self._epochs, total=plan.epochs, completed=plan.epochs_done)

    def epoch(self, metrics: Metrics) -> None:
        """An epoch is done."""
        if self._epochs is not None:
            self._bars.update(self._epochs, completed=metrics["epoch"])

    def finish(self, summary: Metrics) -> None:
        """A training has ended."""
        if not self._console.is_terminal:
            self._console.print(
                f"  test accuracy {summary['test_accuracy']:.2%}, {summary['seconds']:.0f} s of training", markup=False
            )
