"""Sums over spike lists on the CPU, in place of products with mostly zeros.

A row of the output is the bias plus those columns of the weight that its spikes name: `d * I` of them at a density d, instead
of I. The gradient of the weight is such a sum too, once the lists are turned around: for each input, the rows in which it
spiked name the rows of the output's gradient to be added up. What makes this fast:

- Outputs are treated in blocks of up to 512 bytes of numbers, 128 in float32, whose sums stay in registers. The weights of a
  block lie together, `(I + 1, width)`, and stay in the cache; the last row is the bias, as of an input that always fires.
- For the gradient, lists are turned around by groups of rows, whose gradients stay in the cache. (Adding each row of the
  gradient to the sums that its spikes name needs no turning, but a sum must be stored before it is loaded for the next row,
  and waiting for that cost a factor of 1 to 3, at random, in measurements.)
- No result depends on the number of threads: they share rows in the forward pass, and in the backward pass blocks of outputs
  and parts of the rows, as many as the shapes say, which are added in order.
"""

from functools import cache, partial
from typing import Any, no_type_check

import numpy as np
import torch
from numba import njit, types
from torch import Tensor

from rheobase.ops import memory, threads
from rheobase.ops.compiler import compiled
from rheobase.ops.linear.lists import GROUP, SpikeLists, array, arrays, turn, type_of
from rheobase.ops.simd import add, load, scale, store

_WIDEST = 512
"""Bytes of a block's sums: 8 registers of 64 bytes, or all 16 of 32."""

_PARTS = 4
"""How many threads have something to do in the backward pass, at least: blocks of outputs times parts of the rows."""


def forward(lists: SpikeLists, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`x @ weight.T + bias` for the spikes in the lists: `(R, O)` from `weight (O, I)` and `bias (O,)`."""
    rows, outputs, number = len(lists.start) - 1, len(weight), type_of(weight)
    blocks = pack(weight, bias)
    width = blocks.shape[2]
    y = memory.empty((rows, outputs), weight.dtype)
    taken = arrays(lists.start, lists.index, lists.value, array(y).dtype)
    gather = partial(_gather_kernel(number, width, lists.value is not None), *taken, array(blocks), array(y))
    threads.split(gather, rows, len(lists.index) * outputs)
    return y


def weight_gradient(lists: SpikeLists, on_y: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of weight, `(O, I)`, and bias, `(O,)`, from that of the output, `(R, O)`."""
    (rows, outputs), dtype, number = on_y.shape, on_y.dtype, type_of(on_y)
    width = block_width(outputs, dtype)
    blocks = -(-outputs // width)
    parts = max(1, min(-(-_PARTS // max(blocks, 1)), rows // (2 * GROUP)))
    turned = turn(lists, dtype)
    sums = memory.empty((parts, blocks, lists.inputs + 1, width), dtype)
    taken = arrays(turned.start, turned.row, turned.value, array(sums).dtype)
    gather = partial(_gradient_kernel(number, width, turned.value is not None), *taken, array(on_y), array(sums))
    threads.split(gather, parts * blocks, len(turned.row) * outputs, align=1)
    return unpack(sums, outputs)


def pack(weight: Tensor, bias: Tensor | None) -> Tensor:
    """Weight `(O, I)` and bias `(O,)` by blocks of outputs, `(blocks, I + 1, width)`, the last one filled up with zeros."""
    outputs, inputs = weight.shape
    width = block_width(outputs, weight.dtype)
    blocks = memory.empty((-(-outputs // width), inputs + 1, width), weight.dtype)
    with_bias = weight.new_zeros(outputs) if bias is None else bias
    kernel = partial(_pack_kernel(type_of(weight)), array(weight), array(with_bias), array(blocks))
    threads.split(kernel, len(blocks), blocks.numel(), align=1)
    return blocks


def unpack(sums: Tensor, outputs: int) -> tuple[Tensor, Tensor]:
    """The gradients of weight, `(O, I)`, and bias, `(O,)`, from sums by parts and blocks, `(parts, blocks, I + 1, width)`."""
    blocks, inputs = sums.shape[1], sums.shape[2] - 1
    on_weight, on_bias = memory.empty((outputs, inputs), sums.dtype), memory.empty((outputs,), sums.dtype)
    kernel = partial(_unpack_kernel(type_of(sums)), array(sums), array(on_weight), array(on_bias))
    threads.split(kernel, blocks, sums.numel(), align=1)
    return on_weight, on_bias


def block_width(outputs: int, dtype: torch.dtype) -> int:
    """How many outputs make a block: as many as registers hold, or a quarter if they would mostly be empty."""
    wide = _WIDEST // dtype.itemsize
    narrow = wide // 4
    return wide if -(-outputs // wide) * wide <= 1.3 * -(-outputs // narrow) * narrow else narrow


# What is compiled takes no run-time check of annotations around it: hence `no_type_check` on what makes kernels.
@cache
@no_type_check
def _pack_kernel(number: str) -> Any:
    def pack_blocks(weight, bias, blocks, low, high):
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

    kind = getattr(types, number)
    signature = types.void(kind[:, ::1], kind[::1], kind[:, :, ::1], types.intp, types.intp)
    return compiled(pack_blocks, signature, f"pack_{number}")


@njit(inline="always")
@no_type_check
def add_listed(total, numbers, base, step, index, value, first, last, width, weighted):
    """Add to a vector the rows of `numbers` that entries `first` to `last` of a list name, `step` numbers apart."""
    for q in range(first, last):
        term = load(numbers, base + index[q] * step, width)
        if weighted:
            term = scale(term, value[q])
        total = add(total, term)
    return total


@cache
@no_type_check
def _gather_kernel(number: str, width: int, weighted: bool) -> Any:
    """The forward pass: rows of the output."""

    def gather(start, index, value, blocks, y, low, high):
        outputs = y.shape[1]
        weights, out = blocks.reshape(-1), y.reshape(-1)
        size = blocks.shape[1] * width
        last = np.empty(width, y.dtype)
        for first in range(low, high, GROUP):
            for block in range(blocks.shape[0]):
                base, used = block * size, min(width, outputs - block * width)
                for r in range(first, min(first + GROUP, high)):
                    total = load(weights, base + size - width, width)
                    total = add_listed(
                        total, weights, base, width, index, value, start[r], start[r + 1], width, weighted
                    )
                    at = r * outputs + block * width
                    if used == width:
                        store(out, at, total)
                    else:
                        store(last, 0, total)
                        for k in range(used):
                            out[at + k] = last[k]

    kind = getattr(types, number)
    lists = types.int64[::1], types.uint32[::1], kind[::1]
    signature = types.void(*lists, kind[:, :, ::1], kind[:, ::1], types.intp, types.intp)
    return compiled(gather, signature, f"gather_{number}_{width}_{weighted:d}")


@cache
@no_type_check
def _gradient_kernel(number: str, width: int, weighted: bool) -> Any:
    """The backward pass: sums, each for a part of the rows, a block of outputs, and an input or (the last) the bias."""

    def gather_gradient(start, row, value, on_y, sums, low, high):
        rows, outputs = on_y.shape
        groups, inputs = start.shape[0], start.shape[1] - 1
        parts, blocks = sums.shape[0], sums.shape[1]
        total, size = sums.reshape(-1), (inputs + 1) * width
        gradients, last = on_y.reshape(-1), np.zeros(GROUP * width, on_y.dtype)
        for at in range(low * size, high * size):
            total[at] = 0
        for part in range(low // blocks, -(-high // blocks)):
            for group in range(groups * part // parts, groups * (part + 1) // parts):
                first = group * GROUP
                count = min(GROUP, rows - first)
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
                            first_entry, last_entry = start[group, i], start[group, i + 1]
                            result = add_listed(
                                result, source, begin, step, row, value, first_entry, last_entry, width, weighted
                            )
                            store(total, base + i * width, result)
                    result = load(total, base + inputs * width, width)
                    for r in range(count):
                        result = add(result, load(source, begin + r * step, width))
                    store(total, base + inputs * width, result)

    kind = getattr(types, number)
    lists = types.int64[:, ::1], types.uint32[::1], kind[::1]
    signature = types.void(*lists, kind[:, ::1], kind[:, :, :, ::1], types.intp, types.intp)
    return compiled(gather_gradient, signature, f"gather_gradient_{number}_{width}_{weighted:d}")


@cache
@no_type_check
def _unpack_kernel(number: str) -> Any:
    def unpack_blocks(sums, weight, bias, low, high):
        parts, width = sums.shape[0], sums.shape[3]
        outputs, inputs = weight.shape
        for block in range(low, high):
            for part in range(1, parts):
                for i in range(inputs + 1):
                    for k in range(width):
                        sums[0, block, i, k] += sums[part, block, i, k]
            for k in range(min(width, outputs - block * width)):
                for i in range(inputs):
                    weight[block * width + k, i] = sums[0, block, i, k]
                bias[block * width + k] = sums[0, block, inputs, k]

    kind = getattr(types, number)
    signature = types.void(kind[:, :, :, ::1], kind[:, ::1], kind[::1], types.intp, types.intp)
    return compiled(unpack_blocks, signature, f"unpack_{number}")
