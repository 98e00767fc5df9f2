"""Counter-based noise in numba, for kernels to call; see `rheobase.ops.noise`.

Both functions become part of the loop that calls them, which the compiler can turn into vector instructions only then.
"""

from typing import no_type_check

import numpy as np
from numba import njit

from rheobase.ops.noise import LN2, MULTIPLIERS, ROUNDS, SERIES, WEYL

_MULTIPLIER_A, _MULTIPLIER_C = MULTIPLIERS
_WEYL_FIRST, _WEYL_SECOND = WEYL


@njit(forceinline=True)
@no_type_check
def philox(group, lane, first, second):
    """The random words of four steps.

    Args:
        group: the number of the first of the steps, divided by four; an uint32, as all of them.
        lane: which lane it is.
        first: the low word of the seed.
        second: the high word of the seed.
    """
    a, b, c, d = np.uint32(group), np.uint32(lane), np.uint32(0), np.uint32(0)
    first, second = np.uint32(first), np.uint32(second)
    for _ in range(ROUNDS):
        with_a = np.uint64(a) * np.uint64(_MULTIPLIER_A)
        with_c = np.uint64(c) * np.uint64(_MULTIPLIER_C)
        a, b = np.uint32(np.uint32(with_c >> np.uint64(32)) ^ b ^ first), np.uint32(with_c)
        c, d = np.uint32(np.uint32(with_a >> np.uint64(32)) ^ d ^ second), np.uint32(with_a)
        first, second = np.uint32(first + np.uint32(_WEYL_FIRST)), np.uint32(second + np.uint32(_WEYL_SECOND))
    return a, b, c, d


@njit(forceinline=True)
@no_type_check
def logistic(word):
    """Noise with the standard logistic distribution, a float32, from a random word, an uint32."""
    word = np.uint32(word)
    w = (np.float32(np.int32(word & np.uint32(0x7FFFFFFF))) + np.float32(0.5)) * np.float32(2.0**-32)
    bits = np.float32(w).view(np.int32)
    e = np.float32(np.int32((bits >> np.int32(23)) - np.int32(126)))
    m = np.int32((bits & np.int32(0x7FFFFF)) | np.int32(0x3F000000)).view(np.float32)
    rest = np.float32(1) - w
    s = (rest - m) / (rest + m)
    square = s * s
    series = np.float32(SERIES[0])
    for k in range(1, len(SERIES)):
        series = series * square + np.float32(SERIES[k])
    noise = (s + s) * series - e * np.float32(LN2)
    return noise if word < np.uint32(0x80000000) else -noise
