"""What several commands take: the folder of a run, where data sets are, how much to say."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TransferSpeedColumn
from rich.progress import Progress as Bars

from rheobase.data import Splits
from rheobase.recipes import Recipe
from rheobase.training import Display, Engine, display_for

Run = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(help="Folder of the run.", metavar="RUN")]


@dataclass(frozen=True)
class Output:
    """How much to say."""

    quiet: bool = False
    """Say nothing but errors."""
    json: bool = False
    """Output for programs: JSON, one object per line."""

    def display(self) -> Display:
        """The requested display."""
        return display_for("json" if self.json else "quiet" if self.quiet else "auto")


@dataclass(frozen=True)
class Data:
    """Where data sets are."""

    data_dir: Path | None = None
    """Folder with data sets; by default $RHEOBASE_DATA, or the user's cache."""
    download: bool = False
    """Download missing files into that folder and verify their checksums."""

    def splits(self, recipe: Recipe, output: Output) -> Splits:
        """The recipe's data; a download shows its progress, or outside a terminal one line per file."""
        columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
        console = Console(quiet=output.quiet or output.json, highlight=False)
        bars = Bars(*columns, transient=True, console=console)
        tasks: dict[str, TaskID] = {}

        def progress(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name)
                if console.is_terminal:
                    bars.start()  # only now: an empty bar would be a line too many
                else:
                    console.print(f"loading {name}", markup=False)
            bars.update(tasks[name], completed=done, total=total)

        try:
            with Engine.start(recipe.training).main_first():
                return recipe.splits(self.data_dir, download=self.download, progress=progress)
        finally:
            if bars.live.is_started:
                bars.stop()
