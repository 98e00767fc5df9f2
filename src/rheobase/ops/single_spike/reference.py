"""Neurons that fire once, as defined: one step after another, in plain PyTorch.

This is what the word single spike means in this library; everything faster is tested against it. The membrane potential knows
nothing of spikes. What follows it, the latch, lets the first crossing of the threshold through and nothing else, and there
are four of them: all give the same spikes, each with a gradient of its own.

Three things are deliberate. A latch is written as the relaxation whose gradient it has, and `with_gradient_of` gives it the
values 0 and 1. What a neuron's gradient can no longer reach is cut off by a selection, not by a product with 0, which would
turn an overflow there into NaN: what comes after is not looked at. And a spike that is forced is a constant.
"""

import torch
from torch import Tensor

from rheobase.ops.single_spike.credit import Credit
from rheobase.ops.straight import with_gradient_of
from rheobase.surrogate import Surrogate


def single_spike(
    x: Tensor,
    decay: Tensor,
    threshold: Tensor,
    initial: list[Tensor],
    credit: Credit,
    fire_by_end: bool,
    surrogate: Surrogate,
    whole: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Spikes `(T, B, *features)` and the state after the last step; see `rheobase.ops.single_spike.single_spike`.

    With `whole`, that state is not needed, and a neuron that is finished no longer has a membrane potential.
    """
    decay, threshold, membrane, fired, ramp = (value.expand(x.shape[1:]) for value in (decay, threshold, *initial))
    ends_at_spike = credit in ("early_ramp", "detached")
    over = fired.detach() > 0 if ends_at_spike else torch.zeros_like(fired, dtype=torch.bool)
    spikes = []
    for t, current in enumerate(x.unbind(0)):
        membrane = decay * (torch.where(over, 0.0, membrane) if whole else membrane) + current
        # Where it is over, a potential below the threshold stands in for the real one.
        above = surrogate.spike(torch.where(over, -1.0, membrane - threshold))
        if fire_by_end and t == len(x) - 1:
            above = (~over).to(above.dtype)
        if credit == "product":
            silent, second = 1 - fired, (fired == 1) & (above == 1)
            spike = torch.where(over, 0.0, above * silent)
            fired, over = 1 - silent * (1 - above), over | second
        elif credit == "detached":
            spike, over = above, over | (above == 1)
        else:
            # Two sums over time: how often the neuron was above its threshold, and the sum of that, 1 at the first crossing.
            fired = fired + above
            ramp = ramp + fired
            spike = with_gradient_of((ramp == 1).to(ramp.dtype), ramp)
            if credit == "early_ramp":
                over = ramp.detach() > 0
                spike = torch.where(over, spike.detach(), spike)
        spikes.append(spike)
    if credit == "detached":
        fired = over.to(fired.dtype)
    elif credit != "product":
        sums = (torch.where(over, sum.detach(), sum) for sum in (fired, ramp))
        fired, ramp = (with_gradient_of((sum > 0).to(sum.dtype), sum) for sum in sums)
    if credit in ("detached", "product"):
        ramp = fired.detach()
    return torch.stack(spikes) if spikes else torch.empty_like(x), membrane, fired, ramp
