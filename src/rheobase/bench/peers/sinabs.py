"""Sinabs: layers over a whole sequence, batch first, which walk time in Python.

Source: Sinabs 3.1.3, `layers.LIF` and `layers.LIFRecurrent`. They index `x[:, t]`, whose backward pass allocates a tensor
as large as the sequence for every step: at long T a training step takes minutes.
"""

import math

import torch
from torch import Tensor, nn

from rheobase.bench import plain
from rheobase.bench.implementation import Dynamics, Implementation, Step
from rheobase.bench.plain import Layer
from rheobase.bench.workloads import DECAY, THRESHOLD, Task


def implementations(task: Task) -> list[Implementation]:
    """Linear layers on all steps at once, then the layer."""
    long = "quadratic in T: minutes a step" if task.steps >= 1000 else ""
    return [Implementation("Sinabs", build, Dynamics(reset_gradient="attached"), skip=long)]


def build(task: Task) -> Step:
    """All steps of a linear layer at once, then the layer."""
    from sinabs.activation import MembraneSubtract, SingleSpike  # pyright: ignore[reportMissingImports]
    from sinabs.layers import LIF, LIFRecurrent  # pyright: ignore[reportMissingImports]

    settings = {
        "tau_mem": -1 / math.log(DECAY),
        "spike_threshold": torch.tensor(THRESHOLD),
        "spike_fn": SingleSpike,
        "reset_fn": MembraneSubtract(),
        "surrogate_grad_fn": lambda v, threshold: (1 + (v - threshold).abs()).square().reciprocal(),
        "norm_input": False,
    }

    def neurons(recurrent: Tensor | None) -> Layer:
        if recurrent is None:
            layer = LIF(**settings)
        else:
            connection = nn.Linear(*recurrent.shape, bias=False)
            connection.weight = recurrent
            layer = LIFRecurrent(rec_connect=connection, **settings)

        def apply(x: Tensor) -> Tensor:
            layer.reset_states()  # it keeps its state between calls
            return layer(x.transpose(0, 1)).transpose(0, 1)

        return apply

    return plain.build(task, neurons)
