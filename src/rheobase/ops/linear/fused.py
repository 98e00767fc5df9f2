"""Spike lists with their gradients, for eager code and for `torch.compile`.

The gradient of the weight needs the spikes again. Eager code keeps the list for it: below half density it is smaller than the
dense spikes, at the usual few per cent a small part of them, and they are free to go as soon as the layer has run. The length
of a list is not known before there are spikes, which is more than `torch.compile` can take in: it sees `rheobase::linear`,
an operator that keeps the spikes and makes the list again for the gradient. The gradient towards the spikes is a product of
two dense matrices, made only when something in front of the layer needs it.
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from rheobase.ops import dense
from rheobase.ops.arguments import check_first_derivative
from rheobase.ops.lanes import as_constants


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, limit: float) -> Tensor:
    """`x @ weight.T + bias`, by lists if no more than a share `limit` of `x` is not zero; float32 or float64, on the CPU."""
    if torch.compiler.is_compiling():
        return torch.ops.rheobase.linear(x, weight, bias, limit)
    lists = _lists().build(_rows(x.detach()), limit)
    return dense.linear(x, weight, bias) if lists is None else _Linear.apply(x, weight, bias, lists)  # pyright: ignore[reportReturnType]


class _Linear(torch.autograd.Function):
    """What is kept are the lists, not the spikes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, lists: Any) -> Tensor:
        of_x, of_weight, *_ = ctx.needs_input_grad
        kept = (lists.start, lists.index, lists.value) if of_weight else (None, None, None)
        ctx.save_for_backward(weight if of_x else None, *kept)
        ctx.shape = x.shape
        y = _cpu().forward(lists, weight, bias)
        return as_constants(y.view(*x.shape[:-1], len(weight)))[0]

    @staticmethod
    def backward(ctx: Any, on_y: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        check_first_derivative()
        weight, *kept = ctx.saved_tensors
        of_x, of_weight, of_bias, _ = ctx.needs_input_grad
        on_x = on_weight = on_bias = None
        if of_x:
            on_x = dense.product(_rows(on_y), weight).view(ctx.shape)
        if of_weight:
            lists = _lists().SpikeLists(ctx.shape[-1], *kept)
            on_weight, on_bias = _cpu().weight_gradient(lists, _rows(on_y))
        elif of_bias:
            on_bias = _rows(on_y).sum(0)
        return on_x, on_weight, on_bias if of_bias else None, None


def _rows(x: Tensor) -> Tensor:
    return dense.rows(x).contiguous()


def _cpu() -> ModuleType:
    # Imported when it is first needed: numba takes a while.
    from rheobase.ops.linear import cpu

    return cpu


def _lists() -> ModuleType:
    from rheobase.ops.linear import lists

    return lists


@torch.library.custom_op("rheobase::linear", mutates_args=())
def _operator(x: Tensor, weight: Tensor, bias: Tensor | None, limit: float) -> Tensor:
    lists = _lists().build(_rows(x), limit)
    if lists is None:
        return dense.linear(x, weight, bias)
    return _cpu().forward(lists, weight, bias).view(*x.shape[:-1], len(weight))


@_operator.register_fake
def _(x: Tensor, weight: Tensor, _bias: Tensor | None, _limit: float) -> Tensor:
    return x.new_empty(*x.shape[:-1], len(weight))


@torch.library.custom_op("rheobase::linear_backward", mutates_args=())
def _backward_operator(x: Tensor, on_y: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    lists, on_y = _lists().build(_rows(x), limit), _rows(on_y)
    return (dense.product(on_y.t(), _rows(x)), on_y.sum(0)) if lists is None else _cpu().weight_gradient(lists, on_y)


@_backward_operator.register_fake
def _(x: Tensor, on_y: Tensor, _limit: float) -> tuple[Tensor, Tensor]:
    return x.new_empty(on_y.shape[-1], x.shape[-1]), x.new_empty(on_y.shape[-1])


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, ctx.limit = inputs
    of_x, *of_parameters, _ = ctx.needs_input_grad
    ctx.save_for_backward(weight if of_x else None, x if any(of_parameters) else None)


def _operator_backward(ctx: Any, on_y: Tensor) -> tuple[Tensor | None, ...]:
    weight, x = ctx.saved_tensors
    on_x = None if weight is None else on_y @ weight
    if x is None:
        return on_x, None, None, None
    on_weight, on_bias = torch.ops.rheobase.linear_backward(x, on_y, ctx.limit)
    return on_x, on_weight, on_bias if ctx.needs_input_grad[2] else None, None


_operator.register_autograd(_operator_backward, setup_context=_save)
