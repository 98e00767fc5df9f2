"""The kernels of neurons that fire once, with their gradients, for eager code and for `torch.compile`.

As `rheobase.ops.lif.fused`. Kept for the backward pass are the membrane potential, 4 bytes for each neuron, sample and step
(8 for float64), and the steps of the first and the second crossing of the threshold, 8 bytes for each neuron and sample.
"""

from typing import Any

import torch
from torch import Tensor

from rheobase.ops.arguments import check_first_derivative
from rheobase.ops.kernels import kernels_for
from rheobase.ops.lanes import as_constants, rows, sequence_to_lanes, stack, sum_all_to, to_lanes
from rheobase.ops.lif.fused import readable
from rheobase.ops.single_spike.credit import Credit
from rheobase.ops.slope import surrogate_in_kernel
from rheobase.surrogate import Surrogate

__all__ = ["readable", "single_spike"]


def single_spike(
    x: Tensor,
    decay: Tensor,
    threshold: Tensor,
    initial: list[Tensor],
    credit: Credit,
    fire_by_end: bool,
    surrogate: Surrogate,
    whole: bool,
) -> tuple[Tensor, ...]:
    """Spikes `(T, B, *features)` and the state after the last step; with `whole`, from rest, and the state is `initial`."""
    step = x.shape[1:]
    if torch.compiler.is_compiling():
        parameters = to_lanes(decay, step), to_lanes(threshold, step), stack(initial, step)
        rule = credit, fire_by_end, type(surrogate).__name__, surrogate.dampening, surrogate.sharpness
        spikes, last, _, _ = torch.ops.rheobase.single_spike(sequence_to_lanes(x), *parameters, *rule)
        return spikes.view(x.shape), *rows(last, step)
    states = [] if whole else initial
    save = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, decay, threshold, *states))
    rule = credit, fire_by_end, surrogate
    spikes, *last = _SingleSpike.apply(x, rule, save, decay, threshold, *states)  # pyright: ignore[reportGeneralTypeIssues]
    return spikes, *(last or initial)


class _SingleSpike(torch.autograd.Function):
    """The gradients are computed by one kernel, in one pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, rule: tuple[Credit, bool, Surrogate], save: bool, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        step, (credit, fire_by_end, _) = x.shape[1:], rule
        ctx.shapes = [tensor.shape for tensor in parameters]
        decay, threshold, *states = as_constants(*parameters)
        decay, threshold = to_lanes(decay, step), to_lanes(threshold, step)
        initial = stack(states, step) if states else decay.new_empty(0, 0)
        spikes, last, membrane, crossings = kernels_for("single_spike", x).forward(
            sequence_to_lanes(x), decay, threshold, initial, credit, fire_by_end, save, not states
        )
        ctx.save_for_backward(membrane, crossings, decay, threshold, initial)
        ctx.rule, ctx.shape = rule, x.shape
        return as_constants(spikes.view(x.shape), *rows(last, step))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        check_first_derivative()
        on_spikes, *on_last = gradients
        membrane, crossings, decay, threshold, initial = ctx.saved_tensors
        credit, fire_by_end, surrogate = ctx.rule
        step, wanted = ctx.shape[1:], ctx.needs_input_grad[3:]
        shape, slope = surrogate_in_kernel(surrogate, membrane, threshold, ctx.shape)
        on_x, on_initial, *on_parameters = kernels_for("single_spike", on_spikes).backward(
            sequence_to_lanes(on_spikes), stack(on_last, step) if on_last else initial, membrane, crossings, slope,
            decay, threshold, initial, credit, fire_by_end,
            shape, surrogate.dampening, surrogate.sharpness, any(wanted[:2]), not on_last,
        )  # fmt: skip
        per_lane = (*on_parameters, *on_initial)
        return on_x.view(ctx.shape), None, None, *sum_all_to(per_lane, step, ctx.shapes, wanted)


@torch.library.custom_op("rheobase::single_spike", mutates_args=())
def _operator(
    x: Tensor,
    decay: Tensor,
    threshold: Tensor,
    initial: Tensor,
    credit: str,
    fire_by_end: bool,
    shape: str,
    dampening: float,
    sharpness: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return kernels_for("single_spike", x).forward(x, decay, threshold, initial, credit, fire_by_end, True, False)


@_operator.register_fake
def _(
    x: Tensor, decay: Tensor, _threshold: Tensor, initial: Tensor, *_rule: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    lanes = x.shape[1]
    return (
        torch.empty_like(x),
        torch.empty_like(initial),
        torch.empty_like(x, dtype=decay.dtype),
        decay.new_empty(2, lanes),
    )


@torch.library.custom_op("rheobase::single_spike_backward", mutates_args=())
def _backward_operator(
    on_spikes: Tensor,
    on_last: Tensor,
    membrane: Tensor,
    crossings: Tensor,
    decay: Tensor,
    threshold: Tensor,
    initial: Tensor,
    credit: str,
    fire_by_end: bool,
    shape: str,
    dampening: float,
    sharpness: float,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    slope = membrane.new_empty(0, 0)
    return kernels_for("single_spike", on_spikes).backward(
        on_spikes.contiguous(), on_last.contiguous(), membrane, crossings, slope, decay, threshold, initial,
        credit, fire_by_end, shape, dampening, sharpness, learn, False,
    )  # fmt: skip


@_backward_operator.register_fake
def _(
    on_spikes: Tensor, _last: Tensor, _membrane: Tensor, _crossings: Tensor, *inputs: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    decay, threshold, initial, *_ = inputs
    on_x = torch.empty_like(on_spikes, memory_format=torch.contiguous_format)
    return on_x, torch.empty_like(initial), torch.empty_like(decay), torch.empty_like(threshold)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    _, decay, threshold, initial, *rule = inputs
    ctx.save_for_backward(*output[2:], decay, threshold, initial)
    ctx.rule = rule
    ctx.learn = decay.requires_grad or threshold.requires_grad


def _operator_backward(ctx: Any, on_spikes: Tensor, on_last: Tensor, *_on_saved: Tensor) -> tuple[Tensor | None, ...]:
    on_x, on_initial, on_decay, on_threshold = torch.ops.rheobase.single_spike_backward(
        on_spikes, on_last, *ctx.saved_tensors, *ctx.rule, ctx.learn
    )
    return on_x, on_decay, on_threshold, on_initial, *[None] * len(ctx.rule)


_operator.register_autograd(_operator_backward, setup_context=_save)
