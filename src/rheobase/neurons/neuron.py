"""What neuron layers share: a layer over time whose outputs are spikes, and the settings of a membrane that fires."""

from collections.abc import Collection
from typing import ClassVar

from torch import Tensor

from rheobase.ops.lif import Reset, ResetGradient, check_rule
from rheobase.parameters import POSITIVE, UNIT_INTERVAL, FeatureParameters, Range
from rheobase.surrogate import DEFAULT, Surrogate
from rheobase.temporal import Temporal


class Neuron(Temporal, FeatureParameters):
    """A layer of neurons: currents in, spikes out. Firing rates and rasters are recorded of such layers."""


class IntegrateAndFire(Neuron):
    """Neurons with a leaky membrane, a threshold and a reset: what `LIF` and its relatives are made with.

    Args:
        features: the size of the axis after B, or None.
        decay: what the membrane potential keeps per step, in [0, 1]; a number or one per feature.
        threshold: where a neuron fires, above 0; a number or one per feature.
        surrogate: the gradient of a spike; None is `FastSigmoid()`.
        reset: what happens to the membrane potential of a neuron that fired.
        reset_gradient: what the gradient sees of the reset.
        learn: the names of the values that are learned.
        learnable: the names that `learn` may hold.

    Raises:
        ValueError: if a value lies outside its range or has a wrong shape, `learn` names anything else, or `reset` or
            `reset_gradient` is unknown.
        TypeError: if `learn` is a string, or `surrogate` is no `Surrogate`.
    """

    _threshold_range: ClassVar[Range] = POSITIVE

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

    @property
    def decay(self) -> Tensor:
        """What the membrane potential keeps per step: a scalar, or `(features,)`."""
        return self.current("decay")

    @property
    def threshold(self) -> Tensor:
        """Where the neurons fire: a scalar, or `(features,)`."""
        return self.current("threshold")

    def extra_repr(self) -> str:
        """The settings, for `print(network)`."""
        return f"{super().extra_repr()}, reset={self.reset!r}"
