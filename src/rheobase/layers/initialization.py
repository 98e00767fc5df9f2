"""How a new `Sequential` is initialized, without any call: active in every layer, whatever the input's rate.

PyTorch draws the weights of a layer with n inputs uniformly within `1 / sqrt(n)`, which suits dense inputs of size 1. Spikes
are mostly absent: at a rate of 2 % the current is a tenth of that, no neuron fires, and the next layer receives nothing at all.
What neurons need instead follows from their membrane. With weights of mean 0 and standard deviation S, and independent spikes
at rate p, the membrane potential without resets has mean 0 and variance

    D^2 = n S^2 p (1 - p) K,    K = 1 / (1 - decay^2),

and a neuron fires at rate r if D, in units of the threshold, is

    D = 1 / z(r) + 1.4 r decay / (1 - decay)                            (reset "subtract")
    D = 1 / z(r) + (1.1 + 6.5 r) r (decay / (1 - decay))^(1 + 1.5 r)    (reset to 0)
    D = 1 / z(r)                                                        (no reset)

where the normal distribution exceeds z with probability r. The first term is exact without resets; the second, what the resets
take away, is fitted to simulations for r up to 0.1: the rate is accurate to 20 % (the tests repeat them). S follows from these.

Neurons that fire at random (`SPSN`) do so at half of the steps whatever the scale of their weights, and D gives the logit of
their probability a standard deviation of 1: neither a coin nor a switch. That weights sum to 0 matters most here: with random
sums of inputs that fire at half of the steps, neurons are switches.

Neurons whose mixing over time is learned (`PSN`, `MaskedPSN`, `SlidingPSN`) have no reset, and K is the sum of squares of the
weights of a step, averaged over the steps.

Three things make it robust where the true rate is unknown. Resets hold the rate back: it grows less than linearly with D, so
that an input rate between 0.5 and 30 %, a 60-fold range, gives firing rates of 4 to 28 %. So the rate of a hidden layer, too,
is closer to 10 % than that of the layer below. And the weights into a neuron sum to 0: with random sums the mean current would
differ between neurons more than it varies in time, and many would be silent or saturated.

After average pooling, p (1 - p) is divided by nearly the number of spike trains averaged, see `POOLED`: otherwise each pooling
would halve the current, and a third convolution would receive nothing. If a pooling divides by another number than the size of
its window (`divisor_override`), p (1 - p) is also multiplied by the square of their ratio.

A wide delay (`DelayedLinear`) averages over time, and leaves less of D the less the membrane itself averages: see `_blurred`.
Training starts with wide delays, so weights are scaled for these. With narrow or rounded ones, with which it ends, the neurons
of a new network fire more: for delays of up to 25 steps 12 to 19 % at a decay of 0.9, and 26 to 36 % at 0.5. Scaled for narrow
ones, they would be silent in the first epochs, at a decay of 0.5 nearly all.

Recurrent weights (`RecurrentLIF`) are weights like all others, and half of the variance comes through them: condition II of
`rheobase.stability.conditions`.

The surrogate's dampening follows a rule too, but an empirical one: see `_dampening`.

A layer's weights are not drawn again: the ones it has are centred and scaled, and biases become 0. No random number is drawn,
so seeds keep their meaning.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from rheobase.layers.delayed_linear import DelayedLinear, width_at
from rheobase.layers.pooling import divisor, window_size
from rheobase.neurons import SPSN, Neuron, RecurrentLIF, SingleSpike, SynapticLIF
from rheobase.neurons.adaptive_lif import AdaptiveNeuron
from rheobase.neurons.neuron import IntegrateAndFire
from rheobase.neurons.psn import ParallelNeuron
from rheobase.ops.lif import Reset
from rheobase.surrogate import DEFAULT, Surrogate
from rheobase.temporal import Temporal

INPUT_RATE = 0.02
"""The rate of the input assumed by default, in spikes per step."""

HIDDEN_RATE = 0.1
"""The rate at which neurons should fire, and so that of the input of hidden layers."""

RANDOM_RATE = 0.5
"""The rate of neurons that fire at random."""

ONCE_RATE = 0.005
"""The rate of the input of layers behind neurons that fire once in a sequence, most of them at its beginning."""

CORRELATION = 0.1
"""Spikes of hidden layers come in clusters, as long as the membrane remembers: to it they are as strong as independent ones `1
+ 0.1 decay / (1 - decay)` times as frequent. With 0 the rate of deep layers settles near 25 % instead of 10 %, with 0.3 it dies
out."""

RANDOM_CORRELATION = 0.38
"""The same for neurons that fire at random, whose probabilities change as slowly as their membrane: logits stay at 1 through
depth."""

POOLED = 0.75
"""An average over n spike trains varies less than one of them, but neighbours fire together: `n^0.75` times less. With n, as
for independent ones, the linear layers behind convolutions would fire at 30 %."""

FIRST = 1.8
"""The dampening of the first layer relative to the others, since its few, independent inputs give a small gradient."""

RECURRENT = 0.75
"""The same for recurrent layers, first or not: see `rheobase.stability.recurrence`."""

RECURRENT_PART = 0.5
"""The share of the variance of a recurrent layer's currents that comes through recurrent weights."""

_as_first: WeakKeyDictionary[nn.Module, tuple[float, int]] = WeakKeyDictionary()
"""The layers that were scaled as the first of a network, with the rate assumed and the version of the weights then: a network
may turn out to be part of another, and its first layer to receive spikes of neurons."""

FEW = 16
"""With fewer inputs weights are not centred: their mean is much of what a neuron can receive."""

NORMALIZATIONS = nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm | nn.RMSNorm
"""Layers after which currents have a scale of their own, whatever the weights before."""

_LONGEST = 0.99  # larger decays count as this one: the sequence may be too short for more
_Leaky = IntegrateAndFire | AdaptiveNeuron
_Known = _Leaky | ParallelNeuron | SPSN
_Synapses = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | DelayedLinear


def initialize(layers: Sequence[nn.Module], input_rate: float) -> None:
    """Scale the weights of all linear and convolutional layers that drive neurons and are still as PyTorch drew them.

    The surrogate of these neurons, if none was chosen, gets the dampening that keeps gradients even.

    Args:
        layers: in the order of the data. A layer is left alone if its weights were set, loaded, copied or trained, or are
            shared, parametrized, or on the meta device; if no neurons follow, or a normalization comes first; and if this
            module does not know the kind of neurons.
        input_rate: the rate of spikes that the first layer receives, in (0, 1).
    """
    heard: Neuron | None = None
    pooled, scale = 1, 1.0  # units in a window, and their sum in averages of it
    uses = [id(parameter) for layer in layers for parameter in _every(layer)]
    for position, layer in enumerate(layers):
        if isinstance(layer, Neuron):
            heard, pooled, scale = layer, 1, 1.0
        elif isinstance(layer, nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d):
            pooled *= window_size(layer)
            scale *= window_size(layer) / divisor(layer)
        elif isinstance(layer, _Synapses):
            together, times, pooled, scale = pooled, scale, 1, 1.0
            neurons = _next_neurons(layers[position + 1 :])
            if neurons is None or uses.count(id(layer.weight)) > 1:
                continue
            if not is_untouched(layer):
                if heard is not None and together == times == 1:
                    _hear(layer, neurons, heard)
                continue
            rate, correlation = (input_rate, 0.0) if heard is None else _activity_of(heard)
            variance, part = _variance(rate) * times**2 / together**POOLED, 1.0
            if isinstance(layer, DelayedLinear):
                variance = variance * _blurred(neurons, layer.longest)
            if isinstance(neurons, RecurrentLIF) and _is_recurrence_untouched(neurons):
                _scale(neurons.recurrent_weight, neurons, _variance(HIDDEN_RATE), CORRELATION, RECURRENT_PART)
                part -= RECURRENT_PART
            _scale(layer.weight, neurons, variance, correlation, part)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            if isinstance(neurons, _Leaky) and neurons.surrogate is DEFAULT and not isinstance(neurons, SingleSpike):
                neurons.surrogate = _surrogate_of(neurons, heard is None)
            if heard is None:
                _as_first[layer] = rate, layer.weight._version


def leave(layers: Sequence[nn.Module]) -> None:
    """Mark the weights of all layers as set by hand, so that no container they are put into changes them."""
    for layer in layers:
        if isinstance(layer, _Synapses) and is_untouched(layer):
            torch.autograd.graph.increment_version(layer.weight)
        elif isinstance(layer, RecurrentLIF) and _is_recurrence_untouched(layer):
            torch.autograd.graph.increment_version(layer.recurrent_weight)


def is_untouched(layer: _Synapses) -> bool:
    """Whether the weights are still as PyTorch's own initialization drew them.

    PyTorch counts the changes of a tensor, and its initialization is one: loading, `nn.init` and most optimizers are further
    ones, and a copy starts at 0. Fused optimizers do not count: weights that have a gradient are trained. Changes that bypass
    it through `.data` are found by the values: they must look drawn uniformly within the default bound.
    """
    if type(layer).reset_parameters not in [kind.reset_parameters for kind in (nn.Linear, _ConvNd, DelayedLinear)]:
        return False
    weight, bias = layer._parameters.get("weight"), layer._parameters.get("bias")
    if weight is None or layer.bias is not bias:  # computed by a parametrization
        return False
    return _are_drawn([weight] if bias is None else [weight, bias], weight[0].numel() ** -0.5)


def _is_recurrence_untouched(layer: RecurrentLIF) -> bool:
    """The same for recurrent weights, which are drawn likewise."""
    weight = layer._parameters.get("recurrent_weight")
    if weight is None or type(layer).reset_parameters is not RecurrentLIF.reset_parameters:
        return False
    return _are_drawn([weight], layer.features**-0.5)


def _are_drawn(parameters: Sequence[nn.Parameter], bound: float) -> bool:
    if any(type(each) is not nn.Parameter or each.is_meta or each.is_inference() for each in parameters):
        return False
    if any(each._version != 1 or each.grad is not None for each in parameters):
        return False
    return all(_looks_uniform(each.detach(), bound) for each in parameters)


def deviation(neurons: _Known, rate: float = HIDDEN_RATE) -> Tensor:
    """D: the standard deviation of the membrane potential, without resets, at which neurons fire at `rate`.

    Args:
        neurons: a layer of neurons.
        rate: spikes per step, in (0, 0.5); a rate that a refractory period makes impossible is halved; for neurons that fire at
            random it makes no difference.

    Returns:
        D, a scalar or one number per feature.

    Example:
        >>> import rheobase as rb
        >>> deviation(rb.LIF(decay=0.9)), deviation(rb.LIF(decay=0.9, reset="none", threshold=2.0))
        (tensor(2.0403), tensor(1.5606))
    """
    if isinstance(neurons, SPSN):
        per_unit = neurons.slope.detach() * (1 - neurons.decay.detach().clamp(max=_LONGEST))
        return 1 / (per_unit * (2 if neurons.sampler == "gumbel" else 1))
    threshold = neurons.threshold.detach()
    if isinstance(neurons, ParallelNeuron):
        return threshold.mean() / NormalDist().inv_cdf(1 - rate)
    decay = neurons.decay.detach().clamp(max=_LONGEST)
    if isinstance(neurons, AdaptiveNeuron):
        rate = min(rate, 0.5 / (1 + neurons.refractory))
        # The trace of past spikes adds its mean to the threshold.
        past = rate / (1 - neurons.adaptation_decay.detach().clamp(max=_LONGEST))
        threshold = threshold + neurons.adaptation.detach() * past
    memory = decay / (1 - decay)
    lost = {
        "subtract": 1.4 * rate * memory,
        "zero": (1.1 + 6.5 * rate) * rate * memory ** (1 + 1.5 * rate),
        "none": 0 * memory,
    }[_reset(neurons)]
    return threshold * (1 / NormalDist().inv_cdf(1 - rate) + lost)


def kernel(neurons: _Known) -> tuple[Tensor, Tensor]:
    """The sum of a spike's effect on the membrane potential over all later steps, and the sum of its square, K.

    `1 / (1 - a)` and `1 / (1 - a^2)` with the decay a; with that of a synapse, b, too, `1 / ((1 - a) (1 - b))` and `(1 + a b) /
    ((1 - a^2) (1 - b^2) (1 - a b))`. Decays above 0.99 count as 0.99. For learned weights over time, the sums over these and
    their squares, averaged over the steps.

    Example:
        >>> import rheobase as rb
        >>> kernel(rb.LIF(decay=0.5))
        (tensor(2.), tensor(1.3333))
    """
    if isinstance(neurons, ParallelNeuron):
        rows = torch.atleast_2d(neurons.kernel().detach())
        return rows.sum(1).mean(), rows.square().sum(1).mean()
    a = neurons.decay.detach().clamp(max=_LONGEST)
    synapse = isinstance(neurons, SynapticLIF | SPSN)
    b = neurons.synapse_decay.detach().clamp(max=_LONGEST) if synapse else torch.zeros_like(a)
    return 1 / ((1 - a) * (1 - b)), (1 + a * b) / ((1 - a**2) * (1 - b**2) * (1 - a * b))


def _hear(layer: _Synapses, neurons: _Known, heard: Neuron) -> None:
    """Scale the first layer of a network that became part of another for the neurons that now drive it."""
    assumed, version = _as_first.pop(layer, (0.0, -1))
    if layer.weight.is_inference() or layer.weight._version != version:
        return
    rate, correlation = _activity_of(heard)
    before, now = (
        _deviation_of_weights(neurons, _variance(assumed)),
        _deviation_of_weights(neurons, _variance(rate), correlation),
    )
    with torch.no_grad():
        layer.weight.mul_((now / before).mean().to(layer.weight))
    if isinstance(neurons, _Leaky) and neurons.surrogate == _surrogate_of(neurons, first=True):
        neurons.surrogate = _surrogate_of(neurons, first=False)


def _activity_of(neurons: Neuron) -> tuple[float, float]:
    """The rate at which neurons are assumed to fire, and how their spikes cluster."""
    if isinstance(neurons, SPSN):
        return RANDOM_RATE, RANDOM_CORRELATION
    return ONCE_RATE if isinstance(neurons, SingleSpike) else HIDDEN_RATE, CORRELATION


def _variance(rate: float) -> float:
    return rate * (1 - rate)


@torch.no_grad()
def _scale(weight: Tensor, neurons: _Known, variance: float | Tensor, correlation: float, part: float) -> None:
    """Give weights mean 0 and the standard deviation with which inputs of `variance` drive `neurons` as wanted, or in part."""
    fan_in = weight[0].numel()
    spread = _deviation_of_weights(neurons, fan_in * variance / part, correlation)
    if spread.numel() not in (1, len(weight)):  # layers in between have changed the number of features
        spread = spread.mean()
    scale = spread * (3 * fan_in) ** 0.5  # uniform numbers within 1 / sqrt(n) have standard deviation 1 / sqrt(3 n)
    if fan_in >= FEW:
        weight -= weight.flatten(1).mean(1).view(-1, *[1] * (weight.ndim - 1))
        scale = scale * (1 - 1 / fan_in) ** -0.5
    weight *= scale.view(-1, *[1] * (weight.ndim - 1)).to(weight)


def _deviation_of_weights(neurons: _Known, variance: float | Tensor, correlation: float = 0.0) -> Tensor:
    """S, with which inputs whose variances sum to `variance` drive neurons as wanted: a scalar, or one for each feature."""
    power = kernel(neurons)[1]
    if not isinstance(neurons, ParallelNeuron):
        decay = neurons.decay.detach().clamp(max=_LONGEST)
        power = power * (1 + correlation * decay / (1 - decay))
    return deviation(neurons) * (variance * power) ** -0.5


def _blurred(neurons: _Known, longest: int) -> Tensor:
    """The share of the membrane potential's variance that a new layer's wide delays leave: a scalar, or one for each feature.

    A membrane that keeps `a^n` of its input n steps ago receives two taps of a bump as one, to that extent: `sum_kl bump_k
    bump_l a^|k - l|`. Averaged over the delays.
    """
    memory = torch.zeros(())
    if not isinstance(neurons, ParallelNeuron):
        memory = neurons.decay.detach().clamp(max=_LONGEST)
        if isinstance(neurons, SynapticLIF | SPSN):
            memory = torch.maximum(memory, neurons.synapse_decay.detach().clamp(max=_LONGEST))
    steps = torch.arange(longest + 1, device=memory.device)
    apart = steps - steps.unsqueeze(1)
    bumps = torch.softmax(-(apart / width_at(0.0, longest).to(memory)).square() / 2, 1)
    alike = torch.zeros_like(bumps[0]).index_add(0, apart.abs().flatten(), (bumps.T @ bumps).flatten()) / len(steps)
    return (memory.unsqueeze(-1) ** steps @ alike).view(memory.shape)


def _surrogate_of(neurons: _Leaky, first: bool) -> Surrogate:
    """The default surrogate, dampened for these neurons, which are the first of a network or receive from others."""
    # In units of the threshold, so that scaling weights and threshold alike gives the same gradients.
    unit = neurons.threshold.detach().mean().item()
    dampening = _dampening(neurons) * (RECURRENT if isinstance(neurons, RecurrentLIF) else FIRST if first else 1.0)
    return replace(DEFAULT, dampening=dampening / unit, sharpness=DEFAULT.sharpness / unit)


def _dampening(neurons: _Leaky) -> float:
    """Roughly what `rheobase.stabilize` finds, to within about a third, for gradients that are even through hidden layers.

    The longer the memory, the more steps a gradient sums over: `sqrt(1 - decay^2)` for the membrane and for the synapse. Resets
    to 0 let no gradient pass, and without resets weights are smaller.
    """
    keeps = (1 - neurons.decay.detach().clamp(max=_LONGEST) ** 2).sqrt()
    if isinstance(neurons, SynapticLIF):
        keeps = keeps * (1 - neurons.synapse_decay.detach().clamp(max=_LONGEST) ** 2).sqrt()
    return keeps.mean().item() * {"subtract": 0.85, "zero": 1.4, "none": 2.5}[_reset(neurons)]


def _reset(neurons: _Leaky) -> Reset:
    return neurons.reset if isinstance(neurons, IntegrateAndFire) else "zero"


def _next_neurons(layers: Sequence[nn.Module]) -> _Known | None:
    """The next neurons; None if weights, a normalization or a readout come first, or if their kind is unknown here."""
    for layer in layers:
        if isinstance(layer, Neuron):
            return layer if isinstance(layer, _Known) else None
        if (
            isinstance(layer, NORMALIZATIONS)
            or next(layer.parameters(), None) is not None
            or (isinstance(layer, Temporal) and hasattr(layer, "decay"))
        ):
            return None
    return None


def _every(layer: nn.Module) -> list[nn.Parameter]:
    return [
        parameter for module in layer.modules() for parameter in module._parameters.values() if parameter is not None
    ]


def _looks_uniform(values: Tensor, bound: float) -> bool:
    """Whether values may be a uniform sample from [-bound, bound]: by its range, and its first two moments to within 6 standard
    deviations."""
    u = values.double().flatten() / bound
    mean, square = u.mean().abs().item(), u.square().mean().item()
    margin = 6 / math.sqrt(max(u.numel(), 1))
    return bool((u.abs() <= 1.01).all()) and mean <= margin * 3**-0.5 and abs(3 * square - 1) <= margin * 0.8**0.5
