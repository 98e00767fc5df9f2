"""Parallelizable neurons: a linear membrane, many ways to turn it into spikes, and an approximate recurrence."""

from collections.abc import Collection
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from rheobase.neurons.neuron import Neuron
from rheobase.ops.arguments import parts_of
from rheobase.ops.integrate import synaptic_integrate
from rheobase.ops.lif import lif
from rheobase.ops.noise import draw_seed
from rheobase.ops.stochastic import stochastic_lif
from rheobase.parameters import REAL, UNIT_INTERVAL, Value, decay_from_tau
from rheobase.surrogate import FastSigmoid, Surrogate

Transform = Literal["none", "sigmoid", "tanh", "relu_tanh"]
"""The transform of the membrane potential before it makes spikes."""

Event = Literal["threshold", "delta", "bernoulli", "gumbel"]
"""What makes a spike."""

_DECAY = decay_from_tau(tau=20.0, dt=1.0)
_SAMPLERS = {"bernoulli": ("sigmoid", "relu_tanh"), "gumbel": ("none",)}
"""For random events: the transforms that give them a probability, or a logit."""


class ParaLIF(Neuron):
    """Leaky integrators behind a synapse, without a reset, whose spikes are events of a transformed membrane potential.

    With the synaptic current `i`, the membrane potential `v`, and `f` the transform,

        i[t] = synapse_decay * i[t-1] + x[t]
        v[t] = decay * v[t-1] + (1 - decay) * i[t]

    a spike comes, according to `event`,

        "threshold"  where f(v[t]) >= threshold
        "delta"      where f(v[t]) - f(v[t-1]) >= threshold, from rest
        "bernoulli"  with probability f(v[t]), for the transforms "sigmoid" and "relu_tanh"
        "gumbel"     with probability sigmoid(2 v[t]), for the transform "none"

    The first two have the surrogate's gradient, the others those of `SPSN`, of which `"bernoulli"` after a sigmoid and
    `"gumbel"` are slower relatives. In the paper's names, T, ST, TT and TRT are thresholds after the four transforms, D, SD, TD
    and TRD are deltas, SB and TRB are drawn after "sigmoid" and "relu_tanh", and GS is "gumbel".

    With `recurrent`, spikes feed back in two passes, each over all steps at once. The first finds the potential `v1` without
    feedback, and its spikes, delayed by one step; the second integrates the input again, plus the feedback of these spikes; the
    output spikes are events of the sum of both potentials. So the recurrence is approximated by one iteration, and the input
    enters twice, as published.

    Source: Yarga and Wood, "Accelerating spiking neural networks with parallelizable leaky integrate-and-fire neurons",
    Neuromorphic Computing and Engineering, 2025, doi 10.1088/2634-4386/adb7fe. There a spike exceeds the threshold, here it
    reaches it.

    Args:
        features: the size of the axis after B. Without it, one value of each kind serves all neurons.
        synapse_decay: what the synaptic current keeps per step, in [0, 1]; 0 is no synapse. A number or one per feature.
        decay: what the membrane potential keeps per step; likewise.
        threshold: a number or one per feature; None is 1, or 0.1 for `"delta"`. Random events have none.
        transform: what is applied to the membrane potential.
        event: what makes a spike.
        surrogate: the gradient of thresholds and deltas; None is the paper's `FastSigmoid(sharpness=50)`.
        recurrent: whether spikes feed back, through a linear layer `feedback` from all features to all features.
        learn: which of `"synapse_decay"`, `"decay"` and `"threshold"` are learned.

    Raises:
        ValueError: if a value lies outside its range or has a wrong shape, transform and event do not go together, `threshold`
            is given or learned for a random event, or `features` is missing for a recurrence.
        TypeError: if `learn` is a string, or `surrogate` is not a `Surrogate`.

    Example:
        >>> layer = ParaLIF(3, synapse_decay=0.0, decay=0.5, threshold=0.7)
        >>> layer(torch.ones(4, 1, 3))[:, 0, 0]  # v = 0.5, 0.75, 0.875, 0.9375
        tensor([0., 1., 1., 1.])
    """

    synapse_decay = Value("What the synaptic current keeps per step")
    decay = Value("What the membrane potential keeps per step")
    threshold = Value("Where a spike comes; random events have none")

    def __init__(
        self,
        features: int | None = None,
        *,
        synapse_decay: float | Tensor = _DECAY,
        decay: float | Tensor = _DECAY,
        threshold: float | Tensor | None = None,
        transform: Transform = "none",
        event: Event = "threshold",
        surrogate: Surrogate | None = None,
        recurrent: bool = False,
        learn: Collection[str] = (),
    ) -> None:
        for name, value, words in (("transform", transform, Transform), ("event", event, Event)):
            if value not in get_args(words):
                raise ValueError(
                    f"ParaLIF: {name} must be one of {', '.join(map(repr, get_args(words)))}, got {value!r}"
                )
        drawn = event in _SAMPLERS
        if drawn and transform not in _SAMPLERS[event]:
            fitting = " or ".join(map(repr, _SAMPLERS[event]))
            raise ValueError(f"ParaLIF: the event {event!r} needs the transform {fitting}, got {transform!r}")
        if drawn and threshold is not None:
            raise ValueError(f"ParaLIF: the event {event!r} has no threshold, got {threshold}; SPSN has one")
        if recurrent and features is None:
            raise ValueError("ParaLIF: a recurrence needs features, the number of neurons, got None")
        surrogate = FastSigmoid(sharpness=50.0) if surrogate is None else surrogate
        if not isinstance(surrogate, Surrogate):
            raise TypeError(f"ParaLIF: surrogate must be an object such as FastSigmoid(), got {surrogate!r}")
        super().__init__(features, learn, ("synapse_decay", "decay", *(() if drawn else ("threshold",))))
        self.define("synapse_decay", synapse_decay, UNIT_INTERVAL)
        self.define("decay", decay, UNIT_INTERVAL)
        if not drawn:
            self.define("threshold", {"threshold": 1.0, "delta": 0.1}[event] if threshold is None else threshold, REAL)
        self.transform: Transform = transform
        self.event: Event = event
        self.surrogate = surrogate
        self.feedback = nn.Linear(features, features) if recurrent and features is not None else None

    def run(
        self, x: Float[Tensor, "T B *features"], state: Any = None
    ) -> tuple[Float[Tensor, "T B *features"], tuple[Any, ...]]:
        """Spikes for `x`, and the state after it, starting from `state`; None is rest.

        The state holds, for each pass, the membrane potential, the synaptic current and what events remember.
        """
        self.check(x, None)
        first, remembered, *rest = parts_of(state, 2 if self.feedback is None else 5, "ParaLIF")
        v, first = self._integrate(x, first)
        if self.feedback is None:
            spikes, remembered = self._fire(v, remembered)
            return spikes.to(x.dtype), (first, remembered)
        if x.ndim != 3:
            raise ValueError(f"ParaLIF: a recurrence needs x to be (T, B, features), got shape {tuple(x.shape)}")
        before, second, remembered_of_sum = rest
        v_of_before = torch.cat((v.new_zeros(1, *v.shape[1:]) if before is None else before, v))
        spikes_before, remembered = self._fire(v_of_before[:-1], remembered)
        fed_back = self.feedback(spikes_before.to(self.feedback.weight.dtype))
        v_again, second = self._integrate(x + fed_back.to(v.dtype), second)
        spikes, remembered_of_sum = self._fire(v + v_again, remembered_of_sum)
        return spikes.to(x.dtype), (first, remembered, v_of_before[-1:], second, remembered_of_sum)

    def _integrate(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        decay = self.per_feature("decay", x)
        v, state = synaptic_integrate(x, self.per_feature("synapse_decay", x), decay, state)
        return (1 - decay) * v, state

    def _fire(self, v: Tensor, remembered: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The spikes, and what the next step needs: the noise, or the last value."""
        if self.event in ("bernoulli", "gumbel"):
            # Without memory, SPSN neurons are samplers. The clamp keeps a probability of 0 from becoming a logit of -inf.
            logit = torch.logit(self._transformed(v), eps=1e-7) if self.transform == "relu_tanh" else v
            rest = torch.zeros((), dtype=v.dtype, device=v.device)
            noise = draw_seed(v.device) if remembered is None else remembered
            spikes, (_, _, noise) = stochastic_lif(logit, 0.0, 0.0, initial=(rest, rest, noise), firing=self.event)
            return spikes, noise
        y = self._transformed(v)
        after = None
        if self.event == "delta":
            before = self._transformed(v.new_zeros(1, *v.shape[1:]))
            values = torch.cat((before if remembered is None else remembered, y))
            y, after = values[1:] - values[:-1], values[-1:]
        # Without memory, leaky neurons compare with the threshold.
        return lif(y, 0.0, self.per_feature("threshold", v), reset="none", surrogate=self.surrogate)[0], after

    def _transformed(self, v: Tensor) -> Tensor:
        if self.transform == "sigmoid":
            return v.sigmoid()
        if self.transform == "none":
            return v
        return v.tanh().relu() if self.transform == "relu_tanh" else v.tanh()

    def extra_repr(self) -> str:
        """The settings, for `print(network)`."""
        return f"{super().extra_repr()}, transform={self.transform!r}, event={self.event!r}"
