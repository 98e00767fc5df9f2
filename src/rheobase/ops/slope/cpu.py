"""The slope of a spike in numba, for kernels to call at every neuron and step.

Which of the shapes it is, is known when a kernel is compiled: what is left of `bump` is one formula, which becomes part of the
loop that calls it, in arithmetic that the compiler can turn into vector instructions.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from rheobase.surrogate import MultiGaussian

_SCALE, _CENTRE, _FLANK = MultiGaussian.SCALE, MultiGaussian.CENTRE, MultiGaussian.FLANK


# Taken into the kernel before it is compiled, where `shape` is known: only one of the branches exists.
@njit(inline="always")
@no_type_check
def bump(shape, double, z):
    """`f(z)`, the normalized derivative of a surrogate as in `rheobase.surrogate`.

    Args:
        shape: the name of the surrogate's class.
        double: whether `z` is a float64, else it is a float32.
        z: `sharpness * u`.
    """
    number = np.float64 if double else np.float32
    exp = np.exp if double else exp_of_negative
    if shape == "FastSigmoid":
        width = number(1) + number(2) * abs(z)
        f = number(1) / (width * width)
    elif shape == "Arctan":
        angle = number(np.pi) * z
        f = number(1) / (number(1) + angle * angle)
    elif shape == "Triangular":
        # `>=` is false of a NaN, which thereby stays one.
        f = number(0) if abs(z) >= number(1) else number(1) - abs(z)
    elif shape == "Rectangular":
        f = number(0) if abs(z) >= number(0.5) else number(1) + number(0) * z
    elif shape == "Exponential":
        f = exp(number(-2) * abs(z))
    elif shape == "Sigmoid":
        tail = exp(number(-4) * abs(z))
        f = number(4) * tail / ((number(1) + tail) * (number(1) + tail))
    elif shape == "Gaussian":
        f = exp(number(-np.pi) * (z * z))
    elif shape == "MultiGaussian":
        u = z * number(_SCALE)
        left, right = u + number(0.5), u - number(0.5)
        flanks = exp(number(-1 / 18) * (left * left)) + exp(number(-1 / 18) * (right * right))
        f = number(_CENTRE) * exp(number(-2) * (u * u)) - number(_FLANK) * flanks
    return f


@njit(nogil=True)
@no_type_check
def exp_of_negative(x):
    """`exp(x)` of a float32 `x <= 0`, to 2 units in the last place, in operations that the compiler can vectorize.

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
