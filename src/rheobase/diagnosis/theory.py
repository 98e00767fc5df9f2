"""How a gradient should develop on its way back, by the theory of random networks: a reference for what was measured.

The theory assumes that weights and activity are independent of each other. Then only variances matter: how much of a gradient's
variance comes through a time step, and through a layer. Where weights are trained, or activity is correlated, the measured
values differ; where a network explodes, both do.

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

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Neurons of a layer may have different decays: these quantiles stand for all."""


def expected_growth(neuron: Neuron, slope_square: float, spikes: Float[Tensor, "T B *features"]) -> float:
    """The factor by which a layer's gradient should grow per step back in time: the square root of

        E[decay^2] * (1 - rate, if a spike resets to zero) + (N - 1) * E[recurrent_weight^2] * E[surrogate'^2]

    Args:
        neuron: the layer.
        slope_square: the mean square of the surrogate's derivative.
        spikes: the layer's spikes.

    Returns:
        The factor; NaN for neurons that the theory does not cover.
    """
    if not isinstance(neuron, LIF | SynapticLIF | RecurrentLIF):
        return math.nan
    kept = neuron.decay.detach().cpu().double().square().mean().item()
    if neuron.reset == "zero" and neuron.reset_gradient != "ignored":
        # A reset to 0 ends the path through the membrane, for the gradient as for the potential.
        kept *= 1 - spikes.detach().cpu().double().mean().item()
    if isinstance(neuron, SynapticLIF):
        kept = max(kept, neuron.synapse_decay.detach().cpu().double().square().mean().item())
    return math.sqrt(kept + _feedback(neuron) * slope_square)


def expected_gain(
    neuron: Neuron, slopes: tuple[float, float], above: list[nn.Module], error: Float[Tensor, "T B *features"]
) -> float:
    """The factor by which a neuron's gradient should exceed that of one in the next layer: the square root of

        fan-out * E[weight^2] * (E[surrogate']^2 * F + Var[surrogate'] * sum over k of h[k]^2)

    where h is the layer's response to an impulse, `decay^k`, and F how much the power of the next layer's gradient grows when
    it passes backwards through it: a gradient that is the same at all steps adds up, one that changes sign does not.

    A recurrent layer receives its own gradient one step later, through weights that multiply its variance by `R = (N - 1) *
    E[recurrent_weight^2]`. What passes at the mean of the surrogate is remembered longer: the membrane's spectrum is `1 / (|1 -
    decay z|^2 - E[surrogate']^2 R)`, that of a decay b, somewhat larger, times `b / decay`. So h^2 and F are those of b, times
    `b / decay`. And deviations from the mean are fed back repeatedly: the whole square is divided by `1 - R Var[surrogate'] *
    sum over k of h[k]^2`. Where the mean is 0, this is the `N V E[f^2] / (1 - c)` of `rheobase.stability.calibration`.

    Args:
        neuron: the layer.
        slopes: the mean of the surrogate's derivative, and its mean square.
        above: what is between this layer and the next: the theory covers a single linear layer or convolution.
        error: the gradient with respect to the input of the next layer's neurons.

    Returns:
        The factor; NaN where the theory does not apply: for adaptive neurons, whose threshold has its own memory, and for
        recurrent layers in which a gradient, by this theory, does not decay in time.
    """
    known = isinstance(neuron, LIF | SynapticLIF | RecurrentLIF)
    if not known or [isinstance(layer, nn.Linear | _ConvNd) for layer in above] != [True]:
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
    feedback = _feedback(neuron)
    even = deviating = 0.0
    for share in SHARES:
        memory = _memory(neuron, share, mean**2 * feedback)
        if memory is None:
            return math.nan
        decays, factor = memory
        even += factor * mean**2 * _through(decays, backwards).square().mean().item() / power / len(SHARES)
        deviating += factor * (square - mean**2) * _through(decays, impulse).square().sum().item() / len(SHARES)
    if feedback * deviating >= 1:
        return math.nan
    return math.sqrt(fan_out * weight.square().mean().item() * (even + deviating) / (1 - feedback * deviating))


def _feedback(neuron: Neuron) -> float:
    """The factor of a gradient's variance on its way through the recurrent weights; 0 if none goes there."""
    if not isinstance(neuron, RecurrentLIF) or neuron.detach_recurrent:
        return 0.0
    return (neuron.features - 1) * neuron.recurrent_weight.detach().cpu().double().square().mean().item()


def _memory(neuron: Neuron, share: float, feedback: float) -> tuple[list[float], float] | None:
    """The decays that a gradient goes through, and the additional factor of its power.

    Of many decays, this quantile over neurons. None if feedback keeps the gradient from ever decaying.
    """
    names = [name for name in ("synapse_decay", "decay") if name in neuron.values]
    decays = [neuron.current(name).detach().cpu().double().quantile(share).item() for name in names]
    if not feedback:
        return decays, 1.0
    (decay,) = decays
    left = 1 + decay**2 - feedback  # |1 - decay z|^2 - feedback = left - 2 decay Re z = factor (1 + b^2 - 2 b Re z)
    if left <= 2 * decay:
        return None
    factor = (left + math.sqrt(left**2 - 4 * decay**2)) / 2
    return [decay / factor], 1 / factor


def _through(decays: list[float], x: Tensor) -> Tensor:
    """What becomes of `x` in a membrane without spikes."""
    for decay in decays:
        x = integrate(x, decay)[0]
    return x
