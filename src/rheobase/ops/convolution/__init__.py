"""Convolutions of a sequence with time merged into the batch: checks, and the choice of implementation.

After a layer of neurons most of the input is zero, and with spike lists (`rheobase.ops.convolution.cpu`) only the rest costs
anything. Otherwise large ones are computed in pieces (`rheobase.ops.convolution.pieces`). The definition is PyTorch's own
convolution.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from rheobase.ops.convolution import fused, pieces
from rheobase.ops.linear import Path, check_path, why_no_lists

__all__ = ["LIMIT", "convolution"]

LIMIT = 0.25
"""The share of nonzero entries up to which `"auto"` uses lists."""

# Measured by `benchmarks/spike_convolution.py`, against oneDNN: forward pass and gradient of the weight together, lists are 3.0
# to 4.5 times as fast at a density of 5 %, and break even near 40 %, with strides near 25 %. An output costs lists about 2 ns,
# whatever is in front of it, which is more than the dense convolution of few channels takes.
_LEAST_TAPS = 64
_MOST_CLASSES = 4  # of entries, modulo the stride: for each, the list is gone through
_LEAST_OUTPUTS = 8
_LEAST_WORK = 1 << 23  # multiplications of the dense convolution; below, it is over before a list is built

_WHOLE: tuple[Callable[..., Tensor], ...] = (F.conv1d, F.conv2d, F.conv3d)


def convolution(
    x: Float[Tensor, "images channels *space"],
    weight: Float[Tensor, "outputs channels_in_group *kernel"],
    bias: Float[Tensor, " outputs"] | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
    *,
    path: Path = "auto",
) -> Float[Tensor, "images outputs *space_out"]:
    """The convolution of all images, as `torch.nn.functional.conv2d` (or 1d, 3d), faster where most of `x` is zero.

    By lists, an entry of `x` that is 0 contributes nothing, neither to the output nor to the gradient of the weight, and sums
    are in a different order than PyTorch's, the same for every number of threads. They are not used for non-finite input. The
    lists are kept for the backward pass, not `x`. There is no second derivative, neither by lists nor in pieces; it is refused.

    Args:
        x: images or series, `(images, channels, *space)`.
        weight: `(outputs, channels / groups, *kernel)`.
        bias: `(outputs,)`.
        stride: that of the kernel, a number for each axis of space.
        padding: zeros before and after each axis.
        dilation: the distance of the kernel's entries.
        groups: the number of independent groups of channels.
        path: `"dense"` is PyTorch's convolution, in pieces if it is large. `"lists"` are spike lists, on the CPU in float32 and
            float64, over one or two axes, without groups and dilation. `"auto"` uses lists where they are possible and faster:
            up to a density of 25 %, with at least 64 weights per output, and strides of up to 2 x 2.

    Raises:
        ValueError: if `path` is unknown, or is `"lists"` where these are impossible; the message says why.
        RuntimeError: if the shapes or types do not match, from PyTorch.

    Example:
        >>> spikes = torch.zeros(1, 1, 3, 3)
        >>> spikes[0, 0, 1, 2] = 1
        >>> kernel = torch.arange(9.0).view(1, 1, 3, 3)
        >>> convolution(spikes, kernel, None, (1, 1), (1, 1), (1, 1), 1, path="lists")[0, 0]
        tensor([[0., 8., 7.],
                [0., 5., 4.],
                [0., 2., 1.]])
    """
    check_path(path, "convolution")
    if path != "dense" and (path == "lists" or _worthwhile(x, weight, stride, groups)):
        reason = _why_no_lists(x, weight, bias, stride, padding, dilation, groups)
        if reason is None:
            y = fused.by_lists(x, weight, bias, stride, padding, None if path == "lists" else LIMIT)
            if y is not None:
                return y
            reason = "x holds NaN or infinity, which would reach outputs that the kernel does not reach"
        if path == "lists":
            raise ValueError(f"convolution: path='lists' is not possible: {reason}")
    images = pieces.pieces(x, weight, bias, stride)
    if images is None or x.shape[1] != weight.shape[1] * groups:  # PyTorch refuses what does not fit
        return _WHOLE[weight.ndim - 3](x, weight, bias, stride, padding, dilation, groups)
    return pieces.convolution(x, weight, bias, stride, padding, dilation, groups, images)


def _worthwhile(x: Tensor, weight: Tensor, stride: tuple[int, ...], groups: int) -> bool:
    """Whether there is enough work for looking for zeros to pay, and the input allows anything but PyTorch."""
    if torch.compiler.is_compiling() or x.ndim != weight.ndim or len(weight) < _LEAST_OUTPUTS:
        return False
    if weight.shape[1:].numel() < _LEAST_TAPS or not 0 < math.prod(stride) <= _MOST_CLASSES:
        return False
    # Every entry meets the kernel's; that it meets fewer at the border is left aside.
    return x.numel() * len(weight) * math.prod(weight.shape[2:]) // (groups * math.prod(stride)) >= _LEAST_WORK


def _why_no_lists(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> str | None:
    """Why lists are impossible, in words; None if they are possible."""
    if torch.compiler.is_compiling():
        return "torch.compile does not know how long a list will be"
    if x.ndim not in (3, 4) or x.ndim != weight.ndim:
        return f"there are lists for one and two axes of space, x has shape {tuple(x.shape)}"
    if groups != 1 or any(step != 1 for step in dilation):
        return f"there are lists without groups and dilation, got {groups} and {dilation}"
    if x.shape[1] != weight.shape[1] or (bias is not None and bias.shape != weight.shape[:1]):
        return f"x of shape {tuple(x.shape)} does not fit a weight of shape {tuple(weight.shape)}, or the bias"
    sizes = zip(x.shape[2:], weight.shape[2:], padding, strict=True)
    if min(x.shape) == 0 or any(size + 2 * more < kernel for size, kernel, more in sizes):
        return f"there is nothing to convolve: x has shape {tuple(x.shape)}, the kernel {tuple(weight.shape[2:])}"
    # Of the channels alone, the rules are those of a linear layer.
    return why_no_lists(x.movedim(1, -1), weight.flatten(2)[..., 0] if weight.numel() else weight, bias)
