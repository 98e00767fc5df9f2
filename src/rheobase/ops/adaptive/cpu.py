"""Adaptive neurons with a refractory period on the CPU: one pass over memory forwards, one backwards.

Built as the kernels of `rheobase.ops.lif.cpu`. Step by step is the fast way here: the work is proportional to T, where that of
the block algorithm is to T * L, and a spike costs nothing. The gradient of a block needs no more: what its ramp sends back is
a sum of sums, added up on the way.

Kept for the backward pass is one number for each neuron and step, the distance `u` of the membrane potential from the
threshold, and every `SEGMENT` steps the neuron's whole state. From these the backward pass goes through a segment forwards,
to learn who was refractory and what the traces were, and then backwards, all of it within the cache.

The rule "blocks" goes with another membrane potential than the real one: within a block it is not reset, it hears what comes
after the block's own spike, and the threshold that it is compared with does not know of that. The kernels follow both; they are
the same up to the spike, so that the spikes are equal to the last bit under either rule. How long the neuron rests after the
spike is made good at the block's end.
"""

# What the branches of a kernel choose between is known when it is compiled, and the one not taken does not exist.
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false

from collections.abc import Callable
from functools import cache
from typing import no_type_check

import numpy as np
from numba import types
from torch import Tensor

from rheobase.ops import threads
from rheobase.ops.bfloat16 import from_bfloat16, to_bfloat16
from rheobase.ops.compiler import compiled
from rheobase.ops.lif.cpu import array, kernel_types, type_of
from rheobase.ops.linear.lists import SpikeLists
from rheobase.ops.recurrent.cpu import gradient_by_spikes, spike_lists
from rheobase.ops.simd import APART
from rheobase.ops.slope.cpu import bump

__all__ = ["SEGMENT", "SpikeLists", "backward", "forward", "gradient_by_spikes", "spike_lists"]

SEGMENT = 16
"""Steps between two whole states that are kept."""

_WIDTH = 512
"""Lanes in a block of them, whose segment fits the second-level cache."""

# Rows of a block's working memory: the state before a step, of which the rule "sequential" has the first three (the last is how
# many steps of the block there were from its spike on), ...
_MEMBRANE, _TRACE, _RESTING, _BLOCK_TRACE, _FIRED = range(5)
# ... the parameters, ...
_DECAY, _THRESHOLD, _TRACE_DECAY, _ADAPTATION = range(5, 9)
# ... and backwards: the gradients of all these, and the sums of the spikes' gradients that are the ramp's.
_ON_MEMBRANE, _ON_TRACE, _ON_BLOCK_TRACE, _SUM, _SUM_OF_SUMS = range(9, 14)
_ON_DECAY, _ON_THRESHOLD, _ON_TRACE_DECAY, _ON_ADAPTATION = range(14, 18)

# Of every step of a segment: the distance, whether it hears its input, whether it keeps its potential, the states before it.
_DISTANCE, _HEARS, _KEEPS, _MEMBRANE_BEFORE, _TRACE_BEFORE, _BLOCK_TRACE_BEFORE = range(6)


def forward(
    x: Tensor,
    parameters: Tensor,
    last: Tensor,
    spikes: Tensor,
    distance: Tensor,
    kept: Tensor,
    blocks: bool,
    refractory: int,
    save: bool,
) -> None:
    """One piece of a forward pass, see `rheobase.ops.adaptive.pieces`.

    Args:
        x: the input current, `(T, M)`: float32, float64 or bfloat16.
        parameters: decay, threshold, the trace's decay, adaptation: `(4, M)`.
        last: membrane potential, trace, and refractory steps left, before the piece, `(3, M)`; those after it are written over
            them.
        spikes: the spikes, `(T, M)` in the type of `x`, are written here.
        distance: with `save`, the distance from the threshold, `(T, M)`, is written here.
        kept: with `save`, a whole state is written to its beginning for each segment: `(>= segments, 3 or by "blocks" 5, M)`.
        blocks: whether the backward pass will follow the rule "blocks".
        refractory: for how many steps after a spike a neuron hears nothing.
        save: whether a backward pass will follow.
    """
    kernel = _forward_kernel(blocks, type_of(x), save)
    arrays = [array(each) for each in (x, parameters, last, spikes, distance, kept)]
    numbers = arrays[2].dtype.type(refractory), refractory + 1
    threads.split(lambda low, high: kernel(*arrays, *numbers, low, high), x.shape[1], x.numel())


def backward(
    on_spikes: Tensor,
    distance: Tensor,
    slope: Tensor,
    kept: Tensor,
    parameters: Tensor,
    on_x: Tensor,
    on_state: Tensor,
    on_parameters: Tensor,
    blocks: bool,
    refractory: int,
    shape: str,
    dampening: float,
    sharpness: float,
    learn: bool,
) -> None:
    """The same piece of the backward pass.

    Args:
        on_spikes: the gradient of the spikes, `(T, M)`, in the type of `x`.
        distance: what `forward` has written.
        slope: the surrogate derivative, `(T, M)`, if `shape` is "given"; else without a step.
        kept: what `forward` has written.
        parameters: as in `forward`.
        on_x: the gradient of `x` is written here.
        on_state: the gradient of the state after the piece, `(3, M)`; that of the state before it is written over it, but for
            the refractory steps, which have none.
        on_parameters: with `learn`, the gradient of the parameters is added to this, `(4, M)`.
        blocks: as in `forward`.
        refractory: as in `forward`.
        shape: the class name of a surrogate that the kernel knows, or "given".
        dampening: the surrogate's peak.
        sharpness: the inverse of the surrogate's width.
        learn: whether the gradients of the parameters are wanted.
    """
    kernel = _backward_kernel(blocks, type_of(on_spikes), shape, learn)
    arrays = [array(each) for each in (on_spikes, distance, slope, kept, parameters, on_x, on_state, on_parameters)]
    number = arrays[4].dtype.type
    numbers = number(dampening), number(sharpness), number(refractory), refractory + 1
    threads.split(lambda low, high: kernel(*arrays, *numbers, low, high), on_spikes.shape[1], on_spikes.numel())


# What is compiled takes no run-time check of annotations around it: hence `no_type_check`.
@cache
@no_type_check
def _forward_kernel(blocks: bool, type_of_x: str, save: bool) -> Callable[..., None]:
    """The compiled kernel; with `save` it writes what the backward pass of this rule needs."""
    sequence, state, number = kernel_types(type_of_x)
    half, states = type_of_x == "bfloat16", 5 if blocks else 3
    zero, one = number(0), number(1)
    spike_in_memory, silence_in_memory = (np.uint16(0x3F80), np.uint16(0)) if half else (one, zero)
    rows = [sequence[:, ::1], state[:, ::1], state[:, ::1], sequence[:, ::1], state[:, ::1], state[:, :, ::1]]

    def adaptive_forward(x, parameters, last, spikes, distance, kept, refractory, length, low, high):
        lane = np.empty((9, _WIDTH + APART), number)
        for first in range(low, high, _WIDTH):
            end = min(first + _WIDTH, high)
            width = end - first
            for j in range(width):
                lane[_MEMBRANE, j] = last[0, first + j]
                lane[_TRACE, j] = lane[_BLOCK_TRACE, j] = last[1, first + j]
                lane[_RESTING, j] = last[2, first + j]
                lane[_FIRED, j] = zero
                for row in range(4):
                    lane[_DECAY + row, j] = parameters[row, first + j]
            for t in range(len(x)):
                if save and t % SEGMENT == 0:
                    for row in range(states):
                        for j in range(width):
                            kept[t // SEGMENT, row, first + j] = lane[row, j]
                row_x, row_spikes = x[t, first:end], spikes[t, first:end]
                if save:
                    row_distance = distance[t, first:end]
                for j in range(width):
                    current = from_bfloat16(row_x[j]) if half else row_x[j]
                    resting, fired = lane[_RESTING, j], lane[_FIRED, j]
                    hears = resting <= zero
                    v = lane[_DECAY, j] * lane[_MEMBRANE, j] + (current if hears else zero)
                    trace = lane[_BLOCK_TRACE, j] if blocks else lane[_TRACE, j]
                    u = v - (lane[_THRESHOLD, j] + lane[_ADAPTATION, j] * trace)
                    fires = (u >= zero) & (fired <= zero) if blocks else u >= zero
                    if save:
                        row_distance[j] = u
                    row_spikes[j] = spike_in_memory if fires else silence_in_memory
                    left = resting - one
                    left = left if left > zero else zero
                    lane[_RESTING, j] = left if blocks else (refractory if fires else left)
                    lane[_TRACE, j] = lane[_TRACE_DECAY, j] * lane[_TRACE, j] + (one if fires else zero)
                    if blocks:
                        lane[_MEMBRANE, j] = v
                        lane[_BLOCK_TRACE, j] = lane[_TRACE_DECAY, j] * trace
                        lane[_FIRED, j] = fired + one if fires | (fired > zero) else fired
                    else:
                        lane[_MEMBRANE, j] = zero if fires else v
                if blocks and ((t + 1) % length == 0 or t + 1 == len(x)):
                    for j in range(width):
                        fired = lane[_FIRED, j]
                        lane[_MEMBRANE, j] = zero if fired > zero else lane[_MEMBRANE, j]
                        lane[_RESTING, j] = refractory + one - fired if fired > zero else lane[_RESTING, j]
                        lane[_BLOCK_TRACE, j] = lane[_TRACE, j]
                        lane[_FIRED, j] = zero
            for j in range(width):
                last[0, first + j] = lane[_MEMBRANE, j]
                last[1, first + j] = lane[_TRACE, j]
                last[2, first + j] = lane[_RESTING, j]

    signature = types.void(*rows, state, types.intp, types.intp, types.intp)
    return compiled(adaptive_forward, signature, f"adaptive_forward_{blocks:d}_{type_of_x}_{save:d}")


@cache
@no_type_check
def _backward_kernel(blocks: bool, type_of_x: str, shape: str, learn: bool) -> Callable[..., None]:
    """The compiled adjoint; the gradient of the last state becomes that of the first, those of parameters are added to."""
    sequence, state, number = kernel_types(type_of_x)
    half, double = type_of_x == "bfloat16", type_of_x == "float64"
    zero, one = number(0), number(1)
    rows = [sequence[:, ::1], state[:, ::1], state[:, ::1], state[:, :, ::1], state[:, ::1]]
    rows += [sequence[:, ::1], state[:, ::1], state[:, ::1]]

    def adaptive_backward(
        on_spikes, distance, slope, kept, parameters, on_x, on_state, on_parameters,
        dampening, sharpness, refractory, length, low, high,
    ):  # fmt: skip
        steps = len(on_spikes)
        lane = np.empty((18, _WIDTH + APART), number)
        past = np.empty((SEGMENT, 6, _WIDTH + APART), number)
        for first in range(low, high, _WIDTH):
            end = min(first + _WIDTH, high)
            width = end - first
            for j in range(width):
                lane[_ON_MEMBRANE, j] = on_state[0, first + j]
                lane[_ON_TRACE, j] = on_state[1, first + j]
                lane[_ON_BLOCK_TRACE, j] = lane[_SUM, j] = lane[_SUM_OF_SUMS, j] = zero
                for row in range(4):
                    lane[_DECAY + row, j] = parameters[row, first + j]
                    lane[_ON_DECAY + row, j] = zero
            for segment in range((steps - 1) // SEGMENT, -1, -1):
                start = segment * SEGMENT
                stop = min(start + SEGMENT, steps)
                for row in range(5 if blocks else 3):
                    for j in range(width):
                        lane[row, j] = kept[segment, row, first + j]
                for t in range(start, stop):  # as the forward pass went
                    row_distance, before = distance[t, first:end], past[t - start]
                    for j in range(width):
                        u, resting, fired = row_distance[j], lane[_RESTING, j], lane[_FIRED, j]
                        hears = resting <= zero
                        fires = (u >= zero) & (fired <= zero) if blocks else u >= zero
                        before[_DISTANCE, j] = u
                        before[_HEARS, j] = one if hears else zero
                        left = resting - one
                        left = left if left > zero else zero
                        lane[_RESTING, j] = left if blocks else (refractory if fires else left)
                        if blocks:
                            before[_KEEPS, j] = one
                            lane[_FIRED, j] = fired + one if fires | (fired > zero) else fired
                        else:
                            before[_KEEPS, j] = zero if fires else one
                        if learn:
                            trace = lane[_BLOCK_TRACE, j] if blocks else lane[_TRACE, j]
                            v = u + (lane[_THRESHOLD, j] + lane[_ADAPTATION, j] * trace)
                            before[_MEMBRANE_BEFORE, j] = lane[_MEMBRANE, j]
                            before[_TRACE_BEFORE, j] = lane[_TRACE, j]
                            lane[_TRACE, j] = lane[_TRACE_DECAY, j] * lane[_TRACE, j] + (one if fires else zero)
                            if blocks:
                                before[_BLOCK_TRACE_BEFORE, j] = trace
                                lane[_MEMBRANE, j] = v
                                lane[_BLOCK_TRACE, j] = lane[_TRACE_DECAY, j] * trace
                            else:
                                lane[_MEMBRANE, j] = zero if fires else v
                    if blocks and ((t + 1) % length == 0 or t + 1 == steps):
                        for j in range(width):
                            fired = lane[_FIRED, j]
                            before[_KEEPS, j] = zero if fired > zero else one
                            lane[_RESTING, j] = refractory + one - fired if fired > zero else lane[_RESTING, j]
                            if learn:
                                lane[_MEMBRANE, j] = zero if fired > zero else lane[_MEMBRANE, j]
                                lane[_BLOCK_TRACE, j] = lane[_TRACE, j]
                            lane[_FIRED, j] = zero
                for t in range(stop - 1, start - 1, -1):
                    row_spikes, row_x, before = on_spikes[t, first:end], on_x[t, first:end], past[t - start]
                    if shape == "given":
                        row_slope = slope[t, first:end]
                    if blocks and (t + 1) % length == 0:
                        for j in range(width):
                            lane[_ON_TRACE, j] += lane[_ON_BLOCK_TRACE, j]
                            lane[_ON_BLOCK_TRACE, j] = lane[_SUM, j] = lane[_SUM_OF_SUMS, j] = zero
                    for j in range(width):
                        on_spike = from_bfloat16(row_spikes[j]) if half else row_spikes[j]
                        on_trace = lane[_ON_TRACE, j]
                        if blocks:
                            lane[_SUM, j] += on_spike
                            lane[_SUM_OF_SUMS, j] += lane[_SUM, j]
                            on_spike = lane[_SUM_OF_SUMS, j]
                        else:
                            on_spike = on_spike + on_trace
                        if shape == "given":
                            on_u = on_spike * row_slope[j]
                        else:
                            on_u = on_spike * (dampening * bump(shape, double, sharpness * before[_DISTANCE, j]))
                        on_v = (lane[_ON_MEMBRANE, j] if before[_KEEPS, j] > zero else zero) + on_u
                        on_current = on_v if before[_HEARS, j] > zero else zero
                        row_x[j] = to_bfloat16(on_current) if half else on_current
                        lane[_ON_MEMBRANE, j] = lane[_DECAY, j] * on_v
                        lane[_ON_TRACE, j] = lane[_TRACE_DECAY, j] * on_trace
                        on_compared = -lane[_ADAPTATION, j] * on_u  # of the trace that raised the threshold
                        if blocks:
                            on_block_trace = lane[_ON_BLOCK_TRACE, j]
                            lane[_ON_BLOCK_TRACE, j] = lane[_TRACE_DECAY, j] * on_block_trace + on_compared
                        else:
                            lane[_ON_TRACE, j] += on_compared
                        if learn:
                            lane[_ON_DECAY, j] += on_v * before[_MEMBRANE_BEFORE, j]
                            lane[_ON_THRESHOLD, j] -= on_u
                            lane[_ON_TRACE_DECAY, j] += on_trace * before[_TRACE_BEFORE, j]
                            if blocks:
                                lane[_ON_TRACE_DECAY, j] += on_block_trace * before[_BLOCK_TRACE_BEFORE, j]
                                lane[_ON_ADAPTATION, j] -= on_u * before[_BLOCK_TRACE_BEFORE, j]
                            else:
                                lane[_ON_ADAPTATION, j] -= on_u * before[_TRACE_BEFORE, j]
            for j in range(width):
                on_state[0, first + j] = lane[_ON_MEMBRANE, j]
                on_state[1, first + j] = lane[_ON_TRACE, j] + lane[_ON_BLOCK_TRACE, j]
                if learn:
                    for row in range(4):
                        on_parameters[row, first + j] += lane[_ON_DECAY + row, j]

    signature = types.void(*rows, state, state, state, types.intp, types.intp, types.intp)
    return compiled(adaptive_backward, signature, f"adaptive_backward_{blocks:d}_{type_of_x}_{shape}_{learn:d}")
