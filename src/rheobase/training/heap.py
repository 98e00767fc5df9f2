"""Memory freed by a training step, kept for the next.

The C library returns large freed blocks to the operating system, and requests new ones when needed. Training steps need the
same blocks again and again, and each time the system clears every page that is touched: where pages are expensive, as on
virtual machines, that costs as much as all arithmetic (a training epoch with convolutions: 103 of 205 seconds of processor
time). PyTorch caches GPU memory for the same reason; here the C library is told to keep that of the CPU.
"""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Names of glibc's settings, from malloc.h."""


def keep_freed_memory() -> bool:
    """Tell glibc, for the rest of this process, not to return freed memory to the operating system.

    The process then keeps its peak size, up to 2 GiB unused. `rheobase.fit` calls this.

    Returns:
        Whether glibc is in use: on Linux, most of the time.

    Example:
        >>> keep_freed_memory() or platform.libc_ver()[0] != "glibc"
        True
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    most = 2**31 - 1
    library.mallopt(_TRIM_THRESHOLD, most)
    # Older versions refuse a threshold above 32 MiB. Having no mappings at all is the same, except for blocks above 2 GiB.
    return bool(library.mallopt(_MMAP_THRESHOLD, most) or library.mallopt(_MMAP_MAX, 0))
