"""Neurons that fire once, on the CPU: one pass over memory forwards, one backwards, and no farther than needed.

As in `rheobase.ops.lif.cpu`, time is the loop outside and a block of lanes the loop inside, plain arithmetic that becomes
vector instructions. What a neuron has done is two numbers for each lane, the steps of its first and second crossing of the
threshold, and what the latch does with spikes and gradients is comparisons of the step with these.

Where the state after the last step is of no interest, a block is finished once each of its lanes is over: from then on its
spikes are 0, and so are its gradients. Blocks are narrow then, since one lane that never fires keeps its whole block going.
"""

# What the branches of a kernel choose between is known when it is compiled, and the one not taken does not exist.
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false

from collections.abc import Callable
from functools import cache
from typing import no_type_check

import numpy as np
import torch
from numba import types
from torch import Tensor

from rheobase.ops import memory, threads
from rheobase.ops.bfloat16 import from_bfloat16, to_bfloat16
from rheobase.ops.compiler import compiled
from rheobase.ops.lif.cpu import array, kernel_types, type_of
from rheobase.ops.simd import APART
from rheobase.ops.single_spike.credit import Credit
from rheobase.ops.slope.cpu import bump

_WIDTH, _NARROW = 1024, 512
"""Lanes in a block; and in one that may finish early."""

_PATIENCE = 8
"""Steps after which it is asked again whether a block is finished."""

# Rows of a block's working memory, in one array: of many, the compiler gives up to prove that they do not overlap.
_MEMBRANE, _DECAY, _THRESHOLD, _FIRST, _SECOND = range(5)
_END, _ON_MEMBRANE, _ON_DECAY, _ON_THRESHOLD, _SUM, _SUM_OF_SUMS = range(5, 11)


def forward(
    x: Tensor,
    decay: Tensor,
    threshold: Tensor,
    initial: Tensor,
    credit: Credit,
    fire_by_end: bool,
    save: bool,
    whole: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The neurons' spikes, and what the backward pass needs.

    Args:
        x: the input current, `(T, M)`: float32, float64 or bfloat16.
        decay: what the membrane potential keeps per step, `(M,)`.
        threshold: `(M,)`.
        initial: membrane potential, fired and ramp before the first step, `(3, M)`; with `whole` `(0, 0)`, all 0.
        credit: the rule of the gradient.
        fire_by_end: whether the crossing of the last step is certain.
        save: whether a backward pass will follow.
        whole: whether the state after the last step is of no interest.

    Returns:
        The spikes `(T, M)` in the type of `x`; the state after the last step, `(3, M)`, or with `whole` `(0, 0)`; the membrane
        potential `(T, M)`, or `(0, 0)` without `save`, of a block that finishes early only to there; and the steps of the
        first and the second crossing, `(2, M)`: T if there is none, and the first -1 if it was before. The second is found
        only with `save` and the credit "product".
    """
    steps, lanes = x.shape
    spikes = memory.empty((steps, lanes), x.dtype)
    membrane = memory.empty((steps, lanes) if save else (0, 0), decay.dtype)
    last, crossings = torch.empty_like(initial), memory.empty((2, lanes), decay.dtype)
    early, twice = whole and not (save and credit == "ramp"), save and credit == "product"
    kernel = forward_kernel(type_of(x), save=save, early=early, twice=twice)
    arrays = [array(tensor) for tensor in (x, decay, threshold, initial, spikes, last, membrane, crossings)]
    width = _NARROW if early else _WIDTH
    threads.split(lambda low, high: kernel(*arrays, fire_by_end, width, low, high), lanes, steps * lanes)
    return spikes, last, membrane, crossings


def backward(
    on_spikes: Tensor,
    on_last: Tensor,
    membrane: Tensor,
    crossings: Tensor,
    slope: Tensor,
    decay: Tensor,
    threshold: Tensor,
    initial: Tensor,
    credit: Credit,
    fire_by_end: bool,
    shape: str,
    dampening: float,
    sharpness: float,
    learn: bool,
    whole: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of all that `forward` received.

    Args:
        on_spikes: the gradient of the spikes, `(T, M)`.
        on_last: the gradient of the state after the last step, `(3, M)`; with `whole` `(0, 0)`.
        membrane: what `forward` saved.
        crossings: likewise.
        slope: the surrogate derivative, `(T, M)`, if `shape` is "given"; else `(0, 0)`.
        decay: as in `forward`.
        threshold: as in `forward`.
        initial: as in `forward`.
        credit: as in `forward`.
        fire_by_end: as in `forward`.
        shape: the class name of a surrogate that the kernel knows, or "given".
        dampening: the surrogate's peak.
        sharpness: the inverse of the surrogate's width.
        learn: whether the gradients of decay and threshold are wanted.
        whole: as in `forward`.

    Returns:
        The gradients of `x` `(T, M)`, of `initial` in its shape, of `decay` `(M,)` and of `threshold` `(M,)`, the last two 0
        without `learn`.
    """
    steps, lanes = on_spikes.shape
    on_x = memory.empty((steps, lanes), on_spikes.dtype)
    on_initial = torch.empty_like(initial)
    on_decay, on_threshold = on_parameters = [memory.empty((lanes,), decay.dtype) for _ in range(2)]
    for each in on_parameters if not learn else ():
        each.zero_()
    kernel = backward_kernel(type_of(on_spikes), shape, credit, learn=learn)
    inputs = (on_spikes, on_last, membrane, crossings, slope, decay, threshold, initial)
    arrays = [array(tensor) for tensor in (*inputs, on_x, on_initial, on_decay, on_threshold)]
    number = np.float64 if decay.dtype == torch.float64 else np.float32
    width = _NARROW if whole and credit != "ramp" else _WIDTH
    rule = number(dampening), number(sharpness), fire_by_end, width
    threads.split(lambda low, high: kernel(*arrays, *rule, low, high), lanes, steps * lanes)
    return on_x, on_initial, on_decay, on_threshold


# What is compiled takes no run-time check of annotations around it: hence `no_type_check`.
@cache
@no_type_check
def forward_kernel(type_of_x: str, *, save: bool, early: bool, twice: bool) -> Callable[..., None]:
    """The compiled kernel; with `save` it writes the membrane potential, with `early` it stops when all is over, which is
    after the first crossing, or with `twice` after the second. Without an initial state, lanes start at rest."""
    sequence, state, number = kernel_types(type_of_x)
    half, over = type_of_x == "bfloat16", _SECOND if twice else _FIRST
    zero, one = number(0), number(1)
    spike_in_memory, silence_in_memory = (np.uint16(0x3F80), np.uint16(0)) if half else (one, zero)
    inputs = [sequence[:, ::1], state[::1], state[::1], state[:, ::1]]
    outputs = [sequence[:, ::1], state[:, ::1], state[:, ::1], state[:, ::1]]

    def single_spike_forward(
        x, decay, threshold, initial, spikes, last, membrane, crossings, fire_by_end, block, low, high
    ):  # fmt: skip
        steps, whole, never = len(x), len(initial) == 0, number(len(x))
        lane = np.empty((5, block + APART), number)
        for first in range(low, high, block):
            end = min(first + block, high)
            width = end - first
            # Of a slice the compiler knows that no index is negative, and only then it makes vectors of a loop.
            decays, thresholds, initials = decay[first:end], threshold[first:end], initial[:, first:end]
            for j in range(width):
                lane[_MEMBRANE, j] = zero
                lane[_DECAY, j], lane[_THRESHOLD, j] = decays[j], thresholds[j]
                lane[_FIRST, j] = lane[_SECOND, j] = never
            if not whole:
                for j in range(width):
                    lane[_MEMBRANE, j] = initials[0, j]
                    lane[_FIRST, j] = number(-1) if initials[1, j] > zero else never
            going = True
            for t in range(steps):
                row_spikes = spikes[t, first:end]
                if not going:
                    for j in range(width):
                        row_spikes[j] = silence_in_memory
                    continue
                row_x = x[t, first:end]
                if save:
                    row_membrane = membrane[t, first:end]
                now, forced = number(t), fire_by_end and t == steps - 1
                for j in range(width):
                    current = from_bfloat16(row_x[j]) if half else row_x[j]
                    v = lane[_DECAY, j] * lane[_MEMBRANE, j] + current
                    lane[_MEMBRANE, j] = v
                    if save:
                        row_membrane[j] = v
                    above = (v - lane[_THRESHOLD, j] >= zero) | forced
                    before = lane[_FIRST, j]
                    fires = above & (before > now)
                    lane[_FIRST, j] = now if fires else before
                    row_spikes[j] = spike_in_memory if fires else silence_in_memory
                    if twice:
                        second = lane[_SECOND, j]
                        lane[_SECOND, j] = now if above & (before < now) & (second > now) else second
                if early and t % _PATIENCE == _PATIENCE - 1:
                    waiting = 0
                    for j in range(width):
                        waiting += lane[over, j] > now
                    going = waiting > 0
            crosses, lasts = crossings[:, first:end], last[:, first:end]
            for j in range(width):
                crosses[0, j], crosses[1, j] = lane[_FIRST, j], lane[_SECOND, j]
            if not whole:
                for j in range(width):
                    lasts[0, j] = lane[_MEMBRANE, j]
                    lasts[1, j] = lasts[2, j] = one if lane[_FIRST, j] < never else zero

    numbers = types.boolean, types.intp, types.intp, types.intp
    variant = f"single_spike_forward_{type_of_x}_{save:d}{early:d}{twice:d}"
    return compiled(single_spike_forward, types.void(*inputs, *outputs, *numbers), variant)


@cache
@no_type_check
def backward_kernel(type_of_x: str, shape: str, credit: str, *, learn: bool) -> Callable[..., None]:
    """The compiled adjoint. Without an initial state, there is no gradient of the last one either, and lanes that are over
    have none at all."""
    sequence, state, number = kernel_types(type_of_x)
    half, double = type_of_x == "bfloat16", type_of_x == "float64"
    ramp, ends = credit in ("ramp", "early_ramp"), credit != "ramp"
    last_to_matter = 1 if credit == "product" else 0
    zero, one = number(0), number(1)
    silence = np.uint16(0) if half else zero
    inputs = [sequence[:, ::1], *[state[:, ::1]] * 4, state[::1], state[::1], state[:, ::1]]
    outputs = [sequence[:, ::1], state[:, ::1], state[::1], state[::1]]
    numbers = [state, state, types.boolean, types.intp, types.intp, types.intp]

    def single_spike_backward(
        on_spikes, on_last, membrane, crossings, slope, decay, threshold, initial,
        on_x, on_initial, on_decay, on_threshold, dampening, sharpness, fire_by_end, block, low, high,
    ):  # fmt: skip
        steps, whole = len(on_spikes), len(initial) == 0
        lane = np.empty((11, block + APART), number)
        for first in range(low, high, block):
            end = min(first + block, high)
            width = end - first
            crosses, on_lasts = crossings[:, first:end], on_last[:, first:end]
            decays, thresholds = decay[first:end], threshold[first:end]
            for j in range(width):
                lane[_FIRST, j], lane[_END, j] = crosses[0, j], crosses[last_to_matter, j]
                lane[_DECAY, j], lane[_THRESHOLD, j] = decays[j], thresholds[j]
                lane[_MEMBRANE, j] = lane[_ON_MEMBRANE, j] = lane[_ON_DECAY, j] = lane[_ON_THRESHOLD, j] = zero
                # What flows through the latch: the two sums, or the gradient of having been silent.
                lane[_SUM_OF_SUMS, j] = lane[_SUM, j] = zero
            stop = steps
            if whole and ends:
                over = 0  # lanes that are over before the last step
                for j in range(width):
                    over += lane[_END, j] < number(steps - 1)
                if over == width:
                    stop = 0
                    for j in range(width):
                        stop = max(stop, int(lane[_END, j]) + 1)
            if stop > 0:
                row_before = membrane[stop - 1, first:end]
                for j in range(width):
                    lane[_MEMBRANE, j] = row_before[j]
            if not whole:
                for j in range(width):
                    lane[_ON_MEMBRANE, j] = on_lasts[0, j]
                    if ramp and (not ends or lane[_FIRST, j] == number(steps)):
                        lane[_SUM_OF_SUMS, j] = on_lasts[1, j]
                        lane[_SUM, j] = on_lasts[2, j]
                    elif credit == "product":
                        lane[_SUM, j] = -on_lasts[1, j]
            for t in range(stop, steps):
                row_x = on_x[t, first:end]
                for j in range(width):
                    row_x[j] = silence
            for t in range(stop - 1, -1, -1):
                row_spikes, row_x = on_spikes[t, first:end], on_x[t, first:end]
                if shape == "given":
                    row_slope = slope[t, first:end]
                now, forced, at_rest = number(t), fire_by_end and t == steps - 1, whole and t == 0
                row_before = membrane[max(t - 1, 0), first:end] if t > 0 or whole else initial[0, first:end]
                for j in range(width):
                    delta = from_bfloat16(row_spikes[j]) if half else row_spikes[j]
                    before = zero if at_rest else row_before[j]
                    u = lane[_MEMBRANE, j] - lane[_THRESHOLD, j]
                    lane[_MEMBRANE, j] = before
                    matters = now <= lane[_END, j]
                    if ramp:
                        if ends:
                            delta = delta if now < lane[_FIRST, j] else zero
                        total = lane[_SUM, j] + delta
                        lane[_SUM, j] = total
                        on_above = lane[_SUM_OF_SUMS, j] + total
                        lane[_SUM_OF_SUMS, j] = on_above
                    elif credit == "product":
                        on_silent = lane[_SUM, j]
                        silent = one if now <= lane[_FIRST, j] else zero
                        above = one if (u >= zero) | forced else zero
                        on_above = delta * silent - on_silent * silent
                        lane[_SUM, j] = delta * above + on_silent * (one - above) if matters else on_silent
                    else:
                        on_above = delta
                    f = row_slope[j] if shape == "given" else dampening * bump(shape, double, sharpness * u)
                    on_u = on_above * f
                    if ends:
                        on_u = on_u if matters else zero
                    on_u = zero if forced else on_u
                    on_v = lane[_ON_MEMBRANE, j] + on_u
                    lane[_ON_MEMBRANE, j] = lane[_DECAY, j] * on_v
                    row_x[j] = to_bfloat16(on_v) if half else on_v
                    if learn:
                        on_step = on_v * before
                        if ends:  # what is over may have a membrane potential that is not finite
                            on_step = on_step if matters | (not whole) else zero
                        lane[_ON_DECAY, j] += on_step
                        lane[_ON_THRESHOLD, j] -= on_u
            if not whole:
                on_initials = on_initial[:, first:end]
                for j in range(width):
                    on_initials[0, j] = lane[_ON_MEMBRANE, j]
                    on_initials[1, j] = -lane[_SUM, j] if credit == "product" else lane[_SUM_OF_SUMS, j]
                    on_initials[2, j] = lane[_SUM, j] if ramp else zero
            if learn:
                on_decays, on_thresholds = on_decay[first:end], on_threshold[first:end]
                for j in range(width):
                    on_decays[j], on_thresholds[j] = lane[_ON_DECAY, j], lane[_ON_THRESHOLD, j]

    variant = f"single_spike_backward_{type_of_x}_{shape}_{credit}_{learn:d}"
    return compiled(single_spike_backward, types.void(*inputs, *outputs, *numbers), variant)
