"""Adaptive leaky integrate-and-fire neurons with recurrent connections."""

from collections.abc import Collection

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rheobase.neurons.adaptive_lif import AdaptiveNeuron
from rheobase.ops.adaptive import Credit, recurrent_adaptive_lif
from rheobase.surrogate import Surrogate


class RecurrentAdaptiveLIF(AdaptiveNeuron):
    """Adaptive neurons with dense recurrent weights; a spike arrives `L = refractory + 1` steps later.

    As `AdaptiveLIF`, with the input

        i[t] = x[t] + recurrent_weight @ s[t-L],   and 0 in the refractory steps after a spike

    The delay is part of the model: a spike arrives when its neuron may fire again. The input weights are a layer in front, as
    for every neuron. A learned threshold is redundant with these, the recurrent ones and the adaptation together.

    Args:
        features: the number of neurons, N.
        decay: what the membrane potential keeps per step, in [0, 1], `exp(-dt / tau)`; a number or one per neuron.
        threshold: where a neuron that has not fired yet fires, above 0; likewise.
        adaptation_decay: what the trace of past spikes keeps per step, in [0, 1]; likewise.
        adaptation: by how much a spike raises the threshold, at least 0; with 0 a neuron does not adapt; likewise.
        refractory: how many steps a neuron ignores its input after a spike.
        credit: how neurons learn, `"sequential"` or `"blocks"`; see `AdaptiveLIF`.
        surrogate: the gradient of a spike; None is `FastSigmoid()`, whose dampening a new `rb.Sequential` sets.
        detach_recurrent: keep the gradient from going back through the recurrent spikes; the recurrent weights still learn.
        learn: which of `"decay"`, `"threshold"`, `"adaptation_decay"` and `"adaptation"` are learned, in addition to the
            recurrent weights.

    Raises:
        ValueError: if a value lies outside its range or has a wrong shape, or `learn` or `credit` is unknown.
        TypeError: if `learn` is a string, or `surrogate` is not a `Surrogate` or one whose spikes are not 0 or 1.

    Example:
        >>> layer = RecurrentAdaptiveLIF(128, decay=0.95, refractory=10)
        >>> spikes, (membrane, trace, resting, sent) = layer.run(torch.rand(50, 2, 128))
        >>> spikes.shape, membrane.shape, sent.shape
        (torch.Size([50, 2, 128]), torch.Size([2, 128]), torch.Size([11, 2, 128]))
    """

    features: int

    def __init__(
        self,
        features: int,
        *,
        decay: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        adaptation_decay: float | Tensor = 0.99,
        adaptation: float | Tensor = 0.1,
        refractory: int = 0,
        credit: Credit = "sequential",
        surrogate: Surrogate | None = None,
        detach_recurrent: bool = True,
        learn: Collection[str] = (),
    ) -> None:
        super().__init__(features, decay, threshold, adaptation_decay, adaptation, refractory, credit, surrogate, learn)
        self.detach_recurrent = detach_recurrent
        self.recurrent_weight = nn.Parameter(torch.empty(features, features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the recurrent weights to the identity, as in the source of the model: initially, a neuron receives only its own
        spikes.

        So the layer starts about as active as one without recurrence, slightly more; connections between neurons are learned.
        (`RecurrentLIF` draws its weights at random, as is usual where a gradient goes back through them.)
        """
        nn.init.eye_(self.recurrent_weight)

    def run(
        self,
        x: Float[Tensor, "T B {self.features}"],
        state: tuple[
            Float[Tensor, "B {self.features}"],
            Float[Tensor, "B {self.features}"],
            Float[Tensor, "B {self.features}"],
            Float[Tensor, "{self.refractory}+1 B {self.features}"],
        ]
        | None = None,
    ) -> tuple[
        Float[Tensor, "T B {self.features}"],
        tuple[
            Float[Tensor, "B {self.features}"],
            Float[Tensor, "B {self.features}"],
            Float[Tensor, "B {self.features}"],
            Float[Tensor, "{self.refractory}+1 B {self.features}"],
        ],
    ]:
        """Spikes for `x`, and the state after it, starting from `state`; None is rest.

        The state is that of `AdaptiveLIF`, plus the spikes of the last L steps, `(L, B, N)`.
        """
        self.check(x, state, parts=3, others=1)
        return recurrent_adaptive_lif(
            x,
            self.recurrent_weight,
            self.per_feature("decay", x),
            self.per_feature("threshold", x),
            self.per_feature("adaptation_decay", x),
            self.per_feature("adaptation", x),
            state,
            refractory=self.refractory,
            credit=self.credit,
            surrogate=self.surrogate,
            detach_recurrent=self.detach_recurrent,
        )

    def _recurrence(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.recurrent_weight.detach().to(x.dtype), x.new_zeros(self.refractory + 1, *x.shape[1:])
