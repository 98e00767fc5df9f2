"""Linear integration and stochastic firing, as defined: one step after another, in plain PyTorch.

This is what the words mean in this library; everything faster is tested against it. Noise is added to the distance from the
threshold, and a neuron fires where the sum is not negative: with logistic noise that is a spike with probability `sigmoid`.
A spike has the gradient of a relaxation, which `with_gradient_of` gives to the values 0 and 1.
"""

import torch
from torch import Tensor

from rheobase.ops.integrate import reference as integration
from rheobase.ops.noise import logistic, words
from rheobase.ops.stochastic.firing import Firing
from rheobase.ops.straight import with_gradient_of


def stochastic_lif(
    x: Tensor,
    decays: list[Tensor],
    slope: Tensor,
    offset: Tensor,
    initials: list[Tensor],
    noise: Tensor,
    firing: Firing,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs `(T, B, *features)`, and the membrane potential and current after the last step.

    See `rheobase.ops.stochastic.stochastic_lif`; `slope` and `offset` are here those of the logit of firing.
    """
    decay, synapse_decay = decays
    membrane, current = initials
    currents, current = integration.integrate(x, synapse_decay, current)
    potentials, membrane = integration.integrate(currents, decay, membrane)
    step = x.shape[1:]
    logit = slope.expand(step) * potentials - offset.expand(step)
    probability = logit.sigmoid()
    if firing == "expected":
        return probability, membrane, current
    drawn = torch.zeros_like(logit)
    if firing != "threshold":
        drawn = logistic(words(noise, len(x), step.numel())).to(logit.dtype).view(x.shape)
    spikes = logit + drawn >= 0
    if firing == "bernoulli":  # the derivative is p * p (1 - p)
        relaxation = probability.square() / 2
    elif firing == "gumbel":
        relaxation = ((logit + drawn) / temperature).sigmoid()
    else:
        relaxation = probability
    return with_gradient_of(spikes.to(x.dtype), relaxation), membrane, current
