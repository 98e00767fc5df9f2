"""The kernels of the leaky integrate-and-fire neuron, with their gradients, for eager code and for `torch.compile`.

The neuron of one state and that of two are the same here: `decays` and `initials` list the membrane potential's first, the
synaptic current's second. Eager code goes through an `autograd.Function`, the cheapest way in. `torch.compile` cannot look
into a kernel: it sees `rheobase::lif`, an operator that knows its output shapes and its gradient.

What is kept for the backward pass is one number for each neuron and step, the membrane potential before the reset, in float32
(float64 for float64): 4 bytes for each neuron, sample and step. The spikes follow from it and are not kept twice. On the GPU,
for 16-bit input and neurons of one state, it is its distance from the threshold in bfloat16: 2 bytes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rheobase.ops.arguments import check_first_derivative
from rheobase.ops.kernels import kernels_for
from rheobase.ops.lanes import as_constants, rows, sequence_to_lanes, stack, sum_all_to, to_lanes
from rheobase.ops.lif.reset import Reset, ResetGradient
from rheobase.ops.slope import surrogate_in_kernel
from rheobase.surrogate import Surrogate


def readable(x: Tensor) -> Tensor:
    """`x` in a type that the kernels read; the CPU has no arithmetic for float16."""
    types = (torch.float32, torch.float64, torch.bfloat16) + ((torch.float16,) if x.device.type == "cuda" else ())
    return x if x.dtype in types else x.float()


def lif(
    x: Tensor,
    decays: Sequence[Tensor],
    threshold: Tensor,
    initials: Sequence[Tensor],
    reset: Reset,
    surrogate: Surrogate,
    reset_gradient: ResetGradient,
) -> tuple[Tensor, ...]:
    """The spikes `(T, B, *features)`, and each state after the last step, `(B, *features)`.

    Args:
        x: the input current, `(T, B, *features)`, `readable`.
        decays: what each state keeps per step, broadcasting to `(B, *features)`.
        threshold: where a neuron fires, likewise.
        initials: the states before the first step, likewise.
        reset: what a spike does to the membrane potential.
        surrogate: what the kernels use in place of the spike's derivative.
        reset_gradient: what the gradient sees of the reset.
    """
    step = x.shape[1:]
    if torch.compiler.is_compiling():
        parameters = stack(decays, step), to_lanes(threshold, step), stack(initials, step)
        rule = reset, type(surrogate).__name__, surrogate.dampening, surrogate.sharpness, reset_gradient
        spikes, last, _ = torch.ops.rheobase.lif(sequence_to_lanes(x), *parameters, *rule)
        return spikes.view(x.shape), *rows(last, step)
    parameters = (threshold, *decays, *initials)
    save = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *parameters))
    return _Lif.apply(x, reset, surrogate, reset_gradient, save, *parameters)  # pyright: ignore[reportReturnType]


class _Lif(torch.autograd.Function):
    """The gradients are computed by one kernel, in one pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        reset: Reset,
        surrogate: Surrogate,
        reset_gradient: ResetGradient,
        save: bool,
        threshold: Tensor,
        *states: Tensor,
    ) -> tuple[Tensor, ...]:
        step, count = x.shape[1:], len(states) // 2
        ctx.shapes = [tensor.shape for tensor in (threshold, *states)]
        threshold, *constants = as_constants(threshold, *states)
        parameters = stack(constants[:count], step), to_lanes(threshold, step), stack(constants[count:], step)
        spikes, last, membrane = kernels_for("lif", x).forward(sequence_to_lanes(x), *parameters, reset, save)
        ctx.save_for_backward(membrane, *parameters)
        ctx.rule = reset, surrogate, reset_gradient
        ctx.shape = x.shape
        return as_constants(spikes.view(x.shape), *rows(last, step))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        check_first_derivative()
        on_spikes, *on_last = gradients
        membrane, decay, threshold, initial = ctx.saved_tensors
        reset, surrogate, reset_gradient = ctx.rule
        step, count = ctx.shape[1:], len(decay)
        wanted = ctx.needs_input_grad[5:]  # threshold, decays, initials
        shape, slope = surrogate_in_kernel(surrogate, membrane, threshold, ctx.shape)
        on_x, on_initial, on_decay, on_threshold = kernels_for("lif", on_spikes).backward(
            sequence_to_lanes(on_spikes), stack(on_last, step), membrane, slope, decay, threshold, initial,
            reset, shape, surrogate.dampening, surrogate.sharpness, reset_gradient, any(wanted[: 1 + count]),
        )  # fmt: skip
        per_lane = (on_threshold, *on_decay, *on_initial)
        return on_x.view(ctx.shape), None, None, None, None, *sum_all_to(per_lane, step, ctx.shapes, wanted)


@torch.library.custom_op("rheobase::lif", mutates_args=())
def _operator(
    x: Tensor,
    decay: Tensor,
    threshold: Tensor,
    initial: Tensor,
    reset: str,
    shape: str,
    dampening: float,
    sharpness: float,
    reset_gradient: str,
) -> tuple[Tensor, Tensor, Tensor]:
    return kernels_for("lif", x).forward(x, decay, threshold, initial, reset, True)


@_operator.register_fake
def _(x: Tensor, decay: Tensor, _threshold: Tensor, initial: Tensor, *_rule: Any) -> tuple[Tensor, Tensor, Tensor]:
    saved = torch.bfloat16 if x.device.type == "cuda" and x.dtype.itemsize == 2 and len(decay) == 1 else decay.dtype
    return torch.empty_like(x), torch.empty_like(initial), torch.empty_like(x, dtype=saved)


@torch.library.custom_op("rheobase::lif_backward", mutates_args=())
def _backward_operator(
    on_spikes: Tensor,
    on_last: Tensor,
    membrane: Tensor,
    decay: Tensor,
    threshold: Tensor,
    initial: Tensor,
    reset: str,
    shape: str,
    dampening: float,
    sharpness: float,
    reset_gradient: str,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    slope = membrane.new_empty(0, 0)
    return kernels_for("lif", on_spikes).backward(
        on_spikes.contiguous(), on_last.contiguous(), membrane, slope, decay, threshold, initial,
        reset, shape, dampening, sharpness, reset_gradient, learn,
    )  # fmt: skip


@_backward_operator.register_fake
def _(
    on_spikes: Tensor, _last: Tensor, _membrane: Tensor, decay: Tensor, threshold: Tensor, initial: Tensor, *_rule: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(on_spikes, memory_format=torch.contiguous_format),
        torch.empty_like(initial),
        torch.empty_like(decay),
        torch.empty_like(threshold),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    _, decay, threshold, initial, *rule = inputs
    ctx.save_for_backward(output[2], decay, threshold, initial)
    ctx.rule = rule
    ctx.learn = decay.requires_grad or threshold.requires_grad


def _operator_backward(ctx: Any, on_spikes: Tensor, on_last: Tensor, _on_membrane: Tensor) -> tuple[Tensor | None, ...]:
    on_x, on_initial, on_decay, on_threshold = torch.ops.rheobase.lif_backward(
        on_spikes, on_last, *ctx.saved_tensors, *ctx.rule, ctx.learn
    )
    return on_x, on_decay, on_threshold, on_initial, *[None] * len(ctx.rule)


_operator.register_autograd(_operator_backward, setup_context=_save)
