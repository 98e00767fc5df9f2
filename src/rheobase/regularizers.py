"""Penalties on activity: what a network may spend, in addition to being right.

Every spike costs energy, and a network that fires little often generalizes better; one that does not fire at all learns
nothing. So a term of the loss pulls activity towards a target, or keeps it between bounds. When that term comes in matters as
much as its strength: networks that begin with high rates and are made sparse gradually can end up better than those that were
sparse from the start (Herranz-Celotti and Rouat, arXiv 2202.00282). A schedule says how strong the penalty is, as a function of
the progress of training. The best network from before it became sparse is not the one asked for, so `rheobase.fit` chooses the
best epoch among those in which the penalty has come in.

All classes here are regularizers for `rheobase.fit(regularizers=...)`, and for your own loops: called with the spikes of each
layer of neurons and the progress of training, they return a scalar. Rates are in spikes per step, from 0 to 1. With the mask of
`rheobase.masked`, for samples of different lengths, they are over the valid steps.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rheobase import decoding
from rheobase.ops.arguments import state_type
from rheobase.padding import only

Schedule = Callable[[float], float]
"""The strength of a penalty as a function of training progress: 0 in the first epoch, 1 in the last, and 1 in an only one."""


def constant(progress: float) -> float:
    """Always 1.

    Example:
        >>> constant(0.0)
        1.0
    """
    del progress
    return 1.0


def linear_annealing(progress: float) -> float:
    """0 for the first fifth of training, then rising linearly to 1 at three fifths, and 1 from there on.

    The schedule of arXiv 2202.00282, whose `epoch / epochs` is `progress` here. (In `rheobase.fit` the progress of epoch `e`,
    counted from 1, is `(e - 1) / (epochs - 1)`, so the last epoch has a progress of 1.)

    Example:
        >>> [linear_annealing(progress) for progress in (0.0, 0.2, 0.4, 0.6, 1.0)]
        [0.0, 0.0, 0.5, 1.0, 1.0]
    """
    # In fifths: five times 0.2 and 0.6 are whole numbers, and the ends of the ramp exactly 0 and 1.
    return min(max((5 * progress - 1) / 2, 0.0), 1.0)


def exponential_annealing(progress: float) -> float:
    """0 for the first fifth of training, then rising towards 1, the gap shrinking by a factor of 0.6 every tenth; 1 from three
    quarters on.

    The steep counterpart of `linear_annealing`, `1 - 0.6^(10 progress - 2)`, which is 0.64 after the next fifth. In the program
    of arXiv 2202.00282 the gap shrinks once per epoch, whatever their number; here, as with ten epochs.

    Example:
        >>> [round(exponential_annealing(progress), 2) for progress in (0.0, 0.2, 0.3, 0.5, 0.74, 0.75)]
        [0.0, 0.0, 0.4, 0.78, 0.94, 1.0]
    """
    if progress >= 0.75:
        return 1.0
    return 1.0 - 0.6 ** max(10 * progress - 2, 0.0)


def switch_on(progress: float) -> float:
    """0 in the first half of training, 1 in the second.

    Example:
        >>> [switch_on(progress) for progress in (0.0, 0.49, 0.5, 1.0)]
        [0.0, 0.0, 1.0, 1.0]
    """
    return 1.0 if progress >= 0.5 else 0.0


def switch_off(progress: float) -> float:
    """1 in the first half of training, 0 in the second: the reverse of `switch_on`.

    Example:
        >>> [switch_off(progress) for progress in (0.0, 0.49, 0.5, 1.0)]
        [1.0, 1.0, 0.0, 0.0]
    """
    return 1.0 - switch_on(progress)


@dataclass(frozen=True)
class Probabilistic:
    """The full penalty in some batches and none in others: 1 with a rising probability, else 0.

    The probability is `1 - exp(-5 progress)` in the first half of training, 0.92 at its end, and 1 in the second; it is drawn
    from PyTorch's generator at every call. `rheobase.fit` seeds that for each step, the same for all processes.

    Source: the program of arXiv 2202.00282, where `epoch / epochs` is `progress`.

    Example:
        >>> Probabilistic()(0.0), Probabilistic()(1.0), round(Probabilistic().probability(0.2), 3)
        (0.0, 1.0, 0.632)
    """

    def __call__(self, progress: float) -> float:
        """1 or 0, at random."""
        return 1.0 if torch.rand(()).item() < self.probability(progress) else 0.0

    def probability(self, progress: float) -> float:
        """The probability that the penalty counts in a batch."""
        return -math.expm1(-5 * progress) if progress <= 0.5 else 1.0


def has_come_in(schedule: Schedule, progress: float) -> bool:
    """Whether a penalty has at least 90 % of the strength that it has at the end of training; on average, if it is random.

    Example:
        >>> [has_come_in(linear_annealing, progress) for progress in (0.0, 0.5, 0.6, 1.0)]
        [False, False, True, True]
    """
    strength = schedule.probability if isinstance(schedule, Probabilistic) else schedule
    return strength(progress) >= 0.9 * strength(1.0)


@dataclass(frozen=True)
class Sparsity:
    """Pulls the rate of every layer towards a target, at each step.

    With the mean activity `m[t]` of a layer's neurons over the batch at step t,

        weight * schedule(progress) * sum over layers, mean over t of (m[t] - target)^2

    It does not say which neurons should fire, only how many at a time. It also pulls upwards where a layer is below the target.
    The batch is that of one process: with several, each pulls the mean of its own samples, which costs a little more.

    Args:
        target: the rate, spikes per neuron and step, in [0, 1].
        weight: the strength, at least 0.
        schedule: the strength over training, see above; the default leaves the first fifth of training alone.

    Raises:
        ValueError: if `target` or `weight` is out of its range.

    Source: arXiv 2202.00282, whose target is 0.01 and weight is 1. Its code adds the term at every step of the loop over
    time; here the steps are averaged, so that the strength does not depend on T.

    Example:
        >>> spikes = {"1 LIF(2)": torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])}
        >>> Sparsity(target=0.1, schedule=constant)(spikes, 0.0)  # (0.5 - 0.1)^2 and (0 - 0.1)^2
        tensor(0.0850)
    """

    target: float = 0.01
    weight: float = 1.0
    schedule: Schedule = linear_annealing

    def __post_init__(self) -> None:
        _check_rate(self, "target", self.target)
        _check_weight(self, self.weight)

    def __call__(
        self, spikes: Mapping[str, Float[Tensor, "T B *_"]], progress: float, mask: Bool[Tensor, "T0 B"] | None = None
    ) -> Float[Tensor, ""]:
        """The penalty for `spikes`, `{layer: (T, B, *features)}`, at this progress of training; a `mask` is `(T, B)`, True at
        valid steps."""
        strength = self.weight * self.schedule(progress)
        rates = [_rate_of_steps(layer, mask) for layer in spikes.values()]
        return strength * _sum([(rate - self.target).square().mean() for rate in rates if len(rate)])


@dataclass(frozen=True)
class RateBounds:
    """Keeps rates between two bounds, with no penalty in between.

    With the rate of each neuron in each sample, the mean of its spikes over time (or, `of="population"`, the mean rate of
    the layer's neurons in each sample),

        weight * schedule(progress) * sum over layers, mean of relu(rate - upper)^2 + relu(lower - rate)^2

    Common choices are a lower bound on neurons, against dead ones, and an upper bound on populations, which limits the cost and
    leaves it to the network which neurons fire: `RateBounds(lower=1e-3)` and `RateBounds(upper=0.1, of="population")`.

    Args:
        upper: the rate above which the penalty sets in, in [0, 1]; 1 is no bound.
        lower: the rate below which the penalty sets in, in [0, 1], at most `upper`; 0 is no bound.
        of: whose rate: that of each `"neuron"`, or of the layer's `"population"`.
        weight: the strength, at least 0.
        schedule: the strength over training.

    Raises:
        ValueError: if a value is out of its range.

    Source: Zenke and Vogels, "The Remarkable Robustness of Surrogate Gradient Learning", 2021, and the fluctuation-driven
    training of Rossbroich, Gygax and Zenke, 2022; both count spikes per sample; here they are rates.

    Example:
        >>> spikes = {"1 LIF(2)": torch.tensor([[[1.0, 0.0]], [[1.0, 0.0]]])}  # rates 1 and 0
        >>> RateBounds(upper=0.6, lower=0.2)(spikes, 0.0)  # (0.4^2 + 0.2^2) / 2
        tensor(0.1000)
        >>> RateBounds(upper=0.6, lower=0.2, of="population")(spikes, 0.0)  # the mean is within
        tensor(0.)
    """

    upper: float = 1.0
    lower: float = 0.0
    of: Literal["neuron", "population"] = "neuron"
    weight: float = 1.0
    schedule: Schedule = constant

    def __post_init__(self) -> None:
        _check_rate(self, "upper", self.upper)
        _check_rate(self, "lower", self.lower)
        _check_weight(self, self.weight)
        if self.lower > self.upper:
            raise ValueError(f"RateBounds: lower must be at most upper, got {self.lower} and {self.upper}")
        words = get_args(RateBounds.__annotations__["of"])
        if self.of not in words:
            raise ValueError(f"RateBounds: of must be one of {', '.join(map(repr, words))}, got {self.of!r}")

    def __call__(
        self, spikes: Mapping[str, Float[Tensor, "T B *_"]], progress: float, mask: Bool[Tensor, "T0 B"] | None = None
    ) -> Float[Tensor, ""]:
        """The penalty for `spikes`, `{layer: (T, B, *features)}`, at this progress of training; a `mask` is `(T, B)`, True at
        valid steps."""
        excesses = []
        for layer in spikes.values():
            neurons = layer.reshape(*layer.shape[:2], -1)  # one, if there is no features axis
            rates = decoding.mean(neurons, _mask_of_layer(layer, mask))
            if self.of == "population":
                rates = rates.mean(1)
            excesses.append(((rates - self.upper).relu().square() + (self.lower - rates).relu().square()).mean())
        return self.weight * self.schedule(progress) * _sum(excesses)


@dataclass(frozen=True)
class TotalRate:
    """Limits the activity of the whole network, counting all its neurons together.

    With the mean rate of every neuron over time and batch, summed over all N neurons of all layers,

        weight * schedule(progress) * relu(sum of rates - limit * N)^2

    It is a sum, not a mean: with hundreds of neurons above the limit it exceeds a cross-entropy by orders of magnitude, and its
    gradient dominates until the rates have fallen. It suits optimizers that are insensitive to scale (Adam, Adamax); with plain
    gradient descent lower the `weight`. The batch is that of one process, as in `Sparsity`.

    Args:
        limit: the mean rate above which the penalty sets in, spikes per neuron and step, in [0, 1].
        weight: the strength, at least 0.
        schedule: the strength over training.

    Raises:
        ValueError: if `limit` or `weight` is out of its range.

    Source: Yarga and Wood, IJCNN 2023, arXiv 2306.12666, equation 21, which has a weight of 1 and a limit of 0.4 or 0.1,
    for stochastic neurons that fire half of the time at rest.

    Example:
        >>> spikes = {"1 LIF(2)": torch.tensor([[[1.0, 0.0]], [[1.0, 1.0]]])}  # rates 1 and 0.5
        >>> TotalRate(limit=0.5)(spikes, 0.0)  # (1.5 - 0.5 * 2)^2
        tensor(0.2500)
    """

    limit: float
    weight: float = 1.0
    schedule: Schedule = constant

    def __post_init__(self) -> None:
        _check_rate(self, "limit", self.limit)
        _check_weight(self, self.weight)

    def __call__(
        self, spikes: Mapping[str, Float[Tensor, "T B *_"]], progress: float, mask: Bool[Tensor, "T0 B"] | None = None
    ) -> Float[Tensor, ""]:
        """The penalty for `spikes`, `{layer: (T, B, *features)}`, at this progress of training; a `mask` is `(T, B)`, True at
        valid steps."""
        excess = _sum(
            [_rate_of_neurons(layer, mask).sum() - self.limit * math.prod(layer.shape[2:]) for layer in spikes.values()]
        )
        return self.weight * self.schedule(progress) * excess.relu().square()


def check_regularizers(regularizers: object) -> None:
    """Refuse anything but a list of penalties on activity.

    Raises:
        TypeError: naming the argument, and what to write.
    """
    if not isinstance(regularizers, Sequence) or isinstance(regularizers, str):
        raise TypeError(
            f"regularizers must be a list of penalties, got {regularizers!r}"
            + (f"; write regularizers=[{regularizers!r}]" if callable(regularizers) else "")
        )
    for penalty in regularizers:
        if not callable(penalty):
            raise TypeError(
                f"regularizers must be functions, such as rheobase.regularizers.Sparsity(), got {penalty!r} among them"
            )
        try:
            takes = inspect.signature(penalty)
            with_mask = {"mask": None} if "mask" in takes.parameters else {}
            takes.bind({}, 0.0, **with_mask)
        except ValueError:  # one written in C, whose signature is unknown
            continue
        except TypeError as error:
            raise TypeError(
                "regularizers must take the spikes of all layers, a dictionary, and the progress of training, from 0 to 1: "
                f"def penalty(spikes, progress); got {penalty!r}: {error}"
            ) from None


def _mask_of_layer(layer: Tensor, mask: Tensor | None) -> Tensor | None:
    """The mask, repeated as often as the layer ran in a call of the network, one run after the other in time."""
    return None if mask is None else mask.repeat(len(layer) // max(len(mask), 1), 1)


def _rate_of_steps(layer: Tensor, mask: Tensor | None) -> Float[Tensor, " T"]:
    """The mean activity of a layer at each step, over neurons and the samples still valid; steps without any are left out."""
    there = _mask_of_layer(layer, mask)
    if there is None:
        return layer.flatten(1).mean(1)
    samples = there.sum(1)
    sums = only(layer, there, "Sparsity").flatten(1).sum(1, dtype=state_type(layer))[samples > 0]
    return (sums / (samples[samples > 0] * math.prod(layer.shape[2:]))).to(layer.dtype)


def _rate_of_neurons(layer: Tensor, mask: Tensor | None) -> Float[Tensor, "*features"]:
    """The mean activity of each neuron, over all valid steps of all samples."""
    there = _mask_of_layer(layer, mask)
    if there is None:
        return layer.mean((0, 1))
    sums = only(layer, there, "TotalRate").sum((0, 1), dtype=state_type(layer))
    return (sums / there.sum().clamp(min=1)).to(layer.dtype)


def _sum(values: list[Tensor]) -> Tensor:
    return torch.stack(values).sum() if values else torch.zeros(())


def _check_rate(regularizer: object, name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{type(regularizer).__name__}: {name} must be a rate in [0, 1], got {value}")


def _check_weight(regularizer: object, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{type(regularizer).__name__}: weight must be at least 0 and finite, got {value}")
