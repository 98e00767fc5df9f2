"""A sweep on the terminal: a line when a trial begins and when it ends, and a table of all at the end."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rheobase import recipes
from rheobase.data import Splits
from rheobase.files import write_json
from rheobase.recipes import Recipe
from rheobase.sweep.search import Outcome, Sampler, Sweep, sweep
from rheobase.sweep.space import fixed_settings, parse_axis
from rheobase.training import RunFolder

SHOWN = 20
"""The number of trials in the table."""


def run(
    name: str,
    over: tuple[str, ...],
    fixed: tuple[str, ...],
    *,
    trials: int | None,
    storage: Path | None,
    sampler: Sampler,
    seed: int,
    load: Callable[[Recipe], Splits],
    quiet: bool,
    as_json: bool,
) -> None:
    """The command `rheobase sweep`; the arguments are its own."""
    recipe = fixed_settings(recipes.find(name).recipe, fixed)
    axes = tuple(parse_axis(recipe, text) for text in over)
    plan = Sweep(name, recipe, axes, trials, storage or Path("runs") / f"sweep-{name}.journal", sampler, seed)
    console = Console(highlight=False, soft_wrap=True, quiet=quiet or as_json)
    found = sweep(plan, load, lambda outcome, all_of_them: _tell(console, plan, outcome, all_of_them))
    result = _result(plan, found)
    write_json(plan.runs / "sweep.json", result)
    if as_json:
        print(json.dumps(result))
    else:
        console.print(_table(plan, found))
        console.print(_end(plan, found, result), markup=False)


def _tell(console: Console, plan: Sweep, outcome: Outcome, found: list[Outcome]) -> None:
    if outcome.state == "running":
        console.print(f"trial {outcome.number} of {plan.total}: {_settings(outcome)}", markup=False)
        return
    what = "failed" if outcome.validation_accuracy is None else f"validation {outcome.validation_accuracy:.2%}"
    best = found[0]
    far = (
        "" if best.validation_accuracy is None else f"; best so far {best.validation_accuracy:.2%}, trial {best.number}"
    )
    console.print(f"  {what}{far}", markup=False)


def _settings(outcome: Outcome) -> str:
    return "  ".join(f"{field}={_words(value)}" for field, value in outcome.settings.items())


def _words(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _table(plan: Sweep, found: list[Outcome]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("trial", "validation", *(axis.field for axis in plan.axes)):
        table.add_column(heading, justify="right")
    for outcome in found[:SHOWN]:
        accuracy = outcome.validation_accuracy
        values = (_words(outcome.settings.get(axis.field, "")) for axis in plan.axes)
        table.add_row(str(outcome.number), outcome.state if accuracy is None else f"{accuracy:.2%}", *values)
    return table


def _end(plan: Sweep, found: list[Outcome], result: dict[str, Any]) -> str:
    lines = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    running = sum(outcome.state == "running" for outcome in found)
    if running:
        lines.append(f"other processes are still working on {running} of the trials")
    if result["best"] is not None:
        test = result["test_accuracy"]
        tested = "" if test is None else f", its test accuracy {test:.2%}"
        lines.append(f"chosen on the validation set: trial {result['best']}, {found[0].run}{tested}")
    return "\n".join([*lines, f"all results: {plan.runs / 'sweep.json'}"])


def _result(plan: Sweep, found: list[Outcome]) -> dict[str, Any]:
    """The results for programs; the test accuracy is that of the chosen trial alone."""
    best = next((outcome for outcome in found if outcome.state == "done"), None)
    summary = (RunFolder(Path(best.run)).summary or {}) if best else {}
    return {
        "recipe": plan.name,
        "over": [str(axis) for axis in plan.axes],
        "trials": [asdict(outcome) for outcome in found],
        "best": None if best is None else best.number,
        "validation_accuracy": None if best is None else best.validation_accuracy,
        "test_accuracy": summary.get("test_accuracy"),
    }
