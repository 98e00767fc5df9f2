"""Pooling of 2 x 2 on the CPU: a thread takes some of the maps."""

from collections.abc import Callable
from functools import cache
from typing import Any, no_type_check

import numpy as np
from numba import types
from torch import Tensor

from rheobase.ops import threads
from rheobase.ops.bfloat16 import from_bfloat16, to_bfloat16
from rheobase.ops.compiler import compiled
from rheobase.ops.lif.cpu import array, kernel_types, type_of


def average(x: Tensor, y: Tensor) -> None:
    """Write the mean of every window of 2 x 2 of `x (..., height, width)` to `y (..., height // 2, width // 2)`."""
    _run(_average_kernel(type_of(x)), x, y)


def spread(on_y: Tensor, on_x: Tensor) -> None:
    """Write a quarter of each value of `on_y` to its window of 2 x 2 in `on_x`, and 0 where there is none."""
    _run(_spread_kernel(type_of(on_y)), on_x, on_y)


def maximum(x: Tensor, y: Tensor, which: Tensor) -> None:
    """Write the largest of every window of 2 x 2 of `x` to `y`, and to `which` which of the four it is, row by row."""
    _run(_maximum_kernel(type_of(x)), x, y, which)


def route(on_y: Tensor, which: Tensor, on_x: Tensor) -> None:
    """Write each value of `on_y` to that one of its window of 2 x 2 in `on_x`, and 0 to all others."""
    _run(_route_kernel(type_of(on_y)), on_x, on_y, which)


def _run(kernel: Callable[..., None], large: Tensor, *small: Tensor) -> None:
    maps = [array(tensor.view(-1, *tensor.shape[-2:])) for tensor in (large, *small)]
    threads.split(lambda low, high: kernel(*maps, low, high), len(maps[0]), large.numel(), align=1)


# What is compiled takes no run-time check of annotations around it: hence `no_type_check`.
@cache
@no_type_check
def _average_kernel(type_of_x: str) -> Callable[..., None]:
    _, _, number = kernel_types(type_of_x)
    half, quarter = type_of_x == "bfloat16", number(0.25)

    def average_2x2(x, y, low, high):
        height, width = y.shape[1], y.shape[2]
        for image in range(low, high):
            for i in range(height):
                upper, lower, row = x[image, 2 * i], x[image, 2 * i + 1], y[image, i]
                for j in range(width):
                    a, b, c, d = upper[2 * j], upper[2 * j + 1], lower[2 * j], lower[2 * j + 1]
                    if half:
                        a, b, c, d = from_bfloat16(a), from_bfloat16(b), from_bfloat16(c), from_bfloat16(d)
                    mean = (a + b + c + d) * quarter
                    row[j] = to_bfloat16(mean) if half else mean

    return compiled(average_2x2, _signature(type_of_x), f"average_2x2_{type_of_x}")


@cache
@no_type_check
def _spread_kernel(type_of_x: str) -> Callable[..., None]:
    _, _, number = kernel_types(type_of_x)
    half, quarter = type_of_x == "bfloat16", number(0.25)
    zero = np.uint16(0) if half else number(0)

    def spread_2x2(on_x, on_y, low, high):
        height, width = on_y.shape[1], on_y.shape[2]
        for image in range(low, high):
            for i in range(2 * height):
                row, given = on_x[image, i], on_y[image, i // 2]
                for j in range(width):
                    value = to_bfloat16(from_bfloat16(given[j]) * quarter) if half else given[j] * quarter
                    row[2 * j] = value
                    row[2 * j + 1] = value
                if on_x.shape[2] > 2 * width:
                    row[2 * width] = zero
            if on_x.shape[1] > 2 * height:
                on_x[image, 2 * height, :] = zero

    return compiled(spread_2x2, _signature(type_of_x), f"spread_2x2_{type_of_x}")


@cache
@no_type_check
def _maximum_kernel(type_of_x: str) -> Callable[..., None]:
    half = type_of_x == "bfloat16"

    def maximum_2x2(x, y, which, low, high):
        height, width = y.shape[1], y.shape[2]
        for image in range(low, high):
            for i in range(height):
                upper, lower, row, places = x[image, 2 * i], x[image, 2 * i + 1], y[image, i], which[image, i]
                for j in range(width):
                    a, b, c, d = upper[2 * j], upper[2 * j + 1], lower[2 * j], lower[2 * j + 1]
                    if half:
                        a, b, c, d = from_bfloat16(a), from_bfloat16(b), from_bfloat16(c), from_bfloat16(d)
                    # A NaN is larger than all before it. Comparisons, not branches: they become vector instructions.
                    second = (b > a) | (b != b)
                    most, place = b if second else a, np.uint8(second)
                    third = (c > most) | (c != c)
                    most, place = c if third else most, np.uint8(2) if third else place
                    fourth = (d > most) | (d != d)
                    most, place = d if fourth else most, np.uint8(3) if fourth else place
                    row[j] = to_bfloat16(most) if half else most
                    places[j] = place

    return compiled(maximum_2x2, _signature(type_of_x, 1), f"maximum_2x2_{type_of_x}")


@cache
@no_type_check
def _route_kernel(type_of_x: str) -> Callable[..., None]:
    _, _, number = kernel_types(type_of_x)
    zero = np.uint16(0) if type_of_x == "bfloat16" else number(0)

    def route_2x2(on_x, on_y, which, low, high):
        height, width = on_y.shape[1], on_y.shape[2]
        for image in range(low, high):
            for i in range(height):
                upper, lower, given, places = (
                    on_x[image, 2 * i],
                    on_x[image, 2 * i + 1],
                    on_y[image, i],
                    which[image, i],
                )
                for j in range(width):
                    value, place = given[j], places[j]
                    upper[2 * j] = value if place == 0 else zero
                    upper[2 * j + 1] = value if place == 1 else zero
                    lower[2 * j] = value if place == 2 else zero
                    lower[2 * j + 1] = value if place == 3 else zero
                if on_x.shape[2] > 2 * width:
                    upper[2 * width] = zero
                    lower[2 * width] = zero
            if on_x.shape[1] > 2 * height:
                on_x[image, 2 * height, :] = zero

    return compiled(route_2x2, _signature(type_of_x, 1), f"route_2x2_{type_of_x}")


def _signature(type_of_x: str, places: int = 0) -> Any:
    sequence, _, _ = kernel_types(type_of_x)
    maps = sequence[:, :, ::1]
    return types.void(maps, maps, *[types.uint8[:, :, ::1]] * places, types.intp, types.intp)
