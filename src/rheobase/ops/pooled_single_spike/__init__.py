"""Neurons that fire once in the maps of a convolution, and the pooling behind them: checks, and who computes.

Of a layer of maps the next layer sees the averages, or the maxima, of windows of 2 x 2 spikes, a quarter of the numbers. One
after another, neurons and pooling write all spikes and all membrane potentials to memory and read them again, and so they do
with the gradients: most of the time of a convolutional network with few steps. Taken together, a map is in the cache from its
currents to what is pooled; where the current is that of a picture, which is the same at each step, it is read once.
"""

from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from rheobase.ops import kernels
from rheobase.ops.arguments import as_step, check_sequence, is_plain
from rheobase.ops.pooled_single_spike import fused
from rheobase.ops.single_spike import Credit, check_rule, first_spikes
from rheobase.ops.slope import known_by_name
from rheobase.surrogate import FastSigmoid, Surrogate

__all__ = ["in_one", "pooled_single_spike"]

Pooling = Literal["average", "maximum"]
"""What is made of the four spikes of a window."""

_DTYPES = (torch.float32, torch.float64, torch.bfloat16)
_LEAST_WORK = 1 << 17
"""Neurons times samples times steps; fewer pass through the layers one by one in as little time."""


def pooled_single_spike(
    x: Float[Tensor, "T B C height width"],
    decay: float | Float[Tensor, "*d"],
    threshold: float | Float[Tensor, "*t"] = 1.0,
    *,
    hold: int | None = None,
    surrogate: Surrogate | None = None,
    credit: Credit = "product",
    fire_by_end: bool = False,
    pooling: Pooling = "average",
) -> Float[Tensor, "T_out B C pooled_height pooled_width"]:
    """Neurons that fire once, from rest, and the mean of their spikes in every window of 2 x 2, or the maximum.

        y[t] = avg_pool2d(first_spikes(x, decay, threshold)[t], 2),   or max_pool2d

    with the gradients that this has, `credit` and all, see `rheobase.ops.single_spike.first_spikes`. Where that can be (on the
    CPU, height and width even, one decay and one threshold for all neurons or for each channel), spikes and membrane potentials
    are never in memory, but for one map of one sample, and only `x` is kept for the backward pass. There is no second
    derivative then; it is refused.

    Args:
        x: the input current, `(T, B, C, height, width)`.
        decay: what the membrane potential keeps per step, in [0, 1]; a number, or `(C, 1, 1)`.
        threshold: where a neuron fires; likewise.
        hold: with `x` of one step, for how many steps it is held; None takes `x` as it is.
        surrogate: the shape of the gradient of a crossing; None is `FastSigmoid()`.
        credit: the rule of the gradient.
        fire_by_end: a neuron that has not fired before the last step fires there.
        pooling: "average" or "maximum". The gradient of a maximum goes to the first of a window that fires at a step, row by
            row, and to its first neuron at steps at which none does.

    Raises:
        TypeError: if `x` is not floating point, or `surrogate` is not a `Surrogate`.
        ValueError: if `x` is not `(T, B, C, height, width)`, `credit` is unknown, a decay or threshold does not fit, there is
            no such `pooling`, or `hold` is below 1 or `x` not of one step with it.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.6, 0.0], [1.0, 0.4]]).view(1, 1, 1, 2, 2)
        >>> pooled_single_spike(x, decay=1.0, hold=3).flatten()  # they fire at steps 1, never, 0 and 2
        tensor([0.2500, 0.2500, 0.2500])
    """
    surrogate = surrogate or FastSigmoid()
    check_sequence(x, "pooled_single_spike")
    check_rule(credit, surrogate, "pooled_single_spike")
    if x.ndim != 5:
        raise ValueError(f"pooled_single_spike: x must be (T, B, C, height, width), got shape {tuple(x.shape)}")
    if pooling not in get_args(Pooling):
        raise ValueError(f"pooled_single_spike: pooling must be 'average' or 'maximum', got {pooling!r}")
    if hold is not None and (hold < 1 or len(x) != 1):
        raise ValueError(
            f"pooled_single_spike: hold must be at least 1 and x have one step, got {hold} and {len(x)} steps"
        )
    decay, threshold = (
        as_step(value, name, x, "pooled_single_spike") for name, value in (("decay", decay), ("threshold", threshold))
    )
    steps = hold or len(x)
    y = in_one(x, steps, decay, threshold, credit, fire_by_end, surrogate, pooling)
    if y is not None:
        return y
    sequence = x if hold is None else x.expand(hold, *x.shape[1:])
    spikes = first_spikes(sequence, decay, threshold, surrogate=surrogate, credit=credit, fire_by_end=fire_by_end)
    pool = F.avg_pool2d if pooling == "average" else F.max_pool2d
    return pool(spikes.flatten(0, 1), 2).unflatten(0, spikes.shape[:2])


def in_one(
    x: Tensor,
    steps: int,
    decay: Tensor,
    threshold: Tensor,
    credit: Credit,
    fire_by_end: bool,
    surrogate: Surrogate,
    pooling: Pooling,
) -> Tensor | None:
    """What `pooled_single_spike` computes, by its kernels; None where they cannot, or the layers are as fast one by one.

    Args:
        x: `(T, B, C, height, width)`, or with T = 1 what is held for `steps`.
        steps: T, of what comes out.
        decay: one number for all neurons, or one for each channel, `(C, 1, 1)`.
        threshold: likewise.
        credit: the rule of the gradient.
        fire_by_end: a neuron that has not fired before the last step fires there.
        surrogate: the shape of the gradient of a crossing.
        pooling: of windows of 2 x 2.
    """
    if torch.compiler.is_compiling() or x.ndim != 5 or x.device.type != "cpu" or x.dtype not in _DTYPES:
        return None
    if x.shape[3] % 2 or x.shape[4] % 2 or x.shape[1:].numel() * steps < _LEAST_WORK or steps >= 1 << 24:
        return None  # steps are counted in float32
    channels = (x.shape[2], 1, 1)
    if any(each.numel() != 1 and each.shape != channels for each in (decay, threshold)):
        return None
    if not known_by_name(surrogate) or not kernels.fused(x) or not all(map(is_plain, (x, decay, threshold))):
        return None
    return fused.pooled_single_spike(x, steps, decay, threshold, credit, fire_by_end, surrogate, pooling)
