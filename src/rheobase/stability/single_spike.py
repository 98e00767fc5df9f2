"""Weights for networks of neurons that fire once: currents of variance 1 at every depth, and gradients as large in every layer.

A neuron that fires once in T steps is silent in T - 1 of them. Of N such inputs, each spiking at a random step, weights of
mean 0 make a current of variance `N Var(w) E[s^2] = N Var(w) / T`. PyTorch's weights, of variance `1 / (3 N)`, make it
`1 / (3 T)`: few neurons reach a threshold of 1, the next layer receives still less, and the third receives nothing. With

    Var(w) = 1 / (N E[s^2]) = T / N

it is 1 at every depth, exactly where every neuron fires once (`fire_by_end`), at steps that have nothing to do with each other.
What is pooled by the average has another `E[s^2]`, and so has an analog input; both are in here. T is in the weights: a network
that gets another T needs other ones (`change_steps`).

Real inputs are alike: the pixels of a patch, the spikes of a map. Standardized weights sum to 0, so what all inputs of a unit
have in common is not heard, and the current is smaller than theory has it: of pictures, a tenth in the first layer, and less
behind each further one. Two or three layers learn all the same, for gains are learned; eight are silent. There
`calibrate_single_spike` sets the variance to 1 by measurement.

Spikes and gradients of the right size are not all that depth needs. A layer of thresholds makes pictures that are alike less
alike: of weights drawn independently, ten layers leave nothing of what two pictures have in common, nor do gradients find back.
With `identity` a part of the variance lies in one weight of each unit, to the neuron at its own place in the layer below. Then
layers hand on what they hear, changed a little each time.

Source: Che et al., "Efficiently Training Time-to-First-Spike Spiking Neural Networks from Scratch", arXiv 2410.23619, for
T / N, as others restate it; the corrections are derived here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from rheobase.layers.delayed_linear import DelayedLinear
from rheobase.layers.hold import Hold
from rheobase.layers.order import check_order, in_order
from rheobase.layers.pooling import PASSES_SPIKES_ON, SpikeMaxPool2d, divisor, window_size
from rheobase.layers.sequential import Sequential
from rheobase.layers.standardized import free_weight, only_standardized, standardized
from rheobase.modes import evaluating
from rheobase.neurons import SingleSpike

Receives = Literal["the input", "spikes", "pooled spikes"]


@dataclass(frozen=True)
class Initialized:
    """What was done to a layer."""

    layer: str
    """Its name in the network."""
    receives: Receives
    fan_in: int
    """The inputs of one of its units."""
    second_moment: float
    """The mean square of what arrives: measured of the input, otherwise where every neuron fires once, at any step."""
    deviation: float
    """The standard deviation of its weights, `1 / sqrt(fan_in * second_moment)`."""

    def __str__(self) -> str:
        arrives = f"{self.receives}, mean square {self.second_moment:.3g}"
        return f"layer {self.layer}: {self.fan_in} inputs ({arrives}), weights of deviation {self.deviation:.3g}"


def spike_moment(steps: int, window: int = 1) -> float:
    """The mean square of what arrives from neurons that fire once, at any of `steps` steps alike, averaged over a window.

    `E[p^2] = 1 / (K T) + (K - 1) / (K T^2)` for the average p of K = `window` neurons; `1 / T` of single ones.

    Raises:
        ValueError: if either is below 1.

    Example:
        >>> spike_moment(8), spike_moment(8, window=4)
        (0.125, 0.04296875)
    """
    _check_counts("spike_moment", steps=steps, window=window)
    return 1 / (window * steps) + (window - 1) / (window * steps**2)


def weight_variance(fan_in: int, steps: int, *, window: int = 1) -> float:
    """The variance of weights whose current has variance 1: `1 / (fan_in E[p^2])`, which is `T / fan_in` without pooling.

    Args:
        fan_in: the inputs of a unit: features, or channels times the size of the kernel.
        steps: T, at least 1.
        window: the neurons that an average pooling in front puts together, 4 for 2 x 2.

    Raises:
        ValueError: if a number is below 1.

    Example:
        >>> weight_variance(400, steps=8)
        0.02
    """
    if fan_in < 1:
        raise ValueError(f"weight_variance: fan_in must be at least 1, got {fan_in}")
    return 1 / (fan_in * spike_moment(steps, window))


@dataclass(frozen=True)
class _Synapses:
    """A layer with weights, and what arrives there."""

    name: str
    layer: nn.Linear | _ConvNd
    before: Sequence[nn.Module]
    """All layers before it."""
    window: int
    """The neurons that one of its inputs stands for."""
    maximum: bool
    """Whether such an input is 1 at every step at which one of these fires, not their average."""
    scale: float
    """What it is multiplied by: the neurons, where the pooling sums and does not average."""

    @property
    def is_pooled(self) -> bool:
        """Whether an input is something else than a spike of a single neuron."""
        return self.window != 1 or self.scale != 1

    @property
    def fan_in(self) -> int:
        return self.layer.weight[0].numel()

    def moment(self, steps: int) -> float:
        """The mean square of what arrives, where every neuron fires once."""
        moment = 1 - (1 - 1 / steps) ** self.window if self.maximum else spike_moment(steps, self.window)
        return self.scale**2 * moment


@torch.no_grad()
def initialize_single_spike(
    network: nn.Module, steps: int, batch: Float[Tensor, "T B *features"] | float, *, identity: float = 0.0
) -> tuple[Initialized, ...]:
    """Draw the weights of a whole network of `SingleSpike` neurons for currents of variance 1; biases are 0, gains 1.

    Weights are uniform, by PyTorch's generator. The free weights of a standardized layer (`rheobase.standardize`) are drawn
    alike, and the variance that it is scaled to becomes that.

    Args:
        network: linear and convolutional layers, `SingleSpike` neurons between them, pooling, and what passes spikes on. Of
            pooling, windows within the picture count: those at its border may hold fewer units.
        steps: T, the steps in which a neuron fires once; at least 1.
        batch: some input of the network, from which the mean square of what arrives at the first layer is measured; or that
            mean square.
        identity: the part of the variance, in [0, 1), that lies in one weight of each unit where a layer between two others
            hears spikes: in convolutions the middle of the kernel. Unit j hears neuron or channel j loudest; of more units
            several hear the same, of fewer each another one. From `1 / steps` on one spike is enough to make it fire.

    Returns:
        For each layer with weights what was done, in the order of the data; `print(*done, sep="\\n")` shows it.

    Raises:
        TypeError: if between two layers with weights there are no `SingleSpike` neurons, or a layer of which this does not know
            what it does to spikes; if a layer's weights are computed from others (such as by `weight_norm`), or layers are
            inside of a module that is no container in sequence. The message names it.
        ValueError: if a number is out of range, nothing arrives at the first layer, or there is no layer with weights.

    Example:
        >>> import rheobase as rb
        >>> network = rb.Sequential(nn.Linear(784, 400), rb.SingleSpike(400, decay=1.0), nn.Linear(400, 10))
        >>> print(*initialize_single_spike(network, steps=8, batch=0.1), sep="\\n")
        layer 0: 784 inputs (the input, mean square 0.1), weights of deviation 0.113
        layer 2: 400 inputs (spikes, mean square 0.125), weights of deviation 0.141
    """
    _check_counts("initialize_single_spike", steps=steps)
    if not 0 <= identity < 1:
        raise ValueError(f"initialize_single_spike: identity must be in [0, 1), got {identity}")
    done: list[Initialized] = []
    found = _synapses(network, "initialize_single_spike")
    for synapses in found:
        receives: Receives = "the input" if not done else "pooled spikes" if synapses.is_pooled else "spikes"
        moment = synapses.moment(steps) if done else _measured(synapses.before, batch)
        deviation = 1 / math.sqrt(synapses.fan_in * moment)
        _draw(synapses.layer, deviation, 0.0 if synapses in (found[0], found[-1]) else identity)
        done.append(Initialized(synapses.name, receives, synapses.fan_in, moment, deviation))
    return tuple(done)


@dataclass(frozen=True)
class Calibrated:
    """What was measured of a layer, and done to it."""

    layer: str
    """Its name in the network."""
    before: float
    """The mean square of its current, over units, steps and samples; it is 1 now."""
    scale: float
    """What its weights were multiplied by."""

    def __str__(self) -> str:
        return f"layer {self.layer}: current of mean square {self.before:.3g}, weights times {self.scale:.3g}"


@torch.no_grad()
def calibrate_single_spike(network: nn.Module, batch: Float[Tensor, "T B *features"]) -> tuple[Calibrated, ...]:
    """Scale the weights of each layer of a `SingleSpike` network, in order, for currents of mean square 1 on `batch`.

    Of a standardized layer (`rheobase.standardize`) the deviation is scaled, which the weights keep. Biases stay. It comes
    after `initialize_single_spike`, whose directions it keeps, and is for deep networks and convolutions, where inputs that are
    alike make theory's currents too small. 100 samples will do.

    Args:
        network: as for `initialize_single_spike`; changed in place, but for its mode. Dropout is off meanwhile.
        batch: some input of the network.

    Returns:
        For each layer with weights what was done, in the order of the data.

    Raises:
        TypeError: as for `initialize_single_spike`.
        ValueError: if a layer receives nothing, and so no scale of its weights makes a current.

    Source: Mishkin and Matas, "All you need is a good init", arXiv 1511.06422, which does so for other networks.

    Example:
        >>> import rheobase as rb
        >>> _ = torch.manual_seed(0)
        >>> network = rb.Sequential(nn.Linear(9, 30), rb.Hold(4), rb.SingleSpike(30, decay=1.0), nn.Linear(30, 2))
        >>> _ = rb.initialize_single_spike(network, steps=4, batch=torch.rand(1, 64, 9))
        >>> print(*rb.stability.calibrate_single_spike(network, torch.rand(1, 64, 9)), sep="\\n")
        layer 0: current of mean square 1.16, weights times 0.927
        layer 3: current of mean square 0.292, weights times 1.85
    """
    _synapses(network, "calibrate_single_spike")  # raises where this knows no such network
    done: list[Calibrated] = []
    x = batch
    with evaluating(network):
        for name, layer in in_order(network):
            step = Sequential(layer, input_rate=None)
            current = step(x)
            if isinstance(layer, nn.Linear | _ConvNd):
                before = current.square().mean().item()
                if not 0 < before < math.inf:
                    raise ValueError(
                        f"calibrate_single_spike: layer {name} has a current of mean square {before} on this batch, which no "
                        "scale of its weights makes 1; draw them by rheobase.initialize_single_spike"
                    )
                scale = 1 / math.sqrt(before)
                _scale(layer, scale)
                done.append(Calibrated(name, before, scale))
                current = step(x)
            x = current
    return tuple(done)


@torch.no_grad()
def change_steps(network: nn.Module, before: int, after: int) -> None:
    """Give a network another number of steps: what holds its input, and the weights that its neurons' spikes reach.

    Weights, or the variance that they are standardized to, are scaled such that the variance of the current stays what it is:
    by `sqrt(after / before)` where there is no pooling. The layer that the input reaches does not change.

    Args:
        network: as for `initialize_single_spike`; changed in place.
        before: the steps that the weights are for, at least 1.
        after: the steps to be, at least 1.

    Raises:
        TypeError: as for `initialize_single_spike`.
        ValueError: if a number is below 1, or there is no layer with weights.

    Example:
        >>> import rheobase as rb
        >>> network = rb.Sequential(nn.Linear(9, 8), rb.Hold(4), rb.SingleSpike(8, decay=1.0), nn.Linear(8, 2))
        >>> change_steps(network, 4, 16)
        >>> network(torch.ones(1, 3, 9)).shape
        torch.Size([16, 3, 2])
    """
    _check_counts("change_steps", before=before, after=after)
    for synapses in _synapses(network, "change_steps")[1:]:
        if before == after:  # weights that a backward pass still needs are not written to, not even times 1
            break
        _scale(synapses.layer, math.sqrt(synapses.moment(before) / synapses.moment(after)))
    for module in network.modules():
        if isinstance(module, Hold):
            module.steps = after


def _scale(layer: nn.Linear | _ConvNd, factor: float) -> None:
    """Scale the weights, or the deviation that they are standardized to."""
    rule = standardized(layer)
    (layer.weight if rule is None else rule.deviation).mul_(factor)


def _check_counts(what: str, **counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{what}: {name} must be at least 1, got {value}")


def _synapses(network: nn.Module, what: str) -> list[_Synapses]:
    """The layers with weights in `network`, in the order of the data."""
    check_order(network, what, nn.Linear, _ConvNd, DelayedLinear, SingleSpike, Hold)
    found: list[_Synapses] = []
    before: list[nn.Module] = []
    window, maximum, scale, obstacle = 1, False, 1.0, ""
    for name, layer in in_order(network):
        if isinstance(layer, nn.Linear | _ConvNd):
            if isinstance(layer, _ConvTransposeNd):
                raise TypeError(f"{what}: layer {name} is a {type(layer).__name__}, whose units differ in their inputs")
            _check_writable(layer, f"{what}: layer {name}, {type(layer).__name__}")
            if found and obstacle:
                raise TypeError(
                    f"{what}: what reaches layer {name}, {type(layer).__name__}, must be spikes of SingleSpike neurons, "
                    f"through pooling at most; in between there is {obstacle}"
                )
            found.append(_Synapses(name, layer, tuple(before), window, maximum, scale))
            obstacle = "no such neuron"
        elif isinstance(layer, DelayedLinear):
            raise TypeError(
                f"{what}: layer {name} is a DelayedLinear, and of delays nothing is known here; take an nn.Linear"
            )
        elif isinstance(layer, SingleSpike):
            window, maximum, scale, obstacle = 1, False, 1.0, ""
        elif isinstance(layer, nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d) and not maximum:
            window *= window_size(layer)
            scale *= window_size(layer) / divisor(layer)
        elif isinstance(layer, SpikeMaxPool2d) and window == 1:
            window, maximum = window_size(layer), True
        elif not isinstance(layer, (Hold, *PASSES_SPIKES_ON)):
            obstacle = obstacle or f"layer {name}, {type(layer).__name__}"
        before.append(layer)
    if not found:
        raise ValueError(f"{what}: network has no linear or convolutional layer")
    return found


def _check_writable(layer: nn.Linear | _ConvNd, what: str) -> None:
    """Refuse weights and biases that are computed from others: to write to them changes nothing."""
    own = {name for name, _ in (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False))}
    for name in ("weight", "bias"):
        if name in own or (name == "weight" and only_standardized(layer)) or getattr(layer, name) is None:
            continue
        raise TypeError(
            f"{what}, must have a {name} of its own, but it is computed from other parameters (weight_norm, spectral_norm, "
            f"pruning and the like). Make it a plain one first, torch.nn.utils.parametrize.remove_parametrizations(layer, "
            f"{name!r}), and register what computes it afterwards; or take rheobase.standardize for it"
        )


def _measured(before: Sequence[nn.Module], batch: Tensor | float) -> float:
    """The mean square of what arrives behind the layers `before`."""
    moment = Sequential(*before)(batch).square().mean().item() if isinstance(batch, Tensor) else batch
    if not 0 < moment < math.inf:
        raise ValueError(
            f"initialize_single_spike: batch must have a mean square above 0 where it reaches the first layer, got {moment}"
        )
    return moment


def _draw(layer: nn.Linear | _ConvNd, deviation: float, identity: float) -> None:
    """Uniform weights beside an identity, no bias, and gains of 1."""
    rule, width = standardized(layer), math.sqrt(3 * (1 - identity)) * deviation
    weight = layer.weight if rule is None else free_weight(layer)
    weight.uniform_(-width, width)
    if identity:
        weight += deviation * math.sqrt(identity * weight[0].numel()) * _identity(weight)
    if rule is not None:
        rule.deviation.fill_(deviation)
        if rule.gain is not None:
            rule.gain.fill_(1)
    if layer.bias is not None:
        layer.bias.zero_()


def _identity(weight: Tensor) -> Tensor:
    """A 1 in the weights of each unit, for the input at its own place; of a kernel, in its middle."""
    units, inputs = weight.shape[:2]
    unit = torch.arange(units)
    found = torch.zeros_like(weight)
    place = unit * inputs // units if inputs > units else unit % inputs
    found[(unit, place, *(size // 2 for size in weight.shape[2:]))] = 1
    return found
