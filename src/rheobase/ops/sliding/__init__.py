"""Sums that slide along time: the same few weights at every step.

A matrix over all of time would be nothing but its band of K diagonals. On the CPU the sums are computed as they are written, by
a kernel; elsewhere, blocks of time are multiplied with the two triangles of the band that they see.
"""

from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from rheobase.ops import kernels
from rheobase.ops.arguments import check_first_derivative, is_plain
from rheobase.ops.sliding import reference

__all__ = ["slide"]


def slide(weight: Float[Tensor, " K"], seen: Float[Tensor, "S M"]) -> Float[Tensor, "T M"]:
    """`h[t] = sum_k weight[k] * seen[t + k]`, for the `T = S - K + 1` steps that see K rows.

    It is computed in the type of the tensors, whatever `torch.autocast` says: sums as short as these are over sooner than
    their terms are rounded. The cost is `T * K` for each of the M numbers of a step, forwards, and twice that backwards.

    Args:
        weight: the weights, `(K,)`, from the first row that a step sees to the last.
        seen: the rows, `(S, M)`, in the type of `weight`; S is at least K - 1.

    Example:
        >>> slide(torch.tensor([0.5, 1.0]), torch.tensor([[1.0], [2.0], [4.0]]))
        tensor([[2.5000],
                [5.0000]])
    """
    if kernels.is_transformed():
        with _in_its_own_type(seen):
            return reference.slid(weight, seen)
    return _Slide.apply(weight, seen)  # pyright: ignore[reportReturnType]


class _Slide(torch.autograd.Function):
    """Backwards it slides the other way; autograd would copy every part of it."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, seen: Tensor) -> Tensor:
        ctx.save_for_backward(weight, seen)
        with _in_its_own_type(seen):
            return _computing(weight, seen).slid(weight, seen).detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        check_first_derivative()
        weight, seen = ctx.saved_tensors
        (on_h,) = gradients
        on_weight = on_seen = None
        with _in_its_own_type(seen):
            computing = _computing(weight, seen, on_h)
            if ctx.needs_input_grad[0]:
                on_weight = computing.on_weight(weight, seen, on_h)
            if ctx.needs_input_grad[1]:
                on_seen = computing.slid(weight.flip(0), on_h, beyond=len(weight) - 1)
        return on_weight, on_seen


def _in_its_own_type(seen: Tensor) -> AbstractContextManager[object]:
    device = seen.device.type
    return torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext()


def _computing(*tensors: Tensor) -> ModuleType:
    if torch.compiler.is_compiling() or tensors[0].device.type != "cpu" or not kernels.fused(tensors[0]):
        return reference
    if not all(is_plain(tensor) and tensor.dtype in (torch.float32, torch.float64) for tensor in tensors):
        return reference
    # Imported when it is first needed: numba takes a while.
    from rheobase.ops.sliding import cpu

    return cpu
