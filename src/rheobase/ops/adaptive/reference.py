"""The adaptive neuron with a refractory period, as defined: step by step, and block by block; in plain PyTorch.

`sequential` is what the neuron is. A neuron that rests for R steps after each spike cannot fire twice within `L = R + 1` steps,
and `blocks` uses that: within a block of L steps nothing that a spike does to its neuron can lead to another spike, so that
the whole block is computed at once, and what the spike did is made good at the block's end. This is exact: both have the same
spikes. T steps become T / L rounds, which on a GPU, in plain PyTorch, is the faster way to compute the same.

They learn differently. `sequential` has the surrogate gradient of every step; `blocks` has one for all the steps of a block
together, the gradient of its authors.

In both, a neuron may hear the spikes of all others, L steps late. The delay is part of the model: it is what lets a block be
computed without knowing its own spikes.

Source: Taylor, King and Harper, "Addressing the speed-accuracy simulation trade-off for adaptive spiking neurons", arXiv
2311.11390, 2023.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from rheobase.surrogate import Surrogate


def sequential(
    x: Tensor,
    decay: Tensor,
    threshold: Tensor,
    adaptation_decay: Tensor,
    adaptation: Tensor,
    state: Sequence[Tensor],
    refractory: int,
    surrogate: Surrogate,
    weight: Tensor | None = None,
    sent: Tensor | None = None,
    detach_recurrent: bool = True,
) -> tuple[Tensor, list[Tensor]]:
    """One step after another.

    Args:
        x: the input current, `(T, B, *features)`.
        decay: what the membrane potential keeps per step, broadcasting to `(B, *features)`, as all parameters and states.
        threshold: where a neuron fires that has not fired yet.
        adaptation_decay: what the trace keeps per step.
        adaptation: by how much a spike raises the threshold.
        state: before the first step: the membrane potential, the trace, and how many refractory steps are left.
        refractory: R, for how many steps after a spike a neuron hears nothing.
        surrogate: the gradient of a spike.
        weight: recurrent weights `(N, N)`; None for none.
        sent: the spikes of the R + 1 steps before the first, `(R + 1, B, N)`, if there are recurrent weights.
        detach_recurrent: keep the gradient from going back through the recurrent spikes.

    Returns:
        The spikes, `(T, B, *features)`, and the state after the last step.
    """
    parameters = (decay, threshold, adaptation_decay, adaptation, *state)
    decay, threshold, adaptation_decay, adaptation, membrane, trace, resting = (
        value.expand(x.shape[1:]) for value in parameters
    )
    arriving = [] if sent is None else list(sent.unbind(0))  # what arrives at each step: at t, the spikes of t - L
    spikes = []
    for t, current in enumerate(x.unbind(0)):
        if weight is not None:
            current = current + functional.linear(arriving[t].detach() if detach_recurrent else arriving[t], weight)
        current = torch.where(resting > 0, 0.0, current)
        membrane = decay * membrane + current
        spike = surrogate.spike(membrane - (threshold + adaptation * trace))
        fires = spike.detach() > 0
        membrane = torch.where(fires, 0.0, membrane)
        trace = adaptation_decay * trace + spike
        resting = torch.where(fires, float(refractory), (resting - 1).clamp(min=0))
        spikes.append(spike)
        arriving.append(spike)
    return torch.stack(spikes) if spikes else torch.empty_like(x), [membrane, trace, resting]


def blocks(
    x: Tensor,
    decay: Tensor,
    threshold: Tensor,
    adaptation_decay: Tensor,
    adaptation: Tensor,
    state: Sequence[Tensor],
    refractory: int,
    surrogate: Surrogate,
    weight: Tensor | None = None,
    sent: Tensor | None = None,
    detach_recurrent: bool = True,
) -> tuple[Tensor, list[Tensor]]:
    """One block of R + 1 steps after another, the first of which starts with the first step; the last may be shorter.

    Arguments and results are those of `sequential`. (Only a NaN in `x` is treated otherwise: it spreads over all of its block,
    backwards in time, too.)
    """
    membrane, trace, resting = (value.expand(x.shape[1:]) for value in state)
    spikes = []
    for current in x.split(refractory + 1) if len(x) else ():
        steps, offset = len(current), _offsets(current)
        to_end = steps - 1 - offset
        if weight is not None and sent is not None:
            arriving = sent[:steps].detach() if detach_recurrent else sent[:steps]
            current = current + functional.linear(arriving, weight)
        current = torch.where(offset < resting, 0.0, current)

        # The block as if none of its spikes did anything.
        membranes = _leak(current, decay) + decay ** (offset + 1) * membrane
        thresholds = threshold + adaptation * (adaptation_decay**offset * trace)
        crossings = surrogate.spike(membranes - thresholds)
        # A ramp that is 1 at the first crossing and nowhere else. Its own gradient passes straight through this choice.
        ramp = crossings.cumsum(0).cumsum(0)
        first = ((ramp == 1).to(x.dtype) - ramp).detach() + ramp

        # What the spike, if there is one, has done by the end of the block.
        spike = first.detach()
        fired = spike.any(0)
        membrane = torch.where(fired, 0.0, membranes[-1])
        trace = adaptation_decay**steps * trace + (spike * adaptation_decay**to_end).sum(0)
        resting = torch.where(fired, refractory - (spike * to_end).sum(0), (resting - steps).clamp(min=0))
        if sent is not None:
            sent = torch.cat((sent, first))[steps:]
        spikes.append(first)
    return torch.cat(spikes) if spikes else torch.empty_like(x), [membrane, trace, resting]


def _offsets(current: Tensor) -> Tensor:
    """The steps of a block from 0 on, with an axis of size 1 for each of a step's."""
    return torch.arange(len(current), dtype=current.dtype, device=current.device).view(-1, *[1] * (current.ndim - 1))


def _leak(current: Tensor, decay: Tensor) -> Tensor:
    """The membrane potential at every step of a block that starts at 0: `sum over k <= t of decay^(t-k) current[k]`."""
    offset = _offsets(current)
    lag = offset.unsqueeze(1) - offset
    kernel = torch.where(lag < 0, 0.0, decay ** lag.clamp(min=0))
    return torch.einsum("tk...,k...->t...", kernel, current)
