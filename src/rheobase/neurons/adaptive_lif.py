"""Leaky integrate-and-fire neurons with a refractory period, whose threshold rises with every spike."""

from collections.abc import Collection

import torch
from jaxtyping import Float
from torch import Tensor

from rheobase.neurons.listening import Listening
from rheobase.neurons.neuron import Neuron
from rheobase.ops.adaptive import Credit, adaptive_lif, check_adaptive_rule, reference
from rheobase.ops.arguments import state_type
from rheobase.ops.integrate import integrate
from rheobase.parameters import NON_NEGATIVE, POSITIVE, UNIT_INTERVAL, Value
from rheobase.surrogate import DEFAULT, Surrogate


class AdaptiveNeuron(Neuron):
    """The settings of adaptive neurons: what `AdaptiveLIF` and `RecurrentAdaptiveLIF` are made with.

    Args:
        features: the size of the axis after B, or None.
        decay: what the membrane potential keeps per step, in [0, 1]; a number or one per feature.
        threshold: where a neuron fires that has not fired before, above 0; likewise.
        adaptation_decay: what the trace of past spikes keeps per step, in [0, 1]; likewise.
        adaptation: by how much a spike raises the threshold, at least 0; likewise.
        refractory: for how many steps after a spike a neuron hears nothing.
        credit: the rule of the gradient, `"sequential"` or `"blocks"`.
        surrogate: the gradient of a spike; None is `FastSigmoid()`, whose dampening a new `rb.Sequential` sets.
        learn: the names of the values that are learned.

    Raises:
        ValueError: if a value lies outside its range or has a wrong shape, or `learn` or `credit` is unknown.
        TypeError: if `learn` is a string, or `surrogate` is no `Surrogate` or one whose spikes are not 0 or 1.
    """

    decay = Value("What the membrane potential keeps per step")
    threshold = Value("Where neurons fire that have not fired before")
    adaptation_decay = Value("What the trace of past spikes keeps per step")
    adaptation = Value("By how much a spike raises the threshold")

    def __init__(
        self,
        features: int | None,
        decay: float | Tensor,
        threshold: float | Tensor,
        adaptation_decay: float | Tensor,
        adaptation: float | Tensor,
        refractory: int,
        credit: Credit,
        surrogate: Surrogate | None,
        learn: Collection[str],
    ) -> None:
        surrogate = surrogate or DEFAULT
        check_adaptive_rule(refractory, credit, surrogate, type(self).__name__)
        super().__init__(features, learn, ("decay", "threshold", "adaptation_decay", "adaptation"))
        self.define("decay", decay, UNIT_INTERVAL)
        self.define("threshold", threshold, POSITIVE)
        self.define("adaptation_decay", adaptation_decay, UNIT_INTERVAL)
        self.define("adaptation", adaptation, NON_NEGATIVE)
        self.refractory = int(refractory)
        self.credit: Credit = credit
        self.surrogate = surrogate

    @torch.no_grad()
    def distance(self, x: Float[Tensor, "T B *features"]) -> Float[Tensor, "T B *features"]:
        """How far the membrane potential is above the raised threshold at every step; see `Neuron.distance`."""
        self.check(x, None)
        x, listening = x.to(state_type(x)), Listening()
        decay, threshold, adaptation_decay, adaptation = (
            self.per_feature(name, x).to(x.dtype) for name in ("decay", "threshold", "adaptation_decay", "adaptation")
        )
        rest = [x.new_zeros(x.shape[1:])] * 3
        weight, sent = self._recurrence(x)
        rule = self.refractory, listening, weight, sent
        reference.sequential(x, decay, threshold, adaptation_decay, adaptation, rest, *rule)
        return listening.distance(x)

    def thresholds(self, distance: Float[Tensor, "T B *features"]) -> Float[Tensor, "T B *features"]:
        """The thresholds at every step, raised by the spikes before."""
        spikes = (distance >= 0).to(distance.dtype)
        traces, _ = integrate(spikes, self.per_feature("adaptation_decay", distance).detach())
        before = torch.cat((torch.zeros_like(traces[:1]), traces[:-1]))
        return (self.per_feature("threshold", distance) + self.per_feature("adaptation", distance) * before).detach()

    def _recurrence(self, x: Tensor) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """The recurrent weights and the spikes that are still on their way at rest, if the neurons hear one another."""
        return None, None

    def extra_repr(self) -> str:
        """The settings, for `print(network)`."""
        return f"{super().extra_repr()}, refractory={self.refractory}, credit={self.credit!r}"


class AdaptiveLIF(AdaptiveNeuron):
    """Leaky integrate-and-fire neurons that rest after a spike, and that get tired of firing.

    With the membrane potential `v`, and a trace `a` of past spikes that raises the threshold,

        u[t] = decay * v[t-1] + i[t] - (threshold + adaptation * a[t-1])
        s[t] = 1 if u[t] >= 0 else 0
        v[t] = (decay * v[t-1] + i[t]) * (1 - s[t])
        a[t] = adaptation_decay * a[t-1] + s[t]

    where `i[t]` is 0 in the `refractory` steps after a spike, and `x[t]` in all others. A refractory period limits the rate: a
    neuron fires at most every `refractory + 1` steps.

    A sequence that is cut anywhere gives the spikes that the whole gives, and the same gradients. With the credit "blocks",
    gradients depend on where blocks begin, and each call of `run` begins one: cut at multiples of `refractory + 1`, in
    `Recompute(..., steps=...)` too.

    A learned threshold is redundant with the weights of a linear layer in front, as in `LIF`: divide these, its bias and the
    adaptation by the threshold.

    Args:
        features: the size of the axis after B: units, or channels of a map (broadcast over space). Without it, one value of
            each kind serves all neurons.
        decay: what the membrane potential keeps per step, in [0, 1], `exp(-dt / tau)`; a number or one per feature.
        threshold: where a neuron fires that has not fired before, above 0; likewise.
        adaptation_decay: what the trace keeps per step, in [0, 1]; likewise.
        adaptation: by how much a spike raises the threshold, at least 0; with 0 a neuron does not adapt; likewise.
        refractory: for how many steps after a spike a neuron hears nothing.
        credit: how neurons learn: `"sequential"` goes back step by step, `"blocks"` is the rule of the block algorithm's
            authors. `rheobase.ops.adaptive.adaptive_lif` has both in formulas, and says why the first is the default.
        surrogate: the gradient of a spike; None is `FastSigmoid()`, whose dampening a new `rb.Sequential` sets.
        learn: which of `"decay"`, `"threshold"`, `"adaptation_decay"` and `"adaptation"` are learned. Learned decays stay in
            (0, 1), the others above 0.

    Raises:
        ValueError: if a value lies outside its range or has a wrong shape, or `learn` or `credit` is unknown.
        TypeError: if `learn` is a string, or `surrogate` is no `Surrogate` or one whose spikes are not 0 or 1.

    Example:
        >>> import torch
        >>> layer = AdaptiveLIF(3, decay=0.95, adaptation=0.5, refractory=4, learn=("adaptation",))
        >>> spikes = layer(torch.ones(100, 2, 3))
        >>> spikes[:20, 0, 0].nonzero().flatten()  # the pauses grow
        tensor([ 0,  6, 12, 19])
    """

    def __init__(
        self,
        features: int | None = None,
        *,
        decay: float | Tensor = 0.9,
        threshold: float | Tensor = 1.0,
        adaptation_decay: float | Tensor = 0.99,
        adaptation: float | Tensor = 0.1,
        refractory: int = 0,
        credit: Credit = "sequential",
        surrogate: Surrogate | None = None,
        learn: Collection[str] = (),
    ) -> None:
        super().__init__(features, decay, threshold, adaptation_decay, adaptation, refractory, credit, surrogate, learn)

    def run(
        self,
        x: Float[Tensor, "T B *features"],
        state: tuple[Float[Tensor, "B *features"], Float[Tensor, "B *features"], Float[Tensor, "B *features"]]
        | None = None,
    ) -> tuple[
        Float[Tensor, "T B *features"],
        tuple[Float[Tensor, "B *features"], Float[Tensor, "B *features"], Float[Tensor, "B *features"]],
    ]:
        """Spikes for `x`, and the state after it, starting from `state`; None is rest.

        The state is the membrane potential, the trace, and how many refractory steps are left.
        """
        self.check(x, state, parts=3)
        return adaptive_lif(
            x,
            self.per_feature("decay", x),
            self.per_feature("threshold", x),
            self.per_feature("adaptation_decay", x),
            self.per_feature("adaptation", x),
            state,
            refractory=self.refractory,
            credit=self.credit,
            surrogate=self.surrogate,
        )
