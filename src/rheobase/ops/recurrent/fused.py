"""The kernels of recurrent neurons, with their gradients, for eager code and for `torch.compile`; as `rheobase.ops.lif.fused`.

Kept for the backward pass: the membrane potential before the reset, 4 bytes for each neuron, sample and step (8 for float64),
and the spikes as lists, 4 bytes for each.
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from rheobase.ops.arguments import check_first_derivative
from rheobase.ops.lanes import as_constants, sum_all_to, to_lanes
from rheobase.ops.lif.reset import Reset, ResetGradient
from rheobase.ops.slope import surrogate_in_kernel
from rheobase.surrogate import Surrogate


def recurrent_lif(
    x: Tensor,
    weight: Tensor,
    decay: Tensor,
    threshold: Tensor,
    membrane: Tensor,
    spikes: Tensor,
    reset: Reset,
    surrogate: Surrogate,
    reset_gradient: ResetGradient,
    detach_recurrent: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes `(T, B, N)`, membrane potential and spikes after the last step; see `rheobase.ops.recurrent.recurrent_lif`."""
    parameters = (weight, decay, threshold, membrane, spikes)
    if torch.compiler.is_compiling():
        rule = (
            reset,
            type(surrogate).__name__,
            surrogate.dampening,
            surrogate.sharpness,
            reset_gradient,
            detach_recurrent,
        )
        fired, last, _ = torch.ops.rheobase.recurrent_lif(x.contiguous(), *_whole(x, *parameters), *rule)
    else:
        save = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *parameters))
        rule = reset, surrogate, reset_gradient, detach_recurrent, save
        fired, last = _RecurrentLif.apply(x, rule, *parameters)  # pyright: ignore[reportGeneralTypeIssues]
    return fired, last, fired[-1] if len(fired) else spikes.expand(x.shape[1:])


def _whole(
    x: Tensor, weight: Tensor, decay: Tensor, threshold: Tensor, membrane: Tensor, spikes: Tensor
) -> tuple[Tensor, ...]:
    """The parameters as kernels read them: decay and threshold for every lane, the states for every neuron."""
    step = x.shape[1:]
    states = (state.expand(step).contiguous() for state in (membrane, spikes))
    return weight.contiguous(), to_lanes(decay, step), to_lanes(threshold, step), *states


class _RecurrentLif(torch.autograd.Function):
    """Forwards driven by the spikes; backwards one product for each step, and one for the weights."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rule: tuple[Reset, Surrogate, ResetGradient, bool, bool], *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        *ctx.rule, save = rule
        ctx.shapes = [tensor.shape for tensor in parameters]
        whole = _whole(x, *as_constants(*parameters))
        fired, last, membrane = _cpu().forward(x.contiguous(), *whole, rule[0], save)
        lists = _cpu().spike_lists(fired) if save and ctx.needs_input_grad[2] else None
        kept = (fired, None) if lists is None else (lists.start, lists.index)  # the spikes, one way or the other
        fired, last = as_constants(fired, last)
        ctx.save_for_backward(membrane, *kept, *whole)
        return fired, last

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        check_first_derivative()
        on_fired, on_last = gradients
        membrane, fired, index, weight, decay, threshold, initial, sent = ctx.saved_tensors
        if index is not None:
            fired = _cpu().SpikeLists(membrane.shape[2], fired, index, None)
        reset, surrogate, reset_gradient, detach_recurrent = ctx.rule
        step, wanted = membrane.shape[1:], ctx.needs_input_grad[2:]
        potentials = membrane.view(len(membrane), len(threshold))
        shape, slope = surrogate_in_kernel(surrogate, potentials, threshold, membrane.shape)
        on_x, on_weight, *on_lanes = _cpu().backward(
            on_fired.contiguous(), on_last.contiguous(), membrane, fired, slope, weight, decay, threshold, initial, sent,
            reset, shape, surrogate.dampening, surrogate.sharpness, reset_gradient, detach_recurrent, any(wanted[1:3]),
        )  # fmt: skip
        return on_x, None, on_weight, *sum_all_to(on_lanes, step, ctx.shapes[1:], wanted[1:])


def _cpu() -> ModuleType:
    from rheobase.ops.recurrent import cpu  # imported when first needed, for numba takes a while

    return cpu


@torch.library.custom_op("rheobase::recurrent_lif", mutates_args=(), device_types="cpu")
def _operator(
    x: Tensor,
    weight: Tensor,
    decay: Tensor,
    threshold: Tensor,
    initial: Tensor,
    sent: Tensor,
    reset: str,
    shape: str,
    dampening: float,
    sharpness: float,
    reset_gradient: str,
    detach_recurrent: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return _cpu().forward(x, weight, decay, threshold, initial, sent, reset, True)


@_operator.register_fake
def _(
    x: Tensor, _weight: Tensor, _decay: Tensor, _threshold: Tensor, initial: Tensor, *_rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(initial), torch.empty_like(x)


@torch.library.custom_op("rheobase::recurrent_lif_backward", mutates_args=(), device_types="cpu")
def _backward_operator(
    on_fired: Tensor,
    on_last: Tensor,
    membrane: Tensor,
    fired: Tensor,
    weight: Tensor,
    decay: Tensor,
    threshold: Tensor,
    initial: Tensor,
    sent: Tensor,
    reset: str,
    shape: str,
    dampening: float,
    sharpness: float,
    reset_gradient: str,
    detach_recurrent: bool,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    slope = membrane.new_empty(0, 0)
    return _cpu().backward(
        on_fired.contiguous(), on_last.contiguous(), membrane, fired, slope, weight, decay, threshold, initial, sent,
        reset, shape, dampening, sharpness, reset_gradient, detach_recurrent, learn,
    )  # fmt: skip


@_backward_operator.register_fake
def _(
    on_fired: Tensor, _on_last: Tensor, _membrane: Tensor, _fired: Tensor, *inputs: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    weight, decay, threshold, initial, sent, *_ = inputs
    like = torch.empty_like
    on_x = like(on_fired, memory_format=torch.contiguous_format)
    return on_x, like(weight), like(decay), like(threshold), like(initial), like(sent)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    _, *parameters = inputs[:6]
    ctx.save_for_backward(output[2], output[0], *parameters)
    ctx.rule = inputs[6:]
    ctx.learn = inputs[2].requires_grad or inputs[3].requires_grad


def _operator_backward(ctx: Any, on_fired: Tensor, on_last: Tensor, _on_membrane: Tensor) -> tuple[Tensor | None, ...]:
    gradients = torch.ops.rheobase.recurrent_lif_backward(on_fired, on_last, *ctx.saved_tensors, *ctx.rule, ctx.learn)
    return *gradients, *[None] * len(ctx.rule)


_operator.register_autograd(_operator_backward, setup_context=_save)
