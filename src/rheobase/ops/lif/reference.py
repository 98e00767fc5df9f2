"""The leaky integrate-and-fire neuron, as defined: one step after another, in plain PyTorch.

This is what the word LIF means in this library; everything faster is tested against it. Two things are deliberate. The input
is taken apart once, by `unbind`: indexing `x[t]` inside the loop would give every step a gradient of the size of the whole
sequence, and a backward pass that is quadratic in T. And decay and threshold are expanded to the size of a step before the
loop, so that their gradients are added up step by step and reduced over the batch once.
"""

import torch
from torch import Tensor

from rheobase.ops.lif.reset import Reset, ResetGradient
from rheobase.ops.straight import with_gradient_of
from rheobase.surrogate import Surrogate


def lif(
    x: Tensor,
    decay: Tensor,
    threshold: Tensor,
    initial: Tensor,
    reset: Reset,
    surrogate: Surrogate,
    reset_gradient: ResetGradient,
) -> tuple[Tensor, Tensor]:
    """Spikes `(T, B, *features)` and the membrane potential after the last step; see `rheobase.ops.lif.lif`."""
    decay, threshold, membrane = (value.expand(x.shape[1:]) for value in (decay, threshold, initial))
    spikes = []
    for current in x.unbind(0):
        membrane = decay * membrane + current
        spike = surrogate.spike(membrane - threshold)
        spikes.append(spike)
        resetting = spike if reset_gradient == "attached" else spike.detach()
        before = membrane
        if reset == "subtract":
            membrane = membrane - threshold * resetting
        elif reset == "zero":
            membrane = membrane * (1 - resetting)
        if reset_gradient == "ignored":
            membrane = with_gradient_of(membrane, before)  # after the reset forwards, before it backwards
    return torch.stack(spikes) if spikes else torch.empty_like(x), membrane
