"""The kernels of adaptive neurons, with their gradients, for eager code and for `torch.compile`; as `rheobase.ops.lif.fused`.

Kept for the backward pass: the distance of the membrane potential from the threshold, 4 bytes for each neuron, sample and step
(8 for float64), and every 16 steps, on a GPU every 8, 3 or 5 such numbers more. Recurrent neurons, which are computed in pieces
of R + 1 steps, keep these at the start of each piece too; and their spikes, on the CPU as lists.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rheobase.ops.adaptive import pieces
from rheobase.ops.arguments import check_first_derivative
from rheobase.ops.kernels import kernels_for
from rheobase.ops.lanes import as_constants, rows, sequence_to_lanes, stack, sum_all_to
from rheobase.ops.slope import surrogate_in_kernel
from rheobase.surrogate import Surrogate


def adaptive_lif(
    x: Tensor,
    parameters: Sequence[Tensor],
    state: Sequence[Tensor],
    blocks: bool,
    refractory: int,
    surrogate: Surrogate,
    weight: Tensor | None = None,
    sent: Tensor | None = None,
    detach_recurrent: bool = True,
) -> tuple[Tensor, list[Tensor]]:
    """The spikes `(T, B, *features)`, and membrane potential, trace and refractory steps left after the last step.

    Args:
        x: the input current, `(T, B, *features)`: `readable`, with recurrent weights in the type of the states.
        parameters: decay, threshold, the trace's decay, adaptation, each broadcasting to `(B, *features)`.
        state: membrane potential, trace, refractory steps left, before the first step, likewise.
        blocks: whether the gradient is that of the rule "blocks".
        refractory: for how many steps after a spike a neuron hears nothing.
        surrogate: what the kernels use in place of the spike's derivative.
        weight: recurrent weights, `(N, N)`, in the type of the states; None for none.
        sent: the spikes of the R + 1 steps before the first, `(R + 1, B, N)`, if there are recurrent weights.
        detach_recurrent: keep the gradient from going back through the recurrent spikes.
    """
    step = x.shape[1:]
    if torch.compiler.is_compiling():
        lanes = stack(parameters, step), stack(state, step)
        whole = [None if tensor is None else tensor.contiguous() for tensor in (weight, sent)]
        rule = blocks, refractory, type(surrogate).__name__, surrogate.dampening, surrogate.sharpness, detach_recurrent
        spikes, last, *_ = torch.ops.rheobase.adaptive_lif(sequence_to_lanes(x), *lanes, *whole, *rule)
        spikes, after = spikes.view(x.shape), rows(last, step)
    else:
        tensors = (weight, sent, *parameters, *state)
        given = [tensor for tensor in (x, *tensors) if tensor is not None]
        save = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in given)
        rule = blocks, refractory, surrogate, detach_recurrent
        spikes, *after = _AdaptiveLif.apply(x, rule, save, *tensors)  # pyright: ignore[reportGeneralTypeIssues]
    membrane, trace, resting = after
    return spikes, [membrane, trace, resting.detach()]


class _AdaptiveLif(torch.autograd.Function):
    """The gradients are computed by one kernel, in one pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        rule: tuple[bool, int, Surrogate, bool],
        save: bool,
        weight: Tensor | None,
        sent: Tensor | None,
        *values: Tensor,
    ) -> tuple[Tensor, ...]:
        step = x.shape[1:]
        ctx.shapes = [value.shape for value in values]
        ctx.shape, ctx.rule = x.shape, rule
        values = as_constants(*values)
        parameters, initial = stack(values[:4], step), stack(values[4:], step)
        weight, sent = (None if tensor is None else tensor.detach().contiguous() for tensor in (weight, sent))
        kernels = kernels_for("adaptive", x)
        spikes, last, distance, kept = pieces.forward(
            kernels, sequence_to_lanes(x), parameters, initial, weight, sent, *rule[:2], save
        )
        heard = None, None  # the spikes, one way or the other
        if save and sent is not None and ctx.needs_input_grad[3]:
            lists = kernels.spike_lists(spikes.view(x.shape), len(sent))
            heard = (spikes.view(x.shape), None) if lists is None else (lists.start, lists.index)
        outputs = as_constants(spikes.view(x.shape), *rows(last, step))
        ctx.mark_non_differentiable(outputs[-1])
        ctx.save_for_backward(distance, kept, parameters, weight, sent, *heard)
        return outputs

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        check_first_derivative()
        on_spikes, *on_last = gradients
        distance, kept, parameters, weight, sent, fired, index = ctx.saved_tensors
        kernels = kernels_for("adaptive", on_spikes)
        if index is not None:
            fired = kernels.SpikeLists(ctx.shape[-1], fired, index, None)
        blocks, refractory, surrogate, detach_recurrent = ctx.rule
        step, wanted = ctx.shape[1:], ctx.needs_input_grad[3:]
        shape, slope = surrogate_in_kernel(surrogate, distance, parameters.new_zeros(1), ctx.shape)
        on_x, on_state, on_parameters, on_weight, on_sent = pieces.backward(
            kernels, sequence_to_lanes(on_spikes), stack(on_last, step), distance, kept, slope, parameters, weight, sent,
            fired, blocks, refractory, shape, surrogate.dampening, surrogate.sharpness, detach_recurrent, any(wanted[2:6]),
        )  # fmt: skip
        on_recurrent = [on if needed else None for on, needed in zip((on_weight, on_sent), wanted[:2], strict=True)]
        on_values = sum_all_to((*on_parameters, *on_state), step, ctx.shapes, wanted[2:])
        return on_x.view(ctx.shape), None, None, *on_recurrent, *on_values


@torch.library.custom_op("rheobase::adaptive_lif", mutates_args=())
def _operator(
    x: Tensor,
    parameters: Tensor,
    initial: Tensor,
    weight: Tensor | None,
    sent: Tensor | None,
    blocks: bool,
    refractory: int,
    shape: str,
    dampening: float,
    sharpness: float,
    detach_recurrent: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return pieces.forward(kernels_for("adaptive", x), x, parameters, initial, weight, sent, blocks, refractory, True)


@_operator.register_fake
def _(
    x: Tensor,
    parameters: Tensor,
    initial: Tensor,
    weight: Tensor | None,
    _sent: Any,
    blocks: bool,
    refractory: int,
    *_: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    count, states = pieces.kept_states(kernels_for("adaptive", x), len(x), refractory, blocks, weight is not None)
    kept = parameters.new_empty(count, states, x.shape[1])
    return torch.empty_like(x), torch.empty_like(initial), torch.empty_like(x, dtype=parameters.dtype), kept


@torch.library.custom_op("rheobase::adaptive_lif_backward", mutates_args=())
def _backward_operator(
    on_spikes: Tensor,
    on_last: Tensor,
    distance: Tensor,
    kept: Tensor,
    parameters: Tensor,
    weight: Tensor | None,
    sent: Tensor | None,
    fired: Tensor,
    blocks: bool,
    refractory: int,
    shape: str,
    dampening: float,
    sharpness: float,
    detach_recurrent: bool,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    slope = distance.new_empty(0, 0)
    heard = None if sent is None else fired.view(len(fired), *sent.shape[1:])
    return pieces.backward(
        kernels_for("adaptive", on_spikes), on_spikes.contiguous(), on_last.contiguous(), distance, kept, slope, parameters,
        weight, sent, heard, blocks, refractory, shape, dampening, sharpness, detach_recurrent, learn,
    )  # fmt: skip


@_backward_operator.register_fake
def _(
    on_spikes: Tensor,
    on_last: Tensor,
    _distance: Tensor,
    _kept: Tensor,
    parameters: Tensor,
    weight: Tensor | None,
    sent: Tensor | None,
    *_: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    def like(tensor: Tensor | None) -> Tensor:
        return on_spikes.new_empty(0) if tensor is None else torch.empty_like(tensor)

    on_x = torch.empty_like(on_spikes, memory_format=torch.contiguous_format)
    on_state = torch.empty_like(on_last, memory_format=torch.contiguous_format)
    return on_x, on_state, like(parameters), like(weight), like(sent)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    _, parameters, _, weight, sent, *ctx.rule = inputs
    spikes, _, distance, kept = output
    ctx.save_for_backward(distance, kept, parameters, weight, sent, spikes)
    ctx.learn = parameters.requires_grad


def _operator_backward(ctx: Any, on_spikes: Tensor, on_last: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    on_x, on_state, on_parameters, on_weight, on_sent = torch.ops.rheobase.adaptive_lif_backward(
        on_spikes, on_last, *ctx.saved_tensors, *ctx.rule, ctx.learn
    )
    recurrent = (None, None) if ctx.saved_tensors[3] is None else (on_weight, on_sent)
    return on_x, on_parameters, on_state, *recurrent, *[None] * len(ctx.rule)


_operator.register_autograd(_operator_backward, setup_context=_save)
