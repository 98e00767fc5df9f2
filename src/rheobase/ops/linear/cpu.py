"""Spike lists on the CPU: built from dense spikes, summed over weights, and summed into the gradient of the weights.

A list holds, row after row, which inputs are not zero. A row of the output is the bias plus those columns of the weight that
its spikes name: `d * I` of them at a density d, instead of I. The gradient of the weight is such a sum too, once the lists
are turned around: for each input, the rows in which it spiked name the rows of the output's gradient to be added up.
What makes this fast:

- The list is built in two passes. The first reads the spikes, which are far larger than all that follows, once, and leaves
  one bit for each; the second turns the few bits that are set into a list of just the right size.
- Outputs are treated in blocks of up to 512 bytes of numbers, 128 in float32, whose sums stay in registers. The weights of a
  block lie together, `(I + 1, width)`, and stay in the cache; the last row is the bias, as of an input that always fires.
- For the gradient, lists are turned around by blocks of rows, whose gradients stay in the cache. (Adding each row of the
  gradient to the sums that its spikes name needs no turning, but a sum must be stored before it is loaded for the next row,
  and waiting for that cost a factor of 1 to 3, at random, in measurements.)
- No result depends on the number of threads: they share rows in the forward pass, and in the backward pass blocks of outputs
  and parts of the rows, as many as the shapes say, which are added in order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import no_type_check

import numpy as np
import torch
from numba import njit
from torch import Tensor

from rheobase.ops import memory, threads
from rheobase.ops.linear.simd import add, differs, load, lowest, population, scale, store

# What is compiled takes no run-time check of annotations around it: hence `no_type_check` on every kernel.
_jit = njit(nogil=True, cache=True, error_model="numpy")

_SAMPLE = 64
"""Rows that are looked at first. Input whose sample is far beyond the limit is dense, and costs nothing more."""

_WIDEST = 512
"""Bytes of a block's sums: 8 registers of 64 bytes, or all 16 of 32."""

_ROWS = 512
"""Rows of a block: what belongs to them stays in the cache while the blocks of outputs go by."""

_PARTS = 4
"""How many threads have something to do in the backward pass, at least: blocks of outputs times parts of the rows."""


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


def build(x: Tensor, limit: float) -> SpikeLists | None:
    """The spike lists of `x`, `(R, I)` and contiguous; None if more than a share `limit` of it is not zero.

    A NaN is an entry like any other number that is not zero; -0.0 is zero.
    """
    rows, inputs = x.shape
    dense = _array(x)
    sample = dense[:: rows // _SAMPLE | 1] != 0  # by an odd step, which does not keep in step with the batch
    if np.count_nonzero(sample) > 1.5 * limit * sample.size:
        return None
    bits = np.empty((rows, -(-inputs // 64)), np.uint64)
    start, others = memory.empty((rows + 1,), torch.int64), np.empty(rows, np.bool_)
    ends = start.numpy()[1:]
    threads.split(partial(_mark, dense, bits, ends, others), rows, x.numel())
    start[0] = 0
    np.cumsum(ends, out=ends)
    total = int(start[-1])
    if total > limit * x.numel():
        return None
    index = memory.empty((total,), torch.int32)
    value = memory.empty((total,), x.dtype) if others.any() else None
    lists = SpikeLists(inputs, start, index, value)
    threads.split(partial(_list, dense, bits, *_arrays(lists)), rows, total)
    return lists


def forward(lists: SpikeLists, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`x @ weight.T + bias` for the spikes in the lists: `(R, O)` from `weight (O, I)` and `bias (O,)`."""
    rows, outputs = len(lists.start) - 1, len(weight)
    width = _width(outputs, weight.dtype)
    blocks = memory.empty((-(-outputs // width), lists.inputs + 1, width), weight.dtype)
    pack = partial(_pack, _array(weight), _array(weight.new_zeros(outputs) if bias is None else bias), _array(blocks))
    threads.split(pack, len(blocks), blocks.numel(), align=1)
    y = memory.empty((rows, outputs), weight.dtype)
    gather = partial(_gather(width), *_arrays(lists), _array(blocks), _array(y))
    threads.split(gather, rows, len(lists.index) * outputs)
    return y


def weight_gradient(lists: SpikeLists, on_y: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of weight, `(O, I)`, and bias, `(O,)`, from that of the output, `(R, O)`."""
    rows, outputs = on_y.shape
    dtype, width = on_y.dtype, _width(outputs, on_y.dtype)
    blocks, groups = -(-outputs // width), -(-rows // _ROWS)
    parts = max(1, min(-(-_PARTS // max(blocks, 1)), groups // 2))
    turned = SpikeLists(
        lists.inputs,
        memory.empty((groups, lists.inputs + 1), torch.int64),
        memory.empty(tuple(lists.index.shape), torch.int32),
        None if lists.value is None else memory.empty(tuple(lists.value.shape), dtype),
    )
    turn = partial(_turn, *_arrays(lists), *_arrays(turned))
    threads.split(turn, groups, len(lists.index) + turned.start.numel(), align=1)
    sums = memory.empty((parts, blocks, lists.inputs + 1, width), dtype)
    gather = partial(_gather_gradient(width), *_arrays(turned), _array(on_y), _array(sums))
    threads.split(gather, parts * blocks, len(lists.index) * outputs, align=1)
    on_weight, on_bias = memory.empty((outputs, lists.inputs), dtype), memory.empty((outputs,), dtype)
    threads.split(partial(_unpack, _array(sums), _array(on_weight), _array(on_bias)), blocks, sums.numel(), align=1)
    return on_weight, on_bias


def _width(outputs: int, dtype: torch.dtype) -> int:
    """How many outputs make a block: as many as registers hold, or a quarter if they would mostly be empty."""
    wide = _WIDEST // dtype.itemsize
    narrow = wide // 4
    return wide if -(-outputs // wide) * wide <= 1.3 * -(-outputs // narrow) * narrow else narrow


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().resolve_neg().numpy()


def _arrays(lists: SpikeLists) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    # Unsigned, because a kernel must ask of every other index whether it is negative and counts from the end.
    index = _array(lists.index).view(np.uint32)
    return _array(lists.start), index, None if lists.value is None else _array(lists.value)


@_jit
@no_type_check
def _mark(x, bits, counts, others, low, high):
    """One bit for each entry that is not zero; their number in each row, and whether one is not 1."""
    inputs, flat = x.shape[1], x.reshape(-1)
    zero, one = flat.dtype.type(0), flat.dtype.type(1)
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


@_jit
@no_type_check
def _list(x, bits, start, index, value, low, high):
    """The list of the bits that are set."""
    for r in range(low, high):
        q = start[r]
        for word in range(bits.shape[1]):
            left = bits[r, word]
            while left:
                i = 64 * word + lowest(left)
                index[q] = i
                if value is not None:
                    value[q] = x[r, i]
                q += 1
                left &= left - np.uint64(1)


@_jit
@no_type_check
def _pack(weight, bias, blocks, low, high):
    """Weight and bias by blocks of outputs, the last one filled up with zeros."""
    outputs, inputs = weight.shape
    width = blocks.shape[2]
    for block in range(low, high):
        first = block * width
        used = min(width, outputs - first)
        for i in range(inputs):
            for k in range(used):
                blocks[block, i, k] = weight[first + k, i]
            for k in range(used, width):
                blocks[block, i, k] = 0
        for k in range(used):
            blocks[block, inputs, k] = bias[first + k]
        for k in range(used, width):
            blocks[block, inputs, k] = 0


@cache
@no_type_check
def _gather(width: int) -> Callable[..., None]:
    """The kernel of the forward pass for blocks of `width` outputs."""

    @_jit
    def kernel(start, index, value, blocks, y, low, high):
        outputs = y.shape[1]
        weights, out = blocks.reshape(-1), y.reshape(-1)
        size = blocks.shape[1] * width
        last = np.empty(width, y.dtype)
        for first in range(low, high, _ROWS):
            for block in range(blocks.shape[0]):
                base, used = block * size, min(width, outputs - block * width)
                for r in range(first, min(first + _ROWS, high)):
                    total = load(weights, base + size - width, width)
                    for q in range(start[r], start[r + 1]):
                        term = load(weights, base + index[q] * width, width)
                        if value is not None:
                            term = scale(term, value[q])
                        total = add(total, term)
                    at = r * outputs + block * width
                    if used == width:
                        store(out, at, total)
                    else:
                        store(last, 0, total)
                        for k in range(used):
                            out[at + k] = last[k]

    return kernel


@_jit
@no_type_check
def _turn(start, index, value, turned_start, row, turned_value, low, high):
    """Lists of rows by input, for each group of rows on its own; rows are counted from the first of the group."""
    inputs = turned_start.shape[1] - 1
    free = np.empty(inputs, np.uint64)
    for group in range(low, high):
        first, end = group * _ROWS, min((group + 1) * _ROWS, len(start) - 1)
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
                if value is not None:
                    turned_value[place] = value[q]


@cache
@no_type_check
def _gather_gradient(width: int) -> Callable[..., None]:
    """The kernel of the backward pass for blocks of `width` outputs; sums are those of a block in a part of the rows."""

    @_jit
    def kernel(start, row, value, on_y, sums, low, high):
        rows, outputs = on_y.shape
        groups, inputs = start.shape[0], start.shape[1] - 1
        parts, blocks = sums.shape[0], sums.shape[1]
        total, size = sums.reshape(-1), (inputs + 1) * width
        gradients, last = on_y.reshape(-1), np.zeros(_ROWS * width, on_y.dtype)
        for at in range(low * size, high * size):
            total[at] = 0
        for part in range(low // blocks, -(-high // blocks)):
            for group in range(groups * part // parts, groups * (part + 1) // parts):
                first = group * _ROWS
                count = min(_ROWS, rows - first)
                for block in range(max(low - part * blocks, 0), min(high - part * blocks, blocks)):
                    base, used = (part * blocks + block) * size, min(width, outputs - block * width)
                    if used == width:
                        source, begin, step = gradients, first * outputs + block * width, outputs
                    else:  # a vector of the last block would end in the next row, or behind the last
                        source, begin, step = last, 0, width
                        for r in range(count):
                            for k in range(used):
                                last[r * width + k] = gradients[(first + r) * outputs + block * width + k]
                    for i in range(inputs):
                        if start[group, i] < start[group, i + 1]:
                            result = load(total, base + i * width, width)
                            for q in range(start[group, i], start[group, i + 1]):
                                term = load(source, begin + row[q] * step, width)
                                if value is not None:
                                    term = scale(term, value[q])
                                result = add(result, term)
                            store(total, base + i * width, result)
                    result = load(total, base + inputs * width, width)
                    for r in range(count):
                        result = add(result, load(source, begin + r * step, width))
                    store(total, base + inputs * width, result)

    return kernel


@_jit
@no_type_check
def _unpack(sums, weight, bias, low, high):
    """The gradients of weight and bias, from their sums by parts and blocks."""
    parts, width = sums.shape[0], sums.shape[3]
    outputs, inputs = weight.shape
    for block in range(low, high):
        total = sums[0, block]
        for part in range(1, parts):
            for i in range(inputs + 1):
                for k in range(width):
                    total[i, k] += sums[part, block, i, k]
        for k in range(min(width, outputs - block * width)):
            for i in range(inputs):
                weight[block * width + k, i] = total[i, k]
            bias[block * width + k] = total[inputs, k]
