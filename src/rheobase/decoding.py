"""Decoding: from output units over time to one number per class.

All but `every_step` take `(T, B, C)`, the membrane potentials of a readout or the spikes of output neurons, and return
`(B, C)`, to be used as logits. Sum, mean and count differ by a factor, but the factor is the temperature of the softmax: with
T = 1,000 a sum makes every decision certain before anything is learned.

A `mask`, `(T, B)`, is True where a step is there, for sequences of different lengths in one batch; None is all of them. A
sample without any step decodes to 0.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rheobase.ops.arguments import state_type
from rheobase.padding import beside, only


def _check(output: Tensor, what: str) -> None:
    if len(output) == 0:
        raise ValueError(f"{what}: output has no time steps, got shape {tuple(output.shape)}")


def _real(output: Tensor, mask: Tensor | None, what: str) -> Tensor:
    """The output with zeros in place of padding."""
    _check(output, what)
    return output if mask is None else only(output, mask, what)


def sum(output: Float[Tensor, "T B *C"], mask: Bool[Tensor, "T B"] | None = None) -> Float[Tensor, "B *C"]:
    """The sum over time.

    Args:
        output: what the network gave, `(T, B, C)`.
        mask: True where a step is there, `(T, B)`.

    Raises:
        TypeError: if `mask` is not boolean.
        ValueError: if there are no time steps, or `mask` is not `(T, B)`.

    Example:
        >>> import torch
        >>> sum(torch.ones(4, 1, 2))
        tensor([[4., 4.]])
    """
    return _real(output, mask, "sum").sum(0)


def mean(output: Float[Tensor, "T B *C"], mask: Bool[Tensor, "T B"] | None = None) -> Float[Tensor, "B *C"]:
    """The mean over time, over valid steps: the usual choice with a `LeakyReadout`; of spikes, the firing rate.

    Args:
        output: what the network gave, `(T, B, C)`.
        mask: True where a step is there, `(T, B)`.

    Raises:
        TypeError: if `mask` is not boolean.
        ValueError: if there are no time steps, or `mask` is not `(T, B)`.

    Example:
        >>> import torch
        >>> mean(torch.tensor([0.0, 1.0]).view(2, 1, 1))
        tensor([[0.5000]])
        >>> mean(torch.tensor([0.0, 1.0]).view(2, 1, 1), mask=torch.tensor([[False], [True]]))
        tensor([[1.]])
    """
    _check(output, "mean")
    if mask is None:
        return output.mean(0)
    total = only(output, mask, "mean").sum(0, dtype=state_type(output))  # a sum may be too large for half precision
    return (total / beside(mask.sum(0), total).clamp(min=1)).to(output.dtype)


def max(output: Float[Tensor, "T B *C"], mask: Bool[Tensor, "T B"] | None = None) -> Float[Tensor, "B *C"]:
    """The maximum over time: each class is judged by its best moment, of several the first. Only that receives a gradient.

    Args:
        output: what the network gave, `(T, B, C)`.
        mask: True where a step is there, `(T, B)`.

    Raises:
        TypeError: if `mask` is not boolean.
        ValueError: if there are no time steps, or `mask` is not `(T, B)`.

    Example:
        >>> import torch
        >>> max(torch.tensor([0.0, 3.0, 1.0]).view(3, 1, 1))
        tensor([[3.]])
        >>> max(torch.tensor([-2.0, -1.0, 0.0]).view(3, 1, 1), mask=torch.tensor([[True], [True], [False]]))
        tensor([[-1.]])
    """
    _check(output, "max")
    if mask is None:
        return output.max(0).values  # whose gradient `amax` would share among all that are as large
    best = only(output, mask, "max", otherwise=-math.inf).max(0).values
    return torch.where(beside(mask.any(0), best), best, 0)


def last(output: Float[Tensor, "T B *C"], mask: Bool[Tensor, "T B"] | None = None) -> Float[Tensor, "B *C"]:
    """The value after the last step.

    Args:
        output: what the network gave, `(T, B, C)`.
        mask: True where a step is there, `(T, B)`; each sample has a last step of its own.

    Raises:
        TypeError: if `mask` is not boolean.
        ValueError: if there are no time steps, or `mask` is not `(T, B)`.

    Example:
        >>> import torch
        >>> last(torch.tensor([0.0, 3.0, 1.0]).view(3, 1, 1))
        tensor([[1.]])
        >>> last(torch.tensor([0.0, 3.0, 1.0]).view(3, 1, 1), mask=torch.tensor([[True], [True], [False]]))
        tensor([[3.]])
    """
    _check(output, "last")
    if mask is None:
        return output[-1]
    there = only(output, mask, "last")
    step = len(mask) - 1 - mask.flip(0).int().argmax(0)  # where there is none, the very last, which is 0 then
    return there[step, torch.arange(mask.shape[1], device=mask.device)]


def spike_count(spikes: Float[Tensor, "T B *C"], mask: Bool[Tensor, "T B"] | None = None) -> Float[Tensor, "B *C"]:
    """The number of spikes of each output neuron.

    Args:
        spikes: 0 or 1, `(T, B, C)`.
        mask: True where a step is there, `(T, B)`.

    Returns:
        Counts, `(B, C)`, in float32 at least.

    Raises:
        TypeError: if `mask` is not boolean.
        ValueError: if there are no time steps, `mask` is not `(T, B)`, or `spikes` holds anything but 0 and 1 (a membrane
            potential, most likely).

    Example:
        >>> import torch
        >>> spike_count(torch.tensor([0.0, 1.0, 1.0]).view(3, 1, 1))
        tensor([[2.]])
    """
    spikes = _real(spikes, mask, "spike_count")
    if not bool(((spikes == 0) | (spikes == 1)).all()):
        raise ValueError("spike_count: spikes must be 0 or 1; to decode membrane potentials use sum, mean, max or last")
    return spikes.sum(0, dtype=state_type(spikes))  # bfloat16 cannot count beyond 256


def every_step(output: Float[Tensor, "T B *C"], mask: Bool[Tensor, "T B"] | None = None) -> Float[Tensor, "T B *C"]:
    """The output itself: there is an answer at every step, `(T, B, C)`; 0 where there is no step.

    Args:
        output: what the network gave, `(T, B, C)`.
        mask: True where a step is there, `(T, B)`.

    Raises:
        TypeError: if `mask` is not boolean.
        ValueError: if there are no time steps, or `mask` is not `(T, B)`.

    Example:
        >>> import torch
        >>> every_step(torch.ones(2, 1, 1), mask=torch.tensor([[True], [False]])).flatten()
        tensor([1., 0.])
    """
    return _real(output, mask, "every_step")
