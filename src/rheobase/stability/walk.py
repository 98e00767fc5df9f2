"""Passes over a network that stop at every layer of neurons, and what is measured on them.

PyTorch's hooks see a network of any make from the inside: before a layer of neurons runs, here is what it is about to hear and
the weighted layers that made it. A caller may put something else in its place, so that one pass changes a network layer by
layer.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.utils.hooks import RemovableHandle

from rheobase.neurons import Neuron

Before = Callable[[Neuron, Tensor, Sequence[nn.Module]], Tensor]
"""From a layer of neurons, what it is about to hear and the weighted layers in front of it, to what it hears instead."""


@contextmanager
def walking(
    network: nn.Module, before: Before, after: Callable[[Neuron, Tensor], None] | None = None
) -> Iterator[list[nn.Module]]:
    """Within it, a call of `network` calls `before` for each layer of neurons, and `after` with its spikes.

    What it yields holds, after the call, the weighted layers that ran behind the last layer of neurons.

    Raises:
        ValueError: from the call, if a layer of neurons runs twice in it.
    """
    in_front: list[nn.Module] = []
    seen: set[Neuron] = set()

    def passed(module: nn.Module, *_: object) -> None:
        in_front.append(module)

    def arrive(layer: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        assert isinstance(layer, Neuron)
        if layer in seen:
            raise ValueError(
                f"stabilize: the same layer of neurons runs twice: {type(layer).__name__}({layer.extra_repr()})"
            )
        seen.add(layer)
        heard = before(layer, arguments[0], tuple(in_front))
        in_front.clear()
        return heard, *arguments[1:]

    def leave(layer: nn.Module, _: object, spikes: Tensor) -> None:
        assert isinstance(layer, Neuron) and after is not None  # noqa: PT018
        after(layer, spikes)

    handles: list[RemovableHandle] = []
    for module in network.modules():
        if isinstance(module, Neuron):
            handles.append(module.register_forward_pre_hook(arrive))
            if after is not None:
                handles.append(module.register_forward_hook(leave))
        elif isinstance(module, nn.Linear | _ConvNd | _NormBase | nn.LayerNorm | nn.GroupNorm):
            handles.append(module.register_forward_hook(passed))
    try:
        yield in_front
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Measured:
    """What a network does on a batch.

    Args:
        rates: spikes per neuron and step of each layer of neurons, in the order in which they run.
        gradients: the norm of the gradient of the weights in front of each; 0 if there are none that are learned.
        last: that of the weights which come last, in front of the output or of the last layer of neurons, on average over
            the signs of the samples' cotangents, see `signs`.
    """

    rates: dict[Neuron, float]
    gradients: dict[Neuron, float]
    last: float


def measure(network: nn.Module, batch: Tensor, seed: int) -> Measured:
    """Firing rates, and the norms of gradients for a random cotangent."""
    rates: dict[Neuron, float] = {}
    groups: dict[Neuron, list[nn.Parameter]] = {}

    def before(layer: Neuron, x: Tensor, in_front: Sequence[nn.Module]) -> Tensor:
        groups[layer] = learned_weights(in_front)
        return x

    def after(layer: Neuron, spikes: Tensor) -> None:
        rates[layer] = spikes.mean().item()

    with walking(network, before, after) as behind:
        output = network(batch)
    weights = [weight for group in groups.values() for weight in group]
    norms = dict(zip(weights, _norms(output, weights, cotangent(output, batch, seed)), strict=True))
    gradients = {layer: math.hypot(*(norms[weight] for weight in group)) for layer, group in groups.items()}
    last = learned_weights(behind) or next((group for group in reversed(groups.values()) if group), [])
    flipped = [_norms(output, last, each) for each in cotangents(output, batch, seed)]
    return Measured(rates, gradients, rms([math.hypot(*each) for each in flipped]))


def learned_weights(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    """Those that have a gradient; of a layer whose weights are computed by a parametrization, none."""
    weights = (module._parameters.get("weight") for module in modules)
    return [weight for weight in weights if weight is not None and weight.requires_grad]


def _norms(output: Tensor, weights: Sequence[nn.Parameter], cotangent: Tensor) -> list[float]:
    if not weights or not output.requires_grad:
        return [0.0] * len(weights)
    gradients = torch.autograd.grad((output * cotangent).sum(), weights, retain_graph=True, allow_unused=True)
    return [0.0 if gradient is None else gradient.double().norm().item() for gradient in gradients]


def rms(values: Sequence[float]) -> float:
    """The root of the mean square."""
    return math.hypot(*values) / math.sqrt(len(values))


def signs(batch: int, like: Tensor, seed: int) -> Tensor:
    """Random signs for the samples of a batch, eight times, `(8, B)`.

    The gradient of a batch is a sum over samples. In a deep layer, in which all samples look alike, one draw of cotangents adds
    up and another cancels, by factors: the mean over signs is what independent samples give.
    """
    drawn = torch.randint(0, 2, (8, batch), generator=torch.Generator().manual_seed(seed))
    return (2 * drawn - 1).to(like)


def cotangent(output: Tensor, batch: Tensor, seed: int) -> Tensor:
    """A random gradient of the output `(T, B, *features)` that does not change over time, as of a loss that averages over it.

    Where the network has done away with time itself, it is random for every number of the output.
    """
    over_time = output.ndim > 1 and output.shape[:2] == batch.shape[:2]
    shape = (1, *output.shape[1:]) if over_time else output.shape
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(output)


def cotangents(output: Tensor, batch: Tensor, seed: int) -> list[Tensor]:
    """The cotangent with eight draws of a sign for each sample, if the output has an axis for them."""
    drawn = cotangent(output, batch, seed)
    samples = batch.shape[1]
    if drawn.shape[:2] == (1, samples):
        shape = (1, samples, *[1] * (drawn.ndim - 2))
    elif drawn.ndim and len(drawn) == samples:
        shape = (samples, *[1] * (drawn.ndim - 1))
    else:
        return [drawn]
    return [drawn * each.view(shape) for each in signs(samples, output, seed)]


@contextmanager
def as_in_training(network: nn.Module) -> Iterator[None]:
    """Within it, dropout is off and normalisation takes the statistics of the batch; afterwards all is as it was."""
    modes = {module: module.training for module in network.modules()}
    statistics = {
        buffer: buffer.clone() for module in modes if isinstance(module, _NormBase) for buffer in module.buffers()
    }
    try:
        for module in modes:
            module.training = isinstance(module, _NormBase)
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for buffer, before in statistics.items():
            buffer.copy_(before)
