"""Forwards through a network: the weights in front of each layer of neurons, for the wanted firing rate.

First the scale of the weights is looked for. Where it is not the scale that counts, as behind a bias far below 0, or with
neurons that fire at rest, it is the mean: of the bias, or else of recurrent weights.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from rheobase.layers.parametrized import kind_of
from rheobase.layers.standardized import only_standardized, standardized
from rheobase.neurons import Neuron, RecurrentLIF, SingleSpike
from rheobase.stability.centring import can_be_centred, is_frozen
from rheobase.stability.changes import LayerChange
from rheobase.stability.recurrence import balance, centre
from rheobase.stability.solve import solve

_ENOUGH = 2_000_000  # steps times samples times neurons, to know a rate to a percent
_RAREST = 1e-9  # spikes per step
_NEAR = 0.1  # to the wanted rate, relative to it


class Rates:
    """Sets the firing rate of one layer of neurons after another, as a call of the network comes to them.

    Args:
        changes: of each layer of neurons, where to write down what is done.
        rate: the wanted spikes per neuron and step.
        seed: for neurons that fire at random.
    """

    def __init__(self, changes: Mapping[Neuron, LayerChange], rate: float, seed: int) -> None:
        self._changes, self._rate, self._seed = changes, rate, seed
        self.scaled: set[Tensor] = set()
        """Weights and biases that are set by now."""

    def set(self, layer: Neuron, x: Tensor, in_front: Sequence[nn.Module]) -> Tensor:
        """Scale what stands in front of `layer`, which is about to hear `x`; returns what it hears then."""
        change = self._changes[layer]
        if not bool(x.isfinite().all()):
            raise ValueError(f"stabilize: the current into {change.name} is not finite")
        change.frozen = bool(in_front) and is_frozen(in_front[-1])
        if not in_front or change.frozen:
            self._check_that_it_fires(layer, x)
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
        wanted = _possible_rate(layer, self._rate, len(x))
        recurrent = layer.recurrent_weight if isinstance(layer, RecurrentLIF) else None
        if recurrent is not None and recurrent.requires_grad:
            centre(recurrent)
            change.balance = balance(recurrent, x, wanted)
            recurrent.mul_(change.balance)
        return self._solve(_Trial(layer, x, self._seed), x, source, wanted, change)

    def _solve(
        self, trial: "_Trial", x: Tensor, source: Sequence[Tensor], wanted: float, change: LayerChange
    ) -> Tensor:
        """Write what `trial` finds to the weights of `source` and to recurrent ones; returns what the layer hears then."""
        scale = solve(trial.scaled, wanted)
        # Neurons that fire at rest do so at about the same rate whatever the scale: there it is the mean that counts.
        # (Recurrent weights are those of this scale from here on.)
        is_near = scale is not None and abs(trial.scaled(scale) / wanted - 1) < _NEAR
        if scale is not None and (is_near or len(source) == 1):
            change.scale = scale
            for parameter in source:
                parameter.mul_(scale)
            return scale * x
        unscaled = trial.scaled(1.0)
        if len(source) == 2:
            change.shift = _shift(trial.shifted, wanted, change.name)
            source[1].add_(change.shift)
            return x + change.shift
        if trial.recurrent is not None:
            change.shift = _shift(trial.with_recurrent_mean, wanted, change.name)
            trial.with_recurrent_mean(change.shift)
            return x
        raise ValueError(
            f"stabilize: {change.name} fires at {unscaled:.2g} spikes per step, and no scale of its weights brings it to "
            f"{wanted:.2g}: its current is nearly all on one side of 0. Give the layer in front of it a bias"
        )

    def _check_that_it_fires(self, layer: Neuron, x: Tensor) -> None:
        change = self._changes[layer]
        if not _Trial(layer, x, self._seed).shifted(0.0):
            why = "frozen weights" if change.frozen else "no weights in front that could be scaled"
            raise ValueError(
                f"stabilize: {change.name} has {why}, and none of its neurons fires for this batch; scale the batch, or lower "
                "the threshold"
            )

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
        if self.scaled.intersection(parameters):
            raise ValueError(
                f"stabilize: the weights of the {kind} in front of {name} are shared with an earlier layer, and cannot fit both"
            )
        self.scaled.update(parameters)
        return parameters


class _Trial:
    """The firing rate of a layer of neurons, had it another input or other recurrent weights.

    The recurrent weights that it was last asked for are those that the layer has then.

    Args:
        layer: the neurons, with recurrent weights as they were drawn.
        x: what the layer hears, `(T, B, *features)`; of many samples, some are enough.
        seed: for neurons that fire at random.
    """

    def __init__(self, layer: Neuron, x: Tensor, seed: int) -> None:
        self._layer, self._seed = layer, seed
        self._x = x[:, : max(1, _ENOUGH // max(x[:, :1].numel(), 1))]
        weight = layer.recurrent_weight if isinstance(layer, RecurrentLIF) else None
        self.recurrent = weight if weight is not None and weight.requires_grad else None
        """The recurrent weights, if there are any and they learn."""
        self._drawn = None if self.recurrent is None else self.recurrent.detach().clone()

    def scaled(self, scale: float) -> float:
        """With input and recurrent weights times `scale`."""
        if self.recurrent is not None and self._drawn is not None:
            self.recurrent.copy_(scale * self._drawn)
        return self._rate(scale * self._x)

    def shifted(self, shift: float) -> float:
        """With `shift` added to the input."""
        return self._rate(self._x + shift)

    def with_recurrent_mean(self, mean: float) -> float:
        """With `mean` added to the recurrent weights."""
        if self.recurrent is not None and self._drawn is not None:
            self.recurrent.copy_(self._drawn + mean)
        return self._rate(self._x)

    def _rate(self, x: Tensor) -> float:
        torch.manual_seed(self._seed)  # for neurons that fire at random
        spikes = self._layer.forward(x)
        # Neurons that fire at the last step at the latest do so whatever they hear.
        by_end = getattr(self._layer, "fire_by_end", False)
        return (spikes[:-1].sum() / spikes.numel() if by_end else spikes.mean()).item()


def _shift(rate_at: Callable[[float], float], wanted: float, name: str) -> float:
    if rate_at(0.0) < wanted:
        shift = solve(rate_at, wanted)
    else:  # what rises with a shift downwards is the time between spikes
        shift = solve(lambda down: 1 / max(rate_at(-down), _RAREST), 1 / wanted)
        shift = None if shift is None else -shift
    if shift is None:
        raise ValueError(
            f"stabilize: neither a scale of the weights nor a mean brings {name} to {wanted:.2g} spikes per step"
        )
    return shift


def _possible_rate(layer: Neuron, rate: float, steps: int) -> float:
    """What can be wanted of neurons that fire once, or that rest after a spike."""
    if isinstance(layer, SingleSpike):
        return min(rate, 0.5 / steps)
    refractory = getattr(layer, "refractory", 0)
    return min(rate, 0.5 / (1 + refractory)) if refractory else rate
