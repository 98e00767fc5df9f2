"""Average pooling of 2 x 2 at the speed of memory.

Convolutional spiking networks pool by averages, and pool every step. PyTorch's average knows any window, stride and padding,
and computes one value at a time: it took a third of a training step. Windows of 2 x 2 that do not overlap are all that such
networks have, and for these it is a sum of four neighbours, which is as fast as a copy.
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rheobase.ops import kernels, memory
from rheobase.ops.arguments import is_plain

_DTYPES = (torch.float32, torch.float64, torch.bfloat16)
_LEAST = 1 << 14
"""Elements from which a kernel pays for its call."""


def average_2x2(x: Tensor) -> Tensor:
    """The mean of every window of 2 x 2, as `torch.nn.functional.avg_pool2d(x, 2)`, to the bit.

    Args:
        x: `(..., height, width)`; of an odd size the last row or column belongs to no window.

    Returns:
        `(..., height // 2, width // 2)`.

    Example:
        >>> average_2x2(torch.tensor([[[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]]))
        tensor([[[0.2500]]])
    """
    if torch.compiler.is_compiling() or not _fits(x):
        return F.avg_pool2d(x, 2)
    return _Average.apply(x)  # pyright: ignore[reportReturnType]


def _fits(x: Tensor) -> bool:
    if x.device.type != "cpu" or x.dtype not in _DTYPES or x.ndim not in (3, 4):
        return False
    if x.numel() < _LEAST or min(x.shape[-2:]) < 2 or not x.is_contiguous():
        return False
    return is_plain(x) and kernels.fused(x)


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.height, ctx.width = x.shape[-2:]
        *images, height, width = x.shape
        y = memory.empty((*images, height // 2, width // 2), x.dtype)
        _cpu().average(x.detach(), y)
        return y.detach()  # else autograd takes recycled memory for a view

    @staticmethod
    def backward(ctx: Any, *on_output: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Spread.apply(on_output[0], ctx.height, ctx.width)  # pyright: ignore[reportReturnType]


class _Spread(torch.autograd.Function):
    """The gradient of the average: a quarter for each of four. Its own gradient is the average."""

    @staticmethod
    def forward(_ctx: Any, on_y: Tensor, height: int, width: int) -> Tensor:
        on_x = memory.empty((*on_y.shape[:-2], height, width), on_y.dtype)
        _cpu().spread(on_y.detach().contiguous(), on_x)
        return on_x.detach()

    @staticmethod
    def backward(_ctx: Any, *on_output: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return average_2x2(on_output[0]), None, None


def _cpu() -> ModuleType:
    # Imported when it is first needed: numba takes a while.
    from rheobase.ops.pooling import cpu

    return cpu
