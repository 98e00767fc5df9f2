"""Fluctuation-driven initialization: the membrane potential wanders below the threshold, and reaches it now and then.

As neurons of the cortex do. The user says how often inputs spike and how far below the threshold, in standard deviations, the
mean of the membrane potential is to lie; the weights follow from the effect of a spike on the membrane over time. It looks at
the sum of independent inputs alone, and not at what resets and correlations make of it: `rheobase.stabilize` measures these.
"""

import torch
from torch import nn

from rheobase.layers.initialization import kernel
from rheobase.layers.parametrized import kind_of
from rheobase.neurons import RecurrentAdaptiveLIF, RecurrentLIF
from rheobase.neurons.adaptive_lif import AdaptiveNeuron
from rheobase.neurons.neuron import IntegrateAndFire

RECURRENT_SHARE = 0.1
"""The share of the membrane potential's variance that recurrent weights make, where there are some."""


def fluctuation_driven(
    synapses: nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d,
    neurons: IntegrateAndFire | AdaptiveNeuron,
    *,
    rate: float,
    mean: float = 0.0,
    xi: float = 1.0,
) -> None:
    """Draw the weights of `synapses`, and the recurrent ones of `neurons`, from normal distributions; biases become 0.

    With n inputs at rate p, and the sums e1 and e2 of a spike's effect on the membrane potential and of its square,

        mean of the weights = mean / (n p e1)
        variance of the weights = ((threshold - mean) / xi)^2 / (n p e2) - (mean of the weights)^2

    so that without resets the membrane potential has the mean `mean`, and the threshold lies `xi` standard deviations above.
    `RecurrentLIF` and `RecurrentAdaptiveLIF` get 9 tenths of the variance from their input and a tenth from themselves.

    Args:
        synapses: the layer in front of the neurons.
        neurons: the layer of neurons; their recurrent weights are drawn, too.
        rate: of the inputs, spikes per step, in (0, 1); the neurons' own is taken to be the same.
        mean: of the membrane potential, below the threshold.
        xi: the distance of the threshold in standard deviations, above 0; the smaller, the livelier. The source takes 1 to 3.

    Raises:
        TypeError: if weights are computed by a parametrization, such as `rheobase.standardize` or `rheobase.quantize`.
        ValueError: if an argument is out of range, or the mean needs weights so large that they vary too much.

    Source: Rossbroich, Gygax and Zenke, "Fluctuation-driven initialization for spiking neural network training",
    Neuromorphic Computing and Engineering 2, 2022.

    Example:
        >>> import rheobase as rb
        >>> _ = torch.manual_seed(0)
        >>> layer, neurons = nn.Linear(500, 100), rb.LIF(100, reset="none")
        >>> fluctuation_driven(layer, neurons, rate=0.02, xi=2.0)
        >>> spikes = neurons(layer((torch.rand(500, 4, 500) < 0.02).float()))
        >>> 0.023 < spikes.mean().item() < 0.05  # 0.023 beyond 2 deviations over time; and the means of neurons differ, too
        True
    """
    if not 0 < rate < 1:
        raise ValueError(f"fluctuation_driven: rate must be in (0, 1), got {rate}")
    if not xi > 0:
        raise ValueError(f"fluctuation_driven: xi must be above 0, got {xi}")
    threshold = neurons.threshold.detach().mean().item()
    if not mean < threshold:
        raise ValueError(f"fluctuation_driven: mean must be below the threshold, {threshold:.4g}, got {mean}")
    total, squares = (moment.mean().item() for moment in kernel(neurons))
    weights: list[tuple[torch.Tensor, float]] = [(synapses.weight, 1.0)]
    if isinstance(neurons, RecurrentLIF | RecurrentAdaptiveLIF):
        weights = [(synapses.weight, 1 - RECURRENT_SHARE), (neurons.recurrent_weight, RECURRENT_SHARE)]
    for layer, weight in ((synapses, "weight"), (neurons, "recurrent_weight")):
        if hasattr(layer, weight) and weight not in layer._parameters:
            raise TypeError(
                f"fluctuation_driven: {weight} of {kind_of(layer)} must be a parameter, but it is computed from others "
                "(rheobase.standardize, rheobase.quantize, weight_norm, pruning and the like); draw it first, and register "
                "that afterwards"
            )
    drawn = []
    for weight, share in weights:
        inputs = weight[0].numel() * rate
        centre = mean * share / (inputs * total)
        variance = share * ((threshold - mean) / xi) ** 2 / (inputs * squares) - centre**2
        if variance < 0:
            raise ValueError(
                f"fluctuation_driven: a mean of {mean} by {weight[0].numel()} inputs at rate {rate} alone fluctuates more than "
                f"xi = {xi} allows; choose a mean nearer 0 or a smaller xi"
            )
        drawn.append((weight, centre, variance**0.5))
    for weight, centre, deviation in drawn:
        nn.init.normal_(weight, centre, deviation)
    if synapses.bias is not None:
        nn.init.zeros_(synapses.bias)
