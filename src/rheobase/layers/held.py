"""Layers that compute only once when their input is the same at every step.

An image fed in at every step, as by `rheobase.encoding.direct`, is one image in memory seen T times. A linear layer, a
convolution or pooling gives the same output each time, and is often the most expensive part of such a network: nothing else
multiplies values that are not spikes. So `Sequential` passes one step through all layers of this kind at its start, and the
first layer of another kind sees the result T times.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from rheobase.layers.products import is_bare
from rheobase.layers.spike_linear import SpikeLinear

_AXES: dict[type[nn.Module], int] = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
_OTHERS = (nn.Linear, SpikeLinear, nn.Flatten, nn.Identity, nn.AvgPool2d, nn.MaxPool2d)


def is_held(x: Tensor) -> bool:
    """Whether all steps of `(T, B, *features)` are one in memory, and no gradient of each is asked for.

    Example:
        >>> picture = torch.rand(8, 784)
        >>> is_held(picture.expand(10, 8, 784)), is_held(picture.repeat(10, 1, 1))
        (True, False)
    """
    return len(x) > 1 and x.stride(0) == 0 and not x.requires_grad and not torch.compiler.is_compiling()


def steps_are_alike(layer: nn.Module, x: Tensor) -> bool:
    """Whether `layer` computes for each step of `x`, `(T, B, *features)`, what it would for that step alone, with no hook on
    it.

    It is false, for instance, for a layer that draws random numbers or takes batch statistics. A hook may count steps.
    """
    kind = type_before_parametrizations(layer)
    if kind in _AXES:  # without a channel axis, they would mistake samples for channels
        return is_bare(layer) and x.ndim == 3 + _AXES[kind]
    return kind in _OTHERS and is_bare(layer)
