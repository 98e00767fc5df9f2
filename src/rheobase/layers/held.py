"""Layers that compute once what is the same at every step.

A picture that is fed in at every step, as `rheobase.encoding.direct` does it, is one picture in memory that is seen T times. A
linear layer, a convolution or pooling makes the same of it each time, and is often the largest part of such a network: nothing
else multiplies what is not spikes. So `Sequential` takes one step through all layers of this kind at its start, and lets the
first layer that is of another kind see what comes out T times.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from rheobase.layers.products import is_bare
from rheobase.layers.spike_linear import SpikeLinear

_AXES: dict[type[nn.Module], int] = {nn.Conv1d: 1, nn.Conv2d: 2, nn.Conv3d: 3}
_OTHERS = (nn.Linear, SpikeLinear, nn.Flatten, nn.Identity, nn.AvgPool2d, nn.MaxPool2d)


def is_held(x: Tensor) -> bool:
    """Whether all steps of `(T, B, *features)` are one in memory, and nobody asks for the gradient of each.

    Example:
        >>> picture = torch.rand(8, 784)
        >>> is_held(picture.expand(10, 8, 784)), is_held(picture.repeat(10, 1, 1))
        (True, False)
    """
    return len(x) > 1 and x.stride(0) == 0 and not x.requires_grad and not torch.compiler.is_compiling()


def steps_are_alike(layer: nn.Module, x: Tensor) -> bool:
    """Whether `layer` makes of each step of `x`, `(T, B, *features)`, what it would make of it alone, and nobody looks on.

    Not so, for instance, of what draws random numbers, or measures a batch. A hook may count steps.
    """
    kind = type_before_parametrizations(layer)
    if kind in _AXES:  # without an axis for channels, they would take samples for these
        return is_bare(layer) and x.ndim == 3 + _AXES[kind]
    return kind in _OTHERS and is_bare(layer)
