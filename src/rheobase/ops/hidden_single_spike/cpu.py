"""A hidden layer of neurons that fire once, on the CPU, from spike lists to what reaches the next layer.

One sample after another and a block of neurons at a time: their currents are summed over the sample's spike list, in registers,
and go into the membrane potential of the same step, in the cache. What remains of a neuron are the steps of its first and its
second crossing of the threshold. Backwards the membrane potential of a sample is computed once more, which takes less time than
reading it from memory, and each step back in time asks the gradient of the few outputs what a spike would have been worth.

A block of neurons belongs to one thread, and so do the gradients of its weights. Where there are few blocks, samples are shared
out in parts, as many as the shapes say, which are added in order: no result depends on the number of threads.
"""

# What the branches of a kernel choose between is known when it is compiled, and the one not taken does not exist.
# pyright: reportPossiblyUnboundVariable=false, reportOperatorIssue=false

from collections.abc import Callable
from functools import cache, partial
from typing import no_type_check

import numpy as np
import torch
from numba import types
from torch import Tensor

from rheobase.ops import memory, threads
from rheobase.ops.compiler import compiled
from rheobase.ops.linear.cpu import add_listed, pack, unpack
from rheobase.ops.linear.lists import SpikeLists, array, arrays, type_of
from rheobase.ops.simd import add, add_scaled, load, multiply, scale, store
from rheobase.ops.single_spike.adjoint import step_back, worth
from rheobase.ops.single_spike.credit import Credit

_PATIENCE = 8
"""Steps after which it is asked again whether a block is finished."""

_PARTS = 4
"""How many threads have something to do in the backward pass, at least: blocks of neurons times parts of the samples."""

_SAMPLES = 16
"""Samples of a part, at least."""

# Rows of a block's working memory, in one array: of many, the compiler gives up to prove that they do not overlap.
_DECAY, _THRESHOLD, _FIRST = range(3)
_SECOND, _MEMBRANE = range(3, 5)
_END, _ON_MEMBRANE, _ON_DECAY, _ON_THRESHOLD, _ON_BIAS, _SUM, _SUM_OF_SUMS, _ON_STEPS = range(3, 11)

_TOGETHER = 2
"""Steps that go back in time together: what neurons remember in between stays in registers."""


def forward(
    lists: SpikeLists,
    steps: int,
    weight: Tensor,
    bias: Tensor | None,
    decay: Tensor,
    threshold: Tensor,
    weight_out: Tensor,
    bias_out: Tensor | None,
    fire_by_end: bool,
    twice: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What reaches the next layer, and what the backward pass needs.

    Args:
        lists: the spikes `(T * B, I)`.
        steps: T.
        weight: `(N, I)`, float32 or float64, as all that follow.
        bias: `(N,)`.
        decay: what the membrane potential keeps per step, `(N,)`.
        threshold: `(N,)`.
        weight_out: `(O, N)`.
        bias_out: `(O,)`.
        fire_by_end: whether the crossing of the last step is certain.
        twice: whether second crossings are wanted.

    Returns:
        `(T, B, O)`; the steps of the first and the second crossing of each neuron, `(2, blocks, B, width)`, T if there is
        none; and by blocks of neurons the weights, `(blocks, I + 1, width)`, the last row the bias, and all else that a
        neuron has, `(2 + O, blocks, width)`: decay, threshold, and the weights behind it. The lanes that fill up the last
        block count as having fired before.
    """
    blocks = pack(weight, bias)
    (count, _, width), batch, number = blocks.shape, (len(lists.start) - 1) // steps, type_of(weight)
    neurons, outputs = len(weight), len(weight_out)
    values = np.zeros((2 + outputs, count * width), array(weight).dtype)
    for row, value in ((0, decay), (1, threshold), (slice(2, None), weight_out)):
        values[row, :neurons] = array(value)
    values = torch.from_numpy(values.reshape(2 + outputs, count, width))
    crossings = memory.empty((2, count, batch, width), weight.dtype)
    kernel = forward_kernel(number, width, weighted=lists.value is not None, twice=twice)
    taken = arrays(lists.start, lists.index, lists.value, array(crossings).dtype)
    cross = partial(kernel, *taken, array(blocks), array(values), array(crossings), neurons, steps, fire_by_end)
    threads.split(cross, count * batch, count * batch * width * steps, align=1)
    y = memory.empty((steps, batch, outputs), weight.dtype)
    with_bias = array(weight.new_zeros(outputs) if bias_out is None else bias_out)
    hand_on = partial(_output_kernel(number), array(crossings), array(weight_out), with_bias, array(y))
    threads.split(hand_on, batch, batch * neurons * outputs, align=1)
    return y, crossings, blocks, values


def backward(
    lists: SpikeLists,
    on_y: Tensor,
    crossings: Tensor,
    blocks: Tensor,
    values: Tensor,
    neurons: int,
    credit: Credit,
    fire_by_end: bool,
    shape: str,
    dampening: float,
    sharpness: float,
) -> tuple[Tensor, ...]:
    """The gradients of weight, bias, decay, threshold and `weight_out`.

    Args:
        lists: as in `forward`.
        on_y: the gradient of what reached the next layer, `(T, B, O)`.
        crossings: what `forward` returned.
        blocks: likewise.
        values: likewise.
        neurons: N.
        credit: the rule of the gradient.
        fire_by_end: as in `forward`.
        shape: the name of the surrogate.
        dampening: of the surrogate.
        sharpness: of the surrogate.
    """
    (steps, batch, _), (count, _, width), number = on_y.shape, blocks.shape, type_of(on_y)
    parts = max(1, min(-(-_PARTS // count), batch // _SAMPLES))
    sums = memory.empty((parts, *blocks.shape), blocks.dtype)
    on_values = np.zeros((parts, *values.shape))
    earned = worth(on_y, dampening, credit)
    kernel = backward_kernel(number, width, shape, credit, weighted=lists.value is not None)
    taken = arrays(lists.start, lists.index, lists.value, array(sums).dtype)
    given = [array(tensor) for tensor in (blocks, values, crossings, on_y, earned, sums)]
    adjoint = partial(kernel, *taken, *given, on_values, neurons, sharpness, fire_by_end)
    threads.split(adjoint, parts * count, steps * batch * neurons, align=1)
    on_weight, on_bias = unpack(sums, neurons)
    found = on_values.sum(0).reshape(len(values), -1)[:, :neurons].astype(array(sums).dtype)
    on_decay, on_threshold, on_weight_out = (torch.from_numpy(part) for part in (found[0], found[1], found[2:]))
    return on_weight, on_bias, on_decay, on_threshold, on_weight_out


# What is compiled takes no run-time check of annotations around it: hence `no_type_check` on what makes kernels.
@cache
@no_type_check
def forward_kernel(number: str, width: int, *, weighted: bool, twice: bool) -> Callable[..., None]:
    """The compiled forward pass, over samples of blocks of neurons."""
    kind, real = getattr(types, number), np.dtype(number).type
    zero, over = real(0), _SECOND if twice else _FIRST

    def hidden_single_spike_forward(
        start, index, value, blocks, values, crossings, neurons, steps, fire_by_end, low, high
    ):
        batch = crossings.shape[2]
        weights, size, never = blocks.reshape(-1), blocks.shape[1] * width, real(steps)
        lane = np.empty((5, width), real)
        lanes = lane.reshape(-1)
        for item in range(low, high):
            block, b = item // batch, item % batch
            base = block * size
            for j in range(width):
                lane[_MEMBRANE, j] = zero
                lane[_DECAY, j], lane[_THRESHOLD, j] = values[0, block, j], values[1, block, j]
                lane[_FIRST, j] = lane[_SECOND, j] = never if block * width + j < neurons else real(-1)
            keeps = load(lanes, _DECAY * width, width)
            v = load(lanes, _MEMBRANE * width, width)
            for t in range(steps):
                r = t * batch + b
                total = load(weights, base + size - width, width)
                total = add_listed(total, weights, base, width, index, value, start[r], start[r + 1], width, weighted)
                v = add(multiply(keeps, v), total)
                store(lanes, _MEMBRANE * width, v)
                now, forced = real(t), fire_by_end and t == steps - 1
                for j in range(width):
                    above = (lane[_MEMBRANE, j] - lane[_THRESHOLD, j] >= zero) | forced
                    before = lane[_FIRST, j]
                    lane[_FIRST, j] = now if above & (before > now) else before
                    if twice:
                        second = lane[_SECOND, j]
                        lane[_SECOND, j] = now if above & (before < now) & (second > now) else second
                if t % _PATIENCE == _PATIENCE - 1:
                    waiting = 0
                    for j in range(width):
                        waiting += lane[over, j] > now
                    if waiting == 0:
                        break
            for j in range(width):
                crossings[0, block, b, j], crossings[1, block, b, j] = lane[_FIRST, j], lane[_SECOND, j]

    lists = types.int64[::1], types.uint32[::1], kind[::1]
    lanes = kind[:, :, ::1], kind[:, :, ::1], kind[:, :, :, ::1]
    signature = types.void(*lists, *lanes, types.intp, types.intp, types.boolean, types.intp, types.intp)
    variant = f"hidden_single_spike_forward_{number}_{width}_{weighted:d}{twice:d}"
    return compiled(hidden_single_spike_forward, signature, variant)


@cache
@no_type_check
def _output_kernel(number: str) -> Callable[..., None]:
    """What reaches the next layer: its bias, and the weights of the neurons that fire at a step."""
    kind = getattr(types, number)

    def hidden_single_spike_output(crossings, weight, bias, y, low, high):
        steps, batch, outputs = y.shape
        (_, neurons), width = weight.shape, crossings.shape[3]
        flat, row = y.reshape(-1), np.empty((high - low) * outputs, bias.dtype)
        for k in range(len(row)):
            row[k] = bias[k % outputs]
        for t in range(steps):
            at = (t * batch + low) * outputs
            for k in range(len(row)):
                flat[at + k] = row[k]
        for b in range(low, high):
            for block in range(crossings.shape[1]):
                firsts, first_neuron = crossings[0, block, b], block * width
                for j in range(min(width, neurons - first_neuron)):
                    first = int(firsts[j])
                    if first < steps:
                        at = (first * batch + b) * outputs
                        for k in range(outputs):
                            flat[at + k] += weight[k, first_neuron + j]

    signature = types.void(kind[:, :, :, ::1], kind[:, ::1], kind[::1], kind[:, :, ::1], types.intp, types.intp)
    return compiled(hidden_single_spike_output, signature, f"hidden_single_spike_output_{number}")


def sum_over_steps(on_y: Tensor) -> Tensor:
    """The sum of `(T, B, O)` over steps and samples, in float64 and in an order that knows of no threads."""
    total = np.zeros(on_y.shape[1:])
    _total_kernel(type_of(on_y))(array(on_y.flatten(1)), total.reshape(-1))
    return torch.from_numpy(total.sum(0)).to(on_y.dtype)


@cache
@no_type_check
def _total_kernel(number: str) -> Callable[..., None]:
    """The sums of columns."""

    def total_over_steps(given, total):
        for t in range(len(given)):
            row = given[t]
            for j in range(len(row)):
                total[j] += row[j]

    signature = types.void(getattr(types, number)[:, ::1], types.float64[::1])
    return compiled(total_over_steps, signature, f"total_over_steps_{number}")


@cache
@no_type_check
def backward_kernel(number: str, width: int, shape: str, credit: str, *, weighted: bool) -> Callable[..., None]:
    """The compiled adjoint, over parts of the samples of blocks of neurons."""
    kind, real, double = getattr(types, number), np.dtype(number).type, number == "float64"
    ends, last_to_matter = credit != "ramp", 1 if credit == "product" else 0
    zero = real(0)

    def hidden_single_spike_backward(
        start, index, value, blocks, values, crossings, on_y, earned, sums, on_values, neurons,
        sharpness, fire_by_end, low, high,
    ):  # fmt: skip
        steps, batch, outputs = on_y.shape
        count, size, parts = len(blocks), blocks.shape[1] * width, len(sums)
        weights, total_weights, given = blocks.reshape(-1), sums.reshape(-1), values.reshape(-1)
        earnings = earned.reshape(-1)
        end = steps - 1 if fire_by_end else -1
        lane = np.empty((_ON_STEPS + _TOGETHER, width), real)
        lanes = lane.reshape(-1)
        membranes = np.empty((steps + _TOGETHER) * width, real)
        nothing = np.zeros(width, real)
        for item in range(low, high):
            part, block = item // count, item % count
            base, at_sums = block * size, item * size
            for k in range(size):
                total_weights[at_sums + k] = zero
            for j in range(width):
                lane[_DECAY, j], lane[_THRESHOLD, j] = values[0, block, j], values[1, block, j]
            for b in range(batch * part // parts, batch * (part + 1) // parts):
                latest, end_of_all = real(-1), real(steps - 1)
                for j in range(width):
                    lane[_FIRST, j] = crossings[0, block, b, j]
                    # Steps that go back together may be one more than there are: it matters to no neuron, whatever its membrane
                    # potential, which has not been computed.
                    lane[_END, j] = min(crossings[last_to_matter, block, b, j], end_of_all) if ends else end_of_all
                    latest = max(latest, lane[_END, j])
                    lane[_ON_MEMBRANE, j] = lane[_ON_DECAY, j] = lane[_ON_THRESHOLD, j] = lane[_ON_BIAS, j] = zero
                    lane[_SUM, j] = lane[_SUM_OF_SUMS, j] = zero
                stop = int(latest) + 1
                # The membrane potential once more: row t + 1 is that of step t.
                keeps, v = load(lanes, _DECAY * width, width), load(nothing, 0, width)
                store(membranes, 0, v)
                for t in range(stop):
                    r = t * batch + b
                    total = load(weights, base + size - width, width)
                    total = add_listed(
                        total, weights, base, width, index, value, start[r], start[r + 1], width, weighted
                    )
                    v = add(multiply(keeps, v), total)
                    store(membranes, (t + 1) * width, v)
                for t in range((stop - 1) // _TOGETHER * _TOGETHER, -1, -_TOGETHER):
                    # A row holds what the spikes of a step are worth, and then the gradient of its currents. Both steps at
                    # once, so that the weights behind are read once; of a step that is not there, any number will do.
                    at = (t * batch + b) * outputs
                    next = at + batch * outputs if t + 1 < stop else at
                    worth_0 = worth_1 = load(nothing, 0, width)
                    for o in range(outputs):
                        row = load(given, ((2 + o) * count + block) * width, width)
                        worth_0 = add_scaled(worth_0, row, earnings[at + o])
                        worth_1 = add_scaled(worth_1, row, earnings[next + o])
                    store(lanes, _ON_STEPS * width, worth_0)
                    store(lanes, (_ON_STEPS + 1) * width, worth_1)
                    rows = membranes[t * width : (t + _TOGETHER + 1) * width]
                    for j in range(width):
                        neuron = lane[_DECAY, j], lane[_THRESHOLD, j], lane[_FIRST, j], lane[_END, j]
                        remembered = (
                            lane[_ON_MEMBRANE, j], lane[_ON_DECAY, j], lane[_ON_THRESHOLD, j], lane[_ON_BIAS, j],
                            lane[_SUM, j], lane[_SUM_OF_SUMS, j],
                        )  # fmt: skip
                        for k in range(_TOGETHER - 1, -1, -1):
                            before, v = rows[k * width + j], rows[(k + 1) * width + j]
                            lane[_ON_STEPS + k, j], remembered = step_back(
                                shape, credit, double, sharpness, lane[_ON_STEPS + k, j], v, before, real(t + k),
                                t + k < stop, t + k == end, neuron, remembered,
                            )  # fmt: skip
                        lane[_ON_MEMBRANE, j], lane[_ON_DECAY, j], lane[_ON_THRESHOLD, j] = remembered[:3]
                        lane[_ON_BIAS, j], lane[_SUM, j], lane[_SUM_OF_SUMS, j] = remembered[3:]
                    for k in range(min(_TOGETHER, stop - t)):
                        r = (t + k) * batch + b
                        for q in range(start[r], start[r + 1]):
                            at = at_sums + index[q] * width
                            term = load(lanes, (_ON_STEPS + k) * width, width)
                            if weighted:
                                term = scale(term, value[q])
                            store(total_weights, at, add(load(total_weights, at, width), term))
                for j in range(width):
                    total_weights[at_sums + size - width + j] += lane[_ON_BIAS, j]
                    on_values[part, 0, block, j] += lane[_ON_DECAY, j]
                    on_values[part, 1, block, j] += lane[_ON_THRESHOLD, j]
                for j in range(min(width, neurons - block * width)):
                    first = int(lane[_FIRST, j])
                    if first < steps:
                        for k in range(outputs):
                            on_values[part, 2 + k, block, j] += on_y[first, b, k]

    lists = types.int64[::1], types.uint32[::1], kind[::1]
    lanes = kind[:, :, ::1], kind[:, :, ::1], kind[:, :, :, ::1], kind[:, :, ::1], kind[:, :, ::1]
    found = kind[:, :, :, ::1], types.float64[:, :, :, ::1]
    rule = types.intp, kind, types.boolean, types.intp, types.intp
    variant = f"hidden_single_spike_backward_{number}_{width}_{shape}_{credit}_{weighted:d}"
    return compiled(hidden_single_spike_backward, types.void(*lists, *lanes, *found, *rule), variant)
