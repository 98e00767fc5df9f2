"""Leaky integrate-and-fire neurons on the CPU: one pass over memory forwards, one backwards.

A neuron does a handful of additions for every number that it reads, so its cost is that of moving its input, its spikes and
what the backward pass needs through memory. These kernels move each of them once. Time is the loop outside, neurons are the
loop inside: a block of neurons keeps its states in the cache for all steps, and the inner loop is plain arithmetic on
consecutive numbers, which the compiler turns into vector instructions. What would cost a second pass, the gradients of decays
and thresholds, is added up on the way.

Sequences are `(T, M)`, M lanes being the neurons of all samples. A neuron has one state, the membrane potential, or two: a
synaptic current is row 1 of `decay`, `initial` and `last`. A neuron that never fires is the leaky integrator of
`rheobase.ops.integrate`, which uses the same kernels. Additions and products come in the order of the reference and are not
contracted, so that spikes are equal to the last bit; nothing assumes that there is no NaN.
"""

# What the branches of a kernel choose between is known when it is compiled, and the one not taken does not exist.
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false

from collections.abc import Callable
from functools import cache
from typing import Any, no_type_check

import numpy as np
import torch
from numba import types
from torch import Tensor

from rheobase.ops import memory, threads
from rheobase.ops.bfloat16 import from_bfloat16, to_bfloat16
from rheobase.ops.compiler import compiled
from rheobase.ops.lif.reset import Reset
from rheobase.ops.simd import APART
from rheobase.ops.slope.cpu import bump

_WIDTH = 4096
"""Lanes in a block. Its states fit the second-level cache, its rows are whole pages, which the hardware prefetches."""

# Rows of a block's working memory. They lie in one array, since the compiler gives up on vector instructions when it has to
# prove of many arrays that they do not overlap.
_MEMBRANE, _DECAY, _THRESHOLD, _CURRENT, _SYNAPSE_DECAY = range(5)
_ON_DECAY, _ON_THRESHOLD, _ON_SYNAPSE_DECAY, _ON_NEXT_CURRENT, _BEFORE = range(5, 10)


def forward(
    x: Tensor, decay: Tensor, threshold: Tensor, initial: Tensor, reset: Reset, save: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The neurons' spikes, and what the backward pass needs.

    Args:
        x: the input current, `(T, M)`: float32, float64 or bfloat16.
        decay: what the states keep per step, `(S, M)`.
        threshold: `(M,)`.
        initial: the states before the first step, `(S, M)`.
        reset: what a spike does to the membrane potential.
        save: whether a backward pass will follow.

    Returns:
        The spikes `(T, M)` in the type of `x`, the states after the last step `(S, M)`, and the membrane potential before the
        reset, `(T, M)`, or `(0, 0)` without `save`.
    """
    steps, lanes = x.shape
    spikes = memory.empty((steps, lanes), x.dtype)
    membrane = memory.empty((steps, lanes) if save else (0, 0), decay.dtype)
    last = torch.empty_like(initial)
    kernel = forward_kernel(reset, len(decay), type_of(x), fire=True, save=save)
    arrays = [array(tensor) for tensor in (x, decay, threshold, initial, spikes, last, membrane)]
    threads.split(lambda low, high: kernel(*arrays, low, high), lanes, steps * lanes)
    return spikes, last, membrane


def backward(
    on_spikes: Tensor,
    on_last: Tensor,
    membrane: Tensor,
    slope: Tensor,
    decay: Tensor,
    threshold: Tensor,
    initial: Tensor,
    reset: Reset,
    shape: str,
    dampening: float,
    sharpness: float,
    reset_gradient: str,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of all that `forward` received.

    Args:
        on_spikes: the gradient of the spikes, `(T, M)`.
        on_last: the gradient of the states after the last step, `(S, M)`.
        membrane: what `forward` saved.
        slope: the surrogate derivative, `(T, M)`, if `shape` is "given"; else `(0, 0)`.
        decay: as in `forward`.
        threshold: as in `forward`.
        initial: as in `forward`.
        reset: as in `forward`.
        shape: the class name of a surrogate that the kernel knows, or "given".
        dampening: the surrogate's peak.
        sharpness: the inverse of the surrogate's width.
        reset_gradient: what the gradient sees of the reset.
        learn: whether the gradients of decay and threshold are wanted.

    Returns:
        The gradients of `x` `(T, M)`, of `initial` `(S, M)`, of `decay` `(S, M)` and of `threshold` `(M,)`, the last two 0
        without `learn`.
    """
    steps, lanes = on_spikes.shape
    on_x = memory.empty((steps, lanes), on_spikes.dtype)
    on_initial = torch.empty_like(initial)
    on_decay, on_threshold = torch.zeros_like(decay), torch.zeros_like(threshold)
    kernel = backward_kernel(reset, len(decay), type_of(on_spikes), shape, reset_gradient=reset_gradient, learn=learn)
    inputs = (on_spikes, on_last, membrane, slope, decay, threshold, initial)
    arrays = [array(tensor) for tensor in (*inputs, on_x, on_initial, on_decay, on_threshold)]
    number = np.float64 if decay.dtype == torch.float64 else np.float32
    numbers = number(dampening), number(sharpness)
    threads.split(lambda low, high: kernel(*arrays, *numbers, 0, steps, low, high), lanes, steps * lanes)
    return on_x, on_initial, on_decay, on_threshold


def type_of(x: Tensor) -> str:
    """The name of the type of a sequence: "float32"."""
    return str(x.dtype).removeprefix("torch.")


def array(tensor: Tensor) -> np.ndarray:
    """The tensor's memory; a bfloat16 number is the upper half of a float32, as which kernels read it."""
    if tensor.requires_grad or tensor.is_neg():  # to ask takes less time than to do
        tensor = tensor.detach().resolve_neg()  # an imaginary part may be marked as "to be negated" instead of being so
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def kernel_types(type_of_x: str) -> tuple[types.Type, types.Type, Any]:
    """The kernel's types: of sequences in memory, of states, and the states' in NumPy."""
    state = types.float64 if type_of_x == "float64" else types.float32
    sequence = types.uint16 if type_of_x == "bfloat16" else state
    return sequence, state, np.float64 if state is types.float64 else np.float32


# What is compiled takes no run-time check of annotations around it: hence `no_type_check`.
@cache
@no_type_check
def forward_kernel(reset: str, states: int, type_of_x: str, *, fire: bool, save: bool) -> Callable[..., None]:
    """The compiled kernel; with `fire` it writes spikes (and resets), with `save` the membrane potential before the reset."""
    sequence, state, number = kernel_types(type_of_x)
    half, synapse = type_of_x == "bfloat16", states == 2
    zero, one = number(0), number(1)
    spike_in_memory, silence_in_memory = (np.uint16(0x3F80), np.uint16(0)) if half else (one, zero)
    rows = [sequence[:, ::1], state[:, ::1], state[::1], state[:, ::1], sequence[:, ::1], state[:, ::1], state[:, ::1]]

    def lif_forward(x, decay, threshold, initial, spikes, last, membrane, low, high):
        lane = np.empty((5, _WIDTH + APART), number)
        for first in range(low, high, _WIDTH):
            end = min(first + _WIDTH, high)
            width = end - first
            # Of a slice the compiler knows that no index is negative, and only then it makes vectors of a loop.
            initials, decays, thresholds = initial[:, first:end], decay[:, first:end], threshold[first:end]
            for j in range(width):
                lane[_MEMBRANE, j] = initials[0, j]
                lane[_DECAY, j] = decays[0, j]
                if fire:
                    lane[_THRESHOLD, j] = thresholds[j]
                if synapse:
                    lane[_CURRENT, j] = initials[1, j]
                    lane[_SYNAPSE_DECAY, j] = decays[1, j]
            for t in range(len(x)):
                row_x = x[t, first:end]
                if fire:
                    row_spikes = spikes[t, first:end]
                if save:
                    row_membrane = membrane[t, first:end]
                for j in range(width):
                    current = from_bfloat16(row_x[j]) if half else row_x[j]
                    if synapse:
                        current = lane[_SYNAPSE_DECAY, j] * lane[_CURRENT, j] + current
                        lane[_CURRENT, j] = current
                    v = lane[_DECAY, j] * lane[_MEMBRANE, j] + current
                    if save:
                        row_membrane[j] = v
                    if fire:
                        fires = v - lane[_THRESHOLD, j] >= zero
                        spike = one if fires else zero
                        row_spikes[j] = spike_in_memory if fires else silence_in_memory
                        if reset == "subtract":
                            v = v - lane[_THRESHOLD, j] * spike
                        elif reset == "zero":
                            v = v * (one - spike)
                    lane[_MEMBRANE, j] = v
            lasts = last[:, first:end]
            for j in range(width):
                lasts[0, j] = lane[_MEMBRANE, j]
                if synapse:
                    lasts[1, j] = lane[_CURRENT, j]

    variant = f"lif_forward_{reset}_{states}_{type_of_x}_{fire:d}{save:d}"
    return compiled(lif_forward, types.void(*rows, types.intp, types.intp), variant)


@cache
@no_type_check
def backward_kernel(
    reset: str, states: int, type_of_x: str, shape: str, *, reset_gradient: str, learn: bool
) -> Callable[..., None]:
    """The compiled adjoint; of a neuron that does not fire it is that with the shape "none", which receives the gradient of
    the membrane potential in place of that of the spikes. It goes through the steps `range(start, stop)` and adds to the
    gradients of decay and threshold. (Of the synaptic current's decay only in one go, from the first step on.)"""
    sequence, state, number = kernel_types(type_of_x)
    half, double, synapse, fire = type_of_x == "bfloat16", type_of_x == "float64", states == 2, shape != "none"
    seen = reset_gradient != "ignored"
    stops_at_spikes, subtracts_threshold = seen and reset == "zero", seen and reset == "subtract"
    zero, one = number(0), number(1)
    inputs = [sequence[:, ::1], state[:, ::1], state[:, ::1], state[:, ::1], state[:, ::1], state[::1], state[:, ::1]]
    outputs = [sequence[:, ::1], state[:, ::1], state[:, ::1], state[::1]]
    numbers = [state, state, types.intp, types.intp, types.intp, types.intp]

    def lif_backward(
        on_spikes, on_last, membrane, slope, decay, threshold, initial,
        on_x, on_initial, on_decay, on_threshold, dampening, sharpness, start, stop, low, high,
    ):  # fmt: skip
        # Here _MEMBRANE and _CURRENT are the gradients of these states after the step at hand.
        lane = np.empty((10, _WIDTH + APART), number)
        for first in range(low, high, _WIDTH):
            end = min(first + _WIDTH, high)
            width = end - first
            on_lasts, initials = on_last[:, first:end], initial[:, first:end]
            decays, thresholds = decay[:, first:end], threshold[first:end]
            for j in range(width):
                lane[_MEMBRANE, j] = on_lasts[0, j]
                lane[_DECAY, j] = decays[0, j]
                if fire:
                    lane[_THRESHOLD, j] = thresholds[j]
                if synapse:
                    lane[_CURRENT, j] = on_lasts[1, j]
                    lane[_SYNAPSE_DECAY, j] = decays[1, j]
                if learn:
                    lane[_ON_DECAY, j] = lane[_ON_THRESHOLD, j] = zero
                    lane[_ON_SYNAPSE_DECAY, j] = lane[_ON_NEXT_CURRENT, j] = zero
            for t in range(stop - 1, start - 1, -1):
                row_spikes, row_x = on_spikes[t, first:end], on_x[t, first:end]
                if fire or learn:
                    row_membrane = membrane[t, first:end]
                if shape == "given":
                    row_slope = slope[t, first:end]
                if learn:
                    # The membrane potential that the step started from: the one before it, reset.
                    if t == 0:
                        for j in range(width):
                            lane[_BEFORE, j] = initials[0, j]
                    else:
                        row_before = membrane[t - 1, first:end]
                        for j in range(width):
                            v = row_before[j]
                            if fire:
                                spike = one if v - lane[_THRESHOLD, j] >= zero else zero
                            if reset == "subtract":
                                v = v - lane[_THRESHOLD, j] * spike
                            elif reset == "zero":
                                v = v * (one - spike)
                            lane[_BEFORE, j] = v
                for j in range(width):
                    on_after = lane[_MEMBRANE, j]
                    on_spike = from_bfloat16(row_spikes[j]) if half else row_spikes[j]
                    if fire or learn:
                        v = row_membrane[j]
                    if fire:
                        u = v - lane[_THRESHOLD, j]
                        spike = one if u >= zero else zero
                        if reset_gradient == "attached":
                            if reset == "subtract":
                                on_spike = on_spike - lane[_THRESHOLD, j] * on_after
                            elif reset == "zero":
                                on_spike = on_spike - v * on_after
                    if shape == "given":
                        on_u = on_spike * row_slope[j]
                    elif fire:
                        on_u = on_spike * (dampening * bump(shape, double, sharpness * u))
                    else:
                        on_u = on_spike
                    on_v = (on_after * (one - spike) if stops_at_spikes else on_after) + on_u
                    on_current = on_v
                    if synapse:
                        on_current = on_v + lane[_CURRENT, j]
                        lane[_CURRENT, j] = lane[_SYNAPSE_DECAY, j] * on_current
                    lane[_MEMBRANE, j] = lane[_DECAY, j] * on_v
                    row_x[j] = to_bfloat16(on_current) if half else on_current
                    if learn:
                        lane[_ON_DECAY, j] += on_v * lane[_BEFORE, j]
                        if fire:
                            lane[_ON_THRESHOLD, j] -= on_u + spike * on_after if subtracts_threshold else on_u
                        if synapse:
                            current = v - lane[_DECAY, j] * lane[_BEFORE, j]
                            lane[_ON_SYNAPSE_DECAY, j] += lane[_ON_NEXT_CURRENT, j] * current
                            lane[_ON_NEXT_CURRENT, j] = on_current
            on_initials, on_decays, on_thresholds = (
                on_initial[:, first:end],
                on_decay[:, first:end],
                on_threshold[first:end],
            )
            for j in range(width):
                on_initials[0, j] = lane[_MEMBRANE, j]
                if synapse:
                    on_initials[1, j] = lane[_CURRENT, j]
                if learn:
                    on_decays[0, j] += lane[_ON_DECAY, j]
                    if fire:
                        on_thresholds[j] += lane[_ON_THRESHOLD, j]
                    if synapse:
                        on_step = lane[_ON_NEXT_CURRENT, j] * initials[1, j]
                        on_decays[1, j] += lane[_ON_SYNAPSE_DECAY, j] + on_step

    variant = f"lif_backward_{reset}_{states}_{type_of_x}_{shape}_{reset_gradient}_{learn:d}"
    return compiled(lif_backward, types.void(*inputs, *outputs, *numbers), variant)
