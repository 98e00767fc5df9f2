"""The strength of recurrence in a recurrent layer, forwards and backwards: measured, and set.

A recurrent layer receives its own spikes, and its gradient goes back through itself. Forwards, condition II of
`rheobase.stability.conditions` applies: recurrent weights are made as strong as the input. Backwards, the dampening of the
surrogate decides. With decay a, N recurrent weights of variance V to each neuron and a surrogate f, a step back in time
multiplies the variance of the gradient by `c = a^2 + N V E[f^2]`. A gradient that is random at every step then has, over all
steps, `(1 - a^2) / (1 - c)` times the energy that it has without the recurrence, and that ratio can be measured, whatever the
neurons are and however their steps depend on each other. At twice the energy, recurrence brings back as much as the membrane:
in theory the gradient is then even through depth as well, where the next layer's weights are as large. But weights grow in
training, and what has come back through many spikes is mostly noise: with 1.5 times the energy networks learned as much, or
more.
"""

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from rheobase.layers.initialization import FEW
from rheobase.neurons import RecurrentLIF
from rheobase.stability.solve import solve

GAIN = 0.5
"""What recurrence adds to the energy of a gradient, relative to the energy without it."""

_NOTHING = 1e-6


def centre(weight: Tensor) -> None:
    """Subtract the mean from the recurrent weights of each neuron, except those to itself."""
    count = len(weight)
    if count > FEW:
        others = ~torch.eye(count, dtype=torch.bool, device=weight.device)
        weight.sub_(others * ((weight * others).sum(1, keepdim=True) / (count - 1)))


def balance(weight: Tensor, x: Tensor, rate: float) -> float:
    """The factor that makes recurrent weights as strong as the input `x`, at a firing rate."""
    recurrent = weight.square().sum(1).mean() * rate
    return (x.var() / recurrent).sqrt().item() if recurrent > 0 else 1.0


def balanced_dampening(
    layer: RecurrentLIF, on_current: Callable[[Tensor, float], Tensor], on_spikes: Tensor, dampening: float, seed: int
) -> float | None:
    """The dampening with which recurrence adds `GAIN` to a gradient's energy; None where nothing comes back through it.

    The gradient of the spikes is random at every step, so that what comes from different steps adds up in squares.

    Args:
        layer: the neurons.
        on_current: from the gradient of their spikes and a dampening to that of their currents.
        on_spikes: a gradient of the spikes, used for its shape and type.
        dampening: where the search starts.
        seed: seed of the random gradient.
    """
    if layer.detach_recurrent:
        return None
    noise = torch.randn(on_spikes.shape, generator=torch.Generator().manual_seed(seed)).to(on_spikes)

    def energy(dampening: float, detached: bool) -> float:
        layer.detach_recurrent = detached
        try:
            return on_current(noise, dampening).double().square().sum().item()
        finally:
            layer.detach_recurrent = False

    @cache  # the search begins at a point known to have something to find
    def gained(dampening: float) -> float:
        without = energy(dampening, detached=True)
        return energy(dampening, detached=False) / without - 1 if without else 0.0  # a gradient too small to represent

    return solve(gained, GAIN, dampening) if abs(gained(dampening)) > _NOTHING else None
