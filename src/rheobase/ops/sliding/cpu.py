"""Sliding sums on the CPU: a strip of neurons at a time, whose recent steps are in the fastest cache.

Rows of a sequence lie so far apart in memory that the K of them which a step sees push one another out of the cache. So each is
copied once, into a small memory of its own strip, and from there it is read K times.
"""

# What is compiled takes no run-time check of annotations around it: hence `no_type_check` on what makes kernels.

from collections.abc import Callable
from functools import cache, partial
from typing import no_type_check

import numpy as np
import torch
from numba import njit, types
from torch import Tensor

from rheobase.ops import memory, threads
from rheobase.ops.compiler import compiled
from rheobase.ops.linear.lists import array, type_of
from rheobase.ops.simd import add_product, add_scaled, load, store

_STRIP = 256
"""Bytes of a step that are computed together."""

_CHUNK = 64
"""Steps that are copied at a time."""

_SUMS = 4
"""Weights whose gradients are summed together, in registers."""


def slid(weight: Tensor, seen: Tensor, beyond: int = 0) -> Tensor:
    """`h[t] = sum_k weight[k] * seen[t + k]`, as `rheobase.ops.sliding.reference.slid`; each sum in the order of k.

    Args:
        weight: `(K,)`, float32 or float64.
        seen: `(S, M)`.
        beyond: the number of rows of zeros added at both ends.
    """
    rows, lanes = seen.shape
    h = memory.empty((rows + 2 * beyond - len(weight) + 1, lanes), seen.dtype)
    width = _STRIP // seen.dtype.itemsize
    kernel = partial(_slide_kernel(type_of(seen), width), array(weight), array(seen), array(h), beyond)
    threads.split(kernel, -(-lanes // width), h.numel() * len(weight) // 8, align=1)
    return h


def on_weight(weight: Tensor, seen: Tensor, on_h: Tensor) -> Tensor:
    """`sum_t on_h[t] . seen[t + k]` for every k, as `rheobase.ops.sliding.reference.on_weight`.

    Args:
        weight: `(K,)`, float32 or float64.
        seen: `(S, M)`.
        on_h: `(S - K + 1, M)`.
    """
    lanes, width = seen.shape[1], _STRIP // seen.dtype.itemsize
    strips = -(-lanes // width)
    sums = np.zeros((strips, -(-len(weight) // _SUMS) * _SUMS))
    kernel = partial(_sums_kernel(type_of(seen), width), array(seen), array(on_h), sums)
    threads.split(kernel, strips, on_h.numel() * len(weight) // 8, align=1)
    return torch.from_numpy(sums.sum(0)[: len(weight)]).to(weight.dtype)


# Taken into the kernels before they are compiled.
@njit(inline="always")
@no_type_check
def _copy(source, rows, lanes, first, last, at, target, to, nothing, width):
    """Rows `first` to `last` of a strip, one behind the other, to row `to` of `target`; zeros for what there is not."""
    for row in range(first, last):
        place = (to + row - first) * width
        if row < 0 or row >= rows:
            store(target, place, load(nothing, 0, width))
        elif at + width <= lanes:
            store(target, place, load(source, row * lanes + at, width))
        else:
            store(target, place, load(nothing, 0, width))
            for j in range(lanes - at):
                target[place + j] = source[row * lanes + at + j]


@cache
@no_type_check
def _slide_kernel(number: str, width: int) -> Callable[..., None]:
    """The compiled sums, over strips."""
    kind, real = getattr(types, number), np.dtype(number).type

    def slide(weight, seen, h, beyond, low, high):
        (steps, lanes), (rows, _), order = h.shape, seen.shape, len(weight)
        source, flat, recent = seen.reshape(-1), h.reshape(-1), np.empty((_CHUNK + order - 1) * width, real)
        rest, nothing = np.empty(width, real), np.zeros(width, real)
        for strip in range(low, high):
            at, kept = strip * width, 0
            own = min(width, lanes - at)
            for begin in range(0, steps, _CHUNK):
                end = min(begin + _CHUNK, steps)
                # What the last chunk saw in addition to its own steps comes first.
                _copy(recent, kept + _CHUNK, width, _CHUNK, _CHUNK + kept, 0, recent, 0, nothing, width)
                _copy(
                    source,
                    rows,
                    lanes,
                    begin + kept - beyond,
                    end + order - 1 - beyond,
                    at,
                    recent,
                    kept,
                    nothing,
                    width,
                )
                kept = order - 1
                for t in range(begin, end):
                    total = load(nothing, 0, width)
                    for k in range(order):
                        total = add_scaled(total, load(recent, (t - begin + k) * width, width), weight[k])
                    if own == width:
                        store(flat, t * lanes + at, total)
                    else:
                        store(rest, 0, total)
                        for j in range(own):
                            flat[t * lanes + at + j] = rest[j]

    signature = types.void(kind[::1], kind[:, ::1], kind[:, ::1], types.intp, types.intp, types.intp)
    return compiled(slide, signature, f"slide_{number}_{width}")


@cache
@no_type_check
def _sums_kernel(number: str, width: int) -> Callable[..., None]:
    """The compiled gradient of the weights, over strips; sums of chunks in float64."""
    kind, real = getattr(types, number), np.dtype(number).type

    def slide_sums(seen, on_h, sums, low, high):
        (steps, lanes), rows, order = on_h.shape, len(seen), sums.shape[1]
        source, on_steps = seen.reshape(-1), on_h.reshape(-1)
        recent, given = np.empty((_CHUNK + order - 1) * width, real), np.empty(_CHUNK * width, real)
        found, nothing = np.empty(_SUMS * width, real), np.zeros(width, real)
        for strip in range(low, high):
            at = strip * width
            for begin in range(0, steps, _CHUNK):
                end = min(begin + _CHUNK, steps)
                _copy(source, rows, lanes, begin, end + order - 1, at, recent, 0, nothing, width)
                _copy(on_steps, steps, lanes, begin, end, at, given, 0, nothing, width)
                for k in range(0, order, _SUMS):
                    sum_0 = sum_1 = sum_2 = sum_3 = load(nothing, 0, width)
                    for t in range(end - begin):
                        on_step, row = load(given, t * width, width), (t + k) * width
                        sum_0 = add_product(sum_0, on_step, load(recent, row, width))
                        sum_1 = add_product(sum_1, on_step, load(recent, row + width, width))
                        sum_2 = add_product(sum_2, on_step, load(recent, row + 2 * width, width))
                        sum_3 = add_product(sum_3, on_step, load(recent, row + 3 * width, width))
                    store(found, 0, sum_0)
                    store(found, width, sum_1)
                    store(found, 2 * width, sum_2)
                    store(found, 3 * width, sum_3)
                    for i in range(_SUMS):
                        total = 0.0
                        for j in range(width):
                            total += found[i * width + j]
                        sums[strip, k + i] += total

    signature = types.void(kind[:, ::1], kind[:, ::1], types.float64[:, ::1], types.intp, types.intp)
    return compiled(slide_sums, signature, f"slide_sums_{number}_{width}")
