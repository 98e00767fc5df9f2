"""A hidden layer of neurons that fire once, with its gradients.

Kept for the backward pass are the spike lists of the input, and two numbers for each neuron and sample: the steps of its first
and second crossing of the threshold.
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from rheobase.ops.arguments import check_first_derivative
from rheobase.ops.lanes import as_constants, sum_to
from rheobase.ops.single_spike.credit import Credit
from rheobase.surrogate import Surrogate


def hidden_single_spike(
    x: Tensor,
    limit: float,
    weight: Tensor,
    bias: Tensor | None,
    decay: Tensor,
    threshold: Tensor,
    weight_out: Tensor,
    bias_out: Tensor | None,
    credit: Credit,
    fire_by_end: bool,
    surrogate: Surrogate,
) -> Tensor | None:
    """What reaches the next layer, `(T, B, O)`; None if more than a share `limit` of `x` is not zero."""
    from rheobase.ops.linear import lists

    found = lists.build(x.detach().contiguous().flatten(0, 1), limit)
    if found is None:
        return None
    values = weight, bias, decay, threshold, weight_out, bias_out
    twice = credit == "product" and torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in values)
    return _HiddenSingleSpike.apply(found, len(x), (credit, fire_by_end, surrogate), twice, *values)  # pyright: ignore[reportReturnType]


class _HiddenSingleSpike(torch.autograd.Function):
    """The gradients are computed by one kernel, in one pass."""

    @staticmethod
    def forward(
        ctx: Any,
        lists: Any,
        steps: int,
        rule: tuple[Credit, bool, Surrogate],
        twice: bool,
        weight: Tensor,
        bias: Tensor | None,
        decay: Tensor,
        threshold: Tensor,
        *others: Tensor | None,
    ) -> Tensor:
        y, *kept = _cpu().forward(lists, steps, weight, bias, decay, threshold, *others, rule[1], twice)
        ctx.save_for_backward(lists.start, lists.index, lists.value, *kept)
        ctx.inputs, ctx.neurons, ctx.rule = lists.inputs, len(weight), rule
        ctx.shapes = decay.shape, threshold.shape
        return as_constants(y)[0]

    @staticmethod
    def backward(ctx: Any, on_y: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        check_first_derivative()
        from rheobase.ops.linear.lists import SpikeLists

        start, index, value, *kept = ctx.saved_tensors
        credit, fire_by_end, surrogate = ctx.rule
        lists, on_y = SpikeLists(ctx.inputs, start, index, value), on_y.contiguous().resolve_neg()
        rule = credit, fire_by_end, type(surrogate).__name__, surrogate.dampening, surrogate.sharpness
        on_weight, on_bias, *found, on_weight_out = _cpu().backward(lists, on_y, *kept, ctx.neurons, *rule)
        wanted = ctx.needs_input_grad[4:]
        # A number for all neurons gets the sum of their gradients, in an order that knows of no threads.
        on_values = (sum_to(each, (ctx.neurons,), shape) for each, shape in zip(found, ctx.shapes, strict=True))
        on_bias_out = _cpu().sum_over_steps(on_y) if wanted[5] else None
        gradients = on_weight, on_bias, *on_values, on_weight_out, on_bias_out
        return None, None, None, None, *(g if of else None for g, of in zip(gradients, wanted, strict=True))


def _cpu() -> ModuleType:
    # Imported when it is first needed: numba takes a while.
    from rheobase.ops.hidden_single_spike import cpu

    return cpu
