"""Leaky integrate-and-fire neurons: the workhorse."""

from collections.abc import Collection

from jaxtyping import Float
from torch import Tensor

from rheobase.neurons.neuron import IntegrateAndFire
from rheobase.ops.lif import Reset, ResetGradient, lif
from rheobase.surrogate import Surrogate


class LIF(IntegrateAndFire):
    """Leaky integrate-and-fire neurons.

    With the membrane potential `v` before the reset and `r` after it,

        v[t] = decay * r[t-1] + x[t]
        s[t] = 1 if v[t] >= threshold else 0
        r[t] = v[t] - threshold * s[t]  (reset "subtract"),  v[t] * (1 - s[t])  ("zero"),  v[t]  ("none")

    A learned threshold is redundant with the weights of a linear layer in front: these, and its bias, divided by the threshold
    give the same spikes at threshold 1. What it adds is a width of the surrogate, relative to the threshold, and a step size
    for each neuron.

    Args:
        features: the size of the axis after B: units, or channels of a map (broadcast over space). Without it, one decay and
            one threshold serve all neurons.
        decay: what the membrane potential keeps per step, in [0, 1], `exp(-dt / tau)`; a number or one per feature.
        threshold: where a neuron fires, above 0; a number or one per feature.
        surrogate: the gradient of a spike; None is `FastSigmoid()`, whose dampening a new `rb.Sequential` sets.
        reset: what happens to the membrane potential of a neuron that fired.
        reset_gradient: how the backward pass treats the reset: its spike is a constant ("detached"), has the surrogate's
            gradient too ("attached"), or there is no reset at all ("ignored").
        learn: which of `"decay"` and `"threshold"` are learned. Learned decays stay in (0, 1), learned thresholds above 0.

    Raises:
        ValueError: if a value lies outside its range or has a wrong shape, `learn` names anything else, or `reset` or
            `reset_gradient` is unknown.
        TypeError: if `learn` is a string, or `surrogate` is no `Surrogate`.

    Example:
        >>> import torch
        >>> layer = LIF(3, decay=0.9, learn=("threshold",))
        >>> layer(torch.ones(10, 2, 3)).shape
        torch.Size([10, 2, 3])
        >>> layer.threshold.detach()
        tensor([1., 1., 1.])
    """

    def __init__(
        self,
        features: int | None = None,
        *,
        decay: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        surrogate: Surrogate | None = None,
        reset: Reset = "subtract",
        reset_gradient: ResetGradient = "detached",
        learn: Collection[str] = (),
    ) -> None:
        super().__init__(features, decay, threshold, surrogate, reset, reset_gradient, learn)

    def run(
        self, x: Float[Tensor, "T B *features"], state: Float[Tensor, "B *features"] | None = None
    ) -> tuple[Float[Tensor, "T B *features"], Float[Tensor, "B *features"]]:
        """Spikes for `x`, and the membrane potential after the last step's reset, starting from `state`; None is rest."""
        self.check(x, state)
        return lif(
            x,
            self.per_feature("decay", x),
            self.per_feature("threshold", x),
            state,
            reset=self.reset,
            surrogate=self.surrogate,
            reset_gradient=self.reset_gradient,
        )
