"""Slices of a kernel on several threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch


def split(kernel: Callable[[int, int], object], count: int, work: int, align: int = 16) -> None:
    """Call `kernel(lo, hi)` over slices of `range(count)`, on several threads when `work` is large."""
    threads = min(torch.get_num_threads(), -(-count // align)) if work >= 100_000 else 1
    if threads < 2:
        kernel(0, count)
        return
    size = -(-count // (threads * align)) * align
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda lo: kernel(lo, min(lo + size, count)), range(0, count, size)))
