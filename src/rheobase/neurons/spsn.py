"""Stochastic neurons without a reset, whose cost per step does not depend on the length of the sequence."""

from collections.abc import Collection
from typing import Literal, get_args

from jaxtyping import Float, Int
from torch import Tensor

from rheobase.neurons.neuron import Neuron
from rheobase.ops.stochastic import Firing, Sampler, check_rule, stochastic_lif
from rheobase.parameters import POSITIVE, REAL, UNIT_INTERVAL, Value, decay_from_tau

Evaluation = Literal["sampled", "threshold", "expected"]
"""What neurons do in evaluation: draw as in training; fire where a spike is at least as likely as silence; or output the
probability of a spike."""

_DECAY = decay_from_tau(tau=20.0, dt=1.0)


class SPSN(Neuron):
    """Stochastic parallelizable spiking neurons: leaky integration behind a synapse, no reset, and random spikes.

    With the synaptic current `i` and the membrane potential `v`,

        i[t] = synapse_decay * i[t-1] + x[t]
        v[t] = decay * v[t-1] + i[t]
        z[t] = slope * ((1 - decay) * v[t] - threshold)

    a spike comes with probability `sigmoid(z)` from the sampler `"bernoulli"`, and `sigmoid(2 z)` from `"gumbel"`, which is
    that of a softmax over the two logits z and -z. Their gradients are written out in `rheobase.ops.stochastic.stochastic_lif`.
    A neuron at rest fires at half of the steps, unless its threshold is above 0: silence must be learned, and a penalty on the
    mean rate is part of the method.

    Since the membrane potential does not depend on spikes, all steps can be computed at once; on a CPU the kernels still go
    through them one by one, since that moves the fewest bytes.

    Draws come from PyTorch's generator through a seed for each call, and are a function of that seed, the step and the neuron:
    a sequence cut anywhere, on any number of threads, gives the same spikes, and no noise is kept for the backward pass.

    Source: Yarga and Wood, "Accelerating SNN training with stochastic parallelizable spiking "
    "neurons", arXiv 2306.12666, whose
    neurons have decays of exp(-1/20), threshold 0, slope 1 and temperature 1, none of them learned, and draw in evaluation
    too. The deterministic evaluations, and what can be learned, are additions.

    Args:
        features: the size of the axis after B: units, or channels of a map (broadcast over space). Without it, one value of
            each kind serves all neurons.
        synapse_decay: what the synaptic current keeps per step, in [0, 1], `exp(-dt / tau)`; 0 is no synapse. A number or one
            per feature.
        decay: what the membrane potential keeps per step; likewise.
        threshold: where a spike is as likely as silence, any number; or one per feature.
        slope: how steeply the probability rises there, above 0; a number or one per feature.
        sampler: `"bernoulli"` or `"gumbel"`.
        temperature: how smooth the relaxation of `"gumbel"` is, above 0.
        evaluation: what happens in evaluation: spikes are `"sampled"`; or, without noise, they come where a spike is at least
            as likely as silence, `"threshold"`, or are replaced by their probability, `"expected"`, so that the following
            layers receive their average input. The latter are no longer spikes, but closest to the mean of many draws.
        learn: which of `"synapse_decay"`, `"decay"`, `"threshold"` and `"slope"` are learned.

    Raises:
        ValueError: if a value lies outside its range or has a wrong shape, `learn` names anything else, `temperature` is not
            above 0 and finite, or `sampler` or `evaluation` is unknown.
        TypeError: if `learn` is a string.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> layer = SPSN(3, learn=("decay",))
        >>> spikes = layer(torch.ones(1000, 2, 3))
        >>> [round(rate, 1) for rate in (spikes[0].mean().item(), spikes[200:].mean().item())]
        [0.5, 1.0]
    """

    synapse_decay = Value("What the synaptic current keeps per step")
    decay = Value("What the membrane potential keeps per step")
    threshold = Value("Where a spike is as likely as silence")
    slope = Value("How steeply the probability of a spike rises")

    def __init__(
        self,
        features: int | None = None,
        *,
        synapse_decay: float | Tensor = _DECAY,
        decay: float | Tensor = _DECAY,
        threshold: float | Tensor = 0.0,
        slope: float | Tensor = 1.0,
        sampler: Sampler = "bernoulli",
        temperature: float = 1.0,
        evaluation: Evaluation = "sampled",
        learn: Collection[str] = (),
    ) -> None:
        kind = type(self).__name__
        if sampler not in get_args(Sampler):
            raise ValueError(f"{kind}: sampler must be 'bernoulli' or 'gumbel', got {sampler!r}")
        if evaluation not in get_args(Evaluation):
            words = ", ".join(map(repr, get_args(Evaluation)))
            raise ValueError(f"{kind}: evaluation must be one of {words}, got {evaluation!r}")
        check_rule(sampler, temperature, kind)
        super().__init__(features, learn, ("synapse_decay", "decay", "threshold", "slope"))
        self.define("synapse_decay", synapse_decay, UNIT_INTERVAL)
        self.define("decay", decay, UNIT_INTERVAL)
        self.define("threshold", threshold, REAL)
        self.define("slope", slope, POSITIVE)
        self.sampler: Sampler = sampler
        self.temperature = temperature
        self.evaluation: Evaluation = evaluation

    def run(
        self,
        x: Float[Tensor, "T B *features"],
        state: tuple[Float[Tensor, "B *features"], Float[Tensor, "B *features"], Int[Tensor, "2"]] | None = None,
    ) -> tuple[
        Float[Tensor, "T B *features"],
        tuple[Float[Tensor, "B *features"], Float[Tensor, "B *features"], Int[Tensor, "2"]],
    ]:
        """Spikes for `x`, and the state after it, starting from `state`; None is rest, and a new seed.

        The state is the membrane potential `v`, the synaptic current, and the seed of the noise with the number of the next
        step.
        """
        self.check(x, state, parts=2, others=1)
        decay, slope = self.per_feature("decay", x), self.per_feature("slope", x)
        firing: Firing = self.sampler
        if not self.training and self.evaluation != "sampled":
            firing = self.evaluation
            if self.sampler == "gumbel":
                slope = 2 * slope
        return stochastic_lif(
            x,
            self.per_feature("synapse_decay", x),
            decay,
            slope * (1 - decay),
            slope * self.per_feature("threshold", x),
            state,
            firing=firing,
            temperature=self.temperature,
        )

    def extra_repr(self) -> str:
        """The settings, for `print(network)`."""
        return f"{super().extra_repr()}, sampler={self.sampler!r}, evaluation={self.evaluation!r}"
