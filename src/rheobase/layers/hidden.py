"""Which layers of a `Sequential` compute as one: neurons that fire once, between two linear layers.

As one they need none of the sequences that pass between them (`rheobase.ops.hidden_single_spike`), and so nobody can see
these sequences. That is for networks in training, where nobody looks: as soon as a hook is registered on one of the three
layers, to count its spikes or to mask padding, they compute one after another, and so do layers of a derived class, of which
nobody knows what else they do.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules import module

from rheobase.neurons import SingleSpike
from rheobase.ops.hidden_single_spike import in_one

TOGETHER = 3
"""So many layers."""


def together(layers: Sequence[nn.Module], x: Tensor) -> Tensor | None:
    """What these layers make of `x`, `(T, B, outputs)`, computed as one; None where they are better computed one by one.

    Args:
        layers: the next layers of a network, up to three.
        x: what reaches the first of them, from rest.
    """
    if torch.compiler.is_compiling():  # which has ways of its own to join layers
        return None
    if [type(layer) for layer in layers] != [nn.Linear, SingleSpike, nn.Linear] or not all(map(_is_bare, layers)):
        return None
    linear, neurons, behind = layers
    assert isinstance(linear, nn.Linear) and isinstance(neurons, SingleSpike) and isinstance(behind, nn.Linear)  # noqa: PT018
    if neurons.features not in (None, len(linear.weight)):
        return None
    weights = linear.weight, linear.bias, neurons.decay, neurons.threshold, behind.weight, behind.bias
    return in_one(x, *weights, neurons.credit, neurons.fire_by_end, neurons.surrogate)


def _is_bare(layer: nn.Module) -> bool:
    """Whether a call of `layer` is a call of its class's `forward`, and nothing else."""
    hooks = layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks
    return not (any(hooks) or module._has_any_global_hook() or "forward" in vars(layer))
