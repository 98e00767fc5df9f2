"""Recurrent leaky integrate-and-fire neurons on the CPU, driven by their spikes.

Forwards, few neurons fire at a step, so the product of the recurrent weights with the spikes is the sum of a few rows of
the transposed weights. The samples of a batch do not depend on one another: a thread takes some of them through all steps, in
one kernel, without a matrix product. It beats one up to a firing rate of about a half, whatever the size.

Backwards, every neuron has a gradient, so there is a dense product for each step, into memory that is there already; the
neurons between two products are the kernel of `rheobase.ops.lif`, one step of it. The gradient of the weights is one
sum at the end, over the spike lists of `rheobase.ops.linear`.
"""

# What the branches of a kernel choose between is known when it is compiled, and the one not taken does not exist.
# pyright: reportPossiblyUnboundVariable=false

from collections.abc import Callable
from functools import cache
from typing import no_type_check

import numpy as np
import torch
from numba import types
from torch import Tensor

from rheobase.ops import dense, memory, threads
from rheobase.ops.compiler import compiled
from rheobase.ops.lif.cpu import array, backward_kernel, type_of
from rheobase.ops.lif.reset import Reset
from rheobase.ops.linear import LIMIT
from rheobase.ops.linear.cpu import weight_gradient
from rheobase.ops.linear.lists import SpikeLists, build


def forward(
    x: Tensor, weight: Tensor, decay: Tensor, threshold: Tensor, initial: Tensor, sent: Tensor, reset: Reset, save: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The neurons' spikes, and what the backward pass needs.

    Args:
        x: the input current, `(T, B, N)`: float32 or float64.
        weight: the recurrent weights, `(N, N)`, from the second axis to the first.
        decay: what the membrane potential keeps per step, `(B * N,)`.
        threshold: `(B * N,)`.
        initial: the membrane potential before the first step, `(B, N)`.
        sent: the spikes before the first step, `(B, N)`.
        reset: what a spike does to the membrane potential.
        save: whether a backward pass will follow.

    Returns:
        The spikes `(T, B, N)`, the membrane potential after the last step `(B, N)`, and the membrane potential before the
        reset, `(T, B, N)`, or `(0, 0, 0)` without `save`.
    """
    steps, batch, neurons = x.shape
    spikes = memory.empty((steps, batch, neurons), x.dtype)
    membrane = memory.empty((steps, batch, neurons) if save else (0, 0, 0), x.dtype)
    last = torch.empty_like(initial)
    rows = weight.t().contiguous()  # of the sending neuron
    kernel = _forward_kernel(reset, type_of(x), save)
    arrays = [array(tensor) for tensor in (x, rows, decay.view(batch, neurons), threshold.view(batch, neurons))]
    arrays += [array(tensor) for tensor in (initial, sent, spikes, last, membrane)]
    threads.split(lambda low, high: kernel(*arrays, low, high), batch, steps * batch * neurons, align=1)
    return spikes, last, membrane


def backward(
    on_spikes: Tensor,
    on_last: Tensor,
    membrane: Tensor,
    fired: Tensor | SpikeLists,
    slope: Tensor,
    weight: Tensor,
    decay: Tensor,
    threshold: Tensor,
    initial: Tensor,
    sent: Tensor,
    reset: Reset,
    shape: str,
    dampening: float,
    sharpness: float,
    reset_gradient: str,
    detach_recurrent: bool,
    learn: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of all that `forward` received.

    Args:
        on_spikes: the gradient of the spikes, `(T, B, N)`.
        on_last: the gradient of the membrane potential after the last step, `(B, N)`.
        membrane: what `forward` saved.
        fired: the spikes that `forward` returned, `(T, B, N)`; or what `spike_lists` made of them.
        slope: the surrogate derivative, `(T, B * N)`, if `shape` is "given"; else `(0, 0)`.
        weight: as in `forward`.
        decay: as in `forward`.
        threshold: as in `forward`.
        initial: as in `forward`.
        sent: as in `forward`.
        reset: as in `forward`.
        shape: the class name of a surrogate that the kernel knows, or "given".
        dampening: the surrogate's peak.
        sharpness: the inverse of the surrogate's width.
        reset_gradient: what the gradient sees of the reset.
        detach_recurrent: keep the gradient from going back through the recurrent weights.
        learn: whether the gradients of decay and threshold are wanted.

    Returns:
        The gradients of `x`, `weight`, `decay`, `threshold`, `initial` and `sent`, in their shapes, those of `decay` and
        `threshold` 0 without `learn`.
    """
    steps, batch, neurons = on_spikes.shape
    lanes = batch * neurons
    on_x = memory.empty((steps, batch, neurons), on_spikes.dtype)
    on_membrane = on_last.reshape(1, lanes).clone()  # of the step at hand, in place
    on_decay, on_threshold = torch.zeros_like(decay).view(1, lanes), torch.zeros_like(threshold)
    # The gradient of a step's spikes: what came from outside, and what its successor sends back.
    on_fired = on_spikes if detach_recurrent else memory.empty((steps, batch, neurons), on_spikes.dtype)
    kernel = backward_kernel(reset, 1, type_of(on_spikes), shape, reset_gradient=reset_gradient, learn=learn)
    sequences = on_fired.view(steps, lanes), on_membrane, membrane.view(steps, lanes), slope
    inputs = (*sequences, decay.view(1, lanes), threshold)
    outputs = (initial.view(1, lanes), on_x.view(steps, lanes), on_membrane, on_decay, on_threshold)
    arrays = [array(tensor) for tensor in (*inputs, *outputs)]
    number = np.float64 if on_spikes.dtype == torch.float64 else np.float32
    numbers = number(dampening), number(sharpness)
    if detach_recurrent:
        threads.split(lambda low, high: kernel(*arrays, *numbers, 0, steps, low, high), lanes, steps * lanes)
    elif steps:
        from_outside, rows, on_rows = on_spikes.unbind(0), on_fired.unbind(0), on_x.unbind(0)
        rows[-1].copy_(from_outside[-1])
        for t in range(steps - 1, 0, -1):
            kernel(*arrays, *numbers, t, t + 1, 0, lanes)
            dense.add_product(from_outside[t - 1], on_rows[t], weight, out=rows[t - 1])
        kernel(*arrays, *numbers, 0, 1, 0, lanes)
    on_sent = torch.zeros_like(sent) if detach_recurrent or not steps else dense.product(on_x[0], weight)
    on_weight = dense.product(on_x[0].t(), sent) if steps else torch.zeros_like(weight)
    if steps > 1:
        on_weight += gradient_by_spikes(fired, on_x[1:].view((steps - 1) * batch, neurons))
    return on_x, on_weight, on_decay.view(lanes), on_threshold, on_membrane.view(batch, neurons), on_sent


def spike_lists(fired: Tensor, delay: int = 1) -> SpikeLists | None:
    """The spikes that are heard, all but those of the last steps, as the gradient of the weights needs them.

    Args:
        fired: the spikes, `(T, B, N)`.
        delay: after how many steps they are heard.

    Returns:
        Their lists; None if there are so many that a dense product is faster, or no step receives them.
    """
    steps, batch, neurons = fired.shape
    return build(fired[:-delay].view((steps - delay) * batch, neurons), LIMIT) if steps > delay else None


def gradient_by_spikes(fired: Tensor | SpikeLists, on_x: Tensor, delay: int = 1) -> Tensor:
    """The gradient of the weights, `(N, N)`.

    Args:
        fired: the spikes, `(T, B, N)`, or what `spike_lists` made of them.
        on_x: the gradient of the input of all steps that receive a spike, `((T - delay) * B, N)`.
        delay: after how many steps spikes are heard.
    """
    lists = spike_lists(fired, delay) if isinstance(fired, Tensor) else fired
    if lists is not None:
        return weight_gradient(lists, on_x)[0]
    assert isinstance(fired, Tensor)  # too many spikes for lists
    return dense.product(on_x.t(), fired[:-delay].view(on_x.shape))


@cache
@no_type_check
def _forward_kernel(reset: str, type_of_x: str, save: bool) -> Callable[..., None]:
    state, number = (types.float64, np.float64) if type_of_x == "float64" else (types.float32, np.float32)
    zero, one = number(0), number(1)
    sequence, step = state[:, :, ::1], state[:, ::1]
    signature = types.void(sequence, step, step, step, step, step, sequence, step, sequence, types.intp, types.intp)

    def recurrent_forward(x, rows, decay, threshold, initial, sent, spikes, last, membrane, low, high):
        neurons = len(rows)
        lane = np.empty((2, neurons), number)
        current, potential = lane[0], lane[1]
        firing, count = np.empty(neurons, np.int32), 0  # who fired at the step before, and how many
        for sample in range(low, high):
            decays, thresholds = decay[sample], threshold[sample]
            for j in range(neurons):
                potential[j] = initial[sample, j]
            for t in range(len(x)):
                row_x, row_spikes = x[t, sample], spikes[t, sample]
                for j in range(neurons):
                    current[j] = row_x[j]
                if t == 0:
                    for k in range(neurons):
                        if sent[sample, k] != zero:
                            row = rows[k]
                            for j in range(neurons):
                                current[j] += sent[sample, k] * row[j]
                else:
                    fours = count - count % 4
                    for k in range(0, fours, 4):  # four rows at a time: a quarter of the loads and stores of the sum
                        row_0, row_1, row_2, row_3 = (
                            rows[firing[k]], rows[firing[k + 1]], rows[firing[k + 2]], rows[firing[k + 3]]
                        )  # fmt: skip
                        for j in range(neurons):
                            current[j] += (row_0[j] + row_1[j]) + (row_2[j] + row_3[j])
                    for k in range(fours, count):
                        row = rows[firing[k]]
                        for j in range(neurons):
                            current[j] += row[j]
                if save:
                    row_membrane = membrane[t, sample]
                for j in range(neurons):
                    v = decays[j] * potential[j] + current[j]
                    spike = one if v - thresholds[j] >= zero else zero
                    if save:
                        row_membrane[j] = v
                    row_spikes[j] = spike
                    if reset == "subtract":
                        v = v - thresholds[j] * spike
                    elif reset == "zero":
                        v = v * (one - spike)
                    potential[j] = v
                count = 0
                for j in range(neurons):
                    firing[count] = j
                    count += row_spikes[j] != zero
            for j in range(neurons):
                last[sample, j] = potential[j]

    return compiled(recurrent_forward, signature, f"recurrent_forward_{reset}_{type_of_x}_{save:d}")
