"""The results of a study's runs, a row each, in one JSON file.

A row has everything that a table or a plot needs (accuracies, curves, dead neurons) and its origin (seed, recipe, command,
commit, machine). The file is the memory of a study: a run whose row is in it is done, even on another machine, which needs only
this file; and so is one that diverged, since that is a result, too. Several processes may add results at the same time.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from rheobase.errors import RecipeError, RunError
from rheobase.files import atomic_write
from rheobase.recipes import Recipe
from rheobase.recipes.settings import build
from rheobase.training import RunFolder

R = TypeVar("R")


@dataclass(frozen=True)
class _Trained:
    """What a training was of."""

    experiment: str
    arm: str
    seed: int
    recipe: dict[str, Any]
    """The recipe's settings."""

    @property
    def key(self) -> tuple[str, str, int]:
        """What this is the result of."""
        return self.experiment, self.arm, self.seed


@dataclass(frozen=True)
class Row(_Trained):
    """The result of one training run."""

    test_accuracy: float
    validation_accuracy: float
    best_epoch: int
    epochs: int
    seconds: float
    samples: int
    """In the training set."""
    validation_curve: tuple[float, ...]
    """Accuracy on the validation set after each epoch."""
    train_curve: tuple[float, ...]
    """Accuracy on the training set, during each epoch."""
    seconds_curve: tuple[float, ...]
    """The time of each epoch, validation included."""
    layers: tuple[str, ...]
    dead: tuple[tuple[float, ...], ...]
    """For each epoch and layer: the share of neurons without a spike over the whole validation set."""
    silent: tuple[tuple[float, ...], ...]
    """For each epoch and layer: the share of neurons without a spike in a sample, averaged over the validation set."""
    rates: tuple[tuple[float, ...], ...]
    """For each epoch and layer: spikes per neuron and step."""
    spikes_per_sample: float
    """Of all layers except the input, on the test set."""
    command: str
    commit: str | None
    machine: str
    measures: dict[str, float] = field(default_factory=dict)
    """The recipe's further measures on the test set, and the accuracies on further test sets, in %."""


@dataclass(frozen=True)
class Diverged(_Trained):
    """A diverged training: a loss or a gradient was not finite."""

    when: str
    commit: str | None


def row_of(folder: RunFolder, experiment: str, arm: str, recipe: Recipe) -> Row:
    """The row of a run that has ended.

    Raises:
        RunError: if the run has not ended, or something that the row needs is missing from the folder.
    """
    summary, config, metrics = folder.summary, folder.config, folder.metrics()
    if summary is None:
        raise RunError(f"{folder.path}: this run has not ended")
    try:
        of_layers = {
            key: tuple(tuple(layer[key] for layer in epoch["layers"]) for epoch in metrics)
            for key in ("dead", "silent", "rate")
        }
        machine = config["machine"]
        also = {f"{name}, %": 100 * one["accuracy"] for name, one in summary.get("also_tested", {}).items()}
        return Row(
            experiment=experiment,
            arm=arm,
            seed=recipe.training.seed,
            recipe=asdict(recipe),
            test_accuracy=summary["test_accuracy"],
            validation_accuracy=summary["validation_accuracy"],
            best_epoch=summary["best_epoch"],
            epochs=summary["epochs"],
            seconds=summary["seconds"],
            samples=summary["samples"]["train"],
            validation_curve=tuple(epoch["validation_accuracy"] for epoch in metrics),
            train_curve=tuple(epoch["train_accuracy"] for epoch in metrics),
            seconds_curve=tuple(epoch["seconds"] for epoch in metrics),
            layers=tuple(layer["name"] for layer in summary["layers"]),
            dead=of_layers["dead"],
            silent=of_layers["silent"],
            rates=of_layers["rate"],
            spikes_per_sample=sum(layer["spikes_per_sample"] for layer in summary["layers"]),
            command=config["command"],
            commit=config["commit"],
            machine=f"{machine['device']}, {machine['cores']} cores, {machine['processor']}",
            measures=summary.get("measures", {}) | also,
        )
    except (KeyError, TypeError) as error:
        raise RunError(f"{folder.path}: lacks {error}") from error


@cache
def _result(kind: type[R], text: str) -> R:
    return build(kind, json.loads(text))


class Results:
    """The file with the rows of a study.

    Args:
        path: the JSON file; it need not exist.
        about: what the file says about the study, in addition to the rows.
    """

    def __init__(self, path: Path, about: Mapping[str, str]) -> None:
        self.path = path
        self.about = dict(about)

    def read(self) -> tuple[list[Row], list[Diverged]]:
        """All rows, and the trainings that have none because they diverged.

        Raises:
            RunError: if the file is damaged.
        """
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            diverged = [_result(Diverged, json.dumps(each)) for each in content.get("diverged", [])]
            return [_result(Row, json.dumps(row)) for row in content["rows"]], diverged
        except FileNotFoundError:
            return [], []
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, RecipeError) as error:
            raise RunError(f"{self.path}: not the results of a study, or damaged: {error}") from error

    def rows(self) -> list[Row]:
        """All rows; raises as `read`."""
        return self.read()[0]

    def diverged(self) -> list[Diverged]:
        """The trainings that diverged; raises as `read`."""
        return self.read()[1]

    def add(self, result: Row | Diverged) -> None:
        """Put `result` into the file; it replaces an earlier one of the same experiment, arm and seed."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            rows, diverged = self.read()
            self._write({other.key: other for other in (*rows, *diverged)} | {result.key: result})

    def _write(self, results: Mapping[tuple[str, str, int], Row | Diverged]) -> None:
        # A result is one line, so that a new one is one line in a diff.
        in_order = [results[key] for key in sorted(results)]
        rows, diverged = (
            ",\n".join(json.dumps(_rounded(asdict(each))) for each in in_order if isinstance(each, kind))
            for kind in (Row, Diverged)
        )
        about = "".join(f"{json.dumps(name)}: {json.dumps(text)},\n" for name, text in self.about.items())
        failures = f',\n"diverged": [\n{diverged}\n]' if diverged else ""
        with atomic_write(self.path) as file:
            file.write((f'{{\n{about}"rows": [\n{rows}\n]{failures}\n}}\n').encode())


def _rounded(value: Any) -> Any:
    """Floats to five decimals: a part in a hundred thousand of an accuracy is less than a sample."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {name: item if name == "recipe" else _rounded(item) for name, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
