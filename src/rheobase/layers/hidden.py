"""Which layers of a `Sequential` compute as one: neurons that fire once, with the layers before and after them.

As one they need none of the sequences that pass between them (`rheobase.ops.hidden_single_spike`, between linear layers, and
`rheobase.ops.pooled_single_spike`, before pooling), so these sequences cannot be observed. That suits plain training: as soon
as a hook is registered on one of the layers, to count its spikes or to mask padding, they compute one after another, and so do
layers of a derived class, which may do anything else. Linear layers with standardized weights compute like those with plain
weights, and so does what they fold into, bit for bit.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from rheobase.layers.hold import Hold
from rheobase.layers.pooling import SpikeMaxPool2d
from rheobase.layers.products import is_bare, pools_2x2
from rheobase.layers.standardized import only_standardized
from rheobase.neurons import SingleSpike
from rheobase.ops.arguments import as_step
from rheobase.ops.hidden_single_spike import in_one, worthwhile
from rheobase.ops.pooled_single_spike import in_one as pooled_in_one

MOST = 3
"""At most this many layers."""


def together(layers: Sequence[nn.Module], x: Tensor) -> tuple[Tensor, int] | None:
    """The output of the first of these layers for `x`, computed as one, and how many they are; None if none compute as one.

    Args:
        layers: the next layers of a network, up to three.
        x: what reaches the first of them, from rest.
    """
    if torch.compiler.is_compiling():  # which fuses layers in its own way
        return None
    y, count = None, 0
    match list(layers):
        case [nn.Linear() as linear, SingleSpike() as neurons, nn.Linear() as behind]:
            y, count = _hidden(linear, neurons, behind, x), 3
        case [Hold() as hold, SingleSpike() as neurons, nn.AvgPool2d() | SpikeMaxPool2d() as pooling] if len(
            x
        ) == 1 and _are_bare(hold):
            y, count = _pooled(neurons, pooling, x, hold.steps), 3
        case [SingleSpike() as neurons, nn.AvgPool2d() | SpikeMaxPool2d() as pooling, *_]:
            y, count = _pooled(neurons, pooling, x, len(x)), 2
    return None if y is None else (y, count)


def _hidden(linear: nn.Linear, neurons: SingleSpike, behind: nn.Linear, x: Tensor) -> Tensor | None:
    # A standardized weight is computed on every access: avoid needless ones.
    if not _are_bare(linear, neurons, behind) or not worthwhile(x, linear.out_features, behind.out_features):
        return None
    weight = linear.weight
    if neurons.features not in (None, len(weight)):
        return None
    weights = weight, linear.bias, neurons.decay, neurons.threshold, behind.weight, behind.bias
    return in_one(x, *weights, neurons.credit, neurons.fire_by_end, neurons.surrogate)


def _pooled(neurons: SingleSpike, pooling: nn.AvgPool2d | SpikeMaxPool2d, x: Tensor, steps: int) -> Tensor | None:
    if not _are_bare(neurons, pooling) or not pools_2x2(pooling):
        return None
    if x.ndim != 5 or neurons.features not in (None, x.shape[2]):
        return None
    # In the type of the membrane potential, which is that of `x`, not that of the neurons.
    decay, threshold = (
        as_step(neurons.per_feature(name, x), name, x, "SingleSpike") for name in ("decay", "threshold")
    )
    kind = "average" if isinstance(pooling, nn.AvgPool2d) else "maximum"
    return pooled_in_one(x, steps, decay, threshold, neurons.credit, neurons.fire_by_end, neurons.surrogate, kind)


def _are_bare(*layers: nn.Module) -> bool:
    """Whether each of the layers is of exactly its class, except for a standardized weight, and calling it only calls its
    class's `forward`."""
    classes = nn.Linear, SingleSpike, Hold, nn.AvgPool2d, SpikeMaxPool2d
    return all(_class_of(layer) in classes and is_bare(layer) for layer in layers)


def _class_of(layer: nn.Module) -> type[nn.Module]:
    return type_before_parametrizations(layer) if only_standardized(layer) else type(layer)
