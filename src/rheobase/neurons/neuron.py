"""What neuron layers share: a layer over time whose outputs are spikes, and the settings of a membrane that fires."""

from collections.abc import Collection
from dataclasses import fields
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from rheobase.neurons.listening import Listening
from rheobase.ops.arguments import state_type
from rheobase.ops.lif import Reset, ResetGradient, check_rule
from rheobase.parameters import POSITIVE, UNIT_INTERVAL, FeatureParameters, Range, Value
from rheobase.surrogate import DEFAULT, Surrogate
from rheobase.temporal import Temporal


class Neuron(Temporal, FeatureParameters):
    """A layer of neurons: currents in, spikes out. Firing rates and rasters are recorded from such layers.

    Your own neurons define their values and implement `run`; the ranges are those of `rheobase.parameters`.

    Args:
        features: the size of the axis after B, or None: one value of each kind serves all neurons.
        learn: the names of the values that are learned.
        learnable: the names that `learn` may hold.

    Raises:
        ValueError: if `features` is not a whole number of at least 1, or `learn` names anything else.
        TypeError: if `learn` is a string, or not a collection.

    Example:
        >>> import torch, rheobase as rb
        >>> class Own(rb.Neuron):  # the membrane potential loses half at every step, and starts again from 0 after a spike
        ...     threshold = rb.parameters.Value("Where the neurons fire")
        ...     def __init__(self, features=None, threshold=1.0, learn=("threshold",)):
        ...         super().__init__(features, learn, learnable=("threshold",))
        ...         self.define("threshold", threshold, rb.parameters.POSITIVE)
        ...         self.surrogate = rb.surrogate.FastSigmoid()
        ...     def run(self, x, state=None):
        ...         self.check(x, state)
        ...         v = torch.zeros_like(x[0]) if state is None else state
        ...         threshold, spikes = self.per_feature("threshold", x), []
        ...         for current in x.unbind():
        ...             v = v / 2 + current
        ...             spikes.append(self.surrogate.spike(v - threshold))
        ...             v = v * (1 - spikes[-1].detach())
        ...         return torch.stack(spikes), v
        >>> network = rb.Sequential(torch.nn.Linear(2, 3), Own(3), torch.nn.Linear(3, 1), rb.LeakyReadout(1))
        >>> network(torch.ones(10, 4, 2)).sum().backward()
        >>> network[1]
        Own(3, threshold=1, learn=('threshold',), surrogate=FastSigmoid(dampening=1, sharpness=1))
    """

    def distance(self, x: Float[Tensor, "T B *features"]) -> Float[Tensor, "T B *features"]:
        """How far the membrane potential is above the threshold at every step, before the reset: what the surrogate sees.

        Computed by the plain reference, step by step and without gradients: for inspection, not for training.

        Args:
            x: the input current of a whole sequence, from rest, `(T, B, *features)`.

        Returns:
            The distance, at least 0 where the neuron fires, `(T, B, *features)`; in float32 where `x` is a half precision.

        Raises:
            NotImplementedError: if this kind of neuron has no membrane to record.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no membrane potential to record: distance() is not implemented"
        )

    def membrane(self, x: Float[Tensor, "T B *features"]) -> Float[Tensor, "T B *features"]:
        """The membrane potential at every step, before the reset, for plots and statistics.

        Args:
            x: the input current of a whole sequence, from rest, `(T, B, *features)`.

        Returns:
            The membrane potential, `(T, B, *features)`, without gradients; in float32 where `x` is a half precision.

        Raises:
            NotImplementedError: if this kind of neuron has no membrane to record.

        Example:
            >>> import torch, rheobase as rb
            >>> rb.LIF(decay=0.5)(torch.full((4, 1, 1), 0.75)).flatten()
            tensor([0., 1., 0., 1.])
            >>> rb.LIF(decay=0.5).membrane(torch.full((4, 1, 1), 0.75)).flatten()
            tensor([0.7500, 1.1250, 0.8125, 1.1562])
        """
        distance = self.distance(x)
        return distance + self.thresholds(distance)

    def thresholds(self, distance: Float[Tensor, "T B *features"]) -> Float[Tensor, "..."]:
        """The thresholds at which neurons with this `distance` fired; they broadcast to it."""
        return self.per_feature("threshold", distance).detach()

    def extra_repr(self) -> str:
        """The features, the values and the surrogate, if there is one, for `print(network)`."""
        surrogate = getattr(self, "surrogate", None)
        shown = [super().extra_repr(), "" if surrogate is None else f"surrogate={_brief(surrogate)}"]
        return ", ".join(filter(None, shown))


def _brief(surrogate: Surrogate) -> str:
    numbers = ((field.name, getattr(surrogate, field.name)) for field in fields(surrogate))
    shown = ", ".join(f"{name}={value:.3g}" for name, value in numbers if isinstance(value, int | float))
    return f"{type(surrogate).__name__}({shown})"


class IntegrateAndFire(Neuron):
    """Neurons with a leaky membrane, a threshold and a reset: the base of `LIF` and its relatives.

    Args:
        features: the size of the axis after B, or None.
        decay: what the membrane potential keeps per step, in [0, 1]; a number or one per feature.
        threshold: where a neuron fires, above 0; a number or one per feature.
        surrogate: the gradient of a spike; None is `FastSigmoid()`, whose dampening a new `rb.Sequential` sets.
        reset: what happens to the membrane potential of a neuron that fired.
        reset_gradient: how the backward pass treats the reset.
        learn: the names of the values that are learned.
        learnable: the names that `learn` may hold.

    Raises:
        ValueError: if a value lies outside its range or has a wrong shape, `learn` names anything else, or `reset` or
            `reset_gradient` is unknown.
        TypeError: if `learn` is a string, or `surrogate` is not a `Surrogate`.
    """

    _threshold_range: ClassVar[Range] = POSITIVE

    decay = Value("What the membrane potential keeps per step")
    threshold = Value("Where the neurons fire")

    def __init__(
        self,
        features: int | None,
        decay: float | Tensor,
        threshold: float | Tensor,
        surrogate: Surrogate | None,
        reset: Reset,
        reset_gradient: ResetGradient,
        learn: Collection[str],
        learnable: Collection[str] = ("decay", "threshold"),
    ) -> None:
        surrogate = surrogate or DEFAULT
        check_rule(reset, reset_gradient, surrogate, type(self).__name__)
        super().__init__(features, learn, learnable)
        self.define("decay", decay, UNIT_INTERVAL)
        self.define("threshold", threshold, self._threshold_range)
        self.surrogate = surrogate
        self.reset: Reset = reset
        self.reset_gradient: ResetGradient = reset_gradient

    @torch.no_grad()
    def distance(self, x: Float[Tensor, "T B *features"]) -> Float[Tensor, "T B *features"]:
        """How far the membrane potential is above the threshold at every step, before the reset; see `Neuron.distance`."""
        # The same layer with a surrogate that listens. No kernel knows it, so the reference asks it at every step. Built by
        # hand: `copy.copy` refuses layers whose recurrent weights are computed by a parametrization.
        twin, listening = object.__new__(type(self)), Listening()
        twin.__dict__.update(self.__dict__)
        twin.surrogate = listening
        twin.run(x.to(state_type(x)))
        return listening.distance(x)

    def extra_repr(self) -> str:
        """The settings, for `print(network)`."""
        backward = "" if self.reset_gradient == "detached" else f", reset_gradient={self.reset_gradient!r}"
        return f"{super().extra_repr()}, reset={self.reset!r}{backward}"
