"""From neurons in any shape to lanes in a row, which is all that kernels know, and back.

A time step `(B, *features)` of M numbers is M lanes. A decay or a state broadcasts to a step; a kernel receives it for every
lane, and returns its gradient for every lane.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rheobase.ops import memory


def sequence_to_lanes(x: Tensor) -> Tensor:
    """`(T, B, *features)` as contiguous `(T, M)`, without its history: to be called where no gradient is recorded."""
    if x.device.type == "cpu" and not x.is_contiguous() and not torch.compiler.is_compiling():
        x = memory.empty(tuple(x.shape), x.dtype).copy_(x.detach())
    return x.contiguous().view(len(x), math.prod(x.shape[1:]))


def to_lanes(value: Tensor, step: Sequence[int]) -> Tensor:
    """What broadcasts to a time step, for every lane: `(M,)`."""
    return value.expand(step).contiguous().view(math.prod(step))


def stack(values: Sequence[Tensor], step: Sequence[int]) -> Tensor:
    """One row of lanes for each of a neuron's states: `(S, M)`."""
    lanes = [to_lanes(value, step) for value in values]
    return lanes[0].unsqueeze(0) if len(lanes) == 1 else torch.stack(lanes)


def rows(states: Tensor, step: Sequence[int]) -> list[Tensor]:
    """The states of `(S, M)` lanes one by one, each in the shape of a step."""
    return [row.view(tuple(step)) for row in states.unbind(0)]


def as_constants(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Tensors that share their memory with these, and are not views to autograd.

    Within the forward pass of an `autograd.Function` views are made without their history, and PyTorch then forbids to change
    in place what they view: `dropout(spikes, inplace=True)`, or a parameter. That a saved tensor was changed is still noticed.
    """
    return tuple(tensor.detach() for tensor in tensors)


def sum_all_to(
    gradients: Sequence[Tensor], step: Sequence[int], shapes: Sequence[Sequence[int]], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """`sum_to` of each gradient that is wanted, None of the others."""
    each = zip(gradients, shapes, wanted, strict=True)
    return [sum_to(gradient, step, shape) if needed else None for gradient, shape, needed in each]


def sum_to(gradient: Tensor, step: Sequence[int], shape: Sequence[int]) -> Tensor:
    """The gradient of a value of the given shape, from that of every lane, `(M,)`.

    On the CPU the sum is NumPy's, in float64: PyTorch adds in another order when it has another number of threads.
    """
    gradient = gradient.view(tuple(step))
    padded = (1,) * (len(step) - len(shape)) + tuple(shape)
    over = tuple(axis for axis, (wide, narrow) in enumerate(zip(step, padded, strict=True)) if wide != narrow)
    if not over:
        return gradient.view(tuple(shape))
    if gradient.device.type == "cpu":
        total = torch.from_numpy(gradient.numpy().sum(axis=over, dtype="float64", keepdims=True)).to(gradient.dtype)
    else:
        total = gradient.sum(over, keepdim=True)
    return total.view(tuple(shape))
