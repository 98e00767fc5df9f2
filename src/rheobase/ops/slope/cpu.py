"""The slope of a spike in numba, for kernels to call at every neuron and step.

Which of the shapes it is, is known when a kernel is compiled: `slope` is one function for each of them, small enough to become
part of the loop that calls it, and arithmetic that the compiler can turn into vector instructions.
"""

from collections.abc import Callable
from typing import Any, no_type_check

import numpy as np
from numba import njit, types
from numba.extending import overload

# What is compiled takes no run-time check of annotations around it: hence `no_type_check`.


@no_type_check
def slope(shape, u, dampening, sharpness):
    """`dampening * f(sharpness * u)` in a kernel, where `shape` is the name of a class of `rheobase.surrogate`."""
    raise NotImplementedError("it is compiled into kernels")


# numba's own check of the signature would meet jaxtyping's wrapper around it.
@overload(slope, strict=False, prefer_literal=True)
@no_type_check
def _(shape: Any, u: Any, dampening: Any, sharpness: Any) -> Callable[..., Any]:
    double = u == types.float64
    number = np.float64 if double else np.float32
    zero, one, two, pi = number(0), number(1), number(2), number(np.pi)

    def fast_sigmoid(shape, u, dampening, sharpness):
        w = one + two * abs(sharpness * u)
        return dampening / (w * w)

    def arctan(shape, u, dampening, sharpness):
        w = pi * abs(sharpness * u)
        return dampening / (one + w * w)

    def triangular(shape, u, dampening, sharpness):
        w = abs(sharpness * u)
        # `w >= one` is false of a NaN, which thereby stays one.
        return dampening * (zero if w >= one else one - w)

    def exponential(shape, u, dampening, sharpness):
        w = -two * abs(sharpness * u)
        return dampening * (np.exp(w) if double else _exp(w))

    def gaussian(shape, u, dampening, sharpness):
        w = sharpness * u
        w = -(pi * (w * w))
        return dampening * (np.exp(w) if double else _exp(w))

    return {
        "FastSigmoid": fast_sigmoid,
        "Arctan": arctan,
        "Triangular": triangular,
        "Exponential": exponential,
        "Gaussian": gaussian,
    }[shape.literal_value]


@njit(nogil=True)
@no_type_check
def _exp(x):
    """`exp(x)` of a float32 `x <= 0`, to 2 units in the last place, in operations that the compiler can vectorise.

    Below -87 it is 0: what is left there is close to the smallest number of full precision, 1e-38.

    exp(x) = 2^n exp(r), n = round(x / ln 2), r in [-ln 2 / 2, ln 2 / 2]; ln 2 is taken away in two parts, the first with few
    enough digits to make the difference exact. exp(r) is its Taylor polynomial, 2^n is written into the exponent's bits.
    """
    zero, one = np.float32(0), np.float32(1)
    vanishes = x < np.float32(-87)  # false of a NaN, which min and max would drop
    clamped = np.float32(-87) if vanishes else x
    n = np.floor(clamped * np.float32(1.4426950408889634) + np.float32(0.5))
    r = (clamped - n * np.float32(0.693359375)) - n * np.float32(-2.12194440e-4)
    p = np.float32(1 / 5040)
    for coefficient in (1 / 720, 1 / 120, 1 / 24, 1 / 6, 1 / 2):
        p = p * r + np.float32(coefficient)
    p = (p * r + one) * r + one
    return zero if vanishes else p * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
