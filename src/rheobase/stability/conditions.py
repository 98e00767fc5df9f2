"""Four conditions under which a network of spiking neurons is stable at its start, as closed forms.

A recurrent layer is a product of T steps: what grows by a factor per step, forwards or backwards, is lost or overflows after a
hundred. Herranz-Celotti and Rouat ("Stabilizing Spiking Neuron Training", arXiv 2202.00282) place four conditions on a new
layer, in the manner of Glorot's and He's initializations:

- **I**, location: the membrane potential sits on the threshold, so that half of the steps fire. It gives the mean of the
  recurrent weights.
- **II**, balance: input and recurrence drive a neuron with equal variance. It gives the variance of the recurrent weights.
- **III**, extremes: the largest gradient stays the same from step to step. It gives the surrogate's dampening.
- **IV**, variance: so does the variance of the gradient. It gives the dampening, the sharpness, or the tail.

Notation: `decay` a, `threshold` h, N neurons with recurrent weights W and no connection to themselves, M inputs; a neuron's
gradient goes back one step as `a + f(v - h) W`. Where a layer with gradients of the same size follows, what comes back through
its weights U is multiplied by the same slope, at the same step: III and IV treat them as further weights. Without recurrence
they are the only ones.

The implementation follows the equations, not the authors' program where the two differ:

- Its subtractive reset acts after the decay, `v[t] = a v[t-1] + x[t] - h s[t-1]`, ours before it, as a part of the spike's
  step. Both are here: "subtract" is ours, "published" is theirs.
- Condition II lacks a factor 2 there, and the result is used as if it were another quantity. Here it is the variance.
- There, conditions III and IV count the gradient through the reset, which its networks cut off. Here `attached` says which it
  is: `dv[t+1] / dv[t] = a - l f(v - h)` with l = h for their reset, and for ours, whose reset the decay acts on, l = a h.
- Its solver for IV returns the middle of its search interval, about 0.95, whatever the equation: a published sharpness near 1
  is no root.

III and IV cannot both hold where memory is short: III makes the dampening small, and IV then asks for more gradient than there
is. And the theory has limits: it assumes that the slopes of successive steps are independent, and the membrane potential
uniform or normal. `rheobase.stabilize` measures instead, on a batch; these forms are for understanding, for comparison, and as
a start.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from rheobase.surrogate import QPseudoSpike, Surrogate

Rule = Literal["subtract", "published", "zero", "none"]
"""The effect of a spike on the membrane potential; "published" is the subtractive reset of the paper's program."""


def mean_current(decay: float, threshold: float, reset: Rule = "subtract") -> float:
    """Condition I: the mean current under which the membrane potential is `threshold` on average, and half of the steps fire.

    From `E[v] = h` and `E[s] = 1/2`. For the reset to 0 the neuron's state and its spike are assumed independent, which they
    are not: the rate then stays below 1/2.

    Args:
        decay: what the membrane potential keeps per step, in [0, 1].
        threshold: where a neuron fires.
        reset: what happens to the membrane potential of a neuron that fired.

    Returns:
        `(1 - a) h` plus what the reset takes: `a h / 2`, after the decay `h / 2`, without a reset 0.

    Raises:
        ValueError: if `reset` is unknown.

    Example:
        >>> round(mean_current(0.9, 1.0), 6), round(mean_current(0.9, 1.0, "published"), 6)
        (0.55, 0.6)
    """
    _check_reset("mean_current", reset)
    lost = {"subtract": decay / 2, "zero": decay / 2, "published": 0.5, "none": 0.0}
    return (1 - decay + lost[reset]) * threshold


def _check_reset(what: str, reset: Rule) -> None:
    if reset not in get_args(Rule):
        raise ValueError(f"{what}: reset must be one of {', '.join(map(repr, get_args(Rule)))}, got {reset!r}")


def recurrent_mean(neurons: int, decay: float, threshold: float, reset: Rule = "subtract") -> float:
    """Condition I: the mean of the recurrent weights, for inputs whose mean is 0.

    Half of the other `N - 1` neurons fire, so it is `2 mean_current / (N - 1)`. Activity sustained by this feedback can also
    collapse, and does where all neurons receive the same mean and vary little. Measure the rate.

    Example:
        >>> round(recurrent_mean(256, math.exp(-10), 0.01, "published"), 8)
        0.00011764
    """
    if neurons < 2:
        raise ValueError(f"recurrent_mean: neurons must be at least 2, got {neurons}")
    return 2 * mean_current(decay, threshold, reset) / (neurons - 1)


def recurrent_variance(
    neurons: int,
    inputs: int,
    *,
    input_mean: float,
    input_variance: float,
    weight_variance: float,
    recurrent_mean: float = 0.0,
    rate: float = 0.5,
) -> float:
    """Condition II: the variance of the recurrent weights that makes recurrence as strong as the input.

    With spikes of rate r, `(N - 1) (r V + r (1 - r) m^2) = M Var[w] (Var[x] + E[x]^2)`, solved for V.

    Args:
        neurons: N.
        inputs: M.
        input_mean: E[x], over time and inputs.
        input_variance: Var[x].
        weight_variance: Var[w] of the input weights, whose mean is 0.
        recurrent_mean: m, the mean of the recurrent weights.
        rate: r, the spikes per step.

    Returns:
        V; 0 where the mean of the recurrent weights alone is stronger than the input, as with very sparse inputs.

    Example:
        >>> glorot = 2 / (700 + 256)
        >>> f"{recurrent_variance(256, 700, input_mean=0.0438844, input_variance=0.0419553, weight_variance=glorot):.3e}"
        '5.040e-04'
    """
    heard = inputs * weight_variance * (input_variance + input_mean**2) / (neurons - 1)
    return max(heard / rate - (1 - rate) * recurrent_mean**2, 0.0)


def dampening_of_extremes(
    recurrent_weight: Float[Tensor, "N N"] | None,
    decay: float,
    *,
    next_weight: Float[Tensor, "K N"] | None = None,
    reset: Rule = "subtract",
    threshold: float = 1.0,
    attached: bool = False,
) -> Float[Tensor, " N"]:
    """Condition III: the dampening with which the largest gradient stays the same from step to step, and from layer to layer.

    At worst, every slope is the dampening g and only positive weights count: `a + g S = 1`, where S is the sum of what a
    neuron's spike adds to others, of its own layer and of the next. Where the gradient also goes through a subtractive reset,
    it is `a + g S (1 + l / S') = 1` with the sum S' of what it takes from others, and l = a h ("published": h).

    Args:
        recurrent_weight: from column to row, `(N, N)`; its diagonal does not count. None for a layer without.
        decay: what the membrane potential keeps per step.
        next_weight: the weights from these neurons to the next layer's K; None leaves them out, as the source does by default.
        reset: what happens to the membrane potential of a neuron that fired; counts where the gradient goes through it.
        threshold: where a neuron fires.
        attached: whether the gradient goes through a subtractive reset, which lowers g.

    Returns:
        `(1 - a) / S` for each neuron; a mean over neurons serves all. Infinite where a neuron excites no other.

    Raises:
        ValueError: if there are neither recurrent weights nor weights of a next layer, or `reset` is unknown.

    Example:
        >>> bound = math.sqrt(3 / 128)  # Glorot's, in a square matrix
        >>> weight = torch.empty(128, 128, dtype=torch.float64).uniform_(-bound, bound, generator=torch.manual_seed(0))
        >>> round(dampening_of_extremes(weight, math.exp(-10)).mean().item(), 2)  # 4 / sqrt(3 N) = 0.204
        0.2
        >>> dampening_of_extremes(None, 0.9, next_weight=torch.tensor([[1.0, 0.25], [-1.0, 0.25]]))
        tensor([0.1000, 0.2000])
    """
    lost = _lost("dampening_of_extremes", decay, threshold, reset, attached)
    weights: list[Tensor] = []
    if recurrent_weight is not None:
        weights.append(recurrent_weight - recurrent_weight.diag().diag())
    if next_weight is not None:
        weights.append(next_weight)
    if not weights:
        raise ValueError(
            "dampening_of_extremes: recurrent_weight and next_weight are both None; a gradient needs a way back"
        )
    others = torch.cat(weights)
    excitation = others.clamp(min=0).sum(0)
    if lost:
        excitation = excitation * (1 + lost / others.clamp(max=0).sum(0).abs())
    return (1 - decay) / excitation


def _lost(what: str, decay: float, threshold: float, reset: Rule, attached: bool) -> float:
    """The factor of a slope on its way back through a subtractive reset; 0 if no gradient goes there."""
    _check_reset(what, reset)
    if not attached:
        return 0.0
    return {"subtract": decay * threshold, "published": threshold, "zero": 0.0, "none": 0.0}[reset]


def squared_slope_of_variance(
    recurrent_variance: float,
    neurons: int,
    decay: float,
    *,
    next_variance: float = 0.0,
    next_neurons: int = 0,
    reset: Rule = "subtract",
    threshold: float = 1.0,
    rate: float = 0.5,
    attached: bool = False,
) -> float:
    """Condition IV: the mean of the squared slope with which the gradient's variance stays the same, as for condition III.

    `a^2 + ((N - 1) V + K U + l^2) E[f^2] = 1`, where l is there only if the gradient goes through a subtractive reset: `a h`,
    or h where that comes after the decay ("published"). The cross term of the membrane's two paths, `-2 a l E[f]`, is left out,
    as in the source. Through a reset to 0 no gradient passes at spikes, and `a^2` is `(1 - rate) a^2`.

    Args:
        recurrent_variance: V, the mean of the squared recurrent weights; 0 for a layer without.
        neurons: N.
        decay: what the membrane potential keeps per step.
        next_variance: U, the mean of the squared weights from these neurons to the next layer.
        next_neurons: K, the neurons of the next layer; 0 leaves it out, as the source does by default.
        reset: what happens to the membrane potential of a neuron that fired.
        threshold: where a neuron fires.
        rate: spikes per step.
        attached: whether the gradient goes through the reset.

    Returns:
        The wanted `E[f^2]`, from which `dampening_for`, `sharpness_for` and `tail_for` make a surrogate.

    Raises:
        ValueError: if there are no weights for a gradient to come back through, or `reset` is unknown.

    Example:
        >>> round(squared_slope_of_variance(1 / 256, 256, 0.9), 4)
        0.1907
        >>> round(squared_slope_of_variance(0.0, 256, 0.9, next_variance=1 / 256, next_neurons=128), 4)
        0.38
    """
    kept = decay**2 * (1 - rate if reset == "zero" else 1)
    lost = _lost("squared_slope_of_variance", decay, threshold, reset, attached)
    back = (neurons - 1) * recurrent_variance + next_neurons * next_variance + lost**2
    if not back > 0:
        raise ValueError(
            f"squared_slope_of_variance: recurrent_variance, next_variance must not both be 0, got {recurrent_variance} of "
            f"{neurons} neurons and {next_variance} of {next_neurons}; a gradient needs a way back"
        )
    return (1 - kept) / back


def squared_slope_if_uniform(surrogate: Surrogate, low: float, high: float) -> float:
    """E[f^2] of a surrogate if the distance `u = v - threshold` is uniform on `[low, high]`.

    Raises:
        ValueError: if `low` is not below `high`.

    Example:
        >>> from rheobase.surrogate import Exponential
        >>> round(squared_slope_if_uniform(Exponential(), -3.7, 4.3), 6)
        0.0625
    """
    if not low < high:
        raise ValueError(f"squared_slope_if_uniform: low must be below high, got {low} and {high}")
    ends = torch.tensor([low, high], dtype=torch.float64) * surrogate.sharpness
    below, above = surrogate.squared_integral(ends).tolist()
    return surrogate.dampening**2 * (above - below) / (surrogate.sharpness * (high - low))


def squared_slope_if_normal(surrogate: Surrogate, mean: float, deviation: float) -> float:
    """E[f^2] of a surrogate if the distance `u = v - threshold` is normal: closer to real membrane potentials.

    Raises:
        ValueError: if `deviation` is not above 0.

    Example:
        >>> from rheobase.surrogate import FastSigmoid
        >>> narrow = FastSigmoid(sharpness=1e3)  # as if all of it were at the threshold: area of f^2 times the density there
        >>> round(squared_slope_if_normal(narrow, 0.0, 2.0) * 1e3 * 3 * 2 * math.sqrt(2 * math.pi), 2)
        1.0
    """
    if not deviation > 0:
        raise ValueError(f"squared_slope_if_normal: deviation must be above 0, got {deviation}")
    # By parts: the integral of f^2 times the density is, up to sign, that of its primitive times the density's slope, both
    # smooth.
    z = torch.from_numpy(np.linspace(-9, 9, 4001))
    primitive = surrogate.squared_integral(surrogate.sharpness * (mean + deviation * z)) / surrogate.sharpness
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    return surrogate.dampening**2 * torch.trapezoid(primitive * z * density, z).item() / deviation


def dampening_for(wanted: float, surrogate: Surrogate, squared_slope: Callable[[Surrogate], float]) -> Surrogate:
    """The surrogate with the dampening for which `squared_slope(surrogate) == wanted`; there always is one.

    Example:
        >>> from rheobase.surrogate import Exponential
        >>> found = dampening_for(0.25, Exponential(), lambda shape: squared_slope_if_uniform(shape, -3.7, 4.3))
        >>> round(found.dampening, 3)
        2.0
    """
    return replace(surrogate, dampening=surrogate.dampening * math.sqrt(wanted / squared_slope(surrogate)))


def sharpness_for(wanted: float, surrogate: Surrogate, squared_slope: Callable[[Surrogate], float]) -> Surrogate:
    """The surrogate with the sharpness, from 1e-3 to 1e3, for which `squared_slope(surrogate) == wanted`.

    Raises:
        ValueError: if there is none: `wanted` is above the squared dampening, or almost 0.

    Example:
        >>> from rheobase.surrogate import Exponential
        >>> found = sharpness_for(0.02, Exponential(), lambda shape: squared_slope_if_normal(shape, 0.0, 1.0))
        >>> round(squared_slope_if_normal(found, 0.0, 1.0), 6)
        0.02
    """
    return _bisect(wanted, "sharpness", 1e-3, 1e3, lambda value: replace(surrogate, sharpness=value), squared_slope)


def tail_for(wanted: float, surrogate: QPseudoSpike, squared_slope: Callable[[Surrogate], float]) -> Surrogate:
    """The q-PseudoSpike with the tail q, `q - 1` from 1e-3 to 1e3, for which `squared_slope(surrogate) == wanted`.

    Raises:
        ValueError: if there is none.

    Example:
        >>> found = tail_for(0.04, QPseudoSpike(), lambda shape: squared_slope_if_uniform(shape, -3.7, 4.3))
        >>> round(found.tail, 3)
        1.893
    """
    return _bisect(wanted, "tail", 1e-3, 1e3, lambda value: replace(surrogate, tail=1 + value), squared_slope)


def _bisect(
    wanted: float,
    name: str,
    low: float,
    high: float,
    make: Callable[[float], Surrogate],
    squared_slope: Callable[[Surrogate], float],
) -> Surrogate:
    """The surrogate `make(value)` whose squared slope, monotone in `value`, is `wanted`; on a logarithmic scale."""
    ends = squared_slope(make(low)), squared_slope(make(high))
    if not min(ends) <= wanted <= max(ends):
        raise ValueError(
            f"{name}_for: no {name} gives a mean squared slope of {wanted:.3g}; it can be {min(ends):.3g} to {max(ends):.3g}. "
            "Choose another dampening, or larger recurrent weights"
        )
    rises = ends[1] > ends[0]
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if (squared_slope(make(middle)) < wanted) == rises else (low, middle)
    return make(math.sqrt(low * high))
