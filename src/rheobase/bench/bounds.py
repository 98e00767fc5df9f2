"""Lower bounds for any implementation of a task: its dense products, and the bytes that its neurons move.

A row of the table says little by itself. Compared with the products alone and the time in which the machine could have moved
the bytes, it shows how much there is left to gain, and whether from the neurons at all.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rheobase.bench import plain
from rheobase.bench.implementation import Dynamics, Implementation, Step
from rheobase.bench.workloads import Neurons, Readout, Task
from rheobase.ops import dense

# Bytes per neuron and step, in float32. Forward: read the input, write spikes and membrane potential. Backward: read the
# gradient of the spikes and the potential, write the gradient of the input.
NEURON_BYTES = 6 * 4
# A leaky integrator needs no potential for its gradient.
READOUT_BYTES = 4 * 4


def implementations(task: Task) -> list[Implementation]:
    """The products alone, if there are any."""
    nothing = Dynamics(other="no neurons")
    return [] if task.layer_alone else [Implementation("dense products only", products, nothing)]


def products(task: Task) -> Step:
    """The network without its neurons; for recurrent neurons their step-by-step products remain.

    They are made by the faster of the libraries that PyTorch brings along (`rheobase.ops.dense`).
    """

    def neurons(recurrent: Tensor | None) -> plain.Layer:
        if recurrent is None:
            return lambda x: x
        return lambda x: _Recurrence.apply(x, recurrent)

    return plain.build(task, neurons, readout=lambda x: x, linear=dense.linear)


class _Recurrence(torch.autograd.Function):
    """A product in every step of both passes, and one for the gradient of the weight over all steps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        for spikes in x:
            dense.product(spikes, weight.t())
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        for one in gradient:
            dense.product(one, weight)
        return gradient, dense.product(gradient.flatten(0, 1).t(), x.flatten(0, 1))


def bytes_moved(task: Task) -> int:
    """The bytes that the neurons of `task` must move in a training step in float32.

    Example:
        >>> from rheobase.bench.workloads import WORKLOADS
        >>> bytes_moved(WORKLOADS["W4"].make(False)) == 1000 * 32 * 512 * 24
        True
    """
    samples = task.x.shape[0] * task.x.shape[1]
    needed = {Neurons: NEURON_BYTES, Readout: READOUT_BYTES}
    return sum(
        samples * math.prod(features) * needed.get(type(stage), 0)
        for stage, features in zip(task.stages, task.features, strict=True)
    )


def copying(mebibytes: int = 256) -> tuple[Callable[[], None], int]:
    """A copy between two buffers that no cache holds, and the bytes that it reads and writes."""
    source = torch.ones(mebibytes * 2**18)
    target = torch.zeros_like(source)

    def copy() -> None:
        target.copy_(source)

    return copy, 2 * source.nbytes
