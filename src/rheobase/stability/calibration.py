"""Make a network alive and its gradients even, by measuring on one batch: `rheobase.stabilize`.

Theory says how to start a network if inputs are random, membrane potentials normal and steps independent. A batch says how it
is. Both directions are solved one layer at a time, in a single pass each:

- Forwards, a layer's weights are made orthogonal to their mean input, see `rheobase.stability.centring`, and its biases equal
  for all neurons, so that none is silent or saturated by the draw of its weights. The weights are then scaled until the neurons
  fire at the wanted rate, before the next layer receives their spikes. Where no scale achieves that, as behind a bias far below
  0, or with neurons that fire at rest, the bias is moved, or the mean of recurrent weights. The recurrent weights of
  `RecurrentLIF` are first centred, and made as strong as its input: condition II of `rheobase.stability.conditions`, measured.
- Backwards, a random cotangent that is constant in time, as that of a loss which averages over it, starts at the outputs. The
  dampening of each layer's surrogate is set so that the gradient of its weights has the norm that the last weights' gradient
  has, before it goes on to the layer below. In a deep layer all samples look alike, above all behind convolutions, and the
  gradient has one or two directions of the output left. One random cotangent then says little about the next: with 16 samples
  and 20 outputs, norms that were even for one were apart by a factor of 1.5 to 2 for others. So the cotangents of samples are
  at right angles, and the norm is the mean over signs of samples that makes them independent, see `rheobase.stability.walk`.

So one factor is found for each layer, by bisection of a quantity that rises with it. Gradients then neither vanish nor explode
through depth. In a recurrent layer they go back through time as well, and either can be asked for:

- "balanced": recurrence adds half to what the gradient is without it, see `rheobase.stability.recurrence`.
- "even": the norm is that of all other layers. Where a layer receives little, or the output depends on what is common to all
  steps, that takes a gradient which nearly explodes through time, and of which most is noise: networks of one and of two
  recurrent layers learned less so. Of many such layers it is what keeps the first alive, since small differences multiply.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from rheobase.compiled import as_written, original
from rheobase.health import neuron_layers
from rheobase.layers.parametrized import kind_of
from rheobase.layers.standardized import only_standardized, standardized
from rheobase.neurons import Neuron, RecurrentLIF, SingleSpike
from rheobase.neurons.neuron import IntegrateAndFire
from rheobase.ops.arguments import check_batch
from rheobase.padding import refuse_mask
from rheobase.stability.centring import can_be_centred, centring, is_frozen
from rheobase.stability.recurrence import balance, balanced_dampening, centre
from rheobase.stability.solve import solve
from rheobase.stability.walk import (
    GradientNorm,
    Measured,
    as_in_training,
    cotangent,
    learned_weights,
    measure,
    walking,
)
from rheobase.surrogate import Surrogate

Recurrent = Literal["balanced", "even"]
"""What the dampening of a recurrent layer is solved for."""

_ENOUGH = 2_000_000  # steps times samples times neurons, to know a rate to a percent
_RAREST = 1e-9  # spikes per step
_NEAR = 0.1  # to the wanted rate, relative to it
_MOST_ATTACHED = 4.0  # times the threshold, where the gradient goes through the reset
MOST_DAMPENING = 10.0
"""The most that a dampening is raised to: where adaptation holds a gradient back, more would not help."""


@dataclass
class LayerChange:
    """What was done to one layer of neurons, and what that did.

    Args:
        name: the layer's position and kind, `"1 LIF(128)"`.
        frozen: whether the weights in front of it require no gradient, and so were left as they are.
        centred: whether the weights in front of it were made orthogonal to their mean input, and the biases equal.
        scale: what the weights and the bias in front of it were multiplied with, and its recurrent weights.
        shift: what was added to the bias in front of it, or else to its recurrent weights.
        balance: what its recurrent weights were multiplied with besides.
        dampening: of its surrogate, before and after; None if it has no surrogate.
        limited: whether the dampening came to the most that it may become, before the gradient was as large as others.
        rate: spikes per neuron and step, before and after.
        gradient: the norm of the gradient of the weights in front of it, before and after; 0 if there are none.
    """

    name: str
    frozen: bool = False
    centred: bool = False
    scale: float = 1.0
    shift: float = 0.0
    balance: float = 1.0
    dampening: tuple[float, float] | None = None
    limited: bool = False
    rate: tuple[float, float] = (0.0, 0.0)
    gradient: tuple[float, float] = (0.0, 0.0)

    def _cells(self) -> tuple[str, ...]:
        changed = ["weights are frozen"] if self.frozen else []
        changed += ["centred"] if self.centred else []
        changed += [f"weights x {self.scale:.3g}"] if self.scale != 1 else []
        changed += [f"mean {self.shift:+.3g}"] if self.shift else []
        changed += [f"recurrent x {self.balance:.3g}"] if self.balance != 1 else []
        if self.dampening is not None and (self.limited or self.dampening[0] != self.dampening[1]):
            most = " (the most)" if self.limited else ""
            changed.append(f"dampening {self.dampening[0]:.3g} -> {self.dampening[1]:.3g}{most}")
        rates, gradients = (f"{100 * rate:.2g} %" for rate in self.rate), (f"{norm:.2g}" for norm in self.gradient)
        learned = " -> ".join(gradients) if any(self.gradient) else "none"
        return self.name, " -> ".join(rates), learned, ", ".join(changed) or "nothing"


@dataclass(frozen=True)
class Calibration:
    """What `stabilize` changed; `print` shows it as a table.

    Args:
        layers: each layer of neurons, in the order in which they run.
    """

    layers: tuple[LayerChange, ...]

    def __str__(self) -> str:
        rows = [("layer", "firing rate", "gradient norm", "changed"), *(layer._cells() for layer in self.layers)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


@as_written()
def stabilize(
    network: nn.Module,
    batch: Float[Tensor, "T B *features"],
    *,
    rate: float = 0.1,
    recurrent: Recurrent = "balanced",
    seed: int = 0,
) -> Calibration:
    """Scale the weights and the surrogates of a new network, so that it fires and its gradients are even; by one batch.

    Weights, biases and surrogates are changed in place; nothing else is. Meanwhile dropout is off, batch normalization takes
    the statistics of the batch, as in training, and delays are as wide as at the start of training. The same network and batch
    give the same result. 16 samples are enough: gradients of 20 layers that were even for one batch are up to a factor of 2
    apart for another (with 8 samples, 4). Memory is that of one training step, and time that of about ten.

    Weights are made orthogonal to their mean input, so that a current, averaged over the batch, is the layer's bias; biases in
    front of neurons become their mean, or 0 if they were drawn at random around it. The weights behind the last neurons are
    centred, too, and their biases kept. Layers with fewer than 16 weights for each unit keep their means. Weights that
    `rheobase.standardize` computes are scaled by their deviation; frozen weights and the bias beside them are left alone. A
    dampening is raised to 10 at most, and to 4 over the threshold if the gradient goes through the reset: where a layer needs
    more, as one that receives little may, the gradient of its weights stays smaller than the others, and the table says so.

    A surrogate is not a weight, and no `state_dict` holds it: a network that is built again computes the same with these
    weights, but trains differently. To train on, stabilize the new network in the same way before the weights are loaded, or
    set its layers' `surrogate`.

    Args:
        network: any module made of this library's neurons and PyTorch's linear, convolutional and normalization layers, each of
            which is used once. What is not such a weighted layer is left as it is.
        batch: an input that is like those of training, `(T, B, *features)`. Padding counts as steps: of samples of different
            lengths, take some that are about as long, cut to the shortest.
        rate: the wanted spikes per neuron and step, in (0, 1). Neurons that fire once are to do so in half of all cases,
            neurons with a refractory period at most half as often as they could.
        recurrent: how the dampening of recurrent layers is chosen. "balanced": recurrence adds half to the energy of a gradient
            that goes back through the layer; "even": the gradient of the weights in front has the norm of the others, which is
            to be preferred where there are more than about four such layers.
        seed: of the cotangent with which gradients are measured.

    Returns:
        What was changed, layer by layer, with firing rates and gradient norms before and after.

    Raises:
        TypeError: if `batch` is not a floating-point tensor.
        ValueError: if an argument is out of its range, `batch` is empty or not finite, or the network is within
            `rheobase.masked`. Or a layer cannot be stabilized; the message names it, and why: no current reaches it, its
            weights are shared or computed by another parametrization, its spikes carry no gradient, or it does not run in a
            call of the network. What was changed up to there stays so.

    Example:
        >>> import rheobase as rb
        >>> _ = torch.manual_seed(0)
        >>> network = rb.Sequential(nn.Linear(50, 64), rb.LIF(64), nn.Linear(64, 64), rb.LIF(64), nn.Linear(64, 3))
        >>> done = stabilize(network, (torch.rand(100, 8, 50) < 0.02).float(), rate=0.2)
        >>> [round(layer.rate[1], 1) for layer in done.layers]
        [0.2, 0.2]
    """
    check_batch(batch, "stabilize")
    network = original(network)
    refuse_mask(network, "stabilize")
    if not 0 < rate < 1:
        raise ValueError(f"stabilize: rate must be in (0, 1), got {rate}")
    if recurrent not in get_args(Recurrent):
        raise ValueError(f"stabilize: recurrent must be 'balanced' or 'even', got {recurrent!r}")
    devices = [batch.device] if batch.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad(), as_in_training(network):
        return _Stabilizer(network, batch, rate, recurrent, seed).run()


class _Stabilizer:
    """The two passes, and what they have found so far."""

    def __init__(self, network: nn.Module, batch: Tensor, rate: float, recurrent: Recurrent, seed: int) -> None:
        self._network, self._batch, self._seed = network, batch, seed
        self._rate, self._recurrent = rate, recurrent
        self._changes = {layer: LayerChange(name) for name, layer in neuron_layers(network)}
        if not self._changes:
            raise ValueError("stabilize: network has no layer of neurons")
        self._scaled: set[Tensor] = set()
        self._currents: dict[Neuron, tuple[Tensor, list[nn.Parameter]]] = {}
        self._on_currents: dict[Neuron, Tensor] = {}
        self._norms: dict[Neuron, float] = {}
        self._wanted_norm = 0.0

    def run(self) -> Calibration:
        dampenings = {layer: _dampening(layer) for layer in self._changes}
        before = self._measure()
        if unseen := [change.name for layer, change in self._changes.items() if layer not in before.rates]:
            raise ValueError(
                f"stabilize: {', '.join(unseen)} did not run in a call of the network, or not as a module: what streams by "
                "`run` is not seen; stabilize the network before it is wrapped"
            )
        centred = centring(before.last_before_neurons, before.behind[-1:], self._scaled)
        with torch.no_grad(), walking(self._network, self._set_rate), centred:
            self._network(self._batch)
        alive = self._measure()
        self._wanted_norm = alive.last
        if not 0 < alive.last < math.inf:
            raise ValueError(
                "stabilize: the gradient of the output with respect to the last weights must be above 0 and finite, got "
                f"norm {alive.last}"
            )
        with walking(self._network, self._hear, self._listen):
            output = self._network(self._batch)
            loss = (output * cotangent(output, alive.axes, self._seed)).sum()
            parameters = [parameter for parameter in self._network.parameters() if parameter.requires_grad]
            torch.autograd.grad(loss, parameters, allow_unused=True)  # for what it does on its way
        for layer, change in self._changes.items():
            change.rate = before.rates[layer], alive.rates[layer]
            change.gradient = before.gradients[layer], self._norms.get(layer, 0.0)
            first, last = dampenings[layer], _dampening(layer)
            change.dampening = None if first is None or last is None else (first, last)
        return Calibration(tuple(self._changes[layer] for layer in before.rates))

    def _measure(self) -> Measured:
        return measure(self._network, self._batch, self._seed)

    # Forwards: the rate.

    def _set_rate(self, layer: Neuron, x: Tensor, in_front: Sequence[nn.Module]) -> Tensor:
        """Scale what stands in front of `layer`, which is about to hear `x`; returns what it hears then."""
        change, wanted = self._changes[layer], _possible_rate(layer, self._rate, len(x))
        few = x[:, : max(1, _ENOUGH // max(x[:, :1].numel(), 1))]
        if not bool(x.isfinite().all()):
            raise ValueError(f"stabilize: the current into {change.name} is not finite")
        change.frozen = bool(in_front) and is_frozen(in_front[-1])
        if not in_front or change.frozen:
            if not self._rate_at(layer, few):
                why = "frozen weights" if change.frozen else "no weights in front that could be scaled"
                raise ValueError(
                    f"stabilize: {change.name} has {why}, and none of its neurons fires for this batch; scale the batch, or "
                    "lower the threshold"
                )
            return x
        if not bool(x.any()):
            raise ValueError(f"stabilize: no current reaches {change.name}: all of its input is 0 for this batch")
        source = self._take(in_front[-1], change.name)
        change.centred = can_be_centred(in_front[-1])  # and is, by now
        if is_parametrized(layer, "recurrent_weight"):
            raise ValueError(
                f"stabilize: the recurrent weights of {change.name} cannot be scaled: they are computed by a parametrization; "
                "stabilize the network before that is registered"
            )
        recurrent = layer.recurrent_weight if isinstance(layer, RecurrentLIF) else None
        if recurrent is not None and not recurrent.requires_grad:
            recurrent = None
        if recurrent is not None:
            centre(recurrent)
            change.balance = balance(recurrent, x, wanted)
            recurrent.mul_(change.balance)
        drawn = None if recurrent is None else recurrent.clone()

        def at(scale: float, shift: float = 0.0) -> float:
            if recurrent is not None and drawn is not None:
                recurrent.copy_(scale * drawn)
            return self._rate_at(layer, scale * few + shift)

        scale = solve(at, wanted)
        # Neurons that fire at rest do so at about the same rate whatever the scale: there it is the mean that counts. The
        # measurement comes first, since it sets the recurrent weights.
        if scale is not None and (abs(at(scale) / wanted - 1) < _NEAR or len(source) == 1):
            change.scale = scale
            for parameter in source:
                parameter.mul_(scale)
            return scale * x
        at(1.0)
        if len(source) == 2:
            change.shift = self._shift(lambda shift: at(1.0, shift), wanted, change.name)
            source[1].add_(change.shift)
            return x + change.shift
        if recurrent is not None and drawn is not None:

            def with_mean(mean: float) -> float:
                recurrent.copy_(drawn + mean)
                return self._rate_at(layer, few)

            change.shift = self._shift(with_mean, wanted, change.name)
            recurrent.copy_(drawn + change.shift)
            return x
        raise ValueError(
            f"stabilize: {change.name} fires at {at(1.0):.2g} spikes per step, and no scale of its weights brings it to "
            f"{wanted:.2g}: its current is nearly all on one side of 0. Give the layer in front of it a bias"
        )

    def _shift(self, at: Callable[[float], float], wanted: float, name: str) -> float:
        if at(0.0) < wanted:
            shift = solve(at, wanted)
        else:  # what rises with a shift downwards is the time between spikes
            shift = solve(lambda down: 1 / max(at(-down), _RAREST), 1 / wanted)
            shift = None if shift is None else -shift
        if shift is None:
            raise ValueError(
                f"stabilize: neither a scale of the weights nor a mean brings {name} to {wanted:.2g} spikes per step"
            )
        return shift

    def _rate_at(self, layer: Neuron, x: Tensor) -> float:
        torch.manual_seed(self._seed)  # for neurons that fire at random
        spikes = layer.forward(x)
        # Neurons that fire at the last step at the latest do so whatever they hear.
        return (spikes[:-1].sum() / spikes.numel() if getattr(layer, "fire_by_end", False) else spikes.mean()).item()

    def _take(self, module: nn.Module, name: str) -> list[Tensor]:
        """The weight, or what it is scaled to, and the bias of a layer, to be scaled."""
        kind, rule = kind_of(module), standardized(module) if only_standardized(module) else None
        weight = module._parameters.get("weight") if rule is None else rule.deviation
        if weight is None or (rule is None and is_parametrized(module, "weight")):
            raise ValueError(
                f"stabilize: the weights of the {kind} in front of {name} cannot be scaled: it has none, or they are computed "
                "by a parametrization or by pruning; stabilize the network before that is registered, or let "
                "rb.fit_initial_rates(network, batch) fit biases alone"
            )
        bias = module._parameters.get("bias")
        parameters = [weight] if bias is None else [weight, bias]
        if self._scaled.intersection(parameters):
            raise ValueError(
                f"stabilize: the weights of the {kind} in front of {name} are shared with an earlier layer, and cannot fit both"
            )
        self._scaled.update(parameters)
        return parameters

    # Backwards: the dampening.

    def _hear(self, layer: Neuron, x: Tensor, in_front: Sequence[nn.Module]) -> Tensor:
        """Let the gradient of what `layer` hears be what `_set_dampening` finds."""
        self._currents[layer] = x, learned_weights(in_front)
        heard = x.view_as(x) if x.requires_grad else x.detach().requires_grad_()
        heard.register_hook(lambda _: self._on_currents.pop(layer))
        return heard

    def _listen(self, layer: Neuron, spikes: Tensor) -> None:
        if not spikes.requires_grad:
            raise ValueError(
                f"stabilize: the spikes of {self._changes[layer].name} carry no gradient: they come from a comparison, or are "
                "detached; make them with a surrogate: self.surrogate.spike(v - threshold)"
            )
        spikes.register_hook(lambda on_spikes: self._set_dampening(layer, on_spikes))

    def _set_dampening(self, layer: Neuron, on_spikes: Tensor) -> None:
        """Solve for the dampening of `layer`, at whose spikes a gradient has arrived."""
        x, weights = self._currents[layer]
        dampening, norm_for = _dampening(layer), GradientNorm(x, weights, self._seed)
        if dampening is not None and weights:

            def norm(dampening: float) -> float:
                return norm_for(self._on_current(layer, x, on_spikes, dampening))

            found = None
            if isinstance(layer, RecurrentLIF) and self._recurrent == "balanced":
                on_current = partial(self._on_current, layer, x)
                found = balanced_dampening(layer, on_current, on_spikes, dampening, self._seed)
            if found is None:
                found = solve(norm, self._wanted_norm, dampening)
            if found is None:
                raise ValueError(
                    f"stabilize: no dampening of {self._changes[layer].name} makes its gradient even; none reaches it, or it "
                    "is not finite"
                )
            most = _most(layer, dampening)
            self._changes[layer].limited = found > most
            dampening = min(found, most)
        self._on_currents[layer] = self._on_current(layer, x, on_spikes, dampening)
        self._norms[layer] = norm_for(self._on_currents[layer])

    def _on_current(self, layer: Neuron, x: Tensor, on_spikes: Tensor, dampening: float | None) -> Tensor:
        """The gradient of what `layer` hears, from that of its spikes; it keeps the dampening."""
        if dampening is not None:
            layer.surrogate = replace(_surrogate(layer), dampening=dampening)  # pyright: ignore[reportArgumentType]
        torch.manual_seed(self._seed)
        with torch.enable_grad():
            heard = x.detach().requires_grad_()
            return torch.autograd.grad(layer.forward(heard), heard, on_spikes)[0]


def _surrogate(layer: Neuron) -> Surrogate:
    surrogate = getattr(layer, "surrogate", None)
    assert isinstance(surrogate, Surrogate)
    return surrogate


def _dampening(layer: Neuron) -> float | None:
    """The dampening of a layer's surrogate; None of one that has none, as of neurons that fire at random."""
    surrogate = getattr(layer, "surrogate", None)
    return surrogate.dampening if isinstance(surrogate, Surrogate) else None


def _most(layer: Neuron, dampening: float) -> float:
    """The largest dampening, where `dampening` is what was chosen; it is the same when a network is stabilized again."""
    most = max(MOST_DAMPENING, dampening)
    if isinstance(layer, IntegrateAndFire) and layer.reset_gradient == "attached":
        # Near the threshold a step multiplies the gradient by `decay * (1 - dampening * threshold)`: it changes its sign and
        # grows. With more than this, few samples have most of it, and no two batches the same.
        most = min(most, max(_MOST_ATTACHED / layer.threshold.mean().item(), dampening))
    return most


def _possible_rate(layer: Neuron, rate: float, steps: int) -> float:
    """What can be wanted of neurons that fire once, or that rest after a spike."""
    if isinstance(layer, SingleSpike):
        return min(rate, 0.5 / steps)
    refractory = getattr(layer, "refractory", 0)
    return min(rate, 0.5 / (1 + refractory)) if refractory else rate
