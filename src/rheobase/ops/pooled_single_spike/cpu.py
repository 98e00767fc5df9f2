"""Neurons that fire once, and pooling of 2 x 2 of their spikes, on the CPU: one map of one sample after another, in the cache.

Forwards a map's neurons write the spikes of a step into one row, which is pooled at once. Backwards the membrane potentials
of the map are computed once more, which takes less time than reading them from memory, and each step back in time asks what a
spike of each window would have been worth: to all of it, of an average; of a maximum to the first that fires, or to the first
if none does, as PyTorch has it. A map has one decay and one threshold, so that nothing is read but the current.

Additions and products come in the order of the reference. No result depends on the number of threads.
"""

# What the branches of a kernel choose between is known when it is compiled, and the one not taken does not exist.
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false

from collections.abc import Callable
from functools import cache
from typing import no_type_check

import numpy as np
import torch
from numba import njit, types
from torch import Tensor

from rheobase.ops import memory, threads
from rheobase.ops.bfloat16 import from_bfloat16, to_bfloat16
from rheobase.ops.compiler import compiled
from rheobase.ops.lif.cpu import array, kernel_types, type_of
from rheobase.ops.simd import APART
from rheobase.ops.single_spike.adjoint import step_back, worth
from rheobase.ops.single_spike.credit import Credit

_PATIENCE = 8
"""Steps after which it is asked again whether a map is finished."""

# Rows of a map's working memory, in one array: of many, the compiler gives up to prove that they do not overlap.
_MEMBRANE, _FIRST, _SPIKE, _SECOND = range(4)
_ON_MEMBRANE, _ON_DECAY, _ON_THRESHOLD, _SUM, _SUM_OF_SUMS, _ON_CURRENT, _END, _BEFORE = range(4, 12)
_HEARD, _IN_SILENCE, _OTHER_1, _OTHER_2, _OTHER_3 = range(12, 17)  # of maxima alone


def forward(x: Tensor, steps: int, decay: Tensor, threshold: Tensor, fire_by_end: bool, pooling: str) -> Tensor:
    """The pooled spikes.

    Args:
        x: the currents `(T, B, C, height, width)`, or of one step that is held for all, `(1, B, C, height, width)`: contiguous,
            float32, float64 or bfloat16; height and width even.
        steps: T.
        decay: what the membrane potential keeps per step, one number or `(C,)`.
        threshold: likewise.
        fire_by_end: whether the crossing of the last step is certain.
        pooling: of windows of 2 x 2.

    Returns:
        `(T, B, C, height / 2, width / 2)`, in the type of `x`.
    """
    batch, channels, height, width = x.shape[1:]
    y = memory.empty((steps, batch, channels, height // 2, width // 2), x.dtype)
    kernel, maps = _forward_kernel(type_of(x), pooling), batch * channels
    values = [array(each.reshape(-1)) for each in (decay, threshold)]
    arrays = array(x.view(len(x), maps, -1)), *values, array(y.view(steps, maps, -1))
    threads.split(
        lambda low, high: kernel(*arrays, channels, width, fire_by_end, low, high),
        maps, steps * maps * height * width, align=1,
    )  # fmt: skip
    return y


def backward(
    x: Tensor,
    on_y: Tensor,
    decay: Tensor,
    threshold: Tensor,
    credit: Credit,
    fire_by_end: bool,
    shape: str,
    dampening: float,
    sharpness: float,
    learn: bool,
    pooling: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `x`, in its shape and type, and of decay and threshold, of each map `(B, C)` in float64.

    Args:
        x: as in `forward`.
        on_y: the gradient of what `forward` returned.
        decay: as in `forward`.
        threshold: as in `forward`.
        credit: the rule of the gradient.
        fire_by_end: as in `forward`.
        shape: the name of the surrogate.
        dampening: of the surrogate.
        sharpness: of the surrogate.
        learn: whether the gradients of decay and threshold are wanted; without it they are 0.
        pooling: as in `forward`.
    """
    batch, channels, height, width = x.shape[1:]
    steps, maps = len(on_y), batch * channels
    on_x = memory.empty(tuple(x.shape), x.dtype)
    on_decay, on_threshold = (torch.zeros(maps, dtype=torch.float64) for _ in range(2))
    # What the ramp sums of an average is the same for all neurons of a window; of a maximum each has its own.
    earned = on_y.to(decay.dtype)
    earned = worth(earned, dampening / 4, credit) if pooling == "average" else dampening * earned
    kernel = _backward_kernel(type_of(x), shape, credit, pooling)
    values = [array(each.reshape(-1)) for each in (decay, threshold)]
    inputs = array(x.view(len(x), maps, -1)), array(earned.view(steps, maps, -1)), *values
    arrays = *inputs, array(on_x.view(len(x), maps, -1)), on_decay.numpy(), on_threshold.numpy()
    threads.split(
        lambda low, high: kernel(*arrays, channels, width, sharpness, fire_by_end, learn, low, high),
        maps, steps * maps * height * width, align=1,
    )  # fmt: skip
    return on_x, on_decay.view(batch, channels), on_threshold.view(batch, channels)


# Taken into the kernels before they are compiled.
@njit(inline="always")
@no_type_check
def _step(decay, threshold, before, current, first, second, now, forced):
    """One neuron and step: the membrane potential, and the steps of the first and second crossing as far as they are known."""
    v = decay * before + current
    above = (v - threshold >= 0) | forced
    second = now if above & (first < now) & (second > now) else second
    first = now if above & (first > now) else first
    return v, first, second


# What is compiled takes no run-time check of annotations around it: hence `no_type_check` on what makes kernels.
@cache
@no_type_check
def _forward_kernel(type_of_x: str, pooling: str) -> Callable[..., None]:
    """The compiled forward pass, over maps of samples."""
    sequence, state, number = kernel_types(type_of_x)
    half, zero, one, quarter = type_of_x == "bfloat16", number(0), number(1), number(0.25)
    average = pooling == "average"
    silence = np.uint16(0) if half else zero

    def pooled_single_spike_forward(x, decays, thresholds, y, channels, width, fire_by_end, low, high):
        (steps, _, windows), area = y.shape, x.shape[2]
        held, never, half_width = len(x) == 1, number(steps), width // 2
        lane = np.empty((3, area), number)
        for item in range(low, high):
            channel = item % channels
            decay = decays[channel if len(decays) > 1 else 0]
            threshold = thresholds[channel if len(thresholds) > 1 else 0]
            membranes, firsts, spikes = lane[_MEMBRANE], lane[_FIRST], lane[_SPIKE]
            for j in range(area):
                membranes[j], firsts[j] = zero, never
            going = True
            for t in range(steps):
                row_y = y[t, item]
                if not going:
                    for k in range(windows):
                        row_y[k] = silence
                    continue
                row_x = x[0 if held else t, item]
                now, forced = number(t), fire_by_end and t == steps - 1
                for j in range(area):
                    current = from_bfloat16(row_x[j]) if half else row_x[j]
                    membranes[j], first, _ = _step(
                        decay, threshold, membranes[j], current, firsts[j], never, now, forced
                    )
                    firsts[j] = first
                    spikes[j] = one if first == now else zero
                for i in range(windows // half_width):
                    upper = spikes[2 * i * width : (2 * i + 1) * width]
                    lower = spikes[(2 * i + 1) * width : (2 * i + 2) * width]
                    row = row_y[i * half_width : (i + 1) * half_width]
                    for k in range(half_width):
                        some = upper[2 * k] + upper[2 * k + 1] + lower[2 * k] + lower[2 * k + 1]
                        pooled = some * quarter if average else min(some, one)
                        row[k] = to_bfloat16(pooled) if half else pooled
                if t % _PATIENCE == _PATIENCE - 1:
                    waiting = 0
                    for j in range(area):
                        waiting += firsts[j] > now
                    going = waiting > 0

    inputs = sequence[:, :, ::1], state[::1], state[::1], sequence[:, :, ::1]
    signature = types.void(*inputs, types.intp, types.intp, types.boolean, types.intp, types.intp)
    return compiled(pooled_single_spike_forward, signature, f"pooled_single_spike_forward_{type_of_x}_{pooling}")


@cache
@no_type_check
def _backward_kernel(type_of_x: str, shape: str, credit: str, pooling: str) -> Callable[..., None]:
    """The compiled adjoint, over maps of samples."""
    sequence, state, number = kernel_types(type_of_x)
    half, double, ends = type_of_x == "bfloat16", type_of_x == "float64", credit != "ramp"
    last_to_matter, zero, one = _SECOND if credit == "product" else _FIRST, number(0), number(1)
    silence, average = np.uint16(0) if half else zero, pooling == "average"
    sums = credit == "ramp" and not average

    def pooled_single_spike_backward(
        x, earned, decays, thresholds, on_x, on_decay, on_threshold, channels, width, sharpness, fire_by_end,
        learn, low, high,
    ):  # fmt: skip
        (steps, _, windows), area = earned.shape, x.shape[2]
        held, never, end_of_all, half_width = len(x) == 1, number(steps), number(steps - 1), width // 2
        rows = 12 if average else 17
        lane, membranes = np.empty((rows, area + APART), number), np.empty((steps + 1, area + APART), number)
        for item in range(low, high):
            channel = item % channels
            decay = decays[channel if len(decays) > 1 else 0]
            threshold = thresholds[channel if len(thresholds) > 1 else 0]
            for j in range(area):
                lane[_FIRST, j] = lane[_SECOND, j] = never
                lane[_ON_MEMBRANE, j] = lane[_ON_DECAY, j] = lane[_ON_THRESHOLD, j] = zero
                lane[_SUM, j] = lane[_SUM_OF_SUMS, j] = lane[_ON_CURRENT, j] = zero
                lane[_MEMBRANE, j] = membranes[0, j] = zero
            # The membrane potential once more: row t + 1 is that of step t.
            stop = steps
            for t in range(steps):
                row_x, row_membrane = x[0 if held else t, item], membranes[t + 1]
                now, forced = number(t), fire_by_end and t == steps - 1
                for j in range(area):
                    current = from_bfloat16(row_x[j]) if half else row_x[j]
                    v, lane[_FIRST, j], lane[_SECOND, j] = _step(
                        decay, threshold, lane[_MEMBRANE, j], current, lane[_FIRST, j], lane[_SECOND, j], now, forced
                    )
                    lane[_MEMBRANE, j] = row_membrane[j] = v
                if ends and t % _PATIENCE == _PATIENCE - 1:
                    waiting = 0
                    for j in range(area):
                        waiting += lane[last_to_matter, j] > now
                    if waiting == 0:
                        stop = t + 1
                        break
            for j in range(area):
                lane[_END, j] = min(lane[last_to_matter, j], end_of_all) if ends else end_of_all
            if not average:
                # A neuron is heard at its step, unless one before it in the window fires there as well; and the first also
                # whenever none of the others fires.
                for j in range(area):
                    lane[_HEARD, j], lane[_IN_SILENCE, j] = lane[_FIRST, j], zero
                for i in range(windows // half_width):
                    for k in range(half_width):
                        a = 2 * i * width + 2 * k
                        b, c, d = a + 1, a + width, a + width + 1
                        at_a, at_b, at_c, at_d = lane[_FIRST, a], lane[_FIRST, b], lane[_FIRST, c], lane[_FIRST, d]
                        if at_b == at_a:
                            lane[_HEARD, b] = -one
                        if (at_c == at_a) | (at_c == at_b):
                            lane[_HEARD, c] = -one
                        if (at_d == at_a) | (at_d == at_b) | (at_d == at_c):
                            lane[_HEARD, d] = -one
                        lane[_IN_SILENCE, a] = one
                        lane[_OTHER_1, a], lane[_OTHER_2, a], lane[_OTHER_3, a] = at_b, at_c, at_d
            for t in range(0 if held else stop, 0 if held else steps):
                row_x = on_x[t, item]
                for j in range(area):
                    row_x[j] = silence
            for t in range(stop - 1, -1, -1):
                row_earned, on_spikes, now = earned[t, item], lane[_SPIKE], number(t)
                for i in range(windows // half_width):
                    row = row_earned[i * half_width : (i + 1) * half_width]
                    upper = on_spikes[2 * i * width : (2 * i + 1) * width]
                    lower = on_spikes[(2 * i + 1) * width : (2 * i + 2) * width]
                    for k in range(half_width):
                        upper[2 * k] = upper[2 * k + 1] = lower[2 * k] = lower[2 * k + 1] = row[k]
                forced, row_before = fire_by_end and t == steps - 1, membranes[t]
                for j in range(area):  # into the one array that the next loop uses, else it makes no vectors
                    lane[_BEFORE, j] = row_before[j]
                for j in range(area):
                    on_spike = lane[_SPIKE, j]
                    if not average:
                        others = (lane[_OTHER_1, j] == now) | (lane[_OTHER_2, j] == now) | (lane[_OTHER_3, j] == now)
                        heard = (lane[_HEARD, j] == now) | ((lane[_IN_SILENCE, j] > zero) & ~others)
                        on_spike = on_spike if heard else zero
                    if sums:
                        lane[_SUM, j] += on_spike
                        lane[_SUM_OF_SUMS, j] += lane[_SUM, j]
                        on_spike = lane[_SUM_OF_SUMS, j]
                    neuron = decay, threshold, lane[_FIRST, j], lane[_END, j]
                    remembered = (
                        lane[_ON_MEMBRANE, j], lane[_ON_DECAY, j], lane[_ON_THRESHOLD, j], lane[_ON_CURRENT, j],
                        lane[_SUM, j], lane[_SUM_OF_SUMS, j],
                    )  # fmt: skip
                    on_v, remembered = step_back(
                        shape, credit, double, sharpness, on_spike, lane[_MEMBRANE, j], lane[_BEFORE, j], now, True,
                        forced, neuron, remembered,
                    )  # fmt: skip
                    lane[_SPIKE, j], lane[_MEMBRANE, j] = on_v, lane[_BEFORE, j]
                    lane[_ON_MEMBRANE, j], lane[_ON_DECAY, j], lane[_ON_THRESHOLD, j] = remembered[:3]
                    lane[_ON_CURRENT, j], lane[_SUM, j], lane[_SUM_OF_SUMS, j] = remembered[3:]
                if not held:
                    row_x = on_x[t, item]
                    for j in range(area):
                        row_x[j] = to_bfloat16(on_spikes[j]) if half else on_spikes[j]
            if held:
                row_x = on_x[0, item]
                for j in range(area):
                    row_x[j] = to_bfloat16(lane[_ON_CURRENT, j]) if half else lane[_ON_CURRENT, j]
            if learn:
                for j in range(area):
                    on_decay[item] += lane[_ON_DECAY, j]
                    on_threshold[item] += lane[_ON_THRESHOLD, j]

    maps, found = state[:, :, ::1], types.float64[::1]
    arrays = sequence[:, :, ::1], maps, state[::1], state[::1], sequence[:, :, ::1], found, found
    numbers = types.intp, types.intp, state, types.boolean, types.boolean, types.intp, types.intp
    variant = f"pooled_single_spike_backward_{type_of_x}_{shape}_{credit}_{pooling}"
    return compiled(pooled_single_spike_backward, types.void(*arrays, *numbers), variant)
