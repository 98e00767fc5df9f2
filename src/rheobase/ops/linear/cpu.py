"""Spike lists on the CPU: built from dense spikes, summed over weights, and summed into the gradient of the weights.

A list holds, row after row, which inputs are not zero. A row of the output is then the bias plus the columns of the weight
that its spikes name, `d * I` of them at a density d instead of all I; the gradient of the weight adds a row of the output's
gradient to as many of its columns. What makes this fast:

- The list is built in two passes. The first reads the spikes, which are far larger than anything else here, once, into one
  bit each; the second turns the few bits that are set into a list of just the right size.
- Outputs are treated in blocks of four vectors, 64 in float32. The weights of a block, `(I + 1, 64)`, lie together and
  mostly stay in the cache nearest to the processor but one, and the sums of a row stay in registers. The last row of a block
  belongs to the bias, as if to an input that always fires.
- No result depends on the number of threads: they share rows in the forward pass, and in the backward pass blocks of outputs
  and a number of parts of the rows that is fixed by the shapes, added in a fixed order.
"""

from dataclasses import dataclass
from functools import partial
from typing import no_type_check

import numpy as np
import torch
from numba import njit
from torch import Tensor

from rheobase.ops import memory, threads
from rheobase.ops.linear.simd import BYTES, add, differs, load, lowest, population, scale, store

# What is compiled takes no run-time check of annotations around it: hence `no_type_check` on every kernel.
_jit = njit(nogil=True, cache=True, error_model="numpy")

_BLOCK_BYTES = 4 * BYTES
_ROWS = 256
"""Rows per pass over the blocks, so that their spikes and outputs stay in the cache from block to block."""

_SAMPLE = 64
"""Rows that are looked at first. Input whose sample is far beyond the limit is dense, and costs nothing more."""

_PARTS = 8
"""Blocks of outputs times parts of the rows in the backward pass, at least: so many threads have something to do."""


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
    dense = x.numpy()
    sample = dense[:: max(1, rows // _SAMPLE)]
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
    if bias is None:
        bias = weight.new_zeros(outputs)
    blocks = _blocks(1, outputs, lists.inputs, weight.dtype)[0]
    pack = partial(_pack, _array(weight), _array(bias), _array(blocks))
    threads.split(pack, len(blocks), blocks.numel(), align=1)
    y = memory.empty((rows, outputs), weight.dtype)
    gather = partial(_gather, *_arrays(lists), _array(blocks), _array(y))
    threads.split(gather, rows, len(lists.index) * outputs)
    return y


def weight_gradient(lists: SpikeLists, on_y: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of weight, `(O, I)`, and bias, `(O,)`, from that of the output, `(R, O)`."""
    rows, outputs = on_y.shape
    blocks = -(-outputs // _block(on_y.dtype))
    parts = max(1, min(-(-_PARTS // max(blocks, 1)), rows // 1024))
    sums = _blocks(parts, outputs, lists.inputs, on_y.dtype)
    scatter = partial(_scatter, *_arrays(lists), _array(on_y), _array(sums))
    threads.split(scatter, parts * blocks, len(lists.index) * outputs, align=1)
    on_weight = memory.empty((outputs, lists.inputs), on_y.dtype)
    on_bias = memory.empty((outputs,), on_y.dtype)
    unpack = partial(_unpack, _array(sums), _array(on_weight), _array(on_bias))
    threads.split(unpack, blocks, sums.numel(), align=1)
    return on_weight, on_bias


def _block(dtype: torch.dtype) -> int:
    return _BLOCK_BYTES // dtype.itemsize


def _blocks(parts: int, outputs: int, inputs: int, dtype: torch.dtype) -> Tensor:
    width = _block(dtype)
    return memory.empty((parts, -(-outputs // width), inputs + 1, width), dtype)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _arrays(lists: SpikeLists) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    return _array(lists.start), _array(lists.index), None if lists.value is None else _array(lists.value)


@_jit
@no_type_check
def _mark(x, bits, counts, others, lo, hi):
    inputs, flat = x.shape[1], x.reshape(-1)
    zero, one = flat.dtype.type(0), flat.dtype.type(1)
    for r in range(lo, hi):
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
def _list(x, bits, start, index, value, lo, hi):
    for r in range(lo, hi):
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
def _pack(weight, bias, blocks, lo, hi):
    outputs, inputs = weight.shape
    width = blocks.shape[2]
    for block in range(lo, hi):
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


@_jit
@no_type_check
def _gather(start, index, value, blocks, y, lo, hi):
    outputs = y.shape[1]
    count, inputs, width = blocks.shape[0], blocks.shape[1] - 1, blocks.shape[2]
    weights, out = blocks.reshape(-1), y.reshape(-1)
    rest = np.empty(width, y.dtype)
    lane = width // 4
    for first in range(lo, hi, _ROWS):
        for block in range(count):
            base = block * (inputs + 1) * width
            used = min(width, outputs - block * width)
            for r in range(first, min(first + _ROWS, hi)):
                at = base + inputs * width
                a, b = load(weights, at), load(weights, at + lane)
                c, d = load(weights, at + 2 * lane), load(weights, at + 3 * lane)
                for q in range(start[r], start[r + 1]):
                    at = base + index[q] * width
                    if value is None:
                        a = add(a, load(weights, at))
                        b = add(b, load(weights, at + lane))
                        c = add(c, load(weights, at + 2 * lane))
                        d = add(d, load(weights, at + 3 * lane))
                    else:
                        a = add(a, scale(load(weights, at), value[q]))
                        b = add(b, scale(load(weights, at + lane), value[q]))
                        c = add(c, scale(load(weights, at + 2 * lane), value[q]))
                        d = add(d, scale(load(weights, at + 3 * lane), value[q]))
                at = r * outputs + block * width
                if used == width:
                    store(out, at, a)
                    store(out, at + lane, b)
                    store(out, at + 2 * lane, c)
                    store(out, at + 3 * lane, d)
                else:  # the last outputs fill a part of the vectors
                    store(rest, 0, a)
                    store(rest, lane, b)
                    store(rest, 2 * lane, c)
                    store(rest, 3 * lane, d)
                    for k in range(used):
                        out[at + k] = rest[k]


@_jit
@no_type_check
def _scatter(start, index, value, on_y, sums, lo, hi):
    rows, outputs = on_y.shape
    parts, count, inputs, width = sums.shape[0], sums.shape[1], sums.shape[2] - 1, sums.shape[3]
    gradients, total = on_y.reshape(-1), sums.reshape(-1)
    rest = np.zeros(width, on_y.dtype)
    lane = width // 4
    for task in range(lo, hi):
        part, block = task // count, task % count
        base = task * (inputs + 1) * width
        used = min(width, outputs - block * width)
        for at in range(base, base + (inputs + 1) * width):
            total[at] = 0
        for r in range(rows * part // parts, rows * (part + 1) // parts):
            at = r * outputs + block * width
            if used == width:
                a, b = load(gradients, at), load(gradients, at + lane)
                c, d = load(gradients, at + 2 * lane), load(gradients, at + 3 * lane)
            else:
                for k in range(used):
                    rest[k] = gradients[at + k]
                a, b, c, d = load(rest, 0), load(rest, lane), load(rest, 2 * lane), load(rest, 3 * lane)
            for q in range(start[r], start[r + 1]):
                at = base + index[q] * width
                if value is None:
                    store(total, at, add(load(total, at), a))
                    store(total, at + lane, add(load(total, at + lane), b))
                    store(total, at + 2 * lane, add(load(total, at + 2 * lane), c))
                    store(total, at + 3 * lane, add(load(total, at + 3 * lane), d))
                else:
                    store(total, at, add(load(total, at), scale(a, value[q])))
                    store(total, at + lane, add(load(total, at + lane), scale(b, value[q])))
                    store(total, at + 2 * lane, add(load(total, at + 2 * lane), scale(c, value[q])))
                    store(total, at + 3 * lane, add(load(total, at + 3 * lane), scale(d, value[q])))
            at = base + inputs * width
            store(total, at, add(load(total, at), a))
            store(total, at + lane, add(load(total, at + lane), b))
            store(total, at + 2 * lane, add(load(total, at + 2 * lane), c))
            store(total, at + 3 * lane, add(load(total, at + 3 * lane), d))


@_jit
@no_type_check
def _unpack(sums, weight, bias, lo, hi):
    parts, width = sums.shape[0], sums.shape[3]
    outputs, inputs = weight.shape
    for block in range(lo, hi):
        for k in range(min(width, outputs - block * width)):
            o = block * width + k
            for i in range(inputs):
                total = sums[0, block, i, k]
                for part in range(1, parts):
                    total += sums[part, block, i, k]
                weight[o, i] = total
            total = sums[0, block, inputs, k]
            for part in range(1, parts):
                total += sums[part, block, inputs, k]
            bias[o] = total
