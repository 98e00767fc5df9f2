"""Decoding by time: the output unit that fires first gives the answer, without waiting for the others.

A network ends in one output unit per class whose membrane potential the network outputs, `(T, B, C)`: a linear layer and
`LeakyReadout(decay=1.0)`. A unit fires when its potential first reaches the threshold. For learning, each spike weighs more the
earlier it comes, and the sum over time is a logit (`weighted`); for the answer, only the earliest counts (`scores`, `decide`),
so that the network can stop there (`decide_early`). The alternative, decoding the membrane potential, is
`rheobase.decoding.mean` of the same output: it uses more information, but the answer is known only after the last step.

Weights of at most 1 make poor logits: with ten classes, the lowest possible cross-entropy is `log(1 + 9 / e) = 1.461`, and its
gradient never vanishes. So logits are scaled. With 5 it can reach 0.059, with `SCALE` 0.0004.

Source: Che et al., arXiv 2410.23619, for the exponential weights, as others restate them; the scale, the rule for ties and the
answer of a silent network are our choices.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from rheobase import randomness
from rheobase.layers import Hold, Sequential
from rheobase.layers.order import check_order, in_order
from rheobase.layers.parametrized import kind_of
from rheobase.neurons import PSN, SPSN, MaskedPSN, ParaLIF, SingleSpike
from rheobase.ops.arguments import check_sequence
from rheobase.ops.single_spike import Credit, first_spikes, single_spike
from rheobase.surrogate import Surrogate
from rheobase.temporal import Temporal

SCALE = 10.0
"""The factor that turns weighted spikes into logits."""


def spikes_of(
    membrane: Float[Tensor, "T B *C"],
    threshold: float = 1.0,
    *,
    surrogate: Surrogate | None = None,
    credit: Credit = "product",
) -> Float[Tensor, "T B *C"]:
    """The first spikes of units with this membrane potential: 1 where it first reaches the threshold, else 0.

    Args:
        membrane: at every step, `(T, B, C)`.
        threshold: above 0.
        surrogate: the gradient of a crossing; None is `FastSigmoid()`.
        credit: which steps are credited with the spike, see `rheobase.ops.single_spike`.

    Returns:
        Spikes, at most one for each unit and sample.

    Example:
        >>> spikes_of(torch.tensor([0.5, 1.2, 0.9, 3.0]).view(4, 1, 1)).flatten()
        tensor([0., 1., 0., 0.])
    """
    check_sequence(membrane, "spikes_of")
    return first_spikes(_finite(membrane), 0.0, threshold, surrogate=surrogate, credit=credit)


def _finite(membrane: Tensor) -> Tensor:
    """Potentials that a neuron can forget: it keeps 0 times the last one, which is NaN if that is infinite."""
    limits = torch.finfo(membrane.dtype)
    return membrane.clamp(limits.min, limits.max)


def exponential(steps: int, base: float = 1.5) -> Float[Tensor, " T"]:
    """The weight of a spike by its step: `base^-t`.

    Args:
        steps: T, at least 1.
        base: above 1.

    Raises:
        ValueError: if a number is out of range, or so large for this many steps that the last spike would not count.

    Example:
        >>> exponential(3, base=2.0)
        tensor([1.0000, 0.5000, 0.2500])
    """
    if not base > 1:
        raise ValueError(f"exponential: base must be above 1, so that a later spike counts less, got {base}")
    positions = _positions(steps, "exponential")
    smallest = torch.finfo(positions.dtype).tiny
    if (steps - 1) * math.log(base) > -math.log(smallest):
        works = math.floor(1e6 * smallest ** (-1 / (steps - 1))) / 1e6
        raise ValueError(
            f"exponential: with base {base} and {steps} steps, late spikes would not count, since base^-t is below "
            f"{smallest:.1e}, the smallest normal number of {positions.dtype}; take a base of at most {works}, or "
            "weights that fall linearly"
        )
    return base**-positions


def linear(steps: int) -> Float[Tensor, " T"]:
    """The weight of a spike by its step: `(T - t) / T`.

    Args:
        steps: T, at least 1.

    Raises:
        ValueError: if `steps` is below 1.

    Example:
        >>> linear(4)
        tensor([1.0000, 0.7500, 0.5000, 0.2500])
    """
    return 1 - _positions(steps, "linear") / steps


def _positions(steps: int, what: str) -> Tensor:
    if steps < 1:
        raise ValueError(f"{what}: steps must be at least 1, got {steps}")
    return torch.arange(steps, dtype=torch.get_default_dtype())


def weighted(spikes: Float[Tensor, "T B *C"], weights: Float[Tensor, " T"]) -> Float[Tensor, "B *C"]:
    """The weighted sum of spikes over time, `sum_t weights[t] * spikes[t]`; times `SCALE`, logits.

    Args:
        spikes: 0 or 1, `(T, B, C)`.
        weights: the weight of a spike at each step, `(T,)`.

    Raises:
        ValueError: if the numbers of weights and steps differ.

    Example:
        >>> spikes = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).unsqueeze(1)  # at 0, at 2, never
        >>> weighted(spikes, exponential(3))
        tensor([[1.0000, 0.4444, 0.0000]])
    """
    if len(weights) != len(spikes):
        raise ValueError(f"weighted: weights must be one for each of the {len(spikes)} steps, got {len(weights)}")
    return torch.tensordot(weights.to(spikes), spikes, dims=1)


class LearnedWeights(Temporal):
    """A layer after the output units that learns the weight of a spike at each step; decode with `rheobase.decoding.sum`.

        y[t] = scale * softplus(a_t) * s[t]

    with the first spikes s of the membrane potential. Initially the weights are those of `linear`. An early spike may come to
    count less than a late one, so the answer is known only after the last step.

    Args:
        steps: T, at least 1; a sequence may be shorter.
        scale: the factor that turns weighted spikes into logits.
        threshold: where the output units fire.
        surrogate: the gradient of a crossing; None is `FastSigmoid()`.
        credit: which steps are credited with the spike.

    Raises:
        ValueError: if `steps` is below 1.

    Example:
        >>> layer = LearnedWeights(4, scale=1.0)
        >>> layer(torch.tensor([0.0, 2.0, 2.0, 2.0]).view(4, 1, 1)).flatten().detach()
        tensor([0.0000, 0.7500, 0.0000, 0.0000])
    """

    def __init__(
        self,
        steps: int,
        *,
        scale: float = SCALE,
        threshold: float = 1.0,
        surrogate: Surrogate | None = None,
        credit: Credit = "product",
    ) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"LearnedWeights: steps must be at least 1, got {steps}")
        self.raw_weights = nn.Parameter(linear(steps).expm1().log())
        self.scale = scale
        self.threshold = threshold
        self.surrogate = surrogate
        self.credit: Credit = credit

    @property
    def weights(self) -> Float[Tensor, " T"]:
        """The weight of a spike at each step."""
        return functional.softplus(self.raw_weights)

    def run(
        self, x: Float[Tensor, "T B *C"], state: tuple[int, Any] | None = None
    ) -> tuple[Float[Tensor, "T B *C"], Any]:
        """The weighted spikes of the membrane potential `x`, and the state: the steps so far, and which units have fired."""
        check_sequence(x, "LearnedWeights")
        before, fired = state or (0, None)
        now = before + len(x)
        if now > len(self.raw_weights):
            raise ValueError(f"LearnedWeights: x must have at most {len(self.raw_weights)} steps, got {now}")
        rule = {"surrogate": self.surrogate, "credit": self.credit}
        spikes, fired = single_spike(_finite(x), 0.0, self.threshold, fired, **rule)
        return spikes * (self.scale * self.weights[before:now]).view(-1, *[1] * (x.ndim - 1)), (now, fired)


def scores(membrane: Float[Tensor, "T B C"], threshold: float = 1.0) -> Float[Tensor, "B C"]:
    """One number per class, the largest of which is the answer: the unit that fires first; of several, that with the largest
    potential.

    Units that do not fire are ranked by their final potential, so there is an answer even if none fires. Ties go to the first
    class, as in `argmax`.

    Args:
        membrane: the output units' membrane potential at every step, `(T, B, C)`.
        threshold: where they fire.

    Returns:
        `T - t + p`, with the step t of the first spike (T if there is none) and the potential there, mapped into (0, 1).

    Raises:
        ValueError: if there are no steps.

    Example:
        >>> membrane = torch.tensor([[0.9, 0.2, 0.1], [1.1, 1.3, 0.1], [5.0, 5.0, 9.0]]).unsqueeze(1)
        >>> scores(membrane).argmax(1)  # two fire at step 1, the second higher; the third later
        tensor([1])
    """
    if len(membrane) == 0:
        raise ValueError(f"scores: membrane has no time steps, got shape {tuple(membrane.shape)}")
    when = _when(membrane, threshold)
    there = membrane.double().gather(0, when.clamp(max=len(membrane) - 1).unsqueeze(0)).squeeze(0)
    return len(membrane) - when + 0.5 + there.atan() / torch.pi


def _when(membrane: Tensor, threshold: float) -> Tensor:
    """The step of each unit's first spike, T if it does not fire."""
    fired = membrane >= threshold
    return torch.where(fired.any(0), fired.to(torch.uint8).argmax(0), len(membrane))


@dataclass(frozen=True)
class Decisions:
    """A network's predictions, and when they come."""

    predictions: Int[Tensor, " B"]
    """The classes."""
    steps: Int[Tensor, " B"]
    """The step of the first output spike, from 0; T where no output unit fires."""

    def latency(self, steps: int) -> Float[Tensor, " B"]:
        """How many steps each decision took: one more than its step, or all `steps` where no unit fires."""
        return (self.steps + 1).clamp(max=steps).to(torch.get_default_dtype())


def decide(membrane: Float[Tensor, "T B C"], threshold: float = 1.0) -> Decisions:
    """The predictions and their steps, from the membrane potential of the output units.

    Args:
        membrane: at every step, `(T, B, C)`.
        threshold: where the units fire.

    Raises:
        ValueError: if there are no steps.

    Example:
        >>> decide(torch.tensor([[0.9, 0.2], [0.9, 1.3]]).unsqueeze(1))
        Decisions(predictions=tensor([1]), steps=tensor([1]))
    """
    return Decisions(scores(membrane, threshold).argmax(1), _when(membrane, threshold).amin(1))


_GROWTH = 4
"""The factor between successive numbers of steps. With 2 the total is up to twice all steps; with 8 often much more than
needed."""


@torch.no_grad()
def decide_early(network: nn.Module, x: Float[Tensor, "T B *features"], threshold: float = 1.0) -> Decisions:
    """The predictions of `decide(network(x))`, computing little beyond the first output spike.

    It computes the first step, then the first 4, the first 16, and so on, each time only for the samples still undecided. Each
    pass starts again from rest, which is faster than going on from a state: kernels for whole sequences keep none. If no
    decision is early, the total is a third more than one full pass.

    Where neurons draw noise (`SPSN`, `ParaLIF`), it is the same in each pass, and all samples are computed until the last is
    decided.

    Args:
        network: a sequential container that ends in the membrane potential of output units. What comes before its last `Hold`
            is computed once.
        x: the input, `(T, B, *features)`.
        threshold: where the output units fire.

    Raises:
        TypeError: if the network ends in `LearnedWeights`, has neurons that look ahead (`PSN`), or a `Hold` is inside a module
            that is not a sequential container.

    Example:
        >>> import rheobase as rb
        >>> layers = nn.Linear(9, 8), rb.Hold(4), rb.SingleSpike(8, decay=1.0), nn.Linear(8, 2), rb.LeakyReadout(decay=1.0)
        >>> network, x = rb.Sequential(*layers), torch.ones(1, 3, 9)
        >>> torch.equal(decide_early(network, x).predictions, decide(network(x)).predictions)
        True
    """
    check_order(network, "decide_early", Hold)
    layers = [layer for _, layer in in_order(network)]
    if layers and isinstance(layers[-1], LearnedWeights):
        raise TypeError(
            "decide_early: network must end in the membrane potential of output units, got one that ends in LearnedWeights, "
            "with which the answer is known only after the last step: rheobase.decoding.sum(network(x)).argmax(1)"
        )
    if ahead := next(
        (module for module in network.modules() if isinstance(module, PSN) and not _looks_back(module)), None
    ):
        raise TypeError(
            f"decide_early: neurons must not look ahead, got {kind_of(ahead)}, whose first step depends on the last: "
            "rheobase.first_spike.decide(network(x))"
        )
    compute, steps, samples = _first_steps(layers, x)
    predictions, when = torch.zeros(2, samples, dtype=torch.int64, device=x.device)
    undecided = everyone = torch.arange(samples, device=x.device)
    noisy = any(
        isinstance(module, SPSN | ParaLIF) for module in network.modules()
    )  # which depends on a sample's position
    seed = int(torch.randint(1 << 62, ()))
    length = 1
    with randomness.evaluation(seed, x.device) as seed_layers:
        while len(undecided):
            length = min(length, steps)
            computed = everyone if noisy else undecided
            seed_layers(0, 0)
            with _not_forced(network) if length < steps else nullcontext():
                membrane = compute(length, computed)
            membrane = membrane[:, undecided] if noisy else membrane
            fired = (membrane >= threshold).any(2).any(0) | (length == steps)
            found, now = decide(membrane[:, fired], threshold), undecided[fired]
            predictions[now], when[now] = found.predictions, found.steps
            undecided = undecided[~fired]
            length *= _GROWTH
    return Decisions(predictions, when)


def _looks_back(neurons: PSN) -> bool:
    """Whether no step depends on later ones."""
    return isinstance(neurons, MaskedPSN) and neurons.is_settled()


def _first_steps(layers: Sequence[nn.Module], x: Tensor) -> tuple[Callable[[int, Tensor], Tensor], int, int]:
    """A function that computes the first steps of the output for chosen samples; and the numbers of steps and samples.

    What comes before the last `Hold` is computed here, once; and an image is held for only as many steps as requested.
    """
    last = max((k for k, layer in enumerate(layers) if isinstance(layer, Hold)), default=-1)
    before, hold, after = layers[: max(last, 0)], layers[max(last, 0) : last + 1], layers[last + 1 :]
    picture = Sequential(*before, input_rate=None)(x)
    sequence = Sequential(*hold, input_rate=None)(picture)
    is_picture = bool(hold) and len(picture) == 1
    begun = picture if is_picture else sequence
    # Made for one length, it takes only a piece as a beginning.
    in_pieces = any(isinstance(module, MaskedPSN) for layer in after for module in layer.modules())

    def compute(length: int, samples: Tensor) -> Tensor:
        held = [Hold(length)] if is_picture else []
        chosen = begun if len(samples) == begun.shape[1] else begun[:, samples]
        network = Sequential(*held, *after, input_rate=None)
        beginning = chosen if is_picture else chosen[:length]
        return network.run(beginning)[0] if in_pieces else network(beginning)

    return compute, *sequence.shape[:2]


@contextmanager
def _not_forced(network: nn.Module) -> Iterator[None]:
    """No neuron is forced to fire by the end of an incomplete sequence."""
    forced = [module for module in network.modules() if isinstance(module, SingleSpike) and module.fire_by_end]
    for module in forced:
        module.fire_by_end = False
    try:
        yield
    finally:
        for module in forced:
            module.fire_by_end = True
