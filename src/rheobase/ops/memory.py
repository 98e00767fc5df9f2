"""Memory for the outputs of kernels: fresh memory costs more than the arithmetic.

The operating system hands out memory page by page, and clears each page when it is first touched. A fresh tensor of 64 MiB is
16,000 page faults, which take longer than the neurons that fill it. Two things help, and neither asks the user to change a
setting. Large blocks ask for huge pages, of 2 MiB, so that there are 500 times fewer faults. And a block goes back to a pool
when the last tensor that uses it is gone, so that the next training step finds it already mapped, as on a GPU.

The pool never keeps more idle memory than kernels have used at one time; `release()` gives it all back.
"""

import contextlib
import math
import mmap
import os
import threading
import weakref
from collections import OrderedDict, deque

import numpy as np
import torch
from torch import Tensor

_HUGE_PAGE = 2 << 20
_SMALLEST = 1 << 20
"""Below a megabyte, the allocator of C already recycles."""


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Uninitialized memory on the CPU, `torch.empty(shape, dtype=dtype)`, but of recycled huge pages where it is large.

    Args:
        shape: the sizes of the tensor's axes.
        dtype: its type.

    Returns:
        A contiguous tensor that holds whatever was there before.

    Raises:
        MemoryError: if the operating system has no more, though all idle memory was given back to it.

    Example:
        >>> empty((1000, 32, 16), torch.float32).shape
        torch.Size([1000, 32, 16])
    """
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < _SMALLEST:
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(_pool.take(nbytes)).view(dtype).view(shape)


def zeros(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Zeros on the CPU, `torch.zeros(shape, dtype=dtype)`, in memory as `empty` gives it.

    Example:
        >>> zeros((2, 2), torch.float32)
        tensor([[0., 0.],
                [0., 0.]])
    """
    return empty(shape, dtype).zero_()


def release() -> None:
    """Give all idle memory back to the operating system.

    Example:
        >>> release()
        >>> idle_bytes()
        0
    """
    _pool.release()


def idle_bytes() -> int:
    """How much memory the pool keeps for the next tensor."""
    return _pool.idle_bytes()


class _Pool:
    """Blocks of whole huge pages; those that are idle wait, oldest first, under their size."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start again, as a forked process must: the lock may be held by a thread that it does not have."""
        self._lock = threading.Lock()
        self._idle: OrderedDict[int, mmap.mmap] = OrderedDict()  # by the block's identity; the oldest first
        # A block comes back wherever its last tensor dies: in any thread, even within `take`, when the garbage collector
        # happens to run there. So coming back takes no lock: it only joins this queue, which `take` empties.
        self._returned: deque[mmap.mmap] = deque()
        self._in_use = 0
        self._most_in_use = 0

    def take(self, nbytes: int) -> np.ndarray:
        """A block with room for `nbytes`, as that many bytes."""
        size = -(-nbytes // _HUGE_PAGE) * _HUGE_PAGE
        with self._lock:
            self._collect()
            # The one that came back last is the most likely to be in the cache still.
            key = next((key for key in reversed(self._idle) if len(self._idle[key]) == size), None)
            block = None if key is None else self._idle.pop(key)
            self._in_use += size
            self._most_in_use = max(self._most_in_use, self._in_use)
            self._trim()
        if block is None:
            block = self._new(size)
        array = np.frombuffer(block, np.uint8, nbytes)
        # A tensor keeps the array alive, and every view of the tensor keeps the tensor's storage alive.
        weakref.finalize(array, self._returned.append, block).atexit = False
        return array

    def _new(self, size: int) -> mmap.mmap:
        try:
            return _map(size)
        except OSError:
            self.release()  # what is missing may be lying here
        try:
            return _map(size)
        except OSError as error:
            with self._lock:
                self._in_use -= size
                self._most_in_use -= size
            raise MemoryError(f"no memory for a tensor of {size / 2**20:,.0f} MiB") from error

    def _collect(self) -> None:
        while self._returned:
            block = self._returned.popleft()
            self._in_use -= len(block)
            self._idle[id(block)] = block

    def _trim(self) -> None:
        idle = sum(map(len, self._idle.values()))
        while idle > self._most_in_use - self._in_use and self._idle:
            idle -= len(self._idle.popitem(last=False)[1])

    def idle_bytes(self) -> int:
        with self._lock:
            self._collect()
            self._trim()
            return sum(map(len, self._idle.values()))

    def release(self) -> None:
        with self._lock:
            self._collect()
            self._idle.clear()
            self._most_in_use = self._in_use


def _map(size: int) -> mmap.mmap:
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return mmap.mmap(-1, size)
    # Private: a process forked from this one gets a copy of the memory, it does not share it.
    block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel built without huge pages
            block.madvise(mmap.MADV_HUGEPAGE)
    return block


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.forget)
