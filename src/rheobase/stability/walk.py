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
        last: that of the weights which come last, in front of the output or of the last layer of neurons.
    """

    rates: dict[Neuron, float]
    gradients: dict[Neuron, float]
    last: float


def measure(network: nn.Module, batch: Tensor, seed: int) -> Measured:
    """Firing rates, and the norms of gradients for a random cotangent."""
    rates: dict[Neuron, float] = {}
    groups: dict[Neuron, Sequence[nn.Module]] = {}

    def before(layer: Neuron, x: Tensor, in_front: Sequence[nn.Module]) -> Tensor:
        groups[layer] = in_front
        return x

    def after(layer: Neuron, spikes: Tensor) -> None:
        rates[layer] = spikes.mean().item()

    with walking(network, before, after) as behind:
        norms = gradient_norms(network, network(batch), seed)

    def norm_of(modules: Sequence[nn.Module]) -> float:
        weights = {module._parameters.get("weight") for module in modules}
        return math.sqrt(sum(norms.get(weight, 0.0) ** 2 for weight in weights if weight is not None))

    gradients = {layer: norm_of(modules) for layer, modules in groups.items()}
    last = norm_of(behind) or next(reversed(gradients.values()), 0.0)
    return Measured(rates, gradients, last)


def gradient_norms(network: nn.Module, output: Tensor, seed: int) -> dict[nn.Parameter, float]:
    """The norm of each parameter's gradient, for a random cotangent at the output that does not change over time.

    Raises:
        ValueError: if no gradient goes back from the output.
    """
    if not output.requires_grad:
        raise ValueError("stabilize: no gradient goes back from the network's output; its weights must be learned")
    shape = output.shape[1:] if output.ndim > 1 else output.shape
    cotangent = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(output)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad((output * cotangent).sum(), parameters, allow_unused=True)
    return {
        parameter: 0.0 if gradient is None else gradient.double().norm().item()
        for parameter, gradient in zip(parameters, gradients, strict=True)
    }


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
