"""Counter-based noise in Triton, for kernels to call; see `rheobase.ops.noise`."""

from typing import no_type_check

import triton
import triton.language as tl

from rheobase.ops.noise import LN2, MULTIPLIERS, ROUNDS, SERIES, WEYL

_MULTIPLIER_A, _MULTIPLIER_C = (tl.constexpr(number) for number in MULTIPLIERS)
_WEYL_FIRST, _WEYL_SECOND = (tl.constexpr(number) for number in WEYL)
_ROUNDS = tl.constexpr(ROUNDS)
_LN2 = tl.constexpr(LN2)
_SERIES = tl.constexpr(SERIES)
_TERMS = tl.constexpr(len(SERIES))


@triton.jit
@no_type_check
def random_word(step, lane, seed):
    """The random words of a block of lanes at a step, uint32.

    All four words of the step's group are computed and one is kept: there is arithmetic to spare, and registers are not.

    Args:
        step: the number of the step, an int64.
        lane: the numbers of the lanes.
        seed: an int64.
    """
    a = (lane * 0 + (step >> 2)).to(tl.uint32)
    b = lane.to(tl.uint32)
    c = b & 0
    d = c
    first = seed.to(tl.uint32)
    second = (seed >> 32).to(tl.uint32)
    for _ in tl.static_range(_ROUNDS):
        with_a = a.to(tl.uint64) * _MULTIPLIER_A
        with_c = c.to(tl.uint64) * _MULTIPLIER_C
        a = (with_c >> 32).to(tl.uint32) ^ b ^ first
        b = with_c.to(tl.uint32)
        c = (with_a >> 32).to(tl.uint32) ^ d ^ second
        d = with_a.to(tl.uint32)
        first = (first.to(tl.uint64) + _WEYL_FIRST).to(tl.uint32)
        second = (second.to(tl.uint64) + _WEYL_SECOND).to(tl.uint32)
    word = step & 3
    return tl.where(word < 2, tl.where(word == 0, a, b), tl.where(word == 2, c, d))


@triton.jit
@no_type_check
def logistic(word):
    """Noise with the standard logistic distribution, float32, from random words, uint32."""
    w = ((word & 0x7FFFFFFF).to(tl.int32).to(tl.float32) + 0.5) * 2.3283064365386963e-10
    bits = w.to(tl.int32, bitcast=True)
    e = ((bits >> 23) - 126).to(tl.float32)
    m = ((bits & 0x7FFFFF) | 0x3F000000).to(tl.float32, bitcast=True)
    rest = 1.0 - w
    s = tl.div_rn(rest - m, rest + m)  # `/` may be off by two units in the last place
    square = s * s
    series = s * 0.0 + _SERIES[0]
    for k in tl.static_range(1, _TERMS):
        series = series * square + _SERIES[k]
    noise = (s + s) * series - e * _LN2
    return tl.where(word < 0x80000000, noise, -noise)
