"""Convolutions of a whole sequence, in pieces that stay in the cache.

Folded over time, a convolution sees T times B images at once, and what it writes is large: too large for the cache, and so
large that the allocator requests every block again from the operating system, which clears it page by page. Both cost more than
the arithmetic. So a large convolution is computed a few images at a time, by PyTorch's own kernels, into memory that is
recycled (`rheobase.ops.memory`). An image does not know of the others, so the results are those of the whole up to rounding.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from rheobase.ops import kernels, memory
from rheobase.ops.arguments import check_first_derivative
from rheobase.ops.lanes import as_constants

LARGE = 1 << 23
"""Outputs of this many bytes are computed in pieces. glibc maps blocks of 32 MiB again each time, whatever else was freed, and
smaller ones it gives back to the operating system when they lie at the end of its heap."""
_PIECE = 1 << 21
"""Bytes of a piece of the output."""


def pieces(x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...]) -> int | None:
    """How many images to convolve at a time; None if all at once is right.

    Args:
        x: images `(images, channels, *space)`.
        weight: `(channels_out, channels / groups, *kernel)`.
        bias: `(channels_out,)`.
        stride: of the kernel, a number for each axis of space.
    """
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu") or not kernels.fused(x):
        return None
    tensors = (x, weight) if bias is None else (x, weight, bias)
    if any(tensor.device.type != "cpu" or tensor.dtype != torch.float32 for tensor in tensors):
        return None
    if x.ndim != weight.ndim or x.ndim != len(stride) + 2:
        return None  # a single image, or what does not fit, is PyTorch's to treat
    space = math.prod(-(-size // step) for size, step in zip(x.shape[2:], stride, strict=True))
    image = len(weight) * space * x.element_size()
    return max(1, _PIECE // image) if image and len(x) * image >= LARGE else None


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    images: int,
) -> Tensor:
    """The convolution of `images` images at a time; arguments as for `torch.nn.functional.conv2d`, one number for each axis."""
    return _Convolution.apply(x, weight, bias, (stride, padding, dilation, False, (0,) * len(stride), groups), images)  # pyright: ignore[reportReturnType]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor | None, options: tuple[Any, ...], images: int
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.options, ctx.images, ctx.has_bias = options, images, bias is not None  # pyright: ignore[reportAttributeAccessIssue]
        out = None
        for start, part in _split(x, images):
            y = torch.ops.aten.convolution(part, weight, bias, *options)
            if out is None:
                out = memory.empty((len(x), *y.shape[1:]), y.dtype)
            out[start : start + len(part)] = y
        assert out is not None, "an empty batch is small"
        return as_constants(out)[0]

    @staticmethod
    def backward(ctx: Any, *on_out: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        check_first_derivative()
        (on_y,) = on_out
        x, weight = ctx.saved_tensors
        wanted = [*ctx.needs_input_grad[:2], ctx.has_bias and ctx.needs_input_grad[2]]
        on_x = memory.empty(tuple(x.shape), x.dtype) if wanted[0] else None
        on_weight = torch.zeros_like(weight) if wanted[1] else None
        on_bias = on_y.new_zeros(len(weight)) if wanted[2] else None
        for start, part in _split(x, ctx.images):
            piece = on_y[start : start + len(part)].contiguous()
            got = torch.ops.aten.convolution_backward(piece, part, weight, [len(weight)], *ctx.options, wanted)
            if on_x is not None:
                on_x[start : start + len(part)] = got[0]
            for total, more in ((on_weight, got[1]), (on_bias, got[2])):
                if total is not None:
                    total += more
        return on_x, on_weight, on_bias, None, None


def gradient_of_images(
    on_y: Tensor, shape: tuple[int, ...], weight: Tensor, stride: tuple[int, ...], padding: tuple[int, ...]
) -> Tensor:
    """The gradient of the images alone, without groups and dilation, a few at a time.

    Args:
        on_y: the gradient of the output, `(images, channels_out, *space_out)`.
        shape: of the images.
        weight: as in `convolution`.
        stride: likewise.
        padding: likewise.
    """
    axes = len(stride)
    options = stride, padding, (1,) * axes, False, (0,) * axes, 1, [True, False, False]
    on_x = memory.empty(shape, on_y.dtype)
    image = on_y[0].numel() * on_y.element_size()
    unread = on_y.new_empty(()).expand(shape)  # of the images only the shape matters
    for start, part in _split(on_y, max(1, _PIECE // image)):
        like = unread[start : start + len(part)]
        on_x[start : start + len(part)] = torch.ops.aten.convolution_backward(part, like, weight, None, *options)[0]
    return on_x


def _split(x: Tensor, images: int) -> list[tuple[int, Tensor]]:
    return [(number * images, part) for number, part in enumerate(x.split(images))]
