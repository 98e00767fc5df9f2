"""The pictures of a study: how each arm learns, and how many of its neurons are silent or dead meanwhile.

matplotlib draws them. It is not a requirement of the library: `pip install 'rheobase[plots]'`; without it the page has no
pictures.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from rheobase.files import atomic_write
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


def _draw(table: Table, name: str, path: Path) -> Path:
    from matplotlib.figure import Figure

    arms = table.arms(name)
    layers = next(iter(next(iter(arms.values())).values())).layers
    figure = Figure(figsize=(4.2 * (1 + len(layers)), 3.6), layout="constrained")
    axes = figure.subplots(1, 1 + len(layers), squeeze=False)[0]
    for colour, (arm, rows) in zip(_COLOURS * 3, arms.items(), strict=False):
        _curve(axes[0], [row.validation_curve for row in rows.values()], colour, arm)
        own = len(next(iter(rows.values())).layers)  # an arm may have fewer layers of neurons, or none
        for layer, axis in enumerate(axes[1 : 1 + own]):
            _curve(axis, [[epoch[layer] for epoch in row.silent] for row in rows.values()], colour, arm)
            dead = 100 * np.array([[epoch[layer] for epoch in row.dead] for row in rows.values()]).mean(0)
            axis.plot(np.arange(1, len(dead) + 1), dead, color=colour, linewidth=1, linestyle="dashed")
    axes[0].set_title("validation accuracy", fontsize=10)
    for axis, layer in zip(axes[1:], layers, strict=True):
        axis.set_title(f"{layer}: silent in a sample, dead (dashed)", fontsize=10)
        axis.set_ylim(0, 100)
    for axis in axes:
        axis.set_xlabel("epoch")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("%")
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=min(len(arms), 5, 1 + 2 * len(layers)),
        fontsize=9,
    )
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    return path


def _curve(axis: Any, runs: Sequence[Sequence[float]], colour: str, name: str) -> None:
    """The mean over seeds, and the range from the least to the greatest."""
    values = 100 * np.array(runs)
    epochs = np.arange(1, values.shape[1] + 1)
    axis.plot(epochs, values.mean(0), color=colour, label=name, linewidth=1.5)
    axis.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)
