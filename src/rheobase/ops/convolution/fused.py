"""Convolutions by spike lists, with their gradients.

What is kept for the backward pass are the lists. The gradient towards the images is a dense convolution, PyTorch's, made only
when something in front of the layer needs it.
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from rheobase.ops.arguments import check_first_derivative
from rheobase.ops.convolution import pieces
from rheobase.ops.lanes import as_constants


def by_lists(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    limit: float | None,
) -> Tensor | None:
    """The convolution of images `(R, channels, *space)`.

    None if more than a share `limit` of `x` is not zero, or images are so large that their sums would not stay in the cache:
    without a limit, both do not matter. None also if `x` holds what is not finite: the margins of windows and the gaps of
    kernels are zeros here, and 0 times NaN is NaN.
    """
    from rheobase.ops.linear import lists

    if limit is not None and not _geometry(x.shape, weight.shape, stride, padding).stays_in_cache:
        return None
    found = lists.build(x.detach().contiguous().flatten(1), 1.0 if limit is None else limit)
    if found is None or (found.value is not None and not found.value.isfinite().all()):
        return None
    return _ByLists.apply(x, weight, bias, found, stride, padding)  # pyright: ignore[reportReturnType]


class _ByLists(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        lists: Any,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
    ) -> Tensor:
        kept = (lists.start, lists.index, lists.value) if ctx.needs_input_grad[1] else (None, None, None)
        ctx.save_for_backward(weight, *kept)
        ctx.shape, ctx.stride, ctx.padding = x.shape, stride, padding
        y = _cpu().forward(lists, _plane(weight), bias, _geometry(x.shape, weight.shape, stride, padding))
        return as_constants(y.squeeze(2) if x.ndim == 3 else y)[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        check_first_derivative()
        weight, *kept = ctx.saved_tensors
        of_x, of_weight, of_bias, *_ = ctx.needs_input_grad
        on_y = gradients[0].contiguous().resolve_neg()
        on_x = on_weight = on_bias = None
        if of_x:
            on_x = pieces.gradient_of_images(on_y, tuple(ctx.shape), weight, ctx.stride, ctx.padding)
        if of_weight:
            from rheobase.ops.linear.lists import SpikeLists

            lists = SpikeLists(ctx.shape[1:].numel(), *kept)
            shape = _geometry(ctx.shape, weight.shape, ctx.stride, ctx.padding)
            on_weight, on_bias = _cpu().gradients(lists, _plane(on_y), shape)
            on_weight = on_weight.view(weight.shape)
        elif of_bias:
            on_bias = on_y.flatten(2).sum((0, 2))
        return on_x, on_weight, on_bias if of_bias else None, None, None, None


def _plane(tensor: Tensor) -> Tensor:
    """What has one axis of space, as a plane of one row."""
    return tensor if tensor.ndim == 4 else tensor.unsqueeze(2)


def _geometry(x: torch.Size, weight: torch.Size, stride: tuple[int, ...], padding: tuple[int, ...]) -> Any:
    from rheobase.ops.convolution.geometry import geometry

    one = len(x) == 3  # of a series, a plane of one row
    channels, *space = x[1:]
    pair = lambda values, missing: (missing, *values) if one else tuple(values)  # noqa: E731
    return geometry(weight[0], (channels, *pair(space, 1)), pair(weight[2:], 1), pair(stride, 1), pair(padding, 0))


def _cpu() -> ModuleType:
    # Imported when it is first needed: numba takes a while.
    from rheobase.ops.convolution import cpu

    return cpu
