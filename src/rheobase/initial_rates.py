"""Initial rates, set by biases: where activity starts, without touching a weight.

How active a network is before training decides what it can become: silent layers pass no gradient, and networks that begin with
high rates and become sparse later may generalize better (Herranz-Celotti and Rouat, arXiv 2202.00282). Biases alone suffice to
set this: they are fitted by gradient descent until every layer fires at the requested rate, and nothing else is changed.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rheobase.compiled import as_written
from rheobase.health import listening, neuron_layers, outside_neurons
from rheobase.neurons import Neuron
from rheobase.ops.arguments import check_batch
from rheobase.padding import mask_on


@dataclass(frozen=True)
class InitialRates:
    """The result of fitting the biases.

    Args:
        target: the requested rate.
        before: the rate of every layer of neurons, by its name, before the fit.
        after: the same after the fit.
        steps: how many optimizer steps it took.
        reached: whether every layer is within the tolerance of the target.
    """

    target: float
    before: dict[str, float]
    after: dict[str, float]
    steps: int
    reached: bool

    def __str__(self) -> str:
        width = max(map(len, self.before), default=0)
        rows = [f"{name:<{width}}  {self.before[name]:7.2%} -> {self.after[name]:7.2%}" for name in self.before]
        end = "reached" if self.reached else "not reached in all layers"
        return "\n".join([*rows, f"target {self.target:.2%}, {end} after {self.steps} steps"])


@as_written()
def fit_initial_rates(
    network: nn.Module,
    batch: Float[Tensor, "T B *features"],
    rate: float = 0.1,
    *,
    tolerance: float = 0.01,
    steps: int = 500,
    learning_rate: float = 0.01,
    progress: Callable[[int, dict[str, float]], None] | None = None,
) -> InitialRates:
    """Fit the biases in front of the neurons so that every layer fires at `rate` on `batch`; nothing else changes.

    The sum over layers of (mean activity - rate)^2 is minimized by Adam, with respect to the biases of all layers in front of
    neurons (linear, convolutional, normalization: the nearest that has one). Spikes have their surrogate gradients, so a layer
    whose neurons are all beyond the reach of their surrogate cannot be moved. The mode of the network is unchanged, and running
    statistics of normalizations are restored; the same network and batch give the same biases. Within `rheobase.masked`, rates
    are spikes per valid step.

    Args:
        network: any module with layers of neurons.
        batch: some samples, `(T, B, *features)`.
        rate: the firing rate wanted of every layer, spikes per neuron and step, in (0, 1).
        tolerance: how far from it a layer may stay; in (0, 1).
        steps: the maximum number of steps, at least 1.
        learning_rate: that of Adam, above 0; in units of the membrane potential per step.
        progress: called at every step with its number, counted from 1, and the rates of all layers before it.

    Returns:
        The rates before and after.

    Raises:
        TypeError: if `batch` is not a floating-point tensor.
        ValueError: if an argument is out of its range, `batch` is empty or not finite, or a layer of neurons has no bias in
            front of it.

    Source: arXiv 2202.00282, whose code uses 15 epochs of Adam at a learning rate of 0.001.

    Example:
        >>> import rheobase as rb
        >>> _ = torch.manual_seed(0)
        >>> network = rb.Sequential(nn.Linear(20, 50), rb.LIF(50), nn.Linear(50, 30), rb.LIF(30))
        >>> fit = fit_initial_rates(network, torch.rand(30, 16, 20).round(), rate=0.2)
        >>> fit.reached, all(abs(after - 0.2) < 0.01 for after in fit.after.values())
        (True, True)
    """
    check_batch(batch, "fit_initial_rates")
    for name, value in (("rate", rate), ("tolerance", tolerance)):
        if not 0 < value < 1:
            raise ValueError(f"fit_initial_rates: {name} must be in (0, 1), got {value}")
    if steps < 1:
        raise ValueError(f"fit_initial_rates: steps must be at least 1, got {steps}")
    if not learning_rate > 0:
        raise ValueError(f"fit_initial_rates: learning_rate must be above 0, got {learning_rate}")
    devices = [batch.device] if batch.device.type == "cuda" else []
    history: list[dict[str, float]] = []
    masks = {name: mask_on(layer) for name, layer in neuron_layers(network)}
    with ExitStack() as during:
        during.enter_context(torch.random.fork_rng(devices=devices))
        biases = _biases(network, batch)
        optimizer = torch.optim.Adam(biases, lr=learning_rate)
        during.enter_context(_frozen(network, biases))
        during.enter_context(torch.enable_grad())
        while True:
            torch.manual_seed(0)  # dropout silences the same neurons in every step
            with listening(network) as spikes:
                network(batch)
            means = torch.stack([_mean(layer, masks[name]) for name, layer in spikes.items()])
            history.append(dict(zip(spikes, means.tolist(), strict=True)))
            reached = bool((means - rate).abs().max() < tolerance)
            if reached or len(history) > steps:
                break
            if progress is not None:
                progress(len(history), history[-1])
            optimizer.zero_grad()
            (means - rate).square().sum().backward()
            optimizer.step()
    return InitialRates(rate, history[0], history[-1], len(history) - 1, reached)


def _mean(spikes: Tensor, mask: Tensor | None) -> Tensor:
    """Spikes per neuron and valid step, of a layer that runs once or several times."""
    there = spikes if mask is None else spikes[mask.repeat(len(spikes) // len(mask), 1)]
    return there.float().mean()


def _biases(network: nn.Module, batch: Tensor) -> list[nn.Parameter]:
    """The nearest bias in front of each layer of neurons, in the order in which the layers run.

    Raises:
        ValueError: if a layer has none, or none runs.
    """
    names = {module: name for name, module in neuron_layers(network)}
    nearest: list[nn.Parameter] = []
    found: dict[Neuron, nn.Parameter] = {}

    def look(module: nn.Module, *_: Any) -> None:
        if isinstance(module, Neuron):
            if module not in found and not nearest:
                raise ValueError(
                    f"fit_initial_rates: there is no bias in front of the layer {names[module]}; make one with "
                    "nn.Linear(..., bias=True), or set its threshold"
                )
            if nearest:
                found[module] = nearest.pop()
            nearest.clear()
        elif isinstance(bias := getattr(module, "bias", None), nn.Parameter):
            nearest.append(bias)

    handles = [module.register_forward_hook(look) for module in outside_neurons(network)]
    try:
        with _frozen(network, []), torch.no_grad():
            network(batch)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise ValueError(
            f"fit_initial_rates: network must run layers of neurons, and none ran in this {type(network).__name__}"
        )
    return list(dict.fromkeys(found.values()))


@contextmanager
def _frozen(network: nn.Module, free: list[nn.Parameter]) -> Iterator[None]:
    """Only `free` has gradients; afterwards everything is as before, including running statistics, and nothing has a new
    gradient."""
    learn = {parameter: (parameter.requires_grad, parameter.grad) for parameter in network.parameters()}
    buffers = {buffer: buffer.clone() for buffer in network.buffers()}
    for parameter in learn:
        parameter.requires_grad_(False)
    for parameter in free:
        parameter.requires_grad_(True)
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, (learns, gradient) in learn.items():
            parameter.requires_grad_(learns)
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value in buffers.items():
                buffer.copy_(value)
