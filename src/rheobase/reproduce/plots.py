"""The pictures of a study: how each arm learns, and how many of its neurons are silent or dead meanwhile.

Of many arms that differ in a number, nobody could tell the curves apart. There the picture is of what each came to, over the
number.

matplotlib draws them. It is not a requirement of the library: `pip install 'rheobase[plots]'`; without it the page has no
pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from rheobase.files import atomic_write
from rheobase.reproduce.rows import Row
from rheobase.reproduce.study import Table

_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#000000",
    "#999999",
    "#f0e442",
    "#7f3c8d",
)
"""Okabe and Ito's, which the colour-blind can tell apart, and two more."""


def draw(table: Table, folder: Path, stem: str) -> dict[str, Path]:
    """Draw a picture of each experiment that has rows.

    Args:
        table: the rows.
        folder: where the pictures go, as `STEM-EXPERIMENT.png`.
        stem: the beginning of their names.

    Returns:
        The pictures, by experiment; none without matplotlib.
    """
    if find_spec("matplotlib") is None:
        return {}
    drawn = [name for name in table.experiments if table.arms(name)]
    return {name: _draw(table, name, folder / f"{stem}-{name}.png") for name in drawn}


Values = Sequence[Sequence[float]]
"""At every place of the horizontal axis, that of each seed."""


@dataclass(frozen=True)
class _Curves:
    """What is drawn in one colour: `at` these places, the accuracy, and of each layer who is silent in a sample, and dead."""

    at: Sequence[float]
    accuracy: Values
    silent: Sequence[Values]
    dead: Sequence[Values]


def _draw(table: Table, name: str, path: Path) -> Path:
    from matplotlib.figure import Figure

    arms = table.arms(name)
    layers = _layers([row for rows in arms.values() for row in rows.values()])
    series = _series(arms) if len(arms) > len(_COLOURS) else None
    drawn = {arm: _over_epochs(rows) for arm, rows in arms.items()} if series is None else series
    figure = Figure(figsize=(4.2 * (1 + len(layers)), 3.6), layout="constrained")
    axes = figure.subplots(1, 1 + len(layers), squeeze=False)[0]
    for colour, (label, curves) in zip(_COLOURS * 3, drawn.items(), strict=False):
        _curve(axes[0], curves.at, curves.accuracy, colour, label)
        # An arm may have fewer layers of neurons, or none.
        for axis, silent, dead in zip(axes[1:], curves.silent, curves.dead, strict=False):
            _curve(axis, curves.at, silent, colour, label)
            means = [100 * np.mean(values) for values in dead]
            axis.plot(curves.at, means, color=colour, linewidth=1, linestyle="dashed")
    axes[0].set_title("validation accuracy" if series is None else "test accuracy", fontsize=10)
    for axis, layer in zip(axes[1:], layers, strict=True):
        axis.set_title(f"{layer}: silent in a sample, dead (dashed)", fontsize=9)
        axis.set_ylim(0, 100)
    for axis in axes:
        axis.set_xlabel("epoch" if series is None else "value")
        axis.grid(alpha=0.3)
        if series is not None:
            axis.set_xscale("log")
    axes[0].set_ylabel("%")
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(len(drawn), 5, 1 + 2 * len(layers)),
        fontsize=9,
    )
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    return path


def _layers(rows: Sequence[Row]) -> Sequence[str]:
    """What layers of neurons are called: by their names, or by numbers where runs have layers of different names."""
    names = [row.layers for row in rows if row.layers]
    longest = max(names, key=len, default=())
    return longest if set(names) <= {longest} else [f"layer {number}" for number in range(1, len(longest) + 1)]


def _over_epochs(rows: Mapping[int, Row]) -> _Curves:
    runs = list(rows.values())
    epochs = range(len(runs[0].validation_curve))
    layers = range(len(runs[0].layers))
    return _Curves(
        at=[epoch + 1.0 for epoch in epochs],
        accuracy=[[run.validation_curve[epoch] for run in runs] for epoch in epochs],
        silent=[[[run.silent[epoch][layer] for run in runs] for epoch in epochs] for layer in layers],
        dead=[[[run.dead[epoch][layer] for run in runs] for epoch in epochs] for layer in layers],
    )


def _series(arms: Mapping[str, Mapping[int, Row]]) -> dict[str, _Curves] | None:
    """Arms `"NAME VALUE"` or `"NAME, VALUE"` as a curve for each name, over values above 0; None if one is called otherwise."""
    found: dict[str, dict[float, list[Row]]] = {}
    for arm, rows in arms.items():
        label, _, number = arm.rpartition(" ")
        try:
            value = float(number)
        except ValueError:
            return None
        if not (label and value > 0):
            return None
        found.setdefault(label.removesuffix(","), {})[value] = list(rows.values())
    return {label: _over_values(by_value) for label, by_value in found.items()}


def _over_values(by_value: Mapping[float, Sequence[Row]]) -> _Curves:
    at = sorted(by_value)
    runs = [by_value[value] for value in at]
    layers = range(len(runs[0][0].layers))
    return _Curves(
        at=at,
        accuracy=[[run.test_accuracy for run in each] for each in runs],
        silent=[[[run.silent[-1][layer] for run in each] for each in runs] for layer in layers],
        dead=[[[run.dead[-1][layer] for run in each] for each in runs] for layer in layers],
    )


def _curve(axis: Any, at: Sequence[float], values: Values, colour: str, name: str) -> None:
    """The mean over seeds, and the range from the least to the greatest."""
    marker = "o" if len(at) < 10 else ""  # of few places, each is seen, and a single one at all
    axis.plot(at, [100 * np.mean(each) for each in values], color=colour, label=name, linewidth=1.5, marker=marker)
    low, high = ([100 * pick(each) for each in values] for pick in (min, max))
    axis.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
