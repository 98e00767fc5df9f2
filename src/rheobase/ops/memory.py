"""Memory for what kernels write."""

import torch
from torch import Tensor


def empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Uninitialised memory on the CPU."""
    return torch.empty(shape, dtype=dtype)
