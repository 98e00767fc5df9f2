"""Leaky integrate-and-fire neurons with recurrent connections."""

from collections.abc import Collection

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rheobase.neurons.neuron import IntegrateAndFire
from rheobase.ops.lif import Reset, ResetGradient
from rheobase.ops.recurrent import recurrent_lif
from rheobase.surrogate import Surrogate


class RecurrentLIF(IntegrateAndFire):
    """Leaky integrate-and-fire neurons with dense recurrent weights; a spike arrives at the next step.

    With the membrane potential `v` before the reset, `r` after it, and the spikes `s`,

        v[t] = decay * r[t-1] + x[t] + recurrent_weight @ s[t-1]

    with spikes and reset as in `LIF`. The input weights are a layer in front, as for every neuron. A learned threshold is
    redundant with these and the recurrent ones together, as in `LIF`.

    Args:
        features: the number of neurons, N.
        self_connections: whether a neuron receives its own spikes; if not, the diagonal of the recurrent weights has no effect.
        decay: what the membrane potential keeps per step, in [0, 1], `exp(-dt / tau)`; a number or one per neuron.
        threshold: where a neuron fires, above 0; a number or one per neuron.
        surrogate: the gradient of a spike; None is `FastSigmoid()`, whose dampening a new `rb.Sequential` sets.
        reset: what happens to the membrane potential of a neuron that fired.
        reset_gradient: how the backward pass treats the reset: its spike is a constant ("detached"), has the surrogate's
            gradient too ("attached"), or there is no reset at all ("ignored").
        detach_recurrent: keep the gradient from going back through the recurrent spikes; the recurrent weights still learn.
        learn: which of `"decay"` and `"threshold"` are learned, in addition to the recurrent weights.

    Raises:
        ValueError: if a value lies outside its range or has a wrong shape, `learn` names anything else, or `reset` or
            `reset_gradient` is unknown.
        TypeError: if `learn` is a string, or `surrogate` is not a `Surrogate`.

    Example:
        >>> layer = RecurrentLIF(128, decay=0.95, self_connections=False)
        >>> spikes, (membrane, sent) = layer.run(torch.rand(10, 2, 128))
        >>> spikes.shape, membrane.shape, sent.shape
        (torch.Size([10, 2, 128]), torch.Size([2, 128]), torch.Size([2, 128]))
    """

    features: int

    def __init__(
        self,
        features: int,
        *,
        self_connections: bool = True,
        decay: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        surrogate: Surrogate | None = None,
        reset: Reset = "subtract",
        reset_gradient: ResetGradient = "detached",
        detach_recurrent: bool = False,
        learn: Collection[str] = (),
    ) -> None:
        super().__init__(features, decay, threshold, surrogate, reset, reset_gradient, learn)
        self.self_connections = self_connections
        self.detach_recurrent = detach_recurrent
        self.recurrent_weight = nn.Parameter(torch.empty(features, features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the recurrent weights again, uniformly within `1 / sqrt(N)`, as those of `nn.Linear` and `nn.RNN` are."""
        bound = self.features**-0.5
        nn.init.uniform_(self.recurrent_weight, -bound, bound)

    def synapses(self) -> Float[Tensor, "{self.features} {self.features}"]:
        """The effective recurrent weights: without `self_connections`, 0 from a neuron to itself."""
        weight = self.recurrent_weight
        if self.self_connections:
            return weight
        return weight * (1 - torch.eye(self.features, dtype=weight.dtype, device=weight.device))

    def run(
        self,
        x: Float[Tensor, "T B {self.features}"],
        state: tuple[Float[Tensor, "B {self.features}"], Float[Tensor, "B {self.features}"]] | None = None,
    ) -> tuple[
        Float[Tensor, "T B {self.features}"],
        tuple[Float[Tensor, "B {self.features}"], Float[Tensor, "B {self.features}"]],
    ]:
        """Spikes for `x`, and the membrane potential and the spikes of its last step, starting from `state`; None is rest."""
        self.check(x, state, parts=2)
        return recurrent_lif(
            x,
            self.synapses(),
            self.per_feature("decay", x),
            self.per_feature("threshold", x),
            state,
            reset=self.reset,
            surrogate=self.surrogate,
            reset_gradient=self.reset_gradient,
            detach_recurrent=self.detach_recurrent,
        )

    def extra_repr(self) -> str:
        """The settings, for `print(network)`."""
        return f"{super().extra_repr()}, self_connections={self.self_connections}"
