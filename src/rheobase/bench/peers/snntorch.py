"""snnTorch: a neuron is called once per step, in a loop of the user's.

Source: snnTorch 1.0.0, `snntorch.Leaky` and `snntorch.RLeaky`; the loop is that of its tutorials. The threshold is subtracted
one step later than ours, after the decay.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rheobase.bench import plain
from rheobase.bench.implementation import Dynamics, Implementation, Step
from rheobase.bench.plain import Layer, OneStep
from rheobase.bench.workloads import DECAY, Neurons, Readout, Stage, Task

LATE = Dynamics(late_reset=True)


def implementations(task: Task) -> list[Implementation]:
    """Linear layers ahead of the loop, the same with a compiled step, and everything in one loop as in the tutorials."""
    long = plain.too_long(task)
    compiles = long or ("compiles the step, not the loop" if task.steps == 10_000 else "")
    rows = [
        Implementation("snnTorch", build, LATE, skip=long),
        Implementation("snnTorch compiled", partial(build, compiled=True), LATE, skip=compiles, compiles=True),
    ]
    return rows if task.layer_alone else [*rows, Implementation("snnTorch in the loop", in_the_loop, LATE)]


def build(task: Task, *, compiled: bool = False) -> Step:
    """All steps of a linear layer at once, then the loop over the neuron."""

    def neurons(recurrent: Tensor | None) -> Layer:
        one_step = _neuron(recurrent, compiled)
        return lambda x: plain.over_time([one_step], x)

    step = plain.build(task, neurons)
    if compiled:
        step()  # compiles
    return step


def in_the_loop(task: Task) -> Step:
    """One loop over time around the whole network."""
    weights = plain.leaves(task)
    waiting = iter(weights)
    stages = [_one_step(stage, waiting) for stage in task.stages]
    return plain.training_step(task, lambda x: plain.over_time(stages, x), weights)


def _one_step(stage: Stage, weights: Iterator[Tensor]) -> OneStep:
    match stage:
        case Neurons(recurrent):
            return _neuron(None if recurrent is None else next(weights))
        case Readout():
            return _integrator()
        case _:
            layer = plain.timeless(stage, weights)
            return lambda x, _: (layer(x), None)


def _neuron(recurrent: Tensor | None, compiled: bool = False) -> OneStep:
    from snntorch import Leaky, RLeaky, surrogate  # pyright: ignore[reportMissingImports]

    spike_grad = surrogate.fast_sigmoid(slope=1)
    if recurrent is None:
        neuron = Leaky(DECAY, spike_grad=spike_grad)
    else:
        neuron = RLeaky(DECAY, linear_features=len(recurrent), spike_grad=spike_grad)
        neuron.recurrent = nn.Linear(*recurrent.shape, bias=False)
        neuron.recurrent.weight = recurrent
    call = torch.compile(neuron.forward, dynamic=False) if compiled else neuron

    def one_step(x: Tensor, state: Any) -> tuple[Tensor, Any]:
        if recurrent is None:  # state: the membrane potential
            return call(x, torch.zeros_like(x) if state is None else state)
        spikes, membrane = call(x, *(state or (torch.zeros_like(x), torch.zeros_like(x))))
        return spikes, (spikes, membrane)

    return one_step


def _integrator() -> OneStep:
    from snntorch import Leaky  # pyright: ignore[reportMissingImports]

    leaky = Leaky(DECAY, reset_mechanism="none")

    def one_step(x: Tensor, membrane: Any) -> tuple[Tensor, Any]:
        _, membrane = leaky(x, torch.zeros_like(x) if membrane is None else membrane)
        return membrane, membrane

    return one_step
