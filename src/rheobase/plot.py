"""Plots of what a network does: a raster of spikes, membrane potentials over time, and all layers at once.

A silent layer, one that fires at every step, a burst at the start: a raster shows these at a glance, a table of rates does not.
Each function draws on the given axes, or on a new figure, and returns what it drew on; the rest is plain matplotlib: `pip
install 'rheobase[plots]'`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from rheobase.health import record_spikes
from rheobase.modes import evaluating

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["activity", "raster", "traces"]

_BLACK, _GREY, _CHOSEN = "#222222", "#bbbbbb", "#c1272d"
_MOST_UNITS = 400
"""With more, the mark of a spike would be less than a pixel high: shades instead."""


def raster(
    spikes: Shaped[Tensor, "T B *features"], sample: int = 0, *, axes: "Axes | None" = None, title: str | None = None
) -> "Axes":
    """The spikes of one sample: one mark each, steps to the right, units upwards.

    Values other than spikes, such as an analog image, are drawn in shades of grey, and so are more units than pixels.

    Args:
        spikes: of a layer, or the network's input, `(T, B, *features)`; features are numbered row by row.
        sample: which of the B samples.
        axes: where to draw; None makes a new figure.
        title: the title; None is the share of units and steps with a spike.

    Returns:
        The axes; `axes.figure.savefig("raster.png")` saves the picture.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if `spikes` has no features axis, or there is no such sample.

    Example:
        >>> axes = raster((torch.rand(50, 8, 20) < 0.1).float(), sample=3, title="some noise")
        >>> axes.get_xlabel(), axes.get_ylabel()
        ('step', 'unit')
    """
    values = _of_sample(spikes, sample, "raster", "spikes")
    axes = axes or _figure(2.6).subplots()
    steps, units = values.shape
    if units <= _MOST_UNITS and bool(((values == 0) | (values == 1)).all()):
        when, which = np.nonzero(values)
        axes.vlines(when, which - 0.5, which + 0.5, color=_BLACK, linewidth=1.5)
    else:
        extent = (-0.5, steps - 0.5, -0.5, units - 0.5)
        axes.imshow(values.T, cmap="Greys", aspect="auto", origin="lower", extent=extent)
    share = np.count_nonzero(values) / max(values.size, 1)
    axes.set(xlabel="step", ylabel="unit", xlim=(-0.5, steps - 0.5), ylim=(-0.5, units - 0.5))
    axes.set_title(f"{100 * share:.2g} %" if title is None else title, fontsize=10)
    return axes


def traces(
    values: Float[Tensor, "T B *features"],
    sample: int = 0,
    *,
    chosen: int | None = None,
    names: Sequence[str] = (),
    threshold: float | None = None,
    axes: "Axes | None" = None,
    title: str = "",
) -> "Axes":
    """Values of one sample over time, a line for each unit: membrane potentials, or the network's output.

    Args:
        values: such as `layer.membrane(current)` or `network(x)`, `(T, B, *features)`.
        sample: which of the B samples.
        chosen: a unit to highlight, such as the true class.
        names: the names of the units, such as the classes; by default their numbers.
        threshold: draws a dotted line at this value, where neurons fire.
        axes: where to draw; None makes a new figure.
        title: the title.

    Returns:
        The axes.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if `values` has no features axis, or there is no such sample or unit.

    Example:
        >>> import rheobase as rb
        >>> current = torch.rand(50, 1, 3)
        >>> axes = traces(rb.LIF(3).membrane(current), chosen=1, threshold=1.0)
        >>> len(axes.lines)  # three units, one of them once more, and the threshold
        5
    """
    lines = _of_sample(values, sample, "traces", "values")
    if chosen is not None and not 0 <= chosen < lines.shape[1]:
        raise ValueError(f"traces: chosen must be a unit, 0 to {lines.shape[1] - 1}, got {chosen}")
    axes = axes or _figure(2.6).subplots()
    axes.plot(lines, color=_BLACK if lines.shape[1] == 1 else _GREY, linewidth=0.9)
    if chosen is not None:
        name = names[chosen] if chosen < len(names) else f"unit {chosen}"
        axes.plot(lines[:, chosen], color=_CHOSEN, linewidth=1.6, label=name)
        axes.legend(loc="upper left", fontsize=8)
    if threshold is not None:
        axes.axhline(threshold, color=_BLACK, linewidth=0.8, linestyle="dotted")
    axes.set(xlabel="step", xlim=(-0.5, len(lines) - 0.5))
    axes.set_title(title, fontsize=10)
    return axes


def activity(
    network: nn.Module,
    x: Float[Tensor, "T B *features"],
    sample: int = 0,
    *,
    label: int | None = None,
    names: Sequence[str] = (),
) -> "Figure":
    """The input, the spikes of every layer of neurons, and the output over time, for one sample, one above the other.

    Args:
        network: any module with `rheobase.Neuron` layers; it runs in evaluation mode, and its own mode is restored.
        x: the input, `(T, B, *features)`.
        sample: which of the B samples.
        label: the true class, highlighted among the outputs.
        names: the names of the classes.

    Returns:
        The figure; `figure.savefig("activity.png")` saves it, and a notebook shows it.

    Raises:
        ImportError: if matplotlib is not installed.
        ValueError: if there is no such sample or class.

    Example:
        >>> import rheobase as rb
        >>> network = rb.Sequential(nn.Linear(9, 8), rb.LIF(8), nn.Linear(8, 2), rb.LeakyReadout(2))
        >>> figure = activity(network, (torch.rand(30, 4, 9) < 0.2).float(), label=1, names=("left", "right"))
        >>> [axes.get_title().partition(",")[0] for axes in figure.axes]
        ['input', '1 LIF(8)', 'output']
    """
    _of_sample(x, sample, "activity", "x")
    x = x[:, sample : sample + 1]
    with torch.no_grad(), evaluating(network):
        spikes, output = record_spikes(network, x)
    classes = output.flatten(2).shape[2]
    if label is not None and not 0 <= label < classes:
        raise ValueError(f"activity: label must be one of the {classes} outputs, from 0, got {label}")
    shown = {"input": x, **spikes}
    figure = _figure(1.1 + 1.5 * (len(shown) + 1))
    *tops, bottom = figure.subplots(len(shown) + 1)
    for axes, (name, values) in zip(tops, shown.items(), strict=True):
        share = values.count_nonzero().item() / max(values.numel(), 1)
        raster(values, axes=axes, title=f"{name}, {100 * share:.2g} %").set_xlabel("")
    traces(output, chosen=label, names=names, axes=bottom, title="output")
    return figure


def _of_sample(values: Tensor, sample: int, function: str, argument: str) -> Float[np.ndarray, "T units"]:
    """The values of one sample, one column per unit."""
    if values.ndim < 3:
        raise ValueError(f"{function}: {argument} must be (T, B, *features), got shape {tuple(values.shape)}")
    if not 0 <= sample < values.shape[1]:
        raise ValueError(f"{function}: sample must be one of the {values.shape[1]} in {argument}, from 0, got {sample}")
    return values[:, sample].detach().cpu().float().flatten(1).numpy()


def _figure(height: float) -> "Figure":
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("rheobase.plot draws with matplotlib; install it: pip install 'rheobase[plots]'") from None
    return Figure(figsize=(7, height), layout="constrained")
