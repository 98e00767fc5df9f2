"""Pooling of neurons that fire once: why not the maximum, and how to get it nevertheless.

A neuron that fires once encodes a time. The average over a window is linear: each spike arrives once, with its share, and the
pooling and the layer behind it are one linear layer. The maximum of a window is taken at each step, so a pooled unit fires
whenever one of its window does: for 2 x 2 neurons that each fire once in 8 steps, 3.3 times on average. That silently breaks
what the network is built on. So `Sequential` refuses it, unless it is requested by a layer whose name says what it does.
"""

import math
from collections.abc import Iterable, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from rheobase.layers.dropout import Dropout
from rheobase.neurons import SingleSpike

PASSES_SPIKES_ON = (nn.Flatten, nn.Unflatten, nn.Identity, _DropoutNd, Dropout)
"""Layers behind which a spike is still a spike at the same step."""

_LEAVES_THEM_APART = (
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.MaxPool2d,
    nn.ReLU,
    _BatchNorm,
)
"""Layers behind which it is a number at the same step, beside others: a maximum over them multiplies it all the same."""

MAXIMUM = (
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
    nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d,
)


class SpikeMaxPool2d(nn.MaxPool2d):
    """A unit fires at each step at which one in its window fires: up to k^2 times, where each in the window fires once.

    It computes what `torch.nn.MaxPool2d` computes, and takes the same arguments. A `Sequential` refuses that behind a
    `SingleSpike`, and takes this: the name says that one spike for each unit is not what is wanted.

    Example:
        >>> import torch
        >>> spikes = torch.eye(4).view(4, 1, 2, 2)  # of the four units of a window, one at each step
        >>> SpikeMaxPool2d(2)(spikes).flatten()
        tensor([1., 1., 1., 1.])
    """


def window_size(pooling: nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d | SpikeMaxPool2d) -> int:
    """How many units a pooling puts together.

    Example:
        >>> window_size(nn.AvgPool1d(3)), window_size(nn.AvgPool2d((2, 3))), window_size(SpikeMaxPool2d(2))
        (3, 6, 4)
    """
    return math.prod(_by_axis(pooling, pooling.kernel_size))


def divisor(pooling: nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d) -> int:
    """By what the sum over a window is divided: the units in it, unless `divisor_override` says otherwise; 1 is a sum.

    It is that of windows within the picture, see `divides_alike`.

    Example:
        >>> divisor(nn.AvgPool2d(2)), divisor(nn.AvgPool2d(2, divisor_override=1))
        (4, 1)
    """
    return getattr(pooling, "divisor_override", None) or window_size(pooling)


def divides_alike(pooling: nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d, shape: Sequence[int]) -> bool:
    """Whether at inputs of this shape the sums over all windows are divided by the same number.

    They are not where those at the border count only the units that are there: without `count_include_pad`, or with
    `ceil_mode`, by which the last of them may stick out.

    Example:
        >>> divides_alike(nn.AvgPool1d(2, padding=1), (1, 4)), divides_alike(nn.AvgPool1d(2, ceil_mode=True), (1, 5))
        (True, False)
    """
    if getattr(pooling, "divisor_override", None):
        return True
    pads = _by_axis(pooling, pooling.padding)
    if any(pads) and not pooling.count_include_pad:
        return False
    windows = zip(_by_axis(pooling, pooling.kernel_size), _by_axis(pooling, pooling.stride), strict=True)
    sizes = [size + 2 * pad for size, pad in zip(shape[-len(pads) :], pads, strict=True)]
    return not pooling.ceil_mode or not any((size - k) % s for size, (k, s) in zip(sizes, windows, strict=True))


def _by_axis(pooling: nn.Module, setting: int | tuple[int, ...]) -> tuple[int, ...]:
    """A setting of a pooling, for each axis that is pooled."""
    axes = 1 if isinstance(pooling, nn.AvgPool1d) else 3 if isinstance(pooling, nn.AvgPool3d) else 2
    return tuple(setting) if isinstance(setting, tuple | list) else (setting,) * axes


def check_pooling(layers: Iterable[tuple[str, nn.Module]]) -> None:
    """Refuse max pooling of the spikes of neurons that fire once.

    Args:
        layers: the names and layers of a network, in the order of the data.

    Raises:
        TypeError: naming the layer, the reason and what to use instead.
    """
    source: str | None = None
    for name, layer in layers:
        if isinstance(layer, MAXIMUM) and not isinstance(layer, SpikeMaxPool2d) and source is not None:
            raise TypeError(
                f"Sequential: layer {name}, {type(layer).__name__}, takes the maximum over spikes of the SingleSpike neurons "
                f"of layer {source}, at each step: a unit behind it fires whenever one of its window does, so more than "
                "once. Use nn.AvgPool, through which each spike passes once; or, if this is intended, rheobase.SpikeMaxPool2d"
            )
        if isinstance(layer, SingleSpike):
            source = name
        elif not isinstance(layer, (*PASSES_SPIKES_ON, *_LEAVES_THEM_APART)):
            source = None
