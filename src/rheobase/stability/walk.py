"""Passes over a network that stop at every layer of neurons, and the measurements taken on the way.

PyTorch's hooks see any network from the inside: before a layer of neurons runs, they provide the input it is about to receive
and the weighted layers that produced it. A caller may replace that input, so that one pass changes a network layer by layer.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.hooks import RemovableHandle

from rheobase.health import outside_neurons
from rheobase.layers.delayed_linear import DelayedLinear
from rheobase.layers.initialization import NORMALIZATIONS
from rheobase.layers.parametrized import kind_of, weight_name
from rheobase.layers.quantized import quantized
from rheobase.layers.recompute import in_one_piece
from rheobase.layers.standardized import free_weight, standardized
from rheobase.layers.synapses import Synapses
from rheobase.neurons import Neuron
from rheobase.temporal import Temporal

_MOST_SIGNS = 16
_ROUNDING = 1e-4

Before = Callable[[Neuron, Tensor, Sequence[nn.Module]], Tensor]
"""From a layer of neurons, its coming input and the weighted layers in front of it to the input that it gets instead."""


@dataclass
class Walked:
    """What a walk has passed, available after the call.

    Args:
        behind: the weighted layers that ran after the last layer of neurons.
        steps: the number of steps that the last layer over time returned: T of the output if it has a time axis, which a `Hold`
            makes different from that of the batch.
    """

    behind: list[nn.Module] = field(default_factory=list)
    steps: int = 0


@contextmanager
def walking(
    network: nn.Module, before: Before, after: Callable[[Neuron, Tensor], None] | None = None
) -> Iterator[Walked]:
    """Within it, a call of `network` calls `before` for each layer of neurons, and `after` with its spikes.

    Raises:
        ValueError: from the call, if a layer of neurons runs twice in it.
    """
    walked = Walked()
    in_front = walked.behind
    seen: set[Neuron] = set()

    def passed(module: nn.Module, *_: object) -> None:
        in_front.append(module)

    def timed(_module: nn.Module, _: object, sequence: Tensor) -> None:
        walked.steps = len(sequence)

    def arrive(layer: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        assert isinstance(layer, Neuron)
        if layer in seen:
            raise ValueError(f"stabilize: the same layer of neurons runs twice: {kind_of(layer)}({layer.extra_repr()})")
        seen.add(layer)
        heard = before(layer, arguments[0], tuple(in_front))
        in_front.clear()
        return heard, *arguments[1:]

    def leave(layer: nn.Module, _: object, spikes: Tensor) -> None:
        assert isinstance(layer, Neuron) and after is not None  # noqa: PT018
        after(layer, spikes)

    handles: list[RemovableHandle] = []
    for module in outside_neurons(network):
        if isinstance(module, Neuron):
            handles.append(module.register_forward_pre_hook(arrive))
            if after is not None:
                handles.append(module.register_forward_hook(leave))
        elif isinstance(module, Synapses | NORMALIZATIONS):
            handles.append(module.register_forward_hook(passed))
        if isinstance(module, Temporal):
            handles.append(module.register_forward_hook(timed))
    try:
        yield walked
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Measured:
    """A network's activity and gradients on a batch.

    Args:
        rates: spikes per neuron and step of each layer of neurons, in the order in which they run.
        gradients: the norm of the gradient of the weights in front of each; 0 if none are learned.
        last: that of the last weights, in front of the output or of the last layer of neurons, averaged over the signs of the
            samples' cotangents, see `signs`.
        last_before_neurons: of the weighted layers in front of each layer of neurons, the one that runs last.
        behind: the weighted layers after the last layer of neurons, in the order in which they run.
        axes: how the output begins if it has a time axis, `(T, B)`.
    """

    rates: dict[Neuron, float]
    gradients: dict[Neuron, float]
    last: float
    last_before_neurons: tuple[nn.Module, ...]
    behind: tuple[nn.Module, ...]
    axes: tuple[int, int]


def measure(network: nn.Module, batch: Tensor, seed: int) -> Measured:
    """Firing rates, and the norms of gradients for a random cotangent."""
    rates: dict[Neuron, float] = {}
    groups: dict[Neuron, list[nn.Parameter]] = {}
    last_before_neurons: list[nn.Module] = []

    def before(layer: Neuron, x: Tensor, in_front: Sequence[nn.Module]) -> Tensor:
        groups[layer] = learned_weights(in_front)
        last_before_neurons.extend(in_front[-1:])
        return x

    def after(layer: Neuron, spikes: Tensor) -> None:
        rates[layer] = spikes.mean().item()

    with walking(network, before, after) as walked:
        output = network(batch)
    axes = walked.steps, batch.shape[1]
    weights = [weight for group in groups.values() for weight in group]
    norms = dict(zip(weights, _norms(output, weights, cotangent(output, axes, seed)), strict=True))
    gradients = {layer: math.hypot(*(norms[weight] for weight in group)) for layer, group in groups.items()}
    last = learned_weights(walked.behind) or next((group for group in reversed(groups.values()) if group), [])
    flipped = [_norms(output, last, each) for each in cotangents(output, axes, seed)]
    norm = rms([math.hypot(*each) for each in flipped])
    return Measured(rates, gradients, norm, tuple(last_before_neurons), tuple(walked.behind), axes)


def learned_weights(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    """Those that have a gradient: for standardized and quantized layers the free ones; for other parametrizations, none."""
    weights = (
        free_weight(module)
        if weight_name(module) == "weight" and (standardized(module) or quantized(module)) is not None
        else module._parameters.get("weight")
        for module in modules
    )
    return [weight for weight in weights if weight is not None and weight.requires_grad]


def _norms(output: Tensor, weights: Sequence[nn.Parameter], cotangent: Tensor) -> list[float]:
    if not weights or not output.requires_grad:
        return [0.0] * len(weights)
    gradients = torch.autograd.grad((output * cotangent).sum(), weights, retain_graph=True, allow_unused=True)
    return [0.0 if gradient is None else gradient.double().norm().item() for gradient in gradients]


def rms(values: Sequence[float]) -> float:
    """The root of the mean square."""
    return math.hypot(*values) / math.sqrt(len(values))


class GradientNorm:
    """The norm of the gradient of the weights that produce a current, for gradients of that current.

    Where a gradient is a multiple of the last one, as for a layer without recurrence at another dampening, so is the norm.

    Args:
        current: the current produced by the weights, `(T, B, *features)`.
        weights: the weights.
        seed: seed of the signs of the samples, over which the norm is averaged.
    """

    def __init__(self, current: Tensor, weights: Sequence[nn.Parameter], seed: int) -> None:
        self._current, self._weights = current, weights
        self._signs = signs(current.shape[1], current, seed)
        self._last: tuple[Tensor, float] | None = None

    def __call__(self, on_current: Tensor) -> float:
        """The norm for a gradient of the current; 0 without weights."""
        if not self._weights:
            return 0.0
        factor = None if self._last is None else _multiple(on_current, self._last[0])
        norm = self._measured(on_current) if self._last is None or factor is None else factor * self._last[1]
        self._last = on_current, norm
        return norm

    def _measured(self, on_current: Tensor) -> float:
        norms = []
        for each in self._signs:
            flipped = on_current * each.view(1, -1, *[1] * (on_current.ndim - 2))
            gradients = torch.autograd.grad(self._current, self._weights, flipped, retain_graph=True, allow_unused=True)
            norms.append(
                math.hypot(*(gradient.double().norm().item() for gradient in gradients if gradient is not None))
            )
        return rms(norms)


def _multiple(one: Tensor, other: Tensor) -> float | None:
    """The positive factor from the second tensor to the first, up to rounding; None if there is none."""
    one, other = one.float().flatten(), other.float().flatten()
    square = other.dot(other)
    factor = one.dot(other) / square
    if bool(factor > 0) and bool((one - factor * other).square().sum() < _ROUNDING**2 * factor**2 * square):
        return factor.item()
    return None


def signs(batch: int, like: Tensor, seed: int) -> Tensor:
    """Signs for the samples of a batch, `(K, B)`: rows of a Hadamard matrix, at most 16, with a random sign for each sample.

    The gradient of a batch is a sum over samples. In a deep layer, in which all samples look alike, one draw of cotangents adds
    up and another cancels, by factors: the mean square over signs is the sum of the samples' own squares, as for independent
    samples. For up to 16 samples it is exactly that, since no two of them share their signs; further samples share them with
    one of these.
    """
    count = min(_MOST_SIGNS, 1 << (batch - 1).bit_length())
    rows = torch.ones(1, 1)
    while len(rows) < count:
        rows = torch.cat([torch.cat([rows, rows], 1), torch.cat([rows, -rows], 1)])
    drawn = torch.randint(0, 2, (batch,), generator=torch.Generator().manual_seed(seed))
    return ((2 * drawn - 1) * rows[:, torch.arange(batch) % count]).to(like)


def cotangent(output: Tensor, axes: tuple[int, int], seed: int) -> Tensor:
    """A random gradient of the output `(T, B, *features)` that is constant over time, as from a loss that averages over it.

    Where the network itself has removed time, so that `axes`, `(T, B)`, are not the output's first two, it is random for every
    entry of the output. Each has mean square 1, and those of the samples are orthogonal to each other; if there are more
    samples than features, those of the features are. What goes back through a deep layer is often little more than its
    component along one direction of the output, the same for all samples. With independent draws that component would be larger
    or smaller by chance, and every layer below the point where the gradient has become so narrow would be measured with it, but
    the last one with the mean over all directions. Orthogonal draws cover them evenly.
    """
    over_time, samples = output.shape[:2] == axes, axes[1]
    shape = (1, *output.shape[1:]) if over_time else output.shape
    generator = torch.Generator().manual_seed(seed)
    if not over_time and shape[:1] != (samples,):
        return torch.randn(shape, generator=generator).to(output)
    drawn = torch.empty(samples, math.prod(shape) // samples)
    nn.init.orthogonal_(drawn, math.sqrt(max(drawn.shape)), generator)
    return drawn.view(shape).to(output)


def cotangents(output: Tensor, axes: tuple[int, int], seed: int) -> list[Tensor]:
    """The cotangent with the samples' `signs`, if the output has an axis for them."""
    drawn, samples = cotangent(output, axes, seed), axes[1]
    if drawn.shape[:2] == (1, samples):
        shape = (1, samples, *[1] * (drawn.ndim - 2))
    elif drawn.ndim and len(drawn) == samples:
        shape = (samples, *[1] * (drawn.ndim - 1))
    else:
        return [drawn]
    return [drawn * each.view(shape) for each in signs(samples, output, seed)]


@contextmanager
def as_in_training(network: nn.Module) -> Iterator[None]:
    """Within it, neurons behave as in training, dropout is off, normalization uses batch statistics, delays are as wide as at
    the start of training, and nothing runs in pieces.

    Afterwards everything is restored.
    """
    modes = {module: module.training for module in network.modules()}
    kinds = _NormBase | DelayedLinear
    buffers = {buffer: buffer.clone() for module in modes if isinstance(module, kinds) for buffer in module.buffers()}
    try:
        for module in modes:
            module.training = isinstance(module, kinds | Neuron)
            if isinstance(module, DelayedLinear):
                module.proceed(0.0)
        with in_one_piece(network):
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        for buffer, before in buffers.items():
            buffer.copy_(before)
