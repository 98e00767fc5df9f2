"""Recurrent leaky integrate-and-fire neurons, as defined: `lif` one step at a time, fed with the spikes of the step before."""

import torch
from torch import Tensor
from torch.nn import functional

from rheobase.ops.lif import reference
from rheobase.ops.lif.reset import Reset, ResetGradient
from rheobase.surrogate import Surrogate


def recurrent_lif(
    x: Tensor,
    weight: Tensor,
    decay: Tensor,
    threshold: Tensor,
    membrane: Tensor,
    spikes: Tensor,
    reset: Reset,
    surrogate: Surrogate,
    reset_gradient: ResetGradient,
    detach_recurrent: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes `(T, B, N)`, membrane potential and spikes after the last step; see `rheobase.ops.recurrent.recurrent_lif`."""
    decay, threshold, membrane, spikes = (value.expand(x.shape[1:]) for value in (decay, threshold, membrane, spikes))
    fired = []
    for current in x.unbind(0):
        sent = spikes.detach() if detach_recurrent else spikes
        current = current + functional.linear(sent, weight)
        step, membrane = reference.lif(
            current.unsqueeze(0), decay, threshold, membrane, reset, surrogate, reset_gradient
        )
        (spikes,) = step.unbind(0)
        fired.append(spikes)
    return torch.stack(fired) if fired else torch.empty_like(x), membrane, spikes
