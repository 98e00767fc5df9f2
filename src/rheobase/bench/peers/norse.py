"""Norse: a cell is called once per step, in a loop of the user's.

Source: Norse 1.1.0, `LIFBoxCell`. The loops that it offers itself index `x[t]`, which makes the backward pass quadratic in T;
the loop over its cell does not. It computes `v + dt / tau * (x - v)`, so that its input is divided by ten. Recurrent neurons
are the same cell: `LIFRecurrentCell` also has a synaptic current, and resets to zero. (Norse is under the LGPL; nothing of
Rheobase but this file imports it.)
"""

import torch
from torch import Tensor

from rheobase.bench import plain
from rheobase.bench.implementation import Dynamics, Implementation, Step
from rheobase.bench.plain import Layer
from rheobase.bench.workloads import DECAY, THRESHOLD, Task

GAIN = 1 / (1 - DECAY)


def implementations(task: Task) -> list[Implementation]:
    """Linear layers on all steps at once, then the loop over the cell."""
    return [Implementation("Norse", build, Dynamics(reset_gradient="attached", gain=GAIN), skip=plain.too_long(task))]


def build(task: Task) -> Step:
    """All steps of a linear layer at once, then the loop over the cell."""
    from norse.torch import LIFBoxCell  # pyright: ignore[reportMissingImports]
    from norse.torch.functional.lif_box import LIFBoxParameters  # pyright: ignore[reportMissingImports]
    from norse.torch.functional.reset import reset_subtract  # pyright: ignore[reportMissingImports]

    parameters = LIFBoxParameters(
        tau_mem_inv=torch.tensor(1 - DECAY),
        v_th=torch.tensor(THRESHOLD),
        method="super",
        reset_method=reset_subtract,
    )

    def neurons(recurrent: Tensor | None) -> Layer:
        cell = LIFBoxCell(parameters, dt=1.0)
        one_step = cell if recurrent is None else plain.with_recurrence(cell, recurrent)
        return lambda x: plain.over_time([one_step], x)

    return plain.build(task.with_currents_times(GAIN), neurons)
