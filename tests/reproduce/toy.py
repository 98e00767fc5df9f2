"""A study of seconds: two arms that differ in what a tiny network learns, on data that one glance decides."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rheobase.data import Progress, Splits
from rheobase.layers import Sequential
from rheobase.recipes import Recipe
from rheobase.reproduce.rows import Diverged, Row
from rheobase.reproduce.study import Claim, Experiment, Study, Table, Verdict
from rheobase.training import Training
from training.tiny import arrays, network, settings


@dataclass(frozen=True)
class Toy(Recipe):
    """A tiny network."""

    hidden: int = 4
    training: Training = field(default_factory=lambda: settings(epochs=2))

    def splits(
        self, data_dir: Path | None = None, *, download: bool = False, progress: Progress | None = None
    ) -> Splits:
        return Splits(arrays(), arrays(7, 2), arrays(11, 3))

    def network(self) -> Sequential:
        return network(self.training.seed, hidden=self.hidden)


def experiments(quick: bool) -> list[Experiment]:
    return [
        Experiment("first", "First experiment", {"small": Toy(), "large": Toy(hidden=6)}, (0,) if quick else (0, 1)),
        Experiment("second", "Second experiment", {"small": Toy(hidden=3)}, (0,)),
    ]


def judge(table: Table) -> Verdict:
    arms = len(table.arms("first"))
    return Verdict("reproduced", {"": (True, f"{arms} arms")}) if arms else Verdict("not run yet", {})


STUDY = Study("toy", "A toy", "nobody, nowhere", "Nothing to know.", experiments, [Claim("It runs", "always", judge)])


def row(experiment: str, arm: str, seed: int, recipe: dict[str, Any], **changes: Any) -> Row:
    """A result, with what a test does not care about filled in; the accuracies of the epochs are `validation_curve`."""
    values: dict[str, Any] = {
        "experiment": experiment,
        "arm": arm,
        "seed": seed,
        "recipe": recipe,
        "test_accuracy": 0.5,
        "validation_accuracy": 0.5,
        "best_epoch": 1,
        "epochs": 2,
        "seconds": 3.0,
        "samples": 37,
        "validation_curve": (0.4, 0.5),
        "train_curve": (0.4, 0.5),
        "seconds_curve": (1.0, 2.0),
        "layers": ("1 LIF(4)", "3 LIF(3)"),
        "dead": ((0.5, 0.0), (0.25, 0.0)),
        "silent": ((0.6, 0.1), (0.5, 0.1)),
        "rates": ((0.1, 0.1), (0.1, 0.1)),
        "spikes_per_sample": 12.0,
        "command": "rheobase reproduce toy",
        "commit": "abc",
        "machine": "cpu, 2 cores",
    }
    return Row(**{**values, **changes})


def table_of(planned: Sequence[Experiment], values: Mapping[tuple[str, str], Sequence[dict[str, Any] | None]]) -> Table:
    """Results of a study, made up: for each experiment and arm, the values of its seeds; None diverged."""
    arms = {experiment.name: experiment.arms for experiment in planned}
    rows, diverged = [], []
    for (experiment, arm), seeds in values.items():
        recipe = arms[experiment][arm]
        for seed, changes in enumerate(seeds):
            settings = asdict(replace(recipe, training=replace(recipe.training, seed=seed)))
            if changes is None:
                diverged.append(Diverged(experiment, arm, seed, settings, "in epoch 1", None))
            else:
                rows.append(row(experiment, arm, seed, settings, **changes))
    return Table(planned, rows, diverged)
