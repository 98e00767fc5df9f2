"""The neuron of "To Spike or Not to Spike", with trained thresholds: exactly that paper's rule.

`LIF` and its relatives learn thresholds with `learn=("threshold",)`, through a map that keeps them positive. This one is the
published method and nothing else: its neuron, its surrogate, its adjoint, and thresholds that are parameters like any other.
"""

from collections.abc import Collection
from typing import ClassVar

import torch
from torch import Tensor

from rheobase.neurons.synaptic_lif import SynapticLIF
from rheobase.parameters import REAL, Range
from rheobase.surrogate import Exponential


class Rouser(SynapticLIF):
    """Current-based neurons with a reset to 0 and trained thresholds, whose gradient ignores the reset.

    With the synaptic current `i`, the membrane potential `v` before the reset and `r` after it,

        i[t] = synapse_decay * i[t-1] + x[t]
        v[t] = decay * r[t-1] + i[t]
        s[t] = 1 if v[t] >= threshold else 0
        r[t] = v[t] * (1 - s[t])

    Backwards, with the error `e[t]` that arrives at the spikes,

        g[t]  = e[t] * (scale / width) * exp(-|v[t] - threshold| / width)
        dv[t] = g[t] + decay * dv[t+1]                the reset does not occur in it
        di[t] = dv[t] + synapse_decay * di[t+1]       the gradient of x[t]

    and the gradient of a threshold is `-sum(g)` over time and batch. `width` stays fixed while thresholds move. A learned
    threshold is a parameter like any other, as in the paper, which does not bound it: if it falls to 0 or below, a neuron fires
    at rest. `SynapticLIF(learn=("threshold",), reset="zero", reset_gradient="ignored")` is the same with thresholds that stay
    above 0. Scaling all weights into a neuron and its threshold alike changes nothing but the relative width of the surrogate:
    a threshold is in part redundant with a gain of the weights.

    The matching loss is `rheobase.losses.rate_mse`, on the spikes of an output layer of such neurons.

    Args:
        features: the size of the axis after B, or None for one threshold that serves all.
        synapse_decay: what the synaptic current keeps per step, in [0, 1].
        decay: what the membrane potential keeps per step, in [0, 1].
        threshold: where a neuron fires initially; a number, or one per feature.
        width: of the surrogate, `tau` in the paper; above 0, in units of the membrane potential.
        scale: of the surrogate, `s` in the paper; above 0.
        learn: what is learned, as in `SynapticLIF`; `()` is the paper's baseline with fixed thresholds.

    Raises:
        ValueError: if a value lies outside its range or has a wrong shape, or `learn` names anything else.
        TypeError: if `learn` is a string.

    Source: Takaghaj and Sampson, "To Spike or Not to Spike", arXiv 2407.19566, equations 1 to 5 and Table II, whose constants
    are the defaults; the recursions are those of lava-dl's CUBA neuron, which the paper extends.

    Example:
        >>> layer = Rouser(3)
        >>> layer(torch.ones(10, 2, 3)).sum().backward()
        >>> layer.threshold.detach(), bool((layer.raw_threshold.grad < 0).all())
        (tensor([1.2500, 1.2500, 1.2500]), True)
    """

    _threshold_range: ClassVar[Range] = REAL

    def __init__(
        self,
        features: int | None = None,
        *,
        synapse_decay: float | Tensor = 0.75,
        decay: float | Tensor = 0.97,
        threshold: float | Tensor = 1.25,
        width: float = 3.75,
        scale: float = 1.5,
        learn: Collection[str] = ("threshold",),
    ) -> None:
        for name, value in (("width", width), ("scale", scale)):
            if not 0 < value < torch.inf:
                raise ValueError(f"Rouser: {name} must be above 0 and finite, got {value}")
        surrogate = Exponential(dampening=scale / width, sharpness=1 / (2 * width))
        super().__init__(
            features,
            synapse_decay=synapse_decay,
            decay=decay,
            threshold=threshold,
            surrogate=surrogate,
            reset="zero",
            reset_gradient="ignored",
            learn=learn,
        )
