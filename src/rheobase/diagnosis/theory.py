"""What a gradient should do on its way back, by the theory of random networks: beside it, what was measured has a meaning.

The theory takes weights and activity for independent of each other. It is then a matter of variances: how much of a
gradient's variance comes through a step of time, and through a layer. Where weights are trained, or activity is
correlated, the measured values differ; where a network explodes, both do.

Source: the condition on the gradient's variance in Herranz-Celotti and Rouat, arXiv 2202.00282, with the slopes as
measured.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from rheobase.neurons import LIF, Neuron, RecurrentLIF, SynapticLIF
from rheobase.ops.integrate import integrate


def expected_growth(neuron: Neuron, slope_square: float, spikes: Float[Tensor, "T B *features"]) -> float:
    """By what factor a layer's gradient should grow per step back in time: the square root of

        E[decay^2] * (1 - rate, if a spike resets to zero) + (N - 1) * E[recurrent_weight^2] * E[surrogate'^2]

    Args:
        neuron: the layer.
        slope_square: the mean square of the surrogate's derivative.
        spikes: what the layer fired.

    Returns:
        The factor; NaN for neurons that the theory does not know.
    """
    if not isinstance(neuron, LIF | SynapticLIF | RecurrentLIF):
        return math.nan
    kept = neuron.decay.detach().cpu().double().square().mean().item()
    if neuron.reset == "zero" and neuron.reset_gradient != "ignored":
        # A reset to 0 ends the path through the membrane, for the gradient as for the potential.
        kept *= 1 - spikes.detach().cpu().double().mean().item()
    if isinstance(neuron, SynapticLIF):
        kept = max(kept, neuron.synapse_decay.detach().cpu().double().square().mean().item())
    if isinstance(neuron, RecurrentLIF) and not neuron.detach_recurrent:
        kept += (
            (neuron.features - 1)
            * neuron.recurrent_weight.detach().cpu().double().square().mean().item()
            * slope_square
        )
    return math.sqrt(kept)


def expected_gain(
    neuron: Neuron, slopes: tuple[float, float], above: list[nn.Module], error: Float[Tensor, "T B *features"]
) -> float:
    """By what factor the gradient of a neuron should be larger than that of one in the next layer: the square root of

        fan-out * E[weight^2] * (E[surrogate']^2 * F + Var[surrogate'] * sum over k of h[k]^2)

    where h is the layer's response to an impulse, `decay^k`, and F how much the power of the next layer's gradient grows
    when it passes backwards through it: a gradient that is the same at all steps adds up, one that changes its sign does
    not.

    Args:
        neuron: the layer.
        slopes: the mean of the surrogate's derivative, and its mean square.
        above: what is between this layer and the next: the theory knows a single linear layer or convolution.
        error: the gradient with respect to the input of the next layer's neurons.

    Returns:
        The factor; NaN where the theory does not know.
    """
    if not isinstance(neuron, LIF | SynapticLIF) or [isinstance(layer, nn.Linear | _ConvNd) for layer in above] != [
        True
    ]:
        return math.nan
    backwards = error[:, :8].detach().cpu().double().flip(0).contiguous()
    power = backwards.square().mean().item()
    if not power:
        return math.nan
    (layer,) = above
    assert isinstance(layer, nn.Linear | _ConvNd)
    weight = layer.weight.detach().cpu().double()
    fan_out = weight[:, 0].numel() / (math.prod(layer.stride) if isinstance(layer, _ConvNd) else 1)
    impulse = torch.zeros(len(error), 1, 1, dtype=torch.float64)
    impulse[:1] = 1
    mean, square = slopes
    passed = [
        mean**2 * _through(neuron, share, backwards).square().mean().item() / power
        + (square - mean**2) * _through(neuron, share, impulse).square().sum().item()
        for share in (0.1, 0.3, 0.5, 0.7, 0.9)
    ]
    return math.sqrt(fan_out * weight.square().mean().item() * sum(passed) / len(passed))


def _through(neuron: Neuron, share: float, x: Tensor) -> Tensor:
    """What becomes of `x` in a membrane without spikes; of many decays, one that this share of neurons is below."""
    for name in ("synapse_decay", "decay"):
        if name in neuron.values:
            x = integrate(x, neuron.current(name).detach().cpu().double().quantile(share).item())[0]
    return x
