"""Pooling of 2 x 2 at the speed of memory: averages and maxima.

Convolutional spiking networks pool every step. PyTorch's pooling knows any window, stride and padding, and computes one value
at a time: averages took a third of a training step, maxima a quarter, and remember in 8 bytes where each one was. Windows of
2 x 2 that do not overlap are all that most networks have. For these an average is a sum of four neighbours, which is as fast
as a copy, and a maximum is one of four.
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


def maximum_2x2(x: Tensor) -> Tensor:
    """The largest of every window of 2 x 2, as `torch.nn.functional.max_pool2d(x, 2)`, to the bit.

    The gradient goes to the first of the largest, row by row; if there are NaN, to the last of these.

    Args:
        x: `(..., height, width)`; of an odd size the last row or column belongs to no window.

    Returns:
        `(..., height // 2, width // 2)`.

    Example:
        >>> maximum_2x2(torch.tensor([[[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]]))
        tensor([[[1.]]])
    """
    if torch.compiler.is_compiling() or not _fits(x):
        return F.max_pool2d(x, 2)
    return _Maximum.apply(x)  # pyright: ignore[reportReturnType]


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


class _Maximum(torch.autograd.Function):
    """What is kept is which of four, a byte for each window."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.height, ctx.width = x.shape[-2:]
        small = (*x.shape[:-2], ctx.height // 2, ctx.width // 2)
        y, which = memory.empty(small, x.dtype), memory.empty(small, torch.uint8)
        _cpu().maximum(x.detach(), y, which)
        ctx.save_for_backward(which)
        return y.detach()

    @staticmethod
    def backward(ctx: Any, *on_output: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _Route.apply(on_output[0], *ctx.saved_tensors, ctx.height, ctx.width)  # pyright: ignore[reportReturnType]


class _Route(torch.autograd.Function):
    """The gradient of the maximum: all of it for one of four. Its own gradient is what reaches that one."""

    @staticmethod
    def forward(ctx: Any, on_y: Tensor, which: Tensor, height: int, width: int) -> Tensor:
        ctx.save_for_backward(which)
        on_x = memory.empty((*on_y.shape[:-2], height, width), on_y.dtype)
        _cpu().route(on_y.detach().contiguous(), which, on_x)
        return on_x.detach()

    @staticmethod
    def backward(ctx: Any, *on_output: Tensor) -> tuple[Tensor, None, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (which,) = ctx.saved_tensors
        windows = on_output[0].unfold(-2, 2, 2).unfold(-2, 2, 2).flatten(-2)
        return windows.gather(-1, which.long().unsqueeze(-1)).squeeze(-1), None, None, None


def _cpu() -> ModuleType:
    # Imported when it is first needed: numba takes a while.
    from rheobase.ops.pooling import cpu

    return cpu
