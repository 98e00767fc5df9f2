"""Leaky integrate-and-fire neurons behind a synapse with its own memory."""

from collections.abc import Collection

from jaxtyping import Float
from torch import Tensor

from rheobase.neurons.neuron import IntegrateAndFire
from rheobase.ops.lif import Reset, ResetGradient, synaptic_lif
from rheobase.parameters import UNIT_INTERVAL, Value
from rheobase.surrogate import Surrogate


class SynapticLIF(IntegrateAndFire):
    """Leaky integrate-and-fire neurons whose input first drives a synaptic current; "current-based" LIF neurons.

    With the synaptic current `i`, and the membrane potential `v` before the reset and `r` after it,

        i[t] = synapse_decay * i[t-1] + x[t]
        v[t] = decay * r[t-1] + i[t]

    with spikes and reset as in `LIF`. An arriving spike is thereby smeared over time: the membrane potential rises for a while
    before it falls. A constant input `x` is amplified by `1 / (1 - synapse_decay)`. A learned threshold is redundant with
    weights in front, as in `LIF`.

    Args:
        features: the size of the axis after B: units, or channels of a map (broadcast over space). Without it, one value of
            each kind serves all neurons.
        synapse_decay: what the synaptic current keeps per step, in [0, 1], `exp(-dt / tau)`; a number or one per feature.
        decay: what the membrane potential keeps per step; likewise.
        threshold: where a neuron fires, above 0; a number or one per feature.
        surrogate: the gradient of a spike; None is `FastSigmoid()`, whose dampening a new `rb.Sequential` sets.
        reset: what happens to the membrane potential of a neuron that fired; the synaptic current is unchanged.
        reset_gradient: how the backward pass treats the reset: its spike is a constant ("detached"), has the surrogate's
            gradient too ("attached"), or there is no reset at all ("ignored").
        learn: which of `"synapse_decay"`, `"decay"` and `"threshold"` are learned.

    Raises:
        ValueError: if a value lies outside its range or has a wrong shape, `learn` names anything else, or `reset` or
            `reset_gradient` is unknown.
        TypeError: if `learn` is a string, or `surrogate` is not a `Surrogate`.

    Example:
        >>> import torch
        >>> layer = SynapticLIF(3, synapse_decay=0.5, decay=0.9, learn=("synapse_decay",))
        >>> spikes, (membrane, current) = layer.run(torch.ones(10, 2, 3))
        >>> current[0].detach()  # on its way to 1 / (1 - 0.5)
        tensor([1.9980, 1.9980, 1.9980])
    """

    synapse_decay = Value("What the synaptic current keeps per step")

    def __init__(
        self,
        features: int | None = None,
        *,
        synapse_decay: float | Tensor = 0.8,
        decay: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        surrogate: Surrogate | None = None,
        reset: Reset = "subtract",
        reset_gradient: ResetGradient = "detached",
        learn: Collection[str] = (),
    ) -> None:
        learnable = ("synapse_decay", "decay", "threshold")
        super().__init__(features, decay, threshold, surrogate, reset, reset_gradient, learn, learnable)
        self.define("synapse_decay", synapse_decay, UNIT_INTERVAL)

    def run(
        self,
        x: Float[Tensor, "T B *features"],
        state: tuple[Float[Tensor, "B *features"], Float[Tensor, "B *features"]] | None = None,
    ) -> tuple[Float[Tensor, "T B *features"], tuple[Float[Tensor, "B *features"], Float[Tensor, "B *features"]]]:
        """Spikes for `x`, and the membrane potential and the synaptic current after it, starting from `state`; None is rest."""
        self.check(x, state, parts=2)
        return synaptic_lif(
            x,
            self.per_feature("synapse_decay", x),
            self.per_feature("decay", x),
            self.per_feature("threshold", x),
            state,
            reset=self.reset,
            surrogate=self.surrogate,
            reset_gradient=self.reset_gradient,
        )
