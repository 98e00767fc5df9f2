"""Convolutions of spike lists on the CPU: every entry that is not zero adds its block of weights to a window of the output.

An image at a time, the sums of its outputs lie in the cache with the outputs side by side, so that a row of a window is one run
of numbers, and so is the row of weights that is added to it. When all entries are through, sums are turned into the layout of
PyTorch, outputs first. For the gradient of the weight the image's gradient is turned the other way, and each channel adds up
the windows of its entries, in registers.

At a density d this is d times the arithmetic of a dense convolution. No result depends on the number of threads: images are
shared out in the forward pass, and in the backward pass parts of them, as many as the shapes say, which are added in order.
"""

from functools import cache, partial
from typing import Any, no_type_check

import numpy as np
import torch
from numba import types
from torch import Tensor

from rheobase.ops import memory, threads
from rheobase.ops.compiler import compiled
from rheobase.ops.convolution.geometry import Geometry
from rheobase.ops.linear.lists import SpikeLists, array, arrays, type_of
from rheobase.ops.simd import add, load, scale, store

_WIDEST = 512
"""Bytes of a vector: 8 registers of 64 bytes, or all 16 of 32."""

_PARTS = 4
"""Parts of the images in the backward pass: the number of threads with work."""

_IMAGES = 16
"""Images of a part, at least."""

_EXACT = 64
"""Images whose sums may be in float32 before they join those of all others in float64."""


def forward(lists: SpikeLists, weight: Tensor, bias: Tensor | None, shape: Geometry) -> Tensor:
    """The convolution `(R, outputs, height, width)` of the R images in the lists."""
    images = len(lists.start) - 1
    packed = shape.pack(weight)
    y = memory.empty((images, shape.outputs, *shape.size), weight.dtype)
    with_bias = array(weight.new_zeros(shape.outputs) if bias is None else bias)
    width = _width(packed)
    kernel = _scatter_kernel(type_of(weight), width, lists.value is not None)
    taken = arrays(lists.start, lists.index, lists.value, array(y).dtype)
    scatter = partial(kernel, *taken, *shape.places, array(packed), with_bias, array(y), shape.channels)
    threads.split(scatter, images, y.numel() + len(lists.index) * packed[0, 0].numel() * len(packed), align=1)
    return y


def gradients(lists: SpikeLists, on_y: Tensor, shape: Geometry) -> tuple[Tensor, Tensor]:
    """The gradients of the weight, `(outputs, channels, *kernel)`, and of the bias, from that of the output."""
    images, number = len(on_y), type_of(on_y)
    block, (rows, columns) = shape.block(on_y.element_size()), shape.window
    blocks = -(-shape.outputs // block)
    parts = max(1, min(_PARTS, images // _IMAGES))
    slabs = memory.empty((parts, blocks, shape.classes * shape.channels, rows, columns * block), on_y.dtype)
    # Sums of many images, of like sign, would not be exact in float32.
    on_weight, on_bias = np.zeros((parts, slabs[0].numel())), np.zeros((parts, blocks * block))
    kernel = _gather_kernel(number, _width(slabs[0]), lists.value is not None)
    taken = arrays(lists.start, lists.index, lists.value, array(on_y).dtype)
    gather = partial(kernel, *taken, *shape.places, array(on_y), array(slabs), on_weight, on_bias, shape.classes)
    threads.split(gather, parts, on_y.numel() + len(lists.index) * slabs[0, 0, 0].numel() * blocks, align=1)
    total = torch.from_numpy(on_weight.sum(0)).to(on_y.dtype).view(slabs.shape[1:])
    return shape.unpack(total), torch.from_numpy(on_bias.sum(0)[: shape.outputs]).to(on_y.dtype)


def _width(packed: Tensor) -> int:
    """The longest vector of which a row of weights is made: a power of 2, into which the compiler divides best."""
    width = _WIDEST // packed.element_size()
    while packed.shape[-1] % width:
        width //= 2
    return width


# What is compiled takes no run-time check of annotations around it: hence `no_type_check` on what makes kernels.
@cache
@no_type_check
def _scatter_kernel(number: str, width: int, weighted: bool) -> Any:
    """The forward pass, over images."""

    def scatter(start, index, value, spot, kinds, extents, packed, bias, y, channels, low, high):
        _, outputs, height, wide = y.shape
        blocks, slabs, rows, run = packed.shape
        columns, row, size = extents[1], extents[3], len(spot)  # entries of a channel
        block = run // columns
        weights, tile = packed.reshape(-1), np.empty(extents[2] * row * block, y.dtype)
        corner = (rows - 1) * row + columns - 1
        for image in range(low, high):
            for part in range(blocks):
                tile[:] = 0
                base, channel, end = part * slabs * rows * run, 0, size
                for q in range(start[image], start[image + 1]):
                    while index[q] >= end:
                        channel, end = channel + 1, end + size
                    place = index[q] - (end - size)
                    target, source = spot[place] * block, base + (kinds[place] * channels + channel) * rows * run
                    for r in range(rows):
                        for k in range(0, run, width):
                            term = load(weights, source + r * run + k, width)
                            if weighted:
                                term = scale(term, value[q])
                            at = target + r * row * block + k
                            store(tile, at, add(load(tile, at, width), term))
                first = part * block
                for o in range(min(block, outputs - first)):
                    shift = bias[first + o]
                    for i in range(height):
                        at = (corner + i * row) * block + o
                        for j in range(wide):
                            y[image, first + o, i, j] = tile[at + j * block] + shift

    kind = getattr(types, number)
    lists = types.int64[::1], types.uint32[::1], kind[::1]
    places = types.int32[::1], types.int32[::1], types.int64[::1]
    maps = kind[:, :, :, ::1], kind[::1], kind[:, :, :, ::1]
    signature = types.void(*lists, *places, *maps, types.intp, types.intp, types.intp)
    return compiled(scatter, signature, f"scatter_{number}_{width}_{weighted:d}")


@cache
@no_type_check
def _gather_kernel(number: str, width: int, weighted: bool) -> Any:
    """The backward pass, over parts of the images."""

    def gather(start, index, value, spot, kinds, extents, on_y, slabs, on_weight, on_bias, classes, low, high):
        images, outputs, height, wide = on_y.shape
        parts, blocks, count, rows, run = slabs.shape
        columns, row, size = extents[1], extents[3], len(spot)  # entries of a channel
        block, channels = run // columns, count // classes
        total, of_image = slabs.reshape(-1), np.empty(block, on_y.dtype)
        tile = np.zeros(extents[2] * row * block, on_y.dtype)
        places, values = np.empty(size, np.int64), np.empty(size, on_y.dtype)
        corner = (rows - 1) * row + columns - 1
        for part in range(low, high):
            begin_sums = part * blocks * count * rows * run
            end_sums = begin_sums + blocks * count * rows * run
            for at in range(begin_sums, end_sums):
                total[at] = 0
            last_image = images * (part + 1) // parts - 1
            for image in range(images * part // parts, last_image + 1):
                for piece in range(blocks):
                    first = piece * block
                    used = min(block, outputs - first)
                    for k in range(used, block):
                        for at in range(k, len(tile), block):
                            tile[at] = 0
                    of_image[:] = 0
                    for i in range(height):  # a row at a time, which stays in the cache
                        begin = (corner + i * row) * block
                        for o in range(used):
                            for j in range(wide):
                                tile[begin + j * block + o] = on_y[image, first + o, i, j]
                        for at in range(begin, begin + wide * block, block):
                            for o in range(used):
                                of_image[o] += tile[at + o]
                    for o in range(used):
                        on_bias[part, first + o] += of_image[o]
                    q, end = start[image], start[image + 1]
                    while q < end:
                        channel = index[q] // size
                        last = q
                        while last < end and index[last] < (channel + 1) * size:
                            last += 1
                        for kind in range(classes):
                            which, found = kind * channels + channel, 0
                            for p in range(q, last):
                                place = index[p] - channel * size
                                if kinds[place] == kind:
                                    places[found] = spot[place] * block
                                    if weighted:
                                        values[found] = value[p]
                                    found += 1
                            if found == 0:
                                continue
                            base = ((part * blocks + piece) * count + which) * rows * run
                            for r in range(rows):
                                for k in range(0, run, width):
                                    at, away = base + r * run + k, r * row * block + k
                                    result = load(total, at, width)
                                    for p in range(found):
                                        term = load(tile, places[p] + away, width)
                                        if weighted:
                                            term = scale(term, values[p])
                                        result = add(result, term)
                                    store(total, at, result)
                        q = last
                if image % _EXACT == _EXACT - 1 or image == last_image:
                    for at in range(begin_sums, end_sums):
                        on_weight[part, at - begin_sums] += total[at]
                        total[at] = 0

    kind = getattr(types, number)
    lists = types.int64[::1], types.uint32[::1], kind[::1]
    places = types.int32[::1], types.int32[::1], types.int64[::1]
    found = kind[:, :, :, ::1], kind[:, :, :, :, ::1], types.float64[:, ::1], types.float64[:, ::1], types.intp
    signature = types.void(*lists, *places, *found, types.intp, types.intp)
    return compiled(gather, signature, f"gather_windows_{number}_{width}_{weighted:d}")
