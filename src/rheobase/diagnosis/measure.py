"""What a doctor looks at: one batch, forwards once and backwards twice, and everything that can be seen on the way.

The first backward pass starts from the loss, and shows how the gradient fares through depth. The second starts from random
numbers at the last steps of the output alone, and shows how far back in time a gradient comes. Each layer of neurons is
then run by itself, for the factor by which it makes a gradient grow or shrink per step.

All of it happens on a copy of the network, in training mode, with fixed random numbers: the network is left as it was, and
the same batch gives the same numbers.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rheobase.copies import copy_of
from rheobase.diagnosis.gradients import early, ending, growth, memory, norm, ratio, rms, spread
from rheobase.diagnosis.measures import LayerMeasures, Measures, Membrane
from rheobase.diagnosis.theory import expected_gain, expected_growth
from rheobase.health import LayerHealth, Recorder, neuron_layers, outside_neurons
from rheobase.layers import Dropout
from rheobase.layers.recompute import in_one_piece
from rheobase.layers.synapses import Synapses
from rheobase.neurons import Neuron
from rheobase.parameters import FeatureParameters
from rheobase.surrogate import Surrogate

Loss = Callable[[Tensor], Tensor]
"""Of the output `(T, B, *out)`, a scalar."""

REACH = 0.1
"""A neuron is within reach of its surrogate where the derivative is at least this share of its peak."""

_ENTRIES = 1 << 22
"""Statistics of a membrane are taken over so many samples that they hold about so many numbers."""


@dataclass
class _Seen:
    """One layer of neurons as it ran, and what its input came through since the layer of neurons before."""

    neuron: Neuron
    current: Tensor
    spikes: Tensor
    before: list[nn.Module]
    arriving: Tensor

    @property
    def neurons(self) -> int:
        return math.prod(self.spikes.shape[2:])

    def weights(self) -> list[Tensor]:
        # By its name, as a parametrized one, too, has it in the name of what is learned.
        own = (parameter for name, parameter in self.neuron.named_parameters() if "recurrent_weight" in name)
        return [*_weights(self.before), *(parameter for parameter in own if parameter.requires_grad)]


@dataclass(frozen=True)
class _Returned:
    """What came back to one layer of neurons.

    Args:
        error: of the loss, with respect to the input current.
        of_weights: of the loss, with respect to the weights in front, and the recurrent ones.
        at_the_end: of random numbers at the last steps of the output, with respect to the input current.
        alone: the same at the last steps of the layer's own spikes.
    """

    error: Tensor
    of_weights: list[Tensor]
    at_the_end: Tensor
    alone: Tensor


def measure(network: nn.Module, x: Float[Tensor, "T B *features"], loss: Loss) -> Measures:
    """Everything that is to be seen of `network` on the batch `x`.

    Args:
        network: any module with layers of neurons.
        x: the batch, finite.
        loss: of the output, a scalar.

    Raises:
        TypeError: if the network returns anything but a tensor.
        ValueError: if no layer of neurons runs in a call of the network.
    """
    network = copy_of(network).train()
    names = {module: name for name, module in neuron_layers(network)}
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        torch.manual_seed(0)
        with Recorder(network) as recorder, _watching(network) as (seen, behind):
            # A leaf with a gradient, so that there is one to follow where nothing in front of the neurons learns, too.
            output = network(x.detach().clone().requires_grad_())
        _check_output(network, output, seen)
        value = loss(output.float())
        back, readout = _backwards(value, output, seen, behind)
    health = {layer.name: layer for layer in recorder.layers()}
    known = [health[names[part.neuron]] for part in seen]
    layers = [_layer_measures(*of_one) for of_one in zip(seen, back, known, strict=True)]
    for index in range(len(layers) - 1):
        gain = ratio(layers[index].error, layers[index + 1].error)
        expected = _expected_gain(seen[index], seen[index + 1], back[index + 1].error, layers[index].membrane)
        layers[index] = replace(layers[index], gain=gain, expected_gain=expected)
    flowing = [output, value, *readout, *(gradient for part in back for gradient in (part.error, *part.of_weights))]
    return Measures(
        layers=tuple(layers),
        steps=x.shape[0],
        samples=x.shape[1],
        loss=value.item(),
        readout_gradient=norm(readout),
        output_spread=spread(output),
        activity_spread=spread(seen[-1].spikes),
        finite=all(bool(tensor.isfinite().all()) for tensor in flowing),
        unseen=tuple(recorder.unseen()),
    )


def _check_output(network: nn.Module, output: object, seen: Sequence[_Seen]) -> None:
    if not isinstance(output, Tensor):
        raise TypeError(f"doctor: network must return a tensor, (T, B, *out), got a {type(output).__name__}")
    if not seen:
        raise ValueError(
            "doctor: network must run layers of neurons (rheobase.Neuron) when it is called on the batch, and none ran in "
            f"this {type(network).__name__}"
        )


def _backwards(
    value: Tensor, output: Tensor, seen: Sequence[_Seen], behind: Sequence[nn.Module]
) -> tuple[list[_Returned], list[Tensor]]:
    """All gradients of each layer, and those of the loss with respect to the weights behind the last."""
    weights = [*(part.weights() for part in seen), _weights(behind)]
    currents = [part.current for part in seen]
    found = _gradients(value, [*currents, *(weight for group in weights for weight in group)], retain=True)
    errors, rest = found[: len(seen)], iter(found[len(seen) :])
    *by_layer, readout = [[next(rest) for _ in group] for group in weights]
    histories = _gradients(_at_the_end(output), currents)
    alone = [_gradient_of_layer_alone(part) for part in seen]
    return [_Returned(*of_one) for of_one in zip(errors, by_layer, histories, alone, strict=True)], readout


def _layer_measures(part: _Seen, back: _Returned, known: LayerHealth) -> LayerMeasures:
    """All of a layer but what compares it with the next."""
    membrane = _membrane(part)
    slope_square = membrane.slopes[1] if membrane else math.nan
    return LayerMeasures(
        name=known.name,
        neurons=known.neurons,
        steps=len(part.spikes),
        rate=known.rate,
        input_density=part.arriving.count_nonzero().item() / max(part.arriving.numel(), 1),
        dead=known.dead,
        saturated=known.saturated,
        gradient=norm(back.of_weights),
        error=rms(back.error),
        gain=math.nan,
        expected_gain=math.nan,
        early=early(back.error),
        growth=growth(back.alone),
        expected_growth=expected_growth(part.neuron, slope_square, part.spikes),
        memory=memory(back.at_the_end),
        membrane=membrane,
        surrogate=getattr(part.neuron, "surrogate", None),
        fires_once_in=known.fires_once_in,
        recurrent=hasattr(part.neuron, "recurrent_weight"),
        differentiable=part.spikes.requires_grad or not part.current.requires_grad,
    )


def _expected_gain(part: _Seen, following: _Seen, error: Tensor, membrane: Membrane | None) -> float:
    """Of a layer with this membrane, in front of one at whose input there is this error."""
    if membrane is None:
        return math.nan
    gain = expected_gain(part.neuron, membrane.slopes, following.before, error)
    return gain * math.sqrt(part.neurons / following.neurons)


@contextmanager
def _watching(network: nn.Module) -> Iterator[tuple[list[_Seen], list[nn.Module]]]:
    """Fills a list with the layers of neurons as they run, and another with what runs behind the last of them."""
    seen: list[_Seen] = []
    between: list[nn.Module] = []
    arriving: list[Tensor] = []

    def on_other(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        between.append(module)
        if isinstance(module, Synapses):
            arriving.append(inputs[0])

    def on_neurons(module: nn.Module, inputs: tuple[Any, ...], spikes: Tensor) -> None:
        assert isinstance(module, Neuron)
        current = inputs[0]
        seen.append(_Seen(module, current, spikes, list(between), arriving[0] if arriving else current))
        between.clear()
        arriving.clear()

    handles = []
    # A parametrized layer, such as a standardized one, has modules of its own, which compute its weight.
    rules = {
        part for layer in network.modules() if isinstance(layer, Synapses) for part in layer.modules() if part != layer
    }
    for module in outside_neurons(network):
        computes = isinstance(module, Synapses) or not any(module.children())
        if isinstance(module, Neuron):
            handles.append(module.register_forward_hook(on_neurons))
        elif (
            computes and module not in rules and not isinstance(module, nn.Flatten | nn.Identity | nn.Dropout | Dropout)
        ):
            handles.append(module.register_forward_pre_hook(on_other))
    try:
        with in_one_piece(network):
            yield seen, between
    finally:
        for handle in handles:
            handle.remove()


def _weights(modules: Sequence[nn.Module]) -> list[Tensor]:
    layers = [layer for module in modules for layer in module.modules() if isinstance(layer, FeatureParameters)]
    values = {getattr(layer, f"raw_{name}") for layer in layers for name in layer.learn}  # a delay is no weight
    parameters = (parameter for module in modules for parameter in module.parameters())
    return [each for each in parameters if each.ndim >= 2 and each.requires_grad and each not in values]


def _gradients(value: Tensor, inputs: list[Tensor], *, retain: bool = False) -> list[Tensor]:
    """The gradients of `value`, which are zero where nothing leads from an input to it."""
    if not value.requires_grad:
        return [torch.zeros_like(tensor) for tensor in inputs]
    found = torch.autograd.grad(value, inputs, retain_graph=retain, allow_unused=True)
    return [torch.zeros_like(tensor) if part is None else part for part, tensor in zip(found, inputs, strict=True)]


def _at_the_end(output: Tensor) -> Tensor:
    """Random numbers times the last tenth of the steps, summed."""
    steps = ending(len(output))
    end = output[len(output) - steps :].float()
    return (end * torch.randn_like(end)).sum()


def _gradient_of_layer_alone(part: _Seen) -> Tensor:
    """The gradient with respect to a layer's input, of random numbers at the last steps of its spikes."""
    current = part.current.detach().requires_grad_()
    return _gradients(_at_the_end(part.neuron.forward(current)), [current])[0]


@torch.no_grad()
def _membrane(part: _Seen) -> Membrane | None:
    current, neuron = part.current.detach(), part.neuron
    per_sample = max(current[:, :1].numel(), 1)
    current = current[:, : max(1, _ENTRIES // per_sample)]
    try:
        distance = neuron.distance(current)
    except NotImplementedError:
        return None
    threshold = neuron.current("threshold").cpu().double().abs().mean().item()
    potentials = (distance + neuron.thresholds(distance)).cpu().double()
    sample = potentials.flatten()[:: max(1, potentials.numel() // 100_000)]
    surrogate = getattr(neuron, "surrogate", None)
    within = slope = mean = square = torch.tensor(math.nan)
    if isinstance(surrogate, Surrogate):
        slopes = surrogate.derivative(distance).cpu().double()
        within = (slopes.abs() >= REACH * surrogate.dampening).double().mean()
        slope = slopes.abs().mean() / surrogate.dampening
        mean, square = slopes.mean(), slopes.square().mean()
    return Membrane(
        threshold=threshold,
        drive=current.cpu().double().flatten(0, 1).var(0, correction=0).mean().sqrt().item() / threshold,
        mean=potentials.mean().item() / threshold,
        std=potentials.std().item() / threshold,
        top=sample.quantile(0.999).item() / threshold,
        within_reach=within.item(),
        slope=slope.item(),
        slopes=(mean.item(), square.item()),
    )
