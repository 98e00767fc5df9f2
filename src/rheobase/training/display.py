"""What a user sees while a network trains.

On a terminal, a live view: progress, speed, accuracy, and for every layer whether its neurons are active. In a file or a pipe,
one plain line per epoch; for programs, one JSON object per line; or nothing. All receive the same four calls. A layer that dies
or saturates causes one warning, with its remedy.
"""

import json
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from rheobase.diagnosis import SHARE, Finding, activity_findings

Metrics = dict[str, Any]
Style = Literal["auto", "live", "plain", "json", "quiet"]


@dataclass(frozen=True)
class Plan:
    """What is about to happen."""

    title: str
    epochs: int
    epochs_done: int
    steps: int
    """Steps per epoch."""
    samples: dict[str, int]
    parameters: int
    layers: tuple[str, ...]
    device: str
    processes: int
    run: str | None
    """The run's folder."""
    recipe: bool
    """Whether it was started from a recipe, so that the command line can examine it."""


class Display:
    """What the training loop reports: the plan, every step, every epoch, the result. This one prints nothing."""

    def start(self, plan: Plan) -> None:
        """Training begins."""

    def step(self, epoch: int, step: int) -> None:
        """Step number `step` of the epoch, counted from 1, is done."""

    def epoch(self, metrics: Metrics) -> None:
        """An epoch is done and evaluated."""

    def finish(self, summary: Metrics) -> None:
        """Training has ended; `summary` is what `summary.json` holds."""

    def close(self) -> None:
        """Restore the terminal; called at the end, also after an error."""


class JsonLines(Display):
    """One JSON object per line, each with an `event`: `start`, `epoch`s, and `summary` as the last.

    An epoch in which a layer has died or saturated is followed by a `warning`: the epoch, and `kind`, `layer`, `what` and
    `remedy` of the finding, as `rheobase doctor --json` has them.
    """

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = out or sys.stdout
        self._warnings = _Warnings()

    def _write(self, event: str, values: Metrics) -> None:
        print(json.dumps({"event": event, **values}), file=self._out, flush=True)

    def start(self, plan: Plan) -> None:
        """Write the plan."""
        self._warnings.start(plan)
        self._write("start", asdict(plan))

    def epoch(self, metrics: Metrics) -> None:
        """Write the metrics, and a warning when a layer has died or saturated."""
        self._write("epoch", metrics)
        for finding in self._warnings.new(metrics["layers"]):
            self._write("warning", {"epoch": metrics["epoch"], **finding.as_dict()})

    def finish(self, summary: Metrics) -> None:
        """Write the summary."""
        self._write("summary", summary)


class PlainLines(Display):
    """One line per epoch, for logs and pipes."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._console = Console(file=out, highlight=False, soft_wrap=True, no_color=True)
        self._eta = _Eta()
        self._warnings = _Warnings()

    def start(self, plan: Plan) -> None:
        """Write the plan."""
        self._eta.start(plan)
        self._warnings.start(plan)
        self._console.print(_headline(plan))

    def epoch(self, metrics: Metrics) -> None:
        """Write the epoch's line, and a warning when a layer has died or saturated."""
        layers = metrics["layers"]
        self._console.print(
            f"epoch {metrics['epoch']:>{len(str(metrics['epochs']))}}/{metrics['epochs']}"
            f"  loss {metrics['loss']:.4f}{_train(metrics)}"
            f"  validation {_score(metrics, '6.1%', 'validation_')}{'*' if metrics['best'] else ' '}"
            f"  {metrics['samples_per_second']:,.0f} samples/s"
            f"  rate {' '.join(format(layer['rate'], '.1%') for layer in layers)}"
            f"  dead {' '.join(format(layer['dead'], '.0%') for layer in layers)}"
            f"  ETA {self._eta.after(metrics['epoch'])}",
            markup=False,
        )
        for finding in self._warnings.new(metrics["layers"]):
            self._console.print(f"warning: {self._warnings.words(finding)}", markup=False)

    def finish(self, summary: Metrics) -> None:
        """Write the result."""
        self._console.print(_result(summary), markup=False)


class LiveDisplay(Display):
    """A live view on a terminal: progress, recent epochs, and the state of every layer."""

    RECENT = 6
    """How many epochs stay in view."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._eta = _Eta()
        self._warnings = _Warnings()
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[eta]}"),
            console=self._console,
            expand=True,
        )
        self._recent: list[Metrics] = []
        self._live = Live(console=self._console, refresh_per_second=8, get_renderable=self._picture)

    def start(self, plan: Plan) -> None:
        """Draw the plan and an empty bar."""
        self._eta.start(plan)
        self._warnings.start(plan)
        self._console.print(_headline(plan))
        self._steps = plan.steps
        self._task = self._bar.add_task(
            "training", total=plan.epochs * plan.steps, completed=plan.epochs_done * plan.steps, eta=""
        )
        self._live.start()

    def step(self, epoch: int, step: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=(epoch - 1) * self._steps + step, description=f"epoch {epoch}")

    def epoch(self, metrics: Metrics) -> None:
        """Add the epoch to the view, and leave a warning above it when a layer has died or saturated."""
        for finding in self._warnings.new(metrics["layers"]):
            self._console.print(Text.assemble(("warning: ", "bold yellow"), self._warnings.words(finding)))
        self._recent = [*self._recent, metrics][-self.RECENT :]
        self._bar.update(self._task, eta=f"ETA {self._eta.after(metrics['epoch'])}")

    def finish(self, summary: Metrics) -> None:
        """Leave the last view on the terminal, and the result below it."""
        self.close()
        self._console.print(_result(summary), style="bold", markup=False)

    def close(self) -> None:
        """Stop drawing."""
        self._live.stop()

    def _picture(self) -> RenderableType:
        parts: list[RenderableType] = []
        if self._recent:
            parts += [self._epochs(), self._layers(self._recent[-1]["layers"])]
        return Group(*parts, self._bar)

    def _epochs(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        shares = self._recent[0]["train_accuracy"] is not None  # or without classes
        for title in ("epoch", "loss", *(("train",) if shares else ()), "validation", "", "samples/s"):
            table.add_column(title, justify="right")
        for metrics in self._recent:
            table.add_row(
                str(metrics["epoch"]),
                f"{metrics['loss']:.4f}",
                *((f"{metrics['train_accuracy']:.1%}",) if shares else ()),
                _score(metrics, ".1%", "validation_"),
                "[green]best[/green]" if metrics["best"] else "",
                f"{metrics['samples_per_second']:,.0f}",
            )
        return table

    @staticmethod
    def _layers(layers: list[Metrics]) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in ("layer", "firing rate", "dead", "saturated"):
            table.add_column(title, justify="left" if title == "layer" else "right")
        for layer in layers:
            table.add_row(
                Text(layer["name"]),
                f"{layer['rate']:.1%}",
                Text(f"{layer['dead']:.0%}", style="bold red" if layer["dead"] > SHARE else ""),
                Text(f"{layer['saturated']:.0%}", style="bold red" if layer["saturated"] > SHARE else ""),
            )
        return table


def display_for(style: Style) -> Display:
    """The display for a style; `auto` is `live` on a terminal and `plain` elsewhere."""
    if style == "auto":
        style = "live" if Console().is_terminal else "plain"
    return {"live": LiveDisplay, "plain": PlainLines, "json": JsonLines, "quiet": Display}[style]()


class _Eta:
    """The time that the remaining epochs will take, from the pace of those that this process has run."""

    def start(self, plan: Plan) -> None:
        self._plan = plan
        self._began = time.monotonic()

    def after(self, epoch: int) -> str:
        done = epoch - self._plan.epochs_done
        seconds = (time.monotonic() - self._began) / max(done, 1) * (self._plan.epochs - epoch)
        minutes, seconds = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


class _Warnings:
    """What is wrong with the layers: once for each layer and cause, not again every epoch."""

    def start(self, plan: Plan) -> None:
        command = (
            f"rheobase doctor {shlex.quote(plan.run)}" if plan.run and plan.recipe else "rb.doctor(network, batch)"
        )
        self._hint = f"; {command} looks closer"
        self._given: set[tuple[str | None, str]] = set()

    def new(self, layers: list[Metrics]) -> list[Finding]:
        found = [
            finding
            for layer in layers
            for finding in activity_findings(layer["name"], layer["dead"], layer["saturated"], layer["fires_once_in"])
            if (finding.layer, finding.kind) not in self._given
        ]
        self._given |= {(finding.layer, finding.kind) for finding in found}
        return found

    def words(self, finding: Finding) -> str:
        return f"{finding}; remedy, before training: {finding.remedy}{self._hint}"


def _headline(plan: Plan) -> Text:
    samples = ", ".join(f"{count:,} {name}" for name, count in plan.samples.items())
    processes = f" x {plan.processes} processes" if plan.processes > 1 else ""
    resumed = f", going on after epoch {plan.epochs_done}" if plan.epochs_done else ""
    kept = f"; kept in {plan.run}" if plan.run else ""
    return Text(
        f"{plan.title}: {plan.parameters:,} parameters on {plan.device}{processes}; samples: {samples}; "
        f"{plan.epochs} epochs of {plan.steps} steps{resumed}{kept}"
    )


def _result(summary: Metrics) -> str:
    samples = summary["samples"]
    what = "loss " if summary["validation_accuracy"] is None else ""  # without classes there is only the loss
    parts = [f"best epoch {summary['best_epoch']}: validation {what}{_score(summary, '.1%', 'validation_')}"]
    if "test_accuracy" in summary:
        parts.append(f"test {what}{_score(summary, '.2%', 'test_')} of {samples['test']:,} samples")
    for name, other in summary.get("also_tested", {}).items():
        parts.append(f"{name} {what}{_score(other, '.2%')} of {other['samples']:,} samples")
    parts.append(f"{summary['seconds']:.0f} s of training")
    return ", ".join(parts)


def _score(values: Metrics, form: str, split: str = "") -> str:
    """The accuracy in `form`; without classes, the loss. `split` is the prefix of the names in `values`."""
    accuracy = values[f"{split}accuracy"]
    return f"{values[f'{split}loss']:.4f}" if accuracy is None else format(accuracy, form)


def _train(metrics: Metrics) -> str:
    return "" if metrics["train_accuracy"] is None else f"  train {metrics['train_accuracy']:6.1%}"
