"""Splitting a kernel over threads: as many as PyTorch may use, and only where it pays.

Kernels run over neurons that do not depend on one another, so that any split gives the same numbers. They let go of Python's
lock while they run. The threads are Python's own and a kernel is one call each, because a second OpenMP beside PyTorch's would
bring a second set of threads that wait by spinning, and does not survive a fork.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise

import torch

_WORTH_A_THREAD = 1 << 17
"""Handing a slice to another thread takes about 20 microseconds, in which one thread gets through this many elements."""


def split(kernel: Callable[[int, int], object], count: int, work: int, align: int = 16) -> None:
    """Run `kernel(low, high)` over slices of `range(count)` that cover it, on several threads if that pays.

    Args:
        kernel: what to run; it writes its results somewhere, and releases Python's lock.
        count: how many independent parts there are.
        work: how many elements are touched in all; a thread gets no fewer than about 130,000.
        align: slices start at multiples of this, so that no two threads write to the same cache line.

    Raises:
        Exception: whatever `kernel` raises.

    Example:
        >>> seen = []
        >>> split(lambda low, high: seen.append((low, high)), count=10, work=10)
        >>> seen
        [(0, 10)]
    """
    threads = min(torch.get_num_threads(), work // _WORTH_A_THREAD, -(-count // align))
    if threads <= 1:
        kernel(0, count)
        return
    bounds = [min(count, -(-(count * part) // (threads * align)) * align) for part in range(threads + 1)]
    # The last slice is for the thread that asks: it works instead of waiting.
    try:
        others = [_workers().submit(kernel, *slice) for slice in pairwise(bounds[:-1])]
    except RuntimeError:  # the program has ended but for this thread, and Python's pools take no more work
        kernel(0, count)
        return
    try:
        kernel(bounds[-2], bounds[-1])
    finally:
        for other in others:
            other.result()


@cache
def _workers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="rheobase")  # started one by one, as they are needed


if hasattr(os, "register_at_fork"):  # a forked process has none of these threads
    os.register_at_fork(after_in_child=_workers.cache_clear)
