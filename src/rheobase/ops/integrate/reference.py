"""Leaky integration without a reset, as defined: one step after another, in plain PyTorch."""

import torch
from torch import Tensor


def integrate(x: Tensor, decay: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
    """The state after every step, `(T, B, *features)`, and after the last; see `rheobase.ops.integrate.integrate`."""
    # Expanded once: the gradient of the decay is then added up over the steps and reduced over the batch at the end.
    decay, state = decay.expand(x.shape[1:]), initial.expand(x.shape[1:])
    states = []
    for current in x.unbind(0):
        state = decay * state + current
        states.append(state)
    return torch.stack(states) if states else torch.empty_like(x), state
