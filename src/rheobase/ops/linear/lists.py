"""Spike lists: which inputs are not zero, row after row, and turned around, in which rows an input is not.

Spikes are far larger than all that is computed from them, so they are read once. That first pass leaves one bit for each
spike and counts them; the second turns the few bits that are set into a list of just the right size. If there turn out to be
too many, there is no list: mostly a sample of the rows shows it, before anything is read at all.
"""

from dataclasses import dataclass
from functools import cache, partial
from typing import Any, no_type_check

import numpy as np
import torch
from numba import types
from torch import Tensor

from rheobase.ops import memory, threads
from rheobase.ops.compiler import compiled
from rheobase.ops.simd import differs, lowest, population

GROUP = 512
"""Rows that lists are turned around in: what belongs to them, in other tensors, stays in the cache."""

_SAMPLE = 64
"""Rows that are looked at first."""

_NARROW = 64
"""Inputs, below which a row does not fill a word of bits."""


@dataclass(frozen=True)
class SpikeLists:
    """Which entries of the rows `(R, I)` are not zero, row after row, in ascending order.

    Args:
        inputs: I.
        start: `(R + 1,)` int64; the entries of row r are `start[r] : start[r + 1]`.
        index: int32, the input of each entry.
        value: its value; None if all are 1.
    """

    inputs: int
    start: Tensor
    index: Tensor
    value: Tensor | None


@dataclass(frozen=True)
class TurnedLists:
    """In which rows an input is not zero, for every group of `GROUP` rows on its own, in ascending order.

    Args:
        start: `(groups, I + 1)` int64; the entries of input i in a group are `start[group, i] : start[group, i + 1]`.
        row: int32, the row of each entry, counted from the first of its group.
        value: its value; None if all are 1.
    """

    start: Tensor
    row: Tensor
    value: Tensor | None


def build(x: Tensor, limit: float) -> SpikeLists | None:
    """The spike lists of `x`, `(R, I)` and contiguous; None if more than a share `limit` of it is not zero.

    A NaN is an entry like any other number that is not zero; -0.0 is zero.
    """
    rows, inputs = x.shape
    if inputs < _NARROW:
        return _build_narrow(x, limit)
    dense, number = array(x), type_of(x)
    sample = dense[:: rows // _SAMPLE | 1] != 0  # by an odd step, which does not keep in step with the batch
    if np.count_nonzero(sample) > 1.5 * limit * sample.size:
        return None
    bits = np.empty((rows, -(-inputs // 64)), np.uint64)
    start, others = memory.empty((rows + 1,), torch.int64), np.empty(rows, np.bool_)
    ends = array(start)[1:]
    threads.split(partial(_mark_kernel(number), dense, bits, ends, others), rows, x.numel())
    start[0] = 0
    np.cumsum(ends, out=ends)
    total = int(start[-1])
    if total > limit * x.numel():
        return None
    index = memory.empty((total,), torch.int32)
    value = memory.empty((total,), x.dtype) if others.any() else None
    kernel = _list_kernel(number, value is not None)
    threads.split(partial(kernel, dense, bits, *arrays(start, index, value, dense.dtype)), rows, total)
    return SpikeLists(inputs, start, index, value)


def _build_narrow(x: Tensor, limit: float) -> SpikeLists | None:
    """The same for rows that are shorter than a word of bits: all of them are marked as one."""
    (rows, inputs), dense, number = x.shape, array(x), type_of(x)
    bits, count, others = np.empty((1, -(-x.numel() // 64)), np.uint64), np.zeros(1, np.int64), np.zeros(1, np.bool_)
    _mark_kernel(number)(dense.reshape(1, -1), bits, count, others, 0, 1)
    if count[0] > limit * x.numel():
        return None
    start, index = memory.empty((rows + 1,), torch.int64), memory.empty((int(count[0]),), torch.int32)
    value = memory.empty((int(count[0]),), x.dtype) if others[0] else None
    kernel = _narrow_list_kernel(number, value is not None)
    kernel(dense, bits[0], *arrays(start, index, value, dense.dtype))
    return SpikeLists(inputs, start, index, value)


def turn(lists: SpikeLists, dtype: torch.dtype) -> TurnedLists:
    """The lists turned around; `dtype` is the type of values, had they any."""
    groups, total = -(-(len(lists.start) - 1) // GROUP), len(lists.index)
    start = memory.empty((groups, lists.inputs + 1), torch.int64)
    row = memory.empty((total,), torch.int32)
    value = None if lists.value is None else memory.empty((total,), dtype)
    empty = torch.empty(0, dtype=dtype)
    number = array(empty).dtype
    kernel = _turn_kernel(type_of(empty), value is not None)
    before, after = arrays(lists.start, lists.index, lists.value, number), arrays(start, row, value, number)
    threads.split(partial(kernel, *before, *after), groups, total + start.numel(), align=1)
    return TurnedLists(start, row, value)


def type_of(x: Tensor) -> str:
    """The name of the type: "float32" or "float64"."""
    return str(x.dtype).removeprefix("torch.")


def array(tensor: Tensor) -> np.ndarray:
    """The tensor's memory, in order."""
    if tensor.requires_grad or tensor.is_neg() or not tensor.is_contiguous():  # to ask takes less time than to do
        tensor = tensor.detach().contiguous().resolve_neg()
    return tensor.numpy()


def arrays(
    start: Tensor, index: Tensor, value: Tensor | None, number: np.dtype[Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What kernels take of a list.

    Places are unsigned, because a kernel must ask of every other index whether it is negative, and counts from the end.
    """
    return array(start), array(index).view(np.uint32), np.empty(0, number) if value is None else array(value)


# What is compiled takes no run-time check of annotations around it: hence `no_type_check` on what makes kernels.
@cache
@no_type_check
def _mark_kernel(number: str) -> Any:
    """One bit for each entry that is not zero; their number in each row, and whether one of them is not 1."""
    zero, one = np.dtype(number).type(0), np.dtype(number).type(1)

    def mark(x, bits, counts, others, low, high):
        inputs, flat = x.shape[1], x.reshape(-1)
        for r in range(low, high):
            count, other = 0, np.uint64(0)
            for word in range(bits.shape[1]):
                at, rest = r * inputs + 64 * word, inputs - 64 * word
                if at + 64 <= flat.size:
                    # The last word of a row reads into the next row, and forgets what is not its own.
                    own = ~np.uint64(0) if rest >= 64 else (np.uint64(1) << np.uint64(rest)) - np.uint64(1)
                    marked = differs(flat, at, zero) & own
                    other |= differs(flat, at, one) & marked
                else:
                    marked = np.uint64(0)
                    for k in range(min(rest, 64)):
                        bit = np.uint64(1) << np.uint64(k)
                        if flat[at + k] != zero:
                            marked |= bit
                            if flat[at + k] != one:
                                other |= bit
                bits[r, word] = marked
                count += population(marked)
            counts[r] = count
            others[r] = other != 0

    x, bits, counts, others = getattr(types, number)[:, ::1], types.uint64[:, ::1], types.int64[::1], types.boolean[::1]
    return compiled(mark, types.void(x, bits, counts, others, types.intp, types.intp), f"mark_{number}")


@cache
@no_type_check
def _list_kernel(number: str, weighted: bool) -> Any:
    """The list of the bits that are set, with the values there if it is weighted."""

    def list_bits(x, bits, start, index, value, low, high):
        for r in range(low, high):
            q = start[r]
            for word in range(bits.shape[1]):
                left = bits[r, word]
                while left:
                    i = 64 * word + lowest(left)
                    index[q] = i
                    if weighted:
                        value[q] = x[r, i]
                    q += 1
                    left &= left - np.uint64(1)

    x, bits = getattr(types, number)[:, ::1], types.uint64[:, ::1]
    lists = types.int64[::1], types.uint32[::1], getattr(types, number)[::1]
    return compiled(list_bits, types.void(x, bits, *lists, types.intp, types.intp), f"list_{number}_{weighted:d}")


@cache
@no_type_check
def _narrow_list_kernel(number: str, weighted: bool) -> Any:
    """The list of the bits that are set where all rows are one row of bits, and where each row begins in it."""

    def list_narrow_bits(x, bits, start, index, value):
        rows, inputs = x.shape
        r, q = 0, 0
        start[0] = 0
        for word in range(len(bits)):
            left = bits[word]
            while left:
                at = 64 * word + lowest(left)
                while at >= (r + 1) * inputs:
                    r += 1
                    start[r] = q
                index[q] = at - r * inputs
                if weighted:
                    value[q] = x[r, at - r * inputs]
                q += 1
                left &= left - np.uint64(1)
        for rest in range(r + 1, rows + 1):
            start[rest] = q

    x, lists = getattr(types, number)[:, ::1], (types.int64[::1], types.uint32[::1], getattr(types, number)[::1])
    signature = types.void(x, types.uint64[::1], *lists)
    return compiled(list_narrow_bits, signature, f"list_narrow_{number}_{weighted:d}")


@cache
@no_type_check
def _turn_kernel(number: str, weighted: bool) -> Any:
    """Lists turned around, group by group: each entry takes the next free place of its input."""

    def turn_lists(start, index, value, turned_start, row, turned_value, low, high):
        inputs = turned_start.shape[1] - 1
        free = np.empty(inputs, np.uint64)
        for group in range(low, high):
            first, end = group * GROUP, min((group + 1) * GROUP, len(start) - 1)
            for i in range(inputs):
                free[i] = 0
            for q in range(start[first], start[end]):
                free[index[q]] += np.uint64(1)
            total = np.uint64(start[first])
            for i in range(inputs):
                turned_start[group, i] = total
                free[i], total = total, total + free[i]
            turned_start[group, inputs] = total
            for r in range(first, end):
                for q in range(start[r], start[r + 1]):
                    place = free[index[q]]
                    free[index[q]] = place + np.uint64(1)
                    row[place] = r - first
                    if weighted:
                        turned_value[place] = value[q]

    entries = types.uint32[::1], getattr(types, number)[::1]
    signature = types.void(types.int64[::1], *entries, types.int64[:, ::1], *entries, types.intp, types.intp)
    return compiled(turn_lists, signature, f"turn_{number}_{weighted:d}")
