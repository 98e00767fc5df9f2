"""bfloat16 in kernels of the CPU, which has no arithmetic for it: 16 bits in memory, float32 in a register."""

from typing import no_type_check

import numpy as np
from numba import njit


@njit(nogil=True)
@no_type_check
def from_bfloat16(x):
    """A bfloat16 number, given as its bits, as a float32."""
    return np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)


@njit(nogil=True)
@no_type_check
def to_bfloat16(x):
    """The bits of a float32, rounded to the nearest bfloat16; to the even one of two."""
    bits = np.float32(x).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    return np.uint16(rounded) if x == x else np.uint16(0x7FC0)
