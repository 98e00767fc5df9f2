"""Backwards through a network: the dampening of each layer's surrogate, for gradients of one norm everywhere.

A dampening multiplies the gradient of the layer it belongs to and of all layers below. So it is set when the gradient arrives
at the layer's spikes, and what goes on from there is computed with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from rheobase.neurons import Neuron, RecurrentLIF
from rheobase.neurons.neuron import IntegrateAndFire
from rheobase.stability.changes import LayerChange
from rheobase.stability.recurrence import balanced_dampening
from rheobase.stability.solve import solve
from rheobase.stability.walk import GradientNorm, learned_weights
from rheobase.surrogate import Surrogate

Recurrent = Literal["balanced", "even"]
"""What the dampening of a recurrent layer is solved for."""

MOST_DAMPENING = 10.0
"""The most that a dampening is raised to: where adaptation holds a gradient back, more would not help."""
_MOST_ATTACHED = 4.0  # times the threshold, where the gradient goes through the reset


class Gradients:
    """Sets the dampening of one layer of neurons after another, as a backward pass comes to them.

    Args:
        changes: of each layer of neurons, where to write down what is done.
        wanted: the norm of the gradient of the weights in front of each.
        recurrent: what is wanted of recurrent layers instead.
        seed: of the cotangent, and of neurons that fire at random.
    """

    def __init__(self, changes: Mapping[Neuron, LayerChange], wanted: float, recurrent: Recurrent, seed: int) -> None:
        self._changes, self._wanted, self._recurrent, self._seed = changes, wanted, recurrent, seed
        self._currents: dict[Neuron, tuple[Tensor, list[nn.Parameter]]] = {}
        self._on_currents: dict[Neuron, Tensor] = {}
        self.norms: dict[Neuron, float] = {}
        """Of the gradient of the weights in front of each layer, with the dampening it has now."""

    def hear(self, layer: Neuron, x: Tensor, in_front: Sequence[nn.Module]) -> Tensor:
        """Let the gradient of what `layer` hears be that with the new dampening."""
        self._currents[layer] = x, learned_weights(in_front)
        heard = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
        heard.register_hook(lambda _: self._on_currents.pop(layer))
        return heard

    def listen(self, layer: Neuron, spikes: Tensor) -> None:
        """Set the dampening of `layer` when a gradient arrives at its `spikes`."""
        if not spikes.requires_grad:
            raise ValueError(
                f"stabilize: the spikes of {self._changes[layer].name} carry no gradient: they come from a comparison, or are "
                "detached; make them with a surrogate: self.surrogate.spike(v - threshold)"
            )
        spikes.register_hook(lambda on_spikes: self._set(layer, on_spikes))

    def _set(self, layer: Neuron, on_spikes: Tensor) -> None:
        x, weights = self._currents[layer]
        norm_for = GradientNorm(x, weights, self._seed)
        dampening = dampening_of(layer)
        if dampening is not None and weights:
            found, most = self._solve(layer, on_spikes, dampening, norm_for), _most(layer, dampening)
            self._changes[layer].limited = found > most
            dampening = min(found, most)
        self._on_currents[layer] = self._on_current(layer, on_spikes, dampening)
        self.norms[layer] = norm_for(self._on_currents[layer])

    def _solve(self, layer: Neuron, on_spikes: Tensor, start: float, norm_for: GradientNorm) -> float:
        found = None
        if isinstance(layer, RecurrentLIF) and self._recurrent == "balanced":
            found = balanced_dampening(layer, partial(self._on_current, layer), on_spikes, start, self._seed)
        if found is None:
            found = solve(lambda at: norm_for(self._on_current(layer, on_spikes, at)), self._wanted, start)
        if found is None:
            raise ValueError(
                f"stabilize: no dampening of {self._changes[layer].name} makes its gradient even; none reaches it, or it is "
                "not finite"
            )
        return found

    def _on_current(self, layer: Neuron, on_spikes: Tensor, dampening: float | None) -> Tensor:
        """The gradient of what `layer` hears, from that of its spikes; it keeps the dampening."""
        if dampening is not None:
            layer.surrogate = replace(_surrogate(layer), dampening=dampening)  # pyright: ignore[reportArgumentType]
        torch.manual_seed(self._seed)
        with torch.enable_grad():
            heard = self._currents[layer][0].detach().requires_grad_()
            return torch.autograd.grad(layer.forward(heard), heard, on_spikes)[0]


def dampening_of(layer: Neuron) -> float | None:
    """The dampening of a layer's surrogate; None of one that has none, as of neurons that fire at random."""
    surrogate = getattr(layer, "surrogate", None)
    return surrogate.dampening if isinstance(surrogate, Surrogate) else None


def _surrogate(layer: Neuron) -> Surrogate:
    surrogate = getattr(layer, "surrogate", None)
    assert isinstance(surrogate, Surrogate)
    return surrogate


def _most(layer: Neuron, dampening: float) -> float:
    """The largest dampening, where `dampening` is what was chosen; it is the same when a network is stabilized again."""
    most = max(MOST_DAMPENING, dampening)
    if isinstance(layer, IntegrateAndFire) and layer.reset_gradient == "attached":
        # Near the threshold a step multiplies the gradient by `decay * (1 - dampening * threshold)`: it changes its sign and
        # grows. With more than this, few samples have most of it, and no two batches the same.
        most = min(most, max(_MOST_ATTACHED / layer.threshold.mean().item(), dampening))
    return most
