"""Memory that a training step has freed, kept for the next step.

The C library gives large blocks back to the operating system when they are freed, and takes new ones when they are wanted. The
steps of training want the same blocks again and again, and each time the system clears every page that is touched: where pages
are dear, as on virtual machines, that costs as much as all arithmetic (a training epoch with convolutions: 103 of 205 seconds
of processor time). PyTorch keeps the memory of a GPU for the same reason; here the C library is told to keep that of the CPU.
"""

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Names of glibc's settings, from malloc.h."""


def keep_freed_memory() -> bool:
    """Tell glibc, for the rest of this process, not to return freed memory to the operating system.

    The process then stays as large as it once was, up to 2 GiB that nothing uses. `rheobase.fit` calls this.

    Returns:
        Whether there is glibc to be told: on Linux, most of the time.

    Example:
        >>> keep_freed_memory() or platform.libc_ver()[0] != "glibc"
        True
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    most = 2**31 - 1
    library.mallopt(_TRIM_THRESHOLD, most)
    # Older versions refuse a threshold above 32 MiB. To have no mappings at all is the same, but for blocks above 2 GiB.
    return bool(library.mallopt(_MMAP_THRESHOLD, most) or library.mallopt(_MMAP_MAX, 0))
