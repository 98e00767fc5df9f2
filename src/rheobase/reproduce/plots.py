"""The plots of a study: how each arm learns, and how many of its neurons are silent or dead meanwhile.

The curves of many arms could not be told apart. Then the plot shows their results: over a number in which they differ, which is
a setting of the recipe and names the axis; an arm where two curves meet is a point of both. Or, where arms differ in something
other than numbers, each has its own line, compared with the first.

matplotlib draws them. It is an optional dependency: `pip install 'rheobase[plots]'`; without it the page has no pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from rheobase.files import atomic_write
from rheobase.recipes import Recipe
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
"""Okabe and Ito's colours, distinguishable to the colour-blind, and two more."""


def draw(table: Table, folder: Path, stem: str) -> dict[str, Path]:
    """Draw a plot of each experiment that has rows.

    Args:
        table: the rows.
        folder: the folder of the plots, `STEM-EXPERIMENT.png`.
        stem: the beginning of their names.

    Returns:
        The plots, by experiment; none without matplotlib.
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


@dataclass(frozen=True)
class _Panel:
    """Curves over the same axis: epochs, where there are no ticks, or settings, with a tick at each value."""

    axis: str
    curves: Mapping[str, _Curves]
    ticks: Sequence[float] = ()


def _draw(table: Table, name: str, path: Path) -> Path:
    from matplotlib.figure import Figure

    layers = _layers([row for rows in table.arms(name).values() for row in rows.values()])
    panels = _panels(table, name)
    if not panels:
        figure = _in_lines(table.arms(name), layers)
        return _save(figure, path)
    figure = Figure(figsize=(4.2 * (1 + len(layers)), 0.8 + 2.8 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), 1 + len(layers), squeeze=False, sharey="col")
    colours = iter(_COLOURS * 3)
    for panel, axes in zip(panels, grid, strict=True):
        for label, curves in panel.curves.items():
            colour = next(colours)
            _curve(axes[0], curves.at, curves.accuracy, colour, label)
            # An arm may have fewer layers of neurons, or none.
            for axis, silent, dead in zip(axes[1:], curves.silent, curves.dead, strict=False):
                _curve(axis, curves.at, silent, colour, label)
                means = [100 * np.mean(values) for values in dead]
                axis.plot(curves.at, means, color=colour, linewidth=1, linestyle="dashed")
        _finish(panel, axes, table.experiments[name].chance)
    grid[0][0].set_title("test accuracy" if panels[0].ticks else "validation accuracy", fontsize=10)
    for axis, layer in zip(grid[0][1:], layers, strict=True):
        axis.set_title(f"{layer}: silent in a sample, dead (dashed)", fontsize=9)
    keys = [axes[0].get_legend_handles_labels() for axes in grid]
    lines, labels = ([item for key in keys for item in key[which]] for which in (0, 1))
    ncols = min(len(labels), 5, 1 + 2 * len(layers))
    figure.legend(lines, labels, loc="outside lower center", ncols=ncols, fontsize=9)
    return _save(figure, path)


def _save(figure: Any, path: Path) -> Path:
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Software": None})
    return path


def _in_lines(arms: Mapping[str, Mapping[int, Row]], layers: Sequence[str]) -> Any:
    """A line for each arm, from the top: small points for seeds, and their mean; hollow points are dead neurons."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * (1 + len(layers)), 0.8 + 0.24 * len(arms)), layout="constrained")
    accuracy, *others = figure.subplots(1, 1 + len(layers), squeeze=False, sharey=True)[0]
    for line, rows in enumerate(arms.values()):
        runs = list(rows.values())
        _points(accuracy, line, [run.test_accuracy for run in runs], "full")
        for layer, axis in enumerate(others[: len(runs[0].layers)]):
            _points(axis, line, [run.silent[-1][layer] for run in runs], "full")
            _points(axis, line, [run.dead[-1][layer] for run in runs], "none")
    accuracy.set_yticks(range(len(arms)), list(arms), fontsize=8.5)
    accuracy.invert_yaxis()
    accuracy.set_title("test accuracy", fontsize=10)
    first = [row.test_accuracy for row in next(iter(arms.values())).values()]
    accuracy.axvline(100 * np.mean(first), color="#666666", linewidth=1, linestyle="dotted")
    for axis, layer in zip(others, layers, strict=True):
        axis.set_title(f"{layer}: silent in a sample, dead (hollow)", fontsize=9)
        axis.set_xlim(-3, 103)
    for axis in (accuracy, *others):
        axis.set_xlabel("%")
        axis.grid(alpha=0.3)
    return figure


def _points(axis: Any, line: int, values: Sequence[float], filled: str) -> None:
    seeds = [100 * value for value in values]
    axis.plot(seeds, [line] * len(seeds), "o", color=_COLOURS[0], alpha=0.35, markersize=3.5, fillstyle=filled)
    axis.plot([np.mean(seeds)], [line], "o", color=_COLOURS[0], markersize=6.5, fillstyle=filled, zorder=3)


def _finish(panel: _Panel, axes: Any, chance: float | None) -> None:
    """What belongs to a panel beside its curves."""
    from matplotlib.ticker import MaxNLocator

    for axis in axes:
        axis.set_xlabel(panel.axis)
        axis.grid(alpha=0.3)
        if panel.ticks:
            axis.set_xscale("log")
            axis.set_xticks(panel.ticks, [f"{value:g}" for value in panel.ticks], fontsize=7.5)
            axis.minorticks_off()
        else:
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylabel("%")
    if chance is not None:
        axes[0].axhline(100 * chance, color="#666666", linewidth=1, linestyle="dotted")
        beside = {"ha": "right", "va": "bottom", "fontsize": 8, "color": "#666666"}
        axes[0].text(0.99, 100 * chance, "chance", transform=axes[0].get_yaxis_transform(), **beside)
    for axis in axes[1:]:
        axis.set_ylim(0, 100)


def _layers(rows: Sequence[Row]) -> Sequence[str]:
    """The names of layers of neurons, or numbers where runs have layers of different names."""
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


@dataclass(frozen=True)
class _Series:
    """Arms that are a curve over a setting: the value of each."""

    setting: str
    arms: dict[str, float]

    def meets(self, other: "_Series") -> bool:
        """Whether both are over the same setting, or have an arm in common."""
        return self.setting == other.setting or bool(self.arms.keys() & other.arms)


def _panels(table: Table, name: str) -> list[_Panel]:
    """Curves over epochs, or, of many arms, over a setting; none, of many that are no curve."""
    planned, arms = table.experiments[name].arms, table.arms(name)
    if len(planned) <= len(_COLOURS):
        return [_Panel("epoch", {arm: _over_epochs(rows) for arm, rows in arms.items()})]
    series = _series(planned)
    if series is None:
        return []
    done = {
        label: _Series(one.setting, {arm: value for arm, value in one.arms.items() if arm in arms})
        for label, one in series.items()
    }
    return [
        _Panel(
            " or ".join(dict.fromkeys(one.setting.replace("_", " ") for one in group.values())),
            {
                label: _over_values({value: list(arms[arm].values()) for arm, value in one.arms.items()})
                for label, one in group.items()
            },
            sorted({value for one in group.values() for value in one.arms.values()}),
        )
        for group in _grouped({label: one for label, one in done.items() if one.arms})
    ]


def _grouped(series: Mapping[str, _Series]) -> list[dict[str, _Series]]:
    """Those that meet, together."""
    groups: list[dict[str, _Series]] = []
    for label, one in series.items():
        group = next((group for group in groups if any(one.meets(other) for other in group.values())), None)
        if group is None:
            groups.append({label: one})
        else:
            group[label] = one
    return groups


def _series(arms: Mapping[str, Recipe]) -> dict[str, _Series] | None:
    """Arms `"NAME VALUE"` or `"NAME, VALUE"` as a curve for each name, over a setting that has this value, above 0.

    An arm with a unique name is a point of all curves from whose arms it differs only in their setting. None if an arm has no
    place.
    """
    settings = {arm: _settings(recipe) for arm, recipe in arms.items()}
    named: dict[str, dict[str, float]] = {}
    for arm in arms:
        label, _, number = arm.rpartition(" ")
        try:
            value = float(number)
        except ValueError:
            return None
        if not (label and value > 0):
            return None
        named.setdefault(label.removesuffix(","), {})[arm] = value
    found: dict[str, _Series] = {}
    for label, values in named.items():
        if len(values) > 1:
            keys = settings[next(iter(values))]
            setting = next((key for key in keys if all(settings[arm][key] == values[arm] for arm in values)), None)
            if setting is None:
                return None
            found[label] = _Series(setting, values)
    for arm in (next(iter(values)) for values in named.values() if len(values) == 1):
        fitting = [
            one for one in found.values() if _differ_in(settings[arm], settings[next(iter(one.arms))], one.setting)
        ]
        if not fitting:
            return None
        for one in fitting:
            one.arms[arm] = settings[arm][one.setting]
    return found


def _settings(recipe: Recipe) -> dict[str, Any]:
    found = asdict(recipe)
    return found.pop("training") | found


def _differ_in(settings: Mapping[str, Any], others: Mapping[str, Any], setting: str) -> bool:
    """Whether these are the same except for `setting`."""
    return {**settings, setting: None} == {**others, setting: None}


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
    """The mean over seeds, and the range from the least to the greatest, so light that the others are seen through it."""
    marker = "o" if len(at) < 10 else ""  # of few places, each is seen, and a single one at all
    means = [100 * np.mean(each) for each in values]
    axis.plot(at, means, color=colour, label=name, linewidth=1.5, marker=marker, markersize=5, zorder=3)
    low, high = ([100 * pick(each) for each in values] for pick in (min, max))
    edge = 0.6 if marker else 0.0  # of many, edges are one more tangle
    axis.fill_between(at, low, high, facecolor=(colour, 0.08), edgecolor=(colour, 0.35), linewidth=edge)
