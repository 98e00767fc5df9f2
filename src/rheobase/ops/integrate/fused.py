"""The kernels of leaky integration, with their gradients, for eager code and for `torch.compile`.

As `rheobase.ops.lif.fused`, with the membrane potential for an output. Nothing is kept for the backward pass but, where a decay
is learned, that output.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rheobase.ops.arguments import check_first_derivative
from rheobase.ops.kernels import kernels_for
from rheobase.ops.lanes import as_constants, rows, sequence_to_lanes, stack, sum_all_to


def integrate(x: Tensor, decays: Sequence[Tensor], initials: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The membrane potential `(T, B, *features)`, and each state after the last step, `(B, *features)`.

    Args:
        x: the input current, `(T, B, *features)`: float32 or float64.
        decays: what each state keeps per step, the membrane potential first, broadcasting to `(B, *features)`.
        initials: the states before the first step, likewise.
    """
    step = x.shape[1:]
    if torch.compiler.is_compiling():
        membrane, last = torch.ops.rheobase.integrate(sequence_to_lanes(x), stack(decays, step), stack(initials, step))
        return membrane.view(x.shape), *rows(last, step)
    return _Integrate.apply(x, *decays, *initials)  # pyright: ignore[reportReturnType]


class _Integrate(torch.autograd.Function):
    """The gradients are computed by one kernel, in one pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        step, count = x.shape[1:], len(states) // 2
        ctx.shapes = [tensor.shape for tensor in states]
        states = as_constants(*states)
        decay, initial = stack(states[:count], step), stack(states[count:], step)
        membrane, last = kernels_for("integrate", x).forward(sequence_to_lanes(x), decay, initial)
        membrane, *after = as_constants(membrane.view(x.shape), *rows(last, step))
        ctx.learn = any(ctx.needs_input_grad[1 : 1 + count])
        ctx.save_for_backward(membrane if ctx.learn else None, decay, initial)
        ctx.shape = x.shape
        return membrane, *after

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        check_first_derivative()
        on_membrane, *on_last = gradients
        membrane, decay, initial = ctx.saved_tensors
        step = ctx.shape[1:]
        membrane = sequence_to_lanes(membrane) if ctx.learn else on_membrane.new_empty(0, 0)
        on_x, on_initial, on_decay = kernels_for("integrate", on_membrane).backward(
            sequence_to_lanes(on_membrane), stack(on_last, step), membrane, decay, initial, ctx.learn
        )
        per_lane, wanted = (*on_decay, *on_initial), ctx.needs_input_grad[1:]
        return on_x.view(ctx.shape), *sum_all_to(per_lane, step, ctx.shapes, wanted)


@torch.library.custom_op("rheobase::integrate", mutates_args=())
def _operator(x: Tensor, decay: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
    return kernels_for("integrate", x).forward(x, decay, initial)


@_operator.register_fake
def _(x: Tensor, _decay: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(initial)


@torch.library.custom_op("rheobase::integrate_backward", mutates_args=())
def _backward_operator(
    on_membrane: Tensor, on_last: Tensor, membrane: Tensor, decay: Tensor, initial: Tensor, learn: bool
) -> tuple[Tensor, Tensor, Tensor]:
    gradients = on_membrane.contiguous(), on_last.contiguous()
    return kernels_for("integrate", on_membrane).backward(*gradients, membrane, decay, initial, learn)


@_backward_operator.register_fake
def _(
    on_membrane: Tensor, _last: Tensor, _membrane: Tensor, decay: Tensor, initial: Tensor, _learn: bool
) -> tuple[Tensor, Tensor, Tensor]:
    on_x = torch.empty_like(on_membrane, memory_format=torch.contiguous_format)
    return on_x, torch.empty_like(initial), torch.empty_like(decay)


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: tuple[Tensor, Tensor]) -> None:
    _, decay, initial = inputs
    ctx.save_for_backward(output[0], decay, initial)
    ctx.learn = decay.requires_grad


def _operator_backward(ctx: Any, on_membrane: Tensor, on_last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    on_x, on_initial, on_decay = torch.ops.rheobase.integrate_backward(
        on_membrane, on_last, *ctx.saved_tensors, ctx.learn
    )
    return on_x, on_decay, on_initial


_operator.register_autograd(_operator_backward, setup_context=_save)
