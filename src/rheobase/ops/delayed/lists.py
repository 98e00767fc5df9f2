"""Delayed sums over spike lists: a spike is listed once for each delay, and the sums are those of a linear layer.

What a step receives from K steps is a row of `K * inputs` numbers, most of them zero. That row is never written down: its list
is made of the lists of the K steps, one after the other. Only the way back to the spikes themselves is a dense convolution.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rheobase.ops import dense, memory
from rheobase.ops.arguments import check_first_derivative
from rheobase.ops.delayed import reference
from rheobase.ops.lanes import as_constants
from rheobase.ops.linear import cpu
from rheobase.ops.linear.lists import SpikeLists, array, build


def delayed(seen: Tensor, weight: Tensor, bias: Tensor | None, limit: float) -> Tensor | None:
    """`reference.delayed`; None if more than a share `limit` of `seen` is not zero."""
    lists = build(dense.rows(seen.detach()).contiguous(), limit)
    return None if lists is None else _Delayed.apply(seen, weight, bias, lists)  # pyright: ignore[reportReturnType]


class _Delayed(torch.autograd.Function):
    """What is kept are the lists of the spikes, which are K times as short as those of all that is heard."""

    @staticmethod
    def forward(ctx: Any, seen: Tensor, weight: Tensor, bias: Tensor | None, lists: SpikeLists) -> Tensor:
        of_seen, of_weight, *_ = ctx.needs_input_grad
        kept = (lists.start, lists.index, lists.value) if of_weight else (None, None, None)
        ctx.save_for_backward(weight if of_seen else None, *kept)
        (outputs, ctx.taps, ctx.inputs), batch = weight.shape, seen.shape[1]
        y = cpu.forward(heard(lists, ctx.taps, batch), weight.flatten(1), bias)
        return as_constants(y.view(len(seen) - ctx.taps + 1, batch, outputs))[0]

    @staticmethod
    def backward(ctx: Any, on_y: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        check_first_derivative()
        weight, *kept = ctx.saved_tensors
        of_seen, of_weight, of_bias, _ = ctx.needs_input_grad
        on_weight = on_bias = None
        rows = dense.rows(on_y).contiguous()
        if of_weight:
            lists = heard(SpikeLists(ctx.inputs, *kept), ctx.taps, on_y.shape[1])
            on_weight, on_bias = cpu.weight_gradient(lists, rows)
            on_weight = on_weight.unflatten(1, (ctx.taps, ctx.inputs))
        elif of_bias:
            on_bias = rows.sum(0)
        return reference.on_seen(weight, on_y) if of_seen else None, on_weight, on_bias if of_bias else None, None


def heard(lists: SpikeLists, taps: int, batch: int) -> SpikeLists:
    """What each step receives from itself and the `taps - 1` steps before, as lists of `taps * inputs` entries per row.

    Args:
        lists: of the rows `(S * batch, inputs)`.
        taps: K, the delays from 0 to K - 1.
        batch: the rows of a step.

    Returns:
        The lists of `((S - K + 1) * batch, K * inputs)`: input i, delayed by k, is entry `k * inputs + i`.
    """
    start, index = array(lists.start), array(lists.index)
    rows = len(start) - 1 - (taps - 1) * batch
    first = [(taps - 1 - k) * batch for k in range(taps)]
    counts = np.stack([np.diff(start[low : low + rows + 1]) for low in first], 1)
    ends = counts.cumsum().reshape(rows, taps)
    total = int(ends[-1, -1]) if rows else 0
    longer = memory.empty((total,), torch.int32)
    value = None if lists.value is None else memory.empty((total,), lists.value.dtype)
    for k, low in enumerate(first):
        # The entries of a delay are neighbours in the given lists, and lie apart, row for row, in the new ones.
        begin, end = start[low], start[low + rows]
        place = np.arange(begin, end) + np.repeat(ends[:, k] - start[low + 1 : low + rows + 1], counts[:, k])
        array(longer)[place] = index[begin:end] + np.int32(k * lists.inputs)
        if value is not None and lists.value is not None:
            array(value)[place] = array(lists.value)[begin:end]
    starts = np.concatenate((np.zeros(1, np.int64), ends[:, -1]))
    return SpikeLists(taps * lists.inputs, torch.from_numpy(starts), longer, value)
