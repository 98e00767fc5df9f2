"""Leaky integration on the CPU: the kernels of neurons that never fire."""

import numpy as np
import torch
from torch import Tensor

from rheobase.ops import memory, threads
from rheobase.ops.lif.cpu import array, backward_kernel, forward_kernel, type_of


def forward(x: Tensor, decay: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
    """The membrane potential at every step, `(T, M)`, and the states after the last, `(S, M)`.

    Args:
        x: the input current, `(T, M)`: float32 or float64.
        decay: what the states keep per step, `(S, M)`: the membrane potential, and if there are two the synaptic current.
        initial: the states before the first step, `(S, M)`.
    """
    steps, lanes = x.shape
    membrane, last = memory.empty((steps, lanes), x.dtype), torch.empty_like(initial)
    kernel = forward_kernel("none", len(decay), type_of(x), fire=False, save=True)
    threshold, spikes = x.new_empty(0), x.new_empty(0, 0)  # not used
    arrays = [array(tensor) for tensor in (x, decay, threshold, initial, spikes, last, membrane)]
    threads.split(lambda low, high: kernel(*arrays, low, high), lanes, steps * lanes)
    return membrane, last


def backward(
    on_membrane: Tensor, on_last: Tensor, membrane: Tensor, decay: Tensor, initial: Tensor, learn: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of `x` `(T, M)`, of `initial` `(S, M)` and of `decay` `(S, M)`, the last 0 without `learn`.

    Args:
        on_membrane: the gradient of the membrane potential at every step, `(T, M)`.
        on_last: the gradient of the states after the last step, `(S, M)`.
        membrane: the membrane potential; read only with `learn`.
        decay: as in `forward`.
        initial: as in `forward`.
        learn: whether the gradient of the decay is wanted.
    """
    steps, lanes = on_membrane.shape
    on_x = memory.empty((steps, lanes), on_membrane.dtype)
    on_initial, on_decay = torch.empty_like(initial), torch.zeros_like(decay)
    kernel = backward_kernel("none", len(decay), type_of(on_membrane), "none", reset_gradient="detached", learn=learn)
    threshold, slope = on_membrane.new_empty(0), on_membrane.new_empty(0, 0)  # not used
    inputs = (on_membrane, on_last, membrane, slope, decay, threshold, initial)
    arrays = [array(tensor) for tensor in (*inputs, on_x, on_initial, on_decay, threshold)]
    number = np.float64 if decay.dtype == torch.float64 else np.float32
    threads.split(lambda low, high: kernel(*arrays, number(1), number(1), 0, steps, low, high), lanes, steps * lanes)
    return on_x, on_initial, on_decay
