"""Neurons that fire once and pooling of their spikes, with gradients. Kept for the backward pass is the current alone."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from rheobase.ops.arguments import check_first_derivative
from rheobase.ops.lanes import as_constants
from rheobase.ops.single_spike.credit import Credit
from rheobase.surrogate import Surrogate


def pooled_single_spike(
    x: Tensor,
    steps: int,
    decay: Tensor,
    threshold: Tensor,
    credit: Credit,
    fire_by_end: bool,
    surrogate: Surrogate,
    pooling: str,
) -> Tensor:
    """The averages or maxima `(T, B, C, height / 2, width / 2)`; of one step of `x`, it is held for T = `steps`."""
    return _PooledSingleSpike.apply(x, steps, (credit, fire_by_end, surrogate, pooling), decay, threshold)  # pyright: ignore[reportReturnType]


class _PooledSingleSpike(torch.autograd.Function):
    """The gradients are computed by one kernel, in one pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, steps: int, rule: tuple[Credit, bool, Surrogate, str], decay: Tensor, threshold: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, decay, threshold)
        ctx.rule = rule
        return as_constants(_cpu().forward(x.detach().contiguous(), steps, decay, threshold, rule[1], rule[3]))[0]

    @staticmethod
    def backward(ctx: Any, on_y: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        check_first_derivative()
        x, decay, threshold = ctx.saved_tensors
        credit, fire_by_end, surrogate, pooling = ctx.rule
        rule = credit, fire_by_end, type(surrogate).__name__, surrogate.dampening, surrogate.sharpness
        wanted, values = ctx.needs_input_grad[3:], (decay, threshold)
        on_y = on_y.contiguous().resolve_neg()
        on_x, *on_maps = _cpu().backward(x.contiguous(), on_y, *values, *rule, any(wanted), pooling)
        on_values = [
            (found.sum() if value.numel() == 1 else found.sum(0)).to(value.dtype).view(value.shape) if want else None
            for want, value, found in zip(wanted, values, on_maps, strict=True)
        ]
        return on_x, None, None, *on_values


def _cpu() -> ModuleType:
    # Imported when it is first needed: numba takes a while.
    from rheobase.ops.pooled_single_spike import cpu

    return cpu
