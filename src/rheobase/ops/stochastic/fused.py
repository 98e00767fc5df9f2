"""The kernels of stochastic firing, with their gradients, for eager code and for `torch.compile`.

As `rheobase.ops.lif.fused`. Kept for the backward pass is the membrane potential, 4 bytes for each neuron, sample and step (8
for float64). The noise is not: where a gradient depends on it, it is drawn again from the seed.
"""

from typing import Any

import torch
from torch import Tensor

from rheobase.ops.arguments import check_first_derivative
from rheobase.ops.kernels import kernels_for
from rheobase.ops.lanes import as_constants, rows, sequence_to_lanes, stack, sum_all_to, to_lanes
from rheobase.ops.stochastic.firing import Firing


def stochastic_lif(
    x: Tensor,
    decays: list[Tensor],
    slope: Tensor,
    offset: Tensor,
    initials: list[Tensor],
    noise: Tensor,
    firing: Firing,
    temperature: float,
) -> tuple[Tensor, ...]:
    """Outputs `(T, B, *features)`, and the membrane potential and current after the last step.

    The arguments are those of `rheobase.ops.stochastic.reference.stochastic_lif`.
    """
    step = x.shape[1:]
    if torch.compiler.is_compiling():
        parameters = stack(decays, step), to_lanes(slope, step), to_lanes(offset, step), stack(initials, step)
        outputs, last, _ = torch.ops.rheobase.stochastic_lif(
            sequence_to_lanes(x), *parameters, noise, firing, temperature
        )
        return outputs.view(x.shape), *rows(last, step)
    parameters = slope, offset, *decays, *initials
    save = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (x, *parameters))
    rule = firing, temperature
    return _StochasticLif.apply(x, noise, rule, save, *parameters)  # pyright: ignore[reportReturnType]


class _StochasticLif(torch.autograd.Function):
    """The gradients are computed by one kernel, in one pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, noise: Tensor, rule: tuple[Firing, float], save: bool, *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        step = x.shape[1:]
        ctx.shapes = [tensor.shape for tensor in parameters]
        slope, offset, *states = as_constants(*parameters)
        decay, initial = stack(states[:2], step), stack(states[2:], step)
        lanes = decay, to_lanes(slope, step), to_lanes(offset, step), initial
        outputs, last, membrane = kernels_for("stochastic", x).forward(
            sequence_to_lanes(x), *lanes, noise, rule[0], save
        )
        ctx.save_for_backward(membrane, *lanes, noise)
        ctx.rule, ctx.shape = rule, x.shape
        return as_constants(outputs.view(x.shape), *rows(last, step))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        check_first_derivative()
        on_outputs, *on_last = gradients
        step, wanted = ctx.shape[1:], ctx.needs_input_grad[4:]  # slope, offset, decays, initials
        on_x, on_initial, on_decay, on_slope, on_offset = kernels_for("stochastic", on_outputs).backward(
            sequence_to_lanes(on_outputs), stack(on_last, step), *ctx.saved_tensors, *ctx.rule, any(wanted[:4])
        )
        per_lane = on_slope, on_offset, *on_decay, *on_initial
        return on_x.view(ctx.shape), None, None, None, *sum_all_to(per_lane, step, ctx.shapes, wanted)


@torch.library.custom_op("rheobase::stochastic_lif", mutates_args=())
def _operator(
    x: Tensor,
    decay: Tensor,
    slope: Tensor,
    offset: Tensor,
    initial: Tensor,
    noise: Tensor,
    firing: str,
    temperature: float,
) -> tuple[Tensor, Tensor, Tensor]:
    return kernels_for("stochastic", x).forward(x, decay, slope, offset, initial, noise, firing, True)


@_operator.register_fake
def _(
    x: Tensor, decay: Tensor, _slope: Tensor, _offset: Tensor, initial: Tensor, *_rule: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(initial), torch.empty_like(x, dtype=decay.dtype)


@torch.library.custom_op("rheobase::stochastic_lif_backward", mutates_args=())
def _backward_operator(
    on_outputs: Tensor,
    on_last: Tensor,
    membrane: Tensor,
    decay: Tensor,
    slope: Tensor,
    offset: Tensor,
    initial: Tensor,
    noise: Tensor,
    firing: str,
    temperature: float,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    return kernels_for("stochastic", on_outputs).backward(
        on_outputs.contiguous(), on_last.contiguous(), membrane, decay, slope, offset, initial, noise,
        firing, temperature, learn,
    )  # fmt: skip


@_backward_operator.register_fake
def _(
    on_outputs: Tensor, _last: Tensor, _membrane: Tensor, *parameters: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    decay, slope, offset, initial, *_ = parameters
    on_x = torch.empty_like(on_outputs, memory_format=torch.contiguous_format)
    return on_x, *(torch.empty_like(value) for value in (initial, decay, slope, offset))  # pyright: ignore[reportReturnType]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    _, *parameters, noise, firing, temperature = inputs
    ctx.save_for_backward(output[2], *parameters, noise)
    ctx.rule = firing, temperature
    ctx.learn = any(tensor.requires_grad for tensor in parameters[:3])


def _operator_backward(ctx: Any, on_outputs: Tensor, on_last: Tensor, _on_saved: Tensor) -> tuple[Tensor | None, ...]:
    on_x, on_initial, on_decay, on_slope, on_offset = torch.ops.rheobase.stochastic_lif_backward(
        on_outputs, on_last, *ctx.saved_tensors, *ctx.rule, ctx.learn
    )
    return on_x, on_decay, on_slope, on_offset, on_initial, None, None, None


_operator.register_autograd(_operator_backward, setup_context=_save)
