"""The slope of a spike in Triton, for kernels to call at every neuron and step."""

from typing import no_type_check

import triton
import triton.language as tl

from rheobase.surrogate import MultiGaussian

_SCALE, _CENTRE, _FLANK = (
    tl.constexpr(number) for number in (MultiGaussian.SCALE, MultiGaussian.CENTRE, MultiGaussian.FLANK)
)


@triton.jit
@no_type_check
def bump(z, SHAPE: tl.constexpr):
    """The surrogate's normalized derivative, as in `rheobase.surrogate`."""
    if SHAPE == "FastSigmoid":
        width = 1.0 + 2.0 * tl.abs(z)
        f = 1.0 / (width * width)
    elif SHAPE == "Arctan":
        angle = 3.141592653589793 * z
        f = 1.0 / (1.0 + angle * angle)
    elif SHAPE == "Triangular":
        height = 1.0 - tl.abs(z)
        f = tl.where(height < 0.0, 0.0, height)  # not tl.maximum, which drops NaN
    elif SHAPE == "Rectangular":
        f = tl.where(tl.abs(z) >= 0.5, 0.0, 1.0 + 0.0 * z)  # NaN stays one
    elif SHAPE == "Exponential":
        f = tl.exp(-2.0 * tl.abs(z))
    elif SHAPE == "Sigmoid":
        tail = tl.exp(-4.0 * tl.abs(z))
        f = 4.0 * tail / ((1.0 + tail) * (1.0 + tail))
    elif SHAPE == "Gaussian":
        f = tl.exp(-3.141592653589793 * (z * z))
    else:
        tl.static_assert(SHAPE == "MultiGaussian")
        u = _SCALE * z
        left, right = u + 0.5, u - 0.5
        flanks = tl.exp(left * left / -18.0) + tl.exp(right * right / -18.0)
        f = _CENTRE * tl.exp(-2.0 * (u * u)) - _FLANK * flanks
    return f
