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
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rheobase.copies import copy_of
from rheobase.diagnosis.theory import expected_gain, expected_growth
from rheobase.health import Recorder, neuron_layers, outside_neurons
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


@dataclass(frozen=True)
class Membrane:
    """The membrane potentials of a layer, over neurons, samples and steps.

    Args:
        threshold: the mean threshold, without what adaptation adds.
        drive: by how much the input current of a neuron varies, its standard deviation over samples and steps, in units of the
            threshold; likewise the three that follow.
        mean: the mean potential.
        std: the standard deviation.
        top: what one potential in a thousand is above.
        within_reach: the share of potentials at which the surrogate's derivative is a tenth of its peak or more.
        slope: the mean size of the surrogate's derivative, as a share of its peak: 1 would be all neurons at the threshold.
        slopes: the mean of the derivative, and its mean square.
    """

    threshold: float
    drive: float
    mean: float
    std: float
    top: float
    within_reach: float
    slope: float
    slopes: tuple[float, float]


@dataclass(frozen=True)
class LayerMeasures:
    """What was seen of one layer of neurons; NaN where it cannot be known.

    Args:
        name: position and kind, `"1 LIF(128)"`.
        neurons: how many.
        steps: how many the layer goes through; behind a `Hold`, more than the batch has.
        rate: spikes per neuron and step.
        input_density: the share of entries that are not zero in what reaches the weights in front of the neurons.
        dead: the share of neurons without a spike in the batch.
        saturated: the share of neurons that fire at 90 % of the steps or more.
        gradient: the norm of the loss's gradient with respect to the weights in front of the neurons, and the recurrent ones.
        error: the norm of the loss's gradient with respect to the input current of the neurons, in the root mean square over
            samples and steps.
        gain: by what factor that is larger than in the next layer.
        expected_gain: the same by theory.
        early: the error in the first third of the steps, as a multiple of that in the last third.
        growth: by what factor a gradient that enters the layer at the end grows per step back in time.
        expected_growth: the same by theory.
        memory: how many of the `steps_before` the end of the output still depends on, by the layer's input, with 1 % of the
            largest gradient.
        membrane: potentials and slopes; None for neurons that have no membrane to look at.
        surrogate: the gradient of its spikes, if it has one.
        fires_once_in: the steps in which its neurons fire once, where they are `SingleSpike`; else None.
        recurrent: whether its neurons hear each other.
        differentiable: whether a gradient goes from its spikes back to what it is given.
    """

    name: str
    neurons: int
    steps: int
    rate: float
    input_density: float
    dead: float
    saturated: float
    gradient: float
    error: float
    gain: float
    expected_gain: float
    early: float
    growth: float
    expected_growth: float
    memory: float
    membrane: Membrane | None
    surrogate: Surrogate | None = field(repr=False)
    fires_once_in: int | None = field(repr=False)
    recurrent: bool = field(repr=False)
    differentiable: bool = field(repr=False)

    @property
    def steps_before(self) -> int:
        """How many steps there are before the last tenth of them: what there can be a memory of."""
        return self.steps - _ending(self.steps)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: numbers that are not finite are None."""
        unsaid = ("surrogate", "fires_once_in", "recurrent", "differentiable")
        shown = {name: value for name, value in vars(self).items() if name not in unsaid}
        values = {name: finite_or_none(value) for name, value in shown.items()}
        if self.membrane is not None:
            values["membrane"] = {
                name: finite_or_none(value) for name, value in vars(self.membrane).items() if name != "slopes"
            }
        return values


@dataclass(frozen=True)
class Measures:
    """What was seen of a network on a batch.

    Args:
        layers: of each layer of neurons, in the order of the data.
        steps: T of the batch; a layer behind a `Hold` has steps of its own.
        samples: B.
        loss: the loss of the batch.
        readout_gradient: the norm of the loss's gradient with respect to the weights behind the last layer of neurons; NaN if
            there are none.
        output_spread: how much the output's mean over time differs from sample to sample, as a share of its size.
        activity_spread: the same for the spikes of the last layer of neurons.
        finite: whether output, loss and gradients are all finite.
        unseen: the layers of neurons that did not run in a call of the network.
    """

    layers: tuple[LayerMeasures, ...]
    steps: int
    samples: int
    loss: float
    readout_gradient: float
    output_spread: float
    activity_spread: float
    finite: bool
    unseen: tuple[str, ...]


@dataclass
class _Seen:
    """One layer of neurons as it ran, and what its input came through since the layer of neurons before."""

    neuron: Neuron
    current: Tensor
    spikes: Tensor
    before: list[nn.Module]
    arriving: Tensor

    def weights(self) -> list[Tensor]:
        # By its name, as a parametrized one, too, has it in the name of what is learned.
        own = (parameter for name, parameter in self.neuron.named_parameters() if "recurrent_weight" in name)
        return [*_weights(self.before), *(parameter for parameter in own if parameter.requires_grad)]


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
        if not isinstance(output, Tensor):
            raise TypeError(f"doctor: network must return a tensor, (T, B, *out), got a {type(output).__name__}")
        if not seen:
            raise ValueError(
                "doctor: network must run layers of neurons (rheobase.Neuron) when it is called on the batch, and none ran in "
                f"this {type(network).__name__}"
            )
        value = loss(output.float())
        weights = [*(part.weights() for part in seen), _weights(behind)]
        currents = [part.current for part in seen]
        gradients = _gradients(value, [*currents, *(weight for group in weights for weight in group)], retain=True)
        errors, rest = gradients[: len(seen)], iter(gradients[len(seen) :])
        by_layer = [[next(rest) for _ in group] for group in weights]
        histories = _gradients(_at_the_end(output), currents)
        alone = [_gradient_of_layer_alone(part) for part in seen]
    health = {layer.name: layer for layer in recorder.layers()}
    sizes = [_rms(error) for error in errors]
    layers = []
    for index, part in enumerate(seen):
        known = health[names[part.neuron]]
        membrane = _membrane(part)
        slope_square = membrane.slopes[1] if membrane else math.nan
        gain = theory = math.nan
        if index + 1 < len(seen):
            gain = _ratio(sizes[index], sizes[index + 1])
            if membrane is not None:
                theory = expected_gain(part.neuron, membrane.slopes, seen[index + 1].before, errors[index + 1])
                theory *= math.sqrt(known.neurons / health[names[seen[index + 1].neuron]].neurons)
        layers.append(
            LayerMeasures(
                name=known.name,
                neurons=known.neurons,
                steps=len(part.spikes),
                rate=known.rate,
                input_density=part.arriving.count_nonzero().item() / max(part.arriving.numel(), 1),
                dead=known.dead,
                saturated=known.saturated,
                gradient=_norm(by_layer[index]),
                error=sizes[index],
                gain=gain,
                expected_gain=theory,
                early=_early(errors[index]),
                growth=_growth(alone[index]),
                expected_growth=expected_growth(part.neuron, slope_square, part.spikes),
                memory=_memory(histories[index]),
                membrane=membrane,
                surrogate=getattr(part.neuron, "surrogate", None),
                fires_once_in=known.fires_once_in,
                recurrent=hasattr(part.neuron, "recurrent_weight"),
                differentiable=part.spikes.requires_grad or not part.current.requires_grad,
            )
        )
    return Measures(
        layers=tuple(layers),
        steps=x.shape[0],
        samples=x.shape[1],
        loss=value.item(),
        readout_gradient=_norm(by_layer[-1]),
        output_spread=_spread(output),
        activity_spread=_spread(seen[-1].spikes),
        finite=all(bool(tensor.isfinite().all()) for tensor in (output, value, *gradients)),
        unseen=tuple(recorder.unseen()),
    )


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
    steps = _ending(len(output))
    end = output[len(output) - steps :].float()
    return (end * torch.randn_like(end)).sum()


def _ending(steps: int) -> int:
    return max(1, steps // 10)


def _gradient_of_layer_alone(part: _Seen) -> Tensor:
    """The gradient with respect to a layer's input, of random numbers at the last steps of its spikes."""
    current = part.current.detach().requires_grad_()
    return _gradients(_at_the_end(part.neuron.forward(current)), [current])[0]


def _by_step(gradient: Tensor) -> Float[Tensor, " T"]:
    return gradient.detach().cpu().double().flatten(1).norm(dim=1).cpu()


def _growth(gradient: Tensor) -> float:
    """The factor per step back in time, from the steps before the end; by the line through the logarithms of the norms."""
    norms = _by_step(gradient)
    norms = norms[: len(norms) - _ending(len(norms))].flip(0)
    if not norms.isfinite().all():
        return math.inf
    alive = norms > 0
    if alive.sum() < 2:
        return 0.0 if len(norms) > 1 else math.nan
    lags, logs = torch.arange(len(norms), dtype=torch.float64)[alive], norms[alive].log()
    lags, logs = lags - lags.mean(), logs - logs.mean()
    return math.exp((lags @ logs / (lags @ lags)).item())


def _memory(gradient: Tensor) -> float:
    """How many steps before the ending there still is a hundredth of the largest gradient; NaN if there is none at all."""
    norms = _by_step(gradient)
    felt = (norms >= norms.max() / 100) & (norms > 0)
    return float(max(0, len(norms) - _ending(len(norms)) - felt.nonzero()[0].item())) if felt.any() else math.nan


def _early(error: Tensor) -> float:
    """The first third of the steps against the last."""
    third = len(error) // 3
    return _ratio(_rms(error[:third]), _rms(error[len(error) - third :])) if third else math.nan


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


def _spread(values: Tensor) -> float:
    """How much samples differ: the standard deviation over the batch, as a share of the size of the values."""
    means = values.detach().cpu().double().mean(0).flatten(1)
    if len(means) < 2:
        return math.nan
    return _ratio(means.std(0).square().mean().sqrt().item(), means.square().mean().sqrt().item())


def _norm(gradients: list[Tensor]) -> float:
    if not gradients:
        return math.nan
    return torch.stack([gradient.detach().cpu().double().norm() for gradient in gradients]).norm().item()


def _rms(gradient: Tensor) -> float:
    """The norm of a step's gradient, in the root mean square over samples and steps.

    It is this that a layer with weights of variance 1 / fan-in leaves alone, however many neurons there are on either side.
    """
    return (gradient.detach().cpu().double().square().sum() / math.prod(gradient.shape[:2])).sqrt().item()


def _ratio(one: float, other: float) -> float:
    return one / other if other else math.nan if one == 0 else math.inf


def finite_or_none(value: Any) -> Any:
    """What JSON can hold: None in the place of a number that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
