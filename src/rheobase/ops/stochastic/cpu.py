"""Linear integration and stochastic firing on the CPU: one pass over memory forwards, one backwards.

As in `rheobase.ops.lif.cpu`, time is the loop outside and a block of lanes the loop inside, plain arithmetic that becomes
vector instructions. The noise of a step is computed there and then, in the cache, from the seed, the step and the lane: four
steps at a time, since that is what one call of the generator yields. Nothing of it is kept; of the samplers' gradients only
that of "gumbel" depends on the draws, and its backward pass computes them again.
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
from rheobase.ops.noise.cpu import logistic, philox
from rheobase.ops.simd import APART
from rheobase.ops.slope.cpu import exp_of_negative
from rheobase.ops.stochastic.firing import Firing

_WIDTH = 2048
"""Lanes in a block: its states and the noise of four steps stay in the first and second cache."""

# Rows of a block's working memory, in one array: of many, the compiler gives up to prove that they do not overlap.
_MEMBRANE, _CURRENT, _DECAY, _SYNAPSE_DECAY, _SLOPE, _OFFSET = range(6)
_ON_DECAY, _ON_SYNAPSE_DECAY, _ON_SLOPE, _ON_OFFSET, _ON_NEXT_CURRENT, _BEFORE = range(6, 12)


def forward(
    x: Tensor,
    decay: Tensor,
    slope: Tensor,
    offset: Tensor,
    initial: Tensor,
    noise: Tensor,
    firing: Firing,
    save: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The neurons' outputs, and what the backward pass needs.

    Args:
        x: the input current, `(T, M)`: float32, float64 or bfloat16.
        decay: what the states keep per step, `(2, M)`: the membrane potential and the synaptic current.
        slope: of the logit of firing, `(M,)`.
        offset: what is taken away from it, `(M,)`.
        initial: the states before the first step, `(2, M)`.
        noise: the seed and the number of the first step, `(2,)`, int64.
        firing: how a logit becomes an output.
        save: whether a backward pass will follow.

    Returns:
        The outputs `(T, M)` in the type of `x`, the states after the last step `(2, M)`, and the membrane potential `(T, M)`,
        or `(0, 0)` without `save`.
    """
    steps, lanes = x.shape
    outputs = memory.empty((steps, lanes), x.dtype)
    membrane = memory.empty((steps, lanes) if save else (0, 0), decay.dtype)
    last = torch.empty_like(initial)
    kernel = forward_kernel(type_of(x), _kind(firing), save=save)
    arrays = [array(tensor) for tensor in (x, decay, slope, offset, initial, noise, outputs, last, membrane)]
    threads.split(lambda low, high: kernel(*arrays, low, high), lanes, steps * lanes)
    return outputs, last, membrane


def backward(
    on_outputs: Tensor,
    on_last: Tensor,
    membrane: Tensor,
    decay: Tensor,
    slope: Tensor,
    offset: Tensor,
    initial: Tensor,
    noise: Tensor,
    firing: Firing,
    temperature: float,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of all that `forward` received.

    Args:
        on_outputs: the gradient of the outputs, `(T, M)`.
        on_last: the gradient of the states after the last step, `(2, M)`.
        membrane: what `forward` saved.
        decay: as in `forward`.
        slope: as in `forward`.
        offset: as in `forward`.
        initial: as in `forward`.
        noise: as in `forward`.
        firing: as in `forward`.
        temperature: how smooth the relaxation of "gumbel" is.
        learn: whether the gradients of decays, slope and offset are wanted.

    Returns:
        The gradients of `x` `(T, M)`, of `initial` and `decay` `(2, M)`, and of `slope` and `offset` `(M,)`, the last three 0
        without `learn`.
    """
    steps, lanes = on_outputs.shape
    on_x = memory.empty((steps, lanes), on_outputs.dtype)
    on_initial, on_decay = torch.empty_like(initial), torch.zeros_like(decay)
    on_slope, on_offset = torch.zeros_like(slope), torch.zeros_like(offset)
    kernel = backward_kernel(type_of(on_outputs), _relaxation(firing), learn=learn)
    inputs = (on_outputs, on_last, membrane, decay, slope, offset, initial, noise)
    arrays = [array(tensor) for tensor in (*inputs, on_x, on_initial, on_decay, on_slope, on_offset)]
    coldness = (np.float64 if decay.dtype == torch.float64 else np.float32)(1 / temperature)
    threads.split(lambda low, high: kernel(*arrays, coldness, low, high), lanes, steps * lanes)
    return on_x, on_initial, on_decay, on_slope, on_offset


def _kind(firing: Firing) -> str:
    """What the forward kernel distinguishes: both samplers draw the same spikes."""
    return "sampled" if firing in ("bernoulli", "gumbel") else firing


def _relaxation(firing: Firing) -> str:
    """What the backward kernel distinguishes: without noise, it is the probability that has a gradient."""
    return firing if firing in ("bernoulli", "gumbel") else "probability"


# What is compiled takes no run-time check of annotations around it: hence `no_type_check`.
@cache
@no_type_check
def forward_kernel(type_of_x: str, kind: str, *, save: bool) -> Callable[..., None]:
    """The compiled kernel; with `save` it writes the membrane potential."""
    sequence, state, number = kernel_types(type_of_x)
    half, double, sampled = type_of_x == "bfloat16", type_of_x == "float64", kind == "sampled"
    zero, one = number(0), number(1)
    spike_in_memory, silence_in_memory = (np.uint16(0x3F80), np.uint16(0)) if half else (one, zero)
    inputs = [sequence[:, ::1], state[:, ::1], state[::1], state[::1], state[:, ::1], types.int64[::1]]
    outputs = [sequence[:, ::1], state[:, ::1], state[:, ::1]]

    def stochastic_forward(x, decay, slope, offset, initial, noise, outputs, last, membrane, low, high):
        lane = np.empty((6, _WIDTH + APART), number)
        word = np.empty((4, _WIDTH + APART), np.uint32)
        seed, start = noise[0], noise[1]
        for first in range(low, high, _WIDTH):
            end = min(first + _WIDTH, high)
            width = end - first
            for j in range(width):
                lane[_MEMBRANE, j] = initial[0, first + j]
                lane[_CURRENT, j] = initial[1, first + j]
                lane[_DECAY, j] = decay[0, first + j]
                lane[_SYNAPSE_DECAY, j] = decay[1, first + j]
                lane[_SLOPE, j] = slope[first + j]
                lane[_OFFSET, j] = offset[first + j]
            for t in range(len(x)):
                row_x, row_outputs = x[t, first:end], outputs[t, first:end]
                if save:
                    row_membrane = membrane[t, first:end]
                if sampled:
                    if t == 0 or (start + t) % 4 == 0:
                        _draw(word, seed, (start + t) >> 2, first, width)
                    row_word = word[(start + t) & 3]
                for j in range(width):
                    current = from_bfloat16(row_x[j]) if half else row_x[j]
                    current = lane[_SYNAPSE_DECAY, j] * lane[_CURRENT, j] + current
                    lane[_CURRENT, j] = current
                    v = lane[_DECAY, j] * lane[_MEMBRANE, j] + current
                    lane[_MEMBRANE, j] = v
                    if save:
                        row_membrane[j] = v
                    logit = lane[_SLOPE, j] * v - lane[_OFFSET, j]
                    if kind == "expected":
                        small = _exp_of_minus_magnitude(logit, double)
                        p = (one if logit >= zero else small) / (one + small)
                        row_outputs[j] = to_bfloat16(p) if half else p
                    else:
                        if sampled:
                            logit = logit + number(logistic(row_word[j]))
                        row_outputs[j] = spike_in_memory if logit >= zero else silence_in_memory
            for j in range(width):
                last[0, first + j] = lane[_MEMBRANE, j]
                last[1, first + j] = lane[_CURRENT, j]

    variant = f"stochastic_forward_{type_of_x}_{kind}_{save:d}"
    return compiled(stochastic_forward, types.void(*inputs, *outputs, types.intp, types.intp), variant)


@cache
@no_type_check
def backward_kernel(type_of_x: str, relaxation: str, *, learn: bool) -> Callable[..., None]:
    """The compiled adjoint."""
    sequence, state, number = kernel_types(type_of_x)
    half, double, replays = type_of_x == "bfloat16", type_of_x == "float64", relaxation == "gumbel"
    zero, one = number(0), number(1)
    inputs = [sequence[:, ::1], state[:, ::1], state[:, ::1], state[:, ::1], state[::1], state[::1], state[:, ::1]]
    outputs = [sequence[:, ::1], state[:, ::1], state[:, ::1], state[::1], state[::1]]

    def stochastic_backward(
        on_outputs, on_last, membrane, decay, slope, offset, initial, noise,
        on_x, on_initial, on_decay, on_slope, on_offset, coldness, low, high,
    ):  # fmt: skip
        # Here _MEMBRANE and _CURRENT are the gradients of these states after the step at hand.
        lane = np.empty((12, _WIDTH + APART), number)
        word = np.empty((4, _WIDTH + APART), np.uint32)
        seed, start, steps = noise[0], noise[1], len(on_outputs)
        for first in range(low, high, _WIDTH):
            end = min(first + _WIDTH, high)
            width = end - first
            for j in range(width):
                lane[_MEMBRANE, j] = on_last[0, first + j]
                lane[_CURRENT, j] = on_last[1, first + j]
                lane[_DECAY, j] = decay[0, first + j]
                lane[_SYNAPSE_DECAY, j] = decay[1, first + j]
                lane[_SLOPE, j] = slope[first + j]
                lane[_OFFSET, j] = offset[first + j]
                if learn:
                    lane[_ON_DECAY, j] = lane[_ON_SYNAPSE_DECAY, j] = lane[_ON_NEXT_CURRENT, j] = zero
                    lane[_ON_SLOPE, j] = lane[_ON_OFFSET, j] = zero
            for t in range(steps - 1, -1, -1):
                row_outputs, row_x, row_membrane = on_outputs[t, first:end], on_x[t, first:end], membrane[t, first:end]
                if replays:
                    if t == steps - 1 or (start + t) % 4 == 3:
                        _draw(word, seed, (start + t) >> 2, first, width)
                    row_word = word[(start + t) & 3]
                if learn:
                    # Copied, or the compiler would have to know which of two arrays the inner loop reads.
                    if t == 0:
                        for j in range(width):
                            lane[_BEFORE, j] = initial[0, first + j]
                    else:
                        row_before = membrane[t - 1, first:end]
                        for j in range(width):
                            lane[_BEFORE, j] = row_before[j]
                for j in range(width):
                    v = row_membrane[j]
                    logit = lane[_SLOPE, j] * v - lane[_OFFSET, j]
                    if replays:
                        logit = (logit + number(logistic(row_word[j]))) * coldness
                    # The sigmoid and its derivative, of a number that does not overflow.
                    small = _exp_of_minus_magnitude(logit, double)
                    share = one / (one + small)
                    derivative = small * share * share
                    if relaxation == "bernoulli":
                        derivative = derivative * ((one if logit >= zero else small) * share)
                    elif replays:
                        derivative = derivative * coldness
                    on_output = from_bfloat16(row_outputs[j]) if half else row_outputs[j]
                    on_logit = on_output * derivative
                    on_v = lane[_MEMBRANE, j] + lane[_SLOPE, j] * on_logit
                    lane[_MEMBRANE, j] = lane[_DECAY, j] * on_v
                    on_current = on_v + lane[_CURRENT, j]
                    lane[_CURRENT, j] = lane[_SYNAPSE_DECAY, j] * on_current
                    row_x[j] = to_bfloat16(on_current) if half else on_current
                    if learn:
                        lane[_ON_SLOPE, j] += on_logit * v
                        lane[_ON_OFFSET, j] -= on_logit
                        lane[_ON_DECAY, j] += on_v * lane[_BEFORE, j]
                        current = v - lane[_DECAY, j] * lane[_BEFORE, j]
                        lane[_ON_SYNAPSE_DECAY, j] += lane[_ON_NEXT_CURRENT, j] * current
                        lane[_ON_NEXT_CURRENT, j] = on_current
            for j in range(width):
                on_initial[0, first + j] = lane[_MEMBRANE, j]
                on_initial[1, first + j] = lane[_CURRENT, j]
                if learn:
                    on_slope[first + j] = lane[_ON_SLOPE, j]
                    on_offset[first + j] = lane[_ON_OFFSET, j]
                    on_decay[0, first + j] = lane[_ON_DECAY, j]
                    on_step = lane[_ON_NEXT_CURRENT, j] * initial[1, first + j]
                    on_decay[1, first + j] = lane[_ON_SYNAPSE_DECAY, j] + on_step

    numbers = state, types.intp, types.intp
    variant = f"stochastic_backward_{type_of_x}_{relaxation}_{learn:d}"
    return compiled(stochastic_backward, types.void(*inputs, types.int64[::1], *outputs, *numbers), variant)


@njit(nogil=True)
@no_type_check
def _draw(word, seed, group, first, width):
    """The random words of four steps for a block of lanes, one row a step."""
    low, high = np.uint32(seed & 0xFFFFFFFF), np.uint32((seed >> 32) & 0xFFFFFFFF)
    group = np.uint32(group & 0xFFFFFFFF)
    for j in range(width):
        word[0, j], word[1, j], word[2, j], word[3, j] = philox(group, np.uint32(first + j), low, high)


@njit(inline="always")
@no_type_check
def _exp_of_minus_magnitude(logit, double):
    return np.exp(-abs(logit)) if double else exp_of_negative(-abs(logit))
